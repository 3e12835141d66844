"""Steps of a limit: when they are reached, how far the next one is, and what runs out early."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prometheus.src.thresholds import Thresholds
from spanledger.budgets import steps
from spanledger.budgets.model import Budget, BudgetState, LimitParts
from spanledger.budgets.steps import reached, runs_out_at, steps_of, until_next

DAY = 86_400
MONTH = 30 * DAY
BUDGET = Budget("b", "customer", "acme", 1_000, "30d@2026-01-01")
STEPS = steps_of(BUDGET)


def state(spent: int, limit: int = 1_000, held: int = 0) -> BudgetState:
    """An account of a period of thirty days."""
    return BudgetState(BUDGET, "acme", spent, held, 0, 0, MONTH, LimitParts(limit))


@pytest.mark.parametrize(
    ("spent", "found"),
    [
        (0, []),
        (499, []),
        (500, [50]),
        (799, [50]),
        (800, [50, 80]),
        (950, [50, 80, 95]),
        (989, [50, 80, 95]),
        (990, [50, 80, 95, 100]),
        (5_000, [50, 80, 95, 100]),
    ],
)
def test_steps_are_reached_at_their_share(spent: int, found: list[int]) -> None:
    """The limit counts as reached at 99 %: a budget that blocks is not spent to the last cent."""
    assert reached(state(spent), STEPS) == found


def test_a_refusal_is_the_limit_of_an_account_that_is_nearly_full() -> None:
    """What is held counts for that, because it is why there is no room."""
    assert 100 in reached(state(600, held=150), STEPS, refused=True)
    assert 100 not in reached(state(600, held=149), STEPS, refused=True)
    assert 100 not in reached(state(750), STEPS)


def test_a_limit_of_nothing_has_no_steps() -> None:
    """It blocks somebody on purpose."""
    assert reached(state(10, limit=0), STEPS, refused=True) == []


def test_a_budget_has_its_thresholds_and_its_limit() -> None:
    """Further percentages are added, and none comes twice."""
    assert steps_of(replace(BUDGET, thresholds=(90, 100)), (10, 90)) == (10, 90, 100)


@given(
    st.integers(0, 10**12),
    st.integers(1, 10**12),
    st.sets(st.integers(1, 100), min_size=1, max_size=5),
)
def test_the_next_step_is_exactly_that_far(spent: int, limit: int, percents: set[int]) -> None:
    """With a nano-dollar less, nothing more is reached; with it, something is."""
    account = state(spent, limit)
    left = until_next(account, percents)
    before = reached(account, percents)
    if left is None:
        assert set(before) == percents
        return
    assert left > 0
    assert reached(replace(account, spent_nano=spent + left - 1), percents) == before
    assert len(reached(replace(account, spent_nano=spent + left), percents)) > len(before)


def test_what_runs_out_early_is_foreseen() -> None:
    """Half spent in a tenth of the period: it lasts for a fifth of it."""
    assert runs_out_at(state(500), 3 * DAY) == 6 * DAY


@pytest.mark.parametrize(
    ("spent", "now_s"),
    [
        (500, 3 * DAY - 1),  # the first days decide nothing yet
        (333, 3 * DAY),  # little is spent
        (950, 3 * DAY),  # the last threshold has told already
        (500, 15 * DAY),  # as fast as planned
        (0, 10 * DAY),
        (500, MONTH),  # over
    ],
)
def test_what_is_uncertain_or_late_is_not_foreseen(spent: int, now_s: int) -> None:
    """As the alert BudgetWillExhaustEarly has it."""
    assert runs_out_at(state(spent), now_s) is None


def test_a_day_is_not_foreseen() -> None:
    """Its noon says nothing about its night."""
    short = replace(state(500), period_end_s=DAY)
    assert runs_out_at(short, DAY // 10) is None


def test_alerts_have_the_same_figures() -> None:
    """So Grafana, Alertmanager and notices tell the same."""
    alerts = Thresholds()
    ours = (
        steps.EXHAUSTED_PERCENT / 100,
        steps.REFUSED_PERCENT / 100,
        steps.FORECAST_MIN_PERIOD_S,
        float(steps.FORECAST_MIN_ELAPSED),
        float(steps.FORECAST_MIN_USED),
        float(steps.FORECAST_MOST_USED),
        float(steps.FORECAST_LATEST),
    )
    assert ours == (
        alerts.exhausted_ratio,
        alerts.refused_ratio,
        alerts.forecast_min_period_s,
        alerts.forecast_min_elapsed,
        alerts.forecast_min_used,
        alerts.forecast_most_used,
        alerts.forecast_latest,
    )
