"""Server-sent events, read as they come off the wire.

Splits bytes into the payloads of events without looking into them. A network read may end anywhere
in an event; lines may end with LF, CRLF or CR. Comments (`: ping`), `event:`, `id:` and `retry:`
lines and events without data are dropped, unless they mark an error. JSON without `data:` counts as
data.
"""

from __future__ import annotations

_BOM = b"\xef\xbb\xbf"
_CR, _LF = b"\r\n"
"""As numbers: looking for one of those takes a tenth of looking for a byte string."""


class EventTooLargeError(ValueError):
    """One event is larger than the limit."""


class ErrorPayload(bytes):
    """The payload of an event that is marked as an error."""

    __slots__ = ()


class EventParser:
    """Feed it bytes; it returns the payloads of the events that are complete."""

    __slots__ = ("_after_cr", "_buffer", "_event_bytes_max", "_fresh")

    def __init__(self, event_bytes_max: int) -> None:
        self._event_bytes_max = event_bytes_max
        self._buffer = bytearray()
        self._after_cr = False
        self._fresh = True

    def feed(self, chunk: bytes) -> list[bytes]:
        """The payloads completed by `chunk`, in order.

        Raises:
            EventTooLargeError: an event, complete or not, is over the limit.
        """
        size = len(chunk)
        if (  # one whole event of one line: most reads of most streams
            chunk.startswith(b"data: ")
            and chunk.find(b"\n") == size - 2 > 6
            and chunk.endswith(b"\n\n")
            and size <= self._event_bytes_max
            and _CR not in chunk
            and not (self._buffer or self._after_cr)
        ):
            self._fresh = False
            return [chunk[6:-2]]
        if self._after_cr or _CR in chunk:
            chunk = self._with_plain_newlines(chunk)
        if self._buffer or not chunk.endswith(b"\n\n"):
            chunk = self._take_whole_events(chunk)
        payloads = []
        for event in chunk.split(b"\n\n"):
            if len(event) > self._event_bytes_max:
                raise EventTooLargeError
            if event and (payload := self._payload(event)):
                payloads.append(payload)
        return payloads

    def finish(self) -> bytes:
        """The payload of a last event that no blank line ended; empty if there is none."""
        event = bytes(self._buffer)
        self._buffer.clear()
        return self._payload(event)

    def _take_whole_events(self, chunk: bytes) -> bytes:
        """Keep the unfinished tail and return what comes before it. Every byte is searched once."""
        buffer = self._buffer
        searched = max(0, len(buffer) - 1)
        buffer += chunk
        end = buffer.rfind(b"\n\n", searched)
        if end < 0:
            if len(buffer) > self._event_bytes_max:
                raise EventTooLargeError
            return b""
        whole = bytes(buffer[:end])
        del buffer[: end + 2]
        return whole

    def _with_plain_newlines(self, chunk: bytes) -> bytes:
        if self._after_cr and chunk:
            chunk = chunk.removeprefix(b"\n")
            self._after_cr = False
        if chunk.endswith(b"\r"):
            self._after_cr = True
        return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _payload(self, event: bytes) -> bytes:
        if self._fresh:
            self._fresh = False
            event = event.removeprefix(_BOM)
        if event.startswith(b"data:") and _LF not in event:
            return event[5:].removeprefix(b" ")
        if event.startswith((b"{", b"[")):
            return event
        data: list[bytes] = []
        failed = False
        for line in event.split(b"\n"):
            if line.startswith(b"data:"):
                data.append(line[5:].removeprefix(b" "))
            elif line.startswith(b"error:"):
                # llama.cpp, until September 2025: a field of its own, which clients ignore.
                data.append(line[6:].removeprefix(b" "))
                failed = True
            elif line.startswith(b"event:"):
                failed = failed or line[6:].strip() == b"error"
        payload = b"\n".join(data)
        return ErrorPayload(payload) if failed else payload


def encode_event(payload: bytes) -> bytes:
    """The event that carries `payload`, for relaying."""
    if _LF not in payload:
        return b"data: " + payload + b"\n\n"
    return b"".join(b"data: " + line + b"\n" for line in payload.split(b"\n")) + b"\n"


def is_events(content_type: str) -> bool:
    """Whether a content type is that of a stream of events."""
    return content_type.lower().startswith("text/event-stream")


def is_stream(body: bytes) -> bool:
    """Whether a body is a stream of events, whatever its content type says."""
    return body.lstrip(_BOM + b"\r\n ")[:8].startswith(
        (b"data:", b"event:", b"error:", b"id:", b"retry:", b":")
    )


def events_of(body: bytes) -> list[bytes]:
    """The payloads of a complete stream; the last event does not need a blank line."""
    parser = EventParser(len(body))
    payloads = parser.feed(body)
    last = parser.finish()
    return [*payloads, last] if last else payloads
