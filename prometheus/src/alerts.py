"""The alert rules, each with its message."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from prometheus.src import absence, names
from prometheus.src.model import (
    ABOUT,
    Alert,
    Group,
    duration,
    increase,
    latest,
    marked,
    number,
    renamed,
)
from prometheus.src.recording import (
    BASELINE_1H,
    BY_BUDGET,
    ELAPSED,
    ERROR_RATIO,
    FAILED_OVER,
    FAILURES_RATE,
    FALLBACK_RATIO,
    REACHED,
    REFUSALS,
    SPEND_1H,
    SPEND_15M,
    SPENT_NOW,
    STEPS,
    USED,
    failure_ratio,
    on_time,
)
from prometheus.src.thresholds import MINUTE, Thresholds, Window
from spanledger.budgets.scopes import SCOPES

COST = "cost-and-budgets"
PROVIDERS = "providers-and-fallbacks"
LATENCY = "latency-and-streaming"
HEALTH = "stack-health"
"""Uids of the dashboards that alerts lead to."""

THRESHOLD = "threshold"
"""The label of a budget's thresholds, of which 100 is the limit. Each fires once per period."""

_WHO = {"{{ $labels.scope }}": "subject"}
"""The dashboards' variables are named as scopes are: customer, model, provider, …"""
_USD = (
    '{{ if lt $value 1.0 }}{{ printf "%.3g" $value }}'
    '{{ else }}{{ printf "%.2f" $value }}{{ end }} USD'
)
"""Amounts below a dollar show three significant digits, so that 0.004 does not read as zero."""
_SINCE = "since {{ $labels.period_start | humanizeTimestamp }}"
_DATED = "budget, scope, subject, period_start"
_OF = (
    '{{ if eq $labels.scope "global" }}everybody'
    "{{ else }}{{ $labels.scope }} {{ $labels.subject }}{{ end }}"
)
_OF_SUBJECT = {
    **{scope.name: f"{{ span.{scope.attribute} = $labels.subject }}" for scope in SCOPES},
    "": "{ span.spanledger.outcome != nil }",
}
"""Finds the spans that count against a budget, by its scope; for a global one or a combination, all."""
_DEAR = {
    "customer": "{ span.spanledger.customer = $labels.subject && span.spanledger.cost.usd > 0.01 }",
    "": "{ span.gen_ai.request.model = $labels.subject && span.spanledger.cost.usd > 0.01 }",
}
_ONLY_WARNS = f"(max by ({BY_BUDGET}) ({latest(names.BLOCKS)}) == 0)"
_ACCOUNT = {**_WHO, "budget": "budget", "subject": "subject"}
"""A budget of `*` has an account for each subject: its name alone would show the first."""
_BUDGET = f"Budget {{{{ $labels.budget }}}} of {_OF}"


def groups(t: Thresholds) -> list[Group]:
    """All groups of alert rules."""
    return [
        _about("budgets", [_ladder(t), _exhausted(t), _overspent(t), _forecast(t)]),
        _about("spend", [_spike(t), _unpriced(t), _overrun(t)]),
        _about(
            "providers",
            [_storm(t), *_burn(t), _all_down(t), _first_token(t)],
        ),
        _about("machinery", [_backlog(t), *_dropping(t), *_ledger(t), *absence.rules(t)]),
    ]


def _about(topic: str, rules: Sequence[Alert]) -> Group:
    told = [replace(rule, labels={**rule.labels, ABOUT: topic}) for rule in rules]
    return Group(f"spanledger.alerts.{topic}", MINUTE, told)


def _ladder(t: Thresholds) -> Alert:
    """A threshold stays crossed until the period ends; in the next period it is a new alert."""
    crossed = f"({STEPS} <= on ({_DATED}) group_left () {USED})"
    return Alert(
        "BudgetThresholdCrossed",
        f"0 * {crossed} + on ({_DATED}) group_left () {SPENT_NOW}",
        "ticket",
        "A budget has passed one of its thresholds",
        f"{_BUDGET} is over {{{{ $labels.{THRESHOLD} }}}} %: {_USD} spent {_SINCE}.",
        COST,
        keep_firing_s=t.budget_gap_s,
        variables=_ACCOUNT,
        amount=_USD,
        period=_SINCE,
        traceql=_OF_SUBJECT,
    )


