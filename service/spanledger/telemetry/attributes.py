"""What routing stores in an attempt's row for its span: request and response attributes, content.

Called once per attempt on the request path, so it must be cheap and must not fail on any request
or answer, however odd: a field of an unexpected type is left out. No SDK import here.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from spanledger.providers.base import Deployment, Operation
from spanledger.providers.hosts import HOSTS
from spanledger.telemetry.content import answer_messages, input_messages, streamed_messages, tools
from spanledger.telemetry.redact import JsonValue, clean, fit

ContentMode = Literal["off", "redacted", "full"]

MAX_TEXT = 256
"""Longest attribute value that a caller or provider controls, in characters."""
MAX_ITEMS = 16
"""Most entries of a list attribute."""
INT64 = range(-(2**63), 2**63)
"""What an OTLP integer can hold."""

_FINISH_REASONS = {"tool_calls": "tool_call", "function_call": "tool_call"}
_DECODE_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""`DecodeError` covers wrong types; text may contain invalid UTF-8, nesting may be too deep."""


def _number(raw: msgspec.Raw) -> float:
    return msgspec.json.decode(raw, type=float)


def _integer(raw: msgspec.Raw) -> int | None:
    value = msgspec.json.decode(raw, type=int)
    return value if value in INT64 else None


def _text(raw: msgspec.Raw) -> str:
    return msgspec.json.decode(raw, type=str)[:MAX_TEXT]


def _texts(raw: msgspec.Raw) -> list[str]:
    value = msgspec.json.decode(raw, type=str | list[str])
    return [text[:MAX_TEXT] for text in ([value] if isinstance(value, str) else value)[:MAX_ITEMS]]


def _choices(raw: msgspec.Raw) -> int | None:
    """The conventions set the choice count only when it is not 1."""
    count = _integer(raw)
    return None if count == 1 else count


class _Format(msgspec.Struct):
    type: str = ""


def _output_type(raw: msgspec.Raw) -> str | None:
    kind = msgspec.json.decode(raw, type=_Format).type
    return {"text": "text", "json_object": "json", "json_schema": "json"}.get(kind)


class _Reasoning(msgspec.Struct):
    effort: str = ""


def _effort(raw: msgspec.Raw) -> str | None:
    """OpenRouter's `reasoning`, an object, next to OpenAI's `reasoning_effort`."""
    return msgspec.json.decode(raw, type=_Reasoning).effort[:MAX_TEXT] or None


class _Named(msgspec.Struct):
    id: str = ""
    session_id: str = ""


def _conversation(raw: msgspec.Raw) -> str | None:
    """OpenAI's `conversation`, an id or an object that has one."""
    value = msgspec.json.decode(raw, type=str | _Named)
    return (value if isinstance(value, str) else value.id)[:MAX_TEXT] or None


def _session(raw: msgspec.Raw) -> str | None:
    return msgspec.json.decode(raw, type=_Named).session_id[:MAX_TEXT] or None


_Reader = Callable[[msgspec.Raw], object]
_REQUEST: dict[Operation, dict[str, tuple[str, _Reader]]] = {
    "chat": {
        "max_tokens": ("gen_ai.request.max_tokens", _integer),
        "max_completion_tokens": ("gen_ai.request.max_tokens", _integer),
        "temperature": ("gen_ai.request.temperature", _number),
        "top_p": ("gen_ai.request.top_p", _number),
        "top_k": ("gen_ai.request.top_k", _number),
        "reasoning_effort": ("gen_ai.request.reasoning.level", _text),
        "reasoning": ("gen_ai.request.reasoning.level", _effort),
        "conversation": ("gen_ai.conversation.id", _conversation),
        "session_id": ("gen_ai.conversation.id", _text),
        "litellm_session_id": ("gen_ai.conversation.id", _text),
        "metadata": ("gen_ai.conversation.id", _session),
        "frequency_penalty": ("gen_ai.request.frequency_penalty", _number),
        "presence_penalty": ("gen_ai.request.presence_penalty", _number),
        "seed": ("gen_ai.request.seed", _integer),
        "stop": ("gen_ai.request.stop_sequences", _texts),
        "n": ("gen_ai.request.choice.count", _choices),
        "response_format": ("gen_ai.output.type", _output_type),
        "service_tier": ("openai.request.service_tier", _text),
    },
    "embeddings": {
        "encoding_format": ("gen_ai.request.encoding_formats", _texts),
        "dimensions": ("gen_ai.embeddings.dimension.count", _integer),
    },
}
"""Fields of the caller's body that become attributes: name, and how to read them. When several map
to the same attribute, the first in the body wins."""


