"""Counts a prompt's tokens when no provider did: the slow path of attempts without reported usage.

An estimate, not a bound: a token is four bytes of text, as everywhere (`pricing.usage`), and anything
but text counts by its kind (`pricing.media`).
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from spanledger.pricing.media import UNREADABLE, likely_media
from spanledger.pricing.usage import Usage, estimate_tokens

TOKENS_PER_MESSAGE = 3
_BESIDE = ("tools", "functions", "response_format")
"""What a model reads in addition to the messages."""


def estimate_messages(fields: Mapping[str, msgspec.Raw]) -> Usage:
    """Usage of a chat's prompt, from its raw bytes if it cannot be decoded."""
    content = _content(fields.get("messages"))
    if isinstance(content, Usage):
        return content
    total = sum(_message(message) for message in _objects(content))
    total += sum(_beside(fields, name) for name in _BESIDE)
    media, sound = likely_media(content)
    return Usage(total + media, audio_input_tokens=sound)


def estimate_texts(fields: Mapping[str, msgspec.Raw]) -> Usage:
    """Usage of texts to embed, from their raw bytes if they cannot be decoded."""
    content = _content(fields.get("input"))
    return content if isinstance(content, Usage) else Usage(_embedded(content))


def _content(raw: msgspec.Raw | None) -> object:
    """The decoded field, or the usage to assume if it is absent or cannot be decoded."""
    if raw is None:
        return Usage()
    try:
        return msgspec.json.decode(raw)
    except UNREADABLE:
        return Usage(estimate_tokens(len(memoryview(raw))))


def _beside(fields: Mapping[str, msgspec.Raw], name: str) -> int:
    """Tokens of a field, counted on its JSON without white space; 0 if it is empty."""
    raw = fields.get(name)
    if raw is None:
        return 0
    try:
        value = msgspec.json.decode(raw)
    except UNREADABLE:
        return estimate_tokens(len(memoryview(raw)))
    return estimate_tokens(len(msgspec.json.encode(value))) if value else 0


def _message(message: dict[str, object]) -> int:
    content = message.get("content")
    if isinstance(content, str):
        size = _bytes(content)
    else:
        size = sum(_bytes(part.get("text")) for part in _objects(content))
    arguments = 0
    for call in _objects(message.get("tool_calls")):
        function = call.get("function")
        if isinstance(function, dict):
            arguments += estimate_tokens(_bytes(function.get("arguments")))
    return TOKENS_PER_MESSAGE + estimate_tokens(size) + arguments


def _embedded(content: object) -> int:
    """Tokens of a text, a list of texts, a list of tokens, or a list of such lists."""
    if not isinstance(content, list):
        return estimate_tokens(_bytes(content))
    total = 0
    for item in content:
        if isinstance(item, str):
            total += estimate_tokens(_bytes(item))
        else:
            total += len(item) if isinstance(item, list) else 1
    return total


def _bytes(text: object) -> int:
    return len(text.encode("utf-8", "surrogatepass")) if isinstance(text, str) else 0


def _objects(value: object) -> list[dict[str, object]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