def _exhausted(t: Thresholds) -> Alert:
    fullest = f"max by (budget) ({USED})"
    refusing = (
        f"({USED} >= {number(t.refused_ratio)} == on (budget) group_left () {fullest}"
        f" and on (budget) {REFUSALS} > 0)"
    )
    return Alert(
        "BudgetExhausted",
        f"{SPENT_NOW} and on ({_DATED}) ({USED} >= {number(t.exhausted_ratio)} or {refusing})"
        f" unless on ({BY_BUDGET}) {_ONLY_WARNS}",
        "page",
        "A budget is used up; requests are refused",
        f"{_BUDGET} is used up: {_USD} spent {_SINCE}. Requests are refused until its period ends.",
        COST,
        for_s=t.exhausted_for_s,
        keep_firing_s=t.budget_gap_s,
        labels={THRESHOLD: "100"},
        variables=_ACCOUNT,
        amount=_USD,
        period=_SINCE,
        traceql="{ span.spanledger.budget.refused_by = $labels.budget }",
    )


def _overspent(t: Thresholds) -> Alert:
    """A budget that only warns refuses no requests, so this does not page."""
    return Alert(
        "BudgetExhausted",
        f"{SPENT_NOW} and on ({_DATED}) {USED} >= {number(t.exhausted_ratio)}"
        f" and on ({BY_BUDGET}) {_ONLY_WARNS}",
        "ticket",
        "A budget that only warns is used up; requests continue",
        f"{_BUDGET} is used up: {_USD} spent {_SINCE}. It only warns: requests continue.",
        COST,
        for_s=t.exhausted_for_s,
        keep_firing_s=t.budget_gap_s,
        variant="warns",
        labels={THRESHOLD: "100"},
        variables=_ACCOUNT,
        amount=_USD,
        period=_SINCE,
        traceql=_OF_SUBJECT,
    )


def _forecast(t: Thresholds) -> Alert:
    long_enough = (
        f"max by (budget, scope, subject) ({latest(names.PERIOD_END)}"
        f" - {latest(names.PERIOD_START)})"
        f" >= {t.forecast_min_period_s}"
    )
    conditions = (
        f"on ({_DATED}) {REACHED} < {number(t.forecast_latest)}",
        f"on ({_DATED}) {ELAPSED} >= {number(t.forecast_min_elapsed)}",
        f"on ({_DATED}) {USED} >= {number(t.forecast_min_used)}",
        f"on (budget, scope, subject) ({long_enough})",
    )
    ahead = f"({SPENT_NOW} and on ({_DATED}) {USED} < {number(t.forecast_most_used)})"
    return Alert(
        "BudgetWillExhaustEarly",
        " and ".join((ahead, *conditions)),
        "ticket",
        "A budget is on course to run out well before its period ends",
        f"{_BUDGET} will be used up early: {_USD} spent {_SINCE}.",
        COST,
        for_s=t.forecast_for_s,
        keep_firing_s=t.forecast_gap_s,
        variables=_ACCOUNT,
        amount=_USD,
        period=_SINCE,
        traceql=_OF_SUBJECT,
    )


def _spike(t: Thresholds) -> Alert:
    usual = f"{number(t.spike_factor / 4)} * {BASELINE_1H}"
    memory, new = duration(t.spike_memory_s), duration(t.spike_known_s)
    known = f"last_over_time({SPEND_1H}[{memory}:1h] offset {new})"
    spends = f"{SPEND_15M} > {number(t.spike_floor_usd)}"
    return Alert(
        "CostSpike",
        f"({spends}) > on (scope, subject) ({usual}) and on (scope, subject) {known} {on_time(t)}",
        "page",
        "Spending is far above the usual level",
        f"{{{{ $labels.scope }}}} {{{{ $labels.subject }}}} spent {_USD} in 15 minutes, over"
        f" {number(t.spike_factor)} times the rate of its busy hours.",
        COST,
        for_s=t.spike_for_s,
        keep_firing_s=t.spike_quiet_s,
        variables=_WHO,
        amount=_USD,
        period="in the last 15 minutes",
        traceql=_DEAR,
    )


