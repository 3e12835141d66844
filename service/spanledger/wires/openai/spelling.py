"""Other spellings of the fields that money depends on are refused."""

from __future__ import annotations

from spanledger.errors import InvalidRequestError
from spanledger.wires.bounds import WATCHED
from spanledger.wires.fields import MAX_ROUTE_CHARS, Fields

ACTED_ON = frozenset(
    {
        "model",
        "messages",
        "input",
        "prompt",
        "query",
        "documents",
        "stream",
        "stream_options",
        "max_tokens",
        "max_completion_tokens",
        "n",
        "size",
        "quality",
        "partial_images",
        "chunking_strategy",
        *WATCHED,
    }
)
"""Fields that decide where a request goes and what it may cost."""


def check_spelling(fields: Fields) -> None:
    """Refuse other spellings. Raises InvalidRequestError.

    Some servers accept `MAX_TOKENS` or `maxTokens` for `max_tokens`: we would hold for one value and
    send both.
    """
    for name in fields:
        if name in ACTED_ON:
            continue
        meant = _SPELLED.get(_folded(name))
        if meant is not None:
            raise InvalidRequestError(
                f"write {meant!r} for {name[:MAX_ROUTE_CHARS]!r}", code="invalid_value", param=meant
            )


def _folded(name: str) -> str:
    return name.casefold().replace("_", "").replace("-", "")


_SPELLED = {_folded(name): name for name in ACTED_ON}
