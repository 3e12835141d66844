"""The Messages API as deployments speak it, for callers who speak it too.

Requests and answers pass as they are, except for model and cap. Only identity, usage, the stop
reason and the amount of text are decoded. Finish reasons in rows have OpenAI's names, whatever wire
an answer came in.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from spanledger.errors import ProviderError
from spanledger.pricing.reported import anthropic_service, from_anthropic
from spanledger.wires.anthropic.answer import FINISH_REASONS
from spanledger.wires.anthropic.events import Collected, events_of_message, relayed
from spanledger.wires.anthropic.messages import API_VERSION
from spanledger.wires.anthropic.stream_state import StreamState
from spanledger.wires.anthropic.thinking import eased, fit, leave_out
from spanledger.wires.base import (
    Answer,
    FailedAnswerError,
    Frame,
    Habits,
    Outgoing,
    Seen,
    Server,
    Written,
)
from spanledger.wires.failures import embedded_error, invalid, malformed, unreadable
from spanledger.wires.fields import DECODE_ERRORS, NULL, is_set, text_bytes
from spanledger.wires.own_body import own_body
from spanledger.wires.sse import ErrorPayload, events_of, is_stream

_ENCODER = msgspec.json.Encoder()
CHATS_OWN = frozenset(
    {
        "frequency_penalty",
        "logit_bias",
        "logprobs",
        "max_completion_tokens",
        "modalities",
        "n",
        "parallel_tool_calls",
        "prediction",
        "presence_penalty",
        "prompt_cache_key",
        "reasoning_effort",
        "response_format",
        "safety_identifier",
        "seed",
        "stop",
        "store",
        "stream_options",
        "top_logprobs",
        "user",
        "verbosity",
        "web_search_options",
    }
)
"""Fields of chat completions, which a deployment's settings may have: this API refuses them."""


class _Block(msgspec.Struct):
    type: str = ""
    text: str | None = None
    thinking: str | None = None
    partial_json: str | None = None
    input: msgspec.Raw = NULL
    content: msgspec.Raw = NULL
    stop_reason: str | None = None


class _Message(msgspec.Struct):
    content: list[_Block] | None = None
    id: str | None = None
    model: str | None = None
    stop_reason: str | None = None
    usage: dict[str, Any] | None = None
    error: msgspec.Raw = NULL


class _Event(msgspec.Struct):
    type: str
    message: _Message | None = None
    content_block: _Block | None = None
    delta: _Block | None = None
    usage: dict[str, Any] | None = None
    error: msgspec.Raw = NULL
    object: str = ""


_DELTA = b'"content_block_delta"'
_MESSAGE = msgspec.json.Decoder(_Message)
_EVENT = msgspec.json.Decoder(_Event)


class NativeMessages:
    """The Messages API for its own callers."""

    name = "messages"
    path = "/v1/messages"
    host = "anthropic"
    headers: Mapping[str, str] = {"anthropic-version": API_VERSION}
    key_header = "x-api-key"
    id_header = "request-id"
    spelled = False
    drops = CHATS_OWN
    passes = True
    least_output = 0

    def request(self, out: Outgoing, stream: bool, _: Habits, /) -> Written:
        """The caller's body, except for model, stream and cap."""
        fields = own_body(out, stream, CHATS_OWN)
        if out.max_output_tokens is not None:
            _cap(fields, out.max_output_tokens, out.changed)
        return Written(out, _ENCODER.encode(fields), eased=eased)

    def answer(self, written: Written, body: bytes, seen: Seen) -> Answer:
        """A complete answer, joined if it came as a stream unasked."""
        server = written.out.deployment
        if not is_stream(body):
            return read_whole(server, body, seen.request_id)
        reader, whole, usage = self.reader(written, seen), Collected(), None
        try:
            for payload in events_of(body):
                if (frame := reader.read(payload)) is not None:
                    usage = frame.usage or usage
                whole.add(payload)
            if not reader.finished:
                raise malformed(
                    server, "it sent an unfinished stream, and a complete answer was requested"
                )
        except ProviderError as error:
            if usage is None:
                raise
            raise FailedAnswerError(error, Answer(b"", usage, finish_reasons=("error",))) from None
        return read_whole(server, _ENCODER.encode(whole.whole()), seen.request_id)

    def reader(self, written: Written, seen: Seen) -> EventReader:
        """What reads the answer's stream."""
        return EventReader(written.out.deployment, seen.request_id)

    def frame(self, _: Outgoing, answer: Answer) -> Frame:
        """A complete answer as the only event of a stream."""
        return whole_frame(answer)


