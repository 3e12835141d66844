"""What bounds the cost of a `generateContent` request, read off its fields.

Its cap counts thoughts as well. Functions run at the caller; every other tool runs at Google.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from spanledger.errors import InvalidRequestError
from spanledger.pricing.demand import Demand
from spanledger.pricing.media import (
    AUDIO_BYTES_PER_TOKEN,
    FILE_TOKENS,
    IMAGE_TOKENS,
    UNREADABLE,
    WINDOW_TOKENS,
    decode_noting_repeats,
    hides_letters,
)
from spanledger.wires.bounds import (
    MAX_CHOICES,
    MAX_OUTPUT_TOKENS,
    TOOL_TOKENS,
    TWICE,
    bounded,
)
from spanledger.wires.fields import DECODE_ERRORS, OBJECT, Fields, is_set, wrong
from spanledger.wires.gemini.spelling import OWN, GoogleItem, objects, pick, whole

_MAY_HOLD_MEDIA = re.compile(rb"(?:inline|file)_?[dD]ata")
_FUNCTIONS = ("functionDeclarations", "function_declarations")
_CHATS_CAPS = ("max_tokens", "max_completion_tokens")
_USUAL_SERVICES = ("", "standard", "unspecified", "service_tier_unspecified", "default", "auto")
_STORED = "the provider also reads what it has stored; send the contents"
_PICTURES = "it can make images, whose number nothing bounds; leave them out"


def demand_of(fields: Fields, body_bytes: int, *, checked: bool) -> Demand:
    """What bounds these fields. `checked`: the caller's own, so that mistakes are told.

    Raises:
        InvalidRequestError: a cap or a number of candidates is not what it should be.
    """
    config = config_of(fields)
    cap = _number(config, "maxOutputTokens", MAX_OUTPUT_TOKENS, checked=checked)
    choices = _number(config, "candidateCount", MAX_CHOICES, checked=checked)
    beside = {name: raw for name, raw in fields.items() if name not in OWN}
    if cap is None:
        cap = next(filter(None, (_own_cap(beside, name) for name in _CHATS_CAPS)), None)
    demand = bounded(beside, body_bytes, (cap, None), choices)
    _read_contents(demand, fields)
    _read_tools(demand, fields)
    _read_modalities(demand, pick(config, "responseModalities"))
    if is_given(fields, "cachedContent"):
        demand.unbounded["cachedContent"] = _STORED
    if is_given(fields, "serviceTier"):
        tier = _text(fields["serviceTier"]).lower()
        demand.services["service_tier"] = "" if tier in _USUAL_SERVICES else tier
    demand.tokens = demand.input_tokens + demand.usual * demand.choices
    return demand


def config_of(fields: Fields) -> GoogleItem:
    """The settings of a request; empty where they are none."""
    raw = fields.get("generationConfig")
    try:
        found = None if raw is None else msgspec.json.decode(raw)
    except DECODE_ERRORS:
        found = None
    return found if isinstance(found, dict) else {}


def is_given(fields: Fields, name: str) -> bool:
    """Whether a field is there and not null."""
    return name in fields and is_set(fields[name])


def _number(config: GoogleItem, name: str, most: int, *, checked: bool) -> int | None:
    value = pick(config, name)
    if value is None:
        return None
    number = whole(value)
    if number is not None and 0 < number <= most:
        return number
    if checked:
        raise wrong(f"generationConfig.{name}", f"an integer from 1 to {most}")
    return None


def _own_cap(fields: Fields, name: str) -> int | None:
    """A deployment's own cap, by its name in a chat."""
    try:
        value = whole(msgspec.json.decode(fields[name]))
    except (KeyError, *DECODE_ERRORS):
        return None
    return min(value, MAX_OUTPUT_TOKENS) if value else None


def _read_contents(demand: Demand, fields: Fields) -> None:
    """Parts that are not text count by their kind in place of their base64."""
    for name in ("contents", "systemInstruction"):
        raw = bytes(fields.get(name, b""))
        if not (_MAY_HOLD_MEDIA.search(raw) or hides_letters(raw)):
            continue
        try:
            content, twice = decode_noting_repeats(raw)
            tokens, sound = _media(content)
        except UNREADABLE:
            tokens, sound, twice = WINDOW_TOKENS, True, ""
        demand.input_tokens += tokens
        demand.sound = demand.sound or sound
        if twice:
            demand.unbounded[name] = TWICE.format(twice)


def _media(content: Any) -> tuple[int, bool]:
    """Tokens of all parts that are not text, at any depth, and whether some may be audio."""
    if isinstance(content, list):
        found = [_media(item) for item in content]
        return sum(tokens for tokens, _ in found), any(sound for _, sound in found)
    if not isinstance(content, dict):
        return 0, False
    total, heard = 0, False
    for name, value in content.items():
        if name in ("inlineData", "inline_data") and isinstance(value, dict):
            tokens, sound = _inline(value)
        elif name in ("fileData", "file_data") and isinstance(value, dict):
            tokens, sound = WINDOW_TOKENS, not _kind(value).startswith("image/")
        else:
            tokens, sound = _media(value)
        total, heard = total + tokens, heard or sound
    return total, heard


def _inline(blob: GoogleItem) -> tuple[int, bool]:
    data = blob.get("data")
    size, kind = len(data) if isinstance(data, str) else 0, _kind(blob)
    if kind.startswith("image/"):
        return IMAGE_TOKENS - size, False
    if kind.startswith("audio/"):
        return -(-size // AUDIO_BYTES_PER_TOKEN) - size, True
    if kind.startswith("text/"):
        return 0, False
    return (FILE_TOKENS, False) if kind == "application/pdf" else (WINDOW_TOKENS, True)


def _kind(blob: GoogleItem) -> str:
    kind = pick(blob, "mimeType")
    return kind.lower() if isinstance(kind, str) else ""


def _read_tools(demand: Demand, fields: Fields) -> None:
    """The tools are sent as they were read: of a key that one has twice, the value that was checked."""
    if not is_given(fields, "tools"):
        return
    try:
        tools = msgspec.json.decode(fields["tools"])
    except DECODE_ERRORS:
        tools = None
    if not isinstance(tools, list | dict):
        demand.unbounded["tools"] = "'tools' must be an array of objects"
        return
    for tool in objects(tools):
        for name, value in tool.items():
            if name in _FUNCTIONS:
                demand.input_tokens += TOOL_TOKENS * len(objects(value))
            else:
                demand.unbounded["tools"] = f"{name[:64]!r} runs at the provider; use functions"
    fields["tools"] = msgspec.Raw(msgspec.json.encode(tools))


def _read_modalities(demand: Demand, value: Any) -> None:
    kinds = {str(kind).upper() for kind in value} if isinstance(value, list) else set()
    if "AUDIO" in kinds:
        demand.speech = True
    if kinds - {"AUDIO", "TEXT"}:
        demand.unbounded["responseModalities"] = _PICTURES


def _text(raw: msgspec.Raw) -> str:
    try:
        return msgspec.json.decode(raw, type=str)
    except DECODE_ERRORS:
        return "?"


def check_config(fields: Fields) -> None:
    """Check that the settings are an object. Raises InvalidRequestError."""
    raw = fields.get("generationConfig")
    if raw is None or not is_set(raw):
        return
    try:
        OBJECT.decode(raw)
    except DECODE_ERRORS:
        raise InvalidRequestError(
            "'generationConfig' must be an object", code="invalid_value", param="generationConfig"
        ) from None
