"""Messages as callers send them: just enough of a body is read to route and price it.

Thinking counts within `max_tokens`, which every request has, so the cap bounds all output. As it must
be there, it says little of how long an answer should be: clients send the largest number allowed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from spanledger.pricing.demand import Demand
from spanledger.pricing.usage import Usage
from spanledger.rates.meter import Standing
from spanledger.wires.anthropic.attributes import attributes_of
from spanledger.wires.anthropic.errors import error_body, error_event
from spanledger.wires.anthropic.estimate import estimate_input
from spanledger.wires.anthropic.events import LAST_EVENT
from spanledger.wires.anthropic.transcript import content_of
from spanledger.wires.base import Ask, Content, Operation, Problem
from spanledger.wires.bounds import MAX_OUTPUT_TOKENS, bounded, unchecked
from spanledger.wires.fields import (
    DECODE_ERRORS,
    Fields,
    boolean,
    check_array,
    decode,
    missing,
    positive,
    route_of,
)
from spanledger.wires.rate_headers import anthropic_rate_headers

ROOM_TO_ANSWER_TOKENS = 1_024
"""Output that is left for the answer after a budget for thinking."""
_EMPTY = (b"[]", b"{}")
_ADDITION = b"tool_addition"
_CLEARS = "clear_"
"""What the names of edits start with that only take something out of the context."""


class _Edit(msgspec.Struct):
    type: str = ""


class _Edits(msgspec.Struct):
    edits: list[_Edit]


class _Thinking(msgspec.Struct):
    budget_tokens: int | None = None


_THINKING = msgspec.json.Decoder(_Thinking)


class Messages:
    """The inbound wire."""

    name = "messages"
    path = "/v1/messages"
    operation: Operation = "chat"
    end = LAST_EVENT
    passes: tuple[str, ...] = ("anthropic-beta", "anthropic-version")
    id_header = "request-id"
    comments = True

    def read(self, body: bytes) -> Ask:
        """Read a request and check what the gateway acts on. Raises InvalidRequestError."""
        fields = decode(body)
        route = route_of(fields)
        check_array(fields, "messages")
        cap = positive(fields, "max_tokens", MAX_OUTPUT_TOKENS)
        if cap is None:
            raise missing("max_tokens")
        stream, size = boolean(fields, "stream", "stream"), len(body)
        return Ask(self, route, stream, False, fields, size, _demand(fields, size, cap))

    def demand(self, fields: Fields, body_bytes: int) -> Demand:
        """What bounds the cost of these fields, where a deployment changed the caller's."""
        return _demand(fields, body_bytes, unchecked(fields, "max_tokens"))

    def estimate(self, fields: Mapping[str, msgspec.Raw]) -> Usage:
        """The prompt's tokens, counted by us because no provider did."""
        return estimate_input(fields)

    def attributes(self, fields: Mapping[str, msgspec.Raw]) -> dict[str, object]:
        """The request's parameters under the names of the GenAI conventions."""
        return attributes_of(fields)

    def content(
        self, fields: Mapping[str, msgspec.Raw], answer: bytes, events: Sequence[bytes]
    ) -> Content:
        """What was said, by the request and its answer or the events of it."""
        return content_of(fields, answer, events)

    def error(self, problem: Problem) -> bytes:
        """The body of an error answer."""
        return error_body(problem)

    def rate_headers(self, standing: Standing) -> list[tuple[bytes, bytes]]:
        """What is left of rates, as headers of an answer."""
        return anthropic_rate_headers(standing)

    def error_event(self, problem: Problem) -> bytes:
        """The event that a broken stream ends with."""
        return error_event(problem)


def _demand(fields: Fields, body_bytes: int, cap: int | None) -> Demand:
    demand = bounded(fields, body_bytes, (cap, None), 1)
    if cap is not None:
        demand.must_cap, demand.usual = True, _thought(fields)
    if _adds_tools(fields):
        demand.unbounded["tool_addition"] = "it may run at the provider; use `tools`"
    for name in tuple(demand.unbounded):
        if name in fields and _costs_nothing(name, fields[name]):
            del demand.unbounded[name]
    return demand


def _thought(fields: Fields) -> int:
    """Output that a request needs at least: a budget for thinking must be below the cap."""
    if (raw := fields.get("thinking")) is None:
        return 0
    try:
        budget = _THINKING.decode(raw).budget_tokens
    except DECODE_ERRORS:
        return 0
    return 0 if budget is None else budget + ROOM_TO_ANSWER_TOKENS


def _adds_tools(fields: Fields) -> bool:
    """Whether a message brings tools of its own, which nobody has looked at."""
    raw = bytes(fields.get("messages", b""))
    if _ADDITION in raw:
        return True
    if b"\\u00" not in raw:
        return False
    try:
        return _ADDITION in msgspec.json.encode(msgspec.json.decode(raw))
    except DECODE_ERRORS:
        return True


def _costs_nothing(name: str, raw: msgspec.Raw) -> bool:
    """Whether a field that can make a request expensive does not do so with this value."""
    if bytes(raw) in _EMPTY:
        return True
    if name != "context_management":
        return False
    try:
        edits = msgspec.json.decode(raw, type=_Edits).edits
    except DECODE_ERRORS:
        return False
    return all(edit.type.startswith(_CLEARS) for edit in edits)
