"""Group commit: concurrent callers share one durable transaction.

A thread takes the operations that queued up while the last transaction was being written, commits
them together, and returns each caller its result. A lone caller waits for one fsync; under load
each caller pays a fraction of one. While there are several callers, a batch waits half a
millisecond for more: that costs less than the fsyncs it saves.

The event loop never waits for the disk. When a commit takes too long, the callers waiting for it
get an error that the ledger is unavailable, and so do new callers until it has ended.

While the ledger is unavailable, a journal may hold attempts instead, if budgets allow it. What
follows in their requests goes there too, until the ledger has it.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TypeVar, cast

from spanledger.errors import (
    BudgetExceededError,
    BudgetThrottledError,
    CommitInDoubtError,
    LedgerUnavailableError,
    SpanledgerError,
)
from spanledger.ledger.aside import Aside
from spanledger.ledger.journal.file import JournalEntry
from spanledger.ledger.journal.journal import Journal, meanwhile
from spanledger.ledger.key_uses import KeyUses
from spanledger.ledger.keys import FoundKey
from spanledger.ledger.model import (
    AttemptEnd,
    ChangeKept,
    EndRequest,
    Hold,
    Kept,
    KeptAnswer,
    KeptKind,
    Later,
    LedgerOperation,
    LedgerResult,
    RequestEnd,
    RequestStart,
    Reservation,
    Settled,
    Sweep,
    Unread,
)
from spanledger.ledger.outage import log_outage
from spanledger.ledger.ports import LedgerWriter
from spanledger.ledger.records import Records
from spanledger.ledger.waiting import Waiting, deliver, unsent

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
        journal: Journal | None = None,
    ) -> None:
        self._store = store
        self._keys = keys
        self._uses = KeyUses(keys, now_ns)
        self._now_ns = now_ns
        self._monotonic = monotonic
        self._sweep_every_s = lease_s / 3
        self._max_hold_ns = int(max_hold_s * 1e9)
        self._observe_commit = observe_commit
        self._queue: queue.SimpleQueue[Waiting | None] = queue.SimpleQueue()
        self._unwritten: list[Waiting] = []
        self.journal = journal
        self._unrecorded: Mapping[str, int] = {} if journal is None else journal.unrecorded
        self._closed: Collection[object] = () if journal is None else journal.closed
        self._away = ""
        self._unreadable = ""
        self._crowded = False
        self._writing: Sequence[Waiting] = ()
        self._writing_since: float | None = None
        self._waiting = 0
        self._watched = False
        self._reader = Aside("ledger-keys", KEY_READ_TIMEOUT_S)
        self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)
        self._thread.start()
        if journal is not None:
            journal.wake = self._wake

    @property
    def away(self) -> str:
        """Why the last commit or read failed, or a commit takes too long; empty if all is well."""
        return self._stalled() or self._away or self._unreadable

    @property
    def journaling(self) -> bool:
        """See `Ledger.journaling`."""
        return bool(self._stalled() or self._away) and self.journal_has_room

    @property
    def journal_has_room(self) -> bool:
        """See `Ledger.journal_has_room`."""
        return self.journal is not None and self.journal.has_room

    # callers ------------------------------------------------------------------------------

    async def reserve(self, reservation: Reservation) -> Hold:
        """See `Ledger.reserve`."""
        if (self._away or self._unrecorded) and (
            journal := self._journal_for(reservation.request.request_id)
        ):
            return await journal.hold(reservation)
        if self._queue.qsize() >= MAX_QUEUED:
            raise LedgerUnavailableError("the ledger is too far behind; try again")
        try:
            hold = cast("Hold", await self._submit(reservation))
        except BudgetExceededError as error:
            if self.journal is not None and not isinstance(error, BudgetThrottledError):
                self.journal.refused(error.refusal)
            raise
        except LedgerUnavailableError as error:
            return await self._hold_elsewhere(reservation, error)
        if self._closed and self.journal is not None:
            self.journal.admitted(reservation)
        return hold

    async def finish(self, end: AttemptEnd) -> Settled:
        """See `Ledger.finish`. After a failed commit, the end is retried until it is written."""
        if (self._away or self._unrecorded) and (
            journal := self._journal_for(end.attempt_id.rpartition(".")[0])
        ):
            return await journal.finish(end)
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
        operation = EndRequest(start, end, kept, later)
        if start.request_id in self._unrecorded and self.journal is not None:
            await self.journal.end_request(operation)
        else:
            await self._submit(operation)

    async def sweep(self) -> int:
        """Expire lapsed holds now; return how many there were."""
        return cast("int", await self._submit(self._sweep_operation()))

    async def find_key(self, digest: str) -> FoundKey | None:
        """See `Ledger.find_key`."""
        return await self._read(partial(self._uses.find_key, digest))

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

    async def owners_of_file(self, provider_id: str) -> list[tuple[str, str]]:
        """See `Ledger.owners_of_file`."""
        return await self._read(partial(self._keys.owners_of_file, provider_id))

    async def list_unread(self, since_ns: int, limit: int) -> list[Unread]:
        """See `Ledger.list_unread`."""
        return await self._read(partial(self._keys.list_unread, since_ns, limit))

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
        if self.journal is not None:
            await asyncio.to_thread(self.journal.close)
        with suppress(TimeoutError):
            await self._reader.call(self._keys.close)
        self._reader.close()

    def _journal_for(self, request_id: str) -> Journal | None:
        """The journal, if what follows in this request has to go there."""
        journal = self.journal
        if journal is None or request_id in self._unrecorded:
            return journal
        return journal if self._away and journal.serves else None

    async def _hold_elsewhere(self, reservation: Reservation, error: SpanledgerError) -> Hold:
        """Hold in the journal what could not be held in the ledger, or raise. The ledger may still
        hold it when a commit ends that takes too long: what the journal has stands then."""
        try:
            journal = self._journal_for(reservation.request.request_id)
            if journal is None:
                raise error
            return await journal.hold(reservation)
        except LedgerUnavailableError:
            if isinstance(error, CommitInDoubtError) or reservation.repeat:
                self._leave(reservation)  # a hold that nobody knows of must be released
            raise

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
        self._report(found, "callers whose key is not cached get 503 until it can be read")
        self._unreadable = found
        return LedgerUnavailableError(found)

    async def _submit(self, operation: LedgerOperation) -> LedgerResult:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[LedgerResult] = loop.create_future()
        if problem := self._stalled():
            if not isinstance(operation, Reservation):
                self._leave(operation)
            raise LedgerUnavailableError(problem)
        self._queue.put(Waiting(operation, future, loop))
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
        problem = f"the ledger has not finished a write for {STALL_S:g} s"
        self._report(problem, f"{meanwhile(self.journal)} until it does")
        self._away = problem
        return problem

    def _report(self, problem: str, then: str) -> None:
        log_outage(problem, (self._away, self._unreadable), then)

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """While callers wait for a commit, make sure that none waits forever."""
        if problem := self._stalled():
            self._give_up(CommitInDoubtError(problem))
        self._watched = self._waiting > 0
        if self._watched:
            loop.call_later(WATCH_S, self._watch, loop)

    def _give_up(self, error: CommitInDoubtError) -> None:
        """Answer all waiting callers. Queued operations that move money are written once the disk responds."""
        queued: list[Waiting | None] = []
        with suppress(queue.Empty):
            while True:
                queued.append(self._queue.get_nowait())
        writing = list(self._writing)
        for waiting in (*writing, *filter(None, queued)):
            if waiting.future is not None and not waiting.future.done():
                waiting.future.set_result(error)
            # What is being written is not repeated. A hold is released by its caller.
            if waiting not in writing and not isinstance(waiting.operation, Reservation):
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
                self._queue.put(Waiting(unsent(operation, self._now_ns()), None, None))
            case AttemptEnd():
                if self.journal is not None and self.journal.serves:
                    self.journal.keep(operation)
                else:
                    self._queue.put(Waiting(operation, None, None))
            case EndRequest() if self._queue.qsize() < MAX_UNWRITTEN:
                self._queue.put(Waiting(operation, None, None))

    # the thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        closing = False
        next_sweep = self._monotonic()
        while not closing:
            batch, closing = self._next_batch(self._idle_s(next_sweep))
            if self._monotonic() >= next_sweep or self._probes:
                batch.append(Waiting(self._sweep_operation(), None, None))
                next_sweep = self._monotonic() + self._sweep_every_s
            self._write_next(batch)
        while self.journal is not None and self.journal.waiting and not self._away:
            self._write_next([])
        if self._unwritten:
            log.error(
                "%d ended attempts could not be written; their holds will expire",
                len(self._unwritten),
            )
        self._store.close()

    def _idle_s(self, next_sweep: float) -> float:
        """How long to wait for a caller's operation before something else has to be written."""
        idle_s = max(0.0, next_sweep - self._monotonic())
        if self._unwritten or self._probes:
            return min(idle_s, COMMIT_PAUSE_S)
        return 0.0 if self.journal is not None and self.journal.waiting else idle_s

    @property
    def _probes(self) -> bool:
        """Whether to find out by ourselves that the ledger is back: nobody else may ask it."""
        return bool(self._away) and self.journal is not None and self.journal.serves

    def _wake(self) -> None:
        """The journal has an entry for the ledger, which is written at once if that is not down."""
        if not self._away:
            self._queue.put(Waiting(self._sweep_operation(), None, None))

    def _write_next(self, batch: list[Waiting]) -> None:
        """Write what is left from before, what the journal has, and a batch, in this order."""
        batch, earlier = self._unwritten + batch, len(self._unwritten)
        self._unwritten = []
        journal = self.journal
        entries = journal.chunk() if journal is not None and journal.waiting else ()
        if batch or entries:
            self._write(batch, entries, earlier)

    def _next_batch(self, wait_s: float) -> tuple[list[Waiting], bool]:
        """All queued operations, waiting at most `wait_s` for the first, and whether to close."""
        batch: list[Waiting] = []
        try:
            item = self._queue.get(timeout=wait_s)
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

    def _write(self, batch: list[Waiting], entries: Sequence[JournalEntry], earlier: int) -> None:
        """Commit a batch, with the journal's entries behind its first `earlier` operations."""
        started = self._monotonic()
        recording = [Waiting(entry, None, None) for entry in entries]
        whole = [*batch[:earlier], *recording, *batch[earlier:]] if recording else batch
        try:
            results = self._commit(whole)
        except LedgerUnavailableError as error:
            self._failed(batch, error)
            return
        except Exception:  # one operation's data is at fault: the others must not fail with it
            log.exception("a batch of %d operations failed; writing them one by one", len(whole))
            results = [self._commit_alone(waiting) for waiting in whole]
            self._unwritten = [
                Waiting(waiting.operation, None, None)
                for waiting, result in zip(whole, results, strict=True)
                if isinstance(result, LedgerUnavailableError)
                and isinstance(waiting.operation, AttemptEnd | EndRequest)
                and waiting not in recording
            ]
        if self._away:
            self._away = ""
            log.warning("the ledger is committing again")
        # The sweep is not a request's operation: an idle gateway counts none.
        asked = sum(not isinstance(waiting.operation, Sweep) for waiting in whole)
        self._observe_commit(self._monotonic() - started, asked)
        deliver(whole, results)
        if self.journal is not None:
            if entries:
                self.journal.recorded(entries, results[earlier : earlier + len(entries)])
            self.journal.committed(self._store.budgets, again=asked < len(whole))

    def _commit(self, batch: Sequence[Waiting]) -> list[LedgerResult]:
        self._writing, self._writing_since = batch, self._monotonic()
        try:
            return self._store.commit([waiting.operation for waiting in batch])
        finally:  # before any caller gets its result
            self._writing, self._writing_since = (), None

    def _commit_alone(self, waiting: Waiting) -> LedgerResult:
        try:
            return self._commit([waiting])[0]
        except SpanledgerError as error:
            return error
        except Exception as error:
            log.exception("the ledger rejected an operation")
            return SpanledgerError(f"the ledger rejected this operation: {error}")

    def _failed(self, batch: list[Waiting], error: LedgerUnavailableError) -> None:
        """Fail the callers, log it once, and keep the ends of attempts for the next batch.

        Ends of attempts must not be lost. Requests that ended without an attempt move no money, and
        an outage can bring any number: they are kept while there is room after the attempts.
        """
        self._report(str(error), f"{meanwhile(self.journal)} until it recovers")
        self._away = str(error)
        ends = [w.operation for w in batch if isinstance(w.operation, AttemptEnd | EndRequest)]
        if self.journal is not None and self.journal.serves:
            for end in ends:
                if isinstance(end, AttemptEnd) or end.later is not None:
                    self.journal.keep(end)
            ends = [end for end in ends if isinstance(end, EndRequest) and end.later is None]
        if len(ends) > MAX_UNWRITTEN:
            refused = [end for end in ends if isinstance(end, EndRequest)]
            dropped = {id(end) for end in refused[-(len(ends) - MAX_UNWRITTEN) :]}
            ends = [end for end in ends if id(end) not in dropped]
            log.info("%d requests refused during the outage are not recorded", len(dropped))
        self._unwritten = [Waiting(end, None, None) for end in ends]
        deliver(batch, [error] * len(batch))

    def _sweep_operation(self) -> Sweep:
        return Sweep(self._now_ns(), self._max_hold_ns, self._uses.take())
