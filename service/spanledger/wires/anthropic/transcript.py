"""Messages and their answers in the message schema of the GenAI conventions.

What is not of the expected shape is left out, and nothing raises.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from spanledger.wires.anthropic.answer import FINISH_REASONS
from spanledger.wires.anthropic.events import collected
from spanledger.wires.anthropic.turns import Block
from spanledger.wires.base import Content
from spanledger.wires.fields import DECODE_ERRORS, JsonValue

_FINISH_REASONS = {"tool_calls": "tool_call"}
_MODALITIES = {"image": "image", "document": "document"}


def content_of(
    fields: Mapping[str, msgspec.Raw], answer: bytes, events: Sequence[bytes]
) -> Content:
    """What was said, by the request and its answer, or by the events of a streamed one."""
    given: list[JsonValue] = []
    if parts := _parts(_decoded(fields.get("system"))):
        given.append({"role": "system", "parts": parts})
    for message in _objects(_decoded(fields.get("messages"))):
        role = message.get("role")
        parts = _parts(message.get("content"))
        given.append({"role": role if isinstance(role, str) else "user", "parts": parts})
    message = collected(events) if events else _decoded(answer)
    return Content(given, _output(message), _tools(_decoded(fields.get("tools"))))


def _output(message: Any) -> list[JsonValue]:
    if not isinstance(message, dict) or not isinstance(message.get("content"), list):
        return []
    stop = message.get("stop_reason")
    # A stream that did not finish has no reason.
    reason = FINISH_REASONS.get(stop, "stop") if isinstance(stop, str) else "error"
    parts = _parts(message["content"])
    return [
        {
            "role": "assistant",
            "parts": parts,
            "finish_reason": _FINISH_REASONS.get(reason, reason),
        }
    ]


def _parts(content: Any) -> list[JsonValue]:
    if isinstance(content, str):
        return [{"type": "text", "content": content}] if content else []
    return [part for block in _objects(content) if (part := _part(block)) is not None]


def _part(block: Block) -> Block | None:
    kind = block.get("type")
    match kind:
        case "text":
            return {"type": "text", "content": block.get("text") or ""}
        case "thinking":
            return {"type": "reasoning", "content": block.get("thinking") or ""}
        case "tool_use" | "server_tool_use":
            named = {name: block.get(name) for name in ("id", "name")}
            return {"type": "tool_call", **named, "arguments": block.get("input")}
        case "tool_result":
            return {
                "type": "tool_call_response",
                "id": block.get("tool_use_id"),
                "response": block.get("content"),
            }
        case "image" | "document":
            return _media(block, _MODALITIES[kind])
    return {"type": kind} if isinstance(kind, str) else None


def _media(block: Block, modality: str) -> Block:
    source = block.get("source")
    source = source if isinstance(source, dict) else {}
    if isinstance(url := source.get("url"), str):
        return {"type": "uri", "modality": modality, "uri": url}
    if isinstance(unique := source.get("file_id"), str):
        return {"type": "file", "modality": modality, "file_id": unique}
    if source.get("type") == "text" and isinstance(text := source.get("data"), str):
        return {"type": "text", "content": text}
    return {
        "type": "blob",
        "modality": modality,
        "mime_type": str(source.get("media_type"))[:64],
        "content": f"[left out, {len(str(source.get('data') or ''))} bytes]",
    }


def _tools(value: Any) -> list[JsonValue]:
    found: list[JsonValue] = []
    for tool in _objects(value):
        kind = tool.get("type")
        kept: Block = {"type": "function" if kind in (None, "custom") else kind}
        kept |= {name: tool[name] for name in ("name", "description") if name in tool}
        if "input_schema" in tool:
            kept["parameters"] = tool["input_schema"]
        found.append(kept)
    return found


def _decoded(raw: msgspec.Raw | bytes | None) -> Any:
    if raw is None:
        return None
    try:
        return msgspec.json.decode(raw)
    except DECODE_ERRORS:
        return None


def _objects(value: Any) -> list[Block]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
