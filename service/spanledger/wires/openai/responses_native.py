"""The Responses API as deployments speak it, for callers who speak it too.

Requests and answers pass as they are, except for model, cap and the ids of answers, by which a
caller's next request finds the deployment again (`answer_ids`). A stream ends with the event that
has the whole answer: `response.completed`, `response.incomplete` or `response.failed`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import msgspec

from spanledger.errors import ProviderError
from spanledger.pricing.reported import OpenAIUsage, from_openai
from spanledger.pricing.searches import searches_in, with_searches
from spanledger.pricing.usage import PROMPT_MISSING, Usage
from spanledger.wires.answer_ids import AnswerId, answer_id, quoted, relabelled
from spanledger.wires.base import (
    Answer,
    FailedAnswerError,
    Frame,
    Habits,
    LateAnswer,
    Outgoing,
    Seen,
    Server,
    Written,
)
from spanledger.wires.compactions import marked, unmarked
from spanledger.wires.error_forms import read_error_event
from spanledger.wires.failures import embedded_error, invalid, malformed, refusal, unreadable
from spanledger.wires.fields import DECODE_ERRORS, NULL, is_json, is_set, text_bytes
from spanledger.wires.openai.answer import DONE, decoded
from spanledger.wires.openai.foreign_items import eased, without_ours
from spanledger.wires.own_body import own_body
from spanledger.wires.sse import ErrorPayload, events_of, is_stream

_ENCODER = msgspec.json.Encoder()
_CAPS = ("max_completion_tokens", "max_tokens")
NOT_OURS = frozenset(
    {
        "audio",
        "frequency_penalty",
        "function_call",
        "functions",
        "logit_bias",
        "logprobs",
        "modalities",
        "n",
        "prediction",
        "presence_penalty",
        "response_format",
        "seed",
        "stop",
        "verbosity",
        "web_search_options",
    }
)
"""Fields of chat completions, which a deployment's settings may have: this API refuses them."""
UNSEEN_BYTES = 4_096
"""Counted for an answer that is written in the background, as 1,024 tokens: what is charged for an
answer that nobody saw, on a route that has not answered yet."""
_WRITING = frozenset({"queued", "in_progress"})
_LAST_EVENTS = frozenset(
    {"response.completed", "response.incomplete", "response.failed", "response.cancelled"}
)
_DELTA = ".delta"
_DELTA_MARK = b'.delta"'
_ITEM_DONE = "response.output_item.done"
_ENDS = {"max_output_tokens": "length", "content_filter": "content_filter"}
_CALLS = frozenset({"function_call", "custom_tool_call"})


class _Part(msgspec.Struct):
    text: str | None = None
    refusal: str | None = None


class _Item(msgspec.Struct):
    type: str = ""
    content: list[_Part] | None = None
    summary: list[_Part] | None = None
    arguments: str | None = None
    input: str | None = None
    encrypted_content: str | None = None


class _Details(msgspec.Struct):
    reason: str | None = None


class _Response(msgspec.Struct):
    id: str = ""
    object: str = ""
    model: str | None = None
    status: str | None = None
    output: list[_Item] | None = None
    usage: OpenAIUsage | None = None
    error: msgspec.Raw = NULL
    incomplete_details: _Details | None = None
    service_tier: str | None = None


class _Event(msgspec.Struct):
    type: str = ""
    delta: Any = None
    response: _Response | None = None
    error: msgspec.Raw = NULL


_RESPONSE = msgspec.json.Decoder(_Response)
_EVENT = msgspec.json.Decoder(_Event)


class Renamed(NamedTuple):
    """The answer that a request continues: the provider's id of it, and the caller's."""

    theirs: str = ""
    callers: str = ""

    def apply(self, data: bytes, provider_id: str, request_id: str) -> bytes:
        """An answer with the ids that its caller knows."""
        if self.theirs:
            data = data.replace(quoted(self.theirs), quoted(self.callers))
        data = marked(data, request_id)
        return relabelled(data, AnswerId(request_id, provider_id)) if provider_id else data


