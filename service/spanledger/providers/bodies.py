"""What a provider's answer is: events, or one file."""

from __future__ import annotations

from collections.abc import Mapping

from spanledger.wires.base import Operation
from spanledger.wires.sse import EventParser, is_events

MAX_TYPE_CHARS = 128


class FileParser:
    """In place of an `EventParser` for an answer that is one file: its bytes as they arrive."""

    def feed(self, chunk: bytes) -> list[bytes]:
        """The bytes."""
        return [chunk] if chunk else []

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
