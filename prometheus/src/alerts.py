"""The alert rules, each with what it tells whoever it wakes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from prometheus.src import names
from prometheus.src.model import (
    ABOUT,
    Alert,
    Group,
    duration,
    increase,
    marked,
    number,
    renamed,
)
from prometheus.src.recording import (
    ALWAYS,
    BASELINE_1H,
    ELAPSED,
    FALLBACK_RATIO,
    PRESENT,
    REACHED,
    REFUSALS,
    SPEND_1H,
    SPEND_15M,
    SPENT_NOW,
    TRIES_RATE,
    USED,
    WITH_TRAFFIC,
    failure_ratio,
)
from prometheus.src.thresholds import MINUTE, Thresholds, Window

COST = "cost-and-budgets"
PROVIDERS = "providers-and-fallbacks"
LATENCY = "latency-and-streaming"
HEALTH = "stack-health"
"""Uids of the dashboards that alerts lead to."""

_WHO = {"{{ $labels.scope }}": "subject"}
"""The dashboards' variables are named as scopes are: customer, model, provider, …"""
_USD = '{{ $value | printf "%.2f" }} USD'
_SINCE = "since {{ $labels.period_start | humanizeTimestamp }}"
_DATED = "budget, scope, subject, period_start"
_OF = "{{ $labels.scope }} {{ $labels.subject }}"
_SUBJECT = " || ".join(
    f'span.{attribute} = "{{{{ $labels.subject }}}}"'
    for attribute in ("spanledger.customer", "gen_ai.request.model", "gen_ai.provider.name")
)
_BUDGET = f"Budget {{{{ $labels.budget }}}} of {_OF}"


def groups(t: Thresholds) -> list[Group]:
    """All groups of alert rules."""
    return [
        _about("budgets", [*_ladder(t), _exhausted(t), _forecast(t)]),
        _about("spend", [_spike(t), _unpriced(t), _overrun(t)]),
        _about(
            "providers",
            [_storm(t), *(_burn(t, w) for w in t.burn_windows), _all_down(t), _first_token(t)],
        ),
        _about("machinery", [_backlog(t), *_dropping(t), *_ledger(t), *_absent(t)]),
    ]


def _about(topic: str, rules: Sequence[Alert]) -> Group:
    told = [replace(rule, labels={**rule.labels, ABOUT: topic}) for rule in rules]
    return Group(f"spanledger.alerts.{topic}", MINUTE, told)


def _ladder(t: Thresholds) -> list[Alert]:
    """A step once crossed stays crossed until the period ends: the next period is another alert."""
    return [
        Alert(
            "BudgetThresholdCrossed",
            f"{SPENT_NOW} and on ({_DATED}) ({USED} >= {number(percent / 100)})",
            "ticket",
            "A budget has passed a step of its ladder",
            f"{_BUDGET} is over {percent} %: {_USD} spent {_SINCE}.",
            COST,
            keep_firing_s=t.budget_gap_s,
            variant=str(percent),
            labels={"threshold": str(percent)},
            variables={**_WHO, "budget": "budget"},
            amount=_USD,
            period=_SINCE,
            traceql=f"{{ {_SUBJECT} }}",
        )
        for percent in t.ladder_percent
    ]


def _exhausted(t: Thresholds) -> Alert:
    fullest = f"max by (scope) ({USED})"
    refusing = (
        f"({USED} >= {number(t.refused_ratio)} == on (scope) group_left () {fullest}"
        f" and on (scope) {REFUSALS} > 0)"
    )
    return Alert(
        "BudgetExhausted",
        f"{SPENT_NOW} and on ({_DATED}) ({USED} >= {number(t.exhausted_ratio)} or {refusing})",
        "page",
        "A budget is used up; its requests are refused if it blocks",
        f"{_BUDGET} is used up: {_USD} spent {_SINCE}.",
        COST,
        for_s=t.exhausted_for_s,
        keep_firing_s=t.budget_gap_s,
        variables={**_WHO, "budget": "budget"},
        amount=_USD,
        period=_SINCE,
        traceql='{ span.spanledger.budget.refused_by = "{{ $labels.budget }}" }',
    )


def _forecast(t: Thresholds) -> Alert:
    long_enough = (
        f"max by (budget, scope, subject) ({names.PERIOD_END} - {names.PERIOD_START})"
        f" >= {t.forecast_min_period_s}"
    )
    conditions = (
        f"on ({_DATED}) {REACHED} < {number(t.forecast_latest)}",
        f"on ({_DATED}) {ELAPSED} >= {number(t.forecast_min_elapsed)}",
        f"on ({_DATED}) {USED} >= {number(t.forecast_min_used)}",
        f"on (budget, scope, subject) ({long_enough})",
    )
    ahead = f"({SPENT_NOW} and on ({_DATED}) {USED} < {number(max(t.ladder_percent) / 100)})"
    return Alert(
        "BudgetWillExhaustEarly",
        " and ".join((ahead, *conditions)),
        "ticket",
        "At its pace a budget ends well before its period",
        f"{_BUDGET} will be used up early: {_USD} spent {_SINCE}.",
        COST,
        for_s=t.forecast_for_s,
        keep_firing_s=t.forecast_gap_s,
        variables={**_WHO, "budget": "budget"},
        amount=_USD,
        period=_SINCE,
        traceql=f"{{ {_SUBJECT} }}",
    )


