"""The balances that attempts change, as the engine keeps them: one book for the accounts of an attempt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from spanledger.budgets.accounts import Account, AccountKey, Balance
from spanledger.budgets.limits import is_plain, key_before
from spanledger.budgets.matching import BudgetIndex, Matched
from spanledger.budgets.model import Budget
from spanledger.budgets.steering import steers
from spanledger.clock import NANOS

Accounts = tuple[AccountKey, ...]


class Book:
    """The balances of some accounts.

    Attempts that change the same accounts mostly share one tuple of keys: the budgets' index makes
    it. So a book is found by that tuple's identity, without hashing every key of every attempt.
    """

    __slots__ = ("_before", "_counted", "_limiting", "_moves", "balances", "keys", "steers")

    def __init__(
        self, keys: Accounts, found: Mapping[AccountKey, Balance], earlier: Earlier
    ) -> None:
        """`found` has the balances, and those of the periods before where these roll over."""
        self.keys = keys
        """Kept, so that no other tuple gets its identity."""
        self.balances = [found[key] for key in keys]
        self.steers = False
        """Whether a budget may throttle an attempt or send it to another route."""
        self._before = [found[earlier[key]] if key in earlier else None for key in keys]
        self._counted: list[Account] | None = None
        self._limiting: list[Account] | None = None
        self._moves = False  # whether limits depend on the time, or on other balances

    def counted_by(self, matched: Matched, now_ns: int) -> list[Account]:
        """The accounts with the budgets that an attempt has matched."""
        found = self._counted
        if found is None or self._moves:
            budgets = [budget for budget, _, _ in matched.counted]
            found = self._counted = self._as_of(now_ns, budgets)
        return found

    def limited_by(self, budgets: BudgetIndex, now_ns: int) -> list[Account]:
        """The accounts that budgets still use."""
        found = self._limiting
        if found is None or self._moves:
            using = [budgets.limiting(balance.key) for balance in self.balances]
            found = self._limiting = self._as_of(now_ns, using)
        return found

    def _as_of(self, now_ns: int, budgets: Sequence[Budget | None]) -> list[Account]:
        accounts = []
        # Default budgets that another one replaces count, but do not limit: their balances come last.
        for budget, balance, before in zip(budgets, self.balances, self._before, strict=False):
            if budget is not None:
                self._moves = self._moves or not is_plain(budget)
                self.steers = self.steers or steers(budget)
                accounts.append(Account.of(budget, balance, now_ns // NANOS, before))
        return accounts


Earlier = Mapping[AccountKey, AccountKey]
"""The account of the period before, of those whose rest rolls over."""


def earlier_of(keys: Iterable[AccountKey], budgets: BudgetIndex) -> Earlier:
    """The accounts whose rest rolls over into these."""
    found = {}
    for key in keys:
        budget = budgets.limiting(key)
        before = None if budget is None else key_before(budget, key)
        if before is not None:
            found[key] = before
    return found
