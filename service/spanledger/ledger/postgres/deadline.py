"""A time limit for a server's answer, kept by closing the connection.

A commit that waits for a standby which is gone waits forever, and no setting of the server limits that.
It must not be cancelled either: Postgres then reports success for what no standby has. So the socket is
closed, and what became of the commit is found out on a new connection.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from time import monotonic

WATCH_PAUSE_S = 0.25
"""How exactly the limit is kept."""


class Deadline:
    """Watches one connection, from a thread that is started on first use.

    Attributes:
        passed: whether the limit was passed in the last block that was watched.
    """

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self.passed = False
        self._lock = threading.Lock()
        self._until: float | None = None
        self._socket: socket.socket | None = None
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def attach(self, number: int) -> None:
        """Watch the socket with this file number from now on; its time begins again."""
        # A copy: libpq closes its own when it notices an error, and the number may be given to another.
        copy = socket.socket(fileno=os.dup(number))
        with self._lock:
            if self._socket is not None:
                self._socket.close()
            self._socket = copy
            if self._until is not None:
                self._until = monotonic() + self.limit_s

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Close the socket if the block takes too long."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="ledger-deadline", daemon=True)
            self._thread.start()
        with self._lock:
            self.passed = False
            self._until = monotonic() + self.limit_s
        try:
            yield
        finally:
            with self._lock:
                self._until = None

    def close(self) -> None:
        """End the thread."""
        self._closed.set()
        with self._lock:
            if self._socket is not None:
                self._socket.close()
                self._socket = None

    def _run(self) -> None:
        while not self._closed.wait(WATCH_PAUSE_S):
            with self._lock:
                if self._until is not None and monotonic() > self._until:
                    self.passed, self._until = True, None
                    if self._socket is not None:
                        with suppress(OSError):
                            self._socket.shutdown(socket.SHUT_RDWR)
