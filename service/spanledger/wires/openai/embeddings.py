"""OpenAI's embeddings: what is checked of a request, and how an answer is read."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from spanledger.pricing.demand import Demand
from spanledger.pricing.media import bound_input, plainly
from spanledger.pricing.reported import from_openai
from spanledger.pricing.usage import TOTAL_ALONE, Usage
from spanledger.wires.base import Answer, Ask, Operation, Server
from spanledger.wires.bounds import TWICE
from spanledger.wires.failures import unreadable
from spanledger.wires.fields import (
    DECODE_ERRORS,
    EMPTY_ARRAY,
    NULL,
    Fields,
    decode,
    is_set,
    missing,
    route_of,
    wrong,
)
from spanledger.wires.openai.answer import UsageField, decoded, no_answer
from spanledger.wires.openai.attributes import EMBEDDINGS_ATTRIBUTES, read_attributes
from spanledger.wires.openai.estimate import estimate_texts
from spanledger.wires.openai.inbound import OpenAIInbound
from spanledger.wires.openai.spelling import check_spelling


class Embeddings(OpenAIInbound):
    """The inbound wire."""

    name = "embeddings"
    path = "/v1/embeddings"
    operation: Operation = "embeddings"

    end = b""

    def read(self, body: bytes) -> Ask:
        """Read a request and check what the gateway acts on. Raises InvalidRequestError."""
        fields = decode(body)
        route = route_of(fields)
        check_spelling(fields)
        _check_input(fields)
        size = len(body)
        return Ask(self, route, fields=fields, body_bytes=size, demand=_demand(fields, size))

    def demand(self, fields: Fields, body_bytes: int) -> Demand:
        """What bounds the cost of these fields, where a deployment changed the caller's."""
        return _demand(fields, body_bytes)

    def estimate(self, fields: Mapping[str, msgspec.Raw]) -> Usage:
        """The tokens of the texts, counted by us because no provider did."""
        return estimate_texts(fields)

    def attributes(self, fields: Mapping[str, msgspec.Raw]) -> dict[str, object]:
        """The request's parameters under the names of the GenAI conventions."""
        return read_attributes(fields, EMBEDDINGS_ATTRIBUTES)


class _Embeddings(msgspec.Struct):
    id: str | int | None = None
    model: str | None = None
    data: list[msgspec.Raw] | None = None
    usage: UsageField = None
    error: msgspec.Raw = NULL


_EMBEDDINGS = msgspec.json.Decoder(_Embeddings)


def _check_input(fields: Fields) -> None:
    """Check that there is something to embed. Raises InvalidRequestError."""
    raw = fields.get("input")
    if raw is None:
        raise missing("input")
    view = memoryview(raw)
    start = bytes(view[:2])
    if start[:1] not in (b"[", b'"') or start == b'""' or EMPTY_ARRAY.fullmatch(view):
        raise wrong("input", "a non-empty string or array")


def _demand(fields: Fields, body_bytes: int) -> Demand:
    """What bounds a request for embeddings: its input, since there is no output."""
    bound = bound_input(body_bytes, fields)
    input_tokens, sound, repeated = bound.tokens, bound.sound, bound.repeated
    demand = Demand(input_tokens, 0, 0, 1, input_tokens, sound=sound)
    demand.inputs = bytes(fields.get("input", b"")).count(b",") + 1  # or fewer
    if b"data:" in plainly(bytes(fields.get("input", b""))):
        demand.unbounded["input"] = "only text has a known price; embed text"
    if repeated:
        demand.unbounded["input"] = TWICE.format(repeated)
    return demand


def read_embeddings(server: Server, body: bytes, provider_request_id: str) -> Answer:
    """Read an answer. Only input is used: a total alone, as Voyage reports it, is input. Raises
    ProviderError."""
    try:
        answer = decoded(_EMBEDDINGS, body)
    except DECODE_ERRORS:
        raise unreadable(server, body, "its answer is not in OpenAI's format") from None
    usage = from_openai(answer.usage)
    if usage is not None and usage.ambiguity == TOTAL_ALONE:
        usage = Usage(usage.output_tokens, told_nano=usage.told_nano)
    found = Answer(
        body=body,
        usage=usage,
        response_id=str(answer.id or ""),
        response_model=answer.model or "",
        provider_request_id=provider_request_id,
    )
    if is_set(answer.error) or not answer.data:
        raise no_answer(server, found, broken=is_set(answer.error))
    return found
