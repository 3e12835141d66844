"""How far a stream of the Messages API has come: what both of its readers keep track of."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace

from spanledger.errors import ProviderError
from spanledger.pricing.reported import add_counts, from_anthropic
from spanledger.pricing.usage import Usage
from spanledger.wires.base import Server
from spanledger.wires.error_forms import read_error_event
from spanledger.wires.failures import malformed, refusal, unreadable
from spanledger.wires.fields import DECODE_ERRORS

T = TypeVar("T")
_NO_EVENT = "an event is not in the Messages API's format"


class StreamState:
    """The state of one stream.

    Attributes:
        began: content has come.
        finished: the stop reason has come.
        counted: the usage has come.
        ended: the end mark has come.
        usage: the counts so far, as Anthropic names them.
    """

    __slots__ = ("began", "counted", "ended", "finished", "request_id", "server", "usage")

    def __init__(self, server: Server, request_id: str) -> None:
        self.began = self.finished = self.counted = self.ended = False
        self.server = server
        self.request_id = request_id
        self.usage: dict[str, Any] = {}

    def decoded(self, decoder: msgspec.json.Decoder[T], payload: bytes) -> T:
        """The event. Raises ProviderError if it is not one of the Messages API."""
        try:
            return decoder.decode(payload)
        except DECODE_ERRORS:
            error = unreadable(self.server, payload, _NO_EVENT)
            if self.began:
                error.billed = "unknown"
            raise error from None

    def failed(self, payload: bytes) -> ProviderError:
        """The error that an event reports."""
        billed = "unknown" if self.began else "no"
        return refusal(self.server, None, read_error_event(payload), billed=billed)

    def malformed(self) -> ProviderError:
        """The error for an event without the part that its type must have."""
        return malformed(self.server, _NO_EVENT)

    def count(self, usage: dict[str, Any] | None) -> None:
        """Counts are cumulative; a later event may omit some, or report zero."""
        if usage:
            add_counts(self.usage, usage)

    def input_usage(self) -> Usage | None:
        """The usage of the input alone: the first event counts the output so far as well."""
        counted = from_anthropic(self.usage)
        if counted is None:
            return None
        return replace(counted, output_tokens=0, reasoning_output_tokens=0)

    def finish(self) -> Usage | None:
        """The stop reason has come. The usage is complete now."""
        usage = from_anthropic(self.usage)
        self.finished, self.counted = True, usage is not None
        return usage

    def rest(self, _tail: bytes) -> list[bytes] | None:
        """A connection that closes in good order after the stop reason is the end mark."""
        if not self.finished:
            return None
        self.ended = True
        return []

    def survives(self, _error: ProviderError) -> bool:
        """Nothing is missing but the end mark."""
        return self.finished and self.counted
