"""The rows that accounts are opened from, in a SQLite file."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator, Sequence

from spanledger.budgets.accounts import Balance
from spanledger.budgets.periods import Period
from spanledger.budgets.scopes import SCOPES, SUBJECT_PLACES, SubjectColumns, dimensions_in
from spanledger.clock import NANOS
from spanledger.ledger.lanes import Position, one_lane
from spanledger.ledger.opening import SettledSum, Unfinished
from spanledger.ledger.sqlite.connection import WRITE_BALANCE

_WIDTH = len(SCOPES)
_JOIN = "JOIN requests r USING (request_id)"

_SETTLED = """
SELECT {select}, sum(a.cost_nano), sum(a.overrun_nano)
FROM attempts a INDEXED BY {index} {join}
WHERE a.state = 'settled' AND a.seq > ? AND a.seq <= ? AND a.started_ns >= ? AND a.started_ns < ?
GROUP BY {places}"""

_NOT_FINAL = """
SELECT {select}, a.request_id, a.number, a.started_ns, a.accounts,
    CASE a.state WHEN 'held' THEN a.hold_nano ELSE 0 END, a.cost_nano, a.overrun_nano
FROM attempts a INDEXED BY {index} {join} WHERE a.state = '{state}' AND a.started_ns >= ?"""


class SqliteOpeningRows:
    """`OpeningRows` on a connection of the caller's."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def last(self) -> Position:
        """See `OpeningRows`."""
        query = "SELECT value FROM state WHERE key = 'seq'"
        return one_lane(self._connection.execute(query).fetchone()[0])

    def settled(
        self, columns: SubjectColumns, period: Period, after: Position, to: Position
    ) -> Iterator[SettledSum]:
        """See `OpeningRows`."""
        # What was not read before are the last rows, whichever period they started in.
        index = "attempts_seq" if after else "attempts_started"
        rows = self._connection.execute(
            _SETTLED.format(
                select=columns.select,
                index=index,
                join=_JOIN if columns.of_request else "",
                places=SUBJECT_PLACES,
            ),
            (after.of(0), to.of(0), period.start_s * NANOS, period.end_s * NANOS),
        )
        for *dimensions, cost, overrun in rows:
            yield SettledSum(dimensions_in(dimensions), cost, overrun)

    def unfinished(self, columns: SubjectColumns, since_ns: int) -> Sequence[Unfinished]:
        """See `OpeningRows`."""
        return [
            Unfinished(dimensions_in(row[:_WIDTH]), *row[_WIDTH:])
            for index, state in (("attempts_open", "held"), ("attempts_expired", "expired"))
            for row in self._connection.execute(
                _NOT_FINAL.format(
                    select=columns.select,
                    index=index,
                    join=_JOIN if columns.of_request else "",
                    state=state,
                ),
                (since_ns,),
            )
        ]

    def set_accounts(self, attempt: Unfinished, accounts: str) -> None:
        """See `OpeningRows`."""
        self._connection.execute(
            "UPDATE attempts SET accounts = ? WHERE request_id = ? AND number = ?",
            (accounts, attempt.request_id, attempt.number),
        )

    def number_of(self, position: Position) -> int:
        """See `OpeningRows`."""
        return position.of(0)

    def write_balances(self, balances: Collection[Balance]) -> None:
        """See `OpeningRows`."""
        self._connection.executemany(WRITE_BALANCE, [balance.row for balance in balances])
