"""The outbox of notices in a Postgres database."""

from __future__ import annotations

from contextlib import AbstractContextManager

from spanledger.ledger.lanes import Position
from spanledger.ledger.postgres.errors import translated
from spanledger.ledger.postgres.reports import PostgresReports
from spanledger.ledger.postgres.sql import PostgresSql
from spanledger.ledger.sql.notices import SqlNotices


@translated
class PostgresNotices(SqlNotices):
    """`NoticeBook` on one session, which it closes."""

    def __init__(self, sql: PostgresSql) -> None:
        super().__init__(sql, PostgresReports(sql))
        self._postgres = sql

    def check(self) -> None:
        """See `NoticeBook`. The next question says it."""

    def ends(self) -> Position:
        """See `NoticeBook`."""
        return Position(dict(self._sql.rows("SELECT lane, seq FROM owners")))

    def _beside(self) -> AbstractContextManager[None]:
        return self._postgres.beside()
