"""All rows of a Postgres database, for a copy."""

from __future__ import annotations

from collections.abc import Sequence

from spanledger.budgets.accounts import Balance
from spanledger.ledger.lanes import Position, one_lane
from spanledger.ledger.postgres.errors import translated
from spanledger.ledger.postgres.opening import PostgresOpeningRows, openings
from spanledger.ledger.postgres.partitions import Partition, ensure, partition_of
from spanledger.ledger.postgres.sql import PostgresSql
from spanledger.ledger.rows import RawRow
from spanledger.ledger.sql.tables import SqlTables
from spanledger.ledger.verify import Openings


@translated
class PostgresTables(SqlTables):
    """`Tables` on one session, which it closes."""

    def __init__(self, sql: PostgresSql) -> None:
        super().__init__(sql)
        self._postgres = sql
        self._months: set[Partition] = set()

    def ends(self) -> Position:
        """See `Tables`."""
        return Position(dict(self._sql.rows("SELECT lane, seq FROM owners WHERE seq > 0")))

    def cursor(self) -> Position:
        """See `Tables`."""
        return Position(dict(self._sql.rows("SELECT lane, seq FROM ship_cursor")))

    def openings(self) -> Openings:
        """See `Tables`."""
        return openings(self._sql)

    def set_position(self, last: int, cursor: int) -> None:
        """See `Tables`."""
        self._sql.run(_SET_LANE, seq=last)
        self._sql.run(_SET_CURSOR, seq=cursor)
        for setting in _SET_HISTORIES:
            self._sql.rows(setting)

    def _write_balances(self, balances: Sequence[Balance]) -> None:
        rows = PostgresOpeningRows(self._postgres)
        self._sql.run("DELETE FROM openings")
        numbers = {
            seq: rows.number_of(one_lane(seq))
            for seq in sorted({balance.opened_seq for balance in balances})
        }
        for balance in balances:
            balance.opened_seq = numbers[balance.opened_seq]
        rows.write_balances(balances)

    def _stored(self, rows: Sequence[RawRow]) -> list[RawRow]:
        self._make_months({partition_of(row["request_id"]) for row in rows})
        return [
            {name: _clean(value) for name, value in row.items()} | {"lane": _lane_of(row)}
            for row in rows
        ]

    def _make_months(self, wanted: set[Partition]) -> None:
        if wanted <= self._months:
            return
        with self._postgres.beside():
            ensure(self._postgres.connection, wanted)
        self._months |= wanted


def _lane_of(row: RawRow) -> int | None:
    return None if row["seq"] is None else 0


def _clean(value: object) -> object:
    """A value as Postgres can hold it: its text has no character zero."""
    return value.replace("\0", "\N{REPLACEMENT CHARACTER}") if isinstance(value, str) else value


_SET_LANE = """
INSERT INTO owners (lane, seq) VALUES (0, :seq) ON CONFLICT (lane) DO UPDATE SET seq = excluded.seq"""
_SET_CURSOR = """
INSERT INTO ship_cursor (lane, seq) VALUES (0, :seq)
ON CONFLICT (lane) DO UPDATE SET seq = excluded.seq"""
_SET_HISTORIES = [
    f"SELECT setval(pg_get_serial_sequence('spanledger.{table}', 'id'),"
    f" greatest(1, (SELECT coalesce(max(id), 0) FROM {table})))"
    for table in ("budget_history", "key_history")
]
