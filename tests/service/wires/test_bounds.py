"""What bounds a request bounds it on every wire that it may be translated to."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from spanledger.providers.base import Call, Deployment
from spanledger.wires import CHAT, FROM_CHAT, MESSAGES, OUTBOUND, RESPONSES
from spanledger.wires.base import Habits, Inbound

SCHEMA = {"type": "object"}
HELLO = [{"role": "user", "content": "hi"}]
NAMES = [f"t{number}" for number in range(100)]
DEPLOYMENTS = {
    "chat": Deployment("d", "r", "openai", "openai", "gpt-4o", "openai/gpt-4o"),
    "responses": Deployment("d", "r", "openai", "openai", "gpt-5-codex", "openai/gpt-5-codex"),
    "messages": Deployment(
        "d", "r", "anthropic", "anthropic", "claude-haiku-4-5", "anthropic/claude-haiku-4-5"
    ),
}


def flat(kind: str) -> list[dict[str, Any]]:
    """Tools of the Responses API, as small as they can be."""
    more = {"parameters": SCHEMA} if kind == "function" else {}
    return [{"type": kind, "name": name, **more} for name in NAMES]


def spaced(kind: str) -> list[dict[str, Any]]:
    """The same in a namespace with a long name."""
    return [{"type": "namespace", "name": "n" * 62, "tools": flat(kind)}]


CHATS = [{"type": "function", "function": {"name": name}} for name in NAMES]
ANTHROPICS = [{"name": name, "input_schema": SCHEMA} for name in NAMES]
ASKED: list[tuple[Inbound, dict[str, Any]]] = [
    (CHAT, {"messages": HELLO, "tools": CHATS}),
    (MESSAGES, {"messages": HELLO, "max_tokens": 9, "tools": ANTHROPICS}),
    *((RESPONSES, {"input": HELLO, "tools": flat(kind)}) for kind in ("function", "custom")),
    *((RESPONSES, {"input": HELLO, "tools": spaced(kind)}) for kind in ("function", "custom")),
]


@pytest.mark.parametrize("spoken", FROM_CHAT)
@pytest.mark.parametrize(("asked", "fields"), ASKED)
def test_many_small_tools(asked: Inbound, fields: dict[str, Any], spoken: str) -> None:
    """The tools as they are sent are no longer than the bound, in which a byte may be a token."""
    ask = asked.read(msgspec.json.encode({"model": "m", **fields}))
    call = Call(DEPLOYMENTS[spoken], asked, ask.fields, 60)

    sent = json.loads(OUTBOUND[asked.name, spoken].request(call, False, Habits()).body)

    assert len(sent["tools"][0].get("tools", sent["tools"])) == len(NAMES)
    assert len(msgspec.json.encode(sent["tools"])) <= ask.demand.input_tokens
    assert not ask.demand.unbounded


@pytest.mark.parametrize("image", [{"detail": "low"}, {}])
def test_an_image_in_low_detail(image: dict[str, Any]) -> None:
    """Anthropic has no such field, and counts up to 4,784 tokens."""
    part = {"type": "image_url", "image_url": {"url": "https://example.com/a.png", **image}}
    body = {"model": "m", "messages": [{"role": "user", "content": [part]}]}

    assert CHAT.read(json.dumps(body).encode()).demand.input_tokens > 4_784
