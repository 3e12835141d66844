"""Periods against the hands of a clock: two ways to the same answer, which share no code."""

from __future__ import annotations

from zoneinfo import available_timezones

from hypothesis import assume, example, given
from hypothesis import strategies as st

from spanledger.budgets.periods import (
    BEGINNING_S,
    FOREVER_S,
    PERIOD_KINDS,
    kind_of,
    parts_of,
    period_at,
)
from tests.service.budgets.test_periods import (
    BACK_OVER_MIDNIGHT,
    SKIPPED,
    ZONES,
    one_after_the_other,
    texts,
)
from tests.service.budgets.wall_clock import label, shown_label
from tests.service.ledger.test_properties import PERIODS, any_period


@given(
    text=texts(),
    zone=st.sampled_from(ZONES) | st.sampled_from(sorted(available_timezones())),
    at_s=st.integers(100_000_000, 4_000_000_000),
)
@example(text="day", zone="America/St_Johns", at_s=BACK_OVER_MIDNIGHT)
@example(text="month/27", zone="America/St_Johns", at_s=BACK_OVER_MIDNIGHT)
@example(text="day", zone="Pacific/Apia", at_s=SKIPPED)
@example(text="week/friday", zone="Pacific/Apia", at_s=SKIPPED)
def test_a_period_is_what_clocks_show(text: str, zone: str, at_s: int) -> None:
    """All of a period has one label, which neither the period before nor the one after has."""
    assume(one_after_the_other(text, zone))
    period = period_at(text, zone, at_s)
    found = label(text, zone, at_s)

    assert period.counts == (found is not None)
    if period.end_s != FOREVER_S:
        assert label(text, zone, period.end_s - 1) == found
        assert not period.counts or label(text, zone, period.end_s) != found
    if period.start_s > BEGINNING_S:
        assert label(text, zone, period.start_s) == found
        assert not period.counts or label(text, zone, period.start_s - 1) != found
    assert found in (None, shown_label(text, zone, at_s))


@given(text=any_period())
def test_models_try_any_period(text: str) -> None:
    """What property tests of the ledger draw is a period, also near the moments at which they begin."""
    assert parts_of(text).text == text


def test_models_try_every_kind_of_period() -> None:
    """Each kind is among those that property tests of the ledger have in any case."""
    kinds = {kind_of(parts_of(text).period) for text in PERIODS}

    assert kinds == set(PERIOD_KINDS)
