"""The files of an open ledger: checks that they are still the ones that were opened.

SQLite keeps a ledger in three files: the database, its write-ahead log (`-wal`) and that log's index
(`-shm`). A connection keeps using a file that was deleted or replaced, and nobody finds what it
commits there. So each commit checks that the names still lead to the same files.

Only by name: if this process opened and closed one of these files itself, SQLite would lose its
locks on it. And not by looking at the log itself: since Linux 6.13, a file whose times were asked for
gets new ones with its next write, and ext4 without a journal then writes the inode with each sync.
No name changes without changing its directory, so a directory that is as it was says the same.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from spanledger.clock import NANOS
from spanledger.errors import LedgerUnavailableError

SAVE_TIMEOUT_S = 2.0
"""How long to wait for readers before a deleted log counts as lost."""
SETTLED_NS = 3 * NANOS
"""A directory changed longer ago than this would show another change by another time: no file system in
use counts time in steps of more than 2 s."""

_NOWHERE = (0, 0, 0)
FileState = Literal["same", "gone", "empty", "other"]


class LedgerFiles:
    """The files opened by one connection."""

    def __init__(self, path: Path, now_ns: Callable[[], int] = time.time_ns) -> None:
        """Create it once the connection has read something: before that there is no log."""
        # Absolute, since the process may change directory; strings, since a `Path` doubles the cost.
        self._database = str(path.absolute())
        self._log, self._index = f"{self._database}-wal", f"{self._database}-shm"
        self._names = (self._database, self._log, self._index)
        self._directory = str(path.absolute().parent)
        self._now_ns = now_ns
        self._checked_directory: _Directory | None = None
        self._opened = {name: _look(name)[:2] for name in self._names}
        self._outcome = "commits not yet copied into the database may be lost"

    def check_database(self) -> None:
        """Raises LedgerUnavailableError if the database file was replaced, deleted or emptied."""
        device, inode, size = _look(self._database)
        if (device, inode) != self._opened[self._database]:
            raise LedgerUnavailableError(
                f"the ledger {self._database!r} was deleted or replaced while it was open:"
                " put the file back, or restart the processes that use it"
            )
        if not size:
            raise LedgerUnavailableError(
                f"the ledger {self._database!r} was emptied while it was open: stop the processes"
                " that use it, restore a backup, and start again"
            )

    def check(self) -> None:
        """Check the database, the log and its index."""
        self.check_database()
        directory = _look_at_directory(self._directory)
        if directory is not None and directory == self._checked_directory:
            return
        for name in self._names[1:]:
            if _look(name)[:2] != self._opened[name]:
                raise LedgerUnavailableError(
                    f"{name!r} was deleted or replaced while the ledger was open; {self._outcome}:"
                    " restart the processes that use the ledger"
                )
        if directory is not None and directory[2] < self._now_ns() - SETTLED_NS:
            self._checked_directory = directory

    def save(self, connection: sqlite3.Connection) -> bool:
        """Move all commits into the database, where a restart finds them.

        A log without a name is still open here. Copying it is safe, and loses nothing, as long as
        no other process has started a log of its own. Returns whether everything is in the database.
        """
        try:
            self.check_database()
        except LedgerUnavailableError:
            return False
        if self._state(self._log) == "other" or self._state(self._index) in ("other", "empty"):
            return False
        deadline = time.monotonic() + SAVE_TIMEOUT_S
        while True:
            query = "PRAGMA wal_checkpoint(FULL)"
            busy, frames, copied = connection.execute(query).fetchone()
            if not busy and frames == copied:
                self._outcome = "everything committed is safe in the database"
                return True
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.02)

    def _state(self, name: str) -> FileState:
        device, inode, size = _look(name)
        if (device, inode) == self._opened[name]:
            return "same"
        if not inode:
            return "gone"
        return "other" if size else "empty"


_Directory = tuple[int, int, int]
"""Device, inode, and when its names last changed: not even a tool that restores times hides that."""


def _look_at_directory(name: str) -> _Directory | None:
    try:
        status = os.stat(name)  # noqa: PTH116 - as below
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_ctime_ns


def _look(name: str) -> tuple[int, int, int]:
    try:
        status = os.stat(name)  # noqa: PTH116 - a Path doubles the cost, at every commit
    except OSError:
        return _NOWHERE
    return status.st_dev, status.st_ino, status.st_size
