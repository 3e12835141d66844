"""One HTTP exchange below Starlette: bounded reading, paced sending, and breaking the connection.

It owns the ASGI messages and the transport; it knows nothing about models, faults or money.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time

from starlette.types import Receive, Scope, Send

from spanledger.sim.prompt import RefusalError
from spanledger.sim.wire import Headers

BODY_READ_MAX_S = 30.0
HOLD_MAX_S = 3_600.0
"""A client that never gives up is disconnected after this long."""
TRANSPORT = "sim_transport"
"""Key of a connection's transport in the ASGI state."""


class ClientGoneError(Exception):
    """The client closed the connection before its request was complete."""


class Channel:
    """The connection to one client, for one request."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self._receive = receive
        self._send = send
        self._gone: asyncio.Task[None] | None = None
        self.started_s = time.monotonic()
        self.headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }

    async def read(self, limit: int) -> bytes:
        """The complete body.

        Raises:
            RefusalError: it is larger than the limit, or too slow.
            ClientGoneError: the client disconnected.
        """
        declared = self.headers.get("content-length", "0")
        parts: list[bytes] = []
        size = int(declared) if declared.isdigit() and int(declared[:18]) > limit else 0
        try:
            async with asyncio.timeout(BODY_READ_MAX_S):
                while size <= limit:
                    message = await self._receive()
                    if message["type"] == "http.disconnect":
                        raise ClientGoneError
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    if not message.get("more_body", False):
                        break
        except TimeoutError:
            raise RefusalError(408, "The request body took too long to arrive.") from None
        if size > limit:
            raise RefusalError(413, f"The request body is larger than {limit} bytes.")
        return b"".join(parts)

    async def wait_until(self, due_s: float) -> bool:
        """Wait until `due_s` seconds after the request arrived; True if the client is gone."""
        delay = self.started_s + due_s - time.monotonic()
        gone = self._watch()
        if delay <= 0:
            await asyncio.sleep(0)
        else:
            await asyncio.wait({gone}, timeout=delay)
        return gone.done()

    async def hold(self) -> None:
        """Stay silent until the client disconnects."""
        await asyncio.wait({self._watch()}, timeout=HOLD_MAX_S)
        if not self._watch().done():
            self._transport().abort()

    async def respond(
        self, status: int, body: bytes, headers: Headers, kind: bytes = b"application/json"
    ) -> None:
        """Send a complete answer."""
        await self.start(status, [*headers, (b"content-type", kind)], len(body))
        await self.write(body, last=True)

    async def start(self, status: int, headers: Headers, length: int | None = None) -> None:
        """Send status line and headers; without a length the body is chunked."""
        if length is not None:
            headers = [*headers, (b"content-length", str(length).encode())]
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def write(self, data: bytes, *, last: bool = False) -> None:
        """Send part of the body; waits for a slow client."""
        await self._send({"type": "http.response.body", "body": data, "more_body": not last})

    async def hang_up(self) -> None:
        """Deliver what was written, then close the connection in the middle of the answer."""
        self._transport().close()
        await self.hold()

    async def reset(self) -> None:
        """Break the connection with a TCP reset."""
        transport = self._transport()
        sock = transport.get_extra_info("socket")
        # Zero linger makes the kernel send RST instead of FIN.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
        await self.hold()

    async def close(self) -> None:
        """Stop watching for the client to disconnect."""
        if self._gone is not None and not self._gone.done():
            self._gone.cancel()

    def _watch(self) -> asyncio.Task[None]:
        if self._gone is None:
            self._gone = asyncio.ensure_future(self._until_gone())
        return self._gone

    async def _until_gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass

    def _transport(self) -> asyncio.Transport:
        # No isinstance: uvloop's transports do not subclass asyncio's.
        transport: asyncio.Transport | None = self.scope.get("state", {}).get(TRANSPORT)
        if transport is None:
            raise RuntimeError(
                "breaking a connection requires SimServer; this app runs on another server"
            )
        return transport
