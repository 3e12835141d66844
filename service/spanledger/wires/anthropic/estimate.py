"""Counts a prompt's tokens when no provider did: an estimate at four bytes each, not a bound."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from spanledger.pricing.media import UNREADABLE, likely_media
from spanledger.pricing.usage import Usage, estimate_tokens
from spanledger.wires.fields import among

_TOKENS_PER_MESSAGE = 3
_TEXTS = ("text", "thinking", "content", "data")
_DATA = frozenset({"image", "document", "redacted_thinking"})
"""Blocks with data instead of text; the first two are counted by their kind."""


def estimate_input(fields: Mapping[str, msgspec.Raw]) -> Usage:
    """Usage of the system prompt, the messages and the tools; from raw bytes what cannot be decoded."""
    total = 0
    for name in ("system", "tools", "messages"):
        raw = fields.get(name)
        if raw is None:
            continue
        try:
            value = msgspec.json.decode(raw)
        except UNREADABLE:
            total += estimate_tokens(len(bytes(raw)))
            continue
        if name == "tools":
            total += estimate_tokens(len(msgspec.json.encode(value))) if value else 0
        elif name == "system":
            total += _TOKENS_PER_MESSAGE + estimate_tokens(_text_bytes(value))
        else:
            total += _messages(value) + likely_media(value)[0]
    return Usage(total)


def _messages(value: object) -> int:
    messages = value if isinstance(value, list) else []
    return sum(
        _TOKENS_PER_MESSAGE + estimate_tokens(_text_bytes(message.get("content")))
        for message in messages
        if isinstance(message, dict)
    )


def _text_bytes(content: object) -> int:
    """Bytes of all texts and tool inputs in a block, a list of blocks, or a string."""
    if isinstance(content, str):
        return len(content.encode("utf-8", "surrogatepass"))
    if isinstance(content, list):
        return sum(map(_text_bytes, content))
    if not isinstance(content, dict) or among(content.get("type"), _DATA):
        return 0
    size = sum(_text_bytes(content.get(name)) for name in _TEXTS)
    return size + (len(msgspec.json.encode(content["input"])) if "input" in content else 0)