def attempt_detail(
    *,
    operation: Operation,
    fields: Mapping[str, msgspec.Raw],
    deployment: Deployment,
    response_id: str,
    finish_reasons: tuple[str, ...],
    provider_request_id: str,
    extra: Mapping[str, object] = {},
) -> str:
    """The attributes of an attempt's span that have no column, as a JSON object.

    `extra` holds further attributes by their final names and wins.
    """
    found: dict[str, object] = {}
    known = _REQUEST[operation]
    for name, raw in fields.items():
        if name not in known:
            continue
        attribute, read = known[name]
        if attribute in found:
            continue
        try:
            value = read(raw)
        except _DECODE_ERRORS:
            continue
        if value not in (None, "", []):
            found[attribute] = value
    found.update(_server(deployment.api_base, deployment.provider))
    if response_id:
        found["gen_ai.response.id"] = response_id[:MAX_TEXT]
    if finish_reasons:
        found["gen_ai.response.finish_reasons"] = [
            _FINISH_REASONS.get(reason, reason)[:MAX_TEXT] for reason in finish_reasons[:MAX_ITEMS]
        ]
    if provider_request_id:
        found["spanledger.provider.request.id"] = provider_request_id[:MAX_TEXT]
    found.update(extra)
    return msgspec.json.encode(found).decode()


@functools.lru_cache(maxsize=1024)
def _server(api_base: str | None, provider: str) -> dict[str, object]:
    """`server.address` and `.port` of a deployment; never its URL's path or credentials."""
    if api_base is None and provider in HOSTS:
        api_base = HOSTS[provider].base
    if api_base is None:
        return {}
    try:
        url = urlsplit(api_base)
        host, port = url.hostname, url.port
    except ValueError:
        return {}
    if host is None:
        return {}
    return {"server.address": host, "server.port": port or (80 if url.scheme == "http" else 443)}


def captured_content(
    mode: ContentMode,
    max_bytes: int,
    fields: Mapping[str, msgspec.Raw],
    output: bytes,
    stream_events: Sequence[bytes],
) -> str | None:
    """The content attributes of an attempt as a JSON object, or None when capture is off.

    Each value is the JSON of the conventions' message schema, at most `max_bytes` long.

    Args:
        output: a non-streamed answer in OpenAI's shape; empty when the answer was streamed.
        stream_events: the relayed SSE events of a stream.
    """
    if mode == "off":
        return None
    messages = streamed_messages(stream_events) if stream_events else answer_messages(output)
    found = {
        "gen_ai.input.messages": (input_messages(fields), _message_note),
        "gen_ai.output.messages": (messages, _output_note),
        "gen_ai.tool.definitions": (tools(fields), _tool_note),
    }
    captured = {
        name: msgspec.Raw(_within(items, mode, max_bytes, note))
        for name, (items, note) in found.items()
        if items
    }
    return msgspec.json.encode(captured).decode() if captured else None


def _within(
    items: Iterable[JsonValue],
    mode: ContentMode,
    max_bytes: int,
    note: Callable[[str], JsonValue],
) -> bytes:
    try:
        cleaned = [clean(i, redact=mode == "redacted", max_chars=max_bytes) for i in items]
        return fit(cleaned, max_bytes, note)
    except RecursionError:
        return msgspec.json.encode([note("left out: nested too deeply")])


def _message_note(text: str) -> JsonValue:
    return {"role": "user", "parts": [{"type": "text", "content": f"[{text}]"}]}


def _output_note(text: str) -> JsonValue:
    return {
        "role": "assistant",
        "parts": [{"type": "text", "content": f"[{text}]"}],
        "finish_reason": "stop",
    }


def _tool_note(text: str) -> JsonValue:
    return {"type": "function", "name": f"[{text}]"}
