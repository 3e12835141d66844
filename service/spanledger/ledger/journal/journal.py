"""One process's journal: attempts that budgets allow while the ledger is unavailable.

A hold is granted from the budgets' allowances and is durable in a file before the request is sent;
so is its end. A thread of its own writes the file, because the ledger's may be waiting for a disk
that does not respond; entries that arrive together share one fsync. Once the ledger commits again,
the ledger's thread records the entries there, in their order. An entry counts as recorded only after
that commit, and recording it twice changes nothing: so neither kill nor a second failure loses or
doubles one.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from spanledger.budgets.allowances import Allowances, Granted
from spanledger.budgets.matching import BudgetIndex
from spanledger.budgets.scopes import dimensions_of
from spanledger.clock import NANOS
from spanledger.errors import LedgerUnavailableError, Refusal, SpanledgerError
from spanledger.ledger.journal.file import (
    JournalEntry,
    JournalFile,
    LeftBehind,
    encode,
    left_behind,
    request_of,
)
from spanledger.ledger.model import (
    AttemptEnd,
    EndRequest,
    Hold,
    Journaled,
    LedgerResult,
    Reservation,
    Settled,
)
from spanledger.ledger.ports import Store

log = logging.getLogger(__name__)

MAX_JOURNAL_BYTES = 64 * 2**20
"""Of a file. At this size no more holds are granted; the ends of those that are open still fit in."""
MAX_RECORDED = 256
"""Entries recorded in one transaction of the ledger."""
MAX_WRITTEN = 512
"""Entries that share one fsync."""
RETRY_S = 10
"""For so long after a write that failed, the journal counts as without room; then a request tries again."""
TAKE_OVER_EVERY_S = 60
"""Between two looks for files of processes that died meanwhile."""
JOURNAL_CLOSE_S = 5
"""Timeout for writing what is queued when the gateway stops."""
_UNBOUNDED = (
    "the ledger is unavailable, and nothing bounds the cost of this request meanwhile; try again"
    " later"
)

_Done = asyncio.Future[None]


class JournalState(NamedTuple):
    """Figures for `/metrics`.

    Attributes:
        attempts: held here since the process started.
        waiting: entries that the ledger does not have yet.
    """

    attempts: int
    waiting: int


@dataclass(slots=True)
class _Open:
    """An attempt held here that has not ended, and that the ledger does not have yet.

    Attributes:
        failed: its hold could not be written, so it was taken back.
    """

    granted: Granted
    hold: Hold
    failed: bool = False


class _Written(NamedTuple):
    """An entry to be written; without one, `future` waits for those before it.

    Attributes:
        line: None if the entry cannot be written.
    """

    entry: JournalEntry | None
    line: bytes | None
    future: _Done | None


class _Renew(NamedTuple):
    """Use these budgets from now on."""

    budgets: BudgetIndex


class Journal:
    """See the module. Callers are tasks of an event loop, except where a method says otherwise.

    Attributes:
        unrecorded: number of entries by request, of those that the ledger does not have yet. What
            follows in such a request must come here too, behind them.
        closed: see `Allowances`.
        armed: a budget allows something, as of the ledger's last commit.
        wake: called when there are entries for the ledger.
    """

    def __init__(self, folder: Path, store: Store, owner: str, now_ns: Callable[[], int]) -> None:
        self.unrecorded: dict[str, int] = {}
        self.armed = False
        self.wake: Callable[[], None] = lambda: None
        self._folder = folder
        self._store = store
        self._owner = owner
        self._now_ns = now_ns
        self._allowances = Allowances()
        self.closed = self._allowances.closed
        self._lock = threading.Lock()
        self._budgets: BudgetIndex | None = None
        self._unread = False
        self._ledger_id = store.ledger_id()
        self._file: JournalFile | None = None
        self._problem = ""
        self._failed_ns = self._told_ns = 0
        self._attempts = 0
        self._open: dict[str, _Open] = {}
        self._entries: deque[JournalEntry] = deque()
        self._left: deque[LeftBehind] = deque()
        self._passed: set[Path] = set()
        self._looked_ns = 0
        self._at = 0
        self._rejected = False
        self._queue: queue.SimpleQueue[_Written | _Renew | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    # state --------------------------------------------------------------------------------

    @property
    def serves(self) -> bool:
        """Whether it can hold anything, should the ledger be unavailable."""
        return self.armed and not self._problem

    @property
    def has_room(self) -> bool:
        """Whether it can hold an attempt of anybody."""
        if not self.serves or self._is_full():
            return False
        if abs(self._now_ns() - self._failed_ns) < RETRY_S * NANOS:
            return False
        with self._lock:
            return self._allowances.has_room(self._now_ns() // NANOS)

    @property
    def waiting(self) -> bool:
        """Whether there are entries for the ledger."""
        return bool(self._entries or self._left)

    def figures(self) -> JournalState:
        """For `/metrics`."""
        left = sum(len(found.entries) for found in tuple(self._left)) - self._at
        return JournalState(self._attempts, len(self._entries) + left)

    def _is_full(self) -> bool:
        return self._file is not None and self._file.size >= MAX_JOURNAL_BYTES

    # callers ------------------------------------------------------------------------------

    async def hold(self, reservation: Reservation) -> Hold:
        """Hold an attempt here. A repeat returns its first hold.

        Raises:
            LedgerUnavailableError: no budget allows it, or the file cannot be written.
        """
        with self._lock:
            found = self._open.get(reservation.attempt_id)
            if found is None:
                found = self._grant(reservation)
                written = self._write(Journaled(reservation, found.hold.hold_nano))
            else:
                written = self._write(None)
        await written
        if found.failed:
            raise LedgerUnavailableError("the ledger is unavailable, and so is its journal")
        return found.hold

    async def finish(self, end: AttemptEnd) -> Settled:
        """End an attempt, wherever it is held; the ledger learns of it later."""
        cost, hold = end.cost_nano or 0, end.cost_nano or 0
        left = None
        with self._lock:
            found = self._open.pop(end.attempt_id, None)
            if found is not None:
                hold = found.hold.hold_nano
                left = self._allowances.settle(found.granted, cost)
            written = self._write(end)
        await written
        return Settled(cost, max(0, cost - hold), left)

    async def end_request(self, operation: EndRequest) -> None:
        """End a request; the ledger learns of it later."""
        with self._lock:
            written = self._write(operation)
        await written

    def keep(self, end: AttemptEnd | EndRequest) -> None:
        """The same as `finish` or `end_request` without waiting, from any thread."""
        with self._lock:
            found = self._open.pop(end.attempt_id, None) if isinstance(end, AttemptEnd) else None
            if found is not None and isinstance(end, AttemptEnd):
                self._allowances.settle(found.granted, end.cost_nano or 0)
            self._put(end, None)

    def refused(self, refusal: Refusal) -> None:
        """The ledger refused an attempt; see `Allowances`."""
        with self._lock:
            self._allowances.refused(refusal, self._now_ns() // NANOS)

    def admitted(self, reservation: Reservation) -> None:
        """The ledger admitted an attempt; see `Allowances`."""
        with self._lock:
            self._allowances.admitted(dimensions_of(reservation))

    def _grant(self, reservation: Reservation) -> _Open:
        if reservation.repeat:
            raise LedgerUnavailableError("the ledger is unavailable, and nothing was held for this")
        if reservation.only_ledger or not reservation.priced or reservation.unbounded:
            raise LedgerUnavailableError(_UNBOUNDED)
        if self._is_full():
            raise LedgerUnavailableError("the ledger is unavailable, and its journal is full")
        granted = self._allowances.grant(
            dimensions_of(reservation), reservation.now_ns // NANOS, reservation.sizes
        )
        hold = Hold(
            reservation.attempt_id,
            granted.hold_nano,
            "allow",
            (),
            granted.remaining_nano,
            journaled=True,
        )
        found = self._open[reservation.attempt_id] = _Open(granted, hold)
        return found

    def _write(self, entry: JournalEntry | None) -> _Done:
        future = asyncio.get_running_loop().create_future()
        self._put(entry, future)
        return future

    def _put(self, entry: JournalEntry | None, future: _Done | None) -> None:
        if entry is not None:
            request_id = request_of(entry)
            self.unrecorded[request_id] = self.unrecorded.get(request_id, 0) + 1
        self._start()
        line = None if entry is None else encode(entry)
        self._queue.put(_Written(entry, line, future))

    def _forget(self, entry: JournalEntry) -> None:
        request_id = request_of(entry)
        self.unrecorded[request_id] -= 1
        if not self.unrecorded[request_id]:
            del self.unrecorded[request_id]

    # the ledger's thread ------------------------------------------------------------------

    def take_over(self) -> None:
        """Read the files that dead processes left: before anything is committed, and now and then."""
        self._looked_ns = self._now_ns()
        for left in left_behind(self._folder, self._ledger_id, self._passed):
            if left.entries:
                self._left.append(left)
            else:
                left.recorded(completely=True)

    def committed(self, budgets: BudgetIndex, *, again: bool) -> None:
        """The ledger has committed; these are its budgets.

        Args:
            again: what could not be prepared before is tried again.
        """
        if abs(self._now_ns() - self._looked_ns) >= TAKE_OVER_EVERY_S * NANOS and not self._left:
            self.take_over()
        if budgets is self._budgets and not (again and (self._unread or self._problem)):
            return
        self._budgets, self._unread = budgets, False
        self.armed = any(budget.allow_when_down_nano for budget in budgets.by_name.values())
        if self.armed or self._thread is not None:
            self._start()
            self._queue.put(_Renew(budgets))

    def chunk(self) -> Sequence[JournalEntry]:
        """The next entries for the ledger."""
        if self._left:
            return self._left[0].entries[self._at : self._at + MAX_RECORDED]
        with self._lock:
            return list(islice(self._entries, MAX_RECORDED))

    def recorded(self, entries: Sequence[JournalEntry], results: Sequence[LedgerResult]) -> None:
        """What the ledger answered to the entries of `chunk`. Those behind one that it could not
        commit are asked for again."""
        done = 0
        for entry, result in zip(entries, results, strict=True):
            if isinstance(result, LedgerUnavailableError):
                break
            done += 1
            if isinstance(result, SpanledgerError):
                self._rejected = True
                log.error("an entry of request %s is not recorded: %s", request_of(entry), result)
        if self._left:
            self._at += done
            if self._at >= len(self._left[0].entries):
                self._left.popleft().recorded(completely=not self._rejected)
                self._at, self._rejected = 0, False
            return
        with self._lock:
            for entry in entries[:done]:
                self._entries.popleft()
                self._forget(entry)
                if isinstance(entry, Journaled):
                    self._open.pop(entry.reservation.attempt_id, None)
            if self.unrecorded or self._budgets is None:
                return
        log.warning("the ledger has everything that was held in the journal")
        self._queue.put(_Renew(self._budgets))

    def close(self) -> None:
        """Write what is queued. The file stays if the ledger does not have all of it."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join(JOURNAL_CLOSE_S)
        if self.waiting:
            log.error(
                "the journal in %s has %d entries that the ledger does not have; the next gateway"
                " on this machine records them",
                self._folder,
                self.figures().waiting,
            )

    # the journal's thread -----------------------------------------------------------------

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        control: _Written | _Renew | None = _Written(None, None, None)
        while control is not None:
            batch, control = self._next_batch()
            if batch:
                self._append(batch)
            if isinstance(control, _Renew):
                self._renew(control.budgets)
        if self._file is not None:
            if self._entries or not self._file.empty:
                self._file.close()
            else:
                self._file.remove()

    def _next_batch(self) -> tuple[list[_Written], _Written | _Renew | None]:
        """Entries to be written together, and what came last; None: the end."""
        item = self._queue.get()
        batch: list[_Written] = []
        with suppress(queue.Empty):
            while isinstance(item, _Written):
                batch.append(item)
                if len(batch) >= MAX_WRITTEN:
                    break
                item = self._queue.get_nowait()
        return batch, item

    def _append(self, batch: Sequence[_Written]) -> None:
        """Write entries and wake their callers. The end of an attempt that cannot be written is
        still recorded in the ledger, unless this process dies before."""
        problem = ""
        lines = [written.line for written in batch if written.line is not None]
        try:
            if lines:
                self._opened().append(lines)
        except OSError as error:
            problem = str(error)
        self._failed_ns = self._now_ns() if problem else 0
        if problem and abs(self._failed_ns - self._told_ns) >= RETRY_S * NANOS:
            self._told_ns = self._failed_ns  # not for each request
            log.error("the journal in %s cannot be written: %s", self._folder, problem)
        with self._lock:
            for entry, line, _ in batch:
                if isinstance(entry, Journaled) and (problem or line is None):
                    self._take_back(entry)
                elif entry is not None:
                    self._attempts += isinstance(entry, Journaled)
                    self._entries.append(entry)
        self.wake()
        for written in batch:
            if written.future is not None and not (loop := written.future.get_loop()).is_closed():
                loop.call_soon_threadsafe(_resolve, written.future)

    def _take_back(self, entry: Journaled) -> None:
        """A hold could not be written: nothing is sent."""
        self._forget(entry)
        found = self._open.pop(entry.reservation.attempt_id, None)
        if found is not None:
            found.failed = True
            self._allowances.settle(found.granted, 0)

    def _opened(self) -> JournalFile:
        if self._file is None:
            self._file = JournalFile(self._folder, self._ledger_id, self._owner)
        return self._file

    def _renew(self, budgets: BudgetIndex) -> None:
        """Use the latest budgets, have a file ready, and begin again if everything is recorded."""
        with self._lock:
            self._allowances.renew(budgets.by_name.values())
        problem = ""
        try:
            self._prepare()
        except OSError as error:
            problem = f"the journal in {str(self._folder)!r} cannot be used: {error}"
        except LedgerUnavailableError:
            self._unread = True  # with its next commit
        if problem and problem != self._problem:
            log.error("%s; set ledger.journal to a folder of this machine", problem)
        self._problem = problem

    def _prepare(self) -> None:
        if self.armed:
            self._opened()
        with self._lock:
            if self.unrecorded:
                return
        if self._file is not None and not self._file.empty:
            if self._rejected:
                kept = self._file.keep_damaged()
                log.error("%s has entries that the ledger refused", kept)
                self._file.close()
                self._file, self._rejected = None, False
            else:
                self._file.clear()
        if self.armed:
            with self._store.reports() as reports:
                states = reports.budget_states(self._now_ns() // NANOS)
            with self._lock:
                if not self.unrecorded:
                    self._allowances.start_from(states)


def _resolve(future: _Done) -> None:
    if not future.done():  # the caller may have been cancelled
        future.set_result(None)


def meanwhile(journal: Journal | None) -> str:
    """What is sent while the ledger is unavailable, for a log."""
    if journal is not None and journal.serves:
        return "only what budgets allow meanwhile is sent to providers"
    return "nothing is sent to providers"
