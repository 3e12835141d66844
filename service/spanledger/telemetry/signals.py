"""The registry: every span, metric and attribute this program exports, and what it means.

The code that emits, `docs/telemetry.md`, and the names that dashboards and rules may use are
generated from this table or checked against it. Names are an interface: record changes in the
CHANGELOG. Names follow the OpenTelemetry GenAI conventions v1.41 (`conventions.py` lists what
v0.1.0 of their own repository changed); our own begin with `spanledger.`. Nothing here imports a
telemetry library.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

from spanledger.telemetry.scraped import SCRAPED, Scraped
from spanledger.telemetry.vocabulary import (
    AMBIGUITY,
    ATTRIBUTES,
    REQUEST_PARAMETERS,
    WHO,
    Attribute,
    Stability,
)

__all__ = ["ATTRIBUTES", "METRICS", "SCRAPED", "SPANS", "Attribute", "Metric", "Scraped", "Span"]

SCOPE_NAME = "spanledger"
SCHEMA_URL = "https://opentelemetry.io/schemas/1.41.0"

OVERFLOW = "otel.metric.overflow"
"""Attribute of the single point that absorbs everything above a metric's cap."""
MAX_POINTS = 1_000
"""Most points (sets of attribute values) a metric may have, including the overflow point, unless its
row says otherwise."""
OTHER_CUSTOMER = "other"

DURATION_BUCKETS = tuple(round(0.01 * 2**k, 2) for k in range(14))
"""0.01 to 81.92 s, as the conventions recommend."""
TOKEN_BUCKETS = tuple(float(4**k) for k in range(14))
"""1 to 67,108,864 tokens, as the conventions recommend."""
COST_BUCKETS = (
    *(1e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3),
    *(0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0),
)
"""A millionth of a dollar to ten dollars."""


@dataclass(frozen=True, slots=True)
class Span:
    """A kind of span. `attributes` lists all it may carry; those without a value are left out."""

    name: str
    kind: Literal["SERVER", "CLIENT"]
    meaning: str
    attributes: tuple[str, ...]
    stability: Stability = "stable"


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric sent over OTLP, built from the ledger's rows.

    `scale`: aggregates are integers; the exported value is the integer divided by `scale`.
    `most`: the most points it may have, including the overflow point.
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


