"""What only one process does on a ledger: it waits for a lock, and ends with its parent."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager

from spanledger.errors import LedgerUnavailableError
from spanledger.ledger.ports import Lock, Store

LOCK_POLL_S = 1


def orphaned(parent_pid: int | None) -> bool:
    """Whether a process that was the parent is not any more."""
    return parent_pid is not None and os.getppid() != parent_pid


@contextmanager
def alone(
    store: Store,
    name: str,
    stop: threading.Event,
    parent_pid: int | None,
    busy: str,
    log: logging.Logger,
) -> Iterator[Lock | None]:
    """Hold a lock of the ledger; None if stopped before it was free.

    Args:
        parent_pid: also stop when this process is no longer the parent.
        busy: logged once if another process has it.
    """
    with closing(store.exclusive(name)) as lock:
        waiting = False
        while not _acquired(lock, log, patient=waiting):
            if not waiting:
                log.info("%s", busy)
                waiting = True
            if stop.wait(LOCK_POLL_S) or orphaned(parent_pid):
                yield None
                return
        yield lock


def _acquired(lock: Lock, log: logging.Logger, *, patient: bool) -> bool:
    """Take the lock if it is free; with `patient`, a ledger that cannot be asked is not an error."""
    try:
        return lock.acquire()
    except LedgerUnavailableError as error:
        if not patient:
            raise
        log.debug("%s; retrying", error)
        return False
