"""Reports from a SQLite file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from zoneinfo import ZoneInfo

from spanledger.budgets.accounts import AccountKey, Balance
from spanledger.budgets.model import Budget
from spanledger.budgets.scopes import DIMENSIONS
from spanledger.clock import NANOS
from spanledger.ledger.reports import COUNTED_ROWS, MAX_FOUND, Reports
from spanledger.ledger.rows import (
    CustomerRow,
    EndedAttempt,
    EndedRequest,
    Event,
    RawRow,
    SpendBy,
    SpendRow,
    Totals,
)
from spanledger.ledger.sqlite.connection import read_budgets
from spanledger.ledger.sqlite.errors import translated
from spanledger.ledger.verify import CountedAttempt, WrongRow

_SPEND_COLUMN: dict[SpendBy, str] = {
    "customer": "a.customer",
    "team": "a.team",
    "key": "a.key_id",
    "model": "a.model",
    "provider": "a.provider",
    "deployment": "a.deployment",
    "route": "r.route",
    "day": "local_day(a.started_ns)",
}


@translated
class SqliteReports(Reports):
    """`Reports` on one connection, which it closes."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def close(self) -> None:
        """See `Reports`."""
        self._connection.close()

    @contextmanager
    def _snapshot(self) -> Iterator[None]:
        self._connection.execute("BEGIN")
        try:
            yield
        finally:
            self._connection.execute("COMMIT")

    def _raw(self, query: str, parameters: tuple[object, ...]) -> list[RawRow]:
        cursor = self._connection.execute(query, parameters)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor]

    # spend --------------------------------------------------------------------------------

    def _spend(
        self, by: Sequence[SpendBy], since_ns: int, until_ns: int | None, zone: ZoneInfo
    ) -> list[SpendRow]:
        self._connection.create_function(
            "local_day",
            1,
            lambda ns: datetime.fromtimestamp(ns // NANOS, zone).date().isoformat(),
            deterministic=True,
        )
        columns = [_SPEND_COLUMN[name] for name in by]
        grouping = f" GROUP BY {', '.join(columns)}" if columns else ""
        query = (
            f"SELECT {''.join(c + ', ' for c in columns)}"  # noqa: S608 - from a fixed table
            " coalesce(sum(a.cost_nano), 0), count(*),"
            " coalesce(sum(a.error_type != ''), 0), coalesce(sum(a.input_tokens), 0),"
            " coalesce(sum(a.output_tokens), 0),"
            " coalesce(sum(CASE WHEN a.estimated THEN a.cost_nano ELSE 0 END), 0),"
            " coalesce(sum(a.unpriced), 0)"
            " FROM attempts a JOIN requests r USING (request_id)"
            " WHERE a.state != 'held' AND a.started_ns >= ?1"
            " AND (?2 IS NULL OR a.started_ns < ?2)" + grouping
        )
        width = len(columns)
        return [
            SpendRow(tuple(row[:width]), *row[width:])
            for row in self._connection.execute(query, (since_ns, until_ns))
        ]

    # requests -----------------------------------------------------------------------------

    def requests(
        self,
        limit: int = 20,
        customer: str | None = None,
        outcome: str | None = None,
        since_ns: int = 0,
    ) -> list[RawRow]:
        """See `Reports`."""
        return self._raw(
            "SELECT * FROM requests WHERE started_ns >= ?1 AND (?2 IS NULL OR customer = ?2)"
            " AND (?3 IS NULL OR coalesce(outcome, 'running') = ?3)"
            " ORDER BY started_ns DESC LIMIT ?4",
            (since_ns, customer, outcome, limit),
        )

    def _requests_with_id(self, prefix: str) -> list[RawRow]:
        return self._raw(
            "SELECT * FROM requests WHERE substr(request_id, 1, ?2) = ?1"
            " OR substr(trace_id, 1, ?2) = ?1 OR substr(span_id, 1, ?2) = ?1 OR request_id IN"
            " (SELECT request_id FROM attempts WHERE substr(span_id, 1, ?2) = ?1)"
            " ORDER BY started_ns LIMIT ?3",
            (prefix, len(prefix), MAX_FOUND),
        )

    def _attempts_of(self, request_id: str) -> list[RawRow]:
        query = "SELECT * FROM attempts WHERE request_id = ? ORDER BY number"
        return self._raw(query, (request_id,))

    # activity -----------------------------------------------------------------------------

    def totals(self, since_ns: int = 0) -> Totals:
        """See `Reports`."""
        requests = self._connection.execute(
            "SELECT count(*), coalesce(sum(outcome IN ('error', 'abandoned')), 0),"
            " coalesce(sum(outcome = 'refused'), 0) FROM requests WHERE started_ns >= ?",
            (since_ns,),
        ).fetchone()
        attempts = self._connection.execute(
            "SELECT count(*), coalesce(sum(fallback_from != ''), 0), coalesce(sum(cost_nano), 0)"
            " FROM attempts WHERE started_ns >= ?",
            (since_ns,),
        ).fetchone()
        return Totals(*requests, *attempts)

    def open_rows(self) -> tuple[int, int]:
        """See `Reports`."""
        requests, attempts = self._connection.execute(
            "SELECT (SELECT count(*) FROM requests WHERE seq IS NULL),"
            " (SELECT count(*) FROM attempts WHERE state = 'held')"
        ).fetchone()
        return requests, attempts

    def by_customer(self, since_ns: int) -> list[CustomerRow]:
        """See `Reports`."""
        rows = self._connection.execute(
            "SELECT customer, count(*), coalesce(sum(outcome IN ('error', 'abandoned')), 0),"
            " coalesce(sum(outcome = 'refused'), 0), sum(cost_nano) FROM requests"
            " WHERE started_ns >= ? GROUP BY customer ORDER BY 5 DESC, 2 DESC, 1",
            (since_ns,),
        )
        return [CustomerRow(*row) for row in rows]

    def events(self, limit: int, since_ns: int = 0) -> list[Event]:
        """See `Reports`."""
        fallbacks = self._connection.execute(
            "SELECT started_ns, 'fallback', customer,"
            " fallback_from || ' → ' || deployment || ' (' || reason || ')' FROM attempts"
            " WHERE started_ns >= ? AND fallback_from != '' ORDER BY started_ns DESC LIMIT ?",
            (since_ns, limit),
        )
        refusals = self._connection.execute(
            "SELECT started_ns, 'refused', customer, 'by budget ' || refused_by FROM requests"
            " WHERE started_ns >= ? AND outcome = 'refused' ORDER BY started_ns DESC LIMIT ?",
            (since_ns, limit),
        )
        found = [Event(*row) for row in (*fallbacks, *refusals)]
        return sorted(found, key=lambda event: -event.at_ns)

    def ended_requests(self, since_ns: int = 0) -> list[EndedRequest]:
        """See `Reports`."""
        rows = self._connection.execute(
            "SELECT span_id, started_ns, ended_ns, customer, route, outcome, refused_by, cost_nano"
            " FROM requests WHERE started_ns >= ? AND seq IS NOT NULL ORDER BY started_ns",
            (since_ns,),
        )
        return [EndedRequest(*row) for row in rows]

    def ended_attempts(self, since_ns: int = 0) -> list[EndedAttempt]:
        """See `Reports`."""
        rows = self._connection.execute(
            "SELECT span_id, started_ns, ended_ns, first_chunk_ns, customer, provider, deployment,"
            " model, state, fallback_from, reason, error_type, cost_nano FROM attempts"
            " WHERE started_ns >= ? AND state != 'held' ORDER BY started_ns",
            (since_ns,),
        )
        return [EndedAttempt(*row) for row in rows]

    # budgets ------------------------------------------------------------------------------

    def _budgets(self) -> list[Budget]:
        return read_budgets(self._connection)

    def _accounts(self, key: AccountKey) -> list[Balance]:
        *account, subject = key
        rows = (
            self._connection.execute(_ACCOUNTS, account)
            if subject == "*"
            else self._connection.execute(_ACCOUNT, key)
        )
        return [balance_from_row(row) for row in rows]

    # health -------------------------------------------------------------------------------

    def pruned_ns(self) -> int:
        """See `Reports`."""
        query = "SELECT value FROM state WHERE key = 'pruned_ns'"
        row = self._connection.execute(query).fetchone()
        return int(row[0]) if row else 0

    def health(self) -> dict[str, int]:
        """See `Reports`."""
        ask = self._connection.execute
        with self._snapshot():
            holds, oldest = ask(
                "SELECT count(*), min(started_ns) FROM attempts WHERE state = 'held'"
            ).fetchone()
            cursor = ask("SELECT seq FROM ship_cursor").fetchone()[0]
            last = ask("SELECT value FROM state WHERE key = 'seq'").fetchone()[0]
            rows, waiting = ask(_WAITING, (cursor, COUNTED_ROWS)).fetchone()
            if rows >= COUNTED_ROWS:
                rows = max(rows, last - cursor)
        return {
            "open_holds": holds,
            "oldest_hold_ns": oldest or 0,
            "outbox_rows": rows,
            "oldest_outbox_ns": waiting or 0,
        }

    # verify -------------------------------------------------------------------------------

    def _damage(self) -> list[str]:
        pages = self._connection.execute("PRAGMA quick_check(8)").fetchall()
        return [f"the file is damaged: {text}" for (text,) in pages if text != "ok"]

    def _balances(self) -> list[Balance]:
        return [balance_from_row(row) for row in self._connection.execute(_BALANCES)]

    def _counted_attempts(self) -> Iterable[CountedAttempt]:
        return self._connection.execute(_COUNTED)

    def _count_requests(self) -> int:
        return int(self._connection.execute("SELECT count(*) FROM requests").fetchone()[0])

    def _wrong_rows(self) -> Iterator[tuple[WrongRow, str]]:
        for kind, query in _WRONG.items():
            for (which,) in self._connection.execute(query):
                yield kind, which


def balance_from_row(row: Sequence[object]) -> Balance:
    """A balance from its columns, in the order of the table."""
    return Balance(AccountKey(*row[:6]), *row[6:])  # type: ignore[arg-type]  # what Balance.row wrote


_WAITING = """
SELECT (SELECT count(*) FROM (SELECT 1 FROM attempts WHERE seq > ?1 LIMIT ?2))
    + (SELECT count(*) FROM (SELECT 1 FROM requests WHERE seq > ?1 LIMIT ?2)),
    (SELECT min(ended_ns) FROM (
        SELECT * FROM (SELECT ended_ns FROM attempts WHERE seq > ?1 ORDER BY seq LIMIT 1)
        UNION ALL
        SELECT * FROM (SELECT ended_ns FROM requests WHERE seq > ?1 ORDER BY seq LIMIT 1)))"""

_BALANCES = """
SELECT budget, scope, period, timezone, period_start_s, subject, period_end_s, spent_nano,
    held_nano, overrun_nano, opened_seq
FROM balances"""
_ACCOUNTS = f"""{_BALANCES}
WHERE budget = ? AND scope = ? AND period = ? AND timezone = ? AND period_start_s = ?"""
_ACCOUNT = f"{_ACCOUNTS} AND subject = ?"

_COUNTED = f"""
SELECT state, hold_nano, cost_nano, overrun_nano, accounts, seq, started_ns, {DIMENSIONS}, '*'
FROM attempts"""  # noqa: S608 - our own columns

_WRONG: dict[WrongRow, str] = {
    "total": """
SELECT request_id FROM requests r WHERE seq IS NOT NULL AND cost_nano !=
    (SELECT coalesce(sum(cost_nano), 0) FROM attempts a WHERE a.request_id = r.request_id)""",
    "place": """
SELECT request_id || '.' || number FROM attempts WHERE (state = 'held') != (seq IS NULL)""",
    "cost": """
SELECT request_id || '.' || number FROM attempts
WHERE (state IN ('released', 'held') AND cost_nano != 0) OR cost_nano < 0""",
    "orphan": """
SELECT a.request_id || '.' || number FROM attempts a LEFT JOIN requests r USING (request_id)
WHERE r.request_id IS NULL""",
}