class NativeResponses:
    """The Responses API for its own callers."""

    name = "responses"
    path = "/responses"
    host = "openai"
    headers: Mapping[str, str] = {}
    key_header = ""
    id_header = "x-request-id"
    spelled = False
    drops = NOT_OURS
    passes = False
    least_output = 0

    def request(self, out: Outgoing, stream: bool, _: Habits, /) -> Written:
        """The caller's body, except for model, stream, cap, and what `written` changes."""
        fields = own_body(out, stream, NOT_OURS)
        _translate_settings(fields)
        if out.max_output_tokens is not None:
            _cap(fields, out.max_output_tokens)
        return self.written(out, fields)

    def written(self, out: Outgoing, fields: dict[str, object]) -> Written:
        """The body with the provider's id of an earlier answer, compactions as the provider made them,
        and no reasoning of ours."""
        renamed = _rename(fields)
        given = fields.get("input")
        if isinstance(given, msgspec.Raw):
            fields["input"] = without_ours(unmarked(given), out.changed)
        return Written(out, _ENCODER.encode(fields), renamed, eased=eased)

    def answer(self, written: Written, body: bytes, seen: Seen) -> Answer:
        """A complete answer; of a stream that came unasked, the answer in its last event."""
        if not is_stream(body):
            return self._whole(written, body, seen)
        reader = self.reader(written, seen)
        for payload in events_of(body):
            reader.read(payload)
            if reader.ended:
                return self._whole(written, bytes(_LAST.decode(payload).response), seen)
        raise malformed(
            written.out.deployment,
            "it sent an unfinished stream, and a complete answer was requested",
        )

    def reader(self, written: Written, seen: Seen) -> ResponseReader:
        """What reads the answer's stream."""
        return ResponseReader(written, seen)

    def frame(self, out: Outgoing, answer: Answer, /) -> Frame:
        """A complete answer as the only event of a stream."""
        del out
        kind = (
            b"response.incomplete" if "length" in answer.finish_reasons else b"response.completed"
        )
        body = b'{"type":"' + kind + b'","sequence_number":0,"response":' + answer.body + b"}"
        return Frame(
            data=_relayed(kind.decode(), body),
            content=True,
            output_bytes=answer.output_bytes,
            usage=answer.usage,
            response_id=answer.response_id,
            response_model=answer.response_model,
            finish_reason=answer.finish_reasons[0] if answer.finish_reasons else "",
            provider_request_id=answer.provider_request_id,
            service=answer.service,
            closes=True,
        )

    def _whole(self, written: Written, body: bytes, seen: Seen) -> Answer:
        server = written.out.deployment
        try:
            response = decoded(_RESPONSE, body)
        except DECODE_ERRORS:
            raise unreadable(
                server, body, "its answer is not in the Responses API's format"
            ) from None
        renamed = cast("Renamed", written.memo)
        return _answer(
            server,
            response,
            renamed.apply(body, response.id, seen.ours),
            seen.request_id,
        )


class _Last(msgspec.Struct):
    response: msgspec.Raw = NULL


_LAST = msgspec.json.Decoder(_Last)


def _delta_bytes(event: _Event) -> int:
    return text_bytes(event.delta) if isinstance(event.delta, str) else 0


class ResponseReader:
    """Reads one stream, whose events are relayed as they came but for the ids of answers."""

    __slots__ = ("_began", "_ours", "_renamed", "_request_id", "_searches", "_server", "ended")

    def __init__(self, written: Written, seen: Seen) -> None:
        self.ended = self._began = False
        self._ours = seen.ours
        self._searches = 0
        self._server = written.out.deployment
        self._renamed = cast("Renamed", written.memo)
        self._request_id = seen.request_id

    def usual(self, payload: bytes) -> Frame | None:
        """A delta behind the first one: it is decoded, but what waits for the rest is not woken."""
        if not self._began or _DELTA_MARK not in payload or type(payload) is ErrorPayload:
            return None
        try:
            event = _EVENT.decode(payload)
        except DECODE_ERRORS:
            return None
        kind = event.type
        if not kind.endswith(_DELTA) or event.response is not None or is_set(event.error):
            return None
        return Frame(
            _relayed(kind, payload),
            True,
            _delta_bytes(event),
            provider_request_id=self._request_id,
            usual=True,
        )

    def read(self, payload: bytes) -> Frame | None:
        """The event.

        Raises:
            ProviderError: it is not an event of this API, or it is an error.
        """
        if (known := self.usual(payload)) is not None:
            return known
        if payload.startswith(DONE):  # some servers have an end mark all the same
            raise self._broken("its stream ended without the event that has the answer")
        try:
            event = decoded(_EVENT, payload)
        except DECODE_ERRORS:
            error = unreadable(
                self._server, payload, "an event is not in the Responses API's format"
            )
            if self._began:
                error.billed = "unknown"
            raise error from None
        kind = event.type
        if kind == "error" or is_set(event.error) or type(payload) is ErrorPayload:
            billed = "unknown" if self._began else "no"
            raise refusal(self._server, None, read_error_event(payload), billed=billed)
        if event.response is not None:
            return self._whole(kind, event.response, payload)
        found = 0
        if kind == _ITEM_DONE:
            payload = marked(payload, self._ours)
            found = searches_in(payload)
        frame = Frame(_relayed(kind, payload), provider_request_id=self._request_id)
        if found:  # billed even if the stream breaks before its usage comes
            self._searches += found
            frame.usage = Usage(searches=self._searches, ambiguity=PROMPT_MISSING)
        if kind.endswith(_DELTA):
            frame.output_bytes = _delta_bytes(event)
            frame.content = self._began = True
        return frame

    def rest(self, tail: bytes) -> list[bytes] | None:
        """An event that no blank line ended; nothing else is missing but the answer."""
        if tail and (type(tail) is ErrorPayload or is_json(tail)):
            return [tail]
        return None

    def survives(self, error: ProviderError) -> bool:
        """The last event is the answer, so one without it is not complete."""
        del error
        return False

    def last(self) -> None:
        """Nothing follows the event that has the whole answer."""

    def _whole(self, kind: str, response: _Response, payload: bytes) -> Frame:
        """An event that has the answer as it is by then."""
        data = self._renamed.apply(payload, response.id, self._ours)
        frame = Frame(
            _relayed(kind, data),
            response_id=response.id,
            response_model=response.model or "",
            provider_request_id=self._request_id,
            service=response.service_tier or "",
        )
        if kind not in _LAST_EVENTS:
            return frame
        response.status = response.status or kind.removeprefix("response.")
        self.ended = True
        answer = _answer(self._server, response, data, self._request_id, began=self._began)
        frame.usage, frame.closes = answer.usage, True
        frame.finish_reason = answer.finish_reasons[0]
        if not self._began:
            frame.content, frame.output_bytes = True, answer.output_bytes
        return frame

    def _broken(self, why: str) -> ProviderError:
        error = malformed(self._server, why)
        if self._began:
            error = ProviderError("stream_interrupted", str(error), billed="unknown")
        return error


