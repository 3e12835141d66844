"""A response as a chat completion.

Summaries of reasoning become `reasoning_content`. Reasoning that can be sent back, because it is
encrypted, is also in `reasoning_items`, with the deployment that can read it. Items of tools that
ran at the provider, and items of unknown types, are left out.
"""

from __future__ import annotations

from typing import Any

import msgspec

from spanledger.errors import ProviderError
from spanledger.pricing.reported import from_openai
from spanledger.pricing.searches import with_searches
from spanledger.pricing.usage import Usage
from spanledger.wires.base import Answer, FailedAnswerError, Seen, Server
from spanledger.wires.chat_as_responses.items import SERVED_BY, JsonObject
from spanledger.wires.error_forms import failure_of
from spanledger.wires.failures import malformed, refusal, unreadable
from spanledger.wires.fields import DECODE_ERRORS, among, text_bytes

BETWEEN = "\n\n"
"""Between two messages of one answer, and between two parts of a summary."""
_DONE = frozenset({"completed", "incomplete"})
_CALLS = {"function_call": ("function", "arguments"), "custom_tool_call": ("custom", "input")}
"""By the type of an item: what chat calls it, and the field that the model wrote."""
_SENT_BACK = frozenset({"id", "type", "summary", "content", "encrypted_content"})
_ENCODER = msgspec.json.Encoder()


def read_response(server: Server, body: bytes, seen: Seen) -> Answer:
    """A complete answer.

    Raises:
        ProviderError: it is not a response, or one that failed.
    """
    try:
        response = msgspec.json.decode(body)
    except DECODE_ERRORS:
        response = None
    if not isinstance(response, dict) or not isinstance(response.get("output"), list):
        raise unreadable(server, body, "its answer is not in the Responses API's format")
    usage = with_searches(usage_of(response), body)
    if not among(response.get("status", "completed"), _DONE) or response.get("error"):
        raise failed(server, response)
    said, size = message_of(server, response["output"])
    reason = finish_reason(response, called="tool_calls" in said)
    completion: JsonObject = {
        "id": _text(response.get("id")),
        "object": "chat.completion",
        "created": created_of(response, seen),
        "model": _text(response.get("model")) or server.model,
        "choices": [
            {
                "index": 0,
                "message": said,
                "logprobs": _logprobs(response["output"]),
                "finish_reason": reason,
            }
        ],
    }
    if service := _text(response.get("service_tier")):
        completion["service_tier"] = service
    if usage is not None:
        completion["usage"] = usage_shown(usage)
    return Answer(
        body=_ENCODER.encode(completion),
        usage=usage,
        response_id=completion["id"],
        response_model=_text(response.get("model")),
        finish_reasons=(reason,),
        provider_request_id=seen.request_id,
        output_bytes=size,
        service=service,
    )


def message_of(server: Server, output: list[Any]) -> tuple[JsonObject, int]:
    """The assistant's message, and how many bytes were generated."""
    texts: list[str] = []
    refusals: list[str] = []
    thoughts: list[str] = []
    kept: list[JsonObject] = []
    calls: list[JsonObject] = []
    notes: list[JsonObject] = []
    for item in objects(output):
        kind = item.get("type")
        if kind == "message":
            text, refused, found = _read_message(item, len(BETWEEN.join(texts)) if texts else None)
            texts += [text] if text else []
            refusals += [refused] if refused else []
            notes += found
        elif kind == "reasoning":
            thoughts += thought_of(item)
            kept += reasoning_items(server, item)
        elif among(kind, _CALLS):
            calls.append(call_of(item))
    said: JsonObject = {
        "role": "assistant",
        "content": BETWEEN.join(texts) if texts or not (calls or refusals) else None,
        "refusal": BETWEEN.join(refusals) or None,
    }
    more: JsonObject = {
        "reasoning_content": BETWEEN.join(thoughts),
        "reasoning_items": kept,
        "annotations": notes,
        "tool_calls": calls,
    }
    written = sum(map(text_bytes, (*texts, *refusals, *thoughts)))
    size = written + sum(map(_call_bytes, calls))
    return said | {name: value for name, value in more.items() if value}, size


def finish_reason(response: JsonObject, *, called: bool) -> str:
    """Why an answer ended, in chat's words."""
    if response.get("status") == "incomplete":
        details = response.get("incomplete_details")
        reason = details.get("reason") if isinstance(details, dict) else None
        return "content_filter" if reason == "content_filter" else "length"
    return "tool_calls" if called else "stop"


