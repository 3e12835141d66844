"""Which rates apply to an attempt, by the same scopes and rules as budgets. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from spanledger.budgets.group import Group
from spanledger.budgets.matching import picked
from spanledger.budgets.scopes import (
    Dimensions,
    places_of,
    subject_parts,
    subject_text,
    subjects_in,
)
from spanledger.rates.model import Rate, RateAccount

MAX_REMEMBERED_MATCHES = 10_000

Matches = tuple[tuple[RateAccount, Rate], ...]


class RateIndex:
    """All rates, indexed by what they apply to. It never changes."""

    def __init__(self, rates: Iterable[Rate]) -> None:
        self.by_name = {rate.name: rate for rate in rates}
        self._groups: dict[str, Group[Rate]] = {}
        for rate in self.by_name.values():
            self._groups.setdefault(rate.scope, Group(rate.scope)).add(rate)
        self._needed = picked({p for scope in self._groups for p in places_of(scope)})
        self._matched: dict[object, Matches] = {}

    def matched(self, dimensions: Dimensions) -> Matches:
        """The accounts that count an attempt, and limit it."""
        needed = self._needed(dimensions)
        found = self._matched.get(needed)
        if found is None:
            if len(self._matched) >= MAX_REMEMBERED_MATCHES:
                self._matched.clear()
            found = self._matched[needed] = tuple(
                (account, rate)
                for account, rate in self.applying(dimensions)
                if self.replacing(rate, account.subject) is None
            )
        return found

    def applying(self, dimensions: Dimensions) -> Iterator[tuple[RateAccount, Rate]]:
        """The same with default rates that another one replaces."""
        for scope, group in self._groups.items():
            for parts in subjects_in(scope, dimensions):
                subject = subject_text(parts)
                for rate in group.match(parts):
                    yield RateAccount(rate.name, scope, subject), rate

    def replacing(self, rate: Rate, subject: str) -> Rate | None:
        """The rate that limits a subject in the place of a default one: one that names more of it."""
        if not rate.default:
            return None
        open_ = rate.open_parts
        for other in self._groups[rate.scope].match(subject_parts(rate.scope, subject)):
            if other.open_parts < open_:
                return other
        return None
