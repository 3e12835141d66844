"""Reports from a Postgres database."""

from __future__ import annotations

from zoneinfo import ZoneInfo

from spanledger.ledger.postgres.errors import translated
from spanledger.ledger.postgres.opening import openings
from spanledger.ledger.reports import COUNTED_ROWS
from spanledger.ledger.sql.reports import SqlReports
from spanledger.ledger.verify import Openings


@translated
class PostgresReports(SqlReports):
    """`Reports` on one session, which it closes."""

    def _day(self, zone: ZoneInfo) -> str:  # noqa: ARG002 - it is a parameter
        return "to_char(to_timestamp(a.started_ns / 1000000000) AT TIME ZONE :zone, 'YYYY-MM-DD')"

    def _backlog(self) -> tuple[int, int | None]:
        ((rows, waiting, numbers),) = self._sql.rows(_BACKLOG, limit=COUNTED_ROWS)
        return (max(rows, numbers) if rows >= COUNTED_ROWS else rows), waiting

    def _damage(self) -> list[str]:
        return []  # what the server checks by itself, with checksums switched on

    def _openings(self) -> Openings:
        return openings(self._sql)


_BACKLOG = """
WITH lanes AS MATERIALIZED (
    SELECT o.lane, coalesce(c.seq, 0) AS after, o.seq - coalesce(c.seq, 0) AS numbers
    FROM owners o LEFT JOIN ship_cursor c USING (lane) WHERE o.seq > coalesce(c.seq, 0)),
attempt AS MATERIALIZED (
    SELECT x.ended_ns FROM lanes l CROSS JOIN LATERAL (
        SELECT ended_ns FROM attempts a WHERE a.lane = l.lane AND a.seq > l.after
        ORDER BY a.seq LIMIT :limit) x LIMIT :limit),
request AS MATERIALIZED (
    SELECT x.ended_ns FROM lanes l CROSS JOIN LATERAL (
        SELECT ended_ns FROM requests r WHERE r.lane = l.lane AND r.seq > l.after
        ORDER BY r.seq LIMIT :limit) x LIMIT :limit),
first AS MATERIALIZED (
    SELECT a.ended_ns FROM lanes l CROSS JOIN LATERAL (
        SELECT ended_ns FROM attempts a WHERE a.lane = l.lane AND a.seq > l.after
        ORDER BY a.seq LIMIT 1) a
    UNION ALL
    SELECT r.ended_ns FROM lanes l CROSS JOIN LATERAL (
        SELECT ended_ns FROM requests r WHERE r.lane = l.lane AND r.seq > l.after
        ORDER BY r.seq LIMIT 1) r)
SELECT (SELECT count(*) FROM attempt) + (SELECT count(*) FROM request),
    (SELECT min(ended_ns) FROM first), (SELECT coalesce(sum(numbers), 0) FROM lanes)"""
