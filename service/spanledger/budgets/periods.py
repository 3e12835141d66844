"""Budget periods, computed from the calendar of a time zone: no job ever resets anything.

A period is `(start, end)` in Unix seconds, start inclusive, end exclusive. A day that a clock change
makes 23 or 25 hours long is simply that long. A local midnight skipped by a clock change becomes
the first moment after it; a day that has begun continues if a clock change shows the previous one
again.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from spanledger.budgets.model import PeriodKind


class Period(NamedTuple):
    """Unix seconds, `start_s <= t < end_s`."""

    start_s: int
    end_s: int


def period_at(kind: PeriodKind, timezone: str, at_s: int) -> Period:
    """The period that contains `at_s`.

    `week` follows ISO 8601 and begins on Monday. Raises ZoneInfoNotFoundError for an unknown zone.
    """
    today = datetime.fromtimestamp(at_s, ZoneInfo(timezone)).date()
    period = _period_of(kind, timezone, today)
    if at_s >= period.end_s:  # clocks went back across midnight after the next day had begun
        return _period_of(kind, timezone, today + timedelta(days=1))
    return period


@lru_cache(maxsize=1024)
def _period_of(kind: PeriodKind, timezone: str, today: date) -> Period:
    if kind == "day":
        first, after = today, today + timedelta(days=1)
    elif kind == "week":
        first = today - timedelta(days=today.weekday())
        after = first + timedelta(days=7)
    else:
        first = today.replace(day=1)
        after = (first + timedelta(days=31)).replace(day=1)
    zone = ZoneInfo(timezone)
    return Period(_midnight(first, zone), _midnight(after, zone))


def _midnight(day: date, zone: ZoneInfo) -> int:
    """The first moment of a local day, in Unix seconds."""
    local = datetime(day.year, day.month, day.day, tzinfo=zone)
    moment = local.astimezone(UTC)
    if moment.astimezone(zone).date() < day:  # midnight does not exist on that day
        moment += timedelta(hours=1)
    return int(moment.timestamp())
