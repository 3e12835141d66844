"""Budget periods, computed from the calendar of a time zone: no job ever resets anything.

A budget has its period as a text, from which everything else follows: `month`, `month/31`,
`week/sunday`, `30d@2026-01-01`, `once@2026-01-01..2026-04-01`, `day[2026-01-01..]`. `PERIOD_KINDS` has a row for each kind.
Moments in a text are what clocks in the budget's time zone show.

A period begins at the first moment at which the clocks show its beginning or something later. So a
day that a clock change makes 23 or 25 hours long is simply that long, a midnight that clocks skip
becomes the first moment after it, and a day that has begun continues if the clocks go back to the
previous one. A day that a zone skipped, to change sides of the date line, has no period.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple, Protocol
from zoneinfo import ZoneInfo

from spanledger.errors import Renewal

EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - what clocks show, in any zone
BEGINNING_S = 0
FOREVER_S = int(datetime(2200, 1, 1, tzinfo=UTC).timestamp())
"""The end of a period that does not end. In nanoseconds it fits into a database's integer."""
MAX_HOURS = 366 * 24
MAX_DAYS = 3_660
LONGEST_MONTH_S = 31 * 86_400
"""No day, week or month is longer, apart from changes of the clocks."""

MONTH_DAYS = tuple(str(day) for day in range(1, 32))
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_DAYS = {"week": WEEKDAYS, "month": MONTH_DAYS}
"""What `period_day` may be, by the kind's name."""
_SECOND = timedelta(seconds=1)
_DAY = timedelta(days=1)


class Period(NamedTuple):
    """Unix seconds, `start_s <= t < end_s`.

    `counts` is false before and after the time for which a budget is valid: it limits nothing then.
    """

    start_s: int
    end_s: int
    counts: bool = True


class Parts(NamedTuple):
    """A period as people write it, in the fields of a file or the options of a command.

    Its text is `period/period_day@period_from..period_to[valid_from..valid_to]`, without what it does
    not have, and without the day on which weeks and months begin anyway.
    """

    period: str
    period_day: str = ""
    period_from: str = ""
    period_to: str = ""
    valid_from: str = ""
    valid_to: str = ""

    @property
    def text(self) -> str:
        """The text that a budget has."""
        kind = kind_of(self.period)
        day = "" if kind and kind.day == self.period_day else self.period_day
        text = "".join(
            mark + part
            for mark, part in (
                ("", self.period),
                ("/", day),
                ("@", self.period_from),
                ("..", self.period_to),
            )
            if part
        )
        if self.valid_from or self.valid_to:
            text += f"[{self.valid_from}..{self.valid_to}]"
        return text


class Cycle(Protocol):
    """Says which period contains a moment."""

    def at(self, zone: ZoneInfo, at_s: int) -> Period:
        """The period that contains a moment."""
        ...


class PeriodKind(NamedTuple):
    """A kind of period.

    Attributes:
        name: what `period` says, or an example of it.
        meaning: for help and pages.
        pattern: what `period` says.
        cycle: which period contains a moment.
        words: how people read it: `month from day 31`.
        often: the word before that, to follow an amount: `a month from day 31`.
        takes: the parts that it may have, besides `period`.
        needs: those that it must have.
        day: its `period_day` if none is given.
        valid: the parts for when it counts, unless its own say that.
    """

    name: str
    meaning: str
    pattern: str
    cycle: Callable[[Parts], Cycle]
    words: Callable[[Parts], str]
    often: str = "a "
    takes: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    day: str = ""
    valid: tuple[str, ...] = ("valid_from", "valid_to")


@lru_cache(maxsize=4096)
def period_at(text: str, timezone: str, at_s: int) -> Period:
    """The period that contains `at_s`. Each moment belongs to exactly one.

    Raises:
        ValueError: the text is not a period's.
        ZoneInfoNotFoundError: the zone is unknown.
    """
    return _cycle_of(text).at(ZoneInfo(timezone), at_s)


@lru_cache(maxsize=4096)
def shown_period(text: str, timezone: str, now_s: int) -> Period:
    """The current period; before the first one that counts that one, and after the last one the last."""
    cycle, zone = _cycle_of(text), ZoneInfo(timezone)
    if isinstance(cycle, _Bounded):
        first_s, end_s = cycle.bounds(zone)
        now_s = min(max(now_s, first_s), end_s - 1)
    return cycle.at(zone, now_s)


def parts_of(text: str) -> Parts:
    """A period's text, taken apart. Raises ValueError if it is not one."""
    match = _TEXT.fullmatch(text)
    kind = kind_of(match["period"]) if match else None
    given = {name: part for name, part in match.groupdict().items() if part} if match else {}
    if (
        kind is None
        or not given.keys() <= {"period", *kind.takes, *kind.valid}
        or not given.keys() >= {*kind.needs}
        or (kind.day and given.get("period_day", kind.day) not in _DAYS[kind.name])
    ):
        raise ValueError(f"{text!r} is not the text of a period")
    return Parts(**({"period_day": kind.day} | given))


