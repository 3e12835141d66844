"""Rates and their shares in a SQLite file."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import AbstractContextManager

from spanledger.ledger.sql.rates import SqlRates
from spanledger.ledger.sqlite.errors import translated
from spanledger.ledger.sqlite.sql import SqliteSql
from spanledger.rates.model import Rate, RateAccount


@translated
class SqliteRates(SqlRates):
    """`RateRows` on one connection; a file that is only read may have an older schema, without rates."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        super().__init__(SqliteSql(connection))
        found = "SELECT 1 FROM sqlite_master WHERE name = 'rates'"
        self._has_rates = connection.execute(found).fetchone() is not None
        self._connection = connection
        self._relaxed = False

    def rates(self) -> list[Rate]:
        """See `RateRows`."""
        return super().rates() if self._has_rates else []

    def _alone(self, accounts: Sequence[RateAccount]) -> AbstractContextManager[None]:  # noqa: ARG002 - a file has one writer
        if not self._relaxed:
            # A power cut may lose the last shares, with all processes that used them.
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._relaxed = True
        return self._sql.transaction()

    def _changing(self) -> AbstractContextManager[None]:
        return self._sql.transaction()
