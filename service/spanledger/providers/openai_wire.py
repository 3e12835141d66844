"""OpenAI's wire, read with the least decoding that routing and the ledger need.

Bodies and chunks are relayed as they came; what is decoded here is identity, usage, how it ended
and how much text there is. No I/O. LiteLLM's answers have the same shape and are read here too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import TypeVar

import msgspec

from spanledger.errors import ProviderError
from spanledger.pricing.reported import OpenAIUsage, from_openai
from spanledger.pricing.usage import Usage
from spanledger.providers.answer_forms import as_chunk, with_text_arguments
from spanledger.providers.base import Answer, Call, FailedAnswerError, Frame
from spanledger.providers.error_forms import failure_of, read_error_event, read_failure
from spanledger.providers.failures import invalid, refusal
from spanledger.providers.sse import ErrorPayload, encode_event

Fields = dict[str, msgspec.Raw]
Text = str | list[msgspec.Raw] | None
"""Some compatible servers send content in parts."""

UsageField = OpenAIUsage | str | int | float | bool | list[msgspec.Raw] | None
"""Garbage there must not cost the answer: it counts as no usage."""
ServiceTier = str | int | float | bool | list[msgspec.Raw] | dict[str, msgspec.Raw] | None
"""`service_tier`; what is no text says nothing."""

DECODE_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""`ValidationError` is a `DecodeError`; a text may hide invalid UTF-8, nesting may be too deep."""


DONE = b"[DONE]"
"""The payload that ends a stream."""

_NULL = msgspec.Raw(b"null")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
T = TypeVar("T")


Arguments = str | dict[str, msgspec.Raw] | list[msgspec.Raw] | int | float | bool | None
"""Of a tool call: a text with JSON in it; some servers send the JSON itself."""


class _Function(msgspec.Struct):
    arguments: Arguments = None


class _ToolCall(msgspec.Struct):
    function: _Function | None = None


class _Message(msgspec.Struct):
    """A message, or a piece of one."""

    content: Text = None
    refusal: str | None = None
    reasoning_content: Text = None
    reasoning: Text = None
    tool_calls: list[_ToolCall] | None = None
    function_call: _Function | None = None
    audio: msgspec.Raw = _NULL


class _Choice(msgspec.Struct):
    finish_reason: str | None = None
    error: msgspec.Raw = _NULL


class _FullChoice(msgspec.Struct):
    message: _Message | None = None


class _ChunkChoice(msgspec.Struct):
    delta: _Message | None = None
    finish_reason: str | None = None
    error: msgspec.Raw = _NULL
    message: msgspec.Raw = _NULL
    usage: UsageField = None
    """Moonshot's place for it."""


class _Groq(msgspec.Struct):
    usage: UsageField = None


class _Completion(msgspec.Struct):
    id: str | int | None = None
    model: str | None = None
    choices: list[_Choice] | None = None
    usage: UsageField = None
    service_tier: ServiceTier = None
    error: msgspec.Raw = _NULL


class _FullCompletion(msgspec.Struct):
    choices: list[_FullChoice]


class _Embeddings(msgspec.Struct):
    id: str | int | None = None
    model: str | None = None
    data: list[msgspec.Raw] | None = None
    usage: UsageField = None
    error: msgspec.Raw = _NULL


class _Chunk(msgspec.Struct):
    id: str | int | None = None
    model: str | None = None
    choices: list[_ChunkChoice] | None = None
    usage: UsageField = None
    service_tier: ServiceTier = None
    error: msgspec.Raw = _NULL
    x_groq: _Groq | str | int | float | bool | list[msgspec.Raw] | None = None


_COMPLETION = msgspec.json.Decoder(_Completion)
_FULL_COMPLETION = msgspec.json.Decoder(_FullCompletion)
_EMBEDDINGS = msgspec.json.Decoder(_Embeddings)
_CHUNK = msgspec.json.Decoder(_Chunk)
_OBJECT = msgspec.json.Decoder(Fields)
_INTEGER = msgspec.json.Decoder(int)
_ENCODER = msgspec.json.Encoder()


def encode_request(call: Call, *, stream: bool, cap_key: str, ask_usage: bool = True) -> bytes:
    """The body to send: the caller's own, with the model, stream and cap of this attempt.

    `cap_key` is the name the provider knows an output cap by, for callers that set none;
    `ask_usage` is False for a server that refuses `stream_options`.

    Raises:
        ProviderError: `stream_options` or a cap is not what it should be.
    """
    fields: dict[str, object] = {**call.fields, "model": call.deployment.model}
    options = fields.pop("stream_options", None)
    fields.pop("stream", None)
    if stream:
        fields["stream"] = True
        if ask_usage and call.deployment.asks_usage:
            fields["stream_options"] = _with_usage(options)
        elif isinstance(options, msgspec.Raw) and is_set(options):
            call.changed.append("stream_options")
    if call.max_output_tokens is not None and call.operation == "chat":
        _cap(fields, call.max_output_tokens, cap_key)
    return _ENCODER.encode(fields)