SPANS: tuple[Span, ...] = (
    Span(
        "{operation} {route}",
        "SERVER",
        "One request from a caller, including all its attempts. It has no `gen_ai.usage.*` and no"
        " `spanledger.cost.*`, so sums over spans never count anything twice.",
        (
            "http.request.method",
            "http.route",
            "url.path",
            "url.scheme",
            "http.response.status_code",
            "error.type",
            *WHO,
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
        "One call to a provider, successful or not. Child of the request's span.",
        (
            "gen_ai.operation.name",
            "gen_ai.provider.name",
            "gen_ai.request.model",
            "gen_ai.request.stream",
            "http.request.method",
            "url.template",
            *REQUEST_PARAMETERS,
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
            "spanledger.batch.requests",
            "spanledger.usage.audio.input_tokens",
            "spanledger.usage.audio.output_tokens",
            "spanledger.usage.cache_creation_1h.input_tokens",
            "spanledger.usage.unit",
            "spanledger.usage.units",
            "spanledger.usage.image.input_tokens",
            "spanledger.usage.image.output_tokens",
            "spanledger.usage.searches",
            AMBIGUITY,
            "server.address",
            "server.port",
            "http.response.status_code",
            "error.type",
            *WHO,
            "spanledger.deployment",
            "spanledger.attempt.number",
            "spanledger.attempt.state",
            "spanledger.fallback.from",
            "spanledger.fallback.reason",
            "spanledger.cost.usd",
            "spanledger.cost.nano_usd",
            "spanledger.price.id",
            "spanledger.list_cost.usd",
            "spanledger.list_cost.nano_usd",
            "spanledger.charge.usd",
            "spanledger.charge.nano_usd",
            "spanledger.charge.rule",
            "spanledger.overrun.nano_usd",
            "spanledger.provider.cost.usd",
            "spanledger.provider.cost.nano_usd",
            "spanledger.estimated",
            "spanledger.unpriced",
            "spanledger.corrected",
            "spanledger.budget.decision",
            "spanledger.budget.degraded_by",
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
    "Duration of attempts at providers, including failed ones.",
    (*_CALL, "spanledger.deployment", "error.type"),
    DURATION_BUCKETS,
    _SECONDS,
)
TIME_TO_FIRST_CHUNK = Metric(
    "gen_ai.client.operation.time_to_first_chunk",
    "histogram",
    "s",
    "From the start of a streamed attempt to the first content.",
    (*_CALL, "spanledger.deployment"),
    DURATION_BUCKETS,
    _SECONDS,
)
TIME_PER_OUTPUT_CHUNK = Metric(
    "gen_ai.client.operation.time_per_output_chunk",
    "histogram",
    "s",
    "Mean time between chunks of a streamed attempt, after the first; one measurement per attempt.",
    (*_CALL, "spanledger.deployment"),
    DURATION_BUCKETS,
    _SECONDS,
)
TOKEN_USAGE = Metric(
    "gen_ai.client.token.usage",
    "histogram",
    "{token}",
    "Tokens per attempt by `gen_ai.token.type`; input includes cached, output includes reasoning.",
    (*_CALL, "gen_ai.token.type"),
    TOKEN_BUCKETS,
)
REQUEST_DURATION = Metric(
    "spanledger.request.duration",
    "histogram",
    "s",
    "Duration of requests by outcome, including all attempts.",
    ("spanledger.route", "spanledger.outcome", "error.type"),
    DURATION_BUCKETS,
    _SECONDS,
)
COST = Metric(
    "spanledger.cost.usd",
    "counter",
    "{USD}",
    "Money charged. Matches the ledger's total to the nano-dollar, except that a downward"
    " correction shows only after new cost has offset it: a counter never falls.",
    _MONEY,
    scale=_USD,
    most=16_000,  # a hundred customers plus `other`, each with fifty models of three providers
)
LIST_COST = replace(
    COST,
    name="spanledger.list_cost.usd",
    meaning="What attempts would cost without contracts; counted while contracts are configured.",
)
CHARGE = replace(
    COST,
    name="spanledger.charge.usd",
    meaning="What customers are charged; counted while `pricing.charges` has rules.",
)
REQUEST_COST = Metric(
    "spanledger.request.cost.usd",
    "histogram",
    "{USD}",
    "Cost of a request, including all attempts; its exemplars lead to the expensive ones.",
    ("spanledger.customer",),
    COST_BUCKETS,
    _USD,
)
FALLBACKS = Metric(
    "spanledger.fallbacks",
    "counter",
    "{fallback}",
    "Attempts at another route than the previous attempt's, or than the requested one, including"
    " first attempts made elsewhere because the requested route could not be used. A request served"
    " by another route has at least one.",
    ("spanledger.fallback.from", "spanledger.fallback.to", "spanledger.fallback.reason"),
)
RETRIES = Metric(
    "spanledger.retries",
    "counter",
    "{retry}",
    "Further attempts after a failure within a route, on the same or another deployment.",
    ("spanledger.deployment", "spanledger.fallback.reason"),
)
BUDGET_DECISIONS = Metric(
    "spanledger.budget.decisions",
    "counter",
    "{decision}",
    "Budget decisions on attempts. Scope and name are those of the budget that refused (`deny`,"
    " `throttle`); the others have neither, because they are joint decisions of the attempt's budgets.",
    ("spanledger.budget.decision", "spanledger.budget.scope", "spanledger.budget.refused_by"),
)
UNPRICED = Metric(
    "spanledger.unpriced.requests",
    "counter",
    "{request}",
    "Attempts charged nothing because their model has no price, and requests refused for that"
    " reason (these have `error.type`).",
    ("spanledger.route", "gen_ai.provider.name", "gen_ai.request.model", "error.type"),
)
AMBIGUOUS_USAGE = Metric(
    "spanledger.usage.ambiguous",
    "counter",
    "{attempt}",
    "Attempts whose reported usage can be read in more than one way. They are charged at the most"
    " expensive reading and marked as estimated.",
    ("gen_ai.provider.name", "gen_ai.request.model", AMBIGUITY),
)
OVERRUN = Metric(
    "spanledger.overrun.usd",
    "counter",
    "{USD}",
    "Money charged beyond the attempt's hold.",
    _MONEY,
    scale=_USD,
    most=2_000,
)
HELD = replace(
    OVERRUN,
    name="spanledger.held.usd",
    meaning="Money that was held for attempts that were charged; `spanledger.cost.usd` is what they cost.",
    attributes=("gen_ai.provider.name", "gen_ai.request.model"),
)
PROVIDER_COST = replace(
    OVERRUN,
    name="spanledger.provider.cost.usd",
    meaning="Money charged according to the provider, for providers that report it (OpenRouter's"
    " `usage.cost`); compare with `spanledger.cost.usd` to see where our prices differ.",
)
DROPPED = Metric(
    "spanledger.telemetry.dropped",
    "counter",
    "{span}",
    "Spans the collector rejected while it accepted others; their rows stay in the ledger.",
    ("spanledger.drop.reason",),
)

METRICS: tuple[Metric, ...] = (
    OPERATION_DURATION,
    TIME_TO_FIRST_CHUNK,
    TIME_PER_OUTPUT_CHUNK,
    TOKEN_USAGE,
    REQUEST_DURATION,
    COST,
    LIST_COST,
    CHARGE,
    REQUEST_COST,
    FALLBACKS,
    RETRIES,
    BUDGET_DECISIONS,
    UNPRICED,
    AMBIGUOUS_USAGE,
    OVERRUN,
    HELD,
    PROVIDER_COST,
    DROPPED,
)

_UNIT_WORDS = {"s": "seconds", "ms": "milliseconds", "By": "bytes", "1": ""}


def label_name(attribute: str) -> str:
    """The Prometheus label for an attribute: `gen_ai_provider_name`."""
    return re.sub(r"[^a-zA-Z0-9_]", "_", attribute)


def prometheus_name(metric: Metric) -> str:
    """The family's name in Prometheus, by its OTLP rules `UnderscoreEscapingWithSuffixes`.

    Annotations in braces do not count as units; a unit the name already contains is not repeated;
    counters get `_total`. A histogram's series add `_bucket`, `_sum` and `_count`
    (`prometheus_series`).
    """
    words = [word for word in re.split(r"[^a-zA-Z0-9]+", metric.name) if word]
    unit = "" if metric.unit.startswith("{") else _UNIT_WORDS.get(metric.unit, metric.unit)
    if unit and unit not in words:
        words.append(unit)
    if metric.kind == "counter" and words[-1] != "total":
        words.append("total")
    return "_".join(words)


def series_a_point(metric: Metric | Scraped) -> int:
    """How many Prometheus series one point becomes: a histogram has its buckets, the unbounded one, a
    sum and a count."""
    return 1 if metric.kind != "histogram" else len(metric.buckets) + 3


def most_series(metric: Metric) -> int:
    """The most series a metric can ever have in Prometheus."""
    return metric.most * series_a_point(metric)


def prometheus_series(metric: Metric | Scraped) -> tuple[str, ...]:
    """Every series name a metric has in Prometheus."""
    name = metric.name if isinstance(metric, Scraped) else prometheus_name(metric)
    if metric.kind != "histogram":
        return (name,)
    return tuple(f"{name}_{suffix}" for suffix in ("bucket", "sum", "count"))
