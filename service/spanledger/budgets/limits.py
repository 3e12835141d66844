"""An account's limit at a moment, and how a budget's limit changes over time. Pure.

A limit is computed whenever it is asked for, never reset by a job: from the budget, the account's
period, the time, and what the account of the period before has left. Money is nano-USD, times are
Unix seconds.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from spanledger.budgets.model import NOTHING_NOTED, Budget, LimitParts, Noted, Raise
from spanledger.budgets.periods import Period, period_at, renewal
from spanledger.errors import UsageError

if TYPE_CHECKING:
    from spanledger.budgets.accounts import AccountKey, Balance

MAX_RAISES = 32
"""Raises of one budget that may be in force or to come at once."""
When = Literal["", "now", "next-period"]
"""From when on a changed limit holds; empty: from now on, but an equal one changes nothing."""


def limit_at(
    key: AccountKey, budget: Budget, now_s: int, before: Balance | None = None
) -> LimitParts:
    """An account's limit at a moment.

    Args:
        before: the account of the period before, of a budget that rolls over (`key_before`); None if
            nothing was counted there.
    """
    base = base_limit(budget, key.period_start_s)
    earlier = key_before(budget, key)
    rolled = 0 if earlier is None else rolled_nano(budget, earlier, before)
    return LimitParts(base, rolled, raised_nano(budget, now_s))


def base_limit(budget: Budget, period_start_s: int) -> int:
    """A budget's limit for the period that begins then."""
    for until_s, nano in budget.noted.earlier:
        if period_start_s < until_s:
            return nano
    return budget.limit_nano


def raised_nano(budget: Budget, now_s: int) -> int:
    """All raises of a moment."""
    return sum(nano for nano, from_s, until_s in budget.noted.raises if from_s <= now_s < until_s)


def is_plain(budget: Budget) -> bool:
    """Whether the limits of its accounts depend on nothing but the period."""
    return not (budget.noted.raises or budget.rolls_over)


def key_before(budget: Budget, key: AccountKey) -> AccountKey | None:
    """The account whose rest rolls over into this one: that of the period before, if the budget rolled
    over by then."""
    if not budget.rolls_over or key.period_start_s <= budget.noted.rollover_since_s:
        return None
    period = period_at(key.period, key.timezone, key.period_start_s - 1)
    return key._replace(period_start_s=period.start_s) if period.counts else None


def rolled_nano(budget: Budget, earlier: AccountKey, before: Balance | None) -> int:
    """What was left of a period's own limit, up to the cap. What had rolled over into that period is
    spent last and not carried on; what is still held counts as spent."""
    own = base_limit(budget, earlier.period_start_s)
    used = 0 if before is None else before.spent_nano + before.held_nano
    cap = budget.rollover_nano or own * budget.rollover_percent // 100
    return max(0, min(own - used, cap))


# changes ------------------------------------------------------------------------------------


def noting(before: Budget | None, after: Budget, now_s: int, when: When = "") -> Budget:
    """A budget as the ledger stores it when somebody writes it: with what is to be noted.

    Args:
        when: `next-period` is for a limit that changes; anything else changes at once.

    Raises:
        UsageError: there is no next period.
    """
    if before is None:
        return replace(after, noted=_begun(after, now_s))
    if when == "next-period" and before.limit_nano == after.limit_nano:
        when = ""
    pending = next_limit(before, now_s) is not None
    if before.written == after.written and not (pending and when == "now"):
        return before
    raises = tuple(r for r in before.noted.raises if r.until_s > now_s)
    if before.counts != after.counts:
        if when == "next-period":
            raise UsageError(
                f"budget {after.name!r} gets other periods or another subject, which applies at once:"
                " change its limit from the next period on in a step of its own"
            )
        return replace(after, noted=_begun(after, now_s)._replace(raises=raises))
    period = period_at(after.period, after.timezone, now_s)
    earlier = _earlier(before, after, period, when)
    since_s = before.noted.rollover_since_s if before.rolls_over else period.start_s
    return replace(after, noted=Noted(earlier, raises, since_s if after.rolls_over else 0))


def _begun(budget: Budget, now_s: int) -> Noted:
    if not budget.rolls_over:
        return NOTHING_NOTED
    return Noted(rollover_since_s=period_at(budget.period, budget.timezone, now_s).start_s)


def _earlier(
    before: Budget, after: Budget, period: Period, when: When
) -> tuple[tuple[int, int], ...]:
    """The limits of this period and those before it that differ from the new one."""
    start_s, end_s = period.start_s, period.end_s
    present = base_limit(before, start_s)
    # Of past periods, only the last one's limit is still asked for, and only to see what rolls over.
    rolls = before.rolls_over and after.rolls_over
    past_s = period_at(after.period, after.timezone, start_s - 1).start_s if rolls else start_s
    past = tuple(e for e in before.noted.earlier if past_s < e[0] <= start_s)
    if when == "next-period":
        if not period.counts or renewal(after.period, after.timezone, end_s) != "renews":
            raise UsageError(
                f"budget {after.name!r} has no next period: leave out --from to change its limit now"
            )
        return (*past, (end_s, present)) if present != after.limit_nano else past
    if when != "now" and before.limit_nano == after.limit_nano:
        return (*past, *(e for e in before.noted.earlier if e[0] > start_s))
    if rolls and not past and present != after.limit_nano:
        return ((start_s, present),)
    return past


def raised(budget: Budget, nano: int, now_s: int, from_s: int, until_s: int) -> Budget:
    """The budget with one more raise.

    Raises:
        UsageError: it ends before it begins, or there are too many.
    """
    if until_s <= from_s:
        raise UsageError("--until must be later than now and than --from")
    noted = budget.noted
    raises = (*(r for r in noted.raises if r.until_s > now_s), Raise(nano, from_s, until_s))
    if len(raises) > MAX_RAISES:
        raise UsageError(
            f"budget {budget.name!r} has {MAX_RAISES} raises already; wait until one ends, or end them"
            " with --end"
        )
    return replace(budget, noted=noted._replace(raises=raises))


def without_raises(budget: Budget) -> Budget:
    """The budget with all its raises ended or called off."""
    return replace(budget, noted=budget.noted._replace(raises=()))


def next_limit(budget: Budget, now_s: int) -> tuple[int, int] | None:
    """When the limit changes next, with the period that begins then, and what it is from then on."""
    for index, (until_s, _) in enumerate(budget.noted.earlier):
        if until_s > now_s:
            following = budget.noted.earlier[index + 1 : index + 2]
            return until_s, following[0][1] if following else budget.limit_nano
    return None
