"""The Responses API's items and events in the message schema of the GenAI conventions.

The schema is that of v1.41. What is not of the expected shape is left out, and nothing raises.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from spanledger.wires.base import Content
from spanledger.wires.fields import DECODE_ERRORS, JsonValue
from spanledger.wires.openai.transcript import blob_part, media_part

_Json = dict[str, JsonValue]
_ENDS = ("response.completed", "response.incomplete", "response.failed")
_REASONS = {"max_output_tokens": "length", "content_filter": "content_filter"}


def response_content(
    fields: Mapping[str, msgspec.Raw], answer: bytes, events: Sequence[bytes]
) -> Content:
    """What was said, by the request and its answer, or by the events of a streamed one."""
    response = _streamed(events) if events else _object(_decoded(answer))
    spoken: list[JsonValue] = []
    if instructions := _string(_decoded(fields.get("instructions"))):
        spoken.append({"role": "system", "parts": [_text(instructions)]})
    given = _decoded(fields.get("input"))
    if isinstance(given, str):
        spoken.append({"role": "user", "parts": [_text(given)]})
    spoken += [_message(item) for item in _objects(given)]
    return Content(spoken, _output(response), _tools(_decoded(fields.get("tools"))))


def _output(response: _Json) -> list[JsonValue]:
    """The answer's items as one message."""
    items = _objects(response.get("output"))
    if not items:
        return []
    parts = [part for item in items for part in _parts(item)]
    called = any(item.get("type") == "function_call" for item in items)
    reason = "tool_call" if called else "stop"
    if response.get("status") not in ("completed", None):
        why = _object(response.get("incomplete_details")).get("reason")
        reason = _REASONS.get(_string(why), "error")
    return [{"role": "assistant", "parts": parts, "finish_reason": reason}]


def _streamed(events: Sequence[bytes]) -> _Json:
    """The answer that the last event has; of a stream that broke, its items so far."""
    done: list[JsonValue] = []
    pieces: dict[str, list[str]] = {}
    for event in events:
        data = _event(event)
        kind = _string(data.get("type"))
        if kind in _ENDS:
            return _object(data.get("response"))
        if kind == "response.output_item.done":
            done.append(data.get("item"))
            pieces.clear()
        elif kind.endswith(".delta"):
            pieces.setdefault(kind, []).append(_string(data.get("delta")))
    for kind, texts in pieces.items():
        name = "arguments" if "arguments" in kind else "text"
        done.append({"type": "message", "content": [{"type": "output_text", name: "".join(texts)}]})
    return {"status": "error", "output": done}


def _event(event: bytes) -> _Json:
    data = [line[5:].strip() for line in event.splitlines() if line.startswith(b"data:")]
    return _object(_decoded(b"\n".join(data))) if data else {}


def _message(item: _Json) -> _Json:
    kind = _string(item.get("type")) or "message"
    if kind.endswith("_output"):
        role = "tool"
    else:
        role = _string(item.get("role")) or ("user" if kind == "message" else "assistant")
    return {"role": role, "parts": _parts(item)}


def _parts(item: _Json) -> list[JsonValue]:
    """The parts of one item."""
    kind = _string(item.get("type")) or "message"
    if kind == "message":
        content = item.get("content")
        if isinstance(content, str):
            return [_text(content)]
        return [_part(part) for part in _objects(content)]
    if kind == "reasoning":
        texts = [*_objects(item.get("summary")), *_objects(item.get("content"))]
        return [{"type": "reasoning", "content": _string(text.get("text"))} for text in texts]
    if kind in ("function_call", "custom_tool_call"):
        given = item.get("arguments", item.get("input"))
        arguments = _decoded(given) if isinstance(given, str) else given
        part: _Json = {"type": "tool_call", "name": _string(item.get("name"))}
        part["id"] = item.get("call_id")
        if arguments is not None or given:
            part["arguments"] = given if arguments is None else arguments
        return [part]
    if kind.endswith("_output"):
        return [
            {
                "type": "tool_call_response",
                "id": item.get("call_id"),
                "response": item.get("output"),
            }
        ]
    return [{**item, "type": kind}]


def _part(part: _Json) -> _Json:
    match part.get("type"):
        case "input_text" | "output_text" | "text":
            return _text(_string(part.get("text")))
        case "refusal":
            return {"type": "refusal", "content": _string(part.get("refusal"))}
        case "input_image" if part.get("image_url"):
            return media_part("image", _string(part.get("image_url")))
        case "input_file" if part.get("file_data"):
            data = _string(part.get("file_data"))
            return (
                media_part("document", data)
                if data.startswith("data:")
                else blob_part("document", "unknown", len(data))
            )
        case kind:
            return {**part, "type": _string(kind) or "unknown"}


def _tools(tools: JsonValue) -> list[JsonValue]:
    names = ("name", "description", "parameters")
    return [
        {
            "type": _string(tool.get("type")) or "function",
            **{n: tool[n] for n in names if n in tool},
        }
        for tool in _objects(tools)
    ]


def _decoded(raw: msgspec.Raw | bytes | str | None) -> JsonValue:
    if raw is None:
        return None
    try:
        return msgspec.json.decode(raw)
    except DECODE_ERRORS:
        return None


def _objects(value: JsonValue) -> list[_Json]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _object(value: JsonValue) -> _Json:
    return value if isinstance(value, dict) else {}


def _string(value: JsonValue) -> str:
    return value if isinstance(value, str) else ""


def _text(content: str) -> _Json:
    return {"type": "text", "content": content}
