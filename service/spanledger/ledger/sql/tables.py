"""All rows of a ledger in SQL, for a copy. What a database does its own way is left to it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cache

from spanledger.budgets.accounts import Balance
from spanledger.budgets.scopes import SubjectColumns, dimensions_in
from spanledger.ledger.copying import SettledAttempt
from spanledger.ledger.lanes import Position
from spanledger.ledger.model import MAX_LEASE_NS
from spanledger.ledger.rows import RawRow
from spanledger.ledger.sql.decoding import SELECT_WHOLE_BALANCES, balance_from_row
from spanledger.ledger.sql.identity import ledger_id
from spanledger.ledger.sql.port import Sql
from spanledger.ledger.verify import Openings

KEYS = {"requests": ("request_id",), "attempts": ("request_id", "number")}
"""Primary keys."""


class SqlTables(ABC):
    """`Tables` on one connection, which it closes."""

    lane = "lane"
    """The lane of a row, as SQL."""

    def __init__(self, sql: Sql) -> None:
        self._sql = sql

    def close(self) -> None:
        """See `Tables`."""
        self._sql.close()

    def alone(self) -> AbstractContextManager[None]:
        """See `Tables`."""
        return self._sql.transaction()

    # what databases do differently ----------------------------------------------------------

    @abstractmethod
    def ends(self) -> Position:
        """See `Tables`."""

    @abstractmethod
    def cursor(self) -> Position:
        """See `Tables`."""

    @abstractmethod
    def openings(self) -> Openings:
        """See `Tables`."""

    @abstractmethod
    def set_position(self, last: int, cursor: int) -> None:
        """See `Tables`."""

    @abstractmethod
    def _write_balances(self, balances: Sequence[Balance]) -> None:
        """Create balances, opened at numbers of the only lane."""

    @abstractmethod
    def _stored(self, rows: Sequence[RawRow]) -> list[RawRow]:
        """Rows of requests or attempts as this database has them, once there is a place for them."""

    # state --------------------------------------------------------------------------------

    def state(self) -> dict[str, int]:
        """See `Tables`."""
        return dict(self._sql.rows("SELECT key, value FROM state"))

    def write_state(self, values: Mapping[str, int]) -> None:
        """See `Tables`."""
        for name, value in values.items():
            self._sql.run(_WRITE_STATE, key=name, value=value)

    def forget_state(self, names: Iterable[str]) -> None:
        """See `Tables`."""
        for name in names:
            self._sql.run("DELETE FROM state WHERE key = :key", key=name)

    def identity(self) -> int:
        """See `Tables`."""
        return ledger_id(self._sql)

    def empty(self) -> bool:
        """See `Tables`."""
        return not self._sql.rows(_ANYTHING)

    def lease_ns(self, now_ns: int) -> int:
        """See `Tables`."""
        ((until_ns,),) = self._sql.rows(_LEASE, now=now_ns, latest=now_ns + MAX_LEASE_NS)
        return int(until_ns)

    def sums(self) -> dict[str, int]:
        """See `Tables`."""
        found: dict[str, int] = {}
        for table, columns in _SUMMED.items():
            sums = "".join(f", coalesce(sum({column}), 0)" for column in columns)
            (values,) = self._sql.rows(f"SELECT count(*){sums} FROM {table}")  # noqa: S608 - our own names
            names = (table, *(f"{column} of {table}" for column in columns))
            found.update(zip(names, map(int, values), strict=True))
        return found

    # as a source --------------------------------------------------------------------------

    def requests_after(self, request_id: str, limit: int) -> list[RawRow]:
        """See `Tables`."""
        query = f"{self._select('requests')} request_id > :after ORDER BY request_id LIMIT :limit"
        return self._sql.raw(query, after=request_id, limit=limit)

    def attempts_between(self, after: str, last: str) -> list[RawRow]:
        """See `Tables`."""
        query = (
            f"{self._select('attempts')} request_id > :after AND request_id <= :last"
            " ORDER BY request_id, number"
        )
        return self._sql.raw(query, after=after, last=last)

    def late_requests(self, upto: Position, request_id: str, limit: int) -> list[RawRow]:
        """See `Tables`."""
        query = (
            f"{self._select('requests')} request_id > :after"
            f" AND (shipped_nano IS NOT NULL OR {self._behind(upto)})"
            " ORDER BY request_id LIMIT :limit"
        )
        return self._sql.raw(query, after=request_id, limit=limit)

    def late_attempts(self, upto: Position, after: tuple[str, int], limit: int) -> list[RawRow]:
        """See `Tables`."""
        query = (
            f"{self._select('attempts')} (request_id, number) > (:after, :number)"
            f" AND (state = 'expired' OR shipped_nano IS NOT NULL OR {self._behind(upto)})"
            " ORDER BY request_id, number LIMIT :limit"
        )
        return self._sql.raw(query, after=after[0], number=after[1], limit=limit)

    def _select(self, table: str) -> str:
        lane = "" if self.lane == "lane" else f", {self.lane} AS lane"
        return f"SELECT *{lane} FROM {table} WHERE"  # noqa: S608 - our own names

    def _behind(self, position: Position) -> str:
        """Whether a row is open, or behind a position, as SQL."""
        cases = "".join(f" WHEN {lane:d} THEN {seq:d}" for lane, seq in position.lanes())
        last = f"CASE {self.lane}{cases} ELSE 0 END" if cases else "0"
        return f"seq IS NULL OR seq > {last}"

    def table(self, name: str) -> list[RawRow]:
        """See `Tables`."""
        return self._sql.raw(f"SELECT * FROM {name}")  # noqa: S608 - our own names

    def balances(self) -> list[Balance]:
        """See `Tables`."""
        return [balance_from_row(row) for row in self._sql.rows(SELECT_WHOLE_BALANCES)]

    def settled(self, columns: SubjectColumns) -> Iterator[SettledAttempt]:
        """See `Tables`."""
        lane = "a.lane" if self.lane == "lane" else self.lane
        join = "JOIN requests r USING (request_id)" if columns.of_request else ""
        query = (
            f"SELECT a.request_id, a.number, a.accounts, {lane}, a.seq, a.started_ns,"  # noqa: S608 - our own names
            f" {columns.select} FROM attempts a {join} WHERE a.state = 'settled'"
        )
        for request_id, number, accounts, lane, seq, started_ns, *row in self._sql.each(query):
            found = dimensions_in(row)
            yield SettledAttempt(request_id, number, accounts, lane, seq, started_ns, found)

    # as a target --------------------------------------------------------------------------

    def last_request(self) -> str:
        """See `Tables`."""
        ((last,),) = self._sql.rows("SELECT coalesce(max(request_id), '') FROM requests")
        return str(last)

    def write_rows(self, requests: Sequence[RawRow], attempts: Sequence[RawRow]) -> None:
        """See `Tables`."""
        written = {"requests": self._stored(requests), "attempts": self._stored(attempts)}
        with self._sql.transaction():
            for table, rows in written.items():
                if rows:
                    self._sql.many(_upsert(table, tuple(rows[0])), rows)

    def remove_after(self, seq: int) -> None:
        """See `Tables`."""
        with self._sql.transaction():
            for table in KEYS:
                query = f"DELETE FROM {table} WHERE seq IS NULL OR seq > :seq"  # noqa: S608 - our own names
                self._sql.run(query, seq=seq)

    def replace(self, name: str, rows: Sequence[RawRow]) -> None:
        """See `Tables`."""
        self._sql.run(f"DELETE FROM {name}")  # noqa: S608 - our own names
        if rows:
            self._sql.many(_insert(name, tuple(rows[0])), rows)

    def replace_balances(self, balances: Iterable[Balance]) -> None:
        """See `Tables`."""
        self._sql.run("DELETE FROM balances")
        self._write_balances(list(balances))

    def add_accounts(self, changed: Sequence[tuple[str, int, str]]) -> None:
        """See `Tables`."""
        self._sql.many(
            "UPDATE attempts SET accounts = :accounts WHERE request_id = :id AND number = :number",
            [{"id": id_, "number": number, "accounts": text} for id_, number, text in changed],
        )


@cache
def _insert(table: str, columns: tuple[str, ...]) -> str:
    places = ", ".join(f":{column}" for column in columns)
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places})"  # noqa: S608 - columns of ours


@cache
def _upsert(table: str, columns: tuple[str, ...]) -> str:
    key = KEYS[table]
    changed = ", ".join(f"{name} = excluded.{name}" for name in columns if name not in key)
    return f"{_insert(table, columns)} ON CONFLICT ({', '.join(key)}) DO UPDATE SET {changed}"


_ANYTHING = """
SELECT 1 WHERE EXISTS (SELECT 1 FROM requests) OR EXISTS (SELECT 1 FROM keys)
    OR EXISTS (SELECT 1 FROM budgets) OR EXISTS (SELECT 1 FROM budget_history)"""

_LEASE = "SELECT coalesce(max(lease_ns), 0) FROM owners WHERE lease_ns BETWEEN :now AND :latest"

_WRITE_STATE = """
INSERT INTO state (key, value) VALUES (:key, :value)
ON CONFLICT (key) DO UPDATE SET value = excluded.value"""

_SUMMED: dict[str, tuple[str, ...]] = {
    "requests": ("cost_nano", "attempts", "ended_ns % 1000000007"),
    "attempts": (
        *("hold_nano", "cost_nano", "overrun_nano", "input_tokens", "output_tokens"),
        *("coalesce(list_nano, cost_nano)", "coalesce(charge_nano, cost_nano)"),
        *("coalesce(shipped_nano, 0)", "held_until_ns % 1000000007", "expected_nano"),
    ),
    "balances": ("spent_nano", "held_nano", "overrun_nano"),
    **dict.fromkeys(("keys", "key_secrets", "key_history", "budgets", "budget_history"), ()),
    **dict.fromkeys(("applied_budgets", "kept"), ()),
    "ship_points": (),
    "notices": (),
    "notice_deliveries": ("attempts",),
    "notice_totals": ("sent",),
}
"""What is summed of each table, to compare a copy."""
