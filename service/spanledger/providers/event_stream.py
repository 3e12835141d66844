"""A stream of events, read off its connection as fast as its caller takes them.

Knows how long a stream may be silent, how long it may last and how large it may be. It does not look
into the events.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from spanledger.errors import ProviderError
from spanledger.providers.base import Call, PassOn
from spanledger.providers.bodies import parser_of
from spanledger.providers.connection import Connection
from spanledger.providers.failed_calls import name_of, too_late
from spanledger.providers.reply import LateError, ResponseError
from spanledger.wires.base import Frame
from spanledger.wires.sse import EventTooLargeError

ReadUsual = Callable[[bytes], Frame | None]


class EventStream:
    """An open stream of events; owned by one generator, which must `close` it.

    Attributes:
        headers: of the response.
        producing: whether content arrived; the adapter, which reads the events, sets it.
        tail: at the end, an event without its final blank line: truncated, unless it is an end mark.
    """

    __slots__ = (
        "_began",
        "_call",
        "_connection",
        "_deadline",
        "_ends_at",
        "_idle_s",
        "_left",
        "_loop",
        "_parser",
        "_pass_on",
        "_read",
        "_ready",
        "_recycle",
        "_too_much",
        "headers",
        "producing",
        "tail",
    )

    def __init__(
        self, call: Call, connection: Connection, began: float, recycle: Callable[[], None]
    ) -> None:
        """`began` is when the call did, in the loop's seconds; `recycle` gives the connection back."""
        self._call = call
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._deadline = began + call.timeout_s
        self._ends_at = began + call.total_s
        self._idle_s = call.stream_idle_timeout_s
        self._recycle = recycle
        self._began = False
        self.producing = False
        self._left = most = call.max_response_bytes
        self._parser = parser_of(call.wire.operation, connection.headers, most)
        self._ready: list[bytes] = []
        self._too_much = ""
        self._read: ReadUsual | None = None
        self._pass_on: PassOn | None = None
        self.headers: Mapping[str, str] = connection.headers
        self.tail = b""

    async def batch(self) -> list[bytes] | None:
        """The payloads of the next events, perhaps none; None at the end.

        The first content may take the rest of the attempt's timeout, since a model may think for
        minutes after a stream's first event; any later silence may last `stream_idle_timeout_s`. A
        provider's keep-alive comments count as activity, but no stream may last longer than
        `total_s`.

        Raises:
            ProviderError: the silence or the stream was too long, the connection broke, or an event
                or the stream is too large.
        """
        connection = self._connection
        now = self._loop.time()
        if now >= self._ends_at:
            raise too_late(self._call, "no end of the stream", self._call.total_s)
        try:
            while True:
                if self._ready:
                    payloads, self._ready = self._ready, []
                    return payloads
                if self._too_much:
                    raise self._too_large(self._too_much)
                if chunk := connection.take():
                    return self._fed(chunk)
                if connection.complete:
                    self.tail = self._parser.finish()
                    return None
                await connection.more(self._silent_until(self._loop.time()))
        except LateError:
            raise too_late(self._call, "no next chunk", self._idle_s) from None
        except ResponseError:
            raise self.interrupted("the connection broke") from None

    def pass_on_usual(self, read: ReadUsual, pass_on: PassOn) -> None:
        """While `batch` waits, events that `read` knows go to `pass_on` as soon as they arrive,
        without waking anybody. The first that it does not know, or that `pass_on` does not take,
        wakes `batch`, which returns it and everything behind it."""
        self._read, self._pass_on = read, pass_on
        self._connection.on_more = self._passed_on

    def _passed_on(self) -> bool:
        """Whether everything that has arrived was passed on."""
        read, pass_on = self._read, self._pass_on
        if read is None or pass_on is None:
            return False
        try:
            payloads = self._fed(self._connection.take())
        except ProviderError:
            return False
        for number, payload in enumerate(payloads):
            frame = read(payload)
            if frame is None or not pass_on(frame):
                self._ready = payloads[number:]
                return False
            if frame.content:
                self.producing = True
        self._connection.wait_longer(self._silent_until(self._loop.time()))
        return True

    def _silent_until(self, now: float) -> float:
        """When a silence that begins now has lasted too long."""
        until = now + self._idle_s
        if not self.producing and until < self._deadline:
            until = self._deadline
        return min(self._ends_at, until)

    def _fed(self, chunk: bytes) -> list[bytes]:
        """The payloads that are complete with this chunk. Raises ProviderError."""
        self._left -= len(chunk)
        if self._left < 0:
            self._too_much = "its stream"
            raise self._too_large(self._too_much)
        try:
            payloads = self._parser.feed(chunk)
        except EventTooLargeError:
            self._too_much = "an event"
            raise self._too_large(self._too_much) from None
        if payloads:
            self._began = True
        return payloads

    def interrupted(self, why: str) -> ProviderError:
        """The error for an incomplete stream."""
        if not self._began:
            return ProviderError(
                "malformed_response",
                f"{name_of(self._call)}: {why} before the first event of the stream",
                billed="unknown",
            )
        return ProviderError(
            "stream_interrupted", f"{name_of(self._call)}: {why} mid-stream", billed="unknown"
        )

    def close(self, *, clean: bool) -> None:
        """Keep the connection if the stream was complete, else close it at once."""
        self._read = self._pass_on = self._connection.on_more = None
        if clean:
            self._recycle()
        else:
            self._connection.close()

    def _too_large(self, what: str) -> ProviderError:
        most = self._call.max_response_bytes
        return ProviderError(
            "malformed_response",
            f"{name_of(self._call)}: {what} is larger than {most} bytes (gateway.max_response_bytes)",
            billed="unknown",
        )
