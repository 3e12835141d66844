"""One HTTP/1.1 connection to a provider: writes a request, reads its response within limits.

The bytes are parsed by httptools, as in the gateway's own server. A connection serves one request
after another. It knows no addresses, no wires and no `ProviderError`; what fails is one of the errors
of `reply.py`.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import AsyncIterable, Callable

import httptools

from spanledger.providers.reply import (
    BadResponseError,
    BrokeError,
    FloodError,
    HungUpError,
    LateError,
    ReplyHeaders,
    ResponseError,
    TooLargeError,
    is_whole,
    raised_again,
)

MAX_INTERIM = 8
"""Most interim responses (1xx) to one request; real servers send one or two. HTTP allows any number,
and reading them forever would stall every caller."""
MAX_REPLY_HEADERS = 128
MAX_HEAD_BYTES = 64 * 1024
"""Of a response; and as much may follow of its body without any of the body itself, such as trailers,
which the parser keeps."""
HIGH_WATER_BYTES = 128 * 1024
"""A stream that nobody reads is not read from the network beyond this."""
PIECE_BYTES = 256 * 1024
"""A larger body is written in pieces of this size, so that the loop is not blocked."""

_LENIENT = {
    "lenient_headers": True,
    "lenient_optional_cr_before_lf": True,
    "lenient_spaces_after_chunk_size": True,
}
"""What other clients put up with as well: odd header values, bare line feeds, padded chunk sizes."""


class _StopParsing(Exception):  # noqa: N818  # not an error: it unwinds the parser
    """Raised inside the parser's callbacks; `Connection._fault` has the error, if it is one."""


