"""Chat completions and their chunks as a message and its events.

Reasoning is left out: a caller would send it back, and Anthropic refuses thinking that it did not
sign. It is counted and charged all the same.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec.structs import replace

from spanledger.pricing.usage import Usage
from spanledger.wires.anthropic.events import event
from spanledger.wires.base import Answer, Frame, Reader, Server
from spanledger.wires.fields import DECODE_ERRORS
from spanledger.wires.messages_as_chat.turns import ChatMessage
from spanledger.wires.over_chat import OverChat

_STOPS = {
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}
"""Every other finish reason is `end_turn`."""


def message_of(server: Server, answer: Answer) -> Answer:
    """A complete answer as a message."""
    completion = msgspec.json.decode(answer.body)
    choice = completion["choices"][0]
    said = choice.get("message") or {}
    blocks: list[ChatMessage] = []
    if text := _text(said.get("content")) + _text(said.get("refusal")):
        blocks.append({"type": "text", "text": text})
    for number, call in enumerate(_calls(said)):
        function = call.get("function") or {}
        blocks.append({**_tool_use(call, number), "input": _input(function.get("arguments"))})
    message = _message(server, answer.response_id, answer.response_model)
    message["content"] = blocks
    message["stop_reason"] = _stop(choice.get("finish_reason"), called=bool(_calls(said)))
    message["usage"] = usage_shown(answer.usage)
    return replace(answer, body=msgspec.json.encode(message))


def usage_shown(usage: Usage | None) -> dict[str, int]:
    """Usage on Anthropic's basis: its `input_tokens` lack what the cache served."""
    told = usage or Usage()
    cached = told.cache_read_input_tokens + told.cache_write_input_tokens
    return {
        "input_tokens": max(0, told.input_tokens - cached),
        "cache_creation_input_tokens": told.cache_write_input_tokens,
        "cache_read_input_tokens": told.cache_read_input_tokens,
        "output_tokens": told.output_tokens,
    }


class MessageEvents(OverChat):
    """Turns one stream of chunks into the events of a message."""

    def __init__(self, chunks: Reader, server: Server) -> None:
        super().__init__(chunks)
        self._server = server
        self._started = False
        self._open: int | None = None
        self._blocks = 0
        self._text: int | None = None
        self._tools: dict[int, int] = {}
        self._finish = ""

    def last(self) -> Frame | None:
        """The stop reason and the usage, which chunks have in an order of their own."""
        self._chunks.last()  # its usage came with an earlier chunk
        data = self._start("", "") + self._closed()
        stop = _stop(self._finish, called=bool(self._tools))
        delta = {"stop_reason": stop, "stop_sequence": None}
        return Frame(
            data + event("message_delta", {"delta": delta, "usage": usage_shown(self._usage)})
        )

    def _events(self, frame: Frame) -> bytes:
        self._finish = frame.finish_reason or self._finish
        data = self._start(frame.response_id, frame.response_model)
        for delta in _deltas(frame.data):
            if text := _text(delta.get("content")) + _text(delta.get("refusal")):
                data += self._said(text)
            for position, call in enumerate(_calls(delta)):
                data += self._called(position, call)
        return data

    def _start(self, response_id: str, model: str) -> bytes:
        if self._started:
            return b""
        self._started = True
        message = _message(self._server, response_id, model)
        return event("message_start", {"message": {**message, "usage": usage_shown(None)}})

    def _said(self, text: str) -> bytes:
        data = b""
        if self._text is None:
            data = self._opened({"type": "text", "text": ""})
            self._text = self._open
        delta = {"type": "text_delta", "text": text}
        return data + event("content_block_delta", {"index": self._text, "delta": delta})

    def _called(self, position: int, call: ChatMessage) -> bytes:
        number = call.get("index")
        number = number if isinstance(number, int) else position
        data = b""
        if number not in self._tools:
            data = self._opened({**_tool_use(call, number), "input": {}})
            self._tools[number] = self._blocks - 1
        arguments = (call.get("function") or {}).get("arguments")
        if isinstance(arguments, str) and arguments:
            delta = {"type": "input_json_delta", "partial_json": arguments}
            index = self._tools[number]
            data += event("content_block_delta", {"index": index, "delta": delta})
        return data

    def _opened(self, block: ChatMessage) -> bytes:
        data = self._closed()
        self._open, self._blocks = self._blocks, self._blocks + 1
        return data + event("content_block_start", {"index": self._open, "content_block": block})

    def _closed(self) -> bytes:
        if self._open is None:
            return b""
        index, self._open, self._text = self._open, None, None
        return event("content_block_stop", {"index": index})


def _deltas(data: bytes) -> list[ChatMessage]:
    """The pieces of a chunk that is known to be one."""
    try:
        chunk = msgspec.json.decode(data.removeprefix(b"data: "))
    except DECODE_ERRORS:
        return []
    choices = [choice for choice in chunk.get("choices") or () if isinstance(choice, dict)]
    return [delta for choice in choices if isinstance(delta := choice.get("delta"), dict)]


def _message(server: Server, response_id: str, model: str) -> ChatMessage:
    return {
        "id": response_id or "msg_unknown",
        "type": "message",
        "role": "assistant",
        "model": model or server.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
    }


def _calls(said: ChatMessage) -> list[ChatMessage]:
    return [call for call in said.get("tool_calls") or () if isinstance(call, dict)]


def _tool_use(call: ChatMessage, number: int) -> ChatMessage:
    name = (call.get("function") or {}).get("name") or ""
    return {"type": "tool_use", "id": call.get("id") or f"toolu_{number}", "name": name}


def _input(arguments: Any) -> Any:
    try:
        value = msgspec.json.decode(arguments or "{}")
    except (TypeError, *DECODE_ERRORS):
        return {}  # a cap cut the JSON short
    return value if isinstance(value, dict) else {}


def _text(content: Any) -> str:
    """A text; some servers send it in parts."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = [part.get("text") for part in parts if isinstance(part, dict)]
    return "".join(text for text in texts if isinstance(text, str))


def _stop(finish_reason: Any, *, called: bool) -> str:
    """Some servers say `stop` after a call."""
    stop = _STOPS.get(finish_reason, "end_turn")
    return "tool_use" if called and stop == "end_turn" else stop
