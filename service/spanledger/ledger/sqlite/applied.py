"""The budgets of configuration files as the ledger remembers them; what follows is in
`spanledger.budgets.applied`."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence

from spanledger.budgets.applied import AppliedEntry, budget_from_json, budget_to_json, due
from spanledger.budgets.model import Budget

MAX_FILES = 32
"""Files remembered; the least recently applied one is forgotten first."""
APPLIED_VERSION = 3
"""First schema version that remembers files."""


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
        return due(source, wanted, self.entries(), self._may_have_been_applied)

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
