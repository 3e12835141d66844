"""The shipper's view of the ledger: ended rows in order, its cursor, and its own aggregates.

It reads the
ledger's rows and writes only what belongs to the shipper: cursor, points, `shipped_nano`, and the
content column once shipped.
"""

from __future__ import annotations

import sqlite3
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from operator import itemgetter
from pathlib import Path

from spanledger.ledger.rows import (
    Advance,
    AttemptRow,
    CursorMovedError,
    EndedRow,
    PointRow,
    RequestRow,
)
from spanledger.ledger.sqlite.connection import (
    BUSY_TIMEOUT_S,
    SET_SHIPS,
    begin_immediate,
    ledger_id,
)
from spanledger.ledger.sqlite.errors import translated
from spanledger.ledger.sqlite.files import LedgerFiles

MAX_BATCH_BYTES = 4 * 2**20
"""Content in one batch; a collector accepts 20 MiB by default, and memory is not free."""


_SEQ = itemgetter(0)
"""Of a row of either kind; its first column."""


_ATTEMPTS = """
SELECT a.seq, a.request_id, a.number, r.trace_id, a.span_id, r.span_id, r.route, r.operation,
    r.stream, a.state, a.started_ns, a.ended_ns, a.first_chunk_ns, a.chunks, a.customer, a.team,
    a.key_id, a.deployment, a.provider, a.model, a.response_model, a.fallback_from, a.reason,
    a.cost_nano, a.overrun_nano, a.price_id, a.estimated, a.unpriced, a.corrected, a.decision,
    a.error_type, a.http_status, a.input_tokens, a.output_tokens, a.cache_read_tokens,
    a.cache_write_tokens, a.reasoning_tokens, a.detail, a.content, a.shipped_nano,
    r.parent_span_id
FROM attempts a JOIN requests r USING (request_id)
WHERE a.seq > ? ORDER BY a.seq LIMIT ?"""

_REQUESTS = """
SELECT seq, request_id, trace_id, span_id, parent_span_id, started_ns, ended_ns, customer, team,
    key_id, route, operation, outcome, error_type, http_status, refused_by, refused_scope,
    attempts, cost_nano, decision, shipped_nano,
    EXISTS (SELECT 1 FROM attempts a WHERE a.request_id = requests.request_id AND a.seq IS NULL)
FROM requests WHERE seq > ? ORDER BY seq LIMIT ?"""


@translated
class SqliteOutbox:
    """`Outbox` on one connection, which it closes; used by one thread at a time.

    The connection commits with `synchronous=NORMAL`, unlike the gateway's: a power cut may undo
    the last advances, and their spans are then sent again with the same ids. Killing the process
    undoes nothing. In return the shipper never holds the write lock during a disk sync.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._files = LedgerFiles(path)
        self._connection.execute("PRAGMA synchronous = NORMAL")
        self._connection.execute(SET_SHIPS, (1,))
        self._data_version = -1

    def close(self) -> None:
        """See `Outbox`."""
        self._connection.close()

    def cursor(self) -> int:
        """See `Outbox`."""
        return int(self._one("SELECT seq FROM ship_cursor"))

    def ledger_id(self) -> str:
        """A UUID of this ledger, generated on first use."""
        return ledger_id(self._connection)

    def points(self) -> list[PointRow]:
        """See `Outbox`."""
        rows = self._connection.execute(
            "SELECT metric, attributes, since_ns, point FROM ship_points"
        ).fetchall()
        return [PointRow(name, key, ns, point.encode()) for name, key, ns, point in rows]

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

    def read_after(self, seq: int, limit: int) -> list[EndedRow]:
        """Ended rows after a cursor, both kinds merged in order.

        Half of the limit is read of each kind, and what follows the first kind to be cut off is left
        for the next batch. One transaction: a row that ends between the two queries must not be skipped.
        """
        half = max(1, limit // 2)
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
                (advance.to_seq, advance.from_seq),
            )
            if moved.rowcount != 1:
                raise CursorMovedError("another shipper is running on this ledger")
            self._write(advance)
            self._connection.execute("COMMIT")
        finally:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            # Taking the write lock turned off SQLite's own waiting.
            self._connection.execute(f"PRAGMA busy_timeout = {int(BUSY_TIMEOUT_S * 1000)}")

    def _write(self, advance: Advance) -> None:
        self._connection.execute(SET_SHIPS, (1,))
        self._connection.executemany(
            "INSERT INTO ship_points (metric, attributes, since_ns, point) VALUES (?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET since_ns = excluded.since_ns, point = excluded.point",
            [(p.metric, p.attributes, p.since_ns, p.point.decode()) for p in advance.points],
        )
        self._connection.executemany(
            "UPDATE attempts SET shipped_nano = ? WHERE request_id = ? AND number = ?",
            [(r.cost_nano, r.request_id, r.number) for r in _attempts(advance.remembered)],
        )
        self._connection.executemany(
            "UPDATE requests SET shipped_nano = ? WHERE request_id = ?",
            [(r.cost_nano, r.request_id) for r in advance.remembered if isinstance(r, RequestRow)],
        )
        # A row corrected in the meantime has new content, which is not shipped yet.
        self._connection.executemany(
            "UPDATE attempts SET content = NULL WHERE request_id = ? AND number = ? AND seq = ?",
            [(r.request_id, r.number, r.seq) for r in advance.with_content],
        )


def _attempts(rows: Iterable[EndedRow]) -> list[AttemptRow]:
    return [row for row in rows if isinstance(row, AttemptRow)]
