"""Budgets as people write them, in files and as options: periods are read into their text, and every
mistake that is not about one field alone is found at once. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple
from zoneinfo import ZoneInfo

from spanledger.budgets.actions import ACTIONS, AFTER, OPTIONS
from spanledger.budgets.periods import (
    MAX_DAYS,
    MAX_HOURS,
    MONTH_DAYS,
    PERIOD_KINDS,
    WEEKDAYS,
    Parts,
    PeriodKind,
    first_moment,
    kind_of,
)
from spanledger.money import parse_usd

POSSIBLE_YEARS = range(1970, 2200)
"""Years in which a period may begin or end: others are slips."""
_MOST = {"12h": MAX_HOURS, "30d": MAX_DAYS}
"""The largest amount, by the kind's name."""
_INSTEAD = {"valid_from": "period_from", "valid_to": "period_to"}
_EXAMPLE = "like 2026-01-01 or 2026-01-01T09:30"


class Mistake(NamedTuple):
    """What is wrong, and in which of the `Parts`."""

    part: str
    text: str


def read_period(written: Parts, timezone: str) -> tuple[Parts, list[Mistake]]:
    """Parts in the form that a period's text has, and their mistakes; with any, the text is not one.

    Args:
        timezone: a known zone. Moments without an offset from UTC are readings of its clocks.
    """
    kind = kind_of(written.period)
    if kind is None:
        return written, [Mistake("period", _unknown(written.period))]
    mistakes = _misplaced(kind, written)
    parts = written
    if kind.day:
        parts = parts._replace(period_day=written.period_day.lower() or kind.day)
        mistakes += _wrong_day(kind, parts.period_day)
    most = _MOST.get(kind.name)
    if most is not None and int(written.period[:-1]) > most:
        longest = f"{most}{kind.name[-1]}"
        mistakes.append(Mistake("period", f"{written.period!r} is longer than {longest}"))
    zone = ZoneInfo(timezone)
    for name in ("period_from", "period_to", "valid_from", "valid_to"):
        text = getattr(written, name)
        if text and name in (*kind.takes, *kind.valid):
            reading, wrong = _moment(text, zone)
            mistakes += [Mistake(name, what) for what in wrong]
            parts = parts._replace(**{name: reading})
    return parts, mistakes or _backwards(parts, zone)


def _backwards(parts: Parts, zone: ZoneInfo) -> list[Mistake]:
    """Ends that are not after their beginnings."""
    found = []
    for first, last in (("period_from", "period_to"), ("valid_from", "valid_to")):
        since, until = getattr(parts, first), getattr(parts, last)
        if since and until:
            ends = (datetime.fromisoformat(reading) for reading in (since, until))
            since_s, until_s = (first_moment(reading, zone) for reading in ends)
            if until_s <= since_s:
                found.append(Mistake(last, f"must be later than {first}"))
    return found


def changed(before: Parts, given: Parts) -> Parts:
    """What is given, and of the rest what it was before and still fits."""
    kind = kind_of(given.period or before.period)
    kept = before
    if kind is None or kind != kind_of(before.period):
        valid = {name: getattr(before, name) for name in (kind.valid if kind else ())}
        kept = Parts("", **valid)
    return Parts(*(new or old for new, old in zip(given, kept, strict=True)))


