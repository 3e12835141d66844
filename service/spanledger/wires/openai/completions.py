"""OpenAI's legacy completions: a prompt goes in, the text that follows it comes out.

A whole answer and a chunk of a stream have the same shape. A request may have many prompts, each of
which gets `n` answers; `best_of` of them are written and billed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence

import msgspec
from msgspec.structs import replace

from spanledger.errors import InvalidRequestError, ProviderError
from spanledger.pricing.demand import Demand
from spanledger.pricing.media import UNREADABLE
from spanledger.pricing.reported import from_openai
from spanledger.pricing.usage import Usage, estimate_tokens
from spanledger.wires.base import (
    Answer,
    Ask,
    Content,
    FailedAnswerError,
    Frame,
    Operation,
    Outgoing,
    Reader,
    Seen,
    Server,
    Written,
)
from spanledger.wires.bounds import MAX_CHOICES, MAX_OUTPUT_TOKENS, bounded, unchecked
from spanledger.wires.error_forms import read_failure
from spanledger.wires.failures import failed_after, malformed, refusal, reported_by, unreadable
from spanledger.wires.fields import (
    DECODE_ERRORS,
    NULL,
    Fields,
    JsonValue,
    boolean,
    decode,
    is_set,
    missing,
    positive,
    route_of,
    text_bytes,
    wrong,
)
from spanledger.wires.openai.answer import DONE, END, ServiceTier, UsageField, decoded, no_answer
from spanledger.wires.openai.attributes import CHAT_ATTRIBUTES, read_attributes
from spanledger.wires.openai.chat import include_usage
from spanledger.wires.openai.inbound import OpenAIInbound
from spanledger.wires.openai.outbound import ChatOut, ChatReader
from spanledger.wires.openai.spelling import check_spelling
from spanledger.wires.sse import ErrorPayload, encode_event, events_of, is_stream

MAX_PROMPTS = 2_048
"""What OpenAI allows in one request."""
_LIST = msgspec.json.Decoder(list[msgspec.Raw])


class Completions(OpenAIInbound):
    """The inbound wire."""

    name = "completions"
    path = "/v1/completions"
    operation: Operation = "text_completion"

    end = END

    def read(self, body: bytes) -> Ask:
        """Read a request and check what the gateway acts on. Raises InvalidRequestError."""
        fields = decode(body)
        route = route_of(fields)
        check_spelling(fields)
        if "prompt" not in fields:
            raise missing("prompt")
        prompts = prompts_in(fields)
        cap = _cap(fields)
        choices = positive(fields, "n", MAX_CHOICES) or 1
        best = positive(fields, "best_of", MAX_CHOICES) or 1
        stream = boolean(fields, "stream", "stream")
        usage, size = include_usage(fields), len(body)
        demand = _demand(fields, size, cap, prompts * max(choices, best))
        demand.inputs = prompts
        return Ask(self, route, stream, usage, fields, size, demand)

    def demand(self, fields: Fields, body_bytes: int) -> Demand:
        """What bounds the cost of these fields, where a deployment changed the caller's."""
        answers = max(unchecked(fields, "n") or 1, unchecked(fields, "best_of") or 1)
        prompts, cap = 1, None
        with contextlib.suppress(InvalidRequestError, KeyError):
            prompts = prompts_in(fields)
            cap = _cap(fields)
        demand = _demand(fields, body_bytes, cap, answers * prompts)
        demand.inputs = prompts
        return demand

    def estimate(self, fields: Mapping[str, msgspec.Raw]) -> Usage:
        """The prompts' tokens, counted by us because no provider did."""
        return Usage(_prompt_tokens(fields))

    def attributes(self, fields: Mapping[str, msgspec.Raw]) -> dict[str, object]:
        """The request's parameters under the names of the GenAI conventions."""
        return read_attributes(fields, CHAT_ATTRIBUTES)

    def content(
        self, fields: Mapping[str, msgspec.Raw], answer: bytes, events: Sequence[bytes]
    ) -> Content:
        """What was said: the prompts, and the texts that follow them."""
        texts = [text for text in _prompts(fields) if isinstance(text, str)]
        return Content([_message("user", t) for t in texts], _written(answer, events), [])


def prompts_in(fields: Fields) -> int:
    """How many prompts a request has. Raises InvalidRequestError."""
    raw = fields["prompt"]
    if bytes(memoryview(raw)[:1]) == b'"':
        return 1
    try:
        items = _LIST.decode(raw)
    except DECODE_ERRORS:
        items = []
    if not items:
        raise wrong("prompt", "a string, a list of strings, or tokens")
    if bytes(memoryview(items[0])[:1]).isdigit():
        return 1
    if len(items) > MAX_PROMPTS:
        raise wrong("prompt", f"a list of at most {MAX_PROMPTS} prompts")
    return len(items)


