"""Responses and their events as OpenAI sends them, checked against the types of its own client."""

from __future__ import annotations

import json
from typing import Any

from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

_EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
USAGE = {
    "input_tokens": 36,
    "input_tokens_details": {"cached_tokens": 16, "cache_write_tokens": 0},
    "output_tokens": 87,
    "output_tokens_details": {"reasoning_tokens": 64},
    "total_tokens": 123,
}
THOUGHT = {
    "id": "rs_1",
    "type": "reasoning",
    "summary": [
        {"type": "summary_text", "text": "First this."},
        {"type": "summary_text", "text": "Then that."},
    ],
    "encrypted_content": "gAAAAAB",
}
CALL = {
    "id": "fc_1",
    "type": "function_call",
    "status": "completed",
    "call_id": "call_1",
    "name": "get_weather",
    "arguments": '{"city":"Rome"}',
}
CUSTOM = {
    "id": "ctc_1",
    "type": "custom_tool_call",
    "status": "completed",
    "call_id": "call_2",
    "name": "apply_patch",
    "input": "*** Begin",
}
SEARCHED = {
    "id": "ws_1",
    "type": "web_search_call",
    "status": "completed",
    "action": {"type": "search", "query": "rome", "queries": ["rome"]},
}


def message(*texts: str, annotations: list[Any] | None = None, refusal: str = "") -> dict[str, Any]:
    """A message of the assistant."""
    content: list[dict[str, Any]] = [
        {"type": "output_text", "text": text, "annotations": annotations or [], "logprobs": []}
        for text in texts
    ]
    if refusal:
        content.append({"type": "refusal", "refusal": refusal})
    return {
        "id": "msg_1",
        "type": "message",
        "status": "completed",
        "role": "assistant",
        "content": content,
    }


def response(*output: dict[str, Any], status: str = "completed", **more: Any) -> dict[str, Any]:
    """A response."""
    found = {
        "id": "resp_1",
        "object": "response",
        "created_at": 1741476542,
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": None,
        "model": "gpt-5.2-codex-2026-01-14",
        "output": list(output),
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": "medium", "summary": None},
        "service_tier": "default",
        "store": False,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}, "verbosity": "medium"},
        "tool_choice": "auto",
        "tools": [],
        "top_logprobs": 0,
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": USAGE,
        "user": None,
        "metadata": {},
    }
    found |= more
    Response.model_validate(found, strict=True)
    return found


def event(kind: str, **data: Any) -> bytes:
    """The payload of one event."""
    found = {"type": kind, "sequence_number": 1, **data}
    _EVENT.validate_python(found)
    return json.dumps(found).encode()


def events(final: dict[str, Any], pieces: int = 3) -> list[bytes]:
    """The events of a stream that adds up to this response, its texts in pieces."""
    begun = response(status="in_progress", usage=None, service_tier="auto")
    made = [event(f"response.{n}", response=begun) for n in ("created", "in_progress")]
    for index, item in enumerate(final["output"]):
        made += _events_of(item, {"output_index": index}, pieces)
    return [*made, event(f"response.{final['status']}", response=final)]


def _events_of(item: dict[str, Any], place: dict[str, Any], pieces: int) -> list[bytes]:
    kind = item["type"]
    at = {**place, "item_id": item["id"]}
    empty: dict[str, dict[str, Any]] = {
        "message": {"content": []},
        "reasoning": {"summary": [], "encrypted_content": None},
    }
    empty |= {"function_call": {"arguments": ""}, "custom_tool_call": {"input": ""}}
    begun = {**item, "status": "in_progress", **empty.get(kind, {})}
    made = [event("response.output_item.added", item=begun, **place)]
    if kind == "message":
        for number, part in enumerate(item["content"]):
            made += _events_of_part(part, {**at, "content_index": number}, pieces)
    elif kind == "reasoning":
        for number, part in enumerate(item["summary"]):
            where = {**at, "summary_index": number}
            added = {"type": "summary_text", "text": ""}
            made.append(event("response.reasoning_summary_part.added", part=added, **where))
            name = "response.reasoning_summary_text.delta"
            made += [event(name, delta=one, **where) for one in split(part["text"], pieces)]
            done = "response.reasoning_summary_text.done"
            made.append(event(done, text=part["text"], **where))
            made.append(event("response.reasoning_summary_part.done", part=part, **where))
    elif kind in ("function_call", "custom_tool_call"):
        field = "arguments" if kind == "function_call" else "input"
        name = {"arguments": "function_call_arguments", "input": "custom_tool_call_input"}[field]
        deltas = split(item[field], pieces)
        made += [event(f"response.{name}.delta", delta=one, **at) for one in deltas]
        more = {"name": item["name"]} if field == "arguments" else {}
        made.append(event(f"response.{name}.done", **{field: item[field]}, **more, **at))
    return [*made, event("response.output_item.done", item=item, **place)]


def _events_of_part(part: dict[str, Any], at: dict[str, Any], pieces: int) -> list[bytes]:
    if part["type"] == "refusal":
        deltas = split(part["refusal"], pieces)
        return [
            *(event("response.refusal.delta", delta=one, **at) for one in deltas),
            event("response.refusal.done", refusal=part["refusal"], **at),
        ]
    begun = {**part, "text": "", "annotations": []}
    made = [event("response.content_part.added", part=begun, **at)]
    name = "response.output_text.delta"
    made += [event(name, delta=one, logprobs=[], **at) for one in split(part["text"], pieces)]
    for number, one in enumerate(part["annotations"]):
        name = "response.output_text.annotation.added"
        made.append(event(name, annotation=one, annotation_index=number, **at))
    made.append(event("response.output_text.done", text=part["text"], logprobs=[], **at))
    return [*made, event("response.content_part.done", part=part, **at)]


def split(text: str, pieces: int) -> list[str]:
    """A text in at most so many pieces, none empty."""
    size = max(1, -(-len(text) // pieces))
    return [text[at : at + size] for at in range(0, len(text), size)]
