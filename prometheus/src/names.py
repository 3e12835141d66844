"""The Prometheus names that rules may use: those of the signal registry, and a few foreign ones.

A name missing from the registry is an error at import, so a renamed signal stops the build.
"""

from __future__ import annotations

from spanledger.errors import (
    PROVIDER_ERROR_KINDS,
    BudgetExceededError,
    UnboundedCostError,
    UnpricedModelError,
)
from spanledger.telemetry import signals
from spanledger.telemetry.signals import METRICS, SCRAPED, Metric, label_name, prometheus_series

_SCRAPED = {scraped.name: scraped for scraped in SCRAPED}


def scraped(name: str, suffix: str = "") -> str:
    """A series on `/metrics`, by its registered name and a histogram's suffix."""
    series = f"{name}_{suffix}" if suffix else name
    if series not in prometheus_series(_SCRAPED[name]):
        raise KeyError(series)
    return series


def otlp(metric: Metric, suffix: str = "") -> str:
    """A series of a metric sent over OTLP."""
    names = prometheus_series(metric)
    return next(name for name in names if name.endswith(suffix or names[0]))


def label(attribute: str, *metrics: Metric) -> str:
    """The label of an attribute that all these metrics carry."""
    for metric in metrics:
        if attribute not in metric.attributes:
            raise KeyError(f"{metric.name} has no {attribute}")
    return label_name(attribute)


SPENT = scraped("spanledger_budget_spent_usd")
LIMIT = scraped("spanledger_budget_limit_usd")
PERIOD_START = scraped("spanledger_budget_period_start_seconds")
PERIOD_END = scraped("spanledger_budget_period_end_seconds")
EXHAUSTION = scraped("spanledger_budget_exhaustion_seconds")
BLOCKS = scraped("spanledger_budget_blocks")
THRESHOLD = scraped("spanledger_budget_threshold_ratio")
BUDGETS_SHOWN = scraped("spanledger_budgets_shown")
BUDGETS_LEFT_OUT = scraped("spanledger_budgets_left_out")
HOLDS = scraped("spanledger_holds_open")
OLDEST_HOLD = scraped("spanledger_oldest_hold_seconds")
OUTBOX_ROWS = scraped("spanledger_outbox_rows")
OUTBOX_AGE = scraped("spanledger_outbox_age_seconds")
COMMIT_BUCKET = scraped("spanledger_ledger_commit_seconds", "bucket")
COMMIT_COUNT = scraped("spanledger_ledger_commit_seconds", "count")
OPERATIONS = scraped("spanledger_ledger_operations_total")
LEDGER_UP = scraped("spanledger_ledger_up")
DEPLOYMENT_UP = scraped("spanledger_deployment_up")

COST = otlp(signals.COST)
OVERRUN = otlp(signals.OVERRUN)
LIST_COST = otlp(signals.LIST_COST)
CHARGE = otlp(signals.CHARGE)
UNPRICED = otlp(signals.UNPRICED)
FALLBACKS = otlp(signals.FALLBACKS)
DECISIONS = otlp(signals.BUDGET_DECISIONS)
DROPPED = otlp(signals.DROPPED)
REQUESTS = otlp(signals.REQUEST_DURATION, "_count")
ATTEMPTED = otlp(signals.REQUEST_COST, "_count")
"""Requests with at least one attempt."""
ATTEMPTS = otlp(signals.OPERATION_DURATION, "_count")
FIRST_TOKEN_BUCKET = otlp(signals.TIME_TO_FIRST_CHUNK, "_bucket")
FIRST_TOKEN_COUNT = otlp(signals.TIME_TO_FIRST_CHUNK, "_count")
TOKENS = otlp(signals.TOKEN_USAGE, "_count")

CUSTOMER = label("spanledger.customer", signals.COST, signals.OVERRUN)
MODEL = label("gen_ai.request.model", signals.COST, signals.UNPRICED, signals.TIME_TO_FIRST_CHUNK)
PROVIDER = label("gen_ai.provider.name", signals.OPERATION_DURATION, signals.UNPRICED)
ROUTE = label("spanledger.route", signals.REQUEST_DURATION, signals.UNPRICED)
ERROR = label("error.type", signals.OPERATION_DURATION, signals.REQUEST_DURATION)
OUTCOME = label("spanledger.outcome", signals.REQUEST_DURATION)
FALLBACK_FROM = label("spanledger.fallback.from", signals.FALLBACKS)
FALLBACK_REASON = label("spanledger.fallback.reason", signals.FALLBACKS)
DECISION = label("spanledger.budget.decision", signals.BUDGET_DECISIONS)
REFUSED_BY = label("spanledger.budget.refused_by", signals.BUDGET_DECISIONS)
DROP_REASON = label("spanledger.drop.reason", signals.DROPPED)

SOURCE = label_name("spanledger.source")
GATEWAYS_OWN = f'{SOURCE}=~"gateway|"'
"""Selects the gateway's points: applications count the same calls under the same name, in their own
buckets. A collector that is not ours sets no such label, which matches too."""

BUDGET = ("budget", "scope", "subject")

PROVIDER_FAULTS = (
    "rate_limited",
    "overloaded",
    "server_error",
    "timeout",
    "connection_error",
    "stream_interrupted",
    "malformed_response",
    "authentication_failed",
    "not_found",
)
"""Errors that count against a provider; callers' mistakes and attempts that were never sent do not."""
if unknown := set(PROVIDER_FAULTS) - set(PROVIDER_ERROR_KINDS):
    raise KeyError(unknown)

NOT_SENT = ("cooldown", "rate_limit_reached")
"""Errors of requests without an attempt, because no deployment of their routes had room."""
if unknown := set(NOT_SENT) - set(PROVIDER_ERROR_KINDS):
    raise KeyError(unknown)

_MONEY = tuple(
    error.error_type for error in (BudgetExceededError, UnpricedModelError, UnboundedCostError)
)
BY_DESIGN = ("context_window_exceeded", *_MONEY)
"""Reasons for a fallback that are not failures: long prompts with a route of their own, and budgets,
which have their own alerts."""
if unknown := set(BY_DESIGN) - {*PROVIDER_ERROR_KINDS, *_MONEY}:
    raise KeyError(unknown)

QUEUE_SIZE = "otelcol_exporter_queue_size"
QUEUE_CAPACITY = "otelcol_exporter_queue_capacity"
COLLECTOR_LOSSES = tuple(
    f"otelcol_{part}_{kind}"
    for part in ("exporter_enqueue_failed", "exporter_send_failed", "receiver_refused")
    for kind in ("spans", "metric_points")
)

FOREIGN: dict[str, str] = {
    "up": "Prometheus's own: whether a target answered",
    QUEUE_SIZE: "the collector's own, without `_total` and unit",
    QUEUE_CAPACITY: "the collector's own",
    **dict.fromkeys(COLLECTOR_LOSSES, "the collector's own; exists from its first loss on"),
}
"""Names that are not ours, with the reason why rules may use them."""


def own(series: str, more: str = "") -> str:
    """A selector of the gateways' points; `more` are further matchers."""
    matchers = [GATEWAYS_OWN] if series.startswith("gen_ai_") else []
    matchers += [more] if more else []
    return f"{series}{{{','.join(matchers)}}}" if matchers else series


def known_series() -> frozenset[str]:
    """Every series name a rule may use."""
    sent = {name for metric in METRICS for name in prometheus_series(metric)}
    shown = {name for metric in SCRAPED for name in prometheus_series(metric)}
    return frozenset(sent | shown | FOREIGN.keys())
