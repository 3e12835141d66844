"""Calls of custom tools in chats: their text counts as output, and is captured as it was written."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from spanledger.providers.base import Deployment
from spanledger.wires import CHAT
from spanledger.wires.openai.answer import read_answer, read_chunk

SERVER = Deployment("d", "r", "openai", "openai", "gpt-5", "openai/gpt-5")
PATCH = '{"looks": "like JSON"} but is not'


def completion(kind: str, call: Any, finish: str | None = "tool_calls") -> bytes:
    """A completion with a call, or a chunk of one."""
    said = {"role": "assistant", "content": None, "tool_calls": [call]}
    choice = {"index": 0, kind: said, "finish_reason": finish}
    return json.dumps({"id": "c", "model": "m", "choices": [choice]}).encode()


def pieces() -> list[bytes]:
    """The chunks of a stream with a call."""
    first = {"index": 0, "id": "call_1", "type": "custom", "custom": {"name": "patch", "input": ""}}
    more = [{"index": 0, "custom": {"input": piece}} for piece in (PATCH[:9], PATCH[9:])]
    return [completion("delta", call, None) for call in (first, *more)]


def test_their_text_is_output() -> None:
    """A provider without usage, or a stream that breaks, is charged for what the model wrote in them."""
    call = {"id": "call_1", "type": "custom", "custom": {"name": "patch", "input": PATCH}}
    assert read_answer(SERVER, completion("message", call)).output_bytes == len(PATCH)
    frames = [read_chunk(SERVER, piece, "", began=False) for piece in pieces()]
    assert sum(frame.output_bytes for frame in frames) == len(PATCH)
    assert all(frame.content for frame in frames)
    for odd in ("x", [1], {"input": 7}, {}):
        broken = completion("delta", {"index": 0, "type": "custom", "custom": odd})
        assert read_chunk(SERVER, broken, "", began=False).output_bytes == 0


def test_they_are_captured() -> None:
    """Whole or streamed, the content has the tool's name and its text, and the tool's definition."""
    call = {"id": "call_1", "type": "custom", "custom": {"name": "patch", "input": PATCH}}
    tools = [{"type": "custom", "custom": {"name": "patch", "description": "Changes files."}}]
    fields = {"tools": msgspec.Raw(json.dumps(tools).encode())}
    events = [b"data: " + piece + b"\n\n" for piece in pieces()]
    for content in (
        CHAT.content(fields, completion("message", call), []),
        CHAT.content(fields, b"", events),
    ):
        assert content.tools == [
            {"type": "custom", "name": "patch", "description": "Changes files."}
        ]
        (said,) = content.output
        assert isinstance(said, dict)
        assert said["parts"] == [
            {"type": "tool_call", "name": "patch", "id": "call_1", "arguments": PATCH}
        ]
