"""Removes old requests from a SQLite file while gateways serve: small transactions, each all or
nothing."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator

from spanledger.ledger.pruning import Keep, Pruned
from spanledger.ledger.sqlite.connection import begin_immediate, ships
from spanledger.ledger.sqlite.errors import translated

BATCH = 200
"""Requests per transaction: gateways wait for it as for one of their own."""
KEPT_VERSION = 5
"""First schema version with rows of files and batches."""
LAST_SEQ = 2**62


@translated
class SqlitePruning:
    """`Pruning` on one connection, which it closes."""

    def __init__(
        self, connection: sqlite3.Connection, before_ns: int, *, unshipped: bool = False
    ) -> None:
        self._before_ns = before_ns
        self._connection = connection
        self._version = int(self._connection.execute("PRAGMA user_version").fetchone()[0])
        self._connection.row_factory = sqlite3.Row
        self._unshipped = unshipped or not ships(self._connection)

    def close(self) -> None:
        """See `Pruning`."""
        self._connection.close()

    def count(self) -> Pruned:
        """See `Pruning`."""
        moments = {"before": self._before_ns, "cursor": self._cursor()}
        found = Pruned(*self._connection.execute(_COUNT, moments).fetchone())
        if not self._unshipped:
            found.unshipped = self._connection.execute(_UNSHIPPED, moments).fetchone()[0]
        return found

    def run(self, keep: Keep | None = None) -> Iterator[Pruned]:
        """See `Pruning`."""
        done = Pruned()
        after = (-1, "")
        began = time.monotonic()
        while last := self._batch(done, after, keep):
            after = last
            yield done
            time.sleep(time.monotonic() - began)  # leave the lock free for as long as it was held
            began = time.monotonic()

    def _batch(
        self, done: Pruned, after: tuple[int, str], keep: Keep | None
    ) -> tuple[int, str] | None:
        """One transaction; returns where the next continues, or None at the end."""
        begin_immediate(self._connection)
        try:
            requests = self._connection.execute(
                _BATCH,
                {
                    "before": self._before_ns,
                    "cursor": self._cursor(),
                    "after_ns": after[0],
                    "after_id": after[1],
                    "limit": BATCH,
                },
            ).fetchall()
            ids = [(row["request_id"],) for row in requests]
            attempts = [self._connection.execute(_ATTEMPTS, one).fetchall() for one in ids]
            if keep is not None and requests:
                keep(
                    [
                        (dict(r), [dict(t) for t in some])
                        for r, some in zip(requests, attempts, strict=True)
                    ]
                )
            self._connection.executemany("DELETE FROM attempts WHERE request_id = ?", ids)
            self._connection.executemany("DELETE FROM requests WHERE request_id = ?", ids)
            if self._version >= KEPT_VERSION:
                self._connection.executemany("DELETE FROM kept WHERE request_id = ?", ids)
            self._connection.execute(_REMEMBER, (self._before_ns,))
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        done.requests += len(requests)
        done.attempts += sum(map(len, attempts))
        done.cost_nano += sum(row["cost_nano"] for row in requests)
        last = requests[-1] if requests else None
        return (last["started_ns"], last["request_id"]) if last else None

    def _cursor(self) -> int:
        """The `seq` up to which everything may be removed."""
        if self._unshipped:
            return LAST_SEQ
        return int(self._connection.execute("SELECT seq FROM ship_cursor").fetchone()[0])


# `started_ns` has the index; a request that began before the limit may have ended after it.
_WHERE_OLD = (
    "requests r WHERE r.started_ns < :before AND r.ended_ns < :before AND r.seq IS NOT NULL"
)
_TAKEN = (
    "r.seq <= :cursor AND NOT EXISTS (SELECT 1 FROM attempts a WHERE a.request_id = r.request_id"
    " AND (a.seq IS NULL OR a.seq > :cursor OR a.ended_ns >= :before))"
)
_SUMS = "count(*), coalesce(sum(attempts), 0), coalesce(sum(cost_nano), 0)"
_LIMITED = "ORDER BY r.started_ns, r.request_id LIMIT :limit"
_NEXT = "(r.started_ns, r.request_id) > (:after_ns, :after_id)"
_COUNT = f"SELECT {_SUMS} FROM {_WHERE_OLD} AND {_TAKEN}"  # noqa: S608 - from the constants above
_UNSHIPPED = f"SELECT count(*) FROM {_WHERE_OLD} AND NOT ({_TAKEN})"  # noqa: S608 - as above
_BATCH = f"SELECT * FROM {_WHERE_OLD} AND {_NEXT} AND {_TAKEN} {_LIMITED}"  # noqa: S608 - as above
_ATTEMPTS = "SELECT * FROM attempts WHERE request_id = ? ORDER BY number"
_REMEMBER = """
INSERT INTO state (key, value) VALUES ('pruned_ns', ?1)
ON CONFLICT (key) DO UPDATE SET value = max(value, ?1)"""
