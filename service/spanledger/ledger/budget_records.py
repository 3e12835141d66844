"""Budgets: what people write, with its history. Rare, so each change is a transaction.

What a change means is decided here; a database reads and writes the rows. Nothing here writes rows
of attempts or requests, except that setting a budget opens its accounts.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Literal, Self

from spanledger.budgets.applied import AppliedEntry, Difference, differences, due
from spanledger.budgets.limits import When, noting
from spanledger.budgets.model import UNKNOWN_AUTHOR, Budget, BudgetChange
from spanledger.budgets.periods import period_at
from spanledger.clock import NANOS
from spanledger.ledger.opening import Opening, OpeningRows

MAX_FILES = 32
"""Files remembered; the least recently applied one is forgotten first."""

Version = Literal["budgets_version", "keys_version"]


class _ChangedMeanwhileError(Exception):
    """Another process changed a budget between our read and our write."""


class BudgetRecords(ABC):
    """Reads and writes of budgets on one connection.

    Every method may raise LedgerUnavailableError.

    Attributes:
        by: whom the history names as the author of changes on this connection.
    """

    by = UNKNOWN_AUTHOR

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None:
        """Close the connection."""

    # what a database does -----------------------------------------------------------------

    @abstractmethod
    def _transaction(self) -> AbstractContextManager[None]:
        """A write transaction, which sees what others committed before it began."""

    @abstractmethod
    def _increase(self, version: Version) -> None:
        """Increase a version, which notifies every process once this transaction commits."""

    @property
    @abstractmethod
    def _opening_rows(self) -> OpeningRows:
        """What accounts are opened from."""

    @abstractmethod
    def _write_budget(self, budget: Budget) -> None:
        """Create or replace a budget."""

    @abstractmethod
    def _delete_budget(self, name: str) -> None: ...

    @abstractmethod
    def _remember(self, change: Literal["set", "remove"], budget: Budget, now_ns: int) -> None:
        """Add a change to the history."""

    @abstractmethod
    def _applied_entries(self) -> list[AppliedEntry]:
        """The entries of all configuration files as last applied, newest first."""

    @abstractmethod
    def _set_before_files(self, name: str) -> Iterable[Budget]:
        """What a budget was ever set to before files were remembered."""

    @abstractmethod
    def _remember_file(self, source: str, listed: Iterable[Budget], now_ns: int) -> None:
        """Record a file as applied; its entries that are not listed any more stay as such."""

    # budgets ------------------------------------------------------------------------------

    @abstractmethod
    def budgets(self) -> list[Budget]:
        """All budgets, by name."""

    @abstractmethod
    def history(self, name: str | None = None) -> list[BudgetChange]:
        """Changes of one budget or all, oldest first."""

    @abstractmethod
    def _named_budgets(self, names: Collection[str]) -> list[Budget]:
        """The budgets with these names, and perhaps others."""

    def set_budgets(
        self,
        budgets: Sequence[Budget],
        now_ns: int,
        remove: Sequence[str] = (),
        *,
        when: When = "",
        noted: bool = False,
        also: Callable[[], None] = lambda: None,
    ) -> list[Budget]:
        """Create or replace budgets and remove others, all or none; returns those that changed.

        A budget counts everything its subject spent since its period began, even before it was set.

        Args:
            when: from when on a changed limit holds.
            noted: the budgets have what the ledger is to note about them.
            also: called within the transaction, if there is one.

        Raises:
            UsageError: a limit cannot change from the next period on.
        """

        def changes() -> tuple[list[Budget], list[Budget], list[Budget]]:
            names = {*(budget.name for budget in budgets), *remove}
            current = {budget.name: budget for budget in self._named_budgets(names)}
            wanted = budgets
            if not noted:
                now_s = now_ns // NANOS
                wanted = [noting(current.get(b.name), b.written, now_s, when) for b in budgets]
            return _changes(current, wanted, remove)

        changed, removed, uncounted = changes()
        if changed or removed:
            opening = _opening(uncounted, now_ns)
            opening.read(self._opening_rows)
            with self._transaction():
                also()
                before, (changed, removed, uncounted) = uncounted, changes()
                if uncounted != before:  # another process changed budgets meanwhile
                    opening = _opening(uncounted, now_ns)
                opening.write(self._opening_rows)
                for budget in removed:
                    self._delete_budget(budget.name)
                    self._remember("remove", budget, now_ns)
                for budget in changed:
                    self._write_budget(budget)
                    self._remember("set", budget, now_ns)
                self._increase("budgets_version")
        return changed

    def edit_budget(
        self,
        name: str,
        edit: Callable[[Budget | None], Budget],
        now_ns: int,
        *,
        when: When = "",
        noted: bool = False,
    ) -> tuple[Budget | None, Budget]:
        """Change a budget based on its current value; returns before and after. Concurrent changes are
        kept. For `when` and `noted`, see `set_budgets`."""
        while True:
            before = self._budget(name)
            after = edit(before)

            def unchanged(expected: Budget | None = before) -> None:
                if self._budget(name) != expected:
                    raise _ChangedMeanwhileError

            try:
                changed = self.set_budgets([after], now_ns, when=when, noted=noted, also=unchanged)
            except _ChangedMeanwhileError:
                continue
            return before, changed[0] if changed else (before or after)

    def remove_budget(self, name: str, now_ns: int) -> Budget | None:
        """Remove a budget; its balances and history stay. None if there is none."""
        budget = self._budget(name)
        self.set_budgets((), now_ns, remove=(name,))
        return budget

    def _budget(self, name: str) -> Budget | None:
        return next(iter(self._named_budgets({name})), None)

    # configuration files ------------------------------------------------------------------

    def apply_file(
        self,
        source: str,
        budgets: Sequence[Budget],
        now_ns: int,
        *,
        whole: bool = False,
        remove: Sequence[str] = (),
        when: When = "",
    ) -> list[Budget]:
        """Set the budgets of a file that are new or have changed in it since it was last applied;
        returns those that changed.

        Args:
            source: identifies the file.
            whole: set all of them, because the user asked to apply the file as it is.
            remove: names of budgets to remove.
            when: from when on a changed limit holds.
        """

        def remember() -> None:
            self._remember_file(source, budgets, now_ns)

        wanted = list(budgets) if whole else self.due_budgets(source, budgets)
        changed = self.set_budgets(wanted, now_ns, remove, when=when, also=remember)
        if not changed and (budgets or self.knows_file(source)):
            with self._transaction():
                remember()
        return changed

    def knows_file(self, source: str) -> bool:
        """Whether a gateway has started with this file."""
        return any(entry.source == source for entry in self._applied_entries())

    def due_budgets(self, source: str, budgets: Sequence[Budget]) -> list[Budget]:
        """The budgets of a file that a gateway start would set."""
        return due(source, budgets, self._applied_entries(), self._may_have_been_applied)

    def _may_have_been_applied(self, budget: Budget) -> bool:
        """Whether the ledger had this very budget before files were remembered. Each start applied
        the whole file then, so any later change was made by a person."""
        return any(earlier.written == budget for earlier in self._set_before_files(budget.name))

    def differences(self, still_listed: Container[str] | None = None) -> list[Difference]:
        """Where budgets differ from their configuration files' entries as last applied."""
        budgets = {budget.name: budget for budget in self.budgets()}
        return differences(self._applied_entries(), budgets, still_listed)


def _changes(
    current: Mapping[str, Budget], budgets: Sequence[Budget], remove: Sequence[str]
) -> tuple[list[Budget], list[Budget], list[Budget]]:
    """Budgets that differ from the current ones, those to remove, and those without accounts yet."""
    changed = [budget for budget in budgets if current.get(budget.name) != budget]
    removed = [current[name] for name in remove if name in current]
    uncounted = [
        budget
        for budget in changed
        if budget.name not in current or budget.counts != current[budget.name].counts
    ]
    return changed, removed, uncounted


def _opening(budgets: Sequence[Budget], now_ns: int) -> Opening:
    """The accounts of budgets in their current periods, as far as they count anything now."""
    now_s = now_ns // NANOS
    counting = [b for b in budgets if period_at(b.period, b.timezone, now_s).counts]
    return Opening(counting, now_s)
