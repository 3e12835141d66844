"""Write transactions of one connection: what the engine reads and writes, as SQL.

Several processes may share the file; each transaction takes the write lock before it reads a balance,
so a decision never uses a stale figure.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Mapping
from types import TracebackType

from spanledger.budgets.accounts import AccountKey, Balance, account_keys
from spanledger.budgets.periods import period_at
from spanledger.ledger.budget_rows import budget_from_row, select_budgets
from spanledger.ledger.changes import (
    ATTEMPT_COLUMNS,
    ATTEMPT_END_COLUMNS,
    REQUEST_COLUMNS,
    REQUEST_END_COLUMNS,
    Changes,
    StaleError,
)
from spanledger.ledger.engine import (
    MAX_READ_CHANGES,
    Booked,
    Lapsed,
    LapsedHold,
    ReadBudgets,
)
from spanledger.ledger.model import ChangeKept, Sweep
from spanledger.ledger.sqlite import kept
from spanledger.ledger.sqlite.connection import BUSY_TIMEOUT_S, WRITE_BALANCE, execute_when_free

MAX_CACHED_BALANCES = 20_000
"""Beyond this many, balances are read again; each takes about half a kilobyte."""
_UNKNOWN = -1


class SqliteTransaction:
    """The engine's `Transaction`, one after another on the writer's connection."""

    def __init__(self, connection: sqlite3.Connection, owner: str) -> None:
        self.seq = 0
        self.budgets_version = _UNKNOWN
        self.epoch = 0
        self._connection = connection
        self._owner = owner
        connection.execute("PRAGMA busy_timeout = 0")  # as `begin_immediate` does, but once
        # As stored in the file, until another connection writes to it.
        self._file_version = _UNKNOWN
        self._balances: dict[AccountKey, Balance] = {}

    def __enter__(self) -> SqliteTransaction:
        execute_when_free(self._connection, "BEGIN IMMEDIATE", BUSY_TIMEOUT_S)
        try:
            self._refresh()
        except BaseException:
            self._roll_back()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            try:
                self._connection.execute("COMMIT")
            except BaseException:
                self._roll_back()
                raise
        else:
            self._roll_back()

    def _roll_back(self) -> None:
        self._file_version = _UNKNOWN  # the balances in memory may have moved
        if self._connection.in_transaction:  # SQLite may have ended it itself
            self._connection.execute("ROLLBACK")

    def _refresh(self) -> None:
        """Forget what was read before, if another connection has written since.

        SQLite counts the commits of others in `data_version`. Asked with the write lock held, it says
        whether what this connection knows is still so, and saves a query for each balance.
        """
        (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        if version != self._file_version or len(self._balances) > MAX_CACHED_BALANCES:
            self._balances.clear()
            self.epoch += 1
            state = dict(self._connection.execute("SELECT key, value FROM state"))
            self.seq, self.budgets_version = state["seq"], state["budgets_version"]
            self._file_version = version

    # reads --------------------------------------------------------------------------------

    def budgets(self, since: int) -> ReadBudgets:
        """See `Transaction`."""
        run = self._connection.execute
        (last,) = run("SELECT coalesce(max(id), 0) FROM budget_history").fetchone()
        if 0 < since <= last:
            names = [name for (name,) in run(_CHANGED, (since, MAX_READ_CHANGES + 1))]
            if len(names) <= MAX_READ_CHANGES:
                one = f"{select_budgets()} WHERE name = ?"
                rows = [row for name in names for row in run(one, (name,))]
                return ReadBudgets(last, names, [budget_from_row(row) for row in rows])
        return ReadBudgets(last, None, [budget_from_row(row) for row in run(select_budgets())])

    def booked(self, ids: Collection[str]) -> Mapping[str, Booked]:
        """See `Transaction`."""
        found = {}
        for attempt_id in ids:
            request_id, _, number = attempt_id.rpartition(".")
            row = self._connection.execute(_BOOKED, (request_id, int(number))).fetchone()
            if row is not None:
                state, hold, cost, overrun, accounts, rule = row
                keys = account_keys(accounts)
                found[attempt_id] = Booked(state, hold, cost, overrun, keys, rule)
        return found

    def lapsed(self, sweep: Sweep) -> Lapsed:
        """See `Transaction`."""
        moments = (*_moments(sweep), self._owner)
        holds = [
            LapsedHold(request_id, number, hold, cost, account_keys(accounts), rule)
            for request_id, number, hold, cost, accounts, rule in self._connection.execute(
                _LAPSED, moments
            )
        ]
        requests = [request_id for (request_id,) in self._connection.execute(_LEFT, moments)]
        return Lapsed(holds, requests)

    def balances(self, keys: Collection[AccountKey]) -> Mapping[AccountKey, Balance]:
        """See `Transaction`."""
        for key in keys:
            if key not in self._balances:
                self._balances[key] = self._read_balance(key)
        return self._balances

    def _read_balance(self, key: AccountKey) -> Balance:
        row = self._connection.execute(_READ_BALANCE, key).fetchone()
        if row is None:
            return Balance(key, period_at(key.period, key.timezone, key.period_start_s).end_s)
        return Balance(key, *row)

    # writes -------------------------------------------------------------------------------

    def write(self, changes: Changes) -> None:
        """See `Transaction`."""
        many = self._connection.executemany
        if changes.requests:
            many(_BEGIN_REQUEST, changes.requests)
        if changes.attempts:
            many(_HOLD, changes.attempts)
        if changes.decisions:
            many(_DECIDE, changes.decisions)
        for request_id, later in changes.put_off:
            kept.hold_on(self._connection, request_id, later)
        if changes.expired:
            many(_EXPIRE, changes.expired)
        if changes.attempt_ends:
            done = many(_END_ATTEMPT, changes.attempt_ends)
            if done.rowcount != len(changes.attempt_ends):
                raise StaleError
        if changes.corrected:
            many(_CORRECT, changes.corrected)
        if changes.request_ends:
            many(_END_REQUEST, changes.request_ends)
        for change in changes.kept:
            if isinstance(change, ChangeKept):
                kept.change(self._connection, change.request_id, change.about)
            else:
                kept.keep(self._connection, change)
        if changes.balances:
            many(WRITE_BALANCE, [balance.row for balance in changes.balances])
        if changes.seq != self.seq:
            self._connection.execute(_SET_SEQ, (changes.seq,))
            self.seq = changes.seq
        if changes.lease_until_ns:
            self._connection.execute(_RENEW_LEASE, (self._owner, changes.lease_until_ns))
        if changes.sweep is not None:
            self._connection.execute(_FORGET_LEASES, _moments(changes.sweep))
            many(_USE_KEY, changes.sweep.used)


def _moments(sweep: Sweep) -> tuple[int, int, int]:
    """Before the first a hold is too old; a lease that counts ends between the others."""
    return (sweep.now_ns - sweep.max_hold_ns, sweep.now_ns, sweep.now_ns + sweep.max_hold_ns)


def _names(columns: Iterable[str]) -> str:
    return ", ".join(columns)


def _places(columns: Collection[str]) -> str:
    return ", ".join("?" * len(columns))


def _set(columns: Iterable[str], first: int) -> str:
    """Assignments of the parameters from `first` on."""
    return ", ".join(f"{column} = ?{number}" for number, column in enumerate(columns, first))


_READ_BALANCE = """
SELECT period_end_s, spent_nano, held_nano, overrun_nano, opened_seq, paced FROM balances
WHERE budget = ? AND scope = ? AND period = ? AND timezone = ? AND period_start_s = ?
    AND subject = ?"""

_CHANGED = "SELECT DISTINCT name FROM budget_history WHERE id > ? LIMIT ?"

_BOOKED = """
SELECT state, hold_nano, cost_nano, overrun_nano, accounts, charge_rule FROM attempts
WHERE request_id = ? AND number = ?"""

_LAPSED = """
SELECT request_id, number, hold_nano,
    CASE WHEN held_until_ns THEN expected_nano ELSE hold_nano END, accounts, charge_rule
