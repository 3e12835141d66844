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

from spanledger.providers.base import Deployment
from spanledger.providers.hosts import HOSTS
from spanledger.telemetry.redact import clean, fit
from spanledger.wires.base import MAX_ITEMS, MAX_TEXT, Content
from spanledger.wires.fields import JsonValue

ContentMode = Literal["off", "redacted", "full"]


_FINISH_REASONS = {"tool_calls": "tool_call", "function_call": "tool_call"}


def attempt_detail(
    *,
    request: dict[str, object],
    deployment: Deployment,
    response_id: str,
    finish_reasons: Sequence[str],
    provider_request_id: str,
    extra: Mapping[str, object] = {},
) -> str:
    """The attributes of an attempt's span that have no column, as a JSON object.

    `request` holds the attributes of its request, and is added to; `extra` further attributes by
    their final names, and wins.
    """
    found = request
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
    content: Content,
) -> str | None:
    """The content attributes of an attempt as a JSON object, or None where there is nothing.

    Each value is the JSON of the conventions' message schema, at most `max_bytes` long.
    """
    if mode == "off":
        return None
    found = {
        "gen_ai.input.messages": (content.input, _message_note),
        "gen_ai.output.messages": (content.output, _output_note),
        "gen_ai.tool.definitions": (content.tools, _tool_note),
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
