"""Budgets and keys in a Postgres database."""

from __future__ import annotations

from spanledger.ledger.postgres.errors import translated
from spanledger.ledger.postgres.opening import PostgresOpeningRows
from spanledger.ledger.postgres.sql import PostgresSql
from spanledger.ledger.sql.records import SqlRecords


@translated
class PostgresRecords(SqlRecords):
    """`Records` on one session, which it closes."""

    def __init__(self, sql: PostgresSql) -> None:
        super().__init__(sql)
        self._rows = PostgresOpeningRows(sql)

    @property
    def _opening_rows(self) -> PostgresOpeningRows:
        return self._rows
