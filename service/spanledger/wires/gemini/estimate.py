"""Counts a prompt's tokens when no provider did: an estimate at four bytes each, not a bound."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from spanledger.pricing.media import (
    LIKELY_AUDIO_BYTES_PER_TOKEN,
    LIKELY_FILE_TOKENS,
    LIKELY_IMAGE_TOKENS,
    UNREADABLE,
)
from spanledger.pricing.usage import Usage, estimate_tokens
from spanledger.wires.gemini.spelling import GoogleItem, objects, pick

_TOKENS_PER_CONTENT = 3


def estimate_contents(fields: Mapping[str, msgspec.Raw]) -> Usage:
    """Usage of the instruction, the contents and the tools; from raw bytes what cannot be decoded."""
    total = heard = 0
    for name in ("systemInstruction", "contents", "tools"):
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
            continue
        for content in objects(value):
            parts = [_part(part) for part in objects(content.get("parts"))]
            size = sum(text for text, _, _ in parts)
            total += _TOKENS_PER_CONTENT + estimate_tokens(size)
            total += sum(media for _, media, _ in parts)
            heard += sum(sound for _, _, sound in parts)
    return Usage(total, audio_input_tokens=heard)


def _part(part: GoogleItem) -> tuple[int, int, int]:
    """Bytes of text, tokens of anything else, and how many of these are audio."""
    text = part.get("text")
    if isinstance(text, str):
        return len(text.encode("utf-8", "surrogatepass")), 0, 0
    blob = pick(part, "inlineData")
    if isinstance(blob, dict):
        return 0, *_blob(blob)
    if pick(part, "fileData") is not None:
        return 0, LIKELY_FILE_TOKENS, 0
    spoken: Any = pick(part, "functionCall") or pick(part, "functionResponse")
    return (0 if spoken is None else len(msgspec.json.encode(spoken))), 0, 0


def _blob(blob: GoogleItem) -> tuple[int, int]:
    kind, data = pick(blob, "mimeType"), blob.get("data")
    size = len(data) if isinstance(data, str) else 0
    kind = kind if isinstance(kind, str) else ""
    if kind.startswith("image/"):
        return LIKELY_IMAGE_TOKENS, 0
    if kind.startswith(("audio/", "video/")):
        tokens = -(-size // LIKELY_AUDIO_BYTES_PER_TOKEN)
        return tokens, tokens if kind.startswith("audio/") else 0
    return estimate_tokens(size), 0
