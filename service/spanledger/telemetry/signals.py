"""The registry: every span, metric and attribute that leaves this program, and what it means.

Code that emits, `docs/telemetry.md`, and the names dashboards and rules may use are made from
this table or checked against it. Names are an interface: a change belongs in the CHANGELOG.
The forms are those of the OpenTelemetry GenAI conventions v1.41; names of our own begin with
`spanledger.`. Nothing here imports a telemetry library.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from spanledger.telemetry.vocabulary import AMBIGUITY, ATTRIBUTES, Attribute, Stability

__all__ = ["ATTRIBUTES", "METRICS", "SCRAPED", "SPANS", "Attribute", "Metric", "Scraped", "Span"]

SCOPE_NAME = "spanledger"
SCHEMA_URL = "https://opentelemetry.io/schemas/1.41.0"

OVERFLOW = "otel.metric.overflow"
"""Attribute of the one point that takes what is over a metric's cap."""
MAX_POINTS = 1_000
"""Points (sets of attribute values) a metric may have, the overflow's included, unless its row says
otherwise."""
OTHER_CUSTOMER = "other"
UNKNOWN_ROUTE = "unknown"
"""Label of requests for a route that is not in the config."""

DURATION_BUCKETS = tuple(round(0.01 * 2**k, 2) for k in range(14))
"""0.01 to 81.92 s, the conventions' advice."""
TOKEN_BUCKETS = tuple(float(4**k) for k in range(14))
"""1 to 67,108,864 tokens, the conventions' advice."""
COST_BUCKETS = (
    *(1e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3),
    *(0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0),
)
"""A millionth of a dollar to ten dollars."""