def _unpriced(t: Thresholds) -> Alert:
    by = f"{names.ROUTE}, {names.PROVIDER}, {names.MODEL}"
    window = duration(t.unpriced_window_s)
    return Alert(
        "UnpricedUsage",
        increase(names.UNPRICED, t.unpriced_window_s, by),
        "ticket",
        "Requests use a model without a price",
        # A refused request was not sent to a model, so only its route is known.
        f"{{{{ with $labels.{names.MODEL} }}}}Model {{{{ . }}}}, behind route{{{{ else }}}}A model behind"
        f" route{{{{ end }}}} {{{{ $labels.{names.ROUTE} }}}}, has no price:"
        f' {{{{ printf "%.0f" $value }}}} requests in {window} were charged nothing or refused.',
        COST,
        keep_firing_s=t.unpriced_quiet_s,
        period=f"in the last {window}",
        traceql=f"{{ span.spanledger.route = $labels.{names.ROUTE}"
        ' && (span.spanledger.unpriced = true || span.error.type = "unpriced_model") }',
    )


def _overrun(t: Thresholds) -> Alert:
    by = f"subject, {names.MODEL}"
    over = increase(names.OVERRUN, t.overrun_window_s, f"{names.CUSTOMER}, {names.MODEL}")
    window = duration(t.overrun_window_s)
    return Alert(
        "BudgetOverrun",
        f"sum by ({by}) ({renamed(over, names.CUSTOMER, 'subject')})"
        f" > {number(t.overrun_floor_usd)}",
        "ticket",
        "Requests cost more than was held for them",
        f"Customer {{{{ $labels.subject }}}} was charged {_USD} beyond what was held, for"
        f" {{{{ $labels.{names.MODEL} }}}} in {window}.",
        COST,
        labels={"scope": "customer"},
        variables={"customer": "subject", "model": names.MODEL},
        amount=_USD,
        period=f"in the last {window}",
        traceql="{ span.spanledger.overrun.nano_usd > 0"
        " && span.spanledger.customer = $labels.subject }",
    )


def _storm(t: Thresholds) -> Alert:
    moved = f"sum by ({names.FALLBACK_FROM}) (increase({FAILED_OVER}[5m]))"
    return Alert(
        "FallbackStorm",
        f"{FALLBACK_RATIO} > {number(t.fallback_ratio)} and on ({names.ROUTE})"
        f" {renamed(moved, names.FALLBACK_FROM, names.ROUTE)} >= {t.fallback_min}"
        f" {on_time(t)}",
        "page",
        "A route's requests are going to its fallback",
        f"{{{{ $value | humanizePercentage }}}} of the requests for {{{{ $labels.{names.ROUTE} }}}}"
        " fell back in the last five minutes.",
        PROVIDERS,
        for_s=t.fallback_for_s,
        keep_firing_s=t.fallback_quiet_s,
        variables={"route": names.ROUTE},
        period="in the last 5m",
        traceql=f"{{ span.spanledger.fallback.from = $labels.{names.ROUTE} }}",
    )


