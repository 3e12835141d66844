"""What the shared queries ask of a database's connection.

A query has named parameters (`:name`) and plain names of tables; it is standard SQL as far as SQLite
and PostgreSQL agree on it. Integers stay integers, also in sums, and truth is 0 or 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from spanledger.ledger.rows import RawRow

Columns = tuple[Any, ...]
"""The columns of a found row, in the order of the query."""


class Sql(Protocol):
    """A connection."""

    def rows(self, query: str, **parameters: object) -> Sequence[Columns]:
        """Everything that a query finds."""
        ...

    def each(self, query: str, **parameters: object) -> Iterator[Columns]:
        """The same, a few at a time, for queries that find millions; only within a snapshot."""
        ...

    def raw(self, query: str, **parameters: object) -> list[RawRow]:
        """What a query finds, by the names of the columns."""
        ...

    def run(self, statement: str, **parameters: object) -> None:
        """Run a statement that returns nothing."""
        ...

    def many(self, statement: str, rows: Iterable[Mapping[str, object]]) -> None:
        """Run a statement for each of some parameters."""
        ...

    def transaction(self) -> AbstractContextManager[None]:
        """A write transaction, which sees what others committed before it began."""
        ...

    def snapshot(self) -> AbstractContextManager[None]:
        """While it is open, all queries see one state."""
        ...

    def close(self) -> None:
        """Close it."""
        ...