@dataclass(frozen=True, slots=True)
class Span:
    """A kind of span. `attributes` are all it may carry; an absent value has no attribute."""

    name: str
    kind: Literal["SERVER", "CLIENT"]
    meaning: str
    attributes: tuple[str, ...]
    stability: Stability = "stable"


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric sent by OTLP, built from the ledger's rows.

    `scale`: aggregates are integers; the exported value is the integer divided by it.
    `most`: points it may have, the overflow's included.
    """

    name: str
    kind: Literal["counter", "histogram"]
    unit: str
    meaning: str
    attributes: tuple[str, ...]
    buckets: tuple[float, ...] = ()
    scale: int = 1
    stability: Stability = "stable"
    most: int = MAX_POINTS


@dataclass(frozen=True, slots=True)
class Scraped:
    """A metric of `/metrics`, by its Prometheus name."""

    name: str
    kind: Literal["gauge", "counter", "histogram"]
    meaning: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    stability: Stability = "stable"


_REQUEST_PARAMETERS = (
    "gen_ai.request.max_tokens",
    "gen_ai.request.temperature",
    "gen_ai.request.top_p",
    "gen_ai.request.top_k",
    "gen_ai.request.frequency_penalty",
    "gen_ai.request.presence_penalty",
    "gen_ai.request.seed",
    "gen_ai.request.stop_sequences",
    "gen_ai.request.choice.count",
    "gen_ai.request.encoding_formats",
    "gen_ai.embeddings.dimension.count",
    "gen_ai.output.type",
    "openai.request.service_tier",
)
_WHO = (
    "spanledger.request.id",
    "spanledger.route",
    "spanledger.customer",
    "spanledger.team",
    "spanledger.key.id",
)

SPANS: tuple[Span, ...] = (
    Span(
        "{operation} {route}",
        "SERVER",
        "One request of a caller, all its attempts included. It has no `gen_ai.usage.*` and no"
        " `spanledger.cost.*`, so that sums over spans never count anything twice.",
        (
            "http.request.method",
            "http.route",
            "http.response.status_code",
            "error.type",
            *_WHO,
            "spanledger.outcome",
            "spanledger.attempts",
            "spanledger.request.cost.usd",
            "spanledger.request.cost.nano_usd",
            "spanledger.budget.decision",
            "spanledger.budget.refused_by",
            "spanledger.budget.scope",
        ),
    ),
    Span(
        "{operation} {model}",
        "CLIENT",
        "One attempt at a provider, successful or not. Child of the request's span.",
        (
            "gen_ai.operation.name",
            "gen_ai.provider.name",
            "gen_ai.request.model",
            "gen_ai.request.stream",
            *_REQUEST_PARAMETERS,
            "gen_ai.response.id",
            "gen_ai.response.model",
            "gen_ai.response.finish_reasons",
            "gen_ai.response.time_to_first_chunk",
            "gen_ai.usage.input_tokens",
            "gen_ai.usage.output_tokens",
            "gen_ai.usage.cache_read.input_tokens",
            "gen_ai.usage.cache_creation.input_tokens",
            "gen_ai.usage.reasoning.output_tokens",
            "spanledger.service_tier",
            "spanledger.usage.audio.input_tokens",
            "spanledger.usage.audio.output_tokens",
            "spanledger.usage.cache_creation_1h.input_tokens",
            "spanledger.usage.searches",
            AMBIGUITY,
            "server.address",
            "server.port",
            "http.response.status_code",
            "error.type",
            *_WHO,
            "spanledger.deployment",
            "spanledger.attempt.number",
            "spanledger.attempt.state",
            "spanledger.fallback.from",
            "spanledger.fallback.reason",
            "spanledger.cost.usd",
            "spanledger.cost.nano_usd",
            "spanledger.price.id",
            "spanledger.overrun.nano_usd",
            "spanledger.provider.cost.usd",
            "spanledger.provider.cost.nano_usd",
            "spanledger.estimated",
            "spanledger.unpriced",
            "spanledger.corrected",
            "spanledger.budget.decision",
            "spanledger.provider.request.id",
            "gen_ai.input.messages",
            "gen_ai.output.messages",
            "gen_ai.tool.definitions",
        ),
    ),
)

_CALL = ("gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model")
_MONEY = ("gen_ai.provider.name", "gen_ai.request.model", "spanledger.customer")
_SECONDS = 1_000_000_000
_USD = 1_000_000_000

OPERATION_DURATION = Metric(
    "gen_ai.client.operation.duration",
    "histogram",
    "s",
    "Attempts at providers, failures included.",
    (*_CALL, "spanledger.deployment", "error.type"),
    DURATION_BUCKETS,
    _SECONDS,
)
TIME_TO_FIRST_CHUNK = Metric(
    "gen_ai.client.operation.time_to_first_chunk",
    "histogram",
    "s",
    "From the start of a streamed attempt to its first content.",
    (*_CALL, "spanledger.deployment"),
    DURATION_BUCKETS,
    _SECONDS,
)
TIME_PER_OUTPUT_CHUNK = Metric(
    "gen_ai.client.operation.time_per_output_chunk",
    "histogram",
    "s",
    "Mean time between two chunks of a streamed attempt, after its first; one measurement an attempt.",
    (*_CALL, "spanledger.deployment"),
    DURATION_BUCKETS,
    _SECONDS,
)
TOKEN_USAGE = Metric(
    "gen_ai.client.token.usage",
    "histogram",
    "{token}",
    "Tokens of an attempt by `gen_ai.token.type`; input includes cached, output includes reasoning.",
    (*_CALL, "gen_ai.token.type"),
    TOKEN_BUCKETS,
)
REQUEST_DURATION = Metric(
    "spanledger.request.duration",
    "histogram",
    "s",
    "Requests of callers by how they ended, all attempts included.",
    ("spanledger.route", "spanledger.outcome", "error.type"),
    DURATION_BUCKETS,
    _SECONDS,
)
COST = Metric(
    "spanledger.cost.usd",
    "counter",
    "{USD}",
    "Money charged. Equal to the ledger's total to the nano-dollar, except that a correction"
    " downwards shows only once new cost has made up for it: a counter never falls.",
    _MONEY,
    scale=_USD,
    most=16_000,  # a hundred customers and `other`, at fifty models of three providers
)
REQUEST_COST = Metric(
    "spanledger.request.cost.usd",
    "histogram",
    "{USD}",
    "What a request cost, all attempts included; its exemplars lead to the dear ones.",
    ("spanledger.customer",),
    COST_BUCKETS,
    _USD,
)
FALLBACKS = Metric(
    "spanledger.fallbacks",
    "counter",
    "{fallback}",
    "Attempts at another route than the one before, or than was asked for; first attempts included, where"
    " that one was resting. A request served elsewhere has at least one.",
    ("spanledger.fallback.from", "spanledger.fallback.to", "spanledger.fallback.reason"),
)
RETRIES = Metric(
    "spanledger.retries",
    "counter",
    "{retry}",
    "Further attempts after a failure within a route, at the same or another deployment.",
    ("spanledger.deployment", "spanledger.fallback.reason"),
)
BUDGET_DECISIONS = Metric(
    "spanledger.budget.decisions",
    "counter",
    "{decision}",
    "Attempts a budget was asked for. Scope and name are those of the budget which refused; `allow` and"
    " `warn` have none, as all budgets of the attempt agree on them.",
    ("spanledger.budget.decision", "spanledger.budget.scope", "spanledger.budget.refused_by"),
)
UNPRICED = Metric(
    "spanledger.unpriced.requests",
    "counter",
    "{request}",
    "Attempts charged nothing because their model has no price, and requests refused for that"
    " (these have `error.type`).",
    ("spanledger.route", "gen_ai.provider.name", "gen_ai.request.model", "error.type"),
)
AMBIGUOUS_USAGE = Metric(
    "spanledger.usage.ambiguous",
    "counter",
    "{attempt}",
    "Attempts whose reported usage can be read in more than one way. They are charged the dearer"
    " way and marked as estimated.",
    ("gen_ai.provider.name", "gen_ai.request.model", AMBIGUITY),
)
OVERRUN = Metric(
    "spanledger.overrun.usd",
    "counter",
    "{USD}",
    "Money charged beyond what was held for the attempt.",
    _MONEY,
    scale=_USD,
    most=2_000,
)
PROVIDER_COST = Metric(
    "spanledger.provider.cost.usd",
    "counter",
    "{USD}",
    "Money that providers who say so charged, by their own word (OpenRouter's `usage.cost`); beside"
    " `spanledger.cost.usd` it shows where our prices differ from theirs.",
    _MONEY,
    scale=_USD,
    most=2_000,
)
DROPPED = Metric(
    "spanledger.telemetry.dropped",
    "counter",
    "{span}",
    "Spans the collector refused for good while it took others; their rows stay in the ledger.",
    ("spanledger.drop.reason",),
)

METRICS: tuple[Metric, ...] = (
    OPERATION_DURATION,
    TIME_TO_FIRST_CHUNK,
    TIME_PER_OUTPUT_CHUNK,
    TOKEN_USAGE,
    REQUEST_DURATION,
    COST,
    REQUEST_COST,
    FALLBACKS,
    RETRIES,
    BUDGET_DECISIONS,
    UNPRICED,
    AMBIGUOUS_USAGE,
    OVERRUN,
    PROVIDER_COST,
    DROPPED,
)

_BUDGET = ("budget", "scope", "subject")
OVERHEAD_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
COMMIT_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0)

SCRAPED: tuple[Scraped, ...] = (
    Scraped("spanledger_budget_limit_usd", "gauge", "Limit a period.", _BUDGET),
    Scraped("spanledger_budget_spent_usd", "gauge", "Spent in the current period.", _BUDGET),
    Scraped("spanledger_budget_held_usd", "gauge", "Held by attempts under way.", _BUDGET),
    Scraped("spanledger_budget_remaining_usd", "gauge", "Limit less spent less held.", _BUDGET),
    Scraped(
        "spanledger_budget_period_start_seconds", "gauge", "Unix time the period began.", _BUDGET
    ),
    Scraped("spanledger_budget_period_end_seconds", "gauge", "Unix time it renews.", _BUDGET),
    Scraped(
        "spanledger_budget_exhaustion_seconds",
        "gauge",
        "Seconds until the limit at the mean rate of the period so far; 0 = reached, absent ="
        " nothing spent yet.",
        _BUDGET,
    ),
    Scraped(
        "spanledger_budget_blocks",
        "gauge",
        "1 where the budget refuses at its limit, 0 where it only warns.",
        _BUDGET,
    ),
    Scraped(
        "spanledger_budget_threshold_ratio",
        "gauge",
        "Share of the limit at which the budget is announced, one series for each of its"
        " `thresholds`.",
        (*_BUDGET, "threshold"),
    ),
    Scraped("spanledger_budgets_shown", "gauge", "Accounts shown."),
    Scraped(
        "spanledger_budgets_left_out", "gauge", "Accounts further from their limit, not shown."
    ),
    Scraped("spanledger_holds_open", "gauge", "Attempts under way, ledger-wide."),
    Scraped("spanledger_oldest_hold_seconds", "gauge", "Age of the oldest of them; 0 = none."),
    Scraped(
        "spanledger_outbox_rows",
        "gauge",
        "Ended rows not yet taken by the collector; above a thousand nearly exact.",
    ),
    Scraped("spanledger_outbox_age_seconds", "gauge", "Age of the oldest of them; 0 = none."),
    Scraped(
        "spanledger_ledger_commit_seconds",
        "histogram",
        "Duration of this process's commits.",
        (),
        COMMIT_BUCKETS,
    ),
    Scraped(
        "spanledger_gateway_overhead_seconds",
        "histogram",
        "Of requests this process answered whole: their time less that of their attempts at"
        " providers. Commits and pauses before retries are in it.",
        (),
        OVERHEAD_BUCKETS,
    ),
    Scraped(
        "spanledger_ledger_operations_total",
        "counter",
        "Operations of requests in this process's commits; an idle gateway has none.",
    ),
    Scraped(
        "spanledger_ledger_up",
        "gauge",
        "1 when the figures above could be read, and this process's last commit succeeded.",
    ),
    Scraped(
        "spanledger_deployment_up",
        "gauge",
        "1 while a deployment is used, 0 while it cools down or lacks its key.",
        ("deployment", "route"),
    ),
    Scraped(
        "spanledger_deployment_cooldown_seconds",
        "gauge",
        "Seconds until a deployment is used again; 0 = in use.",
        ("deployment", "route"),
    ),
    Scraped(
        "spanledger_deployment_limit_used_ratio",
        "gauge",
        "Share of a deployment's rpm or tpm that this process used in the last minute; absent"
        " without such a limit.",
        ("deployment", "route", "limit"),
    ),
    Scraped("spanledger_requests_in_flight", "gauge", "Requests this process is serving."),
    Scraped("spanledger_build_info", "gauge", "Always 1.", ("version", "python")),
    Scraped(
        "spanledger_price_book_info", "gauge", "Always 1; the date of the prices used.", ("book",)
    ),
)

_UNIT_WORDS = {"s": "seconds", "ms": "milliseconds", "By": "bytes", "1": ""}


def label_name(attribute: str) -> str:
    """The Prometheus label of an attribute: `gen_ai_provider_name`."""
    return re.sub(r"[^a-zA-Z0-9_]", "_", attribute)


def prometheus_name(metric: Metric) -> str:
    """The family's name in Prometheus, by its OTLP rules `UnderscoreEscapingWithSuffixes`.

    Annotations in braces are no unit there; a unit the name ends with is not repeated; counters
    get `_total`. A histogram's series add `_bucket`, `_sum` and `_count` (`prometheus_series`).
    """
    words = [word for word in re.split(r"[^a-zA-Z0-9]+", metric.name) if word]
    unit = "" if metric.unit.startswith("{") else _UNIT_WORDS.get(metric.unit, metric.unit)
    if unit and unit not in words:
        words.append(unit)
    if metric.kind == "counter" and words[-1] != "total":
        words.append("total")
    return "_".join(words)


def series_a_point(metric: Metric | Scraped) -> int:
    """How many series in Prometheus one point is: a histogram has buckets, the last without a bound,
    a sum and a count."""
    return 1 if metric.kind != "histogram" else len(metric.buckets) + 3


def most_series(metric: Metric) -> int:
    """How many series a metric may have in Prometheus, whatever happens."""
    return metric.most * series_a_point(metric)


def prometheus_series(metric: Metric | Scraped) -> tuple[str, ...]:
    """Every series name a metric has in Prometheus."""
    name = metric.name if isinstance(metric, Scraped) else prometheus_name(metric)
    if metric.kind != "histogram":
        return (name,)
    return tuple(f"{name}_{suffix}" for suffix in ("bucket", "sum", "count"))