def kind_of(period: str) -> PeriodKind | None:
    """The kind of period that `period` names, if there is one."""
    return next((kind for kind in PERIOD_KINDS if re.fullmatch(kind.pattern, period)), None)


def in_words(text: str) -> str:
    """A period for people: `month from day 31`."""
    parts = parts_of(text)
    return _kind(parts).words(parts) + _validity(parts)


def _validity(parts: Parts) -> str:
    since = f" from {parts.valid_from}" if parts.valid_from else ""
    until = f" until {parts.valid_to}" if parts.valid_to else ""
    return f", valid{since}{until}" if since or until else ""


def every(text: str) -> str:
    """How often a limit is renewed, to follow the amount: `a month from day 31`."""
    return _kind(parts_of(text)).often + in_words(text)


def renewal(text: str, timezone: str, end_s: int) -> Renewal:
    """What follows the period that ends so."""
    if end_s == FOREVER_S:
        return "never"
    cycle = _cycle_of(text)
    last = isinstance(cycle, _Bounded) and cycle.bounds(ZoneInfo(timezone))[1] == end_s
    return "ends" if last else "renews"


def _kind(parts: Parts) -> PeriodKind:
    kind = kind_of(parts.period)
    if kind is None:
        raise ValueError(f"{parts.period!r} is not a period")
    return kind


@lru_cache(maxsize=1024)
def _cycle_of(text: str) -> Cycle:
    parts = parts_of(text)
    cycle = _kind(parts).cycle(parts)
    since, until = parts.valid_from, parts.valid_to
    return _Bounded(cycle, _reading_of(since), _reading_of(until)) if since or until else cycle


def _reading_of(text: str) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


# moments -----------------------------------------------------------------------------------


def first_moment(reading: datetime, zone: ZoneInfo) -> int:
    """The first moment, in Unix seconds, at which the zone's clocks show this reading or a later one."""
    shown_s = (reading - EPOCH) // _SECOND
    # Where clocks show a reading twice, fold 0 is the first time. Where they skip it, fold 0 goes by
    # the offset before the change and fold 1 by that after it, which is the larger.
    before, after = (
        (reading.replace(tzinfo=zone, fold=fold).utcoffset() or timedelta()) // _SECOND
        for fold in (0, 1)
    )
    moment = shown_s - before
    if before >= after:
        return moment
    too_early = shown_s - after
    while moment - too_early > 1:
        middle = (moment + too_early) // 2
        if _reading(middle, zone) < reading:
            too_early = middle
        else:
            moment = middle
    return moment


def _reading(at_s: int, zone: ZoneInfo) -> datetime:
    """What the zone's clocks show."""
    return datetime.fromtimestamp(at_s, zone).replace(tzinfo=None, fold=0)


# cycles -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Calendar:
    """Periods that begin at certain readings of the clocks, which are numbered.

    Attributes:
        number: of the last beginning at or before a reading.
        beginning: the reading with a number.
    """

    number: Callable[[datetime], int]
    beginning: Callable[[int], datetime]

    def at(self, zone: ZoneInfo, at_s: int) -> Period:
        """See `Cycle`."""
        number = self.number(_reading(at_s, zone))
        # Clocks that went back across a beginning show a reading of the period before it.
        while (end_s := first_moment(self.beginning(number + 1), zone)) <= at_s:
            number += 1
        return Period(first_moment(self.beginning(number), zone), end_s)


@dataclass(frozen=True, slots=True)
class _Hours:
    """Periods of so many hours, one after another, in both directions from a reading."""

    hours: int
    since: datetime

    def at(self, zone: ZoneInfo, at_s: int) -> Period:
        """See `Cycle`."""
        length_s = self.hours * 3600
        anchor_s = first_moment(self.since, zone)
        start_s = anchor_s + (at_s - anchor_s) // length_s * length_s
        return Period(start_s, start_s + length_s)


@dataclass(frozen=True, slots=True)
class _Bounded:
    """The part of other periods between two readings, or all of it as one; what is before and after does
    not count."""

    cycle: Cycle | None
    since: datetime | None
    until: datetime | None

    def bounds(self, zone: ZoneInfo) -> tuple[int, int]:
        """The first second that counts, and the first that does not any more."""
        return (
            first_moment(self.since, zone) if self.since else BEGINNING_S,
            first_moment(self.until, zone) if self.until else FOREVER_S,
        )

    def at(self, zone: ZoneInfo, at_s: int) -> Period:
        """See `Cycle`."""
        first_s, end_s = self.bounds(zone)
        if at_s < first_s:
            return Period(min(BEGINNING_S, at_s), first_s, counts=False)
        if at_s >= end_s:
            return Period(end_s, max(FOREVER_S, at_s + 1), counts=False)
        period = self.cycle.at(zone, at_s) if self.cycle else Period(first_s, end_s)
        return Period(max(period.start_s, first_s), min(period.end_s, end_s))


