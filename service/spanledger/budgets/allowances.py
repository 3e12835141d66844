"""What may be spent while the ledger is unavailable: an allowance per account, and what it has left.

Balances cannot be read then, so each gateway process counts for itself. An allowance is treated as a
small budget, with the same ladder of holds. Pure: no I/O, no clock.

What bounds a budget that is over its limit: each process counts at most its allowance, and begins
again with what the account is over its limit by then (`start_from`). So a budget exceeds its limit
by at most the allowance of each process, however often the ledger fails.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from spanledger.budgets.accounts import Account, AccountKey, Balance, decide, remaining
from spanledger.budgets.limits import base_limit, raised_nano
from spanledger.budgets.matching import BudgetIndex
from spanledger.budgets.model import TERMS, Budget, BudgetState, HoldSizes
from spanledger.budgets.periods import period_at
from spanledger.budgets.scopes import Dimensions
from spanledger.errors import BudgetExceededError, LedgerUnavailableError, Refusal
from spanledger.money import format_usd

MAX_CLOSED = 10_000
"""Accounts remembered for having refused; the earliest is forgotten first."""


class Granted(NamedTuple):
    """A hold on allowances.

    Attributes:
        remaining_nano: the least that any of them has left.
    """

    keys: tuple[AccountKey, ...]
    hold_nano: int
    remaining_nano: int


class _Closed(NamedTuple):
    """An account that had no room for an attempt.

    Attributes:
        stated_nano: what the budget allowed at that time, without what rolled over.
    """

    stated_nano: int
    renews_at_s: int


class Allowances:
    """The allowances of one process.

    Attributes:
        any: whether any budget has one.
        closed: (budget, subject) of accounts whose last word was a refusal: they stay closed while
            the ledger is unavailable.
    """

    def __init__(self) -> None:
        self.any = False
        self.closed: dict[tuple[str, str], _Closed] = {}
        self._asked: dict[str, Budget] = {}
        self._index = BudgetIndex(())
        self._balances: dict[AccountKey, Balance] = {}
        self._everybody: list[Budget] = []
        self._others: list[Budget] = []

    def renew(self, budgets: Iterable[Budget]) -> None:
        """Use these budgets from now on. What has been counted stays."""
        asked = [b for b in budgets if b.blocks or b.allow_when_down_nano]
        self._asked = {budget.name: budget for budget in asked}
        self._index = BudgetIndex(_as_budget(budget) for budget in asked)
        self.any = any(budget.allow_when_down_nano for budget in asked)
        self._everybody = [b for b in self._index.by_name.values() if b.scope == "global"]
        self._others = [b for b in self._index.by_name.values() if b.scope != "global"]

    def refused(self, refusal: Refusal, at_s: int) -> None:
        """The ledger refused an attempt: its account stays closed until it admits another one."""
        budget = self._asked.get(refusal.budget)
        if budget is None or not budget.allow_when_down_nano:
            return
        if len(self.closed) >= MAX_CLOSED:
            self.closed.pop(next(iter(self.closed)))
        place = (refusal.budget, refusal.subject)
        self.closed[place] = _Closed(_stated(budget, at_s), refusal.renews_at_s)

    def admitted(self, dimensions: Dimensions) -> None:
        """The ledger admitted an attempt, so its accounts have room."""
        for budget, subject in self._index.match(dimensions):
            self.closed.pop((budget.name, subject), None)

    def grant(self, dimensions: Dimensions, at_s: int, sizes: HoldSizes) -> Granted:
        """Hold on every budget that blocks an attempt or has an allowance.

        Raises:
            LedgerUnavailableError: one of them allows nothing or has too little left, or there is
                none.
        """
        matched = self._index.matched(dimensions, at_s)
        if not matched.counted:
            raise LedgerUnavailableError(
                "the ledger is unavailable, and no budget allows this request meanwhile"
            )
        accounts = []
        for budget, key, end_s in matched.counted:
            if not budget.allow_when_down_nano:
                raise LedgerUnavailableError(
                    f"the ledger is unavailable, and budget {budget.name!r} allows nothing meanwhile"
                )
            if self._is_closed(budget, key.subject, at_s):
                raise LedgerUnavailableError(
                    f"the ledger is unavailable, and budget {budget.name!r} had no room before"
                )
            accounts.append(Account.of(budget, self._balances.get(key) or Balance(key, end_s)))
        try:
            grant = decide(accounts, sizes)
        except BudgetExceededError as error:
            refusal = error.refusal
            raise LedgerUnavailableError(
                f"the ledger is unavailable, and of the ${format_usd(refusal.limit_nano)} that"
                f" budget {refusal.budget!r} allows meanwhile too little is left"
            ) from None
        for account in accounts:
            balance = account.balance
            balance.held_nano += grant.hold_nano
            self._balances[balance.key] = balance
        return Granted(matched.keys, grant.hold_nano, grant.remaining_nano or 0)

    def settle(self, granted: Granted, cost_nano: int) -> int | None:
        """Replace a hold by what the attempt cost; returns the least that is left, if any budget
        still limits it."""
        accounts = []
        for key in granted.keys:
            balance = self._balances[key]
            balance.held_nano -= granted.hold_nano
            balance.spent_nano += cost_nano
            if budget := self._index.limiting(key):
                accounts.append(Account.of(budget, balance))
        return remaining(accounts)

    def start_from(self, states: Sequence[BudgetState]) -> None:
        """Begin again, with nothing held: what an account is over its limit is used already."""
        self._balances = {}
        for state in states:
            budget = state.budget
            over = -(state.left_nano + budget.grace_nano)
            if over > 0 and budget.allow_when_down_nano and budget.blocks:
                key = AccountKey.of(budget, state.subject, state.period_start_s)
                used = min(over, budget.allow_when_down_nano)
                self._balances[key] = Balance(key, state.period_end_s, used)

    def has_room(self, at_s: int) -> bool:
        """Whether any attempt may be admitted, as far as that can be known without one."""
        everybody = [self._room(b, at_s) for b in self._everybody if self._counts(b, at_s)]
        if not all(everybody):
            return False
        return bool(everybody) or any(
            self._room(b, at_s) for b in self._others if self._counts(b, at_s)
        )

    def _counts(self, budget: Budget, at_s: int) -> bool:
        return self._index.period(budget, at_s).counts

    def _room(self, budget: Budget, at_s: int) -> int:
        """What a budget's account has left, or any of its accounts if it has several."""
        allowed = budget.allow_when_down_nano
        if not allowed or budget.open_parts:
            return allowed
        if self._is_closed(budget, budget.subject, at_s):
            return 0
        start_s = self._index.period(budget, at_s).start_s
        balance = self._balances.get(AccountKey.of(budget, budget.subject, start_s))
        used = 0 if balance is None else balance.spent_nano + balance.held_nano
        return max(0, allowed - used)

    def _is_closed(self, budget: Budget, subject: str, at_s: int) -> bool:
        closed = self.closed.get((budget.name, subject))
        return (
            closed is not None
            and at_s < closed.renews_at_s
            and _stated(self._asked[budget.name], at_s) <= closed.stated_nano
        )


def _stated(budget: Budget, at_s: int) -> int:
    """What a budget allows an account at a time, as far as the budget alone says so."""
    start_s = period_at(budget.period, budget.timezone, at_s).start_s
    return base_limit(budget, start_s) + raised_nano(budget, at_s) + budget.grace_nano


def _as_budget(budget: Budget) -> Budget:
    """An allowance as the budget that it is."""
    return replace(
        budget, **(TERMS | {"limit_nano": budget.allow_when_down_nano, "action": "block"})
    )
