"""Budgets of configuration files: which entries are due to be applied, and where a file differs.

A file's entry is applied when it is new or has changed since it was last applied. What a person
changed or removed by command stays, and is reported. Each file is known by its path; one that moved
goes on where the newest other file of that entry left off.
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
"""Files remembered; the one that was not read for longest is forgotten."""
APPLIED_VERSION = 3
"""Schema version since which files are remembered."""


class Entry(NamedTuple):
    """An entry of a file, as it was when the file was last applied."""

    source: str
    budget: Budget
    applied_ns: int
    listed: bool


class Difference(NamedTuple):
    """Where the ledger's budget is not what a file says.

    Attributes:
        file: the file's entry.
        ledger: what applies; None where the budget was removed by command.
        listed: the file still has the entry.
    """

    name: str
    source: str
    file: Budget
    ledger: Budget | None
    listed: bool = True

    @property
    def fields(self) -> list[FieldChange]:
        """Field by field, from the file's value to the one that applies."""
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
    """What a ledger remembers of files, on a connection that others own."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        self._known = version >= APPLIED_VERSION

    def entries(self) -> list[Entry]:
        """All of them, the newest first."""
        if not self._known:
            return []
        rows = self._connection.execute(
            "SELECT source, budget, applied_ns, listed FROM applied_budgets"
            " ORDER BY applied_ns DESC, source, name"
        )
        return [Entry(row[0], budget_from_json(row[1]), row[2], bool(row[3])) for row in rows]

    def due(self, source: str, wanted: Sequence[Budget]) -> list[Budget]:
        """The entries of a file that are new, or other than when it was last applied."""
        entries = self.entries()
        return [budget for budget in wanted if not self._is_applied(source, budget, entries)]

    def _is_applied(self, source: str, budget: Budget, entries: Sequence[Entry]) -> bool:
        named = [entry for entry in entries if entry.budget.name == budget.name]
        own = [entry for entry in named if entry.source == source]
        last = next(iter(own or named), None)
        if last is None:
            return self._may_have_been_applied(budget)
        return last.listed and last.budget == budget

    def _may_have_been_applied(self, budget: Budget) -> bool:
        """Whether the ledger had this very budget before files were remembered: what followed was
        a person's change then, as each start applied the whole file."""
        query = (
            "SELECT budget FROM budget_history WHERE name = ? AND change = 'set' AND id <="
            " coalesce((SELECT value FROM state WHERE key = 'changes_of_unknown_source'), ?)"
        )
        rows = self._connection.execute(query, (budget.name, 2**62))
        return any(budget_from_json(text) == budget for (text,) in rows)

    def remember(self, source: str, listed: Iterable[Budget], now_ns: int) -> None:
        """Note a file as applied, in the transaction that applies it."""
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
        """Where the budgets there are differ from what files said when they were last applied.

        Args:
            still_listed: what the file has by now, where that is known.
        """
        found: dict[str, Difference] = {}
        for source, entry, _, listed in self.entries():  # the newest word on a name counts
            if still_listed is not None and entry.name not in still_listed:
                listed = False
            if entry.name not in found:
                difference = Difference(entry.name, source, entry, budgets.get(entry.name), listed)
                found[entry.name] = difference
        return sorted(filter(_differs, found.values()))


def compare(
    source: str, wanted: Sequence[Budget], budgets: Mapping[str, Budget]
) -> list[Difference]:
    """Where the budgets there are differ from a file's."""
    found = (Difference(w.name, source, w, budgets.get(w.name)) for w in wanted)
    return sorted(filter(_differs, found))


def _differs(difference: Difference) -> bool:
    """One that has left its file is reported for as long as it is as the file had it."""
    same = difference.file == difference.ledger
    return not same if difference.listed else same


def budget_to_json(budget: Budget) -> str:
    """As the ledger's history has it."""
    return json.dumps(asdict(budget))


def budget_from_json(text: str) -> Budget:
    """The same, read."""
    data = json.loads(text)
    data["thresholds"] = tuple(data["thresholds"])
    return Budget(**data)