def _days(days: int, since: datetime) -> Cycle:
    """Periods of so many days of the calendar, in both directions from a reading."""
    length = days * _DAY
    return _Calendar(
        number=lambda reading: (reading - since) // length,
        beginning=lambda number: since + number * length,
    )


def _months(months: int, day: int = 1) -> Cycle:
    """Periods of so many months from a day on; in a month that is shorter, from its last day."""

    def beginning(number: int) -> datetime:
        year, month = divmod(number * months, 12)
        first = EPOCH.replace(year=year, month=month + 1)
        return first + min(day, _length(first)) * _DAY - _DAY

    def number(reading: datetime) -> int:
        found = (reading.year * 12 + reading.month - 1) // months
        return found if beginning(found) <= reading else found - 1

    return _Calendar(number, beginning)


def _length(first: datetime) -> int:
    """Days of the month that begins so."""
    return ((first + 31 * _DAY).replace(day=1) - first).days


# kinds -------------------------------------------------------------------------------------

_MOMENT = r"\d{4}-\d\d-\d\d(?:T\d\d:\d\d(?::\d\d)?)?"
_TEXT = re.compile(
    r"(?P<period>[a-z0-9]+)(?:/(?P<period_day>[a-z0-9]+))?"
    rf"(?:@(?P<period_from>{_MOMENT})(?:\.\.(?P<period_to>{_MOMENT}))?)?"
    rf"(?:\[(?P<valid_from>{_MOMENT})?\.\.(?P<valid_to>{_MOMENT})?\])?"
)


def _plain(name: str, meaning: str, cycle: Cycle) -> PeriodKind:
    """A kind that is only a word."""
    return PeriodKind(name, meaning, name, cycle=lambda _: cycle, words=lambda _: name)


def _week(parts: Parts) -> Cycle:
    a_monday = EPOCH - 3 * _DAY
    return _days(7, a_monday + WEEKDAYS.index(parts.period_day) * _DAY)


def _week_words(parts: Parts) -> str:
    return parts.period if parts.period_day == "monday" else f"week from {parts.period_day.title()}"


def _month_words(parts: Parts) -> str:
    return parts.period if parts.period_day == "1" else f"month from day {parts.period_day}"


def _amount(parts: Parts) -> int:
    return int(parts.period[:-1])


def _windows(parts: Parts, unit: str) -> str:
    amount = _amount(parts)
    return f"{unit if amount == 1 else f'{amount} {unit}s'} from {parts.period_from}"


def _once(parts: Parts) -> Cycle:
    return _Bounded(None, _reading_of(parts.period_from), _reading_of(parts.period_to))


def _once_words(parts: Parts) -> str:
    until = f" until {parts.period_to}" if parts.period_to else ""
    return f"once from {parts.period_from}{until}"


PERIOD_KINDS: tuple[PeriodKind, ...] = (
    _plain("day", "from midnight to midnight", _days(1, EPOCH)),
    PeriodKind(
        "week",
        "seven days from Monday (ISO 8601), or from the weekday that `period_day` names",
        "week",
        cycle=_week,
        words=_week_words,
        takes=("period_day",),
        day="monday",
    ),
    PeriodKind(
        "month",
        "from the first, or from the day that `period_day` names (1 to 31); a month without that day"
        " begins on its last",
        "month",
        cycle=lambda parts: _months(1, int(parts.period_day)),
        words=_month_words,
        takes=("period_day",),
        day="1",
    ),
    _plain("quarter", "from the first of January, April, July or October", _months(3)),
    _plain("year", "from the first of January", _months(12)),
    PeriodKind(
        "12h",
        f"so many hours (up to {MAX_HOURS:,}), again and again, counted from `period_from`",
        r"[1-9]\d{0,4}h",
        cycle=lambda parts: _Hours(_amount(parts), datetime.fromisoformat(parts.period_from)),
        words=lambda parts: _windows(parts, "hour"),
        often="every ",
        takes=("period_from",),
        needs=("period_from",),
    ),
    PeriodKind(
        "30d",
        f"so many days (up to {MAX_DAYS:,}), again and again, counted from `period_from`",
        r"[1-9]\d{0,4}d",
        cycle=lambda parts: _days(_amount(parts), datetime.fromisoformat(parts.period_from)),
        words=lambda parts: _windows(parts, "day"),
        often="every ",
        takes=("period_from",),
        needs=("period_from",),
    ),
    PeriodKind(
        "once",
        "from `period_from` until `period_to`, or without an end; the budget limits nothing before"
        " and after",
        "once",
        cycle=_once,
        words=_once_words,
        often="",
        takes=("period_from", "period_to"),
        needs=("period_from",),
        valid=(),
    ),
)
"""All kinds of period, in the order in which people read of them."""
