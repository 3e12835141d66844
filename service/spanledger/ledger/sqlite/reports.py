"""Reports from a SQLite file."""

from __future__ import annotations

import sqlite3
from datetime import datetime
from zoneinfo import ZoneInfo

from spanledger.clock import NANOS
from spanledger.ledger.lanes import one_lane
from spanledger.ledger.reports import COUNTED_ROWS
from spanledger.ledger.sql.reports import SqlReports
from spanledger.ledger.sqlite.connection import (
    budget_columns,
    has_charges,
    has_notices,
    has_scopes,
)
from spanledger.ledger.sqlite.errors import translated
from spanledger.ledger.sqlite.sql import SqliteSql
from spanledger.ledger.verify import Openings


@translated
class SqliteReports(SqlReports):
    """`Reports` on one connection, which it closes."""

    lane = "0"

    def __init__(self, connection: sqlite3.Connection) -> None:
        super().__init__(SqliteSql(connection))
        self.budget_columns = budget_columns(connection)
        if not has_scopes(connection):
            late = dict.fromkeys(("user", "project", "tag"), "''")
            self.spend_columns = {**self.spend_columns, **late}
        self.has_charges = has_charges(connection)
        self.has_notices = has_notices(connection)
        self._connection = connection

    def _day(self, zone: ZoneInfo) -> str:
        self._connection.create_function(
            "local_day",
            1,
            lambda ns: datetime.fromtimestamp(ns // NANOS, zone).date().isoformat(),
            deterministic=True,
        )
        return "local_day(a.started_ns)"

    def _backlog(self) -> tuple[int, int | None]:
        ((cursor, last),) = self._sql.rows(_ENDS)
        ((rows, waiting),) = self._sql.rows(_WAITING, cursor=cursor, limit=COUNTED_ROWS)
        return (max(rows, last - cursor) if rows >= COUNTED_ROWS else rows), waiting

    def _damage(self) -> list[str]:
        pages = self._sql.rows("PRAGMA quick_check(8)")
        return [f"the file is damaged: {text}" for (text,) in pages if text != "ok"]

    def _openings(self) -> Openings:
        return one_lane


_ENDS = """
SELECT (SELECT seq FROM ship_cursor), (SELECT value FROM state WHERE key = 'seq')"""

_WAITING = """
SELECT (SELECT count(*) FROM (SELECT 1 FROM attempts WHERE seq > :cursor LIMIT :limit))
    + (SELECT count(*) FROM (SELECT 1 FROM requests WHERE seq > :cursor LIMIT :limit)),
    (SELECT min(ended_ns) FROM (
        SELECT * FROM (SELECT ended_ns FROM attempts WHERE seq > :cursor ORDER BY seq LIMIT 1)
        UNION ALL
        SELECT * FROM (SELECT ended_ns FROM requests WHERE seq > :cursor ORDER BY seq LIMIT 1)))"""
