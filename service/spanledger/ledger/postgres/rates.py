"""Rates and their shares in a Postgres database."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

from spanledger.ledger.postgres.errors import translated
from spanledger.ledger.postgres.sql import PostgresSql
from spanledger.ledger.sql.rates import SqlRates
from spanledger.rates.model import RateAccount


@translated
class PostgresRates(SqlRates):
    """`RateRows` on one session, which it closes."""

    def __init__(self, sql: PostgresSql) -> None:
        super().__init__(sql)
        self._own = sql

    @contextmanager
    def _alone(self, accounts: Sequence[RateAccount]) -> Iterator[None]:
        names = sorted("\n".join(account) for account in accounts)
        with self._own.beside():
            self._own.connection.execute(_LOCK, (names,))
            yield

    def _changing(self) -> AbstractContextManager[None]:
        return self._own.transaction()


_LOCK = """
SELECT pg_advisory_xact_lock(hashtextextended('spanledger.rates', k))
FROM (SELECT DISTINCT hashtextextended(name, 0) AS k FROM unnest(%s::text[]) name ORDER BY k) keys"""
"""One after another, in one order everywhere, so that no two wait for each other."""
