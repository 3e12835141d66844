"""The steps of an account: the shares of its limit that people are notified of. Pure.

A step is of the limit in force, with what rolled over and was raised; grace is not part of it. The
alerts of Prometheus read the same facts with the same figures: a test compares these with
`prometheus/src/thresholds.py`, which gives the reasons.
"""

from __future__ import annotations

from collections.abc import Collection
from fractions import Fraction

from spanledger.budgets.model import Budget, BudgetState

LIMIT_STEP = 100
"""The limit itself."""
EXHAUSTED_PERCENT = 99
"""The limit counts as reached here: a budget that refuses requests is never spent to the last cent."""
REFUSED_PERCENT = 75
"""The same, if the budget has just refused a request: a small one has no room for it long before."""
FORECAST_MIN_PERIOD_S = 6 * 86_400
FORECAST_MIN_ELAPSED = Fraction(1, 10)
FORECAST_MIN_USED = Fraction(1, 3)
FORECAST_MOST_USED = Fraction(95, 100)
FORECAST_LATEST = Fraction(5, 6)
"""A forecast is told only if the limit is reached with a sixth of the period left."""


def steps_of(budget: Budget, more: Collection[int] = ()) -> tuple[int, ...]:
    """The percentages at which people are told: the budget's thresholds, further ones, and its limit."""
    return tuple(sorted({*budget.thresholds, *more, LIMIT_STEP}))


def reached(state: BudgetState, steps: Collection[int], *, refused: bool = False) -> list[int]:
    """The steps that an account has reached, in the given order.

    Args:
        refused: its budget has just refused a request of this account.
    """
    limit = state.limit_nano
    if limit <= 0:  # blocked on purpose
        return []
    used = max(0, state.spent_nano)
    return [
        step
        for step in steps
        if used * 100 >= limit * min(step, EXHAUSTED_PERCENT)
        or (step == LIMIT_STEP and refused and _nearly(state))
    ]


def _nearly(state: BudgetState) -> bool:
    return (state.spent_nano + state.held_nano) * 100 >= state.limit_nano * REFUSED_PERCENT


def until_next(state: BudgetState, steps: Collection[int]) -> int | None:
    """What may still be spent before another step is reached, nano-USD; None after the last one."""
    ahead = [min(step, EXHAUSTED_PERCENT) * state.limit_nano for step in steps]
    missing = [-(-(mark - state.spent_nano * 100) // 100) for mark in ahead]
    return min((nano for nano in missing if nano > 0), default=None)


def runs_out_at(state: BudgetState, now_s: int) -> int | None:
    """When an account reaches its limit at the mean pace of its period, Unix seconds; None if that is
    not early enough for a notice, or too uncertain."""
    length_s = state.period_end_s - state.period_start_s
    elapsed_s = now_s - state.period_start_s
    limit, spent = state.limit_nano, state.spent_nano
    if (
        limit <= 0
        or spent <= 0
        or length_s < FORECAST_MIN_PERIOD_S
        or not state.counts_at(now_s)
        or Fraction(elapsed_s, length_s) < FORECAST_MIN_ELAPSED
        or not FORECAST_MIN_USED <= Fraction(spent, limit) < FORECAST_MOST_USED
    ):
        return None
    lasts_s = elapsed_s * limit // spent
    if Fraction(lasts_s, length_s) >= FORECAST_LATEST:
        return None
    return state.period_start_s + lasts_s
