"""Copies of counters with fewer samples, which dashboards read for ranges longer than a day.

A month of a busy series has half a million samples, its copy three thousand. A copy has the labels and
values of its original, so `increase()` and everything else give the same result for both. No alert uses
a copy.
"""

from __future__ import annotations

from prometheus.src import names
from prometheus.src.model import Group, Recording, duration
from prometheus.src.thresholds import DAY, MINUTE
from spanledger.telemetry import signals

EVERY_S = 15 * MINUTE
KNOWN_S = DAY
"""How long a copy counts as known while its original is missing but its sender is not."""
STEP = "8m"
"""The smallest step for queries on copies. Grafana's rate window is four steps, so it has at least two samples."""
PREFIX = "long:"

COPIED = (
    names.COST,
    names.OVERRUN,
    names.LIST_COST,
    names.CHARGE,
    *(names.otlp(signals.REQUEST_COST, part) for part in ("_bucket", "_count")),
    *(names.otlp(signals.REQUEST_DURATION, part) for part in ("_bucket", "_count")),
    *(names.otlp(signals.OPERATION_DURATION, part) for part in ("_bucket", "_sum", "_count")),
    names.otlp(signals.TIME_TO_FIRST_CHUNK, "_bucket"),
    names.otlp(signals.TIME_PER_OUTPUT_CHUNK, "_bucket"),
    names.otlp(signals.TOKEN_USAGE, "_sum"),
)
"""Counters with a series per customer, and histograms. The others have so few series that reading a month
of them is fast."""


def copy_of(name: str) -> str:
    """The name of a counter's copy."""
    if name not in COPIED:
        raise KeyError(name)
    return f"{PREFIX}{name}"


def groups() -> list[Group]:
    """The recording rules for all copies."""
    rules = [Recording(copy_of(name), _copy(name)) for name in COPIED]
    return [Group("spanledger.long", EVERY_S, rules)]


def _copy(name: str) -> str:
    """The original's value; zero for a new series, because it began at zero since the last evaluation.

    A series is new if it has no copy and was not there at the last evaluation. If its gateway was not
    there either, the gateway has just started or returned, and its values are copied as they are.
    """
    earlier = f"offset {duration(EVERY_S)}"
    known = f"last_over_time({copy_of(name)}[{duration(KNOWN_S)}])"
    back = f"{names.REQUESTS} unless on (job, instance) {names.REQUESTS} {earlier}"
    new = f"{_seen(name, EVERY_S)} unless {known} unless {name} {earlier}"
    return f"({new} unless on (job, instance) ({back})) * 0 or {_seen(name, 2 * EVERY_S)}"


def _seen(name: str, window_s: int) -> str:
    """An original's last value. Series that applications send too may have existed for minutes only."""
    return f"last_over_time({name}[{duration(window_s)}])" if name.startswith("gen_ai_") else name
