"""Budgets in configuration files: which entries are due to be applied, and where a file differs.

A file's entry is applied when it is new or has changed since it was last applied. Changes and
removals by command stay, and are reported. Each file is identified by its path; a file that moved
continues from the most recently applied other file with that entry.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

from spanledger.ledger.diff import FieldChange, changes_text, field_changes
from spanledger.ledger.store import Budget

MAX_FILES = 32
"""Files remembered; the least recently applied one is forgotten first."""
APPLIED_VERSION = 3
"""First schema version that remembers files."""


class AppliedEntry(NamedTuple):
    """A file's entry as of the last time the file was applied."""

    source: str
    budget: Budget
    applied_ns: int
    listed: bool


class Difference(NamedTuple):
    """A budget in the ledger that differs from its file.

    Attributes:
        file: the file's entry.
        ledger: the budget that applies; None if it was removed by command.
        listed: the file still has the entry.
    """

    name: str
    source: str
    file: Budget
    ledger: Budget | None
    listed: bool = True

    @property
    def fields(self) -> list[FieldChange]:
        """Changed fields, from the file's value to the one that applies."""
        return [] if self.ledger is None else field_changes(self.file, self.ledger)

    @property
    def text(self) -> str:
        """For a log or a terminal."""
        if not self.listed:
            return (
                f"budget {self.name!r} is no longer in {self.source} but still applies; remove it"
                f" with `spanledger budget remove {self.name}`"
            )
        if self.ledger is None:
            what = f"is in {self.source}, but was removed by command and does not apply"
        else:
            what = f"was changed since {self.source} was applied: {changes_text(self.fields)}"
        return (
            f"budget {self.name!r} {what}; `spanledger apply -f {self.source}` restores the file's"
            " version"
        )

    @property
    def as_dict(self) -> dict[str, Any]:
        """The same as JSON."""
        return {
            "name": self.name,
            "file": self.source,
            "listed": self.listed,
            "removed": self.ledger is None,
            "fields": [
                {"field": f.field, "file": f.before, "ledger": f.after} for f in self.fields
            ],
        }


class AppliedBudgets:
    """The files a ledger remembers, on a connection owned by the caller."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        self._known = version >= APPLIED_VERSION

    def entries(self) -> list[AppliedEntry]:
        """All entries, newest first."""
        if not self._known:
            return []
        rows = self._connection.execute(
            "SELECT source, budget, applied_ns, listed FROM applied_budgets"
            " ORDER BY applied_ns DESC, source, name"
        )
        return [
            AppliedEntry(row[0], budget_from_json(row[1]), row[2], bool(row[3])) for row in rows
        ]

    def due(self, source: str, wanted: Sequence[Budget]) -> list[Budget]:
        """The entries of a file that are new or have changed since it was last applied."""
        entries = self.entries()
        return [budget for budget in wanted if not self._is_applied(source, budget, entries)]

    def _is_applied(self, source: str, budget: Budget, entries: Sequence[AppliedEntry]) -> bool:
        named = [entry for entry in entries if entry.budget.name == budget.name]
        own = [entry for entry in named if entry.source == source]
        last = next(iter(own or named), None)
        if last is None:
            return self._may_have_been_applied(budget)
        return last.listed and last.budget == budget

    def _may_have_been_applied(self, budget: Budget) -> bool:
        """Whether the ledger had this very budget before files were remembered. Each start applied
        the whole file then, so any later change was made by a person."""
        query = (
            "SELECT budget FROM budget_history WHERE name = ? AND change = 'set' AND id <="
            " coalesce((SELECT value FROM state WHERE key = 'changes_of_unknown_source'), ?)"
        )
        rows = self._connection.execute(query, (budget.name, 2**62))
        return any(budget_from_json(text) == budget for (text,) in rows)

    def remember(self, source: str, listed: Iterable[Budget], now_ns: int) -> None:
        """Record a file as applied, in the transaction that applies it."""
        update = "UPDATE applied_budgets SET applied_ns = ?, listed = 0 WHERE source = ?"
        self._connection.execute(update, (now_ns, source))
        self._connection.executemany(
            "INSERT OR REPLACE INTO applied_budgets VALUES (?, ?, ?, ?, 1)",
            [(source, budget.name, budget_to_json(budget), now_ns) for budget in listed],
        )
        self._connection.execute(
            "DELETE FROM applied_budgets WHERE source NOT IN (SELECT source FROM applied_budgets"
            " GROUP BY source ORDER BY max(applied_ns) DESC LIMIT ?)",
            (MAX_FILES,),
        )

    def differences(
        self, budgets: Mapping[str, Budget], still_listed: Container[str] | None = None
    ) -> list[Difference]:
        """Where the given budgets differ from their files' entries as last applied.

        Args:
            still_listed: names that the file has now, if known.
        """
        found: dict[str, Difference] = {}
        for source, entry, _, listed in self.entries():  # the newest entry for a name counts
            if still_listed is not None and entry.name not in still_listed:
                listed = False
            if entry.name not in found:
                difference = Difference(entry.name, source, entry, budgets.get(entry.name), listed)
                found[entry.name] = difference
        return sorted(filter(_differs, found.values()))


def compare(
    source: str, wanted: Sequence[Budget], budgets: Mapping[str, Budget]
) -> list[Difference]:
    """Where the given budgets differ from a file's."""
    found = (Difference(w.name, source, w, budgets.get(w.name)) for w in wanted)
    return sorted(filter(_differs, found))


def _differs(difference: Difference) -> bool:
    """A budget no longer in its file is reported as long as it equals the old entry."""
    same = difference.file == difference.ledger
    return not same if difference.listed else same


def budget_to_json(budget: Budget) -> str:
    """Encode a budget for the ledger's history."""
    return json.dumps(asdict(budget))


def budget_from_json(text: str) -> Budget:
    """Decode a budget from the ledger's history."""
    data = json.loads(text)
    data["thresholds"] = tuple(data["thresholds"])
    return Budget(**data)
