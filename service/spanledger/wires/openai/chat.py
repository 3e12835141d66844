"""The OpenAI wire on its way in: just enough of a body is read to route and price it.

Checks the few fields the gateway acts on and leaves every other value as raw bytes. No I/O.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from spanledger.errors import InvalidRequestError
from spanledger.wires.base import Operation
from spanledger.wires.fields import (
    MAX_ROUTE_CHARS,
    OBJECT,
    Fields,
    boolean,
    check_array,
    check_integer,
    wrong,
)
from spanledger.wires.openai.demand import MAX_OUTPUT_TOKENS, WATCHED
from spanledger.wires.openai.embeddings import check_input

MAX_CHOICES = 128

ACTED_ON = frozenset(
    {
        "model",
        "messages",
        "input",
        "stream",
        "stream_options",
        "max_tokens",
        "max_completion_tokens",
        "n",
        *WATCHED,
    }
)
"""Fields that decide where a request goes and what it may cost."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What the gateway itself acts on in a body."""

    stream: bool
    include_usage: bool


def check(fields: Fields, operation: Operation) -> Shape:
    """Check what the gateway relies on. Raises InvalidRequestError."""
    for name in fields:
        if name not in ACTED_ON:
            _check_spelling(name)
    if operation == "embeddings":
        check_input(fields)
        return Shape(stream=False, include_usage=False)
    check_array(fields, "messages")
    check_integer(fields, "max_tokens", MAX_OUTPUT_TOKENS)
    check_integer(fields, "max_completion_tokens", MAX_OUTPUT_TOKENS)
    check_integer(fields, "n", MAX_CHOICES)
    return Shape(boolean(fields, "stream", "stream"), _include_usage(fields))


def _check_spelling(name: str) -> None:
    """Some servers take `MAX_TOKENS` or `maxTokens` for `max_tokens`: we would hold for what the
    one says and send both."""
    meant = _SPELLED.get(_folded(name))
    if meant is not None:
        raise InvalidRequestError(
            f"write {meant!r} for {name[:MAX_ROUTE_CHARS]!r}", code="invalid_value", param=meant
        )


def _folded(name: str) -> str:
    return name.casefold().replace("_", "").replace("-", "")


_SPELLED = {_folded(name): name for name in ACTED_ON}


def _include_usage(fields: Fields) -> bool:
    raw = fields.get("stream_options")
    if raw is None or bytes(raw) == b"null":
        return False
    try:
        options = OBJECT.decode(raw)
    except msgspec.DecodeError:
        raise wrong("stream_options", "an object") from None
    return boolean(options, "include_usage", "stream_options.include_usage")
