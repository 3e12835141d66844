"""Calls that may block for as long as a disk does, made in a separate thread.

The event loop must never wait for a file: while a disk stalls, it would answer nothing else, and
asyncio's own thread pool, which also resolves names, would fill up with calls that never return.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from time import monotonic
from typing import Any, TypeVar

T = TypeVar("T")


class Aside:
    """One daemon thread that makes one call at a time, each with a deadline."""

    def __init__(self, name: str, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self._name = name
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._since: float | None = None

    async def call(self, work: Callable[[], T]) -> T:
        """Return or raise what `work` returns or raises.

        Raises:
            TimeoutError: this call or the one before it takes too long.
        """
        since = self._since
        if since is not None and monotonic() - since >= self.timeout_s:
            raise TimeoutError
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._calls.put(_Call(work, future))
        async with asyncio.timeout(self.timeout_s):
            return await future

    def close(self) -> None:
        """End the thread after its queued calls; one that never returns ends with the process."""
        self._calls.put(None)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            if call.future.cancelled():  # its caller gave up
                continue
            self._since = monotonic()
            call.run()
            self._since = None


class _Call:
    def __init__(self, work: Callable[[], Any], future: asyncio.Future[Any]) -> None:
        self._work = work
        self.future = future

    def run(self) -> None:
        """Make the call and pass its result to the waiting event loop."""
        loop = self.future.get_loop()
        try:
            result, error = self._work(), None
        except Exception as caught:  # noqa: BLE001 - raised again in the caller
            result, error = None, caught
        if not loop.is_closed():
            loop.call_soon_threadsafe(self._resolve, result, error)

    def _resolve(self, result: object, error: Exception | None) -> None:
        if self.future.done():
            return
        if error is None:
            self.future.set_result(result)
        else:
            self.future.set_exception(error)
