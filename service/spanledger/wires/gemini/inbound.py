"""`generateContent` as callers send it: just enough of a body is read to route and price it.

The model, and whether the answer is streamed, are in the path. A stream has no end mark.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from spanledger.errors import InvalidRequestError
from spanledger.pricing.demand import Demand
from spanledger.pricing.usage import Usage
from spanledger.rates.meter import Standing
from spanledger.wires.base import Ask, Content, Operation, Problem
from spanledger.wires.fields import MAX_ROUTE_CHARS, Fields, decode, missing, wrong
from spanledger.wires.gemini.attributes import attributes_of
from spanledger.wires.gemini.demand import check_config, demand_of
from spanledger.wires.gemini.errors import error_body, error_event
from spanledger.wires.gemini.estimate import estimate_contents
from spanledger.wires.gemini.spelling import spelled
from spanledger.wires.gemini.transcript import content_of
from spanledger.wires.rate_headers import openai_rate_headers


class GenerateContent:
    """The inbound wire, for one path."""

    name = "generate_content"
    path = "/v1beta/models/{model}:generateContent"
    operation: Operation = "chat"
    end = b""
    passes: tuple[str, ...] = ()
    id_header = "x-request-id"
    comments = False

    def __init__(self, model: str = "", *, stream: bool = False, as_events: bool = True) -> None:
        """`as_events`: a stream is asked for as events, not as one long array."""
        self._model = model
        self._stream = stream
        self._as_events = as_events

    def read(self, body: bytes) -> Ask:
        """Read a request and check what the gateway acts on. Raises InvalidRequestError."""
        fields, route = spelled(decode(body)), self.route()
        if self._stream and not self._as_events:
            raise InvalidRequestError(
                "a stream comes as events here; add `?alt=sse` to the path",
                code="unsupported_parameter",
                param="alt",
            )
        check_contents(fields)
        check_config(fields)
        size = len(body)
        demand = demand_of(fields, size, checked=True)
        return Ask(self, route, self._stream, True, fields, size, demand)

    def route(self) -> str:
        """The model in the path. Raises InvalidRequestError."""
        if not (0 < len(self._model) <= MAX_ROUTE_CHARS and self._model.isprintable()):
            raise wrong("model", f"1 to {MAX_ROUTE_CHARS} printable characters of the path")
        return self._model

    def demand(self, fields: Fields, body_bytes: int) -> Demand:
        """What bounds the cost of these fields, where a deployment changed the caller's."""
        return demand_of(fields, body_bytes, checked=False)

    def estimate(self, fields: Mapping[str, msgspec.Raw]) -> Usage:
        """The input's tokens, counted by us because no provider did."""
        return estimate_contents(fields)

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
        return openai_rate_headers(standing)

    def error_event(self, problem: Problem) -> bytes:
        """The event that a broken stream ends with."""
        return error_event(problem)


def check_contents(fields: Fields) -> None:
    """Check that there are contents. Raises InvalidRequestError."""
    raw = bytes(fields.get("contents", b""))
    if not raw or raw == b"null":
        raise missing("contents")
    if raw[:1] not in (b"[", b"{") or not raw.strip(b"[{ \t\r\n}]"):
        raise wrong("contents", "a non-empty array")
