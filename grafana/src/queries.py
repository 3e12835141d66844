"""Every PromQL and TraceQL string of the dashboards. Names come from the signal registry.

Gateways show the same ledger, so its gauges are taken by `max`, never summed. What both a gateway
and an application measured counts once: sums take the gateway's points and those of applications that
went past it, percentiles the gateway's alone, as bucket bounds differ.
"""

from __future__ import annotations

from spanledger.errors import PROVIDER_ERROR_KINDS
from spanledger.telemetry import signals
from spanledger.telemetry.signals import Metric, Scraped, prometheus_name, prometheus_series

_SCRAPED = {scraped.name: scraped for scraped in signals.SCRAPED}
ZERO = " or vector(0)"
"""For figures that are nought while nothing happened."""

WINDOW = "[$__rate_interval]"
RANGE = "[$__range]"


def series(metric: Metric | Scraped, suffix: str = "") -> str:
    """A series of a metric, by the suffix of its name."""
    return next(name for name in prometheus_series(metric) if name.endswith(suffix))


def scraped(name: str, suffix: str = "") -> str:
    """A series of `/metrics`; a name that is not registered is an error."""
    return series(_SCRAPED[name], suffix)


COST = prometheus_name(signals.COST)
OVERRUN = prometheus_name(signals.OVERRUN)
UNPRICED = prometheus_name(signals.UNPRICED)
FALLBACKS = prometheus_name(signals.FALLBACKS)
RETRIES = prometheus_name(signals.RETRIES)
DECISIONS = prometheus_name(signals.BUDGET_DECISIONS)
DROPPED = prometheus_name(signals.DROPPED)
REQUESTS = prometheus_name(signals.REQUEST_DURATION)
REQUEST_COST = prometheus_name(signals.REQUEST_COST)
TRIES = prometheus_name(signals.OPERATION_DURATION)
FIRST_CHUNK = prometheus_name(signals.TIME_TO_FIRST_CHUNK)
PER_CHUNK = prometheus_name(signals.TIME_PER_OUTPUT_CHUNK)
TOKENS = prometheus_name(signals.TOKEN_USAGE)

LIMIT = scraped("spanledger_budget_limit_usd")
SPENT = scraped("spanledger_budget_spent_usd")
HELD = scraped("spanledger_budget_held_usd")
LEFT = scraped("spanledger_budget_remaining_usd")
STARTS = scraped("spanledger_budget_period_start_seconds")
ENDS = scraped("spanledger_budget_period_end_seconds")
EXHAUSTION = scraped("spanledger_budget_exhaustion_seconds")
LEFT_OUT = scraped("spanledger_budgets_left_out")
HOLDS = scraped("spanledger_holds_open")
OLDEST_HOLD = scraped("spanledger_oldest_hold_seconds")
OUTBOX = scraped("spanledger_outbox_rows")
OUTBOX_AGE = scraped("spanledger_outbox_age_seconds")
COMMITS = "spanledger_ledger_commit_seconds"
OPERATIONS = scraped("spanledger_ledger_operations_total")
LEDGER_UP = scraped("spanledger_ledger_up")
DEPLOYMENT_UP = scraped("spanledger_deployment_up")
COOLDOWN = scraped("spanledger_deployment_cooldown_seconds")
IN_FLIGHT = scraped("spanledger_requests_in_flight")
BUILD = scraped("spanledger_build_info")

CUSTOMER = "spanledger_customer"
MODEL = "gen_ai_request_model"
PROVIDER = "gen_ai_provider_name"
OUTCOME = "spanledger_outcome"
DECISION = "spanledger_budget_decision"
SCOPE = "spanledger_budget_scope"
DEPLOYMENT = "spanledger_deployment"
FROM, TO, REASON = (
    "spanledger_fallback_from",
    "spanledger_fallback_to",
    "spanledger_fallback_reason",
)
ACCOUNT = "budget, scope, subject"

ONCE = 'spanledger_source=~"gateway|application"'
GATEWAY = 'spanledger_source="gateway"'
APPLICATIONS = 'spanledger_source=~"application.*"'

OUR_KINDS = ("cooldown", "rate_limit_reached")
"""Errors of tries that were never made."""
CALLERS_KINDS = ("invalid_request", "content_filtered", "context_window_exceeded", "cancelled")
"""Errors that no other provider would have answered better."""
if unknown := {*OUR_KINDS, *CALLERS_KINDS} - {*PROVIDER_ERROR_KINDS, "cancelled"}:
    raise KeyError(unknown)
