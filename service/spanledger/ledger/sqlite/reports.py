"""Queries for people: spend, requests, one trace, current budgets, and whether the ledger adds up.

Read-only, each answer from one snapshot. Money is nano-USD; the commands format it.
"""

from __future__ import annotations

import operator
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from spanledger.budgets.accounts import AccountKey, account_keys
from spanledger.budgets.model import BudgetState
from spanledger.budgets.periods import period_at
from spanledger.budgets.scopes import DIMENSIONS, SCOPES, Scope
from spanledger.clock import NANOS
from spanledger.errors import UsageError
from spanledger.ledger.model import Verification
from spanledger.ledger.rows import SpendBy, SpendRow
from spanledger.ledger.sqlite.connection import SELECT_BUDGETS, budget_from_row, connect
from spanledger.ledger.sqlite.migrate import check_version

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


MIN_ID_CHARS = 6
COUNTED_ROWS = 1_000
"""Most unshipped rows of each kind that are counted exactly."""


class Reports:
    """Reads one ledger file."""

    def __init__(self, path: Path) -> None:
        self._connection = connect(path, read_only=True)
        check_version(self._connection, str(path))
        self._connection.row_factory = sqlite3.Row

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    @contextmanager
    def _snapshot(self) -> Iterator[sqlite3.Connection]:
        self._connection.execute("BEGIN")
        try:
            yield self._connection
        finally:
            self._connection.execute("COMMIT")

    # spend --------------------------------------------------------------------------------

    def spend(
        self,
        by: Sequence[SpendBy],
        since_ns: int = 0,
        until_ns: int | None = None,
        timezone: str = "UTC",
    ) -> list[SpendRow]:
        """Cost of attempts started in `[since, until)`, the most expensive group first."""
        zone = ZoneInfo(timezone)
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
        rows = [
            SpendRow(tuple(row[:width]), *row[width:])
            for row in self._connection.execute(query, (since_ns, until_ns))
        ]
        if "day" in by:
            return sorted(rows, key=lambda r: (r.group[list(by).index("day")], -r.cost_nano))
        return sorted(rows, key=lambda r: (-r.cost_nano, r.group))

    # requests -----------------------------------------------------------------------------

    def requests(
        self,
        limit: int = 20,
        customer: str | None = None,
        outcome: str | None = None,
        since_ns: int = 0,
    ) -> list[dict[str, Any]]:
        """The newest requests as rows of the table, newest first."""
        rows = self._connection.execute(
            "SELECT * FROM requests WHERE started_ns >= ?1 AND (?2 IS NULL OR customer = ?2)"
            " AND (?3 IS NULL OR coalesce(outcome, 'running') = ?3)"
            " ORDER BY started_ns DESC LIMIT ?4",
            (since_ns, customer, outcome, limit),
        )
        return [dict(row) for row in rows]

    def trace(self, some_id: str) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
        """Requests found by a trace, request or span id, each with its attempts in order.

        A prefix of an id is enough if it belongs to only one trace.

        Raises:
            UsageError: the prefix is too short, or belongs to several traces.
        """
        if len(some_id) < MIN_ID_CHARS:
            raise UsageError(f"{some_id!r} is too short; give {MIN_ID_CHARS} characters or more")
        with self._snapshot() as connection:
            requests = connection.execute(
                "SELECT * FROM requests WHERE substr(request_id, 1, ?2) = ?1"
                " OR substr(trace_id, 1, ?2) = ?1 OR substr(span_id, 1, ?2) = ?1 OR request_id IN"
                " (SELECT request_id FROM attempts WHERE substr(span_id, 1, ?2) = ?1)"
                " ORDER BY started_ns LIMIT 1000",
                (some_id, len(some_id)),
            ).fetchall()
            if len({request["trace_id"] for request in requests}) > 1:
                raise UsageError(f"several traces begin with {some_id!r}; give more characters")
            return [
                (
                    dict(request),
                    [
                        dict(row)
                        for row in connection.execute(
                            "SELECT * FROM attempts WHERE request_id = ? ORDER BY number",
                            (request["request_id"],),
                        )
                    ],
                )
                for request in requests
            ]

    # budgets ------------------------------------------------------------------------------

    def budget_states(self, now_s: int) -> list[BudgetState]:
        """Every account of every budget in the period of `now_s`, by budget and subject.

        A budget of a named subject without spend yet shows zeros.
        """
        with self._snapshot() as connection:
            budgets = [budget_from_row(tuple(row)) for row in connection.execute(SELECT_BUDGETS)]
            states = []
            for budget in sorted(budgets, key=lambda b: b.name):
                period = period_at(budget.period, budget.timezone, now_s)
                *account, subject = AccountKey.of(budget, budget.subject, period.start_s)
                rows = (
                    connection.execute(_ACCOUNTS, account)
                    if subject == "*"
                    else connection.execute(_ACCOUNT, (*account, subject))
                ).fetchall()
                for subject, spent, held, overrun in rows or [(budget.subject, 0, 0, 0)]:
                    states.append(
                        BudgetState(
                            budget, subject, spent, held, overrun, period.start_s, period.end_s
                        )
                    )
        return states

    def pruned_ns(self) -> int:
        """Requests that ended before this were pruned, Unix nanoseconds; 0 if none were."""
        query = "SELECT value FROM state WHERE key = 'pruned_ns'"
        row = self._connection.execute(query).fetchone()
        return int(row[0]) if row else 0

    def health(self) -> dict[str, int]:
        """Figures for `/metrics`: open holds, the oldest one's start, rows not shipped yet.

        A long backlog is not counted in full, because a scrape must not cost more when things are
        worse: beyond `COUNTED_ROWS` the count is estimated from the rows' sequence numbers. That
        includes numbers of repeated ends, about one in thousands.
        """
        with self._snapshot() as connection:
            holds, oldest = connection.execute(
                "SELECT count(*), min(started_ns) FROM attempts WHERE state = 'held'"
            ).fetchone()
            cursor = connection.execute("SELECT seq FROM ship_cursor").fetchone()[0]
            last = connection.execute("SELECT value FROM state WHERE key = 'seq'").fetchone()[0]
            rows, waiting = connection.execute(_WAITING, (cursor, COUNTED_ROWS)).fetchone()
            if rows >= COUNTED_ROWS:
                rows = max(rows, last - cursor)
        return {
            "open_holds": holds,
            "oldest_hold_ns": oldest or 0,
            "outbox_rows": rows,
            "oldest_outbox_ns": waiting or 0,
        }

    # verify -------------------------------------------------------------------------------

    def verify(self) -> Verification:
        """Recompute every balance and every total from the attempt rows."""
        found = Verification()
        with self._snapshot() as connection:
            pages = connection.execute("PRAGMA quick_check(8)").fetchall()
            found.problems += [f"the file is damaged: {text}" for (text,) in pages if text != "ok"]
            self._verify_balances(connection, found)
            self._verify_rows(connection, found)
        return found

    def _verify_balances(self, connection: sqlite3.Connection, found: Verification) -> None:
        expected: dict[AccountKey, list[int]] = defaultdict(lambda: [0, 0, 0])
        pruned_ns = self.pruned_ns()
        balances = connection.execute("SELECT * FROM balances").fetchall()
        opened = _Opened(balances)
        attempts = connection.execute(_ALL_ATTEMPTS)
        attempts.row_factory = None  # accessing a million rows by name takes seconds more
        for state, hold, cost, overrun, accounts, seq, started_ns, *subjects in attempts:
            found.attempts += 1
            held = hold if state == "held" else 0
            found.open_attempts += state == "held"
            found.spent_nano += cost
            found.held_nano += held
            keys = account_keys(accounts)
            if state == "settled":
                keys += opened.counting(seq, started_ns, subjects, keys)
            for key in keys:
                sums = expected[key]
                sums[0] += cost
                sums[1] += held
                sums[2] += overrun
        for row in balances:
            found.balances += 1
            key = _key_of(row)
            actual = [row["spent_nano"], row["held_nano"], row["overrun_nano"]]
            wanted = expected.pop(key, [0, 0, 0])
            if key.period_start_s * NANOS < pruned_ns:
                found.pruned_balances += 1
                fits = all(map(operator.ge, actual, wanted)) and actual[1] == wanted[1]
            else:
                fits = actual == wanted
            if not fits:
                found.problems.append(
                    f"balance {'/'.join(map(str, key))}: spent, held, overrun are {actual},"
                    f" but its rows add up to {wanted} (nano-USD)"
                )
        found.problems += [
            f"balance {'/'.join(map(str, key))} is missing, its rows add up to {sums} (nano-USD)"
            for key, sums in expected.items()
            if any(sums)
        ]

    def _verify_rows(self, connection: sqlite3.Connection, found: Verification) -> None:
        found.requests = connection.execute("SELECT count(*) FROM requests").fetchone()[0]
        checks = (
            (
                "request {} has a cost that is not the sum of its attempts",
                (
                    "SELECT request_id FROM requests r WHERE seq IS NOT NULL AND cost_nano !="
                    " (SELECT coalesce(sum(cost_nano), 0) FROM attempts a"
                    " WHERE a.request_id = r.request_id)"
                ),
            ),
            (
                "attempt {} has ended without a place in the outbox, or has a place without an end",
                (
                    "SELECT request_id || '.' || number FROM attempts"
                    " WHERE (state = 'held') != (seq IS NULL)"
                ),
            ),
            (
                "attempt {} was not charged but has a cost, or has a negative cost",
                (
                    "SELECT request_id || '.' || number FROM attempts"
                    " WHERE (state IN ('released', 'held') AND cost_nano != 0) OR cost_nano < 0"
                ),
            ),
            (
                "attempt {} belongs to no request",
                (
                    "SELECT a.request_id || '.' || number FROM attempts a LEFT JOIN requests r"
                    " USING (request_id) WHERE r.request_id IS NULL"
                ),
            ),
        )
        for message, query in checks:
            found.problems += [message.format(row[0]) for row in connection.execute(query)]


