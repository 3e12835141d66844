"""Periods: every moment has one, and calendars with gaps do not break them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from spanledger.budgets.periods import (
    BEGINNING_S,
    FOREVER_S,
    MAX_DAYS,
    MAX_HOURS,
    PERIOD_KINDS,
    WEEKDAYS,
    every,
    first_moment,
    kind_of,
    parts_of,
    period_at,
    renewal,
    shown_period,
)

ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Asia/Kathmandu",
    "Asia/Beirut",
    "Pacific/Apia",
    "America/St_Johns",
]
BACK_OVER_MIDNIGHT = int(datetime(2002, 10, 27, 2, 59, tzinfo=UTC).timestamp())
"""In Newfoundland it is 23:29 on October 26th, for the second time: at 00:01 on the 27th the clocks
went back by an hour."""
SKIPPED = int(datetime(2011, 12, 30, 10, tzinfo=UTC).timestamp())
"""In Samoa, 29 December has ended and the 31st begins."""


READINGS = st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1)).map(  # noqa: DTZ001 - what clocks show
    lambda reading: reading.replace(microsecond=0)
)
MOMENTS = READINGS.map(lambda reading: reading.isoformat()) | READINGS.map(
    lambda reading: reading.date().isoformat()
)


@st.composite
def texts(draw: st.DrawFn) -> str:
    """Any period."""
    kind = draw(st.sampled_from(["word", "week", "month", "hours", "days", "once", "for good"]))
    since, until = sorted((draw(MOMENTS), draw(MOMENTS)))
    found = {
        "word": draw(st.sampled_from(["day", "week", "month", "quarter", "year"])),
        "week": f"week/{draw(st.sampled_from(WEEKDAYS[1:]))}",
        "month": f"month/{draw(st.integers(2, 31))}",
        "hours": f"{draw(st.integers(1, MAX_HOURS))}h@{since}",
        "days": f"{draw(st.integers(1, MAX_DAYS))}d@{since}",
        "once": f"once@{since}..{until}",
        "for good": f"once@{since}",
    }[kind]
    if kind.startswith(("once", "for")) or draw(st.booleans()):
        return found
    first, last = sorted((draw(MOMENTS), draw(MOMENTS)))
    return found + draw(st.sampled_from([f"[{first}..{last}]", f"[{first}..]", f"[..{last}]"]))


@given(
    text=texts(),
    zone=st.sampled_from(ZONES) | st.sampled_from(sorted(available_timezones())),
    at_s=st.integers(0, 4_200_000_000),
)
@example(text="day", zone="America/St_Johns", at_s=BACK_OVER_MIDNIGHT)
@example(text="week", zone="America/St_Johns", at_s=BACK_OVER_MIDNIGHT)
@example(text="day", zone="Pacific/Apia", at_s=SKIPPED)
@example(text="day", zone="Pacific/Apia", at_s=SKIPPED - 1)
@example(text="month/30", zone="Pacific/Apia", at_s=SKIPPED)
@example(text="1h@2026-03-29T02:30", zone="Europe/Berlin", at_s=BACK_OVER_MIDNIGHT)
def test_periods_tile_time(text: str, zone: str, at_s: int) -> None:
    """Each moment lies in exactly one period, the next begins where it ends, and that before ends where
    it begins."""
    assume(one_after_the_other(text, zone))
    period = period_at(text, zone, at_s)

    assert period.start_s <= at_s < period.end_s
    assert period_at(text, zone, period.start_s) == period
    assert period_at(text, zone, period.end_s - 1) == period
    if period.end_s != FOREVER_S:
        assert period_at(text, zone, period.end_s).start_s == period.end_s
    if period.start_s != BEGINNING_S:
        assert period_at(text, zone, period.start_s - 1).end_s == period.start_s


def one_after_the_other(text: str, zone: str) -> bool:
    """Whether what counts ends after it begins, which is checked when it is set."""
    parts = parts_of(text)
    ends = [parts.period_from, parts.period_to] if "once" in text else [*parts[-2:]]
    if not all(ends):
        return True
    first, last = (
        first_moment(datetime.fromisoformat(reading), ZoneInfo(zone)) for reading in ends
    )
    return first < last


@given(text=texts(), zone=st.sampled_from(ZONES), at_s=st.integers(100_000_000, 4_000_000_000))
def test_clocks_show_the_beginning(text: str, zone: str, at_s: int) -> None:
    """At a period's first second, clocks show what was written for the first time: a second earlier
    they have not reached it, unless they are set back later."""
    period = period_at(text, zone, at_s)
    assume(period.counts and "h@" not in text and "[" not in text)
    shown, before = (
        datetime.fromtimestamp(moment, ZoneInfo(zone)).replace(tzinfo=None)
        for moment in (period.start_s, period.start_s - 1)
    )

    assert before < shown
    parts = parts_of(text)
    time = datetime.fromisoformat(parts.period_from).time() if parts.period_from else None
    if shown - before == timedelta(seconds=1):  # no change of the clocks at this very moment
        assert shown.time() == (time or datetime.min.time())
        if text.startswith("week"):
            assert shown.strftime("%A").lower() == parts.period_day
        if text.startswith("month"):
            last = (shown + timedelta(days=1)).month != shown.month
            day = int(parts.period_day)
            assert shown.day == day or (last and shown.day < day)


@given(text=texts())
def test_a_text_is_its_parts(text: str) -> None:
    """What is taken apart and put together is the same period."""
    again = parts_of(parts_of(text).text)

    assert again == parts_of(text)
    assert period_at(again.text, "UTC", SKIPPED) == period_at(text, "UTC", SKIPPED)


@pytest.mark.parametrize(
    ("kind", "zone", "at", "start", "end"),
    [
        ("month", "Europe/Berlin", "2026-11-30T23:30Z", "2026-12-01T00:00", "2027-01-01T00:00"),
        ("month", "UTC", "2028-02-29T23:59:59Z", "2028-02-01T00:00", "2028-03-01T00:00"),
        ("week", "UTC", "2026-11-29T23:59:59Z", "2026-11-23T00:00", "2026-11-30T00:00"),
        ("week", "UTC", "2027-01-01T00:00Z", "2026-12-28T00:00", "2027-01-04T00:00"),
        ("week", "UTC", "2026-12-28T00:00Z", "2026-12-28T00:00", "2027-01-04T00:00"),
        ("week", "UTC", "2024-12-30T00:00Z", "2024-12-30T00:00", "2025-01-06T00:00"),
        ("week", "Asia/Tokyo", "2026-12-27T15:00Z", "2026-12-28T00:00", "2027-01-04T00:00"),
        ("week", "Europe/Berlin", "2026-10-25T23:30Z", "2026-10-26T00:00", "2026-11-02T00:00"),
        ("day", "America/New_York", "2026-11-01T12:00Z", "2026-11-01T00:00", "2026-11-02T00:00"),
        ("month/31", "UTC", "2026-02-28T00:00Z", "2026-02-28T00:00", "2026-03-31T00:00"),
        ("month/31", "UTC", "2026-04-29T00:00Z", "2026-03-31T00:00", "2026-04-30T00:00"),
        ("month/31", "UTC", "2028-02-28T23:59Z", "2028-01-31T00:00", "2028-02-29T00:00"),
        ("month/15", "Asia/Tokyo", "2026-12-14T15:00Z", "2026-12-15T00:00", "2027-01-15T00:00"),
        ("week/sunday", "UTC", "2026-11-28T23:59Z", "2026-11-22T00:00", "2026-11-29T00:00"),
        ("week/saturday", "UTC", "2026-11-28T00:00Z", "2026-11-28T00:00", "2026-12-05T00:00"),
        ("quarter", "Europe/Berlin", "2026-03-31T22:00Z", "2026-04-01T00:00", "2026-07-01T00:00"),
        ("year", "America/New_York", "2027-01-01T04:59Z", "2026-01-01T00:00", "2027-01-01T00:00"),
        ("30d@2026-01-01", "UTC", "2026-01-31T00:00Z", "2026-01-31T00:00", "2026-03-02T00:00"),
        ("30d@2026-01-01", "UTC", "2025-12-31T00:00Z", "2025-12-02T00:00", "2026-01-01T00:00"),
        # Days keep their time across a clock change; hours are counted.
        (
            "2d@2026-03-28T09:30",
            "Europe/Berlin",
            "2026-03-30T07:29Z",
            "2026-03-28T09:30",
            "2026-03-30T09:30",
        ),
        (
            "12h@2026-03-28",
            "Europe/Berlin",
            "2026-03-29T12:00Z",
            "2026-03-29T13:00",
            "2026-03-30T01:00",
        ),
        (
            "once@2026-01-01..2026-04-01",
            "Asia/Tokyo",
            "2026-03-31T14:59Z",
            "2026-01-01T00:00",
            "2026-04-01T00:00",
        ),
        # Half past two does not exist on that day, and comes twice on this one.
        (
            "1d@2026-01-01T02:30",
            "Europe/Berlin",
            "2026-03-29T06:00Z",
            "2026-03-29T03:00",
            "2026-03-30T02:30",
        ),
        (
            "1d@2026-01-01T02:30",
            "Europe/Berlin",
            "2026-10-25T01:30Z",
            "2026-10-25T02:30",
            "2026-10-26T02:30",
        ),
    ],
)
def test_period_by_hand(kind: str, zone: str, at: str, start: str, end: str) -> None:
    """Examples calculated by hand: zones, a leap day, ISO weeks over New Year."""
    local = ZoneInfo(zone)
    period = period_at(kind, zone, int(datetime.fromisoformat(at).timestamp()))

    assert datetime.fromtimestamp(period.start_s, local).strftime("%Y-%m-%dT%H:%M") == start
    assert datetime.fromtimestamp(period.end_s, local).strftime("%Y-%m-%dT%H:%M") == end


@pytest.mark.parametrize(
    ("kind", "day", "hours"),
    [
        ("day", "2026-03-29", 23),
        ("day", "2026-10-25", 25),
        ("week", "2026-03-29", 7 * 24 - 1),
        ("week", "2026-10-25", 7 * 24 + 1),
        ("month", "2026-03-29", 31 * 24 - 1),
        ("month", "2026-10-25", 31 * 24 + 1),
    ],
)
def test_periods_of_a_clock_change(kind: str, day: str, hours: int) -> None:
    """A period that a clock change shortens or lengthens is one period, not two."""
    noon = int(datetime.fromisoformat(f"{day}T12:00").replace(tzinfo=UTC).timestamp())
    period = period_at(kind, "Europe/Berlin", noon)

    assert period.end_s - period.start_s == hours * 3600


def test_a_midnight_that_does_not_exist() -> None:
    """Where clocks jump at midnight the day begins an hour later, and no period is lost."""
    noon = int(datetime(2026, 3, 29, 10, tzinfo=UTC).timestamp())
    period = period_at("day", "Asia/Beirut", noon)

    assert period.end_s - period.start_s == 23 * 3600
    assert datetime.fromtimestamp(period.start_s, ZoneInfo("Asia/Beirut")).hour == 1


def test_a_day_that_a_zone_skipped() -> None:
    """Samoa had no 30 December 2011: the 29th is followed by the 31st, and so are the months from the
    30th by the others."""
    zone = ZoneInfo("Pacific/Apia")
    before, after = (period_at("day", "Pacific/Apia", at_s) for at_s in (SKIPPED - 1, SKIPPED))

    assert before.end_s == after.start_s == SKIPPED
    assert datetime.fromtimestamp(before.start_s, zone).day == 29
    assert datetime.fromtimestamp(after.start_s, zone).day == 31
    assert after.end_s - after.start_s == 24 * 3600
    assert period_at("month/30", "Pacific/Apia", SKIPPED).start_s == SKIPPED


def test_a_midnight_within_what_clocks_skip() -> None:
    """In Toronto clocks went from 23:30 to 00:30 in 1919: the day began at half past twelve."""
    noon = int(datetime(1919, 3, 31, 16, tzinfo=UTC).timestamp())
    period = period_at("day", "America/Toronto", noon)

    assert datetime.fromtimestamp(period.start_s, ZoneInfo("America/Toronto")).hour == 0
    assert datetime.fromtimestamp(period.start_s, ZoneInfo("America/Toronto")).minute == 30


def test_a_one_time_period_counts_nothing_else() -> None:
    """Before and after it, time is whole as well, but belongs to no period of the budget."""
    text, zone = "once@2026-01-01..2026-04-01", "UTC"
    own = shown_period(text, zone, 0)
    before, after = (period_at(text, zone, at_s) for at_s in (own.start_s - 1, own.end_s))

    assert (before.counts, own.counts, after.counts) == (False, True, False)
    assert (before.end_s, after.start_s) == (own.start_s, own.end_s)
    assert period_at(text, zone, own.start_s) == shown_period(text, zone, FOREVER_S) == own
    assert period_at("once@2026-01-01", zone, own.end_s).end_s == FOREVER_S


@pytest.mark.parametrize(
    ("text", "often", "follows"),
    [
        ("day", "a day", "renews"),
        ("week", "a week", "renews"),
        ("week/sunday", "a week from Sunday", "renews"),
        ("month", "a month", "renews"),
        ("month/31", "a month from day 31", "renews"),
        ("quarter", "a quarter", "renews"),
        ("year", "a year", "renews"),
        ("1h@2026-01-01", "every hour from 2026-01-01", "renews"),
        ("30d@2026-01-01T09:30", "every 30 days from 2026-01-01T09:30", "renews"),
        ("once@2026-01-01", "once from 2026-01-01", "never"),
        ("once@2026-01-01..2026-04-01", "once from 2026-01-01 until 2026-04-01", "ends"),
        ("day[2026-01-01..]", "a day, valid from 2026-01-01", "renews"),
        ("year[..2026-04-01]", "a year, valid until 2026-04-01", "ends"),
    ],
)
def test_a_period_can_be_read(text: str, often: str, follows: str) -> None:
    """It follows an amount, and says what comes after it."""
    assert every(text) == often
    end_s = shown_period(text, "Asia/Tokyo", 4_000_000_000).end_s
    assert renewal(text, "Asia/Tokyo", end_s) == follows


@pytest.mark.parametrize(
    "text",
    [
        *("", "fortnight", "month/32", "month/sunday", "week/8", "day/2", "month/1/2", "month/"),
        *("day@2026-01-01", "12h", "0h@2026-01-01", "once", "once@x", "2026-01-01"),
        *("30d@2026-01-01..2026-02-01", "once@2026-01-01[2026-01-01..]", "day[2026-01-01]"),
    ],
)
def test_other_texts_are_refused(text: str) -> None:
    """A period that this version does not know must not count as another one."""
    with pytest.raises(ValueError, match="is not the text of a period"):
        period_at(text, "UTC", 0)


def test_every_kind_has_its_own_name() -> None:
    """The name of each kind is an example of it, and of no other."""
    assert [kind_of(kind.name) for kind in PERIOD_KINDS] == list(PERIOD_KINDS)


def test_a_valid_time_cuts_periods() -> None:
    """The first period begins with it and the last one ends with it; those between are whole."""
    text, zone = "month/31[2026-01-15..2026-04-10T12:00]", "UTC"
    at_s = shown_period(text, zone, 0).start_s
    found = []
    while (period := period_at(text, zone, at_s)).counts:
        found.append(datetime.fromtimestamp(period.start_s, UTC).strftime("%m-%d %H"))
        at_s = period.end_s
    found.append(datetime.fromtimestamp(at_s, UTC).strftime("%m-%d %H"))

    assert found == ["01-15 00", "01-31 00", "02-28 00", "03-31 00", "04-10 12"]
    assert shown_period(text, zone, FOREVER_S).end_s == at_s
