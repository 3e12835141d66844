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
SEEN_S = 2 * EVERY_S
"""How far back an original is looked for: what was there for minutes only is copied as well."""
KNOWN_S = 7 * DAY
"""How long a copy is remembered while its original is away and others are not: one of several ledgers."""
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

    New is what has no copy and was not there at the last evaluation. When no gateway's requests were
    there then, Prometheus or the telemetry was away, and nothing can be said to be new: values are taken
    as they are.
    """
    earlier = f"offset {duration(EVERY_S)}"
    now = f"last_over_time({name}[{duration(SEEN_S)}])"
    known = f"last_over_time({copy_of(name)}[{duration(KNOWN_S)}])"
    was_away = f"scalar(absent({names.REQUESTS} {earlier}) or vector(0))"
    return f"{now} and ({known} or {name} {earlier}) or {now} * {was_away}"
