"""OpenAI's moderations: what is checked of a request, and how an answer is read.

OpenAI charges nothing for them, and so says the price book. They report no usage, so their tokens are
an estimate.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from spanledger.pricing.demand import Demand
from spanledger.pricing.media import bound_input
from spanledger.pricing.reported import from_openai
from spanledger.pricing.usage import Usage
from spanledger.wires.base import Answer, Ask, Operation, Seen, Server, Written
from spanledger.wires.bounds import TWICE
from spanledger.wires.failures import unreadable
from spanledger.wires.fields import DECODE_ERRORS, NULL, Fields, decode, is_set, missing, route_of
from spanledger.wires.openai.answer import UsageField, decoded, no_answer
from spanledger.wires.openai.estimate import estimate_texts
from spanledger.wires.openai.inbound import OpenAIInbound
from spanledger.wires.openai.outbound import EmbeddingsOut
from spanledger.wires.openai.spelling import check_spelling

USUAL_MODEL = msgspec.Raw(b'"omni-moderation-latest"')
"""What OpenAI uses when a request names no model, as its client does unless told otherwise."""


class Moderations(OpenAIInbound):
    """The inbound wire."""

    name = "moderations"
    path = "/v1/moderations"
    operation: Operation = "moderation"

    end = b""

    def read(self, body: bytes) -> Ask:
        """Read a request and check what the gateway acts on. Raises InvalidRequestError."""
        fields = decode(body)
        if "model" not in fields:
            fields["model"] = USUAL_MODEL
        route = route_of(fields)
        check_spelling(fields)
        if "input" not in fields:
            raise missing("input")
        size = len(body)
        return Ask(self, route, fields=fields, body_bytes=size, demand=self.demand(fields, size))

    def demand(self, fields: Fields, body_bytes: int) -> Demand:
        """What bounds a request: its input, since nothing is generated."""
        bound = bound_input(body_bytes, fields)
        input_tokens, sound, repeated = bound.tokens, bound.sound, bound.repeated
        demand = Demand(input_tokens, 0, 0, 1, input_tokens, sound=sound)
        if repeated:
            demand.unbounded["input"] = TWICE.format(repeated)
        return demand

    def estimate(self, fields: Mapping[str, msgspec.Raw]) -> Usage:
        """The tokens of the texts, counted by us because no provider did."""
        return estimate_texts(fields)

    def attributes(self, fields: Mapping[str, msgspec.Raw]) -> dict[str, object]:
        """A request has no parameters."""
        del fields
        return {}


class ModerationsOut(EmbeddingsOut):
    """Moderations; they are not streamed."""

    name = "moderations"
    path = "/moderations"

    def answer(self, written: Written, body: bytes, seen: Seen) -> Answer:
        """A complete answer."""
        return read_moderation(written.out.deployment, body, seen.request_id)


class _Moderation(msgspec.Struct):
    id: str | int | None = None
    model: str | None = None
    results: list[msgspec.Raw] | None = None
    usage: UsageField = None
    error: msgspec.Raw = NULL


_MODERATION = msgspec.json.Decoder(_Moderation)


def read_moderation(server: Server, body: bytes, provider_request_id: str) -> Answer:
    """Read an answer. Raises ProviderError."""
    try:
        answer = decoded(_MODERATION, body)
    except DECODE_ERRORS:
        raise unreadable(server, body, "its answer is not in OpenAI's format") from None
    found = Answer(
        body=body,
        usage=from_openai(answer.usage),
        response_id=str(answer.id or ""),
        response_model=answer.model or "",
        provider_request_id=provider_request_id,
    )
    if is_set(answer.error) or not answer.results:
        raise no_answer(server, found, broken=is_set(answer.error))
    return found
