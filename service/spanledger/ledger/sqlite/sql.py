"""The shared queries' connection, on SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from spanledger.ledger.rows import RawRow
from spanledger.ledger.sql.port import Columns
from spanledger.ledger.sqlite.connection import begin_immediate


class SqliteSql:
    """`Sql` on a connection, which it closes."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    def rows(self, query: str, **parameters: object) -> list[Columns]:
        """See `Sql`."""
        return self.connection.execute(query, parameters).fetchall()

    def each(self, query: str, **parameters: object) -> Iterator[Columns]:
        """See `Sql`."""
        return self.connection.execute(query, parameters)

    def raw(self, query: str, **parameters: object) -> list[RawRow]:
        """See `Sql`."""
        cursor = self.connection.execute(query, parameters)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor]

    def run(self, statement: str, **parameters: object) -> None:
        """See `Sql`."""
        self.connection.execute(statement, parameters)

    def many(self, statement: str, rows: Iterable[Mapping[str, object]]) -> None:
        """See `Sql`."""
        self.connection.executemany(statement, rows)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """See `Sql`."""
        begin_immediate(self.connection)
        try:
            yield
            self.connection.execute("COMMIT")
        except BaseException:
            if self.connection.in_transaction:  # SQLite may have ended it itself
                self.connection.execute("ROLLBACK")
            raise

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """See `Sql`."""
        self.connection.execute("BEGIN")
        try:
            yield
        finally:
            self.connection.execute("COMMIT")

    def close(self) -> None:
        """See `Sql`."""
        self.connection.close()
