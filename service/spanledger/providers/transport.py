"""HTTP to providers: requests sent, responses read, within the time that a call has.

Sends bytes and returns bytes. Network failures become a `ProviderError`; responses, good or bad, are
left to the adapters. There are no redirects, since one would send a request (and a key) where routing
did not want it, and no retries but one: a request that may be sent twice is sent again if the connection
for it had been kept, and its server was just closing it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Mapping
from dataclasses import dataclass

import msgspec

from spanledger.errors import ProviderError
from spanledger.providers.base import Call
from spanledger.providers.connection import Connection
from spanledger.providers.decoding import CodingError, ExpandedError, decompressed
from spanledger.providers.dialing import Dialer
from spanledger.providers.endpoints import Endpoint
from spanledger.providers.event_stream import EventStream
from spanledger.providers.failed_calls import (
    CONNECT_ERRORS,
    PROXY_AUTHENTICATION,
    closed_as_unused,
    name_of,
    refused_by_proxy,
    too_late,
    unanswered,
    unconnected,
)
from spanledger.providers.pool import Pool, Way
from spanledger.providers.proxies import WayOut
from spanledger.providers.reply import HungUpError, LateError, ResponseError

Body = bytes | AsyncIterable[bytes]
"""Whole, or in pieces; then the head of the request says how long it is, or that it is chunked."""
REPEATABLE = frozenset({"GET", "HEAD"})
"""Methods of requests that may be sent twice."""
MAX_WAYS = 4096
"""Addresses whose proxy is remembered."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of the connection pool.

    Attributes:
        max_connections: open connections to all providers together; calls beyond it wait, within
            their own timeout.
        connect_timeout_s: for one connection, from the name to the end of the TLS handshake.
        keepalive_s: how long an unused connection is kept.
        at_once_s: a provider that hangs up within this time has not begun an answer, and bills none.
        max_error_bytes: how much of an error response is read.
        drain_timeout_s, drain_bytes: after a stream's end mark, how long and how much of the rest
            is read so that the connection can be reused.
    """

    max_connections: int = 4096
    connect_timeout_s: float = 10.0
    keepalive_s: float = 30.0
    at_once_s: float = 1.0
    max_error_bytes: int = 64 * 1024
    drain_timeout_s: float = 1.0
    drain_bytes: int = 64 * 1024


class ProviderReply(msgspec.Struct, frozen=True):
    """A complete response."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Transport:
    """The connection pool of one adapter. Connects lazily, in the loop of the first call."""

    def __init__(self, limits: Limits, way_out: WayOut | None = None) -> None:
        self.limits = limits
        self._way_out = way_out or WayOut()
        dialer = Dialer(self._way_out.ca_path)
        self.pool = Pool(dialer, limits.max_connections, limits.keepalive_s)
        self._ways: dict[str, Way] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    async def exchange(
        self, call: Call, target: Endpoint, body: Body, *, twice: bool = False
    ) -> ProviderReply:
        """Send a request and read the complete response.

        Args:
            twice: the request may be sent twice, because it makes and costs nothing.

        Raises:
            ProviderError: the response is late, missing, incomplete or too large.
        """
        began = self._now()
        connection, way = await self._asked(call, target, body, began, streams=False, twice=twice)
        return self._reply(call, connection, way)

    async def events(self, call: Call, target: Endpoint, body: Body) -> EventStream | ProviderReply:
        """Send a request for a stream; a `ProviderReply` if the response is not a stream of events.

        Raises:
            ProviderError: the response is late or missing.
        """
        began = self._now()
        connection, way = await self._asked(call, target, body, began, streams=True)
        if not connection.is_stream:
            return self._reply(call, connection, way)
        if coding_of(connection.headers):
            # A few compressed bytes can expand without limit and block the event loop.
            connection.close()
            raise ProviderError(
                "malformed_response",
                f"{name_of(call)}: its stream is compressed although we asked for `identity`",
                status=connection.status,
                billed="unknown",
            )
        limits, pool = self.limits, self.pool

        def recycle() -> None:
            pool.give_back_stream(connection, way, limits.drain_timeout_s, limits.drain_bytes)

        return EventStream(call, connection, began, recycle)

    async def close(self) -> None:
        """Close all connections."""
        await self.pool.close()

    async def _asked(
        self,
        call: Call,
        target: Endpoint,
        body: Body,
        began: float,
        *,
        streams: bool,
        passes: bool = False,
        twice: bool = False,
    ) -> tuple[Connection, Way]:
        """A connection with the response to this request; with `passes`, the body of whatever comes
        is still to be taken; with `twice`, the request may be sent twice. Raises ProviderError."""
        way = self._ways.get(target.address) or self._way(target)
        proxy = way.forwards
        connection = self.pool.idle(way, began) or await self._connected(call, way, began)
        head = target.head if proxy is None else target.head_for_proxy(proxy.authorization)
        whole, pieces = (body, None) if isinstance(body, bytes) else (None, body)
        request = head + b"\r\n" if whole is None else target.request(head, whole)
        sent = self._now()
        try:
            await connection.ask(
                request,
                began + call.timeout_s,
                call.max_response_bytes,
                self.limits.max_error_bytes,
                streams=streams,
                passes=passes,
                pieces=pieces,
            )
        except LateError:
            raise too_late(call, "no answer", call.timeout_s) from None
        except ResponseError as error:
            status = connection.status
            if not status or 200 <= status < 300:
                at_once = self._now() - sent < self.limits.at_once_s
                if at_once and connection.unseen and isinstance(error, HungUpError):
                    self.pool.forget(way)
                    if not twice or whole is None:
                        raise closed_as_unused(call) from None
                    return await self._asked(
                        call, target, body, began, streams=streams, passes=passes
                    )
                raise unanswered(call, error, status, at_once=at_once) from None
            connection.close()  # what came of an error says enough
        except BaseException:
            connection.close()
            raise
        if connection.status == PROXY_AUTHENTICATION and proxy is not None:
            connection.close()
            raise refused_by_proxy(call, connection.status)
        return connection, way

    async def _connected(self, call: Call, way: Way, began: float) -> Connection:
        limits = self.limits
        # Connecting ends well before the attempt, so that such a request was surely not sent.
        timeout_s = min(limits.connect_timeout_s, call.timeout_s / 2)
        try:
            return await self.pool.connect(way, timeout_s, began + call.timeout_s)
        except CONNECT_ERRORS as error:
            raise unconnected(call, error, limits.max_connections) from None

    def _reply(self, call: Call, connection: Connection, way: Way) -> ProviderReply:
        """The complete response that a connection has, which is then free."""
        status, headers, body = connection.status, connection.headers, connection.body
        coding = coding_of(headers)
        self.pool.give_back(connection, way, self._now())
        if not coding or not body:
            return ProviderReply(status, headers, body)
        good = 200 <= status < 300
        most = call.max_response_bytes if good else self.limits.max_error_bytes
        try:
            return ProviderReply(status, headers, decompressed(body, coding, most))
        except CodingError as error:
            if not good:
                return ProviderReply(status, headers, b"")
            why = "cannot be decompressed, and we asked for `identity`"
            if isinstance(error, ExpandedError):
                why = f"is larger than {most} bytes (gateway.max_response_bytes)"
            raise ProviderError(
                "malformed_response",
                f"{name_of(call)}: its response {why}",
                status=status,
                billed="unknown",
            ) from None

    def _way(self, target: Endpoint) -> Way:
        """How requests reach a target; looked up once."""
        way = Way(target.destination, self._way_out.proxy_for(str(target.url)))
        if len(self._ways) >= MAX_WAYS:
            self._ways.clear()
        self._ways[target.address] = way
        return way

    def _now(self) -> float:
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        return loop.time()


def coding_of(headers: Mapping[str, str]) -> str:
    """A response's compression; empty if there is none."""
    coding = headers.get("content-encoding", "").strip().lower()
    return "" if coding == "identity" else coding