def _cap(fields: Fields) -> int | None:
    """The caller's cap; 0 asks for nothing but what the prompt's tokens are worth (`echo`)."""
    raw = fields.get("max_tokens")
    if raw is not None and bytes(raw) == b"0":
        return 0
    return positive(fields, "max_tokens", MAX_OUTPUT_TOKENS)


def _demand(fields: Fields, body_bytes: int, cap: int | None, answers: int) -> Demand:
    others = {name: raw for name, raw in fields.items() if name != "best_of"}
    return bounded(others, body_bytes, (cap, None), answers)


def _prompts(fields: Mapping[str, msgspec.Raw]) -> list[JsonValue]:
    """The prompts: texts, lists of tokens, or the tokens of one."""
    try:
        given = msgspec.json.decode(fields["prompt"])
    except (*UNREADABLE, KeyError):
        return []
    return given if isinstance(given, list) else [given]


def _prompt_tokens(fields: Mapping[str, msgspec.Raw]) -> int:
    total = 0
    for item in _prompts(fields):
        if isinstance(item, str):
            total += estimate_tokens(text_bytes(item))
        else:
            total += len(item) if isinstance(item, list) else 1
    return total


# answers ----------------------------------------------------------------------------------


class _Choice(msgspec.Struct):
    index: int = 0
    text: str | None = None
    finish_reason: str | None = None
    error: msgspec.Raw = NULL


class _Completion(msgspec.Struct):
    """A whole answer, or a chunk."""

    id: str | int | None = None
    model: str | None = None
    choices: list[_Choice] | None = None
    usage: UsageField = None
    service_tier: ServiceTier = None
    error: msgspec.Raw = NULL


_COMPLETION = msgspec.json.Decoder(_Completion)


def _failed(found: _Completion) -> bool:
    choices = found.choices or ()
    return is_set(found.error) or any(
        c.finish_reason == "error" or is_set(c.error) for c in choices
    )


def read_completion(server: Server, body: bytes, provider_request_id: str) -> Answer:
    """Read a whole answer. Raises ProviderError."""
    try:
        answer = decoded(_COMPLETION, body)
    except DECODE_ERRORS:
        raise unreadable(server, body, "its answer is not in OpenAI's format") from None
    choices = answer.choices or ()
    found = Answer(
        body=body,
        usage=from_openai(answer.usage),
        response_id=str(answer.id or ""),
        response_model=answer.model or "",
        finish_reasons=tuple(c.finish_reason for c in choices if c.finish_reason),
        provider_request_id=provider_request_id,
        output_bytes=sum(text_bytes(choice.text) for choice in choices),
        service=answer.service_tier if isinstance(answer.service_tier, str) else "",
    )
    if found.usage is not None and found.usage.output_tokens == 0 and not found.usage.ambiguity:
        found = replace(found, output_bytes=0)  # an echo of the prompt is not output
    broken = _failed(answer)
    if broken or not choices:
        raise no_answer(server, found, broken=broken)
    return found


def read_text_chunk(
    server: Server, payload: bytes, provider_request_id: str, *, began: bool
) -> Frame:
    """Read one chunk of a stream. Raises ProviderError."""
    try:
        chunk = decoded(_COMPLETION, payload)
    except DECODE_ERRORS:
        error = unreadable(server, payload, "a chunk is not in OpenAI's format")
        if began:
            error.billed = "unknown"
        raise error from None
    usage = from_openai(chunk.usage)
    choices = chunk.choices or ()
    size = sum(text_bytes(choice.text) for choice in choices)
    if _failed(chunk) or not choices:
        _check(server, payload, chunk, usage, began=began or size > 0)
    finish = next((c.finish_reason for c in reversed(choices) if c.finish_reason), "")
    return Frame(
        data=encode_event(payload),
        content=size > 0,
        output_bytes=size,
        usage_only=usage is not None and not choices,
        usage=usage,
        response_id=str(chunk.id or ""),
        response_model=chunk.model or "",
        finish_reason=finish or "",
        provider_request_id=provider_request_id,
        service=chunk.service_tier if isinstance(chunk.service_tier, str) else "",
    )


