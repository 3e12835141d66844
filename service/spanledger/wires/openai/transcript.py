"""OpenAI's messages, answers and stream events in the message schema of the GenAI conventions.

The schema is that of v1.41: `[{"role": …, "parts": [{"type": "text", "content": …}, …]}]`. What is
not of the expected shape is left out, and nothing raises.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from spanledger.wires.base import Content
from spanledger.wires.fields import JsonValue

Json = dict[str, JsonValue]

MAX_FOLLOWED = 128
"""Choices and tool calls of a stream that are followed."""

_FINISH_REASONS = {"tool_calls": "tool_call", "function_call": "tool_call"}


def _decoded(raw: msgspec.Raw | bytes | str | None) -> JsonValue:
    if raw is None:
        return None
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _objects(value: JsonValue) -> list[Json]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _object(value: JsonValue) -> Json:
    return value if isinstance(value, dict) else {}


def _string(value: JsonValue) -> str:
    return value if isinstance(value, str) else ""


def content_of(
    fields: Mapping[str, msgspec.Raw], answer: bytes, events: Sequence[bytes]
) -> Content:
    """What was said, by the request and its answer, or by the events of a streamed one."""
    output = streamed_messages(events) if events else answer_messages(answer)
    return Content(input_messages(fields), output, tools(fields))


def input_messages(fields: Mapping[str, msgspec.Raw]) -> list[JsonValue]:
    """`gen_ai.input.messages` of a request; for embeddings, its texts as one message.

    System messages stay among them: this wire has no separate place for instructions, and
    `gen_ai.system_instructions` is for those that have.
    """
    if "messages" in fields:
        return [_message(message) for message in _objects(_decoded(fields["messages"]))]
    texts = _decoded(fields.get("input"))
    parts = [
        _text(t) for t in (texts if isinstance(texts, list) else [texts]) if isinstance(t, str)
    ]
    return [{"role": "user", "parts": parts}] if parts else []


def tools(fields: Mapping[str, msgspec.Raw]) -> list[JsonValue]:
    """`gen_ai.tool.definitions` of a request."""
    found: list[JsonValue] = []
    for tool in _objects(_decoded(fields.get("tools"))):
        function = _object(tool.get(_string(tool.get("type")) or "function"))
        kept: Json = {"type": _string(tool.get("type")) or "function"}
        kept |= {k: function[k] for k in ("name", "description", "parameters") if k in function}
        found.append(kept)
    return found


def answer_messages(body: bytes) -> list[JsonValue]:
    """`gen_ai.output.messages` of a complete answer; empty for embeddings."""
    choices = _objects(_object(_decoded(body)).get("choices"))
    return [
        _output(_object(choice.get("message")), _string(choice.get("finish_reason")))
        for choice in choices
    ]


def streamed_messages(events: Sequence[bytes]) -> list[JsonValue]:
    """`gen_ai.output.messages` of a stream: the joined deltas of each choice.

    A choice that the stream did not finish has the reason `error`.
    """
    choices: dict[int, _Streamed] = {}
    for event in events:
        for data in _data_lines(event):
            for choice in _objects(_object(_decoded(data)).get("choices")):
                index = choice.get("index", 0)
                if not isinstance(index, int) or len(choices) >= MAX_FOLLOWED:
                    continue
                choices.setdefault(index, _Streamed()).add(choice)
    return [
        _output(choice.message(), choice.finish_reason or "error")
        for _, choice in sorted(choices.items(), key=lambda item: item[0])
    ]


def _data_lines(event: bytes) -> list[bytes]:
    return [
        line.removeprefix(b"data:").strip()
        for line in event.splitlines()
        if line.startswith(b"data:") and not line.endswith(b"[DONE]")
    ]


class _Streamed:
    """One choice of a stream, up to the last event seen."""

    def __init__(self) -> None:
        self.finish_reason = ""
        self._texts: dict[str, list[str]] = {"content": [], "reasoning_content": [], "refusal": []}
        self._calls: dict[int, tuple[Json, list[str]]] = {}

    def add(self, choice: Json) -> None:
        delta = _object(choice.get("delta"))
        for name, pieces in self._texts.items():
            if piece := _string(delta.get(name)):
                pieces.append(piece)
        for call in _objects(delta.get("tool_calls")):
            self._add_call(call)
        self.finish_reason = _string(choice.get("finish_reason")) or self.finish_reason

    def _add_call(self, call: Json) -> None:
        index = call.get("index", 0)
        if not isinstance(index, int) or len(self._calls) >= MAX_FOLLOWED:
            return
        known, arguments = self._calls.setdefault(index, ({}, []))
        called, field = _called(call)
        if "id" in call:
            known["id"] = call["id"]
        if name := _string(called.get("name")):
            known["name"] = name
        if piece := _string(called.get(field)):
            known["field"] = field
            arguments.append(piece)

    def message(self) -> Json:
        message: Json = {name: "".join(pieces) for name, pieces in self._texts.items() if pieces}
        calls: list[JsonValue] = []
        message["tool_calls"] = calls
        for _, (known, arguments) in sorted(self._calls.items(), key=lambda item: item[0]):
            field = _string(known.get("field")) or "arguments"
            kind = "custom" if field == "input" else "function"
            called: Json = {"name": known.get("name"), field: "".join(arguments)}
            calls.append({"id": known.get("id"), kind: called})
        return message


def _text(content: str) -> Json:
    return {"type": "text", "content": content}


def _message(message: Json) -> Json:
    role = _string(message.get("role")) or "user"
    if role == "tool":
        part = {"type": "tool_call_response", "response": message.get("content")}
        if "tool_call_id" in message:
            part["id"] = message["tool_call_id"]
        return {"role": role, "parts": [part]}
    return {"role": role, "parts": _parts(message)}


def _output(message: Json, finish_reason: str) -> Json:
    return {
        "role": "assistant",
        "parts": _parts(message),
        "finish_reason": _FINISH_REASONS.get(finish_reason, finish_reason),
    }


def _parts(message: Json) -> list[JsonValue]:
    content = message.get("content")
    parts: list[JsonValue] = []
    if isinstance(content, str):
        parts.append(_text(content))
    parts += [_block(block) for block in _objects(content)]
    for name, kind in (("refusal", "refusal"), ("reasoning_content", "reasoning")):
        if text := _string(message.get(name)):
            parts.append({"type": kind, "content": text})
    calls = _objects(message.get("tool_calls"))
    if legacy := _object(message.get("function_call")):
        calls.append({"function": legacy})
    parts += [_tool_call(call) for call in calls]
    return parts


def _called(call: Json) -> tuple[Json, str]:
    """What a call calls, and the field with what the model wrote: a custom tool gets a free text."""
    if custom := _object(call.get("custom")):
        return custom, "input"
    return _object(call.get("function")), "arguments"


def _tool_call(call: Json) -> Json:
    function, field = _called(call)
    arguments = function.get(field)
    if isinstance(arguments, str) and field == "arguments":
        decoded = _decoded(arguments)
        arguments = arguments if decoded is None else decoded
    part: Json = {"type": "tool_call", "name": _string(function.get("name"))}
    if call.get("id"):
        part["id"] = call["id"]
    if arguments not in (None, ""):
        part["arguments"] = arguments
    return part


def _block(block: Json) -> Json:
    """One part of a message's content; binary data is replaced by its kind and size."""
    match block.get("type"):
        case "text":
            return _text(_string(block.get("text")))
        case "image_url":
            return media_part("image", _string(_object(block.get("image_url")).get("url")))
        case "input_audio":
            audio = _object(block.get("input_audio"))
            kind = f"audio/{_string(audio.get('format')) or 'unknown'}"
            return blob_part("audio", kind, len(_string(audio.get("data"))))
        case "file":
            return _file(_object(block.get("file")))
        case kind:
            return {**block, "type": _string(kind) or "unknown"}


def media_part(modality: str, url: str) -> Json:
    """A medium behind a link; its kind and size where the link has the data."""
    if not url.startswith("data:"):
        return {"type": "uri", "modality": modality, "uri": url}
    kind = url[5 : url.find(",")].partition(";")[0] if "," in url else ""
    return blob_part(modality, kind or f"{modality}/unknown", len(url))


def _file(file: Json) -> Json:
    if data := _string(file.get("file_data")):
        part = media_part("document", data)
        return part if part["type"] == "blob" else blob_part("document", "unknown", len(data))
    return {"type": "file", "modality": "document", "file_id": _string(file.get("file_id"))}


def blob_part(modality: str, kind: str, size: int) -> Json:
    """The place of binary data."""
    return {
        "type": "blob",
        "modality": modality,
        "mime_type": kind[:64],
        "content": f"[left out, {size} bytes]",
    }
