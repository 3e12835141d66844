"""Periods: every moment has one, and calendars with gaps do not break them."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from spanledger.budgets.model import PeriodKind
from spanledger.budgets.periods import period_at

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


@given(
    kind=st.sampled_from(["day", "week", "month"]),
    zone=st.sampled_from(ZONES),
    at_s=st.integers(1_000_000_000, 4_000_000_000),
)
@example(kind="day", zone="America/St_Johns", at_s=BACK_OVER_MIDNIGHT)
@example(kind="week", zone="America/St_Johns", at_s=BACK_OVER_MIDNIGHT)
def test_periods_tile_time(kind: PeriodKind, zone: str, at_s: int) -> None:
    """Each moment lies in exactly one period, and the next begins where it ends."""
    period = period_at(kind, zone, at_s)

    assert period.start_s <= at_s < period.end_s
    assert period_at(kind, zone, period.start_s) == period
    assert period_at(kind, zone, period.end_s - 1) == period
    assert period_at(kind, zone, period.end_s).start_s == period.end_s


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
    ],
)
def test_period_by_hand(kind: PeriodKind, zone: str, at: str, start: str, end: str) -> None:
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
def test_periods_of_a_clock_change(kind: PeriodKind, day: str, hours: int) -> None:
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
