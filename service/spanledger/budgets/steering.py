"""What budgets do to requests near their limit: let fewer of them through, or send them to another
route. Pure functions over accounts; a request that they refuse or move changes nothing.

Near the limit means that the account has *spent* a percentage of its limit as of now. What is held
does not count, because most of a hold is usually given back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from spanledger.budgets.accounts import Account, refusal_of
from spanledger.budgets.model import Budget
from spanledger.errors import BudgetDegradesError, BudgetThrottledError

SECOND_NS = 1_000_000_000
MINUTE_NS = 60 * SECOND_NS


class Incoming(NamedTuple):
    """What a request asks for.

    Attributes:
        route: the route of its next attempt.
        movable: it may be served by another route.
        moved_by: budgets that have sent it to the route already.
        first: it had no attempt yet; further ones are not counted.
    """

    route: str
    movable: bool
    moved_by: tuple[str, ...]
    first: bool
    now_ns: int


def steers(budget: Budget) -> bool:
    """Whether a budget may throttle requests or send them elsewhere."""
    return bool(budget.throttle_to or budget.degrade_to)


def near_nano(budget: Budget, limit_nano: int) -> int:
    """What an account must have spent for the first of these to begin."""
    steps = []
    if budget.throttle_to:
        steps.append(budget.throttle_at)
    if budget.degrade_to:
        steps.append(budget.degrade_at)
    return _share(limit_nano, min(steps))


def check_route(accounts: Sequence[Account], asked: Incoming) -> None:
    """Send a request elsewhere if a budget says so.

    Raises:
        BudgetDegradesError: the route, and the budget.
    """
    if not asked.movable:
        return
    for account in accounts:
        budget = account.budget
        if (
            budget.degrade_to not in ("", asked.route)
            and budget.name not in asked.moved_by
            and _is_near(account, budget.degrade_at)
        ):
            raise BudgetDegradesError(budget.name, budget.degrade_to)


def admit(accounts: Sequence[Account], asked: Incoming) -> None:
    """Count a request on the accounts that throttle, or refuse it on all.

    In any span of a minute, at most `throttle_to` requests are admitted, and none is refused while
    fewer were.

    Raises:
        BudgetThrottledError: so many were admitted in the last minute.
    """
    if not asked.first:
        return
    counted = []
    for account in accounts:
        budget = account.budget
        if not budget.throttle_to or not _is_near(account, budget.throttle_at):
            continue
        now_ns = asked.now_ns
        # A clock that was set back must not lock an account: what lies ahead of it is not counted.
        last = [at for at in times(account.balance.paced) if now_ns - MINUTE_NS < at <= now_ns]
        if len(last) >= budget.throttle_to:
            free_ns = sorted(last)[-budget.throttle_to] + MINUTE_NS
            raise BudgetThrottledError(
                refusal_of(account, 0), budget.throttle_to, -((now_ns - free_ns) // SECOND_NS)
            )
        counted.append((account.balance, [*last, now_ns]))
    for balance, admitted in counted:
        balance.paced = ",".join(map(str, admitted))


def times(paced: str) -> list[int]:
    """When requests were admitted, Unix nanoseconds, from a balance's text."""
    return [int(at) for at in paced.split(",")] if paced else []


def near(percent: int, limit_nano: int, spent_nano: int) -> bool:
    """Whether that percentage of a limit is spent."""
    return spent_nano >= _share(limit_nano, percent)


def _is_near(account: Account, percent: int) -> bool:
    return near(percent, account.limit_nano, account.balance.spent_nano)


def _share(limit_nano: int, percent: int) -> int:
    return -(-limit_nano * percent // 100)