def read_late(body: bytes) -> LateAnswer | None:
    """An answer as it is now; None while it is being written, or for anything else."""
    try:
        found = _RESPONSE.decode(body)
    except DECODE_ERRORS:
        return None
    if not found.status or found.status in _WRITING:
        return None
    reason = "error" if found.status == "failed" else _finish(found, found.output or [])
    usage = from_openai(found.usage)
    if usage is not None:
        usage = with_searches(usage, body)
    return LateAnswer(usage, found.service_tier or "", found.model or "", reason)


def _answer(
    server: Server, response: _Response, body: bytes, request_id: str, *, began: bool = False
) -> Answer:
    """The answer in a response. Raises ProviderError for one that failed."""
    usage = with_searches(from_openai(response.usage), body)
    failed = response.status == "failed" or is_set(response.error)
    if not failed and (response.output is None or not response.id):
        raise unreadable(server, body, "its answer has no output")
    items = response.output or []
    answer = Answer(
        body=body,
        usage=usage,
        response_id=response.id,
        response_model=response.model or "",
        finish_reasons=("error",) if failed else (_finish(response, items),),
        provider_request_id=request_id,
        output_bytes=UNSEEN_BYTES if response.status in _WRITING else sum(map(_size, items)),
        service=response.service_tier or "",
        pending=response.status in _WRITING,
    )
    if not failed:
        return answer
    error = embedded_error(
        server, bytes(response.error), billed="unknown" if began or usage else "no"
    )
    if usage is None:
        raise error
    raise FailedAnswerError(error, answer)


def _finish(response: _Response, items: list[_Item]) -> str:
    """Why the answer ended, in the words of chat completions, as in every row."""
    if response.status == "incomplete":
        details = response.incomplete_details
        return _ENDS.get((details and details.reason) or "", "length")
    if response.status not in (None, "completed"):
        return response.status or ""
    return "tool_calls" if any(item.type in _CALLS for item in items) else "stop"


def _size(item: _Item) -> int:
    """Bytes of text, reasoning, arguments, and what stands for earlier items."""
    parts = [*(item.content or ()), *(item.summary or ())]
    size = sum(text_bytes(part.text) + text_bytes(part.refusal) for part in parts)
    if item.type == "compaction":
        size += text_bytes(item.encrypted_content)
    return size + text_bytes(item.arguments) + text_bytes(item.input)


def _translate_settings(fields: dict[str, object]) -> None:
    """What a deployment's settings say in the words of chat completions."""
    for name in _CAPS:
        cap = fields.pop(name, None)
        own = fields.get("max_output_tokens")
        if _is_given(cap) and not _is_given(own):
            fields["max_output_tokens"] = cap
    effort = fields.pop("reasoning_effort", None)
    if _is_given(effort) and not _is_given(fields.get("reasoning")):
        fields["reasoning"] = {"effort": effort}


def _is_given(raw: object) -> bool:
    return isinstance(raw, msgspec.Raw) and is_set(raw)


def _cap(fields: dict[str, object], cap: int) -> None:
    """Lower the caller's cap, or set one."""
    raw = fields.get("max_output_tokens")
    if isinstance(raw, msgspec.Raw) and is_set(raw):
        try:
            cap = min(cap, msgspec.json.decode(raw, type=int))
        except DECODE_ERRORS:
            raise invalid(
                "'max_output_tokens' must be an integer", param="max_output_tokens"
            ) from None
    fields["max_output_tokens"] = cap


def _rename(fields: dict[str, object]) -> Renamed:
    """Name the earlier answer as its provider does."""
    raw = fields.get("previous_response_id")
    if not isinstance(raw, msgspec.Raw) or not is_set(raw):
        return Renamed()
    callers = msgspec.json.decode(raw, type=str)
    known = answer_id(callers)
    if known is None:
        return Renamed()
    fields["previous_response_id"] = known.provider_id
    return Renamed(known.provider_id, callers)


def _relayed(name: str, payload: bytes) -> bytes:
    """An event with its data as they came."""
    if b"\n" in payload:
        payload = payload.replace(b"\n", b"\ndata: ")
    return b"event: " + name.encode() + b"\ndata: " + payload + b"\n\n"
