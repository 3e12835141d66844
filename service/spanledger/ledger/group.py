"""Group commit: concurrent callers share one durable transaction.

A thread takes the operations that queued up while the last transaction was being written, commits
them together, and returns each caller its result. A lone caller waits for one fsync; under load
each caller pays a fraction of one. While there are several callers, a batch waits half a
millisecond for more: that costs less than the fsyncs it saves.

The event loop never waits for the disk. When a commit takes too long, the callers waiting for it
get an error that the ledger is unavailable, and so do new callers until it has ended.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TypeVar, cast

import msgspec

from spanledger.errors import LedgerUnavailableError, SpanledgerError
from spanledger.ledger.aside import Aside
from spanledger.ledger.model import (
    AttemptEnd,
    ChangeKept,
    EndRequest,
    Hold,
    Kept,
    KeptAnswer,
    KeptKind,
    Key,
    Later,
    LedgerOperation,
    LedgerResult,
    RequestEnd,
    RequestStart,
    Reservation,
    Settled,
    Sweep,
)
from spanledger.ledger.ports import LedgerWriter
from spanledger.ledger.records import Records

log = logging.getLogger(__name__)

MAX_BATCH = 512
MAX_QUEUED = 20_000
"""Operations waiting for the ledger; above this, new reservations are refused at once."""
MAX_UNWRITTEN = 2_000
"""Ends kept while the ledger is unavailable. Ends of attempts, at most as many as the gateway has
requests in flight, are kept beyond this."""
GATHER_S = 0.0005
"""How long a batch waits for more operations if the previous one had several; a lone caller never waits."""
COMMIT_PAUSE_S = 0.5
"""Pause after a failed commit before the ends of attempts are retried."""
STALL_S = 10.0
"""A commit slower than this means an unresponsive disk; twice the longest lock wait."""
WATCH_S = 1.0
"""Interval of the checks for a commit that takes too long."""
KEY_READ_TIMEOUT_S = 5.0
"""Timeout for reading a key."""
CLOSE_TIMEOUT_S = 10.0
"""Timeout for writing what is queued when the gateway stops."""

T = TypeVar("T")


class _Waiting(msgspec.Struct, eq=False):
    """An operation and its waiting caller; a retried end has none."""

    operation: LedgerOperation
    future: asyncio.Future[LedgerResult] | None
    loop: asyncio.AbstractEventLoop | None


class GroupLedger:
    """The asynchronous ledger over a synchronous store; the `Ledger` of the request path."""

    def __init__(
        self,
        store: LedgerWriter,
        keys: Records,
        *,
        now_ns: Callable[[], int],
        lease_s: float,
        max_hold_s: float,
        observe_commit: Callable[[float, int], None] = lambda _seconds, _operations: None,
        monotonic: Callable[[], float],
    ) -> None:
        self._store = store
        self._keys = keys
        self._now_ns = now_ns
        self._monotonic = monotonic
        self._sweep_every_s = lease_s / 3
        self._max_hold_ns = int(max_hold_s * 1e9)
        self._observe_commit = observe_commit
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._unwritten: list[_Waiting] = []
        self._away = ""
        self._unreadable = ""
        self._crowded = False
        self._writing: Sequence[_Waiting] = ()
        self._writing_since: float | None = None
        self._waiting = 0
        self._watched = False
        self._reader = Aside("ledger-keys", KEY_READ_TIMEOUT_S)
        self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)
        self._thread.start()

    @property
    def away(self) -> str:
        """Why the last commit or read failed, or that a commit takes too long; empty if all is
        well."""
        return self._stalled() or self._away or self._unreadable

    # callers ------------------------------------------------------------------------------

    async def reserve(self, reservation: Reservation) -> Hold:
        """See `Ledger.reserve`."""
        if self._queue.qsize() >= MAX_QUEUED:
            raise LedgerUnavailableError("the ledger is too far behind; try again")
        if problem := self._stalled():
            raise LedgerUnavailableError(problem)
        return cast("Hold", await self._submit(reservation))

    async def finish(self, end: AttemptEnd) -> Settled:
        """See `Ledger.finish`. After a failed commit, the end is retried until it is written."""
        return cast("Settled", await self._submit(end))

    async def end_request(
        self,
        start: RequestStart,
        end: RequestEnd,
        *,
        kept: Kept | None = None,
        later: Later | None = None,
    ) -> None:
        """See `Ledger.end_request`."""
        await self._submit(EndRequest(start, end, kept, later))

    async def sweep(self) -> int:
        """Expire lapsed holds now; return how many there were."""
        return cast("int", await self._submit(self._sweep_operation()))

    async def find_key(self, digest: str) -> Key | None:
        """See `Ledger.find_key`."""
        return await self._read(partial(self._keys.find_key, digest))

    async def find_answer(self, request_id: str, operation: str) -> KeptAnswer | None:
        """See `Ledger.find_answer`."""
        return await self._read(partial(self._keys.find_answer, request_id, operation))

    async def find_kept(self, request_id: str) -> Kept | None:
        """See `Ledger.find_kept`."""
        return await self._read(partial(self._keys.find_kept, request_id))

    async def list_kept(
        self, owner: tuple[str, str], kind: KeptKind, *, after: str, rising: bool, limit: int
    ) -> list[Kept]:
        """See `Ledger.list_kept`."""
        page = partial(self._keys.list_kept, after=after, rising=rising, limit=limit)
        return await self._read(partial(page, owner, kind))

    async def change_kept(self, request_id: str, about: str | None) -> None:
        """See `Ledger.change_kept`."""
        await self._submit(ChangeKept(request_id, about))

    async def has_keys(self) -> bool:
        """See `Ledger.has_keys`."""
        return await self._read(self._keys.has_keys)

    async def check(self) -> None:
        """See `Ledger.check`."""
        if problem := self._stalled() or self._away:
            raise LedgerUnavailableError(problem)
        await self.has_keys()

    async def close(self) -> None:
        """Write what is queued, then close the store."""
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join, CLOSE_TIMEOUT_S)
        if self._thread.is_alive():
            log.error("the ledger could not be closed: its disk is not responding")
        with suppress(TimeoutError):
            await self._reader.call(self._keys.close)
        self._reader.close()

    async def _read(self, read: Callable[[], T]) -> T:
        """Read in the reader thread. A failure is logged once, and so is its end."""
        try:
            found = await self._reader.call(read)
        except LedgerUnavailableError as error:
            raise self._cannot_read(str(error.__cause__ or error)) from error
        except TimeoutError:
            raise self._cannot_read(f"no answer within {KEY_READ_TIMEOUT_S:g} s") from None
        if self._unreadable:
            self._unreadable = ""
            log.warning("the ledger can be read again")
        return found

    def _cannot_read(self, reason: str) -> LedgerUnavailableError:
        found = self._stalled()
        if not found:
            try:
                self._store.check()  # it may know why
                found = f"the ledger cannot be read: {reason}"
            except LedgerUnavailableError as error:
                found = str(error)
        if found not in (self._unreadable, self._away):
            log.error("%s; callers whose key is not cached get 503 until it can be read", found)
        self._unreadable = found
        return LedgerUnavailableError(found)

    async def _submit(self, operation: LedgerOperation) -> LedgerResult:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[LedgerResult] = loop.create_future()
        if problem := self._stalled():
            self._leave(operation)
            raise LedgerUnavailableError(problem)
        self._queue.put(_Waiting(operation, future, loop))
        if not self._watched:
            self._watched = True
            loop.call_later(WATCH_S, self._watch, loop)
        self._waiting += 1
        try:
            result = await future
        finally:
            self._waiting -= 1
        if isinstance(result, SpanledgerError):
            raise result
        return result

    # an unresponsive disk -----------------------------------------------------------------

    def _stalled(self) -> str:
        """A message if the current commit takes too long, else empty."""
        since = self._writing_since
        if since is None or self._monotonic() - since < STALL_S:
            return ""
        problem = f"the ledger's disk has not finished a write for {STALL_S:g} s"
        if self._away != problem:
            self._away = problem
            log.error("%s; nothing is sent to providers until it does", problem)
        return problem

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """While callers wait for a commit, make sure that none waits forever."""
        if problem := self._stalled():
            self._give_up(LedgerUnavailableError(problem))
        self._watched = self._waiting > 0
        if self._watched:
            loop.call_later(WATCH_S, self._watch, loop)

    def _give_up(self, error: LedgerUnavailableError) -> None:
        """Answer all waiting callers. Queued operations that move money are written once the disk responds."""
        queued: list[_Waiting | None] = []
        with suppress(queue.Empty):
            while True:
                queued.append(self._queue.get_nowait())
        writing = list(self._writing)
        for waiting in (*writing, *queued):
            if waiting is None:
                continue
            if waiting.future is not None and not waiting.future.done():
                waiting.future.set_result(error)
            # An operation being written is not repeated, but a hold nobody knows of must be released.
            if waiting not in writing or isinstance(waiting.operation, Reservation):
                self._leave(waiting.operation)
        if None in queued:
            self._queue.put(None)

    def _leave(self, operation: LedgerOperation) -> None:
        """Queue what must still be written for an operation whose caller has given up.

        A reservation may have been written already or be about to be: release its hold. If there is
        none, that changes nothing.
        """
        match operation:
            case Reservation():
                unsent = AttemptEnd(
                    operation.attempt_id,
                    self._now_ns(),
                    None,
                    error_type=LedgerUnavailableError.error_type,
                )
                self._queue.put(_Waiting(unsent, None, None))
            case AttemptEnd():
                self._queue.put(_Waiting(operation, None, None))
            case EndRequest() if self._queue.qsize() < MAX_UNWRITTEN:
                self._queue.put(_Waiting(operation, None, None))
            case _:
                pass

    # the thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        closing = False
        next_sweep = self._monotonic()
        while not closing:
            batch, closing = self._next_batch(max(0.0, next_sweep - self._monotonic()))
            if self._monotonic() >= next_sweep:
                batch.append(_Waiting(self._sweep_operation(), None, None))
                next_sweep = self._monotonic() + self._sweep_every_s
            batch = self._unwritten + batch
            self._unwritten = []
            if batch:
                self._write(batch)
        if self._unwritten:
            log.error(
                "%d ended attempts could not be written; their holds will expire",
                len(self._unwritten),
            )
        self._store.close()

    def _next_batch(self, wait_s: float) -> tuple[list[_Waiting], bool]:
        """All queued operations, waiting at most `wait_s` for the first, and whether to close."""
        batch: list[_Waiting] = []
        try:
            item = self._queue.get(
                timeout=min(wait_s, COMMIT_PAUSE_S) if self._unwritten else wait_s
            )
            if self._crowded:
                time.sleep(GATHER_S)
            while item is not None and len(batch) < MAX_BATCH - 1:
                batch.append(item)
                item = self._queue.get_nowait()
        except queue.Empty:
            self._crowded = len(batch) > 1
            return batch, False
        if item is None:
            return batch, True
        batch.append(item)
        return batch, False

    def _write(self, batch: list[_Waiting]) -> None:
        started = self._monotonic()
        operations = [waiting.operation for waiting in batch]
        try:
            results = self._commit(batch)
        except LedgerUnavailableError as error:
            self._failed(batch, error)
            return
        except Exception:  # one operation's data is at fault: the others must not fail with it
            log.exception("a batch of %d operations failed; writing them one by one", len(batch))
            results = [self._commit_alone(waiting) for waiting in batch]
            self._unwritten = [
                _Waiting(waiting.operation, None, None)
                for waiting, result in zip(batch, results, strict=True)
                if isinstance(result, LedgerUnavailableError)
                and isinstance(waiting.operation, AttemptEnd | EndRequest)
            ]
        if self._away:
            self._away = ""
            log.warning("the ledger is committing again")
        # The sweep is not a request's operation: an idle gateway counts none.
        asked = sum(not isinstance(operation, Sweep) for operation in operations)
        self._observe_commit(self._monotonic() - started, asked)
        _deliver(batch, results)

    def _commit(self, batch: Sequence[_Waiting]) -> list[LedgerResult]:
        self._writing, self._writing_since = batch, self._monotonic()
        try:
            return self._store.commit([waiting.operation for waiting in batch])
        finally:  # before any caller gets its result
            self._writing, self._writing_since = (), None

    def _commit_alone(self, waiting: _Waiting) -> LedgerResult:
        try:
            return self._commit([waiting])[0]
        except SpanledgerError as error:
            return error
        except Exception as error:
            log.exception("the ledger rejected an operation")
            return SpanledgerError(f"the ledger rejected this operation: {error}")

    def _failed(self, batch: list[_Waiting], error: LedgerUnavailableError) -> None:
        """Fail the callers, log it once, and keep the ends of attempts for the next batch.

        Ends of attempts must not be lost. A request that ended without an attempt moves no money,
        and during an outage there can be any number of them: they are kept only while there is room
        after the attempts.
        """
        if str(error) not in (self._away, self._unreadable):
            log.error("%s; nothing is sent to providers until it recovers", error)
        self._away = str(error)
        ends = [w.operation for w in batch if isinstance(w.operation, AttemptEnd | EndRequest)]
        if len(ends) > MAX_UNWRITTEN:
            refused = [end for end in ends if isinstance(end, EndRequest)]
            dropped = {id(end) for end in refused[-(len(ends) - MAX_UNWRITTEN) :]}
            ends = [end for end in ends if id(end) not in dropped]
            log.info("%d requests refused during the outage are not recorded", len(dropped))
        self._unwritten = [_Waiting(end, None, None) for end in ends]
        _deliver(batch, [error] * len(batch))

    def _sweep_operation(self) -> Sweep:
        return Sweep(self._now_ns(), self._max_hold_ns)


def _deliver(batch: Sequence[_Waiting], results: Sequence[LedgerResult]) -> None:
    """Wake each event loop once with all its results."""
    by_loop: dict[
        asyncio.AbstractEventLoop, list[tuple[asyncio.Future[LedgerResult], LedgerResult]]
    ] = {}
    for waiting, result in zip(batch, results, strict=True):
        if waiting.future is not None and waiting.loop is not None:
            by_loop.setdefault(waiting.loop, []).append((waiting.future, result))
    for loop, pairs in by_loop.items():
        if not loop.is_closed():
            loop.call_soon_threadsafe(_resolve, pairs)


def _resolve(pairs: Sequence[tuple[asyncio.Future[LedgerResult], LedgerResult]]) -> None:
    for future, result in pairs:
        if not future.done():  # the caller may have been cancelled
            future.set_result(result)
