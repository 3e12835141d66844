"""Token counting of the Responses API: a request's input and tools, answered by a number."""

from __future__ import annotations

import msgspec

from spanledger.wires.answer_ids import answer_id
from spanledger.wires.base import Ask, Inbound, Outgoing
from spanledger.wires.compactions import maker_of, unmarked
from spanledger.wires.fields import DECODE_ERRORS, Fields, decode, is_set, route_of
from spanledger.wires.openai.responses import check_input, followed


class _Count(msgspec.Struct):
    input_tokens: int
    object: str = "response.input_tokens"


_COUNT = msgspec.json.Decoder(_Count)


class InputTokens:
    """The side path."""

    path = "/v1/responses/input_tokens"
    sent_to = "/responses/input_tokens"

    def __init__(self, wire: Inbound) -> None:
        self.wire = wire

    def read(self, body: bytes) -> Ask:
        """Read a request. Raises InvalidRequestError."""
        fields = decode(body)
        route = route_of(fields)
        check_input(fields)
        ask = Ask(self.wire, route, fields=fields, body_bytes=len(body))
        ask.follows, ask.bound_to = followed(fields), maker_of(fields.get("input"))
        return ask

    def request(self, out: Outgoing) -> bytes:
        """The caller's body with the deployment's model, and the provider's id of the answer that it
        continues. Nothing is added: the API refuses fields that have no part in the input."""
        fields: dict[str, object] = {**out.fields, "model": out.deployment.model}
        if (given := out.fields.get("input")) is not None:
            fields["input"] = unmarked(given)
        raw = out.fields.get("previous_response_id")
        if raw is not None and is_set(raw):
            known = answer_id(msgspec.json.decode(raw, type=str))
            if known is not None:
                fields["previous_response_id"] = known.provider_id
        return msgspec.json.encode(fields)

    def eased(self, out: Outgoing, status: int, body: bytes) -> Fields | None:
        """No refusal is known that can be overcome."""
        del out, status, body
        return None

    def is_count(self, body: bytes) -> bool:
        """Whether an answer is a count."""
        try:
            return _COUNT.decode(body).input_tokens >= 0
        except DECODE_ERRORS:
            return False

    def estimated(self, ask: Ask) -> bytes:
        """The answer with our own count, and what the answer that it continues was made of."""
        tokens = self.wire.estimate(ask.fields).input_tokens + ask.demand.tokens
        return msgspec.json.encode(_Count(tokens))
