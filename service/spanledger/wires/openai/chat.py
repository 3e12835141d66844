"""Chat completions as callers send them: just enough of a body is read to route and price it.

Checks the few fields the gateway acts on and leaves every other value as raw bytes.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from spanledger.pricing.demand import Demand
from spanledger.pricing.usage import Usage
from spanledger.wires.base import Ask, Operation
from spanledger.wires.bounds import (
    MAX_CHOICES,
    MAX_OUTPUT_TOKENS,
    bounded,
    unchecked,
)
from spanledger.wires.fields import (
    OBJECT,
    Fields,
    boolean,
    check_array,
    decode,
    positive,
    route_of,
    wrong,
)
from spanledger.wires.openai.answer import END
from spanledger.wires.openai.attributes import CHAT_ATTRIBUTES, read_attributes
from spanledger.wires.openai.estimate import estimate_messages
from spanledger.wires.openai.inbound import OpenAIInbound
from spanledger.wires.openai.spelling import check_spelling


class Chat(OpenAIInbound):
    """The inbound wire."""

    name = "chat"
    path = "/v1/chat/completions"
    operation: Operation = "chat"

    end = END

    def read(self, body: bytes) -> Ask:
        """Read a request and check what the gateway acts on. Raises InvalidRequestError."""
        fields = decode(body)
        route = route_of(fields)
        check_spelling(fields)
        check_array(fields, "messages")
        old = positive(fields, "max_tokens", MAX_OUTPUT_TOKENS)
        new = positive(fields, "max_completion_tokens", MAX_OUTPUT_TOKENS)
        choices = positive(fields, "n", MAX_CHOICES)
        stream = boolean(fields, "stream", "stream")
        usage, size = include_usage(fields), len(body)
        return Ask(
            self, route, stream, usage, fields, size, bounded(fields, size, (new, old), choices)
        )

    def demand(self, fields: Fields, body_bytes: int) -> Demand:
        """What bounds the cost of these fields, where a deployment changed the caller's."""
        caps = unchecked(fields, "max_completion_tokens"), unchecked(fields, "max_tokens")
        return bounded(fields, body_bytes, caps, unchecked(fields, "n"))

    def estimate(self, fields: Mapping[str, msgspec.Raw]) -> Usage:
        """The prompt's tokens, counted by us because no provider did."""
        return estimate_messages(fields)

    def attributes(self, fields: Mapping[str, msgspec.Raw]) -> dict[str, object]:
        """The request's parameters under the names of the GenAI conventions."""
        return read_attributes(fields, CHAT_ATTRIBUTES)


def include_usage(fields: Fields) -> bool:
    """Whether the caller asks for a stream's usage. Raises InvalidRequestError."""
    raw = fields.get("stream_options")
    if raw is None or bytes(raw) == b"null":
        return False
    try:
        options = OBJECT.decode(raw)
    except msgspec.DecodeError:
        raise wrong("stream_options", "an object") from None
    return boolean(options, "include_usage", "stream_options.include_usage")
