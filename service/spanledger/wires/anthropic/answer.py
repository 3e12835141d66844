"""Anthropic's answers and stream events, translated to OpenAI's wire.

Text becomes `content`, thinking `reasoning_content` (and `thinking_blocks` with its signature, to
be sent back with the next turn), tool use `tool_calls`. Blocks of tools that ran at Anthropic,
and events and blocks of unknown types, are left out.
"""

from __future__ import annotations

from typing import Any

import msgspec

from spanledger.pricing.reported import anthropic_service, from_anthropic
from spanledger.pricing.usage import Usage
from spanledger.wires.anthropic.stream_state import StreamState
from spanledger.wires.anthropic.tools import Names
from spanledger.wires.base import Answer, Frame, Server
from spanledger.wires.failures import embedded_error, unreadable
from spanledger.wires.fields import DECODE_ERRORS, NULL, is_set, text_bytes
from spanledger.wires.sse import ErrorPayload, encode_event

FINISH_REASONS = {
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
"""Every other stop reason is `stop`."""

_ENCODER = msgspec.json.Encoder()


class _Block(msgspec.Struct):
    type: str
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    id: str | None = None
    name: str | None = None
    input: msgspec.Raw = NULL


class _Message(msgspec.Struct):
    content: list[_Block] | None = None
    type: str = ""
    id: str | None = None
    model: str | None = None
    stop_reason: str | None = None
    usage: dict[str, Any] | None = None
    error: msgspec.Raw = NULL


class _Delta(msgspec.Struct):
    type: str = ""
    text: str | None = None
    partial_json: str | None = None
    thinking: str | None = None
    signature: str | None = None
    stop_reason: str | None = None


class _Event(msgspec.Struct):
    type: str
    index: int = 0
    message: _Message | None = None
    content_block: _Block | None = None
    delta: _Delta | None = None
    usage: dict[str, Any] | None = None
    error: msgspec.Raw = NULL
    object: str = ""


_MESSAGE = msgspec.json.Decoder(_Message)
_EVENT = msgspec.json.Decoder(_Event)


def read_message(
    server: Server, body: bytes, created: int, request_id: str, names: Names
) -> Answer:
    """A complete answer as a `chat.completion`.

    Raises:
        ProviderError: it is not a message, or it is an error despite its status.
    """
    try:
        message = _MESSAGE.decode(body)
    except DECODE_ERRORS:
        raise unreadable(server, body, "its answer is not in the Messages API's format") from None
    usage = from_anthropic(message.usage)
    if is_set(message.error):
        raise embedded_error(server, message.error, billed="no" if usage is None else "unknown")
    if message.content is None:
        raise unreadable(server, body, "its answer has no content")
    said, size = _said(message.content, names)
    finish_reason = FINISH_REASONS.get(message.stop_reason or "", "stop")
    completion: dict[str, object] = {
        "id": message.id or "",
        "object": "chat.completion",
        "created": created,
        "model": message.model or server.model,
        "choices": [
            {"index": 0, "message": said, "logprobs": None, "finish_reason": finish_reason}
        ],
    }
    if usage is not None:
        completion["usage"] = _usage_object(usage)
    return Answer(
        body=_ENCODER.encode(completion),
        usage=usage,
        response_id=message.id or "",
        response_model=message.model or "",
        finish_reasons=(finish_reason,),
        provider_request_id=request_id,
        output_bytes=size,
        service=anthropic_service(message.usage),
    )


def _said(blocks: list[_Block], names: Names) -> tuple[dict[str, object], int]:
    """The assistant's message, and how many bytes were generated."""
    texts: list[str] = []
    thoughts: list[str] = []
    signed: list[dict[str, object]] = []
    calls: list[dict[str, object]] = []
    for block in blocks:
        if block.type == "text":
            texts.append(block.text or "")
        elif block.type == "thinking":
            thoughts.append(block.thinking or "")
            signed.append(_signed(block.thinking or "", block.signature or ""))
        elif block.type == "redacted_thinking":
            signed.append({"type": block.type, "data": block.data or ""})
        elif block.type == "tool_use":
            arguments = bytes(block.input).decode() if is_set(block.input) else "{}"
            calls.append(_tool_call(block, arguments, names))
    said: dict[str, object] = {
        "role": "assistant",
        "content": "".join(texts) if texts or not calls else None,
        "refusal": None,
    }
    if thoughts:
        said["reasoning_content"] = "".join(thoughts)
    if signed:
        said["thinking_blocks"] = signed
    if calls:
        said["tool_calls"] = calls
    size = sum(text_bytes(text) for text in (*texts, *thoughts))
    return said, size + sum(len(bytes(b.input)) for b in blocks if b.type == "tool_use")


class MessageStream(StreamState):
    """Turns one stream's events into chunks; knows whether the answer is complete."""

    def __init__(self, server: Server, created: int, request_id: str, names: Names) -> None:
        super().__init__(server, request_id)
        self._names = names
        self._blocks: dict[int, _Block] = {}
        self._arguments: set[int] = set()
        self._tools: dict[int, int] = {}
        self._head: dict[str, object] = {
            "id": "",
            "object": "chat.completion.chunk",
            "created": created,
            "model": server.model,
        }

    def read(self, payload: bytes) -> Frame | None:
        """The chunk for an event; None for one that the caller does not need.

        Raises:
            ProviderError: it is not an event of the Messages API, or it is an error.
        """
        event = self.decoded(_EVENT, payload)
        match event.type:
            case "content_block_delta":
                return self._delta(event)
            case "content_block_start":
                return self._block_start(event)
            case "content_block_stop":
                return self._block_stop(event)
            case "message_start":
                return self._start(event)
            case "message_delta":
                return self._finish(event)
            case "message_stop":
                self.ended = True
            case "error":
                raise self.failed(payload)
            case _:
                if event.object == "error" or is_set(event.error) or type(payload) is ErrorPayload:
                    raise self.failed(payload)
        return None

    def last(self) -> Frame | None:
        """The chunk with the usage, which ends the stream."""
        usage = from_anthropic(self.usage)
        if usage is None:
            return None
        data = {**self._head, "choices": [], "usage": _usage_object(usage)}
        frame = self._frame(data)
        frame.usage = usage
        frame.usage_only = True
        return frame

    def _start(self, event: _Event) -> Frame:
        message = event.message
        if message is None:
            raise self.malformed()
        self._head["id"] = message.id or ""
        self._head["model"] = message.model or self.server.model
        self.count(message.usage)
        frame = self._chunk({"role": "assistant", "content": ""})
        frame.service = anthropic_service(self.usage)
        frame.input_usage = self.input_usage()
        return frame

    def _block_start(self, event: _Event) -> Frame | None:
        block = event.content_block
        if block is None:
            raise self.malformed()
        self._blocks[event.index] = block
        if block.type == "tool_use":
            number = self._tools[event.index] = len(self._tools)
            call = {"index": number, **_tool_call(block, "", self._names)}
            return self._chunk({"tool_calls": [call]}, content=True)
        if block.type == "text" and block.text:
            return self._text("content", block.text)
        if block.type == "thinking" and block.thinking:
            return self._text("reasoning_content", block.thinking)
        return None

    def _delta(self, event: _Event) -> Frame | None:
        delta = event.delta
        if delta is None:
            raise self.malformed()
        if delta.type == "text_delta" and delta.text:
            return self._text("content", delta.text)
        if delta.type == "thinking_delta" and delta.thinking:
            block = self._blocks.get(event.index)
            if block is not None:
                block.thinking = (block.thinking or "") + delta.thinking
            return self._text("reasoning_content", delta.thinking)
        if delta.type == "signature_delta" and (block := self._blocks.get(event.index)):
            block.signature = (block.signature or "") + (delta.signature or "")
        if delta.type == "input_json_delta" and delta.partial_json and event.index in self._tools:
            return self._more_arguments(event.index, delta.partial_json)
        return None

    def _block_stop(self, event: _Event) -> Frame | None:
        block = self._blocks.pop(event.index, None)
        if block is None:
            return None
        if block.type == "thinking" and block.signature:
            signed = _signed(block.thinking or "", block.signature)
            return self._chunk({"thinking_blocks": [signed]})
        if block.type == "redacted_thinking":
            return self._chunk({"thinking_blocks": [{"type": block.type, "data": block.data}]})
        if event.index in self._tools and event.index not in self._arguments:
            # Anthropic sends nothing for a call without arguments; OpenAI has an empty object.
            whole = bytes(block.input).decode() if is_set(block.input) else "{}"
            return self._more_arguments(event.index, whole)
        return None

    def _finish(self, event: _Event) -> Frame | None:
        self.count(event.usage)
        delta = event.delta
        if delta is None or delta.stop_reason is None:
            return None
        reason = FINISH_REASONS.get(delta.stop_reason, "stop")
        frame = self._frame({**self._head, "choices": [_choice({}, reason)]})
        frame.finish_reason = reason
        # `message_start` counts the input only: usage is reported once it is complete.
        frame.usage = self.finish()
        frame.service = anthropic_service(self.usage)
        return frame

    def _more_arguments(self, index: int, text: str) -> Frame:
        self._arguments.add(index)
        call = {"index": self._tools[index], "function": {"arguments": text}}
        return self._chunk({"tool_calls": [call]}, content=True, size=text_bytes(text))

    def _text(self, field: str, text: str) -> Frame:
        return self._chunk({field: text}, content=True, size=text_bytes(text))

    def _chunk(self, delta: dict[str, object], *, content: bool = False, size: int = 0) -> Frame:
        self.began = self.began or content
        frame = self._frame({**self._head, "choices": [_choice(delta, None)]})
        frame.content = content
        frame.output_bytes = size
        return frame

    def _frame(self, data: dict[str, object]) -> Frame:
        return Frame(
            data=encode_event(_ENCODER.encode(data)),
            response_id=str(self._head["id"]),
            response_model=str(self._head["model"]),
            provider_request_id=self.request_id,
        )


def _choice(delta: dict[str, object], finish_reason: str | None) -> dict[str, object]:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}


def _tool_call(block: _Block, arguments: str, names: Names) -> dict[str, object]:
    function = {"name": names.callers(block.name or ""), "arguments": arguments}
    return {"id": block.id or "", "type": "function", "function": function}


def _signed(thinking: str, signature: str) -> dict[str, object]:
    return {"type": "thinking", "thinking": thinking, "signature": signature}


def _usage_object(usage: Usage) -> dict[str, object]:
    """OpenAI's usage, and the cache counts under Anthropic's names as well."""
    shown: dict[str, object] = {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {
            "cached_tokens": usage.cache_read_input_tokens,
            "cache_write_tokens": usage.cache_write_input_tokens,
        },
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_output_tokens},
        "cache_read_input_tokens": usage.cache_read_input_tokens,
        "cache_creation_input_tokens": usage.cache_write_input_tokens,
    }
    if usage.searches:
        shown["server_tool_use"] = {"web_search_requests": usage.searches}
    return shown
