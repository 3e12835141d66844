"""Write transactions of one gateway: what the engine reads and writes, as SQL in two round trips.

The first locks the owner's row and the balances, in one order everywhere; decisions are made while they
are locked. The second writes all rows and commits. Both are pipelines: nothing is read in between.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from contextlib import AbstractContextManager, suppress
from time import monotonic, sleep
from types import TracebackType
from typing import Any, cast

import psycopg

from spanledger.budgets.accounts import AccountKey, Balance, account_keys
from spanledger.budgets.model import Budget
from spanledger.budgets.periods import period_at
from spanledger.errors import CommitInDoubtError, LedgerUnavailableError
from spanledger.ledger.budget_rows import budget_from_row
from spanledger.ledger.changes import (
    ATTEMPT_COLUMNS,
    REQUEST_COLUMNS,
    REQUEST_END_COLUMNS,
    Changes,
    Row,
    StaleError,
)
from spanledger.ledger.engine import Booked, Lapsed, LapsedHold
from spanledger.ledger.model import ChangeKept, Sweep
from spanledger.ledger.postgres import kept, statements
from spanledger.ledger.postgres.arrays import columns_of, integers, storable, texts
from spanledger.ledger.postgres.connection import Link, Session
from spanledger.ledger.postgres.errors import (
    STALE,
    BeginAgainError,
    LaneLostError,
    connection_gone,
    reason,
)
from spanledger.ledger.postgres.migrate import known_version
from spanledger.ledger.postgres.owner import LaneOwner

MAX_KNOWN_ACCOUNTS = 50_000
"""Beyond this many, ids of balances are asked for again; each takes about half a kilobyte."""
SETTLE_S = 4.0
"""How long a lost commit is asked after, before its callers get an error."""
SETTLE_PAUSE_S = 0.1
_UNKNOWN = -1
_OUTCOME = 1 + REQUEST_END_COLUMNS.index("outcome")

Cursor = psycopg.Cursor[tuple[Any, ...]]


class PostgresTransaction:
    """The engine's `Transaction`, one after another on the writer's session."""

    def __init__(self, session: Session, owner: LaneOwner) -> None:
        self.seq = 0
        self.budgets_version = _UNKNOWN
        self.epoch = 0
        self._session = session
        self._owner = owner
        self._connection: Link | None = None
        # On which we know of all our transactions.
        self._fenced: Link | None = None
        self._pipeline: AbstractContextManager[psycopg.Pipeline] | None = None
        self._state: Cursor | None = None
        self._ids: dict[AccountKey, int] = {}
        # Those of this transaction, which may be rolled back.
        self._opened: dict[AccountKey, int] = {}
        self._read: dict[AccountKey, tuple[int, int, int]] = {}

    # begin and end ------------------------------------------------------------------------

    def __enter__(self) -> PostgresTransaction:
        connection = self._connection = self._session.connection
        if connection is not self._fenced:
            self._owner.fence(self._session)
            self._fenced = connection
        self.epoch += 1  # others may have changed every balance
        self.seq = self._owner.seq
        self._read.clear()
        self._opened.clear()
        pipeline = self._pipeline = connection.pipeline()
        pipeline.__enter__()
        try:
            self._begin(connection)
            if self.budgets_version == _UNKNOWN:
                self._check_state()
        except BaseException:
            self._roll_back()
            raise
        return self

    def _begin(self, connection: Link) -> None:
        """Queue the first statements; their results are looked at with those of the next."""
        owner = self._owner
        connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE", prepare=False)
        self._session.settle_in(connection)
        self._execute(statements.BEGIN_BATCH, (owner.lane, owner.id, owner.batch, 1))
        self._state = self._execute(statements.SELECT_STATE)

    def _check_state(self) -> None:
        """Look at what was believed when the batch began."""
        if self._state is None:
            return
        state: dict[str, int] = dict(self._state.fetchall())
        self._state = None
        if state["schema_version"] > known_version():
            raise LedgerUnavailableError(
                f"the ledger was upgraded to schema version {state['schema_version']}, but this"
                f" program only knows {known_version()}: restart it with the new version"
            )
        believed, self.budgets_version = self.budgets_version, state["budgets_version"]
        if believed not in (_UNKNOWN, self.budgets_version):
            raise BeginAgainError

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            self._commit()
        else:
            self._roll_back()

    def _commit(self) -> None:
        connection, pipeline = self._connection, self._pipeline
        assert connection is not None
        assert pipeline is not None
        self._session.not_replicated = False
        try:
            connection.execute("COMMIT", prepare=False)
            self._pipeline = None
            pipeline.__exit__(None, None, None)
        except psycopg.Error as error:
            if connection.closed or connection_gone(error):
                connection.close()
                self._settle(reason(error))
            else:
                self._roll_back()
                if error.sqlstate == STALE:
                    raise StaleError from None
                raise
        else:
            if self._session.not_replicated:
                self._fenced = None
                raise CommitInDoubtError(
                    "the ledger's server stopped waiting for its standby, so a commit may be lost"
                    " with the server"
                )
            self._owner.batch += 1
            self._owner.seq = self.seq
        self._ids.update(self._opened)

    def _settle(self, problem: str) -> None:
        """Find out what became of a commit whose answer was lost; return if it was made.

        Raises:
            BeginAgainError: it was not made.
            LaneLostError: only the rows can tell.
            CommitInDoubtError: the database cannot be asked now.
        """
        until = monotonic() + SETTLE_S
        while True:
            try:
                fate = self._owner.fence(self._session)
                break
            except (psycopg.Error, LedgerUnavailableError):
                self._session.close()
                if monotonic() > until:
                    raise CommitInDoubtError(
                        f"the ledger was lost while a commit was under way: {problem}"
                    ) from None
                sleep(SETTLE_PAUSE_S)
        self._fenced = self._session.connection
        if fate == "undone":
            raise BeginAgainError
        if fate == "unknown":
            raise LaneLostError

    def forget_lane(self) -> None:
        """Make sure of the lane before the next batch: it may be lost."""
        self._fenced = None

    def _roll_back(self) -> None:
        connection, pipeline = self._connection, self._pipeline
        self._pipeline = self._state = None
        assert connection is not None
        if pipeline is not None:
            with suppress(psycopg.Error):
                pipeline.__exit__(None, None, None)
        if not connection.closed:
            with suppress(psycopg.Error):
                connection.execute("ROLLBACK")

    def _execute(self, statement: str, parameters: Any = ()) -> Cursor:
        assert self._connection is not None
        return self._connection.execute(statement, parameters, prepare=not self._session.pooled)

    # reads --------------------------------------------------------------------------------

    def budgets(self) -> Collection[Budget]:
        """See `Transaction`."""
        rows = self._execute(statements.READ_BUDGETS).fetchall()
        return [budget_from_row(row) for row in rows]

    def booked(self, ids: Collection[str]) -> Mapping[str, Booked]:
        """See `Transaction`."""
        parts = [attempt_id.rpartition(".") for attempt_id in ids]
        cursor = self._execute(
            statements.BOOKED,
            (texts(part[0] for part in parts), integers(part[2] for part in parts)),
        )
        self._check_state()
        return {
            f"{request_id}.{number}": Booked(state, hold, cost, overrun, account_keys(accounts))
            for request_id, number, state, hold, cost, overrun, accounts in cursor.fetchall()
        }

    def lapsed(self, sweep: Sweep) -> Lapsed:
        """See `Transaction`."""
        moments = {
            "oldest": sweep.now_ns - sweep.max_hold_ns,
            "now": sweep.now_ns,
            "latest": sweep.now_ns + sweep.max_hold_ns,
            "owner": self._owner.id,
        }
        holds = self._execute(statements.LAPSED, moments)
        requests = self._execute(statements.LEFT, moments)
        self._check_state()
        return Lapsed(
            [
                LapsedHold(request_id, number, hold, cost, account_keys(accounts))
                for request_id, number, hold, cost, accounts in holds.fetchall()
            ],
            [request_id for (request_id,) in requests.fetchall()],
        )

    def balances(self, keys: Collection[AccountKey]) -> Mapping[AccountKey, Balance]:
        """See `Transaction`. They stay locked until the transaction ends."""
        if len(self._ids) > MAX_KNOWN_ACCOUNTS:
            self._ids.clear()
        new = [key for key in keys if key not in self._ids]
        rows = [] if new else self._lock(keys)
        if len(rows) < len(keys):  # new ones, or the ledger was restored from a backup
            rows = self._lock_new(keys, new or keys)
        found = {}
        for key, (period_end_s, spent, held, overrun, opened) in rows:
            found[key] = Balance(key, period_end_s, spent, held, overrun, opened)
            self._read[key] = (spent, held, overrun)
        return found

    def _lock(self, keys: Collection[AccountKey]) -> list[tuple[AccountKey, Any]]:
        by_id = {self._ids[key]: key for key in keys}
        cursor = self._execute(statements.LOCK_BALANCES, (integers(by_id),))
        self._check_state()
        return [(by_id[row[0]], row[1:]) for row in cursor.fetchall()]

    def _lock_new(
        self, keys: Collection[AccountKey], new: Collection[AccountKey]
    ) -> list[tuple[AccountKey, Any]]:
        """The same for accounts that nobody may have opened yet."""
        ends = [period_at(key.period, key.timezone, key.period_start_s).end_s for key in new]
        self._execute(statements.OPEN_ACCOUNTS, (*_key_columns(new), integers(ends)))
        cursor = self._execute(statements.LOCK_NEW_BALANCES, _key_columns(keys))
        self._check_state()
        width = len(AccountKey._fields)
        found = []
        for row in cursor.fetchall():
            key = AccountKey(*row[:width])
            self._opened[key] = row[width]
            found.append((key, row[width + 1 :]))
        return found

    # writes -------------------------------------------------------------------------------

    def write(self, changes: Changes) -> None:
        """See `Transaction`."""
        self._check_state()
        lane = self._owner.lane
        self._write_begun(changes)
        if changes.expired:
            arrays = columns_of(statements.EXPIRED_COLUMNS, changes.expired)
            self._execute(statements.EXPIRE, (lane, *arrays, len(changes.expired)))
        if changes.attempt_ends:
            arrays = columns_of(statements.ENDED_COLUMNS, changes.attempt_ends)
            self._execute(statements.END_ATTEMPTS, (lane, *arrays, len(changes.attempt_ends)))
        if changes.corrected:
            last = {request_id: seq for seq, request_id in changes.corrected}
            arrays = [integers(last.values()), texts(last)]
            self._execute(statements.CORRECT, (lane, *arrays))
        if changes.request_ends:
            arrays = columns_of(statements.REQUEST_ENDED_COLUMNS, _standing(changes.request_ends))
            self._execute(statements.END_REQUESTS, (lane, *arrays))
        for change in changes.kept:
            if isinstance(change, ChangeKept):
                kept.change(self._execute, change.request_id, change.about)
            else:
                kept.keep(self._execute, change)
        self._write_balances(changes.balances)
        if changes.seq != self.seq or changes.lease_until_ns:
            self.seq = changes.seq
            lease = changes.lease_until_ns or None
            self._execute(statements.END_BATCH, (self.seq, lease, lane))

    def _write_begun(self, changes: Changes) -> None:
        if rows := changes.requests:
            self._execute(statements.BEGIN_REQUESTS, columns_of(REQUEST_COLUMNS, rows))
        if rows := changes.attempts:
            self._execute(statements.HOLD, columns_of(ATTEMPT_COLUMNS, rows))
        if changes.decisions:
            decided: dict[str, str] = {}
            for decision, request_id in changes.decisions:
                if decided.get(request_id) != "warn":
                    decided[request_id] = decision
            arrays = [texts(decided.values()), texts(decided)]
            self._execute(statements.DECIDE, arrays)
        for request_id, later in changes.put_off:
            terms = (later.until_ns, later.expected_nano, storable(later.detail), request_id)
            self._execute(statements.HOLD_ON, terms)

    def _write_balances(self, balances: Iterable[Balance]) -> None:
        """Add what has changed; the rows are locked, or were opened by us."""
        moved = []
        for balance in balances:
            spent, held, overrun = self._read[balance.key]
            difference = (
                balance.spent_nano - spent,
                balance.held_nano - held,
                balance.overrun_nano - overrun,
            )
            if any(difference):
                key = balance.key
                moved.append((self._opened.get(key) or self._ids[key], *difference))
        if moved:
            arrays = [integers(values) for values in zip(*moved, strict=True)]
            self._execute(statements.CHANGE_BALANCES, arrays)


def _key_columns(keys: Collection[AccountKey]) -> list[str]:
    return [
        integers(values) if name == "period_start_s" else texts(cast("Iterable[str]", values))
        for name, values in zip(AccountKey._fields, zip(*keys, strict=True), strict=True)
    ]


def _standing(ends: Iterable[Row]) -> list[Row]:
    """The ends that stand where a request ends several times in one batch: the first one, unless it
    was abandoned, which a later end replaces."""
    standing: dict[object, Row] = {}
    for end in ends:
        before = standing.get(end[0])
        if before is None or before[_OUTCOME] == "abandoned":
            standing[end[0]] = end
    return list(standing.values())
