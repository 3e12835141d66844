"""Removes old requests from a SQLite file."""

from __future__ import annotations

import sqlite3

from spanledger.ledger.sql.pruning import SqlPruning
from spanledger.ledger.sqlite.errors import translated
from spanledger.ledger.sqlite.sql import SqliteSql

KEPT_VERSION = 5
"""First schema version with rows of files and batches."""


@translated
class SqlitePruning(SqlPruning):
    """`Pruning` on one connection, which it closes."""

    def __init__(
        self, connection: sqlite3.Connection, before_ns: int, *, unshipped: bool = False
    ) -> None:
        self.keeps = connection.execute("PRAGMA user_version").fetchone()[0] >= KEPT_VERSION
        super().__init__(SqliteSql(connection), before_ns, unshipped=unshipped)