class _Opened:
    """Accounts opened from rows: attempts settled by then count by their dimensions."""

    def __init__(self, balances: Sequence[sqlite3.Row]) -> None:
        self._by_subject: dict[tuple[Scope, str], list[tuple[AccountKey, int, int, int]]] = {}
        self._last = max((row["opened_seq"] for row in balances), default=0)
        for row in balances:
            if row["opened_seq"]:
                self._by_subject.setdefault((row["scope"], row["subject"]), []).append(
                    (
                        _key_of(row),
                        row["period_start_s"] * NANOS,
                        row["period_end_s"] * NANOS,
                        row["opened_seq"],
                    )
                )

    def counting(
        self, seq: int, started_ns: int, subjects: Sequence[str], keys: Sequence[AccountKey]
    ) -> tuple[AccountKey, ...]:
        """Accounts other than `keys` that count an attempt; `subjects` are in the order of `SCOPES`."""
        if seq > self._last:
            return ()
        return tuple(
            key
            for place in zip(SCOPES, subjects, strict=True)
            for key, start_ns, end_ns, last in self._by_subject.get(place, ())
            if seq <= last and start_ns <= started_ns < end_ns and key not in keys
        )


def _key_of(row: sqlite3.Row) -> AccountKey:
    return AccountKey(*(row[name] for name in AccountKey._fields))


_WAITING = """
SELECT (SELECT count(*) FROM (SELECT 1 FROM attempts WHERE seq > ?1 LIMIT ?2))
    + (SELECT count(*) FROM (SELECT 1 FROM requests WHERE seq > ?1 LIMIT ?2)),
    (SELECT min(ended_ns) FROM (
        SELECT * FROM (SELECT ended_ns FROM attempts WHERE seq > ?1 ORDER BY seq LIMIT 1)
        UNION ALL
        SELECT * FROM (SELECT ended_ns FROM requests WHERE seq > ?1 ORDER BY seq LIMIT 1)))"""

_ACCOUNTS = """
SELECT subject, spent_nano, held_nano, overrun_nano FROM balances
WHERE budget = ? AND scope = ? AND period = ? AND timezone = ? AND period_start_s = ?"""
_ACCOUNT = f"{_ACCOUNTS} AND subject = ?"

_ALL_ATTEMPTS = f"""
SELECT state, hold_nano, cost_nano, overrun_nano, accounts, seq, started_ns, {DIMENSIONS}, '*'
FROM attempts"""  # noqa: S608 - our own columns
