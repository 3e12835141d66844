"""A batch of one gateway as a transaction: how it begins, what it writes, how it ends.

How the balances are read and changed is left to two kinds of it (`locking.py`, `optimistic.py`). All
statements of a batch go out as a pipeline: no answer is waited for unless something depends on it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping
from contextlib import AbstractContextManager, suppress
from time import monotonic, sleep
from types import TracebackType
from typing import Any, NamedTuple, Self

import psycopg

from spanledger.budgets.accounts import AccountKey, Balance
from spanledger.errors import CommitInDoubtError, LedgerUnavailableError
from spanledger.ledger.changes import (
    ATTEMPT_COLUMNS,
    REQUEST_COLUMNS,
    REQUEST_END_COLUMNS,
    Changes,
    Row,
    StaleError,
)
from spanledger.ledger.engine import Booked, Lapsed, ReadBudgets
from spanledger.ledger.model import ChangeKept, Sweep
from spanledger.ledger.postgres import kept, statements
from spanledger.ledger.postgres.arrays import columns_of, integers, storable, texts
from spanledger.ledger.postgres.connection import Link, Session, roll_back
from spanledger.ledger.postgres.errors import (
    STALE,
    BeginAgainError,
    LaneLostError,
    connection_gone,
    reason,
)
from spanledger.ledger.postgres.owner import LaneOwner

MAX_KNOWN_ACCOUNTS = 50_000
"""Beyond this many, balances are asked for again; each takes about half a kilobyte."""
SETTLE_S = 4.0
"""How long a lost commit is asked after, before its callers get an error."""
SETTLE_PAUSE_S = 0.1
NOT_READ = -1
IDLE = psycopg.pq.TransactionStatus.IDLE
_OUTCOME = 1 + REQUEST_END_COLUMNS.index("outcome")

Cursor = psycopg.Cursor[tuple[Any, ...]]


class KnownBalance(NamedTuple):
    """A balance as this gateway has seen it last."""

    id: int
    period_end_s: int
    spent_nano: int
    held_nano: int
    overrun_nano: int
    opened_seq: int
    paced: str = ""

    def of(self, key: AccountKey) -> Balance:
        """A balance that the engine may change."""
        return Balance(key, *self[1:])


class Memory:
    """What a gateway knows of the ledger between two batches.

    Attributes:
        fenced: the connection on which we know of all our transactions.
        accounts: balances as last seen; others may have changed them, but never their ids.
    """

    def __init__(self) -> None:
        self.budgets_version = NOT_READ
        self.epoch = 0
        self.fenced: Link | None = None
        self.accounts: dict[AccountKey, KnownBalance] = {}


class Batch(ABC):
    """The engine's `Transaction`, one after another on the writer's session."""

    def __init__(self, session: Session, owner: LaneOwner, memory: Memory) -> None:
        self.seq = 0
        self.budgets_version = NOT_READ
        self.epoch = 0
        self._session = session
        self._owner = owner
        self._memory = memory
        self._connection: Link | None = None
        self._pipeline: AbstractContextManager[psycopg.Pipeline] | None = None
        self._read: dict[AccountKey, KnownBalance] = {}

    # begin and end ------------------------------------------------------------------------

    def __enter__(self) -> Self:
        memory = self._memory
        connection = self._connection = self._session.connection
        if connection is not memory.fenced:
            self._owner.fence(self._session)
            memory.fenced = connection
        memory.epoch += 1  # others may have changed every balance
        self.epoch, self.budgets_version = memory.epoch, memory.budgets_version
        self.seq = self._owner.seq
        self._read.clear()
        pipeline = self._pipeline = connection.pipeline()
        pipeline.__enter__()
        try:
            self._begin()
        except BaseException:
            self._roll_back()
            raise
        return self

    @abstractmethod
    def _begin(self) -> None:
        """Queue the first statements."""

    def _open(self) -> None:
        assert self._connection is not None
        self._connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE", prepare=False)
        self._session.settle_in(self._connection)

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
            if isinstance(error, psycopg.Error) and error.sqlstate == STALE:
                raise StaleError from None  # it came while statements were still being sent

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
                self._forget_balances()
                return
            self._roll_back()
            if error.sqlstate == STALE:
                raise StaleError from None
            raise
        if self._session.not_replicated:
            self._memory.fenced = None
            raise CommitInDoubtError(
                "the ledger's server stopped waiting for its standby, so a commit may be lost with"
                " the server"
            )
        self._owner.batch += 1
        self._owner.seq = self.seq
        if len(self._memory.accounts) > MAX_KNOWN_ACCOUNTS:
            self._memory.accounts.clear()
        self._remember()

    @abstractmethod
    def _remember(self) -> None:
        """Remember the balances as they are after this batch."""

    def _forget_balances(self) -> None:
        """They are asked for again: it was not seen how this batch left them."""
        for key in self._read:
            self._memory.accounts.pop(key, None)

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
            except (psycopg.Error, LedgerUnavailableError) as error:
                self._session.close()
                if monotonic() > until:
                    now = reason(error) if isinstance(error, psycopg.Error) else str(error)
                    raise CommitInDoubtError(
                        f"the ledger was lost while a commit was under way ({problem}); {now}"
                    ) from None
                sleep(SETTLE_PAUSE_S)
        self._memory.fenced = self._session.connection
        if fate == "undone":
            raise BeginAgainError
        if fate == "unknown":
            raise LaneLostError

    def _roll_back(self) -> None:
        connection, pipeline = self._connection, self._pipeline
        self._pipeline = None
        assert connection is not None
        if pipeline is not None:
            with suppress(psycopg.Error):
                pipeline.__exit__(None, None, None)
        if not connection.closed and connection.info.transaction_status != IDLE:
            roll_back(connection)

    def _execute(self, statement: str, parameters: Any = ()) -> Cursor:
        assert self._connection is not None
        return self._connection.execute(statement, parameters, prepare=not self._session.pooled)

    # the engine's -------------------------------------------------------------------------

    @abstractmethod
    def budgets(self, since: int) -> ReadBudgets:
        """See `Transaction`."""

    @abstractmethod
    def booked(self, ids: Collection[str]) -> Mapping[str, Booked]:
        """See `Transaction`."""

    @abstractmethod
    def lapsed(self, sweep: Sweep) -> Lapsed:
        """See `Transaction`."""

    @abstractmethod
    def balances(self, keys: Collection[AccountKey]) -> Mapping[AccountKey, Balance]:
        """See `Transaction`."""

    @abstractmethod
    def write(self, changes: Changes) -> None:
        """See `Transaction`."""

    # rows ---------------------------------------------------------------------------------

    def _write_rows(self, changes: Changes) -> None:
        """Everything but the balances and the owner's row, in the order of `Changes`."""
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

    def _moved(self, balances: Iterable[Balance]) -> list[tuple[AccountKey, int, int, int]]:
        """Accounts with what is added to spent, held and overrun, if that is anything."""
        moved = []
        for balance in balances:
            key = balance.key
            before = self._read[key]
            spent = balance.spent_nano - before.spent_nano
            held = balance.held_nano - before.held_nano
            overrun = balance.overrun_nano - before.overrun_nano
            if spent or held or overrun:
                moved.append((key, spent, held, overrun))
        return moved


def _standing(ends: Iterable[Row]) -> list[Row]:
    """The ends that stand where a request ends several times in one batch: the first one, unless it
    was abandoned, which a later end replaces."""
    standing: dict[object, Row] = {}
    for end in ends:
        before = standing.get(end[0])
        if before is None or before[_OUTCOME] == "abandoned":
            standing[end[0]] = end
    return list(standing.values())
