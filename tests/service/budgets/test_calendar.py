"""Periods against a calendar that walks through a hundred years, one day after the other."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import date
from itertools import pairwise

import pytest

from spanledger.budgets.periods import Period, period_at
from tests.service.budgets import wall_calendar as wall

YEARS = (1970, 2069)
ZONES = (
    "UTC",
    "Africa/Casablanca",  # clocks go back for Ramadan
    "Africa/Monrovia",  # 44 minutes and 30 seconds behind until 1972
    "America/Asuncion",  # changes at midnight
    "America/Havana",  # clocks go back from 01:00 to midnight
    "America/New_York",
    "America/Santiago",  # midnights that do not exist
    "America/Sao_Paulo",  # the same
    "America/St_Johns",  # half hours; changes a minute after midnight
    "Antarctica/Troll",  # two hours at once
    "Asia/Beirut",  # midnights that do not exist
    "Asia/Gaza",  # changes of every kind
    "Asia/Kathmandu",  # quarters of hours
    "Asia/Tehran",  # midnights that come twice
    "Australia/Lord_Howe",  # half an hour of summer time
    "Europe/Berlin",
    "Europe/London",
    "Pacific/Apia",  # skipped 30 December 2011
    "Pacific/Kiritimati",  # skipped 31 December 1994 or 1 January 1995
    "Pacific/Kwajalein",  # skipped 21 August 1993
)


ALL = os.environ.get("SPANLEDGER_TEST_CALENDAR") == "all"
"""Otherwise a tenth of the days and weeks without a change of the clocks, and a fifth of the billing months."""


def differences(text: str, zone: str, due: Callable[[date], bool]) -> list[str]:
    """Periods that are not those of the calendar, seen from their first and their last second."""
    begin = wall.beginnings(zone, *YEARS, due)
    assert len(begin) >= 100
    return [
        f"{text} in {zone} at {wall.text(at_s)}: {found} instead of {start_s}, {end_s}"
        for number, (start_s, end_s) in enumerate(pairwise(begin))
        if ALL or len(begin) < 2_000 or number % 10 == 0 or (end_s - start_s) % wall.DAY_S
        for at_s in (start_s, end_s - 1)
        if (found := period_at(text, zone, at_s)) != Period(start_s, end_s)
    ]


@pytest.mark.parametrize("zone", ZONES)
def test_a_hundred_years_of_billing_months(zone: str) -> None:
    """From whichever day on they are counted, billing months are those of the calendar."""
    shift = ZONES.index(zone) % 7
    for number in range(1, 32) if ALL else (1, *range(2 + shift, 29, 7), 29, 30, 31):
        text = "month" if number == 1 else f"month/{number}"
        assert differences(text, zone, wall.begins_month(number)) == []


@pytest.mark.parametrize("zone", ZONES)
def test_a_hundred_years_of_other_periods(zone: str) -> None:
    """The same is true of days, weeks from any weekday, quarters, years and counted days."""
    assert differences("day", zone, lambda _: True) == []
    assert differences("week", zone, wall.begins_week(0)) == []
    for number, weekday in ((3, "thursday"), (5, "saturday"), (6, "sunday")):
        assert differences(f"week/{weekday}", zone, wall.begins_week(number)) == []
    assert differences("quarter", zone, wall.begins_quarter) == []
    assert differences("year", zone, wall.begins_year) == []
    for count in (1, 10, 30, 365):
        due = wall.begins_every(count, date(2026, 1, 31))
        assert differences(f"{count}d@2026-01-31", zone, due) == []
