"""One request on a connection and its answer, as ASGI has them: what the application receives and sends.

It frames answers and knows the state of one request. The connection, its limits and its timers are
`server`'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from http import HTTPStatus

from starlette.types import Message, Scope
from uvicorn.protocols.http.flow_control import FlowControl

UNTAKEN_BYTES = 64 * 1024
"""Reading pauses when this much of a body has arrived and nobody has taken it."""
WHOLE = "spanledger.body"
"""Key of a `http.response.start` that has the whole body with it: no other message follows."""
STATUS_LINES = {
    status: b"HTTP/1.1 %d %b\r\n" % (status, HTTPStatus(status).phrase.encode())
    if status in HTTPStatus._value2member_map_
    else b"HTTP/1.1 %d \r\n" % status
    for status in range(100, 600)
}
_CONTROLS = bytes({*range(32), 127} - {*b"\t"})
"""What no header may have, but for the two at the end of its line."""
_WITHOUT_BODY = frozenset({204, 304})

Pairs = Sequence[tuple[bytes, bytes]]


class Turn:
    """A request whose head has arrived. Its task is the only one that receives and sends.

    Attributes:
        disconnected: nobody reads the answer any more.
        keep_alive: the connection is for another request after this one.
        response_started, response_complete: how far the answer is.
    """

    __slots__ = (
        "_chunked",
        "_expects_continue",
        "_flow",
        "_head",
        "_left",
        "_more_body",
        "_news",
        "_on_answered",
        "_parts",
        "_transport",
        "_untaken_bytes",
        "_waiter",
        "disconnected",
        "keep_alive",
        "response_complete",
        "response_started",
        "scope",
    )

    def __init__(
        self,
        scope: Scope,
        transport: asyncio.Transport,
        flow: FlowControl,
        on_answered: Callable[[], None],
        *,
        expects_continue: bool,
        keep_alive: bool,
    ) -> None:
        """`on_answered` is called once the answer is written."""
        self.scope = scope
        self.disconnected = False
        self.keep_alive = keep_alive
        self.response_started = False
        self.response_complete = False
        self._transport = transport
        self._flow = flow
        self._on_answered = on_answered
        self._expects_continue = expects_continue
        self._parts: list[bytes] = []
        self._untaken_bytes = 0
        self._more_body = True
        self._news = False  # something happened since the last `receive`
        self._waiter: asyncio.Future[None] | None = None
        self._head = b""  # held back, to be written together with what follows it
        self._chunked = False
        self._left = 0  # of the announced length

    # The request.

    def arrived(self, part: bytes) -> None:
        """A part of the body."""
        self._parts.append(part)
        self._untaken_bytes += len(part)
        if self._untaken_bytes > UNTAKEN_BYTES:
            self._flow.pause_reading()
        self._wake()

    def arrived_whole(self) -> None:
        """The body is complete."""
        self._more_body = False
        self._wake()

    def disconnect(self) -> None:
        """Nobody will read the rest of the answer."""
        if not self.response_complete:
            self.disconnected = True
        self._wake()

    async def receive(self) -> Message:
        """The next event of the request: a part of its body, or that its client disconnected."""
        if self._expects_continue and not self._transport.is_closing():
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._expects_continue = False
        if not (self.disconnected or self.response_complete):
            self._flow.resume_reading()
            if not self._news:
                self._waiter = asyncio.get_running_loop().create_future()
                await self._waiter
            self._news = False
        if self.disconnected or self.response_complete:
            return {"type": "http.disconnect"}
        parts = self._parts
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        self._parts, self._untaken_bytes = [], 0
        return {"type": "http.request", "body": body, "more_body": self._more_body}

    def _wake(self) -> None:
        self._news = True
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    # The answer.

    async def send(self, message: Message) -> None:
        """Write a message, once the client has read enough of what came before.

        Raises:
            RuntimeError: the message is not what may follow, or a header has a control character.
        """
        if self._flow.write_paused and not self.disconnected:
            await self._flow.drain()
        if self.disconnected:
            return
        if message["type"] == "http.response.start":
            self.start(message["status"], message["headers"])
            if (body := message.get(WHOLE)) is not None:
                self.write(body, more=False)
        else:
            self.write(message.get("body", b""), more=message.get("more_body", False))

    def start(self, status: int, headers: Pairs) -> None:
        """The head of the answer, which `write` sends with the first bytes of the body."""
        if self.response_started:
            raise RuntimeError("an answer has one head")
        self.response_started = True
        self._expects_continue = False
        closes = length = None
        lines = [STATUS_LINES[status]]
        for name, value in headers:
            lines.append(b"%b: %b\r\n" % (name, value))
            if name == b"content-length":
                length = int(value)
            elif name == b"connection" and value.lower() == b"close":
                self.keep_alive, closes = False, True
        if not (self.keep_alive or closes):
            lines.append(b"connection: close\r\n")
        if length is not None:
            self._left = length
        elif self.scope["method"] != "HEAD" and status not in _WITHOUT_BODY:
            self._chunked = True
            lines.append(b"transfer-encoding: chunked\r\n")
        head = b"".join(lines)
        if len(head) - len(head.translate(None, _CONTROLS)) != 2 * len(lines):
            raise RuntimeError("a header has a control character")
        self._head = head + b"\r\n"
        if self.scope["method"] == "HEAD":  # whose answer is a head alone
            self._transport.write(self._head)
            self._head = b""

    def write(self, body: bytes, *, more: bool) -> None:
        """The next bytes of the body; `more` says whether others follow."""
        if self.response_complete or not self.response_started:
            raise RuntimeError("a body follows its head and ends once")
        if self.scope["method"] == "HEAD":
            self._left, data = 0, b""
        elif self._chunked:
            data = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            if not more:
                data += b"0\r\n\r\n"
        else:
            self._left -= len(body)
            if self._left < 0:
                raise RuntimeError("the body is longer than its head says")
            data = body
        if self._head:
            data, self._head = self._head + data, b""
        if data:
            self._transport.write(data)
        if more:
            return
        if self._left:
            raise RuntimeError("the body is shorter than its head says")
        self.response_complete = True
        self._wake()
        if not self.keep_alive:
            self._transport.close()
        self._on_answered()

    def abandon(self) -> None:
        """The application is done, but its answer is not: only a closed connection says so."""
        if self._head:
            self._transport.write(self._head)
        self._transport.close()
