"""Token counting of Google's API: contents, or a whole request, answered by a number."""

from __future__ import annotations

import msgspec

from spanledger.wires.base import Ask, Inbound, Outgoing
from spanledger.wires.fields import DECODE_ERRORS, NULL, Fields, decode, is_set
from spanledger.wires.gemini.inbound import GenerateContent, check_contents
from spanledger.wires.gemini.spelling import OWN, spelled

_WHOLE = ("generateContentRequest", "generate_content_request")


class _Count(msgspec.Struct, rename="camel"):
    total_tokens: int


_COUNT = msgspec.json.Decoder(_Count)


class CountContents:
    """The side path, for one model."""

    path = "/v1beta/models/{model}:countTokens"
    sent_to = "/models/{model}:countTokens"

    def __init__(self, wire: GenerateContent) -> None:
        self.wire: Inbound = wire
        self._named = wire

    def read(self, body: bytes) -> Ask:
        """Read a request. Raises InvalidRequestError."""
        fields = decode(body)
        inner = next((fields[name] for name in _WHOLE if name in fields), NULL)
        if is_set(inner):
            fields = decode(bytes(inner))
        fields, route = spelled(fields), self._named.route()
        check_contents(fields)
        return Ask(self.wire, route, fields=fields, body_bytes=len(body))

    def request(self, out: Outgoing) -> bytes:
        """The caller's request for the deployment's model."""
        fields: dict[str, object] = {n: raw for n, raw in out.fields.items() if n in OWN}
        if fields.keys() == {"contents"}:
            return msgspec.json.encode(fields)
        named = {**fields, "model": f"models/{out.deployment.model}"}
        return msgspec.json.encode({_WHOLE[0]: named})

    def eased(self, out: Outgoing, status: int, body: bytes) -> Fields | None:
        """No refusal is known that can be overcome."""
        del out, status, body
        return None

    def is_count(self, body: bytes) -> bool:
        """Whether an answer is a count."""
        try:
            return _COUNT.decode(body).total_tokens >= 0
        except DECODE_ERRORS:
            return False

    def estimated(self, ask: Ask) -> bytes:
        """The answer with our own count."""
        return msgspec.json.encode(_Count(self.wire.estimate(ask.fields).input_tokens))
