"""The connections to all providers: kept for the next request, counted, and closed when unused.

A connection belongs to one request at a time. It is kept for the next one the same way, at most
`keepalive_s`. All connections together are limited: a request beyond that waits until another one
gives its connection back. Who fails, and why, is told in the words of `dialing` and `connection`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial
from typing import NamedTuple

from spanledger.providers.connection import Connection
from spanledger.providers.dialing import Dialer
from spanledger.providers.endpoints import Destination
from spanledger.providers.proxies import Proxy

CLOSE_S = 1.0
"""How long servers have to agree to the end of their connections."""


class Way(NamedTuple):
    """Where connections lead, and through what: only such are interchangeable."""

    destination: Destination
    proxy: Proxy | None = None

    @property
    def forwards(self) -> Proxy | None:
        """The proxy, if it reads the requests and sends them on; else there is a tunnel."""
        return None if self.destination.scheme == "https" else self.proxy


class PoolFullError(Exception):
    """All connections were in use until the deadline."""


class ConnectTimeoutError(Exception):
    """There was no connection within the time for it."""


class Pool:
    """The connections of one transport."""

    def __init__(self, dialer: Dialer, most: int, keepalive_s: float) -> None:
        self._dialer = dialer
        self._most = most
        self._keepalive_s = keepalive_s
        self._open: set[Connection] = set()
        self._dialing = 0
        self._idle: dict[Way, list[Connection]] = {}
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._sweep: asyncio.TimerHandle | None = None
        self._draining: set[Connection] = set()

    @property
    def open(self) -> int:
        """Connections that are open or being opened."""
        return len(self._open) + self._dialing

    @property
    def draining(self) -> int:
        """Connections of ended streams whose last bytes are still being read."""
        return len(self._draining)

    def idle(self, way: Way, now: float) -> Connection | None:
        """A kept connection that leads there; `now` is in the loop's seconds."""
        kept = self._idle.get(way)
        while kept:
            connection = kept.pop()
            fresh = now - connection.idle_since < self._keepalive_s
            if fresh and connection.reusable and connection.is_quiet:
                return connection
            connection.close()
        return None

    async def connect(self, way: Way, timeout_s: float, deadline: float) -> Connection:
        """A connection that leads there, usually a new one.

        Raises:
            PoolFullError: none became free before the deadline.
            ConnectTimeoutError: connecting took longer than `timeout_s`.
            OSError, ProxyUnreachableError, ProxyRefusedError: as `Dialer.dial`.
        """
        loop = asyncio.get_running_loop()
        while self.open >= self._most and not self._evict():
            await self._wait(loop, deadline)
            if (kept := self.idle(way, loop.time())) is not None:
                return kept
        self._dialing += 1
        try:
            async with asyncio.timeout(timeout_s):
                connection = await self._dialer.dial(way.destination, way.proxy)
        except TimeoutError as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # the kernel's own, which comes from the network
            raise ConnectTimeoutError from None
        finally:
            self._dialing -= 1
            if self._waiting:
                self._wake()
        if not connection.closed:
            connection.on_closed = partial(self._closed, way)
            self._open.add(connection)
        return connection

    def forget(self, way: Way) -> None:
        """Close the kept connections that lead there: what one server has closed as unused, the others
        are about to."""
        for connection in self._idle.pop(way, ()):
            connection.close()

    def give_back(self, connection: Connection, way: Way, now: float) -> None:
        """Keep a connection whose response is complete, if another request may use it."""
        if not connection.reusable:
            connection.close()
            return
        connection.rest(now)
        self._idle.setdefault(way, []).append(connection)
        if self._waiting:
            self._wake()
        if self._sweep is None:
            loop = asyncio.get_running_loop()
            self._sweep = loop.call_later(self._keepalive_s, self._close_unused, loop)

    def give_back_stream(
        self, connection: Connection, way: Way, drain_s: float, drain_bytes: int
    ) -> None:
        """Keep the connection of a stream that ended, once its last bytes were read."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        if connection.complete or connection.closed:
            self.give_back(connection, way, now)
            return
        self._draining.add(connection)

        def drained() -> None:
            self._draining.discard(connection)
            self.give_back(connection, way, loop.time())

        connection.drain(now + drain_s, drain_bytes, drained)

    async def close(self) -> None:
        """Close all connections."""
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        closing = list(self._open)
        for connection in closing:
            connection.close()
        self._idle.clear()
        ends = [asyncio.ensure_future(connection.wait_closed()) for connection in closing]
        if ends:
            _, late = await asyncio.wait(ends, timeout=CLOSE_S)
            for end in late:
                end.cancel()

    async def _wait(self, loop: asyncio.AbstractEventLoop, deadline: float) -> None:
        """Wait for a connection that is given back or closed."""
        waiter: asyncio.Future[None] = loop.create_future()
        self._waiting.append(waiter)
        try:
            async with asyncio.timeout_at(deadline):
                await waiter
        except BaseException as error:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
            elif self._waiting:  # it was woken, and cannot use what it was woken for
                self._wake()
            if isinstance(error, TimeoutError):
                raise PoolFullError from None
            raise

    def _wake(self) -> None:
        """Let the first who waits look again."""
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def _evict(self) -> bool:
        """Close the connection that is unused for longest. Returns whether there was one."""
        oldest = min(
            (kept[0] for kept in self._idle.values() if kept),
            key=lambda connection: connection.idle_since,
            default=None,
        )
        if oldest is None:
            return False
        oldest.close()
        return True

    def _closed(self, way: Way, connection: Connection) -> None:
        self._open.discard(connection)
        self._draining.discard(connection)
        kept = self._idle.get(way, ())
        if connection in kept:
            self._idle[way].remove(connection)
        if self._waiting:
            self._wake()

    def _close_unused(self, loop: asyncio.AbstractEventLoop) -> None:
        """Close what was not used for `keepalive_s`, and come again as long as something is kept."""
        self._sweep = None
        longest = loop.time() - self._keepalive_s
        for kept in list(self._idle.values()):
            for connection in [one for one in kept if one.idle_since <= longest]:
                connection.close()
        self._idle = {way: kept for way, kept in self._idle.items() if kept}
        if self._idle:
            self._sweep = loop.call_later(self._keepalive_s, self._close_unused, loop)