def failed(server: Server, response: JsonObject, *, began: bool = False) -> ProviderError:
    """The error for a response that is not complete. What it used is billed."""
    usage = usage_of(response)
    error = response.get("error")
    if isinstance(error, dict) and error:
        billed = "unknown" if began or usage is not None else "no"
        found = refusal(server, None, failure_of({"error": error}), billed=billed)
    else:
        status = _text(response.get("status"))[:32]
        found = malformed(server, f"its response has the status {status!r}")
    if usage is None:
        return found
    return FailedAnswerError(found, Answer(b"", usage, finish_reasons=("error",)))


def usage_of(response: JsonObject) -> Usage | None:
    """What a response reports that it used."""
    usage = response.get("usage")
    return from_openai(usage) if usage else None


def usage_shown(usage: Usage) -> JsonObject:
    """Usage in chat's shape."""
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {
            "cached_tokens": usage.cache_read_input_tokens,
            "cache_write_tokens": usage.cache_write_input_tokens,
        },
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_output_tokens},
    }


def call_of(item: JsonObject) -> JsonObject:
    """A call of a tool."""
    kind, field = _CALLS[item["type"]]
    called = {"name": _text(item.get("name")), field: _text(item.get(field))}
    return {"id": _text(item.get("call_id") or item.get("id")), "type": kind, kind: called}


def is_call(item: JsonObject) -> bool:
    """Whether an item is a call of a tool that the caller runs."""
    return among(item.get("type"), _CALLS)


def thought_of(item: JsonObject) -> list[str]:
    """The summary of a reasoning item; servers of open models show the reasoning itself."""
    parts = objects(item.get("summary")) or objects(item.get("content"))
    return [text for part in parts if (text := _text(part.get("text")))]


def reasoning_items(server: Server, item: JsonObject) -> list[JsonObject]:
    """The item as callers send it back, where it says all that the model needs."""
    if not item.get("encrypted_content"):
        return []
    kept = {name: value for name, value in item.items() if name in _SENT_BACK}
    return [{**kept, SERVED_BY: server.id}]


def annotation_of(annotation: Any, offset: int = 0) -> list[JsonObject]:
    """A citation of a web page; chat knows no others."""
    if not isinstance(annotation, dict) or annotation.get("type") != "url_citation":
        return []
    cited: JsonObject = {name: annotation.get(name) for name in ("title", "url")}
    for name in ("start_index", "end_index"):
        index = annotation.get(name)
        cited[name] = offset + (index if isinstance(index, int) else 0)
    return [{"type": "url_citation", "url_citation": cited}]


def logprobs_of(found: Any) -> JsonObject | None:
    """Log probabilities; a stream's lack the bytes."""
    tokens = [{"bytes": None, **one} for one in objects(found)]
    for one in tokens:
        one["top_logprobs"] = [{"bytes": None, **top} for top in objects(one.get("top_logprobs"))]
    return {"content": tokens, "refusal": None} if tokens else None


def created_of(response: JsonObject, seen: Seen) -> int:
    """When the answer began, in Unix seconds."""
    created = response.get("created_at")
    return int(created) if isinstance(created, int | float) else seen.created


def objects(value: Any) -> list[JsonObject]:
    """The objects of an array; anything else is left out."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _read_message(item: JsonObject, before: int | None) -> tuple[str, str, list[JsonObject]]:
    """Text, refusal and annotations of one message, which follows so many characters."""
    text = refused = ""
    notes: list[JsonObject] = []
    start = 0 if before is None else before + len(BETWEEN)
    for part in objects(item.get("content")):
        if part.get("type") == "refusal":
            refused += _text(part.get("refusal"))
            continue
        for annotation in objects(part.get("annotations")):
            notes += annotation_of(annotation, start + len(text))
        text += _text(part.get("text"))
    return text, refused, notes


def _logprobs(output: list[Any]) -> JsonObject | None:
    parts = [part for item in objects(output) for part in objects(item.get("content"))]
    return logprobs_of([one for part in parts for one in objects(part.get("logprobs"))])


def _call_bytes(call: JsonObject) -> int:
    called = call[call["type"]]
    return text_bytes(called.get("arguments") or called.get("input"))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
