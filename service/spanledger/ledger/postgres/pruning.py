"""Removes old requests from a Postgres database: whole months of which nothing is needed any more,
then rows.

A month is dropped in one transaction: detached first, attempts would be without their requests for a
moment. It waits only briefly until nobody reads, and tries again, because whatever comes after it has
to wait behind it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple

import psycopg

from spanledger.clock import NANOS
from spanledger.errors import LedgerUnavailableError
from spanledger.ledger.postgres.errors import LOCK_NOT_AVAILABLE, RETRIED, translated
from spanledger.ledger.postgres.partitions import Partition, partition_of
from spanledger.ledger.postgres.sql import PostgresSql
from spanledger.ledger.pruning import Keep, Pruned
from spanledger.ledger.sql.pruning import SqlPruning, grouped

DROP_TRIES = 40
DROP_TIMEOUT_MS = 250
"""How long gateways may have to wait behind us for somebody who reads the ledger."""
DROP_PAUSE_S = 0.5
KEPT_ROWS = 1_000
"""Requests that are passed on at a time before their month is dropped."""
_MONTH = re.compile(r"requests_(\d{4})_(\d{2})")


class _Month(NamedTuple):
    """A month of which nothing is needed any more.

    Attributes:
        seen: the last number of each lane among its attempts and its requests; another one shows
            that something has changed.
    """

    partition: Partition
    removed: Pruned
    seen: list[tuple[int, int, int]]


@translated
class PostgresPruning(SqlPruning):
    """`Pruning` on one session, which it closes."""

    shipped = (
        "{row}.seq <= coalesce((SELECT c.seq FROM ship_cursor c WHERE c.lane = {row}.lane), 0)"
    )

    def __init__(self, sql: PostgresSql, before_ns: int, *, unshipped: bool) -> None:
        super().__init__(sql, before_ns, unshipped=unshipped)
        self._postgres = sql

    def run(self, keep: Keep | None = None) -> Iterator[Pruned]:
        """See `Pruning`."""
        done = Pruned()
        for partition in self._old_months():
            month = self._unneeded(partition)
            if month is None:
                continue
            if keep is not None:
                self._pass_on(month, keep)
            if self._drop(month):
                done.requests += month.removed.requests
                done.attempts += month.removed.attempts
                done.cost_nano += month.removed.cost_nano
                yield done
        yield from self._by_rows(done, keep)

    def _old_months(self) -> list[Partition]:
        """Months that ended before the limit."""
        found = []
        for (name,) in self._sql.rows(_PARTITIONS):
            if (match := _MONTH.fullmatch(name)) is None:
                continue
            year, month = int(match[1]), int(match[2])
            end = datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)
            if int(end.timestamp()) * NANOS <= self._before_ns:
                start_s = int(datetime(year, month, 1, tzinfo=UTC).timestamp())
                found.append(partition_of(f"req_{start_s * 1000:012x}"))
        return found

    def _unneeded(self, partition: Partition) -> _Month | None:
        """The month, if nothing of it is needed any more."""
        table = f"spanledger.requests_{partition.suffix}"
        with self._sql.snapshot():
            seen, open_ = self._look(partition)
            needed = open_ or self._sql.rows(
                f"SELECT 1 FROM {table} r WHERE NOT ({self.old} AND {self.over}) LIMIT 1",
                before=self._before_ns,
            )
            if needed:
                return None
            ((requests, cost),) = self._sql.rows(
                f"SELECT count(*), coalesce(sum(cost_nano), 0) FROM {table}"
            )
            ((attempts,),) = self._sql.rows(
                f"SELECT count(*) FROM spanledger.attempts_{partition.suffix}"
            )
        return _Month(partition, Pruned(requests, attempts, cost), seen)

    def _look(self, partition: Partition) -> tuple[list[tuple[int, int, int]], int]:
        """The last numbers in a month, and how many of its rows are open; by indexes alone."""
        suffix = partition.suffix
        seen = self._sql.rows(_LAST.format(suffix=suffix))
        ((open_,),) = self._sql.rows(_OPEN.format(suffix=suffix))
        return [(lane, attempt, request) for lane, attempt, request in seen], open_

    def _pass_on(self, month: _Month, keep: Keep) -> None:
        """Pass all requests of a month to `keep`."""
        suffix, after = month.partition.suffix, ""
        while requests := self._sql.raw(
            f"SELECT * FROM spanledger.requests_{suffix} WHERE request_id > :after"
            " ORDER BY request_id LIMIT :limit",
            after=after,
            limit=KEPT_ROWS,
        ):
            last = requests[-1]["request_id"]
            attempts = self._sql.raw(
                f"SELECT * FROM spanledger.attempts_{suffix} WHERE request_id > :after"
                " AND request_id <= :last ORDER BY request_id, number",
                after=after,
                last=last,
            )
            keep(grouped(requests, attempts))
            after = last

    def _drop(self, month: _Month) -> bool:
        """Drop a month, unless it has changed; its rows are then removed one by one."""
        for attempt in range(DROP_TRIES):
            if attempt:
                time.sleep(DROP_PAUSE_S)
            try:
                return self._try_to_drop(month)
            except psycopg.Error as error:
                if error.sqlstate not in (LOCK_NOT_AVAILABLE, *RETRIED):
                    raise
        raise LedgerUnavailableError(
            "a report or a dump has been reading the ledger for a while, so no month can be dropped:"
            " prune again when it is done"
        )

    def _try_to_drop(self, month: _Month) -> bool:
        suffix, start, end = month.partition
        with self._postgres.transaction():
            connection = self._postgres.connection
            connection.execute(f"SET LOCAL lock_timeout = {DROP_TIMEOUT_MS}")
            for table in ("requests", "attempts"):
                connection.execute(f"LOCK TABLE spanledger.{table} IN ACCESS EXCLUSIVE MODE")
            if self._look(month.partition) != (month.seen, 0):
                return False
            for table in ("attempts", "requests"):
                connection.execute(f"DROP TABLE spanledger.{table}_{suffix}")
            self._sql.run(f"DELETE FROM kept WHERE request_id >= {start} AND request_id < {end}")
            self._remember()
        return True


_PARTITIONS = """
SELECT c.relname FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = CAST('spanledger.requests' AS regclass) ORDER BY 1"""

_LAST = """
SELECT o.lane, (SELECT max(a.seq) FROM spanledger.attempts_{suffix} a WHERE a.lane = o.lane),
    (SELECT max(r.seq) FROM spanledger.requests_{suffix} r WHERE r.lane = o.lane)
FROM owners o ORDER BY 1"""

_OPEN = """
SELECT (SELECT count(*) FROM spanledger.attempts_{suffix} WHERE state = 'held')
    + (SELECT count(*) FROM spanledger.requests_{suffix} WHERE seq IS NULL)"""