def asks_for_usage(options: object) -> bool:
    """Whether the caller's `stream_options` have nothing but what we add to them."""
    if not isinstance(options, msgspec.Raw) or not is_set(options):
        return True
    try:
        return _OBJECT.decode(options).keys() <= {"include_usage"}
    except DECODE_ERRORS:
        return False


def read_answer(call: Call, body: bytes, provider_request_id: str = "") -> Answer:
    """Read a whole answer.

    Raises:
        ProviderError: it is not an answer of this wire, or an error in spite of its status.
    """
    if call.operation == "embeddings":
        return _read_embeddings(call, body, provider_request_id)
    if b'"arguments":{' in body or b'"arguments": {' in body:
        body = with_text_arguments(body)
    try:
        answer = _read(_COMPLETION, body)
    except DECODE_ERRORS:
        raise unreadable(call, body, "its answer is not what OpenAI's wire says") from None
    choices = answer.choices or ()
    broken = is_set(answer.error) or any(map(_failed, choices))
    usage = from_openai(answer.usage)
    uncounted = usage is None or usage.output_tokens == 0 or usage.ambiguity != ""
    size, speech = _generated_bytes(body) if uncounted and choices else (0, 0)
    found = Answer(
        body=body,
        usage=usage,
        response_id=str(answer.id or ""),
        response_model=answer.model or "",
        finish_reasons=tuple(c.finish_reason for c in choices if c.finish_reason),
        provider_request_id=provider_request_id,
        output_bytes=size,
        speech_bytes=speech,
        service=answer.service_tier if isinstance(answer.service_tier, str) else "",
    )
    if broken or not choices:
        raise _no_answer(call, found, broken=broken)
    return found


def _read_embeddings(call: Call, body: bytes, provider_request_id: str) -> Answer:
    try:
        answer = _read(_EMBEDDINGS, body)
    except DECODE_ERRORS:
        raise unreadable(call, body, "its answer is not what OpenAI's wire says") from None
    found = Answer(
        body=body,
        usage=from_openai(answer.usage),
        response_id=str(answer.id or ""),
        response_model=answer.model or "",
        provider_request_id=provider_request_id,
    )
    if is_set(answer.error) or not answer.data:
        raise _no_answer(call, found, broken=is_set(answer.error))
    return found


def _no_answer(call: Call, found: Answer, *, broken: bool) -> ProviderError:
    """The error for a body without an answer. What it reports as used, or wrote, is billed."""
    failure = read_failure(found.body)
    if failure.named or broken:
        error = refusal(call.deployment, None, failure)
    else:
        error = malformed(call, "there is no answer in its answer")
        if b'"choices"' in found.body or b'"data"' in found.body:
            error.billed = "no"  # it is of this wire, and says that nothing was written
    if found.usage is None and not (found.output_bytes or found.speech_bytes):
        return error
    return FailedAnswerError(
        error, replace(found, finish_reasons=found.finish_reasons or ("error",))
    )


def unreadable(call: Call, body: bytes, what: str) -> ProviderError:
    """The error for a body that is not of this wire, perhaps because it is an error."""
    told = type(body) is ErrorPayload
    failure = read_error_event(body) if told else read_failure(body)
    if failure.named:
        return refusal(call.deployment, None, failure)
    if body[:512].lstrip().lower().startswith((b"<!doctype html", b"<html")):
        # A page of a website or of a proxy: no model was asked.
        error = malformed(call, "it answered with a web page; check its api_base")
        error.billed = "no"
        return error
    return malformed(call, what)


def read_chunk(call: Call, payload: bytes, provider_request_id: str, *, began: bool) -> Frame:
    """Read one chunk of a stream. `began`: content came before it, so money may be owed.

    Raises:
        ProviderError: it is no chunk, or an error.
    """
    try:
        chunk = _read(_CHUNK, payload)
    except DECODE_ERRORS:
        error = unreadable(call, payload, "a chunk is not what OpenAI's wire says")
        if began:
            error.billed = "unknown"
        raise error from None
    size = speech = 0
    content = odd = False
    broken = chunk.error is not _NULL and is_set(chunk.error)
    finish_reason = ""
    beside: UsageField = None
    for choice in chunk.choices or ():
        if choice.finish_reason:
            finish_reason = choice.finish_reason
            broken = broken or finish_reason == "error"
        if choice.error is not _NULL:
            broken = broken or is_set(choice.error)
        beside = choice.usage or beside
        if (delta := choice.delta) is not None:
            size += _message_bytes(delta)
            content = content or bool(delta.tool_calls or delta.function_call)
            if is_set(delta.audio):
                content, speech = True, speech + len(bytes(delta.audio))
            if content and not odd:
                odd = _has_odd_arguments(delta)
        elif is_set(choice.message):
            odd = True
    usage = from_openai(chunk.usage) if chunk.usage is not None else None
    if usage is None and (beside or chunk.x_groq is not None):
        usage = from_openai(beside) or from_openai(getattr(chunk.x_groq, "usage", None))
    if broken or not chunk.choices:
        _check_chunk(call, payload, chunk, usage, began=began or content)
    elif odd:
        return read_chunk(call, as_chunk(payload), provider_request_id, began=began)
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
    call: Call, payload: bytes, chunk: _Chunk, usage: Usage | None, *, began: bool
) -> None:
    """Raise what a chunk without choices, or with an error in it, says."""
    failure = read_failure(payload)
    broken = is_set(chunk.error) or any(map(_failed, chunk.choices or ()))
    if not (broken or failure.named or type(payload) is ErrorPayload):
        return
    error = refusal(call.deployment, None, failure, billed="unknown" if began else "no")
    if usage is None:
        raise error
    raise FailedAnswerError(error, Answer(payload, usage, finish_reasons=("error",)))


