"""Which budgets apply to an attempt, and the accounts that count it. Pure: no I/O, no clock.

An attempt is looked up by its subjects, so the number of budgets does not matter.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import NamedTuple

from spanledger.budgets.accounts import AccountKey
from spanledger.budgets.model import Budget
from spanledger.budgets.periods import Period, period_at
from spanledger.budgets.scopes import EACH, EVERYBODY, SCOPE_NAMES, Dimensions

MAX_CACHED_MATCHES = 10_000
_SCOPES = (*SCOPE_NAMES, EVERYBODY)


class Matched(NamedTuple):
    """The accounts for some dimensions, valid while all their periods last.

    Attributes:
        counted: each budget with its account and the end of that account's period, Unix seconds.
        text: the accounts as stored in an attempt's row.
    """

    counted: tuple[tuple[Budget, AccountKey, int], ...]
    keys: tuple[AccountKey, ...]
    text: str
    start_s: int
    end_s: int


class BudgetIndex:
    """All budgets, indexed by what they apply to; rebuilt when one changes."""

    def __init__(self, budgets: Iterable[Budget]) -> None:
        self.by_name = {budget.name: budget for budget in budgets}
        self._named: dict[tuple[str, str], list[Budget]] = {}
        for budget in self.by_name.values():
            self._named.setdefault((budget.scope, budget.subject), []).append(budget)
        self._matched: dict[Dimensions, Matched] = {}
        self._periods: dict[str, Period] = {}

    def limiting(self, key: AccountKey) -> Budget | None:
        """The budget an account belongs to, if the budget still uses that account."""
        budget = self.by_name.get(key.budget)
        if (
            budget is None
            or budget.scope != key.scope
            or budget.period != key.period
            or budget.timezone != key.timezone
            or budget.subject not in (EACH, key.subject)
        ):
            return None
        return budget

    def matched(self, dimensions: Dimensions, at_s: int) -> Matched:
        """The accounts that count an attempt at a given time."""
        found = self._matched.get(dimensions)
        if found is None or not found.start_s <= at_s < found.end_s:
            if len(self._matched) >= MAX_CACHED_MATCHES:
                self._matched.clear()
            found = self._matched[dimensions] = self._work_out(dimensions, at_s)
        return found

    def _work_out(self, dimensions: Dimensions, at_s: int) -> Matched:
        counted = []
        start_s, end_s = -sys.maxsize, sys.maxsize
        for budget, subject in self.match(dimensions):
            period = self.period(budget, at_s)
            start_s, end_s = max(start_s, period.start_s), min(end_s, period.end_s)
            if period.counts:
                key = AccountKey.of(budget, subject, period.start_s)
                counted.append((budget, key, period.end_s))
        keys = tuple(key for _, key, _ in counted)
        return Matched(tuple(counted), keys, json.dumps(keys), start_s, end_s)

    def match(self, dimensions: Dimensions) -> Iterable[tuple[Budget, str]]:
        """Budgets that apply, each with its account's subject. No budget applies to an empty dimension."""
        for scope, subject in zip(_SCOPES, (*dimensions, EACH), strict=True):
            if not subject:
                continue
            for name in dict.fromkeys((subject, EACH)):
                for budget in self._named.get((scope, name), ()):
                    yield budget, subject

    def period(self, budget: Budget, at_s: int) -> Period:
        """The budget's period at a given time, cached until it ends."""
        period = self._periods.get(budget.name)
        if period is None or not period.start_s <= at_s < period.end_s:
            period = period_at(budget.period, budget.timezone, at_s)
            self._periods[budget.name] = period
        return period
