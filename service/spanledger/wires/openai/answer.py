"""OpenAI's wire, read with the least decoding that routing and the ledger need.

Bodies and chunks are relayed as they came. Only identity, usage, the finish reason and the amount of
text are decoded. LiteLLM's answers have the same shape and are read here too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace

from spanledger.errors import ProviderError
from spanledger.pricing.reported import OpenAIUsage, from_openai
from spanledger.pricing.searches import with_citations
from spanledger.pricing.usage import Usage
from spanledger.wires.base import Answer, FailedAnswerError, Frame, Server
from spanledger.wires.error_forms import read_failure
from spanledger.wires.failures import malformed, refusal, unreadable
from spanledger.wires.fields import DECODE_ERRORS, NULL, Text, is_set, text_bytes
from spanledger.wires.openai.answer_forms import as_chunk, with_text_arguments
from spanledger.wires.sse import ErrorPayload, encode_event

UsageField = OpenAIUsage | str | int | float | bool | list[msgspec.Raw] | None
"""Garbage in `usage` must not cost the answer: it counts as no usage."""
ServiceTier = str | int | float | bool | list[msgspec.Raw] | dict[str, msgspec.Raw] | None
"""`service_tier`; anything but a string is ignored."""

DONE = b"[DONE]"
"""The payload that ends a stream."""
END = b"data: [DONE]\n\n"
"""The event with it."""

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
T = TypeVar("T")


Arguments = str | dict[str, msgspec.Raw] | list[msgspec.Raw] | int | float | bool | None
"""Of a tool call: a string with JSON in it; some servers send the JSON itself."""


class _Function(msgspec.Struct):
    arguments: Arguments = None


class _ToolCall(msgspec.Struct):
    function: _Function | None = None
    custom: Any = None
    """A call of a custom tool, with a free text in `input`."""


class _Message(msgspec.Struct):
    """A message, or a piece of one."""

    content: Text = None
    refusal: str | None = None
    reasoning_content: Text = None
    reasoning: Text = None
    tool_calls: list[_ToolCall] | None = None
    function_call: _Function | None = None
    audio: msgspec.Raw = NULL
    annotations: msgspec.Raw = NULL


class _Choice(msgspec.Struct):
    finish_reason: str | None = None
    error: msgspec.Raw = NULL


class _FullChoice(msgspec.Struct):
    message: _Message | None = None


class _ChunkChoice(msgspec.Struct):
    delta: _Message | None = None
    finish_reason: str | None = None
    error: msgspec.Raw = NULL
    message: msgspec.Raw = NULL
    usage: UsageField = None
    """Where Moonshot puts it."""


class _Groq(msgspec.Struct):
    usage: UsageField = None


class _Completion(msgspec.Struct):
    id: str | int | None = None
    model: str | None = None
    choices: list[_Choice] | None = None
    usage: UsageField = None
    service_tier: ServiceTier = None
    error: msgspec.Raw = NULL


class _FullCompletion(msgspec.Struct):
    choices: list[_FullChoice]


class _Chunk(msgspec.Struct):
    id: str | int | None = None
    model: str | None = None
    choices: list[_ChunkChoice] | None = None
    usage: UsageField = None
    service_tier: ServiceTier = None
    error: msgspec.Raw = NULL
    x_groq: _Groq | str | int | float | bool | list[msgspec.Raw] | None = None


_COMPLETION = msgspec.json.Decoder(_Completion)
_FULL_COMPLETION = msgspec.json.Decoder(_FullCompletion)
_CHUNK = msgspec.json.Decoder(_Chunk)


def read_answer(server: Server, body: bytes, provider_request_id: str = "") -> Answer:
    """Read a complete answer.

    Raises:
        ProviderError: it is not an answer in this wire, or it is an error despite its status.
    """
    if b'"arguments"' in body and (b'"arguments":{' in body or b'"arguments": {' in body):
        body = with_text_arguments(body)
    try:
        answer = decoded(_COMPLETION, body)
    except DECODE_ERRORS:
        raise unreadable(server, body, "its answer is not in OpenAI's format") from None
    choices = answer.choices or ()
    broken = is_set(answer.error)
    finish_reasons = []
    for choice in choices:
        broken = broken or _failed(choice)
        if choice.finish_reason:
            finish_reasons.append(choice.finish_reason)
    usage = with_citations(from_openai(answer.usage), body)
    uncounted = usage is None or usage.output_tokens == 0 or usage.ambiguity != ""
    size, speech = _generated_bytes(body) if uncounted and choices else (0, 0)
    found = Answer(
        body=body,
        usage=usage,
        response_id=str(answer.id or ""),
        response_model=answer.model or "",
        finish_reasons=tuple(finish_reasons),
        provider_request_id=provider_request_id,
        output_bytes=size,
        speech_bytes=speech,
        service=answer.service_tier if isinstance(answer.service_tier, str) else "",
    )
    if broken or not choices:
        raise no_answer(server, found, broken=broken)
    return found


def no_answer(server: Server, found: Answer, *, broken: bool) -> ProviderError:
    """The error for a body without an answer. Usage that it reports, and text in it, are billed."""
    failure = read_failure(found.body)
    if failure.named or broken:
        error = refusal(server, None, failure)
    else:
        error = malformed(server, "its response contains no answer")
        if b'"choices"' in found.body or b'"data"' in found.body:
            error.billed = "no"  # it is in this wire, and says that nothing was written
    if found.usage is None and not (found.output_bytes or found.speech_bytes):
        return error
    return FailedAnswerError(
        error, replace(found, finish_reasons=found.finish_reasons or ("error",))
    )


def read_chunk(server: Server, payload: bytes, provider_request_id: str, *, began: bool) -> Frame:
    """Read one chunk of a stream. `began`: content came earlier, so money may be owed.

    Raises:
        ProviderError: it is not a chunk, or it is an error.
    """
    try:
        chunk = decoded(_CHUNK, payload)
    except DECODE_ERRORS:
        error = unreadable(server, payload, "a chunk is not in OpenAI's format")
        if began:
            error.billed = "unknown"
        raise error from None
    size = speech = 0
    content = odd = False
    broken = chunk.error is not NULL and is_set(chunk.error)
    finish_reason = ""
    beside: UsageField = None
    cited: Usage | None = None
    for choice in chunk.choices or ():
        if choice.finish_reason:
            finish_reason = choice.finish_reason
            broken = broken or finish_reason == "error"
        if choice.error is not NULL:
            broken = broken or is_set(choice.error)
        beside = choice.usage or beside
        if (delta := choice.delta) is not None:
            size += _message_bytes(delta)
            content = content or bool(delta.tool_calls or delta.function_call)
            if is_set(delta.audio):
                content, speech = True, speech + len(bytes(delta.audio))
            if delta.annotations is not NULL:
                cited = with_citations(cited, bytes(delta.annotations))
            if content and not odd:
                odd = _has_odd_arguments(delta)
        elif is_set(choice.message):
            odd = True
    usage = from_openai(chunk.usage) if chunk.usage is not None else None
    if usage is None and (beside or chunk.x_groq is not None):
        usage = from_openai(beside) or from_openai(getattr(chunk.x_groq, "usage", None))
    if cited is not None:  # said before the usage, which does not count searches
        usage = cited if usage is None else cited.followed_by(usage)
    if broken or not chunk.choices:
        _check_chunk(server, payload, chunk, usage, began=began or content)
    elif odd:
        return read_chunk(server, as_chunk(payload), provider_request_id, began=began)
    return Frame(
        data=encode_event(payload),
        content=content or size > 0,
        output_bytes=size,
        usage_only=usage is not None and not chunk.choices,
        usage=usage,
        response_id=str(chunk.id or ""),
        response_model=chunk.model or "",
        finish_reason=finish_reason,
        provider_request_id=provider_request_id,
        speech_bytes=speech,
        service=chunk.service_tier if isinstance(chunk.service_tier, str) else "",
    )


def _check_chunk(
    server: Server, payload: bytes, chunk: _Chunk, usage: Usage | None, *, began: bool
) -> None:
    """Raise the error in a chunk, or in one without choices."""
    failure = read_failure(payload)
    broken = is_set(chunk.error) or any(map(_failed, chunk.choices or ()))
    if not (broken or failure.named or type(payload) is ErrorPayload):
        return
    error = refusal(server, None, failure, billed="unknown" if began else "no")
    if usage is None:
        raise error
    raise FailedAnswerError(error, Answer(payload, usage, finish_reasons=("error",)))


def _failed(choice: _Choice | _ChunkChoice) -> bool:
    return choice.finish_reason == "error" or is_set(choice.error)


def decoded(decoder: msgspec.json.Decoder[T], data: bytes) -> T:
    """Decode what a provider sent; half a character counts as one.

    A server that splits its text between two UTF-16 units sends each as an escape of its own. Other
    JSON readers accept that, so it is relayed as it came.
    """
    try:
        return decoder.decode(data)
    except msgspec.DecodeError:
        readable = _SURROGATE.sub(rb"\\ufffd", data)
        if readable == data:
            raise
        return decoder.decode(readable)


def _message_bytes(message: _Message) -> int:
    size = text_bytes(message.content) + text_bytes(message.refusal)
    size += text_bytes(message.reasoning_content) + text_bytes(message.reasoning)
    if message.tool_calls:
        size += _argument_bytes(call.function for call in message.tool_calls)
        size += sum(_input_bytes(c.custom) for c in message.tool_calls if c.custom is not None)
    if message.function_call is not None:
        size += _argument_bytes((message.function_call,))
    return size


def _input_bytes(custom: Any) -> int:
    given = custom.get("input") if isinstance(custom, dict) else None
    return text_bytes(given) if isinstance(given, str) else 0


def _argument_bytes(functions: Iterable[_Function | None]) -> int:
    return sum(
        text_bytes(function.arguments)
        for function in functions
        if function is not None and isinstance(function.arguments, str)
    )


def _has_odd_arguments(message: _Message) -> bool:
    """Whether a tool call's arguments are JSON rather than a string with JSON in it."""
    functions = [call.function for call in message.tool_calls or ()]
    return any(
        function is not None and not isinstance(function.arguments, str | None)
        for function in (*functions, message.function_call)
    )


def _generated_bytes(body: bytes) -> tuple[int, int]:
    """Bytes of text and of audio in a complete answer."""
    try:
        choices = decoded(_FULL_COMPLETION, body).choices
    except DECODE_ERRORS:
        return len(body), 0
    messages = [choice.message for choice in choices if choice.message]
    spoken = sum(len(bytes(message.audio)) for message in messages if is_set(message.audio))
    return sum(map(_message_bytes, messages)), spoken