def _spike(t: Thresholds) -> Alert:
    usual = f"{number(t.spike_factor / 4)} * {BASELINE_1H}"
    known = f"last_over_time({SPEND_1H}[2h] offset {duration(t.spike_known_s)})"
    spends = f"{SPEND_15M} > {number(t.spike_floor_usd)}"
    return Alert(
        "CostSpike",
        f"({spends}) > on (scope, subject) ({usual}) and on (scope, subject) {known}",
        "page",
        "Spend is far above the usual of this customer or model",
        f"{{{{ $labels.scope }}}} {{{{ $labels.subject }}}} spent {_USD} in 15 minutes, over"
        f" {number(t.spike_factor)} times the rate of its busy hours.",
        COST,
        for_s=t.spike_for_s,
        keep_firing_s=t.spike_quiet_s,
        variables=_WHO,
        amount=_USD,
        period="in the last 15 minutes",
        traceql=f"{{ span.spanledger.cost.usd > 0.01 && ({_SUBJECT}) }}",
    )


def _unpriced(t: Thresholds) -> Alert:
    by = f"{names.PROVIDER}, {names.MODEL}"
    window = duration(t.unpriced_window_s)
    return Alert(
        "UnpricedUsage",
        increase(names.UNPRICED, t.unpriced_window_s, by),
        "ticket",
        "A model without a price is asked for",
        f"{{{{ $labels.{names.MODEL} }}}} of {{{{ $labels.{names.PROVIDER} }}}} has no price:"
        f' {{{{ $value | printf "%.0f" }}}} requests in {window} were booked at nothing or refused.',
        COST,
        keep_firing_s=t.unpriced_quiet_s,
        variables={"model": names.MODEL},
        period=f"in the last {window}",
        traceql="{ span.spanledger.unpriced = true"
        f' && span.gen_ai.request.model = "{{{{ $labels.{names.MODEL} }}}}" }}',
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
        ' && span.spanledger.customer = "{{ $labels.subject }}" }',
    )


def _storm(t: Thresholds) -> Alert:
    moved = f"sum by ({names.FALLBACK_FROM}) (increase({names.FALLBACKS}[5m]))"
    return Alert(
        "FallbackStorm",
        f"{FALLBACK_RATIO} > {number(t.fallback_ratio)} and on ({names.ROUTE})"
        f" {renamed(moved, names.FALLBACK_FROM, names.ROUTE)} >= {t.fallback_min}",
        "page",
        "A route's requests leave for their fallback",
        f"{{{{ $value | humanizePercentage }}}} of the requests for {{{{ $labels.{names.ROUTE} }}}}"
        " fell back in the last five minutes.",
        PROVIDERS,
        for_s=t.fallback_for_s,
        keep_firing_s=t.fallback_quiet_s,
        variables={"route": names.ROUTE},
        period="in the last 5m",
        traceql=f'{{ span.spanledger.fallback.from = "{{{{ $labels.{names.ROUTE} }}}}" }}',
    )


def _burn(t: Thresholds, window: Window) -> Alert:
    limit = number(window.factor * t.slo_error_ratio)
    long, short = failure_ratio(window.long_s), failure_ratio(window.short_s)
    # A rate a second, recorded each minute: a number that is a time is written as one (`1m`).
    tries = f"sum_over_time({TRIES_RATE}[{duration(window.long_s)}]) * {duration(MINUTE)}"
    return Alert(
        "ProviderErrorBudgetBurn",
        f"{long} > {limit} and {short} > {limit} and {tries} >= {t.burn_min_tries}",
        "page" if window.severity == "page" else "ticket",
        "A provider fails faster than its objective allows",
        f"{{{{ $value | humanizePercentage }}}} of the tries at {{{{ $labels.{names.PROVIDER} }}}}"
        f" failed in the last {duration(window.long_s)}, and still do.",
        PROVIDERS,
        variant=duration(window.long_s),
        for_s=2 * MINUTE,
        labels={"window": duration(window.long_s)},
        variables={"provider": names.PROVIDER},
        period=f"in the last {duration(window.long_s)}",
        traceql=f'{{ span.gen_ai.provider.name = "{{{{ $labels.{names.PROVIDER} }}}}"'
        " && status = error }",
    )


