"""The ledger on SQLite: one writing connection, every batch of operations one transaction.

Synchronous on purpose: `group.py` runs it in a thread and groups concurrent callers. WAL with
`synchronous=FULL`: once `commit` returns, the rows survive a power cut.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from spanledger.budgets.matching import BudgetIndex
from spanledger.errors import LedgerUnavailableError
from spanledger.ledger.engine import Engine
from spanledger.ledger.model import LedgerOperation, LedgerResult
from spanledger.ledger.sqlite.files import LedgerFiles
from spanledger.ledger.sqlite.transaction import SqliteTransaction


class SqliteWriter:
    """The writing connection of one process, including its identity as an owner of holds."""

    def __init__(
        self, connection: sqlite3.Connection, path: Path, owner: str, lease_ns: int
    ) -> None:
        self.owner = owner
        self._connection = connection
        self._engine = Engine(owner, lease_ns)
        self._transaction = SqliteTransaction(connection, owner)
        self._engine.read_ahead(self._transaction)
        self._files = LedgerFiles(path)
        self._moved = False

    @property
    def budgets(self) -> BudgetIndex:
        """See `LedgerWriter`."""
        return self._engine.budgets

    def close(self) -> None:
        """See `LedgerWriter`."""
        with suppress(sqlite3.Error):  # otherwise another process's sweep does it one lease later
            self._connection.execute(
                "DELETE FROM owners WHERE id = ?1 AND NOT EXISTS"
                " (SELECT 1 FROM attempts WHERE owner = ?1 AND state = 'held')",
                (self.owner,),
            )
        self._connection.close()

    def commit(self, operations: Sequence[LedgerOperation]) -> list[LedgerResult]:
        """See `LedgerWriter`."""
        if self._moved:
            self._files.check()
        else:
            self._files.check_database()
        try:
            results = self._engine.commit(self._transaction, operations)
        except sqlite3.Error as error:
            if isinstance(error, sqlite3.IntegrityError | sqlite3.DataError):
                raise  # the data to be written is at fault, and waiting does not fix it
            raise LedgerUnavailableError(f"the ledger could not commit: {error}") from error
        self._check_committed()
        return results

    def _check_committed(self) -> None:
        """Raises LedgerUnavailableError if the commit just made is in a file that was deleted or
        replaced, and cannot be saved from there."""
        try:
            self._files.check()
            self._moved = False
        except LedgerUnavailableError:
            self._moved = True  # later operations are refused before they are written
            try:
                saved = self._files.save(self._connection)
            except sqlite3.Error:
                saved = False
            if not saved:
                raise

    def check(self) -> None:
        """See `LedgerWriter`."""
        self._files.check_database()