def _burn(t: Thresholds) -> list[Alert]:
    """One alert per severity. It pages only if callers get errors; while a fallback serves them,
    FallbackStorm pages instead."""
    paged, ticket = (
        [window for window in t.burn_windows if window.severity == severity]
        for severity in ("page", "ticket")
    )
    noticed = f"({_burning(t, paged)}) and on () {ERROR_RATIO} > {number(t.burn_errors)}"
    noticed += f" {on_time(t)}"
    texts = {
        "page": "A provider is failing, and callers get errors",
        "ticket": "A provider is failing more often than its objective allows",
    }
    made = {"page": (noticed, paged), "ticket": (_burning(t, ticket), ticket)}
    return [
        Alert(
            "ProviderErrorBudgetBurn",
            expr,
            "page" if severity == "page" else "ticket",
            texts[severity],
            f"{{{{ $value | humanizePercentage }}}} of the attempts at {{{{ $labels.{names.PROVIDER} }}}}"
            f" failed in the last {_lengths(windows)}, and it is still failing.",
            PROVIDERS,
            variant=severity,
            for_s=2 * MINUTE,
            keep_firing_s=t.burn_quiet_s if severity == "page" else 0,
            variables={"provider": names.PROVIDER},
            period=f"in the last {_lengths(windows)}",
            traceql=f"{{ span.gen_ai.provider.name = $labels.{names.PROVIDER} && status = error }}",
        )
        for severity, (expr, windows) in made.items()
    ]


def _burning(t: Thresholds, windows: Sequence[Window]) -> str:
    """The share of failures in the first window in which it is too high."""
    pairs = []
    for window in windows:
        limit = number(window.factor * t.slo_error_ratio)
        long, short = failure_ratio(window.long_s), failure_ratio(window.short_s)
        # A per-second rate recorded each minute; 60 is written as `1m` so that it scales like a duration.
        failures = f"sum_over_time({FAILURES_RATE}[{duration(window.long_s)}]) * {duration(MINUTE)}"
        pairs.append(
            f"{long} > {limit} and {short} > {limit} and {failures} >= {t.burn_min_failures}"
        )
    return " or ".join(pairs)


def _lengths(windows: Sequence[Window]) -> str:
    return " or ".join(duration(window.long_s) for window in windows)


def _all_down(t: Thresholds) -> Alert:
    """If the route's requests go to a fallback, FallbackStorm fires instead."""
    window = duration(t.down_window_s)
    used = f"max by (route) (avg_over_time({names.DEPLOYMENT_UP}[{window}]))"
    moved = f"sum by ({names.FALLBACK_FROM}) (increase({FAILED_OVER}[5m])) > 0"
    return Alert(
        "AllDeploymentsDown",
        f"{used} < {number(t.down_ratio)}"
        f" unless on (route) {renamed(moved, names.FALLBACK_FROM, 'route')}",
        "page",
        "All deployments of a route are down, and nothing else serves it",
        "Every deployment of {{ $labels.route }} is cooling down at every gateway.",
        PROVIDERS,
        for_s=t.down_for_s,
        keep_firing_s=t.down_quiet_s,
        variables={"route": "route"},
        traceql="{ span.spanledger.route = $labels.route && status = error }",
    )


def _first_token(t: Thresholds) -> Alert:
    slow = (
        f"histogram_quantile(0.95, sum by (le, {names.MODEL})"
        f" (rate({names.own(names.FIRST_TOKEN_BUCKET)}[10m])))"
    )
    streams = f"sum by ({names.MODEL}) (increase({names.own(names.FIRST_TOKEN_COUNT)}[10m]))"
    return Alert(
        "TimeToFirstTokenSlow",
        f"{slow} > {number(t.first_token_s)} and {streams} >= {t.first_token_min}",
        "ticket",
        "A model is slow to start answering",
        f"One in twenty streams of {{{{ $labels.{names.MODEL} }}}} waited over"
        " {{ $value | humanizeDuration }} for its first token.",
        LATENCY,
        for_s=t.first_token_for_s,
        variables={"model": names.MODEL},
        period="in the last 10m",
        traceql=f"{{ span.gen_ai.request.model = $labels.{names.MODEL}"
        f" && span.gen_ai.response.time_to_first_chunk > {number(t.first_token_s)} }}",
    )


