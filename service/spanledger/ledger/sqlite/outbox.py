"""The shipper's view of a ledger file: ended rows in order, its cursor, and its own aggregates.

It reads the ledger's rows and writes only what belongs to the shipper: cursor, points,
`shipped_nano`, and the content column once shipped.
"""

from __future__ import annotations

import sqlite3
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from operator import itemgetter
from pathlib import Path

from spanledger.ledger.lanes import Position, one_lane
from spanledger.ledger.rows import (
    Advance,
    AttemptRow,
    CursorMovedError,
    EndedRow,
    PointRow,
    RequestRow,
)
from spanledger.ledger.sql.identity import ledger_uuid
from spanledger.ledger.sql.outbox import (
    MAX_BATCH_BYTES,
    POINTS,
    SHIPPED_ATTEMPT,
    SHIPPED_REQUEST,
    write_shipped,
)
from spanledger.ledger.sql.records import SET_SHIPS
from spanledger.ledger.sqlite.connection import BUSY_TIMEOUT_S, begin_immediate
from spanledger.ledger.sqlite.errors import translated
from spanledger.ledger.sqlite.files import LedgerFiles
from spanledger.ledger.sqlite.sql import SqliteSql

_SEQ = itemgetter(1)
"""Of a row of either kind; its second column."""

_ATTEMPTS = f"""
SELECT 0, {SHIPPED_ATTEMPT} FROM attempts a JOIN requests r USING (request_id)
WHERE a.seq > ? ORDER BY a.seq LIMIT ?"""  # noqa: S608 - our own columns

_REQUESTS = f"""
SELECT 0, {SHIPPED_REQUEST} FROM requests r WHERE r.seq > ? ORDER BY r.seq LIMIT ?"""  # noqa: S608 - as above


@translated
class SqliteOutbox:
    """`Outbox` on one connection, which it closes; used by one thread at a time.

    The connection commits with `synchronous=NORMAL`, unlike the gateway's: a power cut may undo
    the last advances, and their spans are then sent again with the same ids. Killing the process
    undoes nothing. In return the shipper never holds the write lock during a disk sync.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._sql = SqliteSql(connection)
        self._files = LedgerFiles(path)
        self._connection.execute("PRAGMA synchronous = NORMAL")
        self._sql.run(SET_SHIPS, ships=1)
        self._data_version = -1

    def close(self) -> None:
        """See `Outbox`."""
        self._connection.close()

    def cursor(self) -> Position:
        """See `Outbox`."""
        return one_lane(self._one("SELECT seq FROM ship_cursor"))

    def ledger_id(self) -> str:
        """A UUID of this ledger, generated on first use."""
        return ledger_uuid(self._sql)

    def points(self) -> list[PointRow]:
        """See `Outbox`."""
        return [
            PointRow(name, key, ns, point.encode())
            for name, key, ns, point in self._sql.rows(POINTS)
        ]

    def changed(self) -> bool:
        """See `Outbox`."""
        self._files.check()
        version = self._one("PRAGMA data_version")
        changed = version != self._data_version
        self._data_version = version
        return changed

    def _one(self, sql: str) -> int:
        value: int = self._connection.execute(sql).fetchone()[0]
        return value

    def read_after(self, cursor: Position, limit: int) -> list[EndedRow]:
        """Ended rows after a cursor, both kinds merged in order.

        Half of the limit is read of each kind, and what follows the first kind to be cut off is left
        for the next batch. One transaction: a row that ends between the two queries must not be skipped.
        """
        seq, half = cursor.of(0), max(1, limit // 2)
        with self._transaction("BEGIN"):
            requests = list(map(RequestRow._make, self._connection.execute(_REQUESTS, (seq, half))))
            attempts, cut_off = self._read_attempts(seq, half)
        merged: list[EndedRow] = sorted([*requests, *attempts], key=_SEQ)
        ends = [attempts[-1].seq] if cut_off else []
        if len(requests) == half:
            ends.append(requests[-1].seq)
        if ends:  # rows that were not read may come between those that follow
            del merged[bisect_right(merged, min(ends), key=_SEQ) :]
        return merged[:limit]

    def _read_attempts(self, seq: int, limit: int) -> tuple[list[AttemptRow], bool]:
        """Attempts in order, and whether the limit or their content cut them off."""
        attempts, size = [], 0
        cursor = self._connection.execute(_ATTEMPTS, (seq, limit))
        for attempt in map(AttemptRow._make, cursor):
            attempts.append(attempt)
            if attempt.content is not None:
                size += len(attempt.content)
                if size > MAX_BATCH_BYTES:
                    cursor.close()
                    return attempts, True
        return attempts, len(attempts) == limit

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[None]:
        self._connection.execute(begin)
        try:
            yield
            self._connection.execute("COMMIT")
        finally:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    def advance(self, advance: Advance) -> None:
        """Move the cursor and store the points, all or nothing.

        Raises:
            CursorMovedError: the cursor was not where this shipper left it.
        """
        try:
            begin_immediate(self._connection)
            moved = self._connection.execute(
                "UPDATE ship_cursor SET seq = ? WHERE id = 1 AND seq = ?",
                (advance.to_cursor.of(0), advance.from_cursor.of(0)),
            )
            if moved.rowcount != 1:
                raise CursorMovedError("another shipper is running on this ledger")
            self._sql.run(SET_SHIPS, ships=1)
            write_shipped(self._sql, advance)
            self._connection.execute("COMMIT")
        finally:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            # Taking the write lock turned off SQLite's own waiting.
            self._connection.execute(f"PRAGMA busy_timeout = {int(BUSY_TIMEOUT_S * 1000)}")
