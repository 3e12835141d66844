"""Notices as the work of one process of a ledger: it finds and sends them until it is stopped."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing

from spanledger.config.notices import AnyDestination
from spanledger.errors import LedgerUnavailableError, SpanledgerError
from spanledger.ledger.alone import LOCK_POLL_S, alone, orphaned
from spanledger.ledger.ports import Lock, Store
from spanledger.notices.courier import Courier
from spanledger.notices.senders import sender_of
from spanledger.notices.watch import Watcher

NOTICES_LOCK = "notices"
"""What only one process does on a ledger."""
_BUSY = "another process sends this ledger's notices; waiting until it ends"
WATCH_EVERY_S = 1.0
FINISH_S = 5.0
"""What is being sent when the process is stopped has this long to end."""
RESTART_S = 30.0
"""After an error of our own."""

log = logging.getLogger("spanledger.notices")


def run_notices(
    store: Store,
    destinations: Sequence[AnyDestination],
    stop: threading.Event,
    *,
    parent_pid: int | None = None,
    now_ns: Callable[[], int] = time.time_ns,
) -> None:
    """Find and send notices until `stop` is set.

    Args:
        parent_pid: also stop when this process is no longer the parent.

    Raises:
        SpanledgerError: it cannot begin.
    """
    away = ""
    while not (stop.is_set() or orphaned(parent_pid)):
        try:
            with alone(store, NOTICES_LOCK, stop, parent_pid, _BUSY, log) as lock:
                if lock is None:
                    return
                _work(lock, store, destinations, stop, parent_pid, now_ns)
            away = ""
        except LedgerUnavailableError as error:
            if str(error) != away:
                log.warning("cannot use the ledger (%s); retrying", error)
            away = str(error)
        stop.wait(LOCK_POLL_S)


def send_once(
    store: Store,
    destinations: Sequence[AnyDestination],
    stop: threading.Event,
    now_ns: Callable[[], int] = time.time_ns,
) -> bool:
    """Find what is new and make one attempt to send what is due; returns whether everything was accepted.

    Raises:
        LedgerUnavailableError: the ledger cannot be used.
        SpanledgerError: another process sends this ledger's notices.
    """
    with closing(store.exclusive(NOTICES_LOCK)) as lock, closing(store.notices()) as book:
        if not lock.acquire():
            raise SpanledgerError(
                "another process sends this ledger's notices already, such as the gateway's shipper"
            )
        watcher = Watcher(book, destinations)
        watcher.begin(now_ns())
        while watcher.look(now_ns()) and not stop.is_set():
            pass
        senders = [sender_of(d, book.ledger_id(), now_ns) for d in destinations]
        courier = Courier(book, senders, time.monotonic)
        courier.step(now_ns())
        while courier.busy and not stop.is_set():
            courier.finish(now_ns, WATCH_EVERY_S)
            courier.step(now_ns())
        return not any(book.waiting(d.name) for d in destinations)


def _work(
    lock: Lock,
    store: Store,
    destinations: Sequence[AnyDestination],
    stop: threading.Event,
    parent_pid: int | None,
    now_ns: Callable[[], int],
) -> None:
    """Until stopped, or until the lock is lost."""
    with closing(store.notices()) as book:
        watcher = Watcher(book, destinations)
        senders = [sender_of(d, book.ledger_id(), now_ns) for d in destinations]
        courier = Courier(book, senders, time.monotonic)
        watcher.begin(now_ns())
        while not stop.is_set():
            if orphaned(parent_pid):
                break
            if not lock.held():
                log.warning("the connection to the ledger was lost, and with it the right to send")
                break
            book.check()
            more = watcher.look(now_ns())
            courier.step(now_ns())
            if not more:
                stop.wait(WATCH_EVERY_S)
        courier.finish(now_ns, FINISH_S)


class NoticeThread(threading.Thread):
    """`run_notices` next to other work of a process, which it never ends."""

    def __init__(
        self,
        store: Store,
        destinations: Sequence[AnyDestination],
        stop: threading.Event,
        parent_pid: int | None,
    ) -> None:
        super().__init__(name="notices", daemon=True)
        self._arguments = (store, destinations, stop)
        self._stopping = stop
        self._parent_pid = parent_pid

    def run(self) -> None:
        """Work until stopped; after an error of our own, again."""
        while not self._stopping.is_set():
            try:
                run_notices(*self._arguments, parent_pid=self._parent_pid)
            except SpanledgerError as error:
                log.error("notices are not sent: %s", error)  # noqa: TRY400 - the message says it all
                return
            except Exception:
                log.exception("notices stopped; they begin again in %d s", RESTART_S)
            else:
                return
            self._stopping.wait(RESTART_S)