def whole_frame(answer: Answer) -> Frame:
    """A complete answer of this wire, as all events of a stream at once."""
    return Frame(
        data=events_of_message(msgspec.json.decode(answer.body)),
        content=True,
        output_bytes=answer.output_bytes,
        usage=answer.usage,
        response_id=answer.response_id,
        response_model=answer.response_model,
        finish_reason=answer.finish_reasons[0] if answer.finish_reasons else "",
        provider_request_id=answer.provider_request_id,
        service=answer.service,
    )


def _cap(fields: dict[str, object], cap: int, changed: list[str]) -> None:
    """Lower the caller's cap, and its budget for thinking, which must be below that."""
    raw = fields.get("max_tokens")
    try:
        if isinstance(raw, msgspec.Raw) and msgspec.json.decode(raw, type=int) <= cap:
            return
    except DECODE_ERRORS:
        raise invalid("'max_tokens' must be an integer", param="max_tokens") from None
    fields["max_tokens"] = cap
    given = fields.get("thinking")
    if not isinstance(given, msgspec.Raw) or not is_set(given):
        return
    thinking = msgspec.json.decode(given)
    if not isinstance(thinking, dict) or thinking.get("type") != "enabled":
        return
    if (fitting := fit(thinking, cap)) == thinking:
        return
    changed.append("thinking")
    if fitting is None:
        leave_out(fields)
    else:
        fields["thinking"] = fitting


def read_whole(server: Server, body: bytes, request_id: str) -> Answer:
    """A complete answer.

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
    return Answer(
        body=body,
        usage=usage,
        response_id=message.id or "",
        response_model=message.model or "",
        finish_reasons=(FINISH_REASONS.get(message.stop_reason or "", "stop"),),
        provider_request_id=request_id,
        output_bytes=sum(map(_size, message.content)),
        service=anthropic_service(message.usage),
    )


def _size(block: _Block) -> int:
    """Bytes of text, thinking and tool input; results of tools are not the model's output."""
    size = text_bytes(block.text) + text_bytes(block.thinking) + text_bytes(block.partial_json)
    return size + (len(bytes(block.input)) if is_set(block.input) else 0)


def _is_error(event: _Event) -> bool:
    return event.type == "error" or event.object == "error" or is_set(event.error)


class EventReader(StreamState):
    """Reads one stream, whose events are relayed as they came."""

    __slots__ = ()

    def usual(self, payload: bytes) -> Frame | None:
        """A delta behind the first one: it is decoded, but what waits for the rest is not woken."""
        if not self.began or _DELTA not in payload or type(payload) is ErrorPayload:
            return None
        try:
            event = _EVENT.decode(payload)
        except DECODE_ERRORS:
            return None
        if event.type != "content_block_delta" or event.delta is None or _is_error(event):
            return None
        size = _size(event.delta)
        return Frame(
            relayed(event.type, payload),
            size > 0,
            size,
            provider_request_id=self.request_id,
            usual=True,
        )

    def read(self, payload: bytes) -> Frame | None:
        """The event; None for the end mark.

        Raises:
            ProviderError: it is not an event of the Messages API, or it is an error.
        """
        if (known := self.usual(payload)) is not None:
            return known
        event = self.decoded(_EVENT, payload)
        kind = event.type
        if kind == "message_stop":
            self.ended = True
            return None
        if _is_error(event) or type(payload) is ErrorPayload:
            raise self.failed(payload)
        frame = Frame(relayed(kind, payload), provider_request_id=self.request_id)
        if kind == "content_block_delta" and event.delta is not None:
            frame.output_bytes = _size(event.delta)
            frame.content = frame.output_bytes > 0
        elif kind == "content_block_start" and event.content_block is not None:
            block = event.content_block
            frame.output_bytes = text_bytes(block.text) + text_bytes(block.thinking)
            frame.content = block.type not in ("text", "thinking") or frame.output_bytes > 0
        elif kind == "message_start":
            self._start(event, frame)
        elif kind == "message_delta":
            self._finish(event, frame)
        self.began = self.began or frame.content
        return frame

    def last(self) -> Frame | None:
        """Nothing follows the last event, and a stream without any answer is an error."""
        if not (self.began or self.finished):
            raise malformed(self.server, "its stream contains no answer")
        return None

    def _start(self, event: _Event, frame: Frame) -> None:
        message = event.message
        if message is None:
            raise self.malformed()
        frame.response_id, frame.response_model = message.id or "", message.model or ""
        self.count(message.usage)
        frame.service = anthropic_service(self.usage)
        frame.input_usage = self.input_usage()

    def _finish(self, event: _Event, frame: Frame) -> None:
        self.count(event.usage)
        if event.delta is None or event.delta.stop_reason is None:
            return
        frame.finish_reason = FINISH_REASONS.get(event.delta.stop_reason, "stop")
        frame.usage = self.finish()
        frame.service = anthropic_service(self.usage)
