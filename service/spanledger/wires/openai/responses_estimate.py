"""Counts the input of a request on the Responses API when no provider did: an estimate, no bound."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from spanledger.pricing.media import UNREADABLE, likely_media
from spanledger.pricing.usage import Usage, estimate_tokens
from spanledger.wires.openai.estimate import TOKENS_PER_MESSAGE

_TEXTS = ("arguments", "input", "output", "text", "encrypted_content")
_LISTS = ("content", "output", "summary")


def estimate_items(fields: Mapping[str, msgspec.Raw]) -> Usage:
    """Usage of what the request itself says, from its raw bytes where it cannot be decoded."""
    try:
        given = msgspec.json.decode(fields.get("input", b"null"))
        instructions = msgspec.json.decode(fields.get("instructions", b"null"))
        beside = [msgspec.json.decode(fields[n]) for n in ("tools", "text") if n in fields]
    except UNREADABLE:
        return Usage(estimate_tokens(sum(len(bytes(raw)) for raw in fields.values())))
    total = sum(estimate_tokens(len(msgspec.json.encode(value))) for value in beside if value)
    if isinstance(instructions, str) and instructions:
        total += TOKENS_PER_MESSAGE + _tokens(instructions)
    if isinstance(given, str):
        return Usage(total + TOKENS_PER_MESSAGE + _tokens(given))
    media, sound = likely_media(given)
    items = given if isinstance(given, list) else []
    total += sum(TOKENS_PER_MESSAGE + _item(item) for item in items)
    return Usage(total + media, audio_input_tokens=sound)


def _item(item: object) -> int:
    if not isinstance(item, dict):
        return 0
    size = sum(_tokens(item.get(name)) for name in _TEXTS)
    content = item.get("content")
    if isinstance(content, str):
        size += _tokens(content)
    for name in _LISTS:
        parts = item.get(name)
        size += sum(map(_item, parts)) if isinstance(parts, list) else 0
    return size


def _tokens(text: object) -> int:
    if not isinstance(text, str):
        return 0
    return estimate_tokens(len(text.encode("utf-8", "surrogatepass")))
