"""The ledger in Postgres: one writing connection, every batch of operations one transaction.

Synchronous on purpose: `group.py` runs it in a thread and groups concurrent callers. Once `commit`
returns, the rows survive a crash of the server, and with a synchronous standby its loss.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

import msgspec
import psycopg

from spanledger.budgets.matching import BudgetIndex
from spanledger.clock import NANOS
from spanledger.errors import LedgerUnavailableError
from spanledger.ledger.changes import StaleError
from spanledger.ledger.engine import Engine
from spanledger.ledger.model import (
    EndRequest,
    Journaled,
    LedgerOperation,
    LedgerResult,
    RequestStart,
    Reservation,
    Sweep,
)
from spanledger.ledger.postgres.batch import Batch, Memory
from spanledger.ledger.postgres.connection import PLANNER, ServerAddress, Session
from spanledger.ledger.postgres.deadline import Deadline
from spanledger.ledger.postgres.errors import (
    LANE_LOST,
    NO_PARTITION,
    NO_ROOM,
    READ_ONLY,
    RETRIED,
    BeginAgainError,
    LaneLostError,
    connection_gone,
    reason,
    translating,
)
from spanledger.ledger.postgres.locking import LockingBatch
from spanledger.ledger.postgres.optimistic import OptimisticBatch, UnexpectedError, expected
from spanledger.ledger.postgres.owner import LaneOwner
from spanledger.ledger.postgres.partitions import (
    Partition,
    ensure,
    partition_of,
    partitions_ahead,
)

log = logging.getLogger(__name__)

MAX_BEGINNINGS = 8
"""How often a batch begins again: after a conflict, a lost connection, a lost lane."""
ANSWER_TIMEOUT_S = 8.0
"""For a transaction's answer; less than what `group.py` takes for a stall."""
STATEMENT_LIMIT_S = 7
CONFLICT_PAUSE_S = 0.02
PARTITIONS_EVERY_NS = 86_400 * NANOS


class RejectedError(Exception):
    """A row cannot be stored, and waiting does not change that. Without the row itself, which may be
    private."""


class PostgresWriter:
    """The writing connection of one process, which is an owner of holds."""

    def __init__(
        self, address: ServerAddress, owner: str, lease_ns: int, now_ns: Callable[[], int]
    ) -> None:
        self._deadline = Deadline(ANSWER_TIMEOUT_S)
        self._session = Session(
            address,
            statement_timeout_s=STATEMENT_LIMIT_S,
            settings=PLANNER,
            deadline=self._deadline,
        )
        self._owner = LaneOwner(owner, lease_ns, now_ns)
        self._engine = Engine(owner, lease_ns)
        memory = self._memory = Memory()
        self._locking = LockingBatch(self._session, self._owner, memory)
        self._optimistic = OptimisticBatch(self._session, self._owner, memory)
        self._partitions_until_ns = 0

    @property
    def owner(self) -> str:
        """Its identity."""
        return self._owner.id

    @property
    def budgets(self) -> BudgetIndex:
        """See `LedgerWriter`."""
        return self._engine.budgets

    def close(self) -> None:
        """See `LedgerWriter`."""
        # Otherwise its lane is free a while after its lease.
        with suppress(psycopg.Error, LedgerUnavailableError), self._deadline.watching():
            if self._owner.lane >= 0:
                self._owner.leave(self._session)
        self._session.close()
        self._deadline.close()

    def check(self) -> None:
        """See `LedgerWriter`: a database is the one at its address."""

    def commit(self, operations: Sequence[LedgerOperation]) -> list[LedgerResult]:
        """See `LedgerWriter`."""
        self._make_partitions_ahead(operations)
        lost = 0
        self._optimistic.expected = expected(operations, self._engine.budgets)
        batch: Batch = self._optimistic
        for _ in range(MAX_BEGINNINGS):
            try:
                with self._deadline.watching():
                    return self._engine.commit(batch, operations)
            except (StaleError, BeginAgainError, UnexpectedError):
                pass
            except LaneLostError:
                operations = [_as_repeat(operation) for operation in operations]
            except psycopg.Error as error:
                if self._session.connection_lost or connection_gone(error):
                    self._session.close()
                    lost += 1
                    if self._deadline.passed or lost > 1:
                        raise self._unavailable(error) from None
                else:
                    self._recover(error, operations)
            batch = self._locking
        raise LedgerUnavailableError(
            "the ledger could not commit: other transactions changed the same rows again and again"
        )

    def _unavailable(self, error: psycopg.Error) -> LedgerUnavailableError:
        problem = reason(error)
        if self._deadline.passed:
            problem = f"its server did not answer within {ANSWER_TIMEOUT_S:g} s"
        return LedgerUnavailableError(f"the ledger could not commit: {problem}")

    def _recover(self, error: psycopg.Error, operations: Sequence[LedgerOperation]) -> None:
        """Prepare for another beginning, or raise what the batch's callers get."""
        state = error.sqlstate
        if state == LANE_LOST:
            self._memory.fenced = None  # made sure of before the next batch
        elif state == NO_ROOM:
            pass  # the other kind of batch is next, which looks
        elif state in RETRIED:
            time.sleep(random.uniform(0, CONFLICT_PAUSE_S))
        elif state == NO_PARTITION and error.diag.constraint_name is None:
            self._make_partitions(map(partition_of, _new_ids(operations)))
        elif state == READ_ONLY:  # it is a standby now: the URL may name its successor
            self._session.close()
        elif isinstance(error, psycopg.IntegrityError | psycopg.DataError):
            raise RejectedError(reason(error)) from None
        else:
            raise self._unavailable(error) from None

    # partitions ---------------------------------------------------------------------------

    def _make_partitions_ahead(self, operations: Sequence[LedgerOperation]) -> None:
        """Once a day, with a sweep."""
        for operation in operations:
            if isinstance(operation, Sweep) and operation.now_ns > self._partitions_until_ns:
                try:
                    self._make_partitions(partitions_ahead(operation.now_ns))
                except LedgerUnavailableError as error:
                    log.warning("the coming months' partitions could not be made: %s", error)
                else:
                    self._partitions_until_ns = operation.now_ns + PARTITIONS_EVERY_NS

    def _make_partitions(self, wanted: Iterable[Partition]) -> None:
        with (
            translating("a partition could not be made"),
            self._deadline.watching(),
            self._session.transaction() as connection,
        ):
            ensure(connection, wanted)


def _as_repeat(operation: LedgerOperation) -> LedgerOperation:
    """The operation, which may have been committed before."""
    if isinstance(operation, Reservation):
        return msgspec.structs.replace(operation, repeat=True)
    return operation


def _new_ids(operations: Sequence[LedgerOperation]) -> set[str]:
    """Ids of requests that a batch may begin."""
    return {
        _start_of(operation).request_id
        for operation in operations
        if isinstance(operation, Reservation | EndRequest | Journaled)
    }


def _start_of(operation: Reservation | EndRequest | Journaled) -> RequestStart:
    match operation:
        case Reservation():
            return operation.request
        case EndRequest():
            return operation.start
        case Journaled():
            return operation.reservation.request
