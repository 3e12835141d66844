"""A request's parameters as attributes of its span, by the names of the GenAI conventions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import msgspec

from spanledger.wires.base import INT64, MAX_ITEMS, MAX_TEXT
from spanledger.wires.fields import DECODE_ERRORS

T = TypeVar("T")


class _Format(msgspec.Struct):
    type: str = ""


class _Config(msgspec.Struct):
    effort: str | None = None
    format: _Format | None = None


class _Metadata(msgspec.Struct):
    session_id: str = ""


_NUMBERS = ("temperature", "top_p", "top_k")


def attributes_of(fields: Mapping[str, msgspec.Raw]) -> dict[str, object]:
    """The attributes of these fields; a field of an unexpected type is left out."""
    found: dict[str, object] = {}
    cap = _read(fields, "max_tokens", int)
    if cap is not None and cap in INT64:
        found["gen_ai.request.max_tokens"] = cap
    for name in _NUMBERS:
        if (number := _read(fields, name, float)) is not None:
            found[f"gen_ai.request.{name}"] = number
    if stop := _read(fields, "stop_sequences", list[str]):
        found["gen_ai.request.stop_sequences"] = [text[:MAX_TEXT] for text in stop[:MAX_ITEMS]]
    config = _read(fields, "output_config", _Config)
    if config is not None and config.effort:
        found["gen_ai.request.reasoning.level"] = config.effort[:MAX_TEXT]
    if config is not None and config.format is not None and config.format.type == "json_schema":
        found["gen_ai.output.type"] = "json"
    metadata = _read(fields, "metadata", _Metadata)
    if metadata is not None and metadata.session_id:
        found["gen_ai.conversation.id"] = metadata.session_id[:MAX_TEXT]
    return found


def _read(fields: Mapping[str, msgspec.Raw], name: str, kind: type[T]) -> T | None:
    try:
        return msgspec.json.decode(fields[name], type=kind)
    except (KeyError, *DECODE_ERRORS):
        return None