def _unknown(period: str) -> str:
    names = [kind.name for kind in PERIOD_KINDS]
    near = difflib.get_close_matches(period, names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return (
        f"{period!r} is not a period{hint or ';'} write one of day, week, month, quarter, year, once, a"
        " number of hours like 12h, or of days like 30d"
    )


def _misplaced(kind: PeriodKind, written: Parts) -> list[Mistake]:
    """Parts that the kind does not have, and those that it lacks."""
    found = []
    for name in Parts._fields[1:]:
        given = bool(getattr(written, name))
        if given and name in _INSTEAD and name not in kind.valid:
            found.append(
                Mistake(name, f"a period of {written.period!r} has {_INSTEAD[name]} instead")
            )
        elif given and name not in (*kind.takes, *kind.valid):
            having = " or ".join(other.name for other in PERIOD_KINDS if name in other.takes)
            found.append(
                Mistake(
                    name, f"a period of {written.period!r} has none; remove it, or use {having}"
                )
            )
        if not given and name in kind.needs:
            found.append(
                Mistake(name, f"is missing; a period of {written.period!r} needs it, {_EXAMPLE}")
            )
    return found


def _wrong_day(kind: PeriodKind, day: str) -> list[Mistake]:
    if kind.name == "week":
        if day in WEEKDAYS:
            return []
        near = difflib.get_close_matches(day, WEEKDAYS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; write one of {', '.join(WEEKDAYS)}"
        return [Mistake("period_day", f"{day!r} is not a weekday{hint}")]
    if day in MONTH_DAYS:
        return []
    return [Mistake("period_day", f"{day!r} is not a day of the month; write 1 to 31")]


def _moment(text: str, zone: ZoneInfo) -> tuple[str, list[str]]:
    """What clocks in a zone show at a moment, in the shortest form, and what is wrong with it."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return text, [f"{text!r} is not a moment; write one {_EXAMPLE}"]
    if moment.year not in POSSIBLE_YEARS:
        return text, [f"{text!r} is not between {POSSIBLE_YEARS[0]} and {POSSIBLE_YEARS[-1]}"]
    if moment.microsecond:
        return text, [f"{text!r} is more exact than a second"]
    reading = moment
    if moment.tzinfo is not None:
        reading = moment.astimezone(zone).replace(tzinfo=None, fold=0)
        if first_moment(reading, zone) != int(moment.astimezone(UTC).timestamp()):
            return text, [f"clocks in {zone.key} show {reading} twice, and this is the second time"]
    if reading == reading.replace(hour=0, minute=0, second=0):
        return reading.date().isoformat(), []
    return reading.isoformat(timespec="seconds" if reading.second else "minutes"), []


# what is left, and what happens near the limit ----------------------------------------------


def read_cap(rollover: bool | None, cap: str | None) -> tuple[int, int]:
    """What may roll over at most, as nano-USD and as a percentage of the limit; one of them is 0.

    Raises:
        ValueError: the cap is neither an amount nor a percentage.
    """
    if cap is None or rollover is False:
        return 0, 100 if rollover else 0
    if not cap.endswith("%"):
        return parse_usd(cap), 0
    digits = cap.removesuffix("%").strip()
    if not digits.isdecimal() or not 1 <= int(digits) <= 100:
        raise ValueError(f"{cap!r} is not a percentage; write 1% to 100%, or USD like 20")
    return 0, int(digits)


def rollover_mistakes(rollover: bool | None, cap: str | None) -> list[Mistake]:
    """What is wrong with a budget's roll-over."""
    if cap is None:
        return []
    if rollover is False:
        return [
            Mistake("rollover_cap", "nothing rolls over, so it has no cap; remove one of the two")
        ]
    try:
        if read_cap(rollover, cap) == (0, 0):
            return [Mistake("rollover_cap", "must be more than 0; leave it out for no cap")]
    except ValueError as error:
        return [Mistake("rollover_cap", str(error))]
    return []


def action_mistakes(action: str, given: Mapping[str, bool]) -> list[Mistake]:
    """What is wrong with what a budget does near its limit and at it.

    Args:
        given: whether each of the options of `actions` is given.
    """
    row = ACTIONS[action]
    found = [
        Mistake(name, f"is missing; a budget that does {action!r} needs it")
        for name in row.needs
        if not given[name]
    ]
    for name in OPTIONS:
        if not given[name]:
            continue
        after = AFTER.get(name)
        if not row.blocks:
            having = ", ".join(other.name for other in ACTIONS.values() if other.blocks)
            found.append(
                Mistake(name, f"a budget that only warns has none; remove it, or do {having}")
            )
        elif after and not given[after]:
            found.append(Mistake(name, f"says nothing without {after}"))
    return found
