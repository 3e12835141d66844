"""Token counting of the Messages API: a request without `max_tokens`, answered by a number."""

from __future__ import annotations

import msgspec

from spanledger.wires.anthropic.estimate import estimate_input
from spanledger.wires.anthropic.thinking import eased
from spanledger.wires.base import Ask, Inbound, Outgoing
from spanledger.wires.fields import DECODE_ERRORS, Fields, check_array, decode, route_of


class _Count(msgspec.Struct):
    input_tokens: int


_COUNT = msgspec.json.Decoder(_Count)


class CountTokens:
    """The side path."""

    path = sent_to = "/v1/messages/count_tokens"

    def __init__(self, wire: Inbound) -> None:
        self.wire = wire

    def read(self, body: bytes) -> Ask:
        """Read a request. Raises InvalidRequestError."""
        fields = decode(body)
        route = route_of(fields)
        check_array(fields, "messages")
        return Ask(self.wire, route, fields=fields, body_bytes=len(body))

    def request(self, out: Outgoing) -> bytes:
        """The caller's body with the deployment's model. Nothing is added to it: the API refuses
        fields that have no part in the input, such as a default temperature."""
        model = msgspec.Raw(msgspec.json.encode(out.deployment.model))
        return msgspec.json.encode({**out.fields, "model": model})

    def eased(self, out: Outgoing, status: int, body: bytes) -> Fields | None:
        """As for a message, which is counted as it will be sent."""
        return eased(out, status, body)

    def is_count(self, body: bytes) -> bool:
        """Whether an answer is a count."""
        try:
            return _COUNT.decode(body).input_tokens >= 0
        except DECODE_ERRORS:
            return False

    def estimated(self, ask: Ask) -> bytes:
        """The answer with our own count."""
        return msgspec.json.encode(_Count(estimate_input(ask.fields).input_tokens))
