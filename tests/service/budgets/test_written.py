"""Periods as people write them: what is understood, and every mistake at once."""

from __future__ import annotations

import pytest

from spanledger.budgets.periods import Parts, parts_of
from spanledger.budgets.written import changed, read_period


@pytest.mark.parametrize(
    ("written", "zone", "text"),
    [
        (Parts("month"), "UTC", "month"),
        (Parts("month", "1"), "UTC", "month"),
        (Parts("month", "31"), "UTC", "month/31"),
        (Parts("week", "Monday"), "UTC", "week"),
        (Parts("week", "Sunday"), "UTC", "week/sunday"),
        (Parts("year"), "UTC", "year"),
        (Parts("30d", "", "2026-01-01"), "UTC", "30d@2026-01-01"),
        (Parts("12h", "", "2026-01-01 09:30"), "UTC", "12h@2026-01-01T09:30"),
        (Parts("12h", "", "2026-01-01T09:30:05"), "UTC", "12h@2026-01-01T09:30:05"),
        (Parts("12h", "", "2025-12-31T23:00Z"), "Europe/Berlin", "12h@2026-01-01"),
        (Parts("once", "", "2026-01-01"), "UTC", "once@2026-01-01"),
        (Parts("once", "", "2026-01-01", "2026-04-01"), "UTC", "once@2026-01-01..2026-04-01"),
        (Parts("day", "", "", "", "2026-01-01"), "UTC", "day[2026-01-01..]"),
        (Parts("year", "", "", "", "", "2026-01-01"), "UTC", "year[..2026-01-01]"),
        (
            Parts("5h", "", "2026-01-01", "", "2026-01-01 09:30", "2026-02-01"),
            "UTC",
            "5h@2026-01-01[2026-01-01T09:30..2026-02-01]",
        ),
    ],
)
def test_what_is_written_is_understood(written: Parts, zone: str, text: str) -> None:
    """It is kept in one form: what goes without saying is left out, and moments are the zone's."""
    parts, mistakes = read_period(written, zone)

    assert mistakes == []
    assert parts.text == text
    assert parts_of(text) == parts


@pytest.mark.parametrize(
    ("written", "wrong"),
    [
        (Parts("fortnight"), {"period": "is not a period"}),
        (Parts("months"), {"period": "did you mean 'month'?"}),
        (Parts("month", "32"), {"period_day": "write 1 to 31"}),
        (Parts("month", "0"), {"period_day": "write 1 to 31"}),
        (Parts("month", "sunday"), {"period_day": "write 1 to 31"}),
        (Parts("week", "sundy"), {"period_day": "did you mean 'sunday'?"}),
        (Parts("week", "3"), {"period_day": "write one of monday"}),
        (Parts("day", "3"), {"period_day": "remove it, or use week or month"}),
        (Parts("30d"), {"period_from": "is missing"}),
        (Parts("4000d", "", "2026-01-01"), {"period": "longer than 3660d"}),
        (Parts("0d", "", "2026-01-01"), {"period": "is not a period"}),
        (Parts("once", "", "2026-01-01", "2026-01-01"), {"period_to": "later than period_from"}),
        (Parts("once", "", "2026-01-01", "", "2026-01-01"), {"valid_from": "period_from instead"}),
        (
            Parts("day", "", "", "", "2026-01-02", "2026-01-01"),
            {"valid_to": "later than valid_from"},
        ),
        (Parts("once", "", "soon"), {"period_from": "is not a moment"}),
        (Parts("once", "", "2026-01-01T00:00:00.5"), {"period_from": "more exact than a second"}),
        (Parts("once", "", "1066-10-14"), {"period_from": "between 1970 and 2199"}),
        (
            Parts("9999h", "5", "yesterday", "tomorrow"),
            {
                "period": "longer than",
                "period_day": "remove it",
                "period_from": "is not a moment",
                "period_to": "remove it, or use once",
            },
        ),
    ],
)
def test_every_mistake_is_found(written: Parts, wrong: dict[str, str]) -> None:
    """Each is reported for the field that it is in, and says what to write."""
    _, mistakes = read_period(written, "UTC")

    assert {mistake.part for mistake in mistakes} == set(wrong)
    for mistake in mistakes:
        assert wrong[mistake.part] in mistake.text


def test_the_second_time_of_a_reading_is_refused() -> None:
    """A period is written down as what clocks show, which would mean the first time."""
    first, second = "2026-10-25T00:30Z", "2026-10-25T01:30Z"

    assert read_period(Parts("12h", "", first), "Europe/Berlin")[1] == []
    [mistake] = read_period(Parts("12h", "", second), "Europe/Berlin")[1]
    assert "twice" in mistake.text


@pytest.mark.parametrize(
    ("before", "given", "after"),
    [
        ("month/31", Parts(""), "month/31"),
        ("month/31", Parts("", "15"), "month/15"),
        ("month/31", Parts("month"), "month/31"),
        ("month/31", Parts("week"), "week"),
        ("30d@2026-01-01", Parts("10d"), "10d@2026-01-01"),
        ("30d@2026-01-01", Parts("", "", "2026-02-01"), "30d@2026-02-01"),
        ("day[2026-01-01..]", Parts("month"), "month[2026-01-01..]"),
        ("day[2026-01-01..]", Parts("once", "", "2026-02-01"), "once@2026-02-01"),
        ("once@2026-01-01", Parts("", "", "", "2026-04-01"), "once@2026-01-01..2026-04-01"),
    ],
)
def test_a_change_keeps_what_still_fits(before: str, given: Parts, after: str) -> None:
    """Of a period of the same kind, what is not given stays; another kind begins again."""
    parts, mistakes = read_period(changed(parts_of(before), given), "UTC")

    assert mistakes == []
    assert parts.text == after
