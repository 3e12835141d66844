"""The shared queries' connection, on Postgres."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache

from spanledger.ledger.postgres.connection import Link, Session
from spanledger.ledger.rows import RawRow
from spanledger.ledger.sql.port import Columns

FETCHED = 5_000
"""Rows of a long answer that are in memory at a time."""
KEEP_OTHERS_OUT = "LOCK TABLE spanledger.owners IN SHARE ROW EXCLUSIVE MODE"
"""Waits for the batches of all gateways that are under way, and keeps others out until the end of the
transaction: every batch begins by changing its gateway's row there."""

MAX_ADAPTED = 500
"""Queries whose text is remembered."""

_PARAMETER = re.compile(r"(?<!:):([a-z_]\w*)")
_TABLE = re.compile(
    r"\b(FROM|JOIN|UPDATE|INTO)\s+(applied_budgets|attempts|balances|budget_history|budgets|kept|keys"
    r"|key_history|key_secrets|notice_deliveries|notice_totals|notices"
    r"|openings|owners|requests|ship_cursor|ship_points|state)\b"
)


@lru_cache(MAX_ADAPTED)
def adapted(query: str) -> str:
    """A shared query as the driver takes it: its parameters, and the schema before each table, as a
    pooler keeps no search path."""
    text = _PARAMETER.sub(r"%(\1)s", query.replace("%", "%%"))
    return _TABLE.sub(r"\1 spanledger.\2", text)


class PostgresSql:
    """`Sql` on a session, which it closes."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._inside: Link | None = None

    @property
    def connection(self) -> Link:
        """The connection of the transaction or snapshot that is open."""
        assert self._inside is not None
        return self._inside

    def rows(self, query: str, **parameters: object) -> list[Columns]:
        """See `Sql`; outside of transactions, asked again if the connection was lost."""
        if self._inside is not None:
            return self._inside.execute(adapted(query), parameters).fetchall()
        return self._session.rows(adapted(query), parameters)

    def each(self, query: str, **parameters: object) -> Iterator[Columns]:
        """See `Sql`."""
        with self.connection.cursor(name="each") as cursor:
            cursor.itersize = FETCHED
            cursor.execute(adapted(query), parameters)
            yield from cursor

    def raw(self, query: str, **parameters: object) -> list[RawRow]:
        """See `Sql`."""
        if self._inside is None:
            with self.snapshot():
                return self.raw(query, **parameters)
        cursor = self._inside.execute(adapted(query), parameters)
        names = [column.name for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor]

    def run(self, statement: str, **parameters: object) -> None:
        """See `Sql`."""
        connection = self._inside
        if connection is None:
            with self._session.transaction() as connection:
                connection.execute(adapted(statement), parameters)
        else:
            connection.execute(adapted(statement), parameters)

    def many(self, statement: str, rows: Iterable[Mapping[str, object]]) -> None:
        """See `Sql`."""
        with self.connection.cursor() as cursor:
            cursor.executemany(adapted(statement), list(rows))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """See `Sql`; no gateway commits meanwhile."""
        with self._session.transaction() as connection:
            connection.execute(KEEP_OTHERS_OUT)
            with self._within(connection):
                yield

    @contextmanager
    def beside(self) -> Iterator[None]:
        """A write transaction while gateways commit theirs, but nobody is alone."""
        with self._session.transaction() as connection:
            connection.execute("LOCK TABLE spanledger.owners IN ROW EXCLUSIVE MODE")
            with self._within(connection):
                yield

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """See `Sql`."""
        if self._inside is not None:
            yield
            return
        with self._session.snapshot() as connection, self._within(connection):
            yield

    @contextmanager
    def _within(self, connection: Link) -> Iterator[None]:
        self._inside = connection
        try:
            yield
        finally:
            self._inside = None

    def close(self) -> None:
        """See `Sql`."""
        self._session.close()
