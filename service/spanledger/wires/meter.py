"""Reads the usage out of an answer of an unknown endpoint while it passes by.

The answer is not changed and not held up. What is known of it: a JSON body or a stream of events may
have a `usage` in one of the forms of `pricing/forms.py`, at the places where the known APIs have it.
"""

from __future__ import annotations

from typing import Any

import msgspec

from spanledger.pricing.reported import add_counts, anthropic_service, from_anthropic, from_openai
from spanledger.pricing.searches import with_citations, with_searches
from spanledger.pricing.usage import Usage
from spanledger.wires.base import MAX_TEXT
from spanledger.wires.fields import DECODE_ERRORS
from spanledger.wires.sse import EventParser, EventTooLargeError

MAX_METERED_BYTES = 8 * 2**20
"""Of a JSON body, or of one event: usage in a larger one is not found, and not priced."""


class _Seen(msgspec.Struct):
    """What is looked for, of whatever type it is."""

    model: Any = None
    usage: Any = None
    service_tier: Any = None
    response: Any = None
    """The answer in an event of the Responses API."""
    message: Any = None
    """The message in the first event of Anthropic's streams."""
    x_groq: Any = None


_SEEN = msgspec.json.Decoder(_Seen)


class Meter:
    """One answer. Feed it the body as it passes, then call `end`.

    Attributes:
        usage: None where the answer reports none in a known form.
        model: the model that the answer names.
        service: the service tier it was served at.
    """

    __slots__ = ("_anthropic", "_events", "_parts", "_size", "_told", "model", "service", "usage")

    def __init__(self, content_type: str, *, anthropic: bool) -> None:
        kind = content_type.partition(";")[0].strip().lower()
        self.usage: Usage | None = None
        self.model = self.service = ""
        self._anthropic = anthropic
        self._told: dict[str, Any] = {}
        self._size = 0
        self._parts: list[bytes] | None = None
        self._events: EventParser | None = None
        if kind == "text/event-stream":
            self._events = EventParser(MAX_METERED_BYTES)
        elif kind == "application/json" or kind.endswith("+json"):
            self._parts = []

    def feed(self, chunk: bytes) -> None:
        """The next bytes of the body."""
        if self._events is not None:
            try:
                for payload in self._events.feed(chunk):
                    self._look_at(payload)
            except EventTooLargeError:
                self._events = None
        elif self._parts is not None:
            self._size += len(chunk)
            if self._size > MAX_METERED_BYTES:
                self._parts = None
            else:
                self._parts.append(chunk)

    def end(self) -> None:
        """The body is complete, or no more of it will come."""
        if self._events is not None:
            self._look_at(self._events.finish())
        elif self._parts is not None:
            self._look_at(b"".join(self._parts))
            self._parts = None

    def _look_at(self, payload: bytes) -> None:
        if b'"usage"' not in payload and b'"model"' not in payload:
            return
        try:
            seen = _SEEN.decode(payload)
        except DECODE_ERRORS:
            return
        for place in (seen.message, seen.response, seen.x_groq):
            if isinstance(place, dict):
                self._note(place.get("model"), place.get("usage"), place.get("service_tier"))
        self._note(seen.model, seen.usage, seen.service_tier)
        if self.usage is not None and not self._anthropic:
            self.usage = with_citations(with_searches(self.usage, payload), payload)

    def _note(self, model: object, usage: object, service: object) -> None:
        if isinstance(model, str) and model:
            self.model = model[:MAX_TEXT]
        if isinstance(service, str) and not self._anthropic:
            self.service = service[:MAX_TEXT]
        if not isinstance(usage, dict):
            return
        if self._anthropic:
            add_counts(self._told, usage)
            self.usage = from_anthropic(self._told)
            self.service = anthropic_service(self._told)
            return
        told = from_openai(usage)
        if told is not None:
            self.usage = told if self.usage is None else self.usage.followed_by(told)