class Connection(asyncio.Protocol):
    """An open connection.

    Attributes:
        closed: it cannot be used any more.
        headed: the head of the response has come.
        complete: the response has come, to its last byte.
        status: of the response.
        headers: of the response.
        idle_since: when it was last put aside, in the loop's seconds.
        on_closed: called once, when it can no longer be used.
        on_more: called when there is more of a stream, before who waits for it is woken; not if it
            returns true, because it has taken everything.
    """

    __slots__ = (
        "_armed_at",
        "_beside",
        "_chunks",
        "_deadline",
        "_error",
        "_fault",
        "_gone",
        "_head_bytes",
        "_in_head",
        "_interim",
        "_keep",
        "_loop",
        "_most",
        "_most_of_error",
        "_on_drained",
        "_parser",
        "_passes",
        "_poll",
        "_raw",
        "_reading_paused",
        "_size",
        "_streams",
        "_timer",
        "_transport",
        "_until_end",
        "_waiter",
        "_writable",
        "_writing_paused",
        "closed",
        "complete",
        "headed",
        "idle_since",
        "on_closed",
        "on_more",
        "status",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._armed_at = 0.0
        self._deadline: float | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._gone: asyncio.Future[None] | None = None
        self._poll = select.poll()
        self._writing_paused = self._reading_paused = False
        self._on_drained: Callable[[], None] | None = None
        self.on_closed: Callable[[Connection], None] | None = None
        self.closed = False
        self.idle_since = 0.0
        self._reset()
        self.complete = True  # nothing was asked yet, so nothing may come

    def _reset(self) -> None:
        """Forget the last response."""
        self.headed = self.complete = False
        self.status = 0
        self._raw: dict[bytes, bytes] = {}
        self._chunks: list[bytes] = []
        self.on_more: Callable[[], bool] | None = None
        self._size = self._head_bytes = self._interim = self._beside = 0
        self._in_head = self._keep = self._until_end = self._streams = self._passes = False
        self._most = self._most_of_error = 0
        self._error: ResponseError | None = None
        self._fault: ResponseError | None = None

    @property
    def headers(self) -> ReplyHeaders:
        return ReplyHeaders(self._raw)

    # One request ----------------------------------------------------------------------------

    async def ask(
        self,
        request: bytes,
        deadline: float,
        most: int,
        most_of_error: int,
        *,
        streams: bool,
        passes: bool = False,
        pieces: AsyncIterable[bytes] | None = None,
    ) -> None:
        """Write a request and wait for the complete response; with `streams`, for its head, if that
        is of a stream (`is_stream`). A body may have `most` bytes, that of an error less.

        With `passes`, every response is a stream, without a limit. `pieces` is the body of a request
        whose head says how long it is, or that it is chunked.

        Raises:
            ResponseError: it did not come; the connection is closed.
        """
        self._reset()
        transport = self._transport
        if self.closed or transport is None:
            raise HungUpError
        self._most, self._most_of_error, self._streams = most, most_of_error, streams
        self._passes = passes
        self._deadline = deadline
        self._arm(deadline)
        if len(request) <= PIECE_BYTES:
            transport.write(request)
        else:
            await self._write(transport, request)
        if pieces is not None:
            await self._feed(transport, pieces, b"\r\ntransfer-encoding: chunked\r\n" in request)
        while not (self.complete or (self.headed and self._streams)):
            if self._error is not None:
                raise raised_again(self._error)
            await self.more(deadline)
        self._deadline = None

    @property
    def is_stream(self) -> bool:
        """Whether the response's body is to be taken piece by piece."""
        return self._streams

    @property
    def body(self) -> bytes:
        """The complete body."""
        chunks = self._chunks
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def take(self) -> bytes:
        """What has come of a stream since the last time.

        Raises:
            ResponseError: the connection broke, and everything before was taken.
        """
        chunks = self._chunks
        if not chunks:
            if self._error is not None:
                raise raised_again(self._error)
            return b""
        self._chunks, self._size = [], 0
        if self._reading_paused and self._transport is not None:
            self._reading_paused = False
            self._transport.resume_reading()
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def more(self, deadline: float) -> asyncio.Future[None]:
        """Done when there is more of a response, its end or an error. Beyond the deadline, the
        connection is closed; while nobody waits, there is none."""
        self._deadline = deadline
        self._arm(deadline)
        waiter = self._waiter = self._loop.create_future()
        return waiter

    def wait_longer(self, deadline: float) -> None:
        """Move the deadline of who waits."""
        self._deadline = deadline

    # Afterwards -----------------------------------------------------------------------------

    @property
    def reusable(self) -> bool:
        """Whether another request may be sent on it."""
        return (
            self.complete
            and self._keep
            and not self.closed
            and self._transport is not None
            and not self._transport.get_write_buffer_size()
        )

    @property
    def unseen(self) -> bool:
        """Whether it served a request before, and nothing at all came for this one: its server may
        have closed it, as unused, when this request was on its way."""
        return self.idle_since > 0 and not self.headed and not self._interim

    @property
    def is_quiet(self) -> bool:
        """Whether nothing arrived, not even its end, that the loop has not come to yet. Else the next
        request would get what was sent after the last one's response."""
        return not self._poll.poll(0)

    def rest(self, now: float) -> None:
        """Nobody waits for anything."""
        self._deadline = None
        self._chunks = []
        self.idle_since = now

    def drain(self, deadline: float, most: int, on_drained: Callable[[], None]) -> None:
        """Read what is left of a stream, up to `most` bytes, and drop it; then call `on_drained`. If
        that takes too long, or is too much, close."""
        self._chunks, self._size = [], 0
        self._most, self._streams, self.on_more = most, False, None
        self._on_drained = on_drained
        self._deadline = deadline
        self._arm(deadline)
        if self._reading_paused and self._transport is not None:
            self._reading_paused = False
            self._transport.resume_reading()

    def close(self) -> None:
        """Close: at once if anything is still to come, so that the provider stops."""
        if self._transport is not None:
            if self.complete:
                self._transport.close()
            else:
                self._transport.abort()
        self._ended(HungUpError())

    async def wait_closed(self) -> None:
        """Wait until a connection that was told to close is closed."""
        if self._transport is not None:
            self._gone = self._loop.create_future()
            await self._gone

    # What the transport calls ---------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # always a two-way one here
        if (sock := transport.get_extra_info("socket")) is not None:
            self._poll.register(sock.fileno(), select.POLLIN)
        self._parser = httptools.HttpResponseParser(self)
        self._parser.set_dangerous_leniencies(**_LENIENT)

    def data_received(self, data: bytes) -> None:
        parser = self._parser
        if parser is None or self.closed:
            return
        if self.complete:  # nobody asked for it
            self.close()
            return
        before = self._size
        try:
            parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self.complete:  # what is behind a complete response only costs the connection
                self._ended(self._fault or BadResponseError(type(error).__name__))
                self._abort()
                return
            self._keep = False
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._ended(BadResponseError("its head is too large"))
                self._abort()
        elif self.complete:
            self._wake()
            if self._on_drained is not None:
                self._drained()
        elif self._size == before and self.headed and self._is_beside(len(data)):
            self._ended(BadResponseError("it has too much besides its body"))
            self._abort()
        elif self._streams and self.headed:
            waiter, on_more = self._waiter, self.on_more
            if on_more is not None and waiter is not None and not waiter.done() and on_more():
                return
            if self._size > HIGH_WATER_BYTES and not self._reading_paused:
                self._reading_paused = True
                if self._transport is not None:
                    self._transport.pause_reading()
            self._wake()

    def _is_beside(self, count: int) -> bool:
        """Whether with these bytes, that were none of the body, too many have come in a row."""
        self._beside += count
        return self._beside > MAX_HEAD_BYTES

    def connection_lost(self, exc: Exception | None) -> None:
        if self.headed and self._until_end and exc is None and not self.closed:
            self.complete = True
        self._ended(BrokeError() if self.headed else HungUpError())
        self._transport = self._parser = None
        if self._gone is not None and not self._gone.done():
            self._gone.set_result(None)

    def pause_writing(self) -> None:
        self._writing_paused = True

    def resume_writing(self) -> None:
        self._writing_paused = False
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)

    # What the parser calls ------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self.complete:
            self._keep = False
            raise _StopParsing
        self._in_head = True
        self._raw = {}

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.headed:
            return  # a trailer
        self._head_bytes += len(name) + len(value) + 4
        raw = self._raw
        if self._head_bytes > MAX_HEAD_BYTES or len(raw) >= MAX_REPLY_HEADERS:
            self._fault = BadResponseError("its head is too large")
            raise _StopParsing
        name = name.lower()
        if name not in raw:
            raw[name] = value
        elif name == b"transfer-encoding":
            raw[name] += b"," + value

    def on_headers_complete(self) -> None:
        parser = self._parser
        assert parser is not None
        self._in_head = False
        status = parser.get_status_code()
        if 100 <= status < 200:
            self._interim += 1
            if self._interim > MAX_INTERIM:
                self._fault = FloodError()
                raise _StopParsing
            return
        raw = self._raw
        self.status, self.headed = status, True
        self._keep = parser.should_keep_alive()  # after the message, it is always false
        self._until_end = (
            b"content-length" not in raw
            and b"chunked" not in raw.get(b"transfer-encoding", b"").lower()
        )
        if self._streams and not self._passes:
            self._streams = status == 200 and not is_whole(raw.get(b"content-type", b""))
        if not 200 <= status < 300:
            self._most = self._most_of_error

    def on_body(self, body: bytes) -> None:
        self._size += len(body)
        self._beside = 0
        if self._size > self._most and not self._streams:
            self._fault = TooLargeError()
            raise _StopParsing
        if self._on_drained is None:
            self._chunks.append(body)

    def on_message_complete(self) -> None:
        if self.headed:
            self.complete = True

    # Waiting --------------------------------------------------------------------------------

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            self._deadline = None
            waiter.set_result(None)

    async def _write(self, transport: asyncio.Transport, request: bytes) -> None:
        """Write a large request in pieces, as fast as it is read; an early response ends it."""
        view = memoryview(request)
        for start in range(0, len(view), PIECE_BYTES):
            if self.headed or self._error is not None:
                self._keep = False
                return
            transport.write(view[start : start + PIECE_BYTES])
            await self._written()

    async def _feed(
        self, transport: asyncio.Transport, pieces: AsyncIterable[bytes], chunked: bool
    ) -> None:
        """Write a body as it comes, no faster than it is read; an early response ends it."""
        async for piece in pieces:
            if self.headed or self._error is not None:
                self._keep = False
                return
            if not piece:
                continue
            transport.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
            await self._written()
        if chunked and self._error is None:
            transport.write(b"0\r\n\r\n")

    async def _written(self) -> None:
        """Wait while the provider does not read what is written."""
        if self._writing_paused:
            self._writable = self._loop.create_future()
            try:
                await self._writable
            finally:
                self._writable = None

    def _arm(self, deadline: float) -> None:
        """Have a timer that rings no later than then. One is not moved to a later time before it
        rings: that would cost more than everything else about it."""
        timer = self._timer
        if timer is not None:
            if self._armed_at <= deadline:
                return
            timer.cancel()
        self._armed_at = deadline
        self._timer = self._loop.call_at(deadline, self._ring)

    def _ring(self) -> None:
        self._timer = None
        deadline = self._deadline
        if deadline is None:
            return
        if self._loop.time() < deadline:
            self._arm(deadline)
        else:
            self._ended(LateError())
            self._abort()

    def _drained(self) -> None:
        done, self._on_drained = self._on_drained, None
        self._chunks = []
        if done is not None:
            done()

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _ended(self, error: ResponseError) -> None:
        """The connection is of no more use; what was not complete has failed."""
        if self.closed:
            return
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self.complete and self._error is None:
            self._error = error
        self._wake()
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._on_drained = None
        if self.on_closed is not None:
            self.on_closed(self)
            self.on_closed = None
