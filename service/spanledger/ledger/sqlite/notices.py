"""The outbox of notices in a ledger file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from spanledger.ledger.lanes import Position, one_lane
from spanledger.ledger.sql.notices import SqlNotices
from spanledger.ledger.sqlite.connection import BUSY_TIMEOUT_S
from spanledger.ledger.sqlite.errors import translated
from spanledger.ledger.sqlite.files import LedgerFiles
from spanledger.ledger.sqlite.reports import SqliteReports
from spanledger.ledger.sqlite.sql import SqliteSql


@translated
class SqliteNotices(SqlNotices):
    """`NoticeBook` on one connection, which it closes."""

    lane = "0"

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        super().__init__(SqliteSql(connection), SqliteReports(connection))
        self._connection = connection
        self._files = LedgerFiles(path)

    def check(self) -> None:
        """See `NoticeBook`."""
        self._files.check()

    def ends(self) -> Position:
        """See `NoticeBook`."""
        ((seq,),) = self._sql.rows("SELECT value FROM state WHERE key = 'seq'")
        return one_lane(seq)

    @contextmanager
    def _beside(self) -> Iterator[None]:
        try:
            with self._sql.transaction():
                yield
        finally:
            # Taking the write lock turned off SQLite's own waiting.
            self._connection.execute(f"PRAGMA busy_timeout = {int(BUSY_TIMEOUT_S * 1000)}")
