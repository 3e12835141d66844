"""The recording rules: series that alerts and dashboards share, and windows too long for raw samples."""

from __future__ import annotations

from prometheus.src import names
from prometheus.src.model import (
    Group,
    Recording,
    duration,
    increase,
    latest,
    marked,
    number,
    renamed,
)
from prometheus.src.thresholds import DAY, HOUR, MINUTE, Thresholds

BY_BUDGET = ", ".join(names.BUDGET)

SPENT_NOW = "budget:spanledger_spent_usd:current"
USED = "budget:spanledger_used:ratio"
STEPS = "budget:spanledger_threshold:ratio"
ELAPSED = "budget:spanledger_elapsed:ratio"
REACHED = "budget:spanledger_reached:ratio"
REFUSALS = "budget:spanledger_refusals:increase5m"
SPEND_15M = "subject:spanledger_cost_usd:increase15m"
SPEND_1H = "subject:spanledger_cost_usd:increase1h"
BASELINE_1H = "subject:spanledger_cost_usd:baseline1h"
TRIES_RATE = "provider:spanledger_tries:rate5m"
FAILURES_RATE = "provider:spanledger_failures:rate5m"
ERROR_RATIO = "route:spanledger_errors:ratio_rate5m"
FALLBACK_RATIO = "route:spanledger_fallbacks:ratio_rate5m"
LATE = "telemetry:spanledger_outbox_age_seconds:max20m"
PRESENT = "signal:present:count"
FAILED_OVER = f'{names.FALLBACKS}{{{names.FALLBACK_REASON}!~"{"|".join(names.BY_DESIGN)}"}}'

ALWAYS = (
    names.LEDGER_UP,
    names.BUDGETS_SHOWN,
    names.BUDGETS_LEFT_OUT,
    names.HOLDS,
    names.OLDEST_HOLD,
    names.OUTBOX_ROWS,
    names.OUTBOX_AGE,
    names.COMMIT_BUCKET,
    names.COMMIT_COUNT,
    names.OPERATIONS,
    names.DEPLOYMENT_UP,
)
"""Every gateway exposes these from its start; the first even without a readable ledger."""
WITH_BUDGETS = (names.SPENT, names.LIMIT, names.PERIOD_START, names.PERIOD_END, names.BLOCKS)
"""Exposed for every account."""
WITH_SPEND = (names.EXHAUSTION,)
"""Exposed for every account with spend."""
WITH_TRAFFIC = (names.REQUESTS, names.ATTEMPTS)
"""Sent after the first request, or the first attempt."""
ONCE_SENT = (
    names.COST,
    names.OVERRUN,
    names.UNPRICED,
    names.FALLBACKS,
    names.DECISIONS,
    names.DROPPED,
    names.ATTEMPTED,
    names.FIRST_TOKEN_BUCKET,
    names.FIRST_TOKEN_COUNT,
)
"""Sent only after the event they count has occurred, and from then on."""
ONCE_SEEN = (names.THRESHOLD, names.QUEUE_SIZE, names.QUEUE_CAPACITY)
"""There only if a budget has thresholds, or if our collector is scraped."""
NEVER_MISSED: dict[str, str] = {
    "up": "it exists for every configured target; SignalAbsent has a rule of its own for 0",
    **dict.fromkeys(
        names.COLLECTOR_LOSSES, "it begins with a collector's first loss and ends with its restart"
    ),
}
"""Names that rules use although their absence means nothing, with the reason."""


def groups(t: Thresholds) -> list[Group]:
    """All groups of recording rules."""
    return [
        Group("spanledger.budgets", MINUTE, _budgets(t)),
        Group("spanledger.spend", MINUTE, _spend()),
        Group("spanledger.baselines", 5 * MINUTE, _baselines(t)),
        Group("spanledger.providers", MINUTE, _providers(t)),
        Group("spanledger.presence", MINUTE, _presence(t)),
    ]


def _budgets(t: Thresholds) -> list[Recording]:
    """One series per budget account and period, from the samples of many gateways.

    Gateways on one ledger report the same, except that around a renewal one may not have been scraped
    yet, so only samples of the newest period count.
    """
    start = latest(names.PERIOD_START)
    newest = f"max by ({BY_BUDGET}) ({start})"
    of_newest = f"({start} == on ({BY_BUDGET}) group_left () {newest})"
    period = f'count_values by ({BY_BUDGET}) ("period_start", {newest})'

    def dated(expr: str) -> str:
        return f"{expr} * on ({BY_BUDGET}) group_left (period_start) {period}"

    def current(series: str) -> str:
        return f"max by ({BY_BUDGET}) ({latest(series)} and {of_newest})"

    length = f"({current(names.PERIOD_END)} - {newest})"
    reached = f"(time() + {current(names.EXHAUSTION)} - {newest})"
    denied = increase(
        f'{names.DECISIONS}{{{names.DECISION}="deny"}}', t.refused_window_s, names.REFUSED_BY
    )
    return [
        Recording(SPENT_NOW, dated(current(names.SPENT))),
        Recording(USED, dated(f"({current(names.SPENT)} / ({current(names.LIMIT)} > 0))")),
        Recording(STEPS, dated(f"max by ({BY_BUDGET}, threshold) ({latest(names.THRESHOLD)})")),
        Recording(ELAPSED, dated(f"((time() - {newest}) / {length})")),
        Recording(REACHED, dated(f"({reached} / {length})")),
        Recording(REFUSALS, f"sum by (budget) ({renamed(denied, names.REFUSED_BY, 'budget')})"),
    ]


