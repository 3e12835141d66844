"""Budgets and keys in a SQLite file."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence

from spanledger.budgets.applied import AppliedEntry
from spanledger.ledger.keys import KeyChange, Secret
from spanledger.ledger.sql.keys import KEY_COLUMNS
from spanledger.ledger.sql.records import SqlRecords
from spanledger.ledger.sqlite.connection import budget_columns
from spanledger.ledger.sqlite.errors import translated
from spanledger.ledger.sqlite.opening import SqliteOpeningRows
from spanledger.ledger.sqlite.sql import SqliteSql

APPLIED_VERSION = 3
"""First schema version that remembers files."""
KEYS_VERSION = 11
"""First schema version whose keys have secrets of their own, and a history."""
_SINCE = (
    *((1, ""),) * 6,
    (4, "0"),
    *((8, "''"),) * 3,
    *((KEYS_VERSION, text) for text in ("''", "NULL", "'[]'", "''", "'{}'", "NULL")),
)
"""For each of `KEY_COLUMNS`: the first schema version that has it, and what it was before."""


@translated
class SqliteRecords(SqlRecords):
    """`Records` on one connection, which it closes; a file that is only read may have an older schema."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        super().__init__(SqliteSql(connection))
        self._connection = connection
        self._version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        self.budget_columns = budget_columns(connection)
        self.key_columns = [
            missing if self._version < since else name
            for name, (since, missing) in zip(KEY_COLUMNS, _SINCE, strict=True)
        ]

    @property
    def _opening_rows(self) -> SqliteOpeningRows:
        return SqliteOpeningRows(self._connection)

    def _applied_entries(self) -> list[AppliedEntry]:
        return super()._applied_entries() if self._version >= APPLIED_VERSION else []

    def replaced_secrets(self) -> Mapping[str, Sequence[Secret]]:
        """See `KeyRecords`."""
        return super().replaced_secrets() if self._version >= KEYS_VERSION else {}

    def key_history(self, key_id: str | None = None) -> list[KeyChange]:
        """See `KeyRecords`."""
        return super().key_history(key_id) if self._version >= KEYS_VERSION else []
