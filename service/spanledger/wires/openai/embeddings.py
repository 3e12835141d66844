"""OpenAI's embeddings: what is checked of a request, and how an answer is read."""

from __future__ import annotations

import msgspec

from spanledger.pricing.demand import Demand
from spanledger.pricing.media import bound_input
from spanledger.pricing.reported import from_openai
from spanledger.wires.base import Answer, Server
from spanledger.wires.failures import unreadable
from spanledger.wires.fields import DECODE_ERRORS, EMPTY_ARRAY, NULL, Fields, is_set, missing, wrong
from spanledger.wires.openai.answer import UsageField, decoded, no_answer
from spanledger.wires.openai.demand import TWICE


class _Embeddings(msgspec.Struct):
    id: str | int | None = None
    model: str | None = None
    data: list[msgspec.Raw] | None = None
    usage: UsageField = None
    error: msgspec.Raw = NULL


_EMBEDDINGS = msgspec.json.Decoder(_Embeddings)


def check_input(fields: Fields) -> None:
    """Check that there is something to embed. Raises InvalidRequestError."""
    raw = fields.get("input")
    if raw is None:
        raise missing("input")
    view = memoryview(raw)
    start = bytes(view[:2])
    if start[:1] not in (b"[", b'"') or start == b'""' or EMPTY_ARRAY.fullmatch(view):
        raise wrong("input", "a non-empty string or array")


def demand_of_texts(fields: Fields, body_bytes: int) -> Demand:
    """What bounds a request for embeddings: its input, since there is no output."""
    input_tokens, sound, repeated = bound_input(body_bytes, fields)
    demand = Demand(input_tokens, 0, 0, 1, input_tokens, sound=sound)
    if b"data:" in bytes(fields.get("input", b"")):
        demand.unbounded["input"] = "what is no text has another price; embed text"
    if repeated:
        demand.unbounded["input"] = TWICE.format(repeated)
    return demand


def read_embeddings(server: Server, body: bytes, provider_request_id: str) -> Answer:
    try:
        answer = decoded(_EMBEDDINGS, body)
    except DECODE_ERRORS:
        raise unreadable(server, body, "its answer is not what OpenAI's wire says") from None
    found = Answer(
        body=body,
        usage=from_openai(answer.usage),
        response_id=str(answer.id or ""),
        response_model=answer.model or "",
        provider_request_id=provider_request_id,
    )
    if is_set(answer.error) or not answer.data:
        raise no_answer(server, found, broken=is_set(answer.error))
    return found