def _check(
    server: Server, payload: bytes, chunk: _Completion, usage: Usage | None, *, began: bool
) -> None:
    """Raise the error in a chunk, or in one without choices."""
    failure = read_failure(payload)
    if not (_failed(chunk) or failure.named or type(payload) is ErrorPayload):
        return
    error = refusal(server, None, failure, billed="unknown" if began else "no")
    if usage is None:
        raise error
    raise FailedAnswerError(error, Answer(payload, usage, finish_reasons=("error",)))


class CompletionsReader(ChatReader):
    """Reads one stream of chunks with text."""

    __slots__ = ()

    def read(self, payload: bytes) -> Frame | None:
        """The chunk as it came; None for the end mark."""
        if payload.startswith(DONE):
            self.ended = True
            return None
        frame = read_text_chunk(self._server, payload, self._request_id, began=self._began)
        self._began = self._began or frame.content
        self._finished += bool(frame.finish_reason)
        self._counted = self._counted or frame.usage is not None
        return frame

    def _is_whole(self) -> bool:
        return self._finished > 0 and (self._counted or self._finished >= self._answers())

    def _answers(self) -> int:
        """How many answers the stream has."""
        fields = dict(self._fields)
        try:
            return prompts_in(fields) * (unchecked(fields, "n") or 1)
        except (InvalidRequestError, KeyError):
            return 1


class CompletionsOut(ChatOut):
    """Legacy completions, for callers that speak them too."""

    name = "completions"
    path = "/completions"
    spelled = False

    def answer(self, written: Written, body: bytes, seen: Seen) -> Answer:
        """A complete answer, joined if it came as a stream unasked."""
        server = written.out.deployment
        if is_stream(body):
            return joined_text(server, body, seen.request_id)
        return read_completion(server, body, seen.request_id)

    def reader(self, written: Written, seen: Seen) -> Reader:
        """What reads the answer's stream."""
        return CompletionsReader(written.out.deployment, written.out.fields, seen.request_id)

    def frame(self, out: Outgoing, answer: Answer, /) -> Frame:
        """A complete answer as the only event of a stream: both have the same shape."""
        server = out.deployment
        frame = read_text_chunk(server, answer.body, answer.provider_request_id, began=False)
        frame.usage = answer.usage or frame.usage
        return frame


def joined_text(server: Server, body: bytes, provider_request_id: str) -> Answer:
    """The complete answer that a stream adds up to. Raises ProviderError."""
    reader = CompletionsReader(server, {}, provider_request_id)
    frames: list[Frame] = []
    try:
        for payload in events_of(body):
            frame = reader.read(payload)
            if frame is None:
                break
            frames.append(frame)
        reader.last()
        if not any(frame.finish_reason for frame in frames):
            raise malformed(server, "it sent an unfinished stream where an answer was requested")
    except FailedAnswerError:
        raise
    except ProviderError as error:
        raise failed_after(error, frames) from None
    whole = _whole([frame.data for frame in frames])
    found = read_completion(server, whole, provider_request_id)
    return replace(found, usage=reported_by(frames) or found.usage)


def _whole(events: Sequence[bytes]) -> bytes:
    """One answer with the texts of all chunks."""
    found: dict[str, object] = {}
    choices: dict[object, dict[str, object]] = {}
    for chunk in _chunks(events):
        found = {**found, **{k: v for k, v in chunk.items() if v is not None}}
        for choice in _objects(chunk.get("choices")):
            own = choices.setdefault(choice.get("index"), {**choice, "text": ""})
            own["text"] = f"{own['text']}{choice.get('text') or ''}"
            if choice.get("finish_reason"):
                own["finish_reason"] = choice["finish_reason"]
    return msgspec.json.encode({**found, "choices": list(choices.values())})


def _chunks(events: Sequence[bytes]) -> list[dict[str, object]]:
    found = []
    for event in events:
        try:
            chunk = msgspec.json.decode(event.removeprefix(b"data: "))
        except DECODE_ERRORS:
            continue
        if isinstance(chunk, dict):
            found.append(chunk)
    return found


def _objects(value: object) -> list[dict[str, object]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _message(role: str, text: str, **more: str) -> dict[str, object]:
    return {"role": role, "parts": [{"type": "text", "content": text}], **more}


def _written(answer: bytes, events: Sequence[bytes]) -> list[JsonValue]:
    """The answers as messages; what a stream did not finish has the reason `error`."""
    (whole,) = _chunks([_whole(events) if events else answer]) or ({},)
    return [
        _message(
            "assistant",
            str(choice.get("text") or ""),
            finish_reason=str(choice.get("finish_reason") or "error"),
        )
        for choice in _objects(whole.get("choices"))
    ]
