"""The Responses API as callers speak it: just enough of a body is read to route and price it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from spanledger.errors import InvalidRequestError
from spanledger.pricing.demand import Demand
from spanledger.pricing.usage import Usage
from spanledger.wires.base import Ask, Content, Operation, Problem
from spanledger.wires.bounds import MAX_OUTPUT_TOKENS, unchecked
from spanledger.wires.compactions import maker_of
from spanledger.wires.fields import (
    DECODE_ERRORS,
    EMPTY_ARRAY,
    Fields,
    boolean,
    decode,
    is_set,
    positive,
    route_of,
    wrong,
)
from spanledger.wires.openai.attributes import RESPONSES_ATTRIBUTES, read_attributes
from spanledger.wires.openai.errors import error_body, response_error_event
from spanledger.wires.openai.inbound import OpenAIInbound
from spanledger.wires.openai.responses_demand import demand_of
from spanledger.wires.openai.responses_estimate import estimate_items
from spanledger.wires.openai.responses_transcript import response_content
from spanledger.wires.openai.spelling import check_spelling

MOVED = {
    "messages": "input",
    "max_tokens": "max_output_tokens",
    "max_completion_tokens": "max_output_tokens",
    "response_format": "text.format",
    "reasoning_effort": "reasoning.effort",
}
"""Fields of chat completions, and what they are called here."""
_TEXT = msgspec.json.Decoder(str)


class Responses(OpenAIInbound):
    """The inbound wire. A stream has no end mark: its last event has the whole answer."""

    name = "responses"
    path = "/v1/responses"
    operation: Operation = "chat"
    end = b""

    def read(self, body: bytes) -> Ask:
        """Read a request and check what the gateway acts on. Raises InvalidRequestError."""
        fields = decode(body)
        route = route_of(fields)
        check_spelling(fields)
        for name in MOVED.keys() & fields.keys():
            raise InvalidRequestError(
                f"the Responses API has no {name!r}; use {MOVED[name]!r}",
                code="unsupported_parameter",
                param=name,
            )
        check_input(fields)
        cap = positive(fields, "max_output_tokens", MAX_OUTPUT_TOKENS)
        stream, size = boolean(fields, "stream", "stream"), len(body)
        later = boolean(fields, "background", "background")
        ask = Ask(self, route, stream, True, fields, size, demand_of(fields, size, cap))
        ask.follows, ask.bound_to = followed(fields), maker_of(fields.get("input"))
        # Both are kept at the provider, which a chat cannot ask for.
        ask.own_alone = later or ("prompt" in fields and is_set(fields["prompt"]))
        return ask

    def demand(self, fields: Fields, body_bytes: int) -> Demand:
        """What bounds the cost of these fields, where a deployment changed the caller's."""
        names = ("max_output_tokens", "max_completion_tokens", "max_tokens")
        caps = (unchecked(fields, name) for name in names)
        return demand_of(fields, body_bytes, next(filter(None, caps), None))

    def estimate(self, fields: Mapping[str, msgspec.Raw]) -> Usage:
        """The input's tokens, counted by us because no provider did."""
        return estimate_items(fields)

    def attributes(self, fields: Mapping[str, msgspec.Raw]) -> dict[str, object]:
        """The request's parameters under the names of the GenAI conventions."""
        return read_attributes(fields, RESPONSES_ATTRIBUTES)

    def content(
        self, fields: Mapping[str, msgspec.Raw], answer: bytes, events: Sequence[bytes]
    ) -> Content:
        """What was said, by the request and its answer or the events of it."""
        return response_content(fields, answer, events)

    def error(self, problem: Problem) -> bytes:
        """The body of an error answer."""
        return error_body(problem)

    def error_event(self, problem: Problem) -> bytes:
        """The event that a broken stream ends with."""
        return response_error_event(problem)


def check_input(fields: Fields) -> None:
    """Check that there is an input, here or at the provider. Raises InvalidRequestError."""
    given = fields.get("input")
    if "conversation" in fields and is_set(fields["conversation"]):
        raise InvalidRequestError(
            "the gateway cannot tell whose a conversation is; use 'previous_response_id', or send"
            " its items in 'input'",
            code="unsupported_parameter",
            param="conversation",
        )
    if given is None or not is_set(given):
        if not any(name in fields for name in ("previous_response_id", "prompt")):
            raise InvalidRequestError(
                "the field 'input' is missing", code="missing_required_parameter", param="input"
            )
        return
    raw = memoryview(given)
    if bytes(raw[:1]) not in (b'"', b"[") or EMPTY_ARRAY.fullmatch(raw):
        raise wrong("input", "a string or a non-empty array of items")


def followed(fields: Fields) -> str:
    """The id of the answer that a request continues; empty without one. Raises InvalidRequestError."""
    return _text(fields, "previous_response_id")


def _text(fields: Fields, name: str) -> str:
    raw = fields.get(name)
    if raw is None or not is_set(raw):
        return ""
    try:
        return _TEXT.decode(raw)
    except DECODE_ERRORS:
        raise wrong(name, "a string") from None