FROM attempts WHERE state = 'held' AND CASE WHEN held_until_ns THEN held_until_ns < ?2
    ELSE started_ns < ?1 OR (owner != ?4
        AND owner NOT IN (SELECT id FROM owners WHERE lease_ns BETWEEN ?2 AND ?3)) END"""

_LEFT = """
SELECT request_id FROM requests WHERE seq IS NULL AND (started_ns < ?1 OR (owner != ?4
    AND owner NOT IN (SELECT id FROM owners WHERE lease_ns BETWEEN ?2 AND ?3)))"""

_BEGIN_REQUEST = f"""
INSERT OR IGNORE INTO requests ({_names(REQUEST_COLUMNS)})
VALUES ({_places(REQUEST_COLUMNS)})"""  # noqa: S608 - our own columns

_HOLD = f"""
INSERT INTO attempts ({_names(ATTEMPT_COLUMNS)}, state)
VALUES ({_places(ATTEMPT_COLUMNS)}, 'held')"""  # noqa: S608 - as above

_DECIDE = "UPDATE requests SET decision = ? WHERE request_id = ? AND decision != 'warn'"

_EXPIRE = """
UPDATE attempts SET state = 'expired', ended_ns = ?3, cost_nano = ?4, estimated = 1,
    error_type = 'expired', charge_nano = ?5, seq = ?6
WHERE request_id = ?1 AND number = ?2"""

_END_ATTEMPT = f"""
UPDATE attempts SET {_set(ATTEMPT_END_COLUMNS, 4)}
WHERE request_id = ?1 AND number = ?2 AND state = ?3"""  # noqa: S608 - as above

_CORRECT = """
UPDATE requests SET seq = ?1, (attempts, cost_nano) = (SELECT count(*), sum(cost_nano) FROM attempts a
    WHERE a.request_id = requests.request_id) WHERE request_id = ?2 AND seq IS NOT NULL"""

_END_REQUEST = f"""
UPDATE requests SET {_set(REQUEST_END_COLUMNS, 2)},
    decision = CASE ?2 WHEN 'refused' THEN 'deny' ELSE decision END,
    (attempts, cost_nano) = (SELECT count(*), coalesce(sum(a.cost_nano), 0) FROM attempts a
                             WHERE a.request_id = requests.request_id)
WHERE request_id = ?1 AND (seq IS NULL OR outcome = 'abandoned')"""  # noqa: S608 - as above

_SET_SEQ = "UPDATE state SET value = ? WHERE key = 'seq'"
_RENEW_LEASE = "INSERT OR REPLACE INTO owners VALUES (?, ?)"
_USE_KEY = "UPDATE keys SET last_used_ns = max(coalesce(last_used_ns, 0), ?2) WHERE id = ?1"
_FORGET_LEASES = "DELETE FROM owners WHERE lease_ns NOT BETWEEN ?1 AND ?3"
