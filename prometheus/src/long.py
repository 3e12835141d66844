"""Copies of counters for long times: what dashboards read instead, over more than a day.

A month of a busy series is half a million samples, of its copy three thousand. A copy has the labels and
the values of its original, so that `increase()` and all else give the same of both. No alert rests on
one.
"""

from __future__ import annotations

from prometheus.src import names
from prometheus.src.model import Group, Recording, duration
from prometheus.src.thresholds import DAY, MINUTE
from spanledger.telemetry import signals

EVERY_S = 15 * MINUTE
KNOWN_S = DAY
"""How long a copy is remembered while its original is away and its sender is not."""
STEP = "8m"
"""The least step of what reads copies. Grafana's rates reach over four of these, two copies at least."""
PREFIX = "long:"

COPIED = (
    names.COST,
    names.OVERRUN,
    *(names.otlp(signals.REQUEST_COST, part) for part in ("_bucket", "_count")),
    *(names.otlp(signals.REQUEST_DURATION, part) for part in ("_bucket", "_count")),
    *(names.otlp(signals.OPERATION_DURATION, part) for part in ("_bucket", "_sum", "_count")),
    names.otlp(signals.TIME_TO_FIRST_CHUNK, "_bucket"),
    names.otlp(signals.TIME_PER_OUTPUT_CHUNK, "_bucket"),
    names.otlp(signals.TOKEN_USAGE, "_sum"),
)
"""Counters with a series for each customer, and histograms. The others have so few series that a month
of them is read in no time."""


def copy_of(name: str) -> str:
    """The name of a counter's copy."""
    if name not in COPIED:
        raise KeyError(name)
    return f"{PREFIX}{name}"


def groups() -> list[Group]:
    """All of the copies."""
    rules = [Recording(copy_of(name), _copy(name)) for name in COPIED]
    return [Group("spanledger.long", EVERY_S, rules)]


def _copy(name: str) -> str:
    """The original's value; of one that is new a zero, as it began at zero since the last evaluation.

    New is what has no copy and was not there at the last evaluation. Of a gateway that was not there
    then itself nothing is new: it is back, or begins, and its values are taken as they are.
    """
    earlier = f"offset {duration(EVERY_S)}"
    known = f"last_over_time({copy_of(name)}[{duration(KNOWN_S)}])"
    back = f"{names.REQUESTS} unless on (job, instance) {names.REQUESTS} {earlier}"
    new = f"{_seen(name, EVERY_S)} unless {known} unless {name} {earlier}"
    return f"({new} unless on (job, instance) ({back})) * 0 or {_seen(name, 2 * EVERY_S)}"


def _seen(name: str, window_s: int) -> str:
    """What there is of an original. What applications send as well may have been there for minutes only."""
    return f"last_over_time({name}[{duration(window_s)}])" if name.startswith("gen_ai_") else name
