"""Which period a wall clock shows, from its hands alone, for models that budgets are compared with.

It shares no code with `spanledger.budgets.periods`, and does not compute where a period begins. A period
has a label: the date on which it began, or its place in a count. At any moment the label follows from the
latest reading that the clocks have ever shown: a day that has begun goes on when they go back.
"""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

Label = tuple[str | int, ...]
BACK_S = 4 * 3600
"""No zone has set its clocks back by more at once since 1970."""
FURTHEST_S = 2 * 86_400
"""No zone is further from UTC."""
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_TEXT = re.compile(
    r"(?P<kind>[^/@\[]+)(?:/(?P<day>[^@\[]+))?(?:@(?P<since>[^.\[]+)(?:\.\.(?P<until>[^\[]+))?)?"
    r"(?:\[(?P<first>.*)\.\.(?P<last>.*)\])?"
)


class Written(NamedTuple):
    """A period's text, taken apart; readings of clocks, or None."""

    kind: str
    day: str
    since: datetime | None
    first: datetime | None
    last: datetime | None
    """Nothing counts before `first`, and from `last` on."""


@lru_cache(maxsize=4096)
def written(text: str) -> Written:
    """Take a period's text apart."""
    match = _TEXT.fullmatch(text)
    assert match is not None, text
    kind, day, *readings = match.groups()
    since, until, first, last = (datetime.fromisoformat(r) if r else None for r in readings)
    if kind == "once":
        first, last = since, until
    return Written(kind, day or "", since, first, last)


@lru_cache(maxsize=65_536)
def latest(zone: str, at_s: int) -> datetime:
    """The latest reading that a zone's clocks have shown up to a Unix second."""
    now = _reading(zone, at_s)
    if now - _reading(zone, at_s - BACK_S) == timedelta(seconds=BACK_S):
        return now
    # They were set in the meantime, always at a full minute: what they showed just before counts as well.
    last_minute = at_s // 60 * 60
    before = range(last_minute, at_s - BACK_S, -60)
    return max(now, *(_reading(zone, minute_s - 1) for minute_s in before))


def _reading(zone: str, at_s: int) -> datetime:
    return datetime.fromtimestamp(at_s, ZoneInfo(zone)).replace(tzinfo=None, fold=0)


@lru_cache(maxsize=4096)
def moment_of(zone: str, reading: datetime) -> int:
    """The first second at which clocks show a reading, or a later one."""
    about_s = round(reading.replace(tzinfo=UTC).timestamp())
    before_s, after_s = about_s - FURTHEST_S, about_s + FURTHEST_S
    while after_s - before_s > 1:
        middle = (before_s + after_s) // 2
        if latest(zone, middle) < reading:
            before_s = middle
        else:
            after_s = middle
    return after_s


def label(text: str, zone: str, at_s: int) -> Label | None:
    """The period that counts a moment; None if none does."""
    parts, now = written(text), latest(zone, at_s)
    if (parts.first and now < parts.first) or (parts.last and now >= parts.last):
        return None
    return _begun(parts, zone, at_s, now)


def shown_label(text: str, zone: str, at_s: int) -> Label:
    """The same, but the first period before all, and the last one after them."""
    parts = written(text)
    if parts.last:
        at_s = min(at_s, moment_of(zone, parts.last) - 1)
    if parts.first:
        at_s = max(at_s, moment_of(zone, parts.first))
    return _begun(parts, zone, at_s, latest(zone, at_s))


def _begun(parts: Written, zone: str, at_s: int, now: datetime) -> Label:
    kind, since = parts.kind, parts.since
    today = now.date()
    if kind == "once":
        return ("once",)
    if kind == "year":
        return ("year", now.year)
    if kind == "quarter":
        return ("quarter", now.year, (now.month + 2) // 3)
    if since is not None and kind.endswith("h"):
        return (kind, (at_s - moment_of(zone, since)) // (int(kind[:-1]) * 3600))
    if since is not None:
        return (kind, (now - since) // timedelta(days=int(kind[:-1])))
    return (kind, _day_back_to(today, _begins(kind, parts.day)).isoformat())


def _day_back_to(day: date, begins: Callable[[date], bool]) -> date:
    while not begins(day):
        day -= timedelta(days=1)
    return day


def _begins(kind: str, which: str) -> Callable[[date], bool]:
    """Whether a day, week or month begins on a day."""
    if kind == "week":
        return lambda day: day.weekday() == WEEKDAYS.index(which or "monday")
    if kind == "month":
        return lambda day: day.day == min(int(which or 1), monthrange(day.year, day.month)[1])
    return lambda _day: True
