"""Budgets and keys in a SQLite file."""

from __future__ import annotations

import sqlite3

from spanledger.budgets.applied import AppliedEntry
from spanledger.ledger.sql.records import SqlRecords
from spanledger.ledger.sqlite.connection import budget_columns, has_scopes
from spanledger.ledger.sqlite.errors import translated
from spanledger.ledger.sqlite.opening import SqliteOpeningRows
from spanledger.ledger.sqlite.sql import SqliteSql

APPLIED_VERSION = 3
"""First schema version that remembers files."""
PASS_THROUGH_VERSION = 4
"""First schema version whose keys may be allowed to pass through."""


@translated
class SqliteRecords(SqlRecords):
    """`Records` on one connection, which it closes; a file that is only read may have an older schema."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        super().__init__(SqliteSql(connection))
        self._connection = connection
        self._version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        self.budget_columns = budget_columns(connection)
        if self._version < PASS_THROUGH_VERSION:
            self.keys_query = self.keys_query.replace("pass_through", "0")
        if not has_scopes(connection):
            for column in ("user_id", "project", "tags"):
                self.keys_query = self.keys_query.replace(f" {column}", " ''")

    @property
    def _opening_rows(self) -> SqliteOpeningRows:
        return SqliteOpeningRows(self._connection)

    def _applied_entries(self) -> list[AppliedEntry]:
        return super()._applied_entries() if self._version >= APPLIED_VERSION else []
