"""Removes old requests while gateways serve: small transactions, each all or nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

from spanledger.ledger.pruning import Keep, Pruned
from spanledger.ledger.rows import RawRow
from spanledger.ledger.sql.port import Sql

BATCH = 200
"""Requests per transaction: gateways wait for it as for one of their own."""

RequestPlace = tuple[int, str]
"""Start and id of a request, by which a batch continues."""


class SqlPruning:
    """`Pruning` on one connection, which it closes."""

    shipped = "{row}.seq <= (SELECT seq FROM ship_cursor)"
    """Whether the shipper is past an ended row, as SQL."""
    # `started_ns` has the index; a request that began before the limit may have ended after it.
    old = "r.started_ns < :before AND r.ended_ns < :before AND r.seq IS NOT NULL"
    """Whether a request is old and has ended, as SQL."""
    keeps = True
    """Whether there are rows of what providers keep."""

    def __init__(self, sql: Sql, before_ns: int, *, unshipped: bool) -> None:
        self._sql = sql
        self._before_ns = before_ns
        self._unshipped = unshipped or not ships(sql)

    def close(self) -> None:
        """See `Pruning`."""
        self._sql.close()

    @property
    def over(self) -> str:
        """Whether nothing needs an old request `r` any more, as SQL; has the parameter `before`."""
        request, attempt = ("1 = 1", "1 = 1") if self._unshipped else self._both_shipped
        return (
            f"{request} AND NOT EXISTS (SELECT 1 FROM attempts a"  # noqa: S608 - our own text
            f" WHERE a.request_id = r.request_id AND (a.seq IS NULL OR NOT ({attempt})"
            " OR a.ended_ns >= :before))"
        )

    @property
    def _both_shipped(self) -> tuple[str, str]:
        return self.shipped.format(row="r"), self.shipped.format(row="a")

    def count(self) -> Pruned:
        """See `Pruning`."""
        with self._sql.snapshot():
            query = f"SELECT {_SUMS} FROM requests r WHERE {self.old} AND {self.over}"  # noqa: S608 - our own text
            found = Pruned(*self._sql.rows(query, before=self._before_ns)[0])
            if not self._unshipped:
                query = f"SELECT count(*) FROM requests r WHERE {self.old} AND NOT ({self.over})"  # noqa: S608 - as above
                ((found.unshipped,),) = self._sql.rows(query, before=self._before_ns)
        return found

    def run(self, keep: Keep | None = None) -> Iterator[Pruned]:
        """See `Pruning`."""
        yield from self._by_rows(Pruned(), keep)

    def _by_rows(self, done: Pruned, keep: Keep | None) -> Iterator[Pruned]:
        """Remove requests by batches."""
        after: RequestPlace = (-1, "")
        began = time.monotonic()
        while (last := self._batch(done, after, keep)) is not None:
            after = last
            yield done
            time.sleep(time.monotonic() - began)  # leave the lock free for as long as it was held
            began = time.monotonic()

    def _batch(self, done: Pruned, after: RequestPlace, keep: Keep | None) -> RequestPlace | None:
        """One transaction; returns where the next continues, or None at the end."""
        with self._sql.transaction():
            requests, attempts = self._next(after)
            ids = {f"i{number}": row["request_id"] for number, row in enumerate(requests)}
            if requests:
                if keep is not None:
                    keep(grouped(requests, attempts))
                for table in ("attempts", "requests", *(["kept"] if self.keeps else [])):
                    self._sql.run(f"DELETE FROM {table} WHERE {_one_of(ids)}", **ids)  # noqa: S608 - our own names
            self._remember()
        add(done, requests, attempts)
        return (requests[-1]["started_ns"], requests[-1]["request_id"]) if requests else None

    def _next(self, after: RequestPlace) -> tuple[list[RawRow], list[RawRow]]:
        """The next requests to remove, in order, and their attempts."""
        query = (
            f"SELECT * FROM requests r WHERE {self.old} AND {_NEXT} AND {self.over}"  # noqa: S608 - our own text
            " ORDER BY r.started_ns, r.request_id LIMIT :limit"
        )
        requests = self._sql.raw(
            query, before=self._before_ns, after_ns=after[0], after_id=after[1], limit=BATCH
        )
        if not requests:
            return [], []
        ids: dict[str, Any] = {f"i{n}": row["request_id"] for n, row in enumerate(requests)}
        query = f"SELECT * FROM attempts WHERE {_one_of(ids)} ORDER BY request_id, number"  # noqa: S608 - as above
        return requests, self._sql.raw(query, **ids)

    def _remember(self) -> None:
        """Record until when requests may be missing."""
        self._sql.run(_REMEMBER, before=self._before_ns)


def ships(sql: Sql) -> bool:
    """Whether a shipper will ship the rows. A gateway records this at startup, and a shipper at each
    of its own writes; until then the answer is yes."""
    rows = sql.rows("SELECT value FROM state WHERE key = 'ships'")
    return not rows or bool(rows[0][0])


def grouped(
    requests: Sequence[RawRow], attempts: Sequence[RawRow]
) -> list[tuple[RawRow, list[RawRow]]]:
    """Each request with its attempts, which keep their order."""
    found: dict[str, list[RawRow]] = {request["request_id"]: [] for request in requests}
    for attempt in attempts:
        found[attempt["request_id"]].append(attempt)
    return [(request, found[request["request_id"]]) for request in requests]


def add(done: Pruned, requests: Sequence[RawRow], attempts: Sequence[RawRow]) -> None:
    """Count what was removed."""
    done.requests += len(requests)
    done.attempts += len(attempts)
    done.cost_nano += sum(request["cost_nano"] for request in requests)


def _one_of(ids: dict[str, Any]) -> str:
    return f"request_id IN ({', '.join(f':{name}' for name in ids)})"


_SUMS = "count(*), coalesce(sum(r.attempts), 0), coalesce(sum(r.cost_nano), 0)"
_NEXT = "(r.started_ns, r.request_id) > (:after_ns, :after_id)"
_REMEMBER = """
INSERT INTO state (key, value) VALUES ('pruned_ns', :before)
ON CONFLICT (key) DO UPDATE SET value = excluded.value WHERE state.value < excluded.value"""