def _all_down(t: Thresholds) -> Alert:
    window = duration(t.down_window_s)
    return Alert(
        "AllDeploymentsDown",
        f"max by (route) (avg_over_time({names.DEPLOYMENT_UP}[{window}])) < {number(t.down_ratio)}",
        "page",
        "No deployment of a route is in use",
        "Every deployment of {{ $labels.route }} is cooling down, at every gateway.",
        PROVIDERS,
        for_s=t.down_for_s,
        variables={"route": "route"},
        traceql='{ span.spanledger.route = "{{ $labels.route }}" && status = error }',
    )


def _first_token(t: Thresholds) -> Alert:
    slow = (
        f"histogram_quantile(0.95, sum by (le, {names.MODEL})"
        f" (rate({names.FIRST_TOKEN_BUCKET}[10m])))"
    )
    streams = f"sum by ({names.MODEL}) (increase({names.FIRST_TOKEN_COUNT}[10m]))"
    return Alert(
        "TimeToFirstTokenSlow",
        f"{slow} > {number(t.first_token_s)} and {streams} >= {t.first_token_min}",
        "ticket",
        "A model is slow to begin its answers",
        f"One in twenty streams of {{{{ $labels.{names.MODEL} }}}} waited over"
        " {{ $value | humanizeDuration }} for its first token.",
        LATENCY,
        for_s=t.first_token_for_s,
        variables={"model": names.MODEL},
        period="in the last 10m",
        traceql=f'{{ span.gen_ai.request.model = "{{{{ $labels.{names.MODEL} }}}}"'
        f" && span.gen_ai.response.time_to_first_chunk > {number(t.first_token_s)} }}",
    )


def _backlog(t: Thresholds) -> Alert:
    return Alert(
        "TelemetryBacklogGrowing",
        f"max by (job) ({names.OUTBOX_AGE}) > {number(t.backlog_age_s)}",
        "ticket",
        "Spans and metrics wait in the ledger; dashboards are behind",
        "The oldest row not yet taken by the collector has waited {{ $value | humanizeDuration }}.",
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
    queue = f"{names.QUEUE_SIZE} / ({names.QUEUE_CAPACITY} > 0) > {number(t.queue_ratio)}"
    return [
        Alert(
            "CollectorDroppingData",
            lost,
            "ticket",
            "Spans or metric points are lost",
            '{{ $value | printf "%.0f" }} items lost in the last'
            f" {duration(window)}: {{{{ $labels.loss }}}}"
            " {{ $labels.exporter }}{{ $labels.receiver }}.",
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
            "The collector's queue fills; what does not fit will be lost",
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
            variant="slow",
            labels={"symptom": "slow_commits"},
            period="in the last 5m",
        ),
        Alert(
            name,
            f"max by (job) ({names.OLDEST_HOLD}) > {number(t.hold_stuck_s)}",
            "ticket",
            "Money is held for a request that cannot be under way any more",
            "The oldest hold is {{ $value | humanizeDuration }} old.",
            HEALTH,
            for_s=t.hold_for_s,
            variant="holds",
            labels={"symptom": "stuck_holds"},
        ),
        Alert(
            name,
            f"{names.LEDGER_UP} == 0",
            "page",
            "A gateway cannot read its ledger; requests are refused",
            "{{ $labels.instance }} cannot read its ledger.",
            HEALTH,
            for_s=t.ledger_for_s,
            variant="unreadable",
            labels={"symptom": "unreadable"},
        ),
    ]


def _absent(t: Thresholds) -> list[Alert]:
    never = " or ".join(marked(f"absent({name})", "signal", name) for name in ALWAYS)
    traffic = f"on () (sum(increase({names.OPERATIONS}[15m])) > 0)"
    unsent = " or ".join(
        f"({marked(f'absent({name})', 'signal', name)} and {traffic})" for name in WITH_TRAFFIC
    )
    gone = f"max_over_time({PRESENT}[{duration(t.absent_memory_s)}]) unless {PRESENT}"
    target = 'label_replace(up == 0, "signal", "up", "", "")'
    described = {
        "never": (
            never,
            "There is no {{ $labels.signal }}: no gateway is scraped, or it was renamed.",
        ),
        "unsent": (
            unsent,
            "Requests are served without {{ $labels.signal }}: OTLP does not arrive, or a rename.",
        ),
        "gone": (gone, "{{ $labels.signal }} was there within a day and is gone."),
        "target": (
            target,
            "{{ $labels.instance }} ({{ $labels.job }}) does not answer its scrapes.",
        ),
    }
    return [
        Alert(
            "SignalAbsent",
            expr,
            "ticket",
            "A signal that alerts rest on is missing",
            text,
            HEALTH,
            for_s=t.absent_for_s,
            variant=variant,
            labels={"symptom": variant},
            no_data_reason="it is itself the alert on missing data, and empty while all are there",
        )
        for variant, (expr, text) in described.items()
    ]


def duration_ms(seconds: float) -> str:
    """Under a second, for a reader."""
    return f"{seconds * 1000:.0f} ms"
