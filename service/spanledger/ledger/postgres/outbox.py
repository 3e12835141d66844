"""The shipper's view of a ledger in Postgres: ended rows in order within each lane, the cursor of each
lane, and the shipper's own aggregates.

It reads the ledger's rows and writes only what belongs to the shipper: cursors, points,
`shipped_nano`, and the content column once shipped.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from operator import itemgetter

from spanledger.ledger.lanes import Position
from spanledger.ledger.postgres.errors import translated
from spanledger.ledger.postgres.sql import PostgresSql, adapted
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

_SEQ = itemgetter(1)
"""Of a row of either kind; its second column."""


@translated
class PostgresOutbox:
    """`Outbox` on one session, which it closes; used by one thread at a time."""

    def __init__(self, sql: PostgresSql) -> None:
        self._sql = sql
        self._sql.run(SET_SHIPS, ships=1)
        self._seen: Position | None = None

    def close(self) -> None:
        """See `Outbox`."""
        self._sql.close()

    def cursor(self) -> Position:
        """See `Outbox`."""
        return Position(dict(self._sql.rows("SELECT lane, seq FROM ship_cursor")))

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
        """See `Outbox`. Every ended row raises the number of its lane."""
        seen = self._ends()
        changed = seen != self._seen
        self._seen = seen
        return changed

    def _ends(self) -> Position:
        """Behind the last row of each lane."""
        return Position(dict(self._sql.rows("SELECT lane, seq FROM owners")))

    def read_after(self, cursor: Position, limit: int) -> list[EndedRow]:
        """Ended rows after a cursor, one lane after the other, both kinds merged in order.

        Only what has ended before the two queries is read, so that no row that ends between them is
        skipped.
        """
        ends = self._ends()
        waiting = {
            lane: last - cursor.of(lane) for lane, last in ends.lanes() if last > cursor.of(lane)
        }
        if not waiting:
            return []
        shares = _shares(waiting, max(1, limit // 2))
        found = self._read(cursor, ends, shares, MAX_BATCH_BYTES // len(shares))
        return [row for rows in found for row in rows][:limit]

    def _read(
        self, cursor: Position, ends: Position, shares: Mapping[int, int], content_bytes: int
    ) -> list[list[EndedRow]]:
        """The rows of each lane, as many as its share of each kind.

        Args:
            content_bytes: after this much content, a lane's attempts are cut off.
        """
        where = {
            "lanes": list(shares),
            "after": [cursor.of(lane) for lane in shares],
            "last": [ends.of(lane) for lane in shares],
            "most": list(shares.values()),
            "bytes": content_bytes,
        }
        found: dict[int, tuple[list[RequestRow], list[AttemptRow]]] = {
            lane: ([], []) for lane in shares
        }
        with self._sql.snapshot():
            connection = self._sql.connection
            with connection.pipeline():
                requests = connection.execute(_REQUESTS, where)
                attempts = connection.execute(_ATTEMPTS, where)
            for request in map(RequestRow._make, requests):
                found[request.lane][0].append(request)
            cut_off = set()
            for *columns, _, content in attempts:
                attempt = AttemptRow._make(columns)
                found[attempt.lane][1].append(attempt)
                if content > content_bytes:
                    cut_off.add(attempt.lane)
        return [_merged(*found[lane], shares[lane], lane in cut_off) for lane in shares]

    def advance(self, advance: Advance) -> None:
        """Move the cursors and store the points, all or nothing.

        Raises:
            CursorMovedError: a cursor was not where this shipper left it.
        """
        with self._sql.beside():
            self._sql.run("LOCK TABLE spanledger.ship_cursor IN SHARE ROW EXCLUSIVE MODE")
            if not self.cursor().same_as(advance.from_cursor):
                raise CursorMovedError("another shipper is running on this ledger")
            moved = [
                {"lane": lane, "seq": seq}
                for lane, seq in advance.to_cursor.lanes()
                if seq != advance.from_cursor.of(lane)
            ]
            self._sql.many(_MOVE, moved)
            self._sql.run(SET_SHIPS, ships=1)
            write_shipped(self._sql, advance)


def _shares(waiting: Mapping[int, int], most: int) -> dict[int, int]:
    """How many rows of each kind are read of each lane: together about `most`, but at least one of
    each, and none more than wait.

    What a short lane leaves goes to the longer ones, so that one with a backlog fills the batch.
    """
    shares = {}
    lanes = sorted(waiting, key=lambda lane: waiting[lane])
    for number, lane in enumerate(lanes):
        share = min(waiting[lane], max(1, most // (len(lanes) - number)))
        shares[lane] = share
        most -= share
    return shares


def _merged(
    requests: Sequence[RequestRow], attempts: Sequence[AttemptRow], share: int, cut_off: bool
) -> list[EndedRow]:
    """Rows of one lane in order, without what may follow rows that were not read."""
    merged: list[EndedRow] = sorted([*requests, *attempts], key=_SEQ)
    ends = [max(map(_SEQ, attempts))] if cut_off or len(attempts) == share else []
    if len(requests) == share:
        ends.append(max(map(_SEQ, requests)))
    if ends:
        del merged[bisect_right(merged, min(ends), key=_SEQ) :]
    return merged


_LANES = """
FROM unnest(CAST(:lanes AS integer[]), CAST(:after AS bigint[]), CAST(:last AS bigint[]),
    CAST(:most AS integer[])) AS l (lane, after, last, most)"""

_REQUESTS = adapted(f"""
SELECT x.* {_LANES} CROSS JOIN LATERAL (
    SELECT r.lane, {SHIPPED_REQUEST} FROM requests r
    WHERE r.lane = l.lane AND r.seq > l.after AND r.seq <= l.last ORDER BY r.seq LIMIT l.most) x""")

# What the content of the rows before has taken decides which is the last.
_ATTEMPTS = adapted(f"""
SELECT x.* {_LANES} CROSS JOIN LATERAL (
    SELECT * FROM (
        SELECT y.*, sum(y.bytes) OVER (ORDER BY y.seq) AS content_bytes FROM (
            SELECT a.lane, {SHIPPED_ATTEMPT}, coalesce(octet_length(a.content), 0) AS bytes
            FROM attempts a JOIN requests r USING (request_id)
            WHERE a.lane = l.lane AND a.seq > l.after AND a.seq <= l.last
            ORDER BY a.seq LIMIT l.most) y) z
    WHERE z.content_bytes - z.bytes <= :bytes) x""")

_MOVE = """
INSERT INTO ship_cursor (lane, seq) VALUES (:lane, :seq)
ON CONFLICT (lane) DO UPDATE SET seq = excluded.seq"""