def _spend() -> list[Recording]:
    """Spend by customer and by model, labelled like budgets; zero for known customers without traffic.

    Plain `increase()` is enough, because the shipper begins each cost series at zero. An hour is the sum
    of four recorded quarters, so that each customer's raw samples are read for 15 minutes only.
    """
    rules = []
    for scope, label in (("customer", names.CUSTOMER), ("model", names.MODEL)):
        spent = renamed(f"sum by ({label}) (increase({names.COST}[15m]))", label, "subject")
        rules.append(Recording(SPEND_15M, f"sum by (subject) ({spent})", {"scope": scope}))
    rules.append(Recording(SPEND_1H, f"sum_over_time({SPEND_15M}[1h:15m])"))
    return rules


def _baselines(t: Thresholds) -> list[Recording]:
    """The cost of a customer's or model's busy hour: in the last week, or at this time of day or week.

    It samples recorded spend by the hour: a week is 168 samples per series. "At this time" includes the hour
    that began then as well as the one that ended, so daily traffic is not a spike in its first minutes.
    """
    week = f"quantile_over_time({t.spike_busy_quantile:g}, {SPEND_1H}[7d:1h] offset 1h)"
    parts = (
        ("week", week),
        ("day", f"max_over_time({SPEND_1H}[1h:15m] offset {duration(DAY - HOUR)})"),
        ("weekday", f"max_over_time({SPEND_1H}[1h:15m] offset {duration(7 * DAY - HOUR)})"),
    )
    union = " or ".join(marked(expr, "of", name) for name, expr in parts)
    return [Recording(BASELINE_1H, f"max by (scope, subject) ({union})")]


def _providers(t: Thresholds) -> list[Recording]:
    """Attempts and failures by provider, with burn rates over their recorded minutes; by route, the share
    of requests that no provider served and that fell back."""
    by = names.PROVIDER
    faults = names.own(names.ATTEMPTS, f'{names.ERROR}=~"{"|".join(names.PROVIDER_FAULTS)}"')
    attempts = f"sum by ({by}) (rate({names.own(names.ATTEMPTS)}[5m]))"
    moved = renamed(f"rate({FAILED_OVER}[5m])", names.FALLBACK_FROM, names.ROUTE)
    rules = [
        Recording(TRIES_RATE, attempts),
        Recording(FAILURES_RATE, f"sum by ({by}) (rate({faults}[5m])) or {attempts} * 0"),
    ]
    windows = {w for pair in t.burn_windows for w in (pair.long_s, pair.short_s)}
    rules += [Recording(failure_ratio(w), _ratio_over(w)) for w in sorted(windows)]
    requests = f"(sum by ({names.ROUTE}) (rate({names.REQUESTS}[5m])) > 0)"
    unserved = (
        f'{names.REQUESTS}{{{names.OUTCOME}="error"'
        f',{names.ERROR}=~"{"|".join((*names.PROVIDER_FAULTS, *names.NOT_SENT))}"}}'
    )
    rules += [
        Recording(ERROR_RATIO, f"sum by ({names.ROUTE}) (rate({unserved}[5m])) / {requests}"),
        # A route that others fall back to can send on more requests than it received.
        Recording(FALLBACK_RATIO, f"clamp_max(sum by ({names.ROUTE}) ({moved}) / {requests}, 1)"),
    ]
    return rules


def failure_ratio(window_s: int) -> str:
    """The recorded share of failures over a window."""
    return f"provider:spanledger_failures:ratio_rate{duration(window_s)}"


def _ratio_over(window_s: int) -> str:
    if window_s <= 5 * MINUTE:
        return f"{FAILURES_RATE} / ({TRIES_RATE} > 0)"
    w = duration(window_s)
    return f"sum_over_time({FAILURES_RATE}[{w}]) / (sum_over_time({TRIES_RATE}[{w}]) > 0)"


def on_time(t: Thresholds) -> str:
    """The end of every alert on current events: silent after a backlog.

    A shipper that was down delivers everything that happened meanwhile at the moment of its return.
    """
    return f"unless on () {LATE} > {number(t.late_age_s)}"


def _presence(t: Thresholds) -> list[Recording]:
    """How far signals were behind, and which are present; cheaper to look back on than the signals."""
    watched = (*ALWAYS, *WITH_BUDGETS, *WITH_SPEND, *WITH_TRAFFIC, *ONCE_SENT, *ONCE_SEEN)
    late = f"max(max_over_time({names.OUTBOX_AGE}[{duration(t.late_window_s)}]))"
    return [
        Recording(LATE, late),
        *(Recording(PRESENT, f"count({names.own(name)})", {"signal": name}) for name in watched),
    ]
