"""Streams that are over after their last event, whether or not an end mark follows."""

from __future__ import annotations

from spanledger.errors import ProviderError
from spanledger.wires.fields import is_json
from spanledger.wires.openai.answer import DONE
from spanledger.wires.sse import ErrorPayload


class LastEventReader:
    """How such a stream ends; what reads its events notes the last one in `_done`."""

    __slots__ = ("_done", "ended")

    def __init__(self) -> None:
        self.ended = self._done = False

    def rest(self, tail: bytes) -> list[bytes] | None:
        """A clean close after the last event is the end."""
        if tail and (type(tail) is ErrorPayload or is_json(tail)):
            return [tail]
        return [DONE] if self._done and not tail else None

    def survives(self, error: ProviderError) -> bool:
        """Nothing is missing after the last event."""
        del error
        return self._done
