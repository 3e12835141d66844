"""The rows that accounts are opened from, in a Postgres database.

An account that was opened at a position has its number in `opened_seq`; the position is in `openings`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from spanledger.budgets.accounts import Balance
from spanledger.budgets.periods import Period
from spanledger.budgets.scopes import SCOPES, SUBJECT_PLACES, SubjectColumns, dimensions_in
from spanledger.clock import NANOS
from spanledger.ledger.lanes import START, Position
from spanledger.ledger.opening import SettledSum, Unfinished
from spanledger.ledger.postgres.sql import PostgresSql
from spanledger.ledger.sql.port import Sql
from spanledger.ledger.verify import Openings


class PostgresOpeningRows:
    """`OpeningRows` on the connection of a `Records`."""

    def __init__(self, sql: PostgresSql) -> None:
        self._sql = sql

    def last(self) -> Position:
        """See `OpeningRows`."""
        return Position(dict(self._sql.rows("SELECT lane, seq FROM owners")))

    def settled(
        self, columns: SubjectColumns, period: Period, after: Position, to: Position
    ) -> Iterator[SettledSum]:
        """See `OpeningRows`."""
        lanes = dict(to.lanes())
        rows = self._sql.rows(
            # What was not read before are the last rows, whichever period they started in.
            _of(columns, _SETTLED_SINCE if after else _SETTLED),
            lanes=list(lanes),
            after=[after.of(lane) for lane in lanes],
            last=list(lanes.values()),
            start=period.start_s * NANOS,
            end=period.end_s * NANOS,
        )
        for *dimensions, cost, overrun in rows:
            yield SettledSum(dimensions_in(dimensions), cost, overrun)

    def unfinished(self, columns: SubjectColumns, since_ns: int) -> Sequence[Unfinished]:
        """See `OpeningRows`."""
        return [
            Unfinished(dimensions_in(row[:_WIDTH]), *row[_WIDTH:])
            for row in self._sql.rows(_of(columns, _NOT_FINAL), since=since_ns)
        ]

    def set_accounts(self, attempt: Unfinished, accounts: str) -> None:
        """See `OpeningRows`."""
        self._sql.run(
            "UPDATE attempts SET accounts = :accounts WHERE request_id = :id AND number = :number",
            accounts=accounts,
            id=attempt.request_id,
            number=attempt.number,
        )

    def number_of(self, position: Position) -> int:
        """See `OpeningRows`."""
        if not position:
            return 0
        ((number,),) = self._sql.rows("SELECT coalesce(max(id), 0) + 1 FROM openings")
        self._sql.many(
            "INSERT INTO openings (id, lane, seq) VALUES (:id, :lane, :seq)",
            [{"id": number, "lane": lane, "seq": seq} for lane, seq in position.lanes() if seq],
        )
        return int(number)

    def write_balances(self, balances: Collection[Balance]) -> None:
        """See `OpeningRows`."""
        self._sql.many(
            _WRITE_BALANCE,
            [
                {
                    **balance.key._asdict(),
                    "end": balance.period_end_s,
                    "spent": balance.spent_nano,
                    "held": balance.held_nano,
                    "overrun": balance.overrun_nano,
                    "opened": balance.opened_seq,
                    "paced": balance.paced,
                }
                for balance in balances
            ],
        )


def openings(sql: Sql) -> Openings:
    """The positions that numbers stand for."""
    found: dict[int, dict[int, int]] = {}
    for number, lane, seq in sql.rows("SELECT id, lane, seq FROM openings"):
        found.setdefault(number, {})[lane] = seq
    positions = {number: Position(last) for number, last in found.items()}
    return lambda number: positions.get(number, START)


_WIDTH = len(SCOPES)


def _of(columns: SubjectColumns, query: str) -> str:
    """A query that reads these columns."""
    join = "JOIN requests r ON r.request_id = a.request_id" if columns.of_request else ""
    return query.format(select=columns.select, join=join, places=SUBJECT_PLACES)


_SETTLED = """
SELECT {select}, sum(a.cost_nano), sum(a.overrun_nano)
FROM attempts a
JOIN unnest(CAST(:lanes AS integer[]), CAST(:last AS bigint[])) AS l (lane, last)
    ON l.lane = a.lane {join}
WHERE a.state = 'settled' AND a.seq <= l.last AND a.started_ns >= :start AND a.started_ns < :end
GROUP BY {places}"""

_SETTLED_SINCE = """
SELECT {select}, sum(a.cost_nano), sum(a.overrun_nano)
FROM unnest(CAST(:lanes AS integer[]), CAST(:after AS bigint[]), CAST(:last AS bigint[]))
    AS l (lane, after, last)
JOIN attempts a ON a.lane = l.lane AND a.seq > l.after AND a.seq <= l.last {join}
WHERE a.state = 'settled' AND a.started_ns >= :start AND a.started_ns < :end
GROUP BY {places}"""

_NOT_FINAL = """
SELECT {select}, a.request_id, a.number, a.started_ns, a.accounts,
    CASE a.state WHEN 'held' THEN a.hold_nano ELSE 0 END, a.cost_nano, a.overrun_nano
FROM attempts a {join} WHERE a.state = 'held' AND a.started_ns >= :since
UNION ALL
SELECT {select}, a.request_id, a.number, a.started_ns, a.accounts, 0, a.cost_nano, a.overrun_nano
FROM attempts a {join} WHERE a.state = 'expired' AND a.started_ns >= :since"""

_WRITE_BALANCE = """
INSERT INTO balances (budget, scope, period, timezone, period_start_s, subject, period_end_s,
    spent_nano, held_nano, overrun_nano, opened_seq, paced)
VALUES (:budget, :scope, :period, :timezone, :period_start_s, :subject, :end, :spent, :held, :overrun,
    :opened, :paced)
ON CONFLICT (budget, scope, period, timezone, period_start_s, subject) DO UPDATE SET
    period_end_s = excluded.period_end_s, spent_nano = excluded.spent_nano,
    held_nano = excluded.held_nano, overrun_nano = excluded.overrun_nano,
    opened_seq = excluded.opened_seq, paced = excluded.paced"""
