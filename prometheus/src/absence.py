"""The alert on missing signals, on which all other alerts depend."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from prometheus.src import names
from prometheus.src.model import Alert, duration, marked
from prometheus.src.recording import (
    ALWAYS,
    ONCE_SENT,
    PRESENT,
    WITH_BUDGETS,
    WITH_SPEND,
    WITH_TRAFFIC,
)
from prometheus.src.thresholds import Thresholds


def _missing(series: Iterable[str], witness: str) -> str:
    """The signals that are missing although the witness shows that they should be there."""
    return " or ".join(
        f"({marked(f'absent({names.own(name)})', 'signal', name)} and on () {witness})"
        for name in series
    )


def _gone(series: Sequence[str], witness: str, t: Thresholds) -> str:
    """The signals that have disappeared while their sender is still there."""
    chosen = f'{PRESENT}{{signal=~"{"|".join(series)}"}}'
    seen = f"max_over_time({chosen}[{duration(t.absent_memory_s)}])"
    return f"(({seen} unless {PRESENT}) and on () {witness})"


def rules(t: Thresholds) -> list[Alert]:
    """One cause fires one alert: if a sender is down, its signals do not fire one by one."""
    first, *others = ALWAYS
    readable = f"({first} == 1)"
    shown, spent = f"({names.BUDGETS_SHOWN} > 0)", f"({names.SPENT} > 0)"
    served = f"(increase({names.OPERATIONS}[15m]) > 0)"
    requests, attempts = WITH_TRAFFIC
    arrives = f"count({requests})"
    before = f'max_over_time({PRESENT}{{signal="{requests}"}}[{duration(t.absent_memory_s)}])'
    collector = '(up{job="collector"} == 1)'
    never = (
        marked(f"absent({first})", "signal", first),
        _missing(others, readable),
        _missing(WITH_BUDGETS, shown),
        _missing(WITH_SPEND, spent),
    )
    unsent = (
        f"({_missing([requests], f'({served} or {before})')} and on () {readable})",
        _missing([attempts], f"count({names.ATTEMPTED})"),
    )
    gone = (
        _gone(ONCE_SENT, arrives, t),
        _gone([names.THRESHOLD], shown, t),
        _gone([names.QUEUE_SIZE, names.QUEUE_CAPACITY], collector, t),
    )
    described = {
        "never": (
            " or ".join(never),
            "{{ $labels.signal }} is missing: no gateway is scraped, or the metric was renamed.",
        ),
        "unsent": (
            " or ".join(unsent),
            (
                "{{ $labels.signal }} does not arrive over OTLP: the shipper or the collector is down, or the"
                " metric was renamed."
            ),
        ),
        "gone": (
            " or ".join(gone),
            "{{ $labels.signal }} was there within the last day and is gone.",
        ),
        "target": (
            'label_replace(up == 0, "signal", "up", "", "")',
            "{{ $labels.instance }} ({{ $labels.job }}) does not answer scrapes.",
        ),
    }
    return [
        Alert(
            "SignalAbsent",
            expr,
            "ticket",
            "A signal that alerts depend on is missing",
            text,
            "stack-health",
            for_s=t.absent_for_s,
            variant=variant,
            labels={"symptom": variant},
            no_data_reason="this is the alert on missing data; it is empty while all signals are there",
        )
        for variant, (expr, text) in described.items()
    ]
