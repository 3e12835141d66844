"""What all wires have in common when their stream is written from a chat stream."""

from __future__ import annotations

from abc import ABC, abstractmethod

from spanledger.errors import ProviderError
from spanledger.pricing.usage import Usage
from spanledger.wires.base import Frame, Reader


class OverChat(ABC):
    """Reads chunks of a chat and writes the events of another wire.

    Attributes:
        ended: the end mark has come.
    """

    def __init__(self, chunks: Reader) -> None:
        self.ended = False
        self._chunks = chunks
        self._usage: Usage | None = None

    def read(self, payload: bytes) -> Frame | None:
        """The events for a chunk, empty where it has nothing to show. Raises ProviderError."""
        frame = self._chunks.read(payload)
        self.ended = self._chunks.ended
        if frame is None:
            return None
        if frame.usage is not None:
            earlier = self._usage
            self._usage = frame.usage if earlier is None else earlier.followed_by(frame.usage)
        frame.data = self._events(frame)
        frame.usage_only = False  # usage is never an event of its own on these wires
        return frame

    @abstractmethod
    def _events(self, frame: Frame) -> bytes:
        """The events for a chunk."""

    def rest(self, tail: bytes) -> list[bytes] | None:
        """What is still to be read once the connection has closed."""
        found = self._chunks.rest(tail)
        self.ended = self._chunks.ended
        return found

    def survives(self, error: ProviderError) -> bool:
        """Whether nothing is missing but the end mark."""
        return self._chunks.survives(error)
