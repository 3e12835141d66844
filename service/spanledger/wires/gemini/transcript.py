"""Contents and their answers in the message schema of the GenAI conventions.

What is not of the expected shape is left out, and nothing raises.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from spanledger.wires.base import Content
from spanledger.wires.fields import DECODE_ERRORS, JsonValue
from spanledger.wires.gemini.finish import finish_of
from spanledger.wires.gemini.spelling import GoogleItem, objects, pick

MOST_CANDIDATES = 128
"""Candidates of a stream that are followed."""


def content_of(
    fields: Mapping[str, msgspec.Raw], answer: bytes, events: Sequence[bytes]
) -> Content:
    """What was said, by the request and its answer, or by the events of a streamed one."""
    given: list[JsonValue] = [
        {"role": "system", "parts": _parts(content.get("parts"))}
        for content in objects(_decoded(fields.get("systemInstruction")))
    ]
    for content in objects(_decoded(fields.get("contents"))):
        role = "assistant" if content.get("role") == "model" else "user"
        given.append({"role": role, "parts": _parts(content.get("parts"))})
    payloads = [line[5:] for event in events for line in event.splitlines() if line[:5] == b"data:"]
    answers = payloads if events else [answer]
    return Content(given, _output(answers), _tools(_decoded(fields.get("tools"))))


def _output(answers: Sequence[bytes]) -> list[JsonValue]:
    parts: dict[int, list[JsonValue]] = {}
    ends: dict[int, str] = {}
    for data in map(_decoded, answers):
        for candidate in objects(data.get("candidates") if isinstance(data, dict) else None):
            index = candidate.get("index", 0)
            if not isinstance(index, int) or len(parts) >= MOST_CANDIDATES:
                continue
            content = candidate.get("content")
            said = _parts(content.get("parts")) if isinstance(content, dict) else []
            _join(parts.setdefault(index, []), said)
            if isinstance(reason := candidate.get("finishReason"), str):
                ends[index] = finish_of(reason)
    return [
        # A stream that did not finish has no reason.
        {"role": "assistant", "parts": said, "finish_reason": ends.get(index, "error")}
        for index, said in sorted(parts.items())
    ]


def _join(said: list[Any], more: list[Any]) -> None:
    """Add parts; a text that goes on is one text."""
    for part in more:
        last = said[-1] if said else {}
        if part["type"] in ("text", "reasoning") and last.get("type") == part["type"]:
            last["content"] += part["content"]
        else:
            said.append(part)


def _parts(value: Any) -> list[JsonValue]:
    return [part for one in objects(value) if (part := _part(one)) is not None]


def _part(part: GoogleItem) -> GoogleItem | None:
    if isinstance(text := part.get("text"), str):
        kind = "reasoning" if part.get("thought") is True else "text"
        return {"type": kind, "content": text} if text else None
    call, result = pick(part, "functionCall"), pick(part, "functionResponse")
    if isinstance(call, dict):
        named = {name: call[name] for name in ("id", "name") if name in call}
        return {"type": "tool_call", **named, "arguments": call.get("args")}
    if isinstance(result, dict):
        named = {"id": result.get("id") or result.get("name")}
        return {"type": "tool_call_response", **named, "response": result.get("response")}
    blob, file = pick(part, "inlineData"), pick(part, "fileData")
    if isinstance(blob, dict):
        kind = str(pick(blob, "mimeType"))[:64]
        size = len(str(blob.get("data") or ""))
        left = f"[left out, {size} bytes]"
        modality = kind.partition("/")[0]
        return {"type": "blob", "modality": modality, "mime_type": kind, "content": left}
    if isinstance(file, dict) and isinstance(uri := pick(file, "fileUri"), str):
        modality = str(pick(file, "mimeType")).partition("/")[0][:64]
        return {"type": "uri", "modality": modality, "uri": uri}
    return None


def _tools(value: Any) -> list[JsonValue]:
    found: list[JsonValue] = []
    for tool in objects(value):
        declared = pick(tool, "functionDeclarations")
        for function in objects(declared):
            kept: GoogleItem = {"type": "function"}
            kept |= {name: function[name] for name in ("name", "description") if name in function}
            schema = pick(function, "parametersJsonSchema") or function.get("parameters")
            if schema is not None:
                kept["parameters"] = schema
            found.append(kept)
        if declared is None:
            found += [{"type": name[:64]} for name in tool]
    return found


def _decoded(raw: msgspec.Raw | bytes | None) -> Any:
    if raw is None:
        return None
    try:
        return msgspec.json.decode(raw)
    except DECODE_ERRORS:
        return None
