"""Bodies as they are sent and arrive: a form that is too large for memory, and a file as an answer."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass

from spanledger.wires.base import Operation
from spanledger.wires.sse import EventParser, is_events

LARGE_BODY_BYTES = 2**20
"""Larger bodies are passed as a file, which aiohttp writes in pieces, so the loop is not blocked."""
MAX_TYPE_CHARS = 128


@dataclass(frozen=True, slots=True)
class LongBody:
    """A body that is not in memory.

    Attributes:
        size: of all its chunks together. The request must say it as its Content-Length.
        chunks: begins to read it; called once for each time that it is sent.
    """

    size: int
    chunks: Callable[[], AsyncIterator[bytes]]


Body = bytes | LongBody


def payload_of(body: Body) -> bytes | io.BytesIO | AsyncIterator[bytes]:
    """The body as aiohttp takes it."""
    if isinstance(body, LongBody):
        return body.chunks()
    return body if len(body) < LARGE_BODY_BYTES else io.BytesIO(body)


class FileParser:
    """In place of an `EventParser` for an answer that is one file: its bytes as they arrive."""

    def feed(self, chunk: bytes) -> list[bytes]:
        """The bytes."""
        return [chunk]

    def finish(self) -> bytes:
        """Nothing is left over."""
        return b""


def parser_of(
    operation: Operation, headers: Mapping[str, str], event_bytes_max: int
) -> EventParser | FileParser:
    """What reads a stream: speech comes as events or as a file."""
    if operation == "speech" and not is_events(headers.get("content-type", "")):
        return FileParser()
    return EventParser(event_bytes_max)


def content_type_of(headers: Mapping[str, str]) -> str:
    """The content type of an answer as it may be forwarded; empty if there is none."""
    found = headers.get("content-type", "")
    plain = found.isascii() and found.isprintable() and len(found) <= MAX_TYPE_CHARS
    return found if plain else ""
