"""A calendar that cannot be clever: it walks through the days, and through a zone's clock changes.

It shares no code with `spanledger.budgets.periods`. A period begins where a day begins whose number, weekday
or place in a count is due; where a day begins is read off straight pieces of the zone's clock.
"""

from __future__ import annotations

import calendar
from bisect import bisect_right
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from functools import cache
from itertools import pairwise
from typing import NamedTuple
from zoneinfo import ZoneInfo

DAY_S = 86_400


class Piece(NamedTuple):
    """A time during which a zone's clocks run evenly, in Unix seconds, and how far they are ahead."""

    start_s: int
    end_s: int
    ahead_s: int


def ahead(zone: ZoneInfo, at_s: int) -> int:
    """How many seconds the zone's clocks are ahead of UTC."""
    offset = datetime.fromtimestamp(at_s, zone).utcoffset()
    assert offset is not None
    return round(offset.total_seconds())


@cache
def pieces(name: str, first_year: int, last_year: int) -> tuple[Piece, ...]:
    """The zone's clock from some days before the first year to some days after the last."""
    zone = ZoneInfo(name)
    start_s = calendar.timegm((first_year, 1, 1, 0, 0, 0)) - 3 * DAY_S
    end_s = calendar.timegm((last_year + 1, 1, 1, 0, 0, 0)) + 3 * DAY_S
    step_s = 6 * 3600
    steps = pairwise((at_s, ahead(zone, at_s)) for at_s in range(start_s, end_s + 1, step_s))
    changes = [
        first_with(zone, after, at_s, later_s)
        for (at_s, before), (later_s, after) in steps
        if before != after
    ]
    return tuple(Piece(a, b, ahead(zone, a)) for a, b in pairwise((start_s, *changes, end_s)))


def first_with(zone: ZoneInfo, ahead_s: int, before_s: int, after_s: int) -> int:
    """The first second with an offset, which the zone has from then on until `after_s`."""
    while after_s - before_s > 1:
        middle = (before_s + after_s) // 2
        if ahead(zone, middle) == ahead_s:
            after_s = middle
        else:
            before_s = middle
    return after_s


def first_second(clock: tuple[Piece, ...], reading_s: int) -> int:
    """The first second at which clocks show a reading, in seconds as if it were UTC, or a later one."""
    # Of pieces that begin long before, none can show it first; no zone is further than a day from UTC.
    near = bisect_right(clock, reading_s - 2 * DAY_S, key=lambda piece: piece.end_s)
    for piece in clock[near:]:
        at_s = max(piece.start_s, reading_s - piece.ahead_s)
        if at_s < piece.end_s:
            return at_s
    raise AssertionError("beyond the clock")


@cache
def days(first_year: int, last_year: int) -> tuple[date, ...]:
    """Every day."""
    found = [date(first_year, 1, 1)]
    while found[-1] < date(last_year, 12, 31):
        found.append(found[-1] + timedelta(days=1))
    return tuple(found)


def begins_month(number: int) -> Callable[[date], bool]:
    """Whether a billing month that begins on the day with this number begins on a day."""

    def begins(day: date) -> bool:
        last = calendar.monthrange(day.year, day.month)[1]
        return day.day == (min(number, last))

    return begins


def begins_week(weekday: int) -> Callable[[date], bool]:
    """Whether a day is this weekday; Monday is 0."""
    return lambda day: day.weekday() == weekday


def begins_quarter(day: date) -> bool:
    """Whether a quarter begins."""
    return (day.day, day.month % 3) == (1, 1)


def begins_year(day: date) -> bool:
    """Whether a year begins."""
    return (day.day, day.month) == (1, 1)


def begins_every(count: int, since: date) -> Callable[[date], bool]:
    """Whether a day is one of every so many, counted from a day."""
    return lambda day: (day - since).days % count == 0


def beginnings(
    zone: str, first_year: int, last_year: int, due: Callable[[date], bool]
) -> list[int]:
    """The seconds at which periods begin, each once: a day that the zone skipped begins none of its own."""
    clock = pieces(zone, first_year, last_year)
    found: list[int] = []
    for day in days(first_year, last_year):
        if due(day):
            begin_s = first_second(clock, calendar.timegm(day.timetuple()))
            if not found or begin_s != found[-1]:
                found.append(begin_s)
    return found


def text(at_s: int) -> str:
    """A second in UTC, for a message."""
    return datetime.fromtimestamp(at_s, UTC).isoformat()
