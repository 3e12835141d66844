"""All rows of a ledger file, for a copy."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from spanledger.budgets.accounts import Balance
from spanledger.ledger.lanes import Position, one_lane
from spanledger.ledger.rows import RawRow
from spanledger.ledger.sql.tables import SqlTables
from spanledger.ledger.sqlite.connection import WRITE_BALANCE
from spanledger.ledger.sqlite.errors import translated
from spanledger.ledger.sqlite.sql import SqliteSql
from spanledger.ledger.verify import Openings


@translated
class SqliteTables(SqlTables):
    """`Tables` on one connection, which it closes."""

    lane = "0"

    def __init__(self, connection: sqlite3.Connection) -> None:
        super().__init__(SqliteSql(connection))
        self._connection = connection

    def ends(self) -> Position:
        """See `Tables`."""
        ((seq,),) = self._sql.rows("SELECT value FROM state WHERE key = 'seq'")
        return one_lane(seq)

    def cursor(self) -> Position:
        """See `Tables`."""
        ((seq,),) = self._sql.rows("SELECT seq FROM ship_cursor")
        return one_lane(seq)

    def openings(self) -> Openings:
        """See `Tables`."""
        return one_lane

    def set_position(self, last: int, cursor: int) -> None:
        """See `Tables`."""
        self.write_state({"seq": last})
        self._sql.run("UPDATE ship_cursor SET seq = :seq", seq=cursor)

    def _write_balances(self, balances: Sequence[Balance]) -> None:
        self._connection.executemany(WRITE_BALANCE, [balance.row for balance in balances])

    def _stored(self, rows: Sequence[RawRow]) -> list[RawRow]:
        return [{name: value for name, value in row.items() if name != "lane"} for row in rows]