NOT_THEIR_FAULT = f'error_type!~"{"|".join((*OUR_KINDS, *CALLERS_KINDS))}"'


def rate(name: str, by: str = "", where: str = "") -> str:
    """How much a counter grows in a second."""
    return _summed("rate", name, by, where, WINDOW)


def increase(name: str, by: str = "", where: str = "", window: str = RANGE) -> str:
    """How much a counter grew."""
    return _summed("increase", name, by, where, window)


def _summed(function: str, name: str, by: str, where: str, window: str) -> str:
    grouped = f" by ({by})" if by else ""
    matchers = f"{{{where}}}" if where else ""
    return f"sum{grouped} ({function}({name}{matchers}{window}))"


def quantile(q: float, name: str, by: str = "", where: str = "") -> str:
    """A percentile of a histogram over the window of a point."""
    grouped = f"le, {by}" if by else "le"
    return f"histogram_quantile({q}, {rate(f'{name}_bucket', grouped, where)})"


def buckets(name: str, where: str = "") -> str:
    """A histogram's growth by bucket, for a heat map."""
    return increase(f"{name}_bucket", "le", where, WINDOW)


def mean(name: str, by: str = "", where: str = "") -> str:
    """A histogram's mean."""
    return f"{rate(f'{name}_sum', by, where)} / {rate(f'{name}_count', by, where)}"


def top(n: int, expr: str) -> str:
    """The greatest few."""
    return f"topk({n}, {expr})"


def account(name: str, where: str = "") -> str:
    """A gauge of budgets, once for each account."""
    matchers = f"{{{where}}}" if where else ""
    return f"max by ({ACCOUNT}) ({name}{matchers})"


def label_values(name: str, label: str, where: str = "") -> str:
    """What a variable offers."""
    matchers = f"{{{where}}}" if where else ""
    return f"label_values({name}{matchers}, {label})"


# Requests.
REQUEST_RATE = rate(f"{REQUESTS}_count")
REQUESTS_BY_OUTCOME = rate(f"{REQUESTS}_count", OUTCOME)
ANSWERED = (
    rate(f"{REQUESTS}_count", where=f'{OUTCOME}="ok"')
    + " / "
    + rate(f"{REQUESTS}_count", where=f'{OUTCOME}=~"ok|error"')
)
"""Of the requests that were to be served; those refused, cancelled or abandoned are no failures."""
ERRORS_BY_KIND = rate(
    f"{REQUESTS}_count", "error_type", f'error_type!="",{OUTCOME}=~"error|refused"'
)
REQUEST_QUANTILES = [(q, quantile(q, REQUESTS, where=f'{OUTCOME}="ok"')) for q in (0.5, 0.95, 0.99)]

# Money.
SPEND_AN_HOUR = f"3600 * {rate(COST)}"
SPEND_TODAY = increase(COST, window="[24h]")


def spend_an_hour(by: str, where: str = "") -> str:
    """Money at the rate of now, for an hour of it."""
    return f"3600 * {rate(COST, by, where)}"


# Budgets. A gauge says what the ledger has, in each budget's own period.
USED = f"{account(SPENT)} / ({account(LIMIT)} > 0)"
"""Share of the limit that is spent."""
COMMITTED = f"({account(SPENT)} + {account(HELD)}) / ({account(LIMIT)} > 0)"
NEAREST = f"topk(10, {COMMITTED})"
EXHAUSTED_AT = f"(time() + {account(EXHAUSTION)})"
ENDS_EARLY = f"1000 * ({EXHAUSTED_AT} < {account(ENDS)})"
"""When a budget is used up, milliseconds of Unix time; absent where it lasts until its period ends."""
SOON_STOPPED = f"count({EXHAUSTED_AT} < {account(ENDS)})"
REFUSALS = rate(DECISIONS, SCOPE, f'{DECISION}="deny"')
REFUSED_REQUESTS = increase(f"{REQUESTS}_count", where=f'{OUTCOME}="refused"')
UNCERTAIN_REQUESTS = increase(UNPRICED)

# Providers.
FALLBACK_RATE = rate(FALLBACKS, f"{FROM}, {TO}, {REASON}")
RETRY_RATE = rate(RETRIES, REASON)
DOWN = f"count(max by (deployment, route) ({DEPLOYMENT_UP}) == 0)"

# Annotations.
WHEN_REFUSED = increase(DECISIONS, SCOPE, f'{DECISION}="deny"', WINDOW) + " > 0"
WHEN_FALLBACK_STORM = f"{rate(FALLBACKS)} / {rate(f'{REQUESTS}_count')} > 0.2"