def _failed(choice: _Choice | _ChunkChoice) -> bool:
    return choice.finish_reason == "error" or is_set(choice.error)


def _read(decoder: msgspec.json.Decoder[T], data: bytes) -> T:
    """Decode what a provider sent; half a character is a character to us.

    A server that cuts its text between two UTF-16 units sends each as an escape of its own. Other
    JSON readers take that, so it goes out as it came and costs nobody an answer.
    """
    try:
        return decoder.decode(data)
    except msgspec.DecodeError:
        readable = _SURROGATE.sub(rb"\\ufffd", data)
        if readable == data:
            raise
        return decoder.decode(readable)


def malformed(call: Call, what: str) -> ProviderError:
    """The error for an answer that is not the wire it should be; it may well be billed."""
    deployment = call.deployment
    return ProviderError(
        "malformed_response",
        f"deployment {deployment.id!r} ({deployment.provider}): {what}",
        billed="unknown",
    )


def embedded_error(call: Call, raw: bytes, *, billed: str) -> ProviderError:
    """The error for an `error` object that came under a good status."""
    try:
        data = msgspec.json.decode(raw)
    except DECODE_ERRORS:
        data = None
    return refusal(call.deployment, None, failure_of({"error": data}), billed=billed)


def is_json(payload: bytes) -> bool:
    """Whether a payload is whole JSON."""
    try:
        msgspec.json.decode(payload)
    except DECODE_ERRORS:
        return False
    return True


def is_set(raw: msgspec.Raw) -> bool:
    """Whether a raw value is there and not null."""
    return raw is not _NULL and bytes(raw) != b"null"


def text_bytes(text: Text) -> int:
    """UTF-8 bytes of generated text."""
    if not text:
        return 0
    if isinstance(text, str):
        return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
    return sum(len(bytes(part)) for part in text)


def _message_bytes(message: _Message) -> int:
    size = text_bytes(message.content) + text_bytes(message.refusal)
    size += text_bytes(message.reasoning_content) + text_bytes(message.reasoning)
    if message.tool_calls:
        size += _argument_bytes(call.function for call in message.tool_calls)
    if message.function_call is not None:
        size += _argument_bytes((message.function_call,))
    return size


def _argument_bytes(functions: Iterable[_Function | None]) -> int:
    return sum(
        text_bytes(function.arguments)
        for function in functions
        if function is not None and isinstance(function.arguments, str)
    )


def _has_odd_arguments(message: _Message) -> bool:
    """Whether a tool call's arguments are the JSON itself and not a text with it."""
    functions = [call.function for call in message.tool_calls or ()]
    return any(
        function is not None and not isinstance(function.arguments, str | None)
        for function in (*functions, message.function_call)
    )


def _generated_bytes(body: bytes) -> tuple[int, int]:
    """Bytes of text and of speech in a whole answer."""
    try:
        choices = _read(_FULL_COMPLETION, body).choices
    except DECODE_ERRORS:
        return len(body), 0
    messages = [choice.message for choice in choices if choice.message]
    spoken = sum(len(bytes(message.audio)) for message in messages if is_set(message.audio))
    return sum(map(_message_bytes, messages)), spoken


def _with_usage(options: object) -> dict[str, object]:
    merged: dict[str, object] = {}
    if isinstance(options, msgspec.Raw) and is_set(options):
        try:
            merged.update(_OBJECT.decode(options))
        except DECODE_ERRORS:
            raise invalid("'stream_options' must be an object", param="stream_options") from None
    merged["include_usage"] = True
    return merged


def _cap(fields: dict[str, object], cap: int, cap_key: str) -> None:
    """Lower the caller's own caps; set one where there is none. Both at once is an error there."""
    capped = False
    for key in ("max_completion_tokens", "max_tokens"):
        raw = fields.get(key)
        if not isinstance(raw, msgspec.Raw) or not is_set(raw):
            continue
        try:
            wanted = _INTEGER.decode(raw)
        except DECODE_ERRORS:
            raise invalid(f"{key!r} must be an integer", param=key) from None
        fields[key] = min(wanted, cap)
        capped = True
    if not capped:
        fields[cap_key] = cap
