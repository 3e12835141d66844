"""Whether the budgets that an attempt touches have room: pure functions over balances.

No I/O, no clock. The store loads the balances inside its transaction, asks these functions, and
writes the changed balances back before it commits.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import msgspec

from spanledger.budgets.limits import limit_at
from spanledger.budgets.model import Budget, HoldSizes
from spanledger.budgets.periods import renewal
from spanledger.errors import BudgetExceededError, Refusal

ROOMY = 10
"""An attempt without a cap holds its full bound only if that is at most 1/ROOMY of what is left."""


class AccountKey(NamedTuple):
    """A balance's identity, as stored in an attempt's `accounts`.

    It has every field of the budget that decides what counts: a budget whose scope or period is
    changed, or whose name is reused for another, gets other accounts.
    """

    budget: str
    scope: str
    period: str
    timezone: str
    period_start_s: int
    subject: str

    @classmethod
    def of(cls, budget: Budget, subject: str, period_start_s: int) -> AccountKey:
        """The account of a subject under a budget."""
        return cls(
            budget.name, budget.scope, budget.period, budget.timezone, period_start_s, subject
        )


def account_keys(accounts: str) -> tuple[AccountKey, ...]:
    """The keys in an attempt's `accounts`; those of schema version 1 are ignored."""
    if accounts == "[]":
        return ()
    return tuple(AccountKey(*key) for key in json.loads(accounts) if len(key) == _KEY_PARTS)


_KEY_PARTS = len(AccountKey._fields)


@dataclass(slots=True)
class Balance:
    """One account in one period, nano-USD."""

    key: AccountKey
    period_end_s: int
    spent_nano: int = 0
    held_nano: int = 0
    overrun_nano: int = 0
    opened_seq: int = 0
    """The opening of the account: attempts settled by then count by their dimensions, later ones by
    their `accounts`. 0 if it was opened empty."""
    paced: str = ""
    """When it was near its limit and let requests through: Unix nanoseconds with commas between."""

    @property
    def row(self) -> tuple[object, ...]:
        """The columns of its row."""
        return (
            *self.key,
            self.period_end_s,
            self.spent_nano,
            self.held_nano,
            self.overrun_nano,
            self.opened_seq,
            self.paced,
        )


class Account(NamedTuple):
    """A budget and the balance that an attempt changes under it.

    Attributes:
        limit_nano: what may be spent, as of now.
        most_nano: the same with grace.
    """

    budget: Budget
    balance: Balance
    limit_nano: int
    most_nano: int

    @classmethod
    def of(
        cls, budget: Budget, balance: Balance, now_s: int = 0, before: Balance | None = None
    ) -> Account:
        """An account as of now; `before` is that of the period before, if the budget rolls over."""
        limit = limit_at(balance.key, budget, now_s, before).nano
        return cls(budget, balance, limit, limit + budget.grace_nano)

    @property
    def room_nano(self) -> int:
        """What is left to hold; negative after an overrun or a lowered limit."""
        _, balance, _, most = self
        return most - balance.spent_nano - balance.held_nano

    def in_excess(self, hold_nano: int) -> bool:
        """Whether a hold goes beyond the limit, which a budget that warns or has grace marks."""
        balance = self.balance
        return hold_nano > self.limit_nano - balance.spent_nano - balance.held_nano


class Grant(msgspec.Struct, frozen=True):
    """A granted hold, before it is written."""

    hold_nano: int
    warned: tuple[str, ...]
    remaining_nano: int | None


def blocking(accounts: Sequence[Account]) -> list[Account]:
    """The accounts that can refuse; a budget that only warns just counts."""
    return [account for account in accounts if account.budget.action != "warn"]


def room(accounts: Sequence[Account]) -> int | None:
    """The least room over all blocking accounts; None if nothing blocks."""
    least: int | None = None
    for account in accounts:
        if account.budget.action != "warn":  # `blocks`, without the look-up
            left = account.room_nano
            if least is None or left < least:
                least = left
    return least


def remaining(accounts: Sequence[Account]) -> int | None:
    """The least amount left over all blocking accounts, at least zero."""
    left = room(accounts)
    return 0 if left is not None and left < 0 else left


def decide(accounts: Sequence[Account], sizes: HoldSizes) -> Grant:
    """Choose the hold, the same on every account, or refuse.

    The ladder keeps a hold from starving other requests and from passing the limit:

    1. `full`, if it fits and is either the caller's own cap or at most a tenth of the room;
    2. `usual`, if it fits;
    3. all the room, if a strict budget blocks and the room is at least `least`;
    4. refuse.

    A strict budget accepts only bounds, so nothing that was learnt.

    Raises:
        BudgetExceededError: names the account with the least room.
    """
    left = room(accounts)
    if sizes.learnt and _strict(accounts):
        raise _refusal(accounts, sizes)
    if left is None or (
        sizes.full <= left
        and (sizes.capped or sizes.full == sizes.usual or sizes.full * ROOMY <= left)
    ):
        hold = sizes.full
    elif sizes.usual <= left:
        hold = sizes.usual
    elif sizes.least <= left and _strict(accounts):
        hold = left
    else:
        raise _refusal(accounts, sizes)
    warned = [
        account.budget.name
        for account in accounts
        if (account.budget.action == "warn" or account.budget.grace_nano)
        and account.in_excess(hold)
    ]
    return Grant(hold, tuple(warned), None if left is None else left - hold)


def _strict(accounts: Sequence[Account]) -> bool:
    return any(account.budget.strict for account in blocking(accounts))


def _refusal(accounts: Sequence[Account], sizes: HoldSizes) -> BudgetExceededError:
    tightest = min(blocking(accounts), key=lambda a: a.room_nano)
    strict = _strict(accounts)
    refusal = refusal_of(tightest, sizes.least if strict else sizes.usual)
    return BudgetExceededError(replace(refusal, strict=True) if strict else refusal)


def refusal_of(account: Account, needed_nano: int) -> Refusal:
    """The figures of an account that refuses."""
    budget, balance, limit_nano, _ = account
    return Refusal(
        budget=budget.name,
        scope=budget.scope,
        subject=balance.key.subject,
        limit_nano=limit_nano,
        grace_nano=budget.grace_nano,
        spent_nano=balance.spent_nano,
        held_nano=balance.held_nano,
        needed_nano=needed_nano,
        renews_at_s=balance.period_end_s,
        renewal=renewal(budget.period, budget.timezone, balance.period_end_s),
    )