def _backlog(t: Thresholds) -> Alert:
    return Alert(
        "TelemetryBacklogGrowing",
        f"max by (job) ({latest(names.OUTBOX_AGE)}) > {number(t.backlog_age_s)}",
        "ticket",
        "Spans and metrics are waiting in the ledger; dashboards are behind",
        "The oldest row not yet accepted by the collector has waited {{ $value | humanizeDuration }}.",
        HEALTH,
        for_s=t.backlog_for_s,
    )


def _dropping(t: Thresholds) -> list[Alert]:
    window = t.dropped_window_s
    losses = " or ".join(
        marked(increase(name, window, "job, exporter, receiver"), "loss", name)
        for name in names.COLLECTOR_LOSSES
    )
    dropped = increase(names.DROPPED, window, names.DROP_REASON)
    lost = f"{losses} or {marked(dropped, 'loss', names.DROPPED)}"
    size, capacity = latest(names.QUEUE_SIZE), latest(names.QUEUE_CAPACITY)
    queue = f"{size} / ({capacity} > 0) > {number(t.queue_ratio)}"
    return [
        Alert(
            "CollectorDroppingData",
            lost,
            "ticket",
            "Spans or metric points are being refused or lost",
            '{{ $value | printf "%.0f" }} items were refused or lost in the last'
            f" {duration(window)}: {{{{ $labels.loss }}}}"
            "{{ with $labels.exporter }} of {{ . }}{{ end }}"
            "{{ with $labels.receiver }} of {{ . }}{{ end }}"
            f"{{{{ with $labels.{names.DROP_REASON} }}}} ({{{{ . }}}}){{{{ end }}}}.",
            HEALTH,
            keep_firing_s=t.dropped_quiet_s,
            variant="lost",
            labels={"symptom": "lost"},
            period=f"in the last {duration(window)}",
        ),
        Alert(
            "CollectorDroppingData",
            queue,
            "ticket",
            "A collector queue is filling up; data that does not fit will be lost",
            "The queue of {{ $labels.exporter }} ({{ $labels.data_type }}) is"
            " {{ $value | humanizePercentage }} full.",
            HEALTH,
            for_s=t.backlog_for_s,
            variant="queue",
            labels={"symptom": "queue"},
        ),
    ]


def _ledger(t: Thresholds) -> list[Alert]:
    fast = f'{names.COMMIT_BUCKET}{{le="{number(t.commit_slow_s)}"}}'
    count = f"rate({names.COMMIT_COUNT}[5m])"
    slow = f"1 - rate({fast}[5m]) / ignoring (le) ({count} > 0)"
    name = "LedgerSlowOrStuckHolds"
    return [
        Alert(
            name,
            f"{slow} > {number(t.commit_slow_ratio)}",
            "ticket",
            "The ledger's disk is slow; every request waits for it",
            "{{ $value | humanizePercentage }} of the commits of {{ $labels.instance }} took over"
            f" {duration_ms(t.commit_slow_s)}.",
            HEALTH,
            for_s=t.commit_for_s,
            keep_firing_s=t.commit_quiet_s,
            variant="slow",
            labels={"symptom": "slow_commits"},
            period="in the last 5m",
        ),
        Alert(
            name,
            f"max by (job) ({latest(names.OLDEST_HOLD)}) > {number(t.hold_stuck_s)}",
            "ticket",
            "Money is held for a request that can no longer be running",
            "The oldest hold is {{ $value | humanizeDuration }} old.",
            HEALTH,
            for_s=t.hold_for_s,
            variant="holds",
            labels={"symptom": "stuck_holds"},
        ),
        Alert(
            name,
            f"{latest(names.LEDGER_UP)} == 0",
            "page",
            "A gateway cannot read its ledger; requests are refused",
            "{{ $labels.instance }} cannot read its ledger.",
            HEALTH,
            for_s=t.ledger_for_s,
            variant="unreadable",
            labels={"symptom": "unreadable"},
        ),
    ]


def duration_ms(seconds: float) -> str:
    """A duration below a second, for a message."""
    return f"{seconds * 1000:.0f} ms"
