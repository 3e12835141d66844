"""Answers and streams on OpenAI's wire, as a server sends them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from spanledger.errors import ProviderError
from spanledger.providers.base import Provider
from tests.service.providers.scripted import collect

DONE = b"data: [DONE]\n\n"
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
ANSWER: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-4o-mini-2024",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "é!"}, "finish_reason": "stop"}
    ],
    "usage": USAGE,
}


def event(data: object) -> bytes:
    """An event as OpenAI sends it."""
    return b"data: " + json.dumps(data, ensure_ascii=False).encode() + b"\n\n"


def delta(finish: str | None = None, **fields: object) -> bytes:
    """A chunk with one choice."""
    choice = {"index": 0, "delta": fields, "finish_reason": finish}
    return event({"id": "chatcmpl-1", "model": "gpt-4o-mini-2024", "choices": [choice]})


COUNTED = event({"id": "chatcmpl-1", "choices": [], "usage": USAGE})
STREAM = [
    delta(role="assistant", content=""),
    delta(content="Hé"),
    delta(content="llo"),
    delta("stop"),
    COUNTED,
]


async def failure(provider: Provider, request: Any, *, stream: bool = False) -> ProviderError:
    """The error a call ends with."""
    with pytest.raises(ProviderError) as caught:
        await (collect(provider, request) if stream else provider.complete(request))
    return caught.value
