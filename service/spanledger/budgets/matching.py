"""Which budgets apply to an attempt, and the accounts that count it. Pure: no I/O, no clock.

An attempt is looked up by its subjects, so the number of budgets does not matter: for each scope that
budgets have, and for each set of its parts that some budget leaves open (`*`), there is one look-up.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from operator import itemgetter
from typing import NamedTuple

from spanledger.budgets.accounts import AccountKey
from spanledger.budgets.group import Group
from spanledger.budgets.model import Budget
from spanledger.budgets.periods import Period, period_at
from spanledger.budgets.scopes import (
    Dimensions,
    covers,
    places_of,
    subject_parts,
    subject_text,
    subjects_in,
)

MAX_CACHED_MATCHES = 10_000
MAX_CACHED_PERIODS = 1_000
"""Different periods and time zones of budgets."""


class Matched(NamedTuple):
    """The accounts for some dimensions, valid while all their periods last.

    Attributes:
        counted: each budget that limits, with its account and the end of that account's period, Unix
            seconds.
        keys: those accounts in the same order, then the accounts of default budgets that do not limit
            because another budget does in their place: they count as well.
        text: all of them as stored in an attempt's row.
    """

    counted: tuple[tuple[Budget, AccountKey, int], ...]
    keys: tuple[AccountKey, ...]
    text: str
    start_s: int
    end_s: int


class BudgetIndex:
    """All budgets, indexed by what they apply to. It never changes; `with_changes` makes another."""

    def __init__(self, budgets: Iterable[Budget]) -> None:
        self.by_name: dict[str, Budget] = {}
        self._groups: dict[str, Group[Budget]] = {}
        self._periods: dict[tuple[str, str], Period] = {}
        self._set({budget.name: budget for budget in budgets}, set())

    def with_changes(self, names: Collection[str], budgets: Iterable[Budget]) -> BudgetIndex:
        """The index after the budgets of these names have changed; those that are not given any more
        were removed. It takes a fraction of making a new one."""
        other = BudgetIndex(())
        other.by_name, other._groups = self.by_name.copy(), self._groups.copy()
        other._periods = self._periods
        copied: set[str] = set()
        for name in names:
            if (old := other.by_name.pop(name, None)) is not None:
                other._group(old.scope, copied).remove(old)
        other._set({budget.name: budget for budget in budgets}, copied)
        return other

    def _set(self, budgets: Mapping[str, Budget], own: set[str]) -> None:
        self.by_name |= budgets
        for budget in budgets.values():
            self._group(budget.scope, own).add(budget)
        self._needed = picked({p for scope in self._groups for p in places_of(scope)})
        self._matched: dict[object, Matched] = {}

    def _group(self, scope: str, own: set[str]) -> Group[Budget]:
        """The group of a scope, copied before it changes: those of `own` belong to this index alone."""
        if scope not in own:
            own.add(scope)
            group = self._groups.get(scope)
            self._groups[scope] = Group(scope) if group is None else group.copy()
        return self._groups[scope]

    def limiting(self, key: AccountKey) -> Budget | None:
        """The budget an account belongs to, if the budget still uses that account, and no other one
        limits in its place."""
        budget = self.by_name.get(key.budget)
        if (
            budget is None
            or budget.scope != key.scope
            or budget.period != key.period
            or budget.timezone != key.timezone
            or not covers(key.scope, budget.subject, key.subject)
        ):
            return None
        if budget.default and self.replacing(budget, key.subject, key.period_start_s):
            return None
        return budget

    def replacing(self, budget: Budget, subject: str, at_s: int) -> Budget | None:
        """The budget that limits an account in the place of a default one, if there is any: one that
        names more of its subject, counts at the time, and refuses if the default one does."""
        if not budget.default:
            return None
        open_ = budget.open_parts
        for other in self._groups[budget.scope].match(subject_parts(budget.scope, subject)):
            if (
                other.open_parts < open_
                and (other.action != "warn" or budget.action == "warn")
                and self.period(other, at_s).counts
            ):
                return other
        return None

    def matched(self, dimensions: Dimensions, at_s: int) -> Matched:
        """The accounts that count an attempt at a given time."""
        needed = self._needed(dimensions)
        found = self._matched.get(needed)
        if found is None or not found.start_s <= at_s < found.end_s:
            if len(self._matched) >= MAX_CACHED_MATCHES:
                self._matched.clear()
            found = self._matched[needed] = self._work_out(dimensions, at_s)
        return found

    def _work_out(self, dimensions: Dimensions, at_s: int) -> Matched:
        counted, replaced = [], []
        start_s, end_s = -sys.maxsize, sys.maxsize
        for budget, subject in self.match(dimensions):
            period = self.period(budget, at_s)
            start_s, end_s = max(start_s, period.start_s), min(end_s, period.end_s)
            if period.counts:
                key = AccountKey.of(budget, subject, period.start_s)
                if budget.default and self.replacing(budget, subject, at_s):
                    replaced.append(key)
                else:
                    counted.append((budget, key, period.end_s))
        keys = (*[key for _, key, _ in counted], *replaced)
        return Matched(tuple(counted), keys, json.dumps(keys), start_s, end_s)

    def match(self, dimensions: Dimensions) -> Iterable[tuple[Budget, str]]:
        """Budgets that count an attempt, each with its account's subject. None counts an attempt that
        lacks a subject of its scope."""
        for scope, group in self._groups.items():
            for parts in subjects_in(scope, dimensions):
                subject = subject_text(parts)
                for budget in group.match(parts):
                    yield budget, subject

    def period(self, budget: Budget, at_s: int) -> Period:
        """The budget's period at a given time, cached until it ends."""
        place = (budget.period, budget.timezone)
        period = self._periods.get(place)
        if period is None or not period.start_s <= at_s < period.end_s:
            if len(self._periods) >= MAX_CACHED_PERIODS:
                self._periods.clear()
            period = self._periods[place] = period_at(budget.period, budget.timezone, at_s)
        return period


def picked(places: set[int]) -> Callable[[Dimensions], object]:
    """A function that picks what the budgets ask for, so that nothing else of an attempt matters."""
    return itemgetter(*sorted(places)) if places else _nothing


def _nothing(_: Dimensions) -> object:
    return ()
