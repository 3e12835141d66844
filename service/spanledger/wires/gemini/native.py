"""`generateContent` as Google's servers speak it, for callers who speak it too.

Requests and answers pass as they are, except for the cap: the model is in the address. Every event of a
stream is an answer so far unseen, and the one with the finish reason has the whole usage. No end mark
follows it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from spanledger.errors import ProviderError
from spanledger.pricing.searches import queries_billed
from spanledger.pricing.usage import Usage
from spanledger.wires.base import Answer, Frame, Habits, Outgoing, Seen, Server, Written
from spanledger.wires.error_forms import read_error_event
from spanledger.wires.failures import embedded_error, invalid, malformed, refusal, unreadable
from spanledger.wires.fields import DECODE_ERRORS, NULL, is_json, is_set, text_bytes
from spanledger.wires.gemini.finish import finish_of
from spanledger.wires.gemini.spelling import GoogleItem, pick, whole
from spanledger.wires.gemini.usage import UsageMetadata
from spanledger.wires.sse import ErrorPayload, encode_event, events_of, is_stream

_ENCODER = msgspec.json.Encoder()
_SETTINGS = {
    "temperature": "temperature",
    "top_p": "topP",
    "top_k": "topK",
    "max_tokens": "maxOutputTokens",
    "max_completion_tokens": "maxOutputTokens",
    "seed": "seed",
    "frequency_penalty": "frequencyPenalty",
    "presence_penalty": "presencePenalty",
}
"""What a deployment's settings may say in the words of chat completions."""
CHAT_ALONE = frozenset(
    {
        *_SETTINGS,
        "logit_bias",
        "logprobs",
        "modalities",
        "n",
        "parallel_tool_calls",
        "prediction",
        "prompt_cache_key",
        "reasoning_effort",
        "response_format",
        "safety_identifier",
        "service_tier",
        "stop",
        "stream",
        "stream_options",
        "thinking",
        "top_logprobs",
        "user",
        "verbosity",
        "web_search_options",
    }
)
"""Fields of chat completions, which this API refuses."""
MAX_QUERIES = 1024
"""Different web searches of an answer that are counted."""
_CUT = "it sent an unfinished stream, and a complete answer was requested"
_NO_ANSWER = "its answer is not in the form of generateContent"


class _Blob(msgspec.Struct, rename="camel"):
    data: str | None = None


class _Part(msgspec.Struct, rename="camel"):
    text: str | None = None
    function_call: msgspec.Raw = NULL
    executable_code: msgspec.Raw = NULL
    inline_data: _Blob | None = None

    @property
    def size(self) -> int:
        """Bytes of what was generated."""
        calls = (self.function_call, self.executable_code)
        return text_bytes(self.text) + sum(len(bytes(raw)) for raw in calls if is_set(raw))


class _Content(msgspec.Struct, rename="camel"):
    parts: list[_Part] | None = None


class _Candidate(msgspec.Struct, rename="camel"):
    content: _Content | None = None
    finish_reason: str | None = None
    grounding_metadata: Any = None

    @property
    def parts(self) -> list[_Part]:
        """What it says."""
        return [] if self.content is None else self.content.parts or []


class _Feedback(msgspec.Struct, rename="camel"):
    block_reason: str | None = None


class Generated(msgspec.Struct, rename="camel"):
    """An answer, or an event of one."""

    candidates: list[_Candidate] | None = None
    prompt_feedback: _Feedback | None = None
    usage_metadata: UsageMetadata | None = None
    model_version: str | None = None
    response_id: str | None = None
    error: msgspec.Raw = NULL

    @property
    def usage(self) -> Usage | None:
        """The usage, where it has one."""
        return None if self.usage_metadata is None else self.usage_metadata.to_usage()

    @property
    def queries(self) -> set[str]:
        """What it searched the web for."""
        found = [c.grounding_metadata for c in self.candidates or () if c.grounding_metadata]
        told = [one.get("webSearchQueries") for one in found if isinstance(one, dict)]
        asked = [query for queries in told if isinstance(queries, list) for query in queries]
        return {query for query in asked[:MAX_QUERIES] if isinstance(query, str)}

    @property
    def parts(self) -> list[_Part]:
        """What all candidates say."""
        return [part for candidate in self.candidates or () for part in candidate.parts]

    @property
    def finish(self) -> str:
        """Why it ended, in the words of rows; empty where it goes on."""
        reason = next((c.finish_reason for c in self.candidates or () if c.finish_reason), None)
        if reason is not None:
            return finish_of(reason, called=any(is_set(p.function_call) for p in self.parts))
        blocked = self.prompt_feedback is not None and self.prompt_feedback.block_reason
        return "content_filter" if blocked else ""


_GENERATED = msgspec.json.Decoder(Generated)


class NativeGenerate:
    """The outbound wire. The deployment's model is a part of its paths."""

    name = "generate_content"
    path = "/models/{model}:generateContent"
    stream_path = "/models/{model}:streamGenerateContent?alt=sse"
    host = "gemini"
    headers: Mapping[str, str] = {}
    key_header = "x-goog-api-key"
    id_header = "x-request-id"
    spelled = False
    drops = CHAT_ALONE
    passes = False
    least_output = 0

    def request(self, out: Outgoing, stream: bool, _: Habits, /) -> Written:
        """The caller's body, except for the cap and what a deployment's settings add."""
        del stream
        fields: dict[str, object] = {}
        for name, raw in out.fields.items():
            if name == "model":
                continue
            if name not in CHAT_ALONE:
                fields[name] = raw
            elif is_set(raw) and name not in _SETTINGS:
                out.changed.append(name)
        config = _config(out)
        if config:
            fields["generationConfig"] = config
        return Written(out, _ENCODER.encode(fields))

    def answer(self, written: Written, body: bytes, seen: Seen) -> Answer:
        """A complete answer, put together if it came as a stream unasked. Raises ProviderError."""
        server = written.out.deployment
        if is_stream(body):
            reader = self.reader(written, seen)
            payloads = events_of(body)
            for payload in payloads:
                reader.read(payload)
            if not reader.finished:
                raise malformed(server, _CUT)
            body = joined(payloads)
        return read_whole(server, body, seen.request_id)

    def reader(self, written: Written, seen: Seen) -> GenerateReader:
        """What reads the answer's stream."""
        return GenerateReader(written.out.deployment, seen.request_id)

    def frame(self, out: Outgoing, answer: Answer, /) -> Frame:
        """A complete answer as the only event of a stream."""
        del out
        return whole_frame(answer)


def _config(out: Outgoing) -> GoogleItem:
    """The caller's settings with the deployment's, and a budget's cap; empty where nothing is set."""
    raw = out.fields.get("generationConfig", NULL)
    try:
        config = msgspec.json.decode(raw) if is_set(raw) else {}
        for name, own in _SETTINGS.items():
            given = out.fields.get(name, NULL)
            if is_set(given) and pick(config, own) is None:
                config[own] = msgspec.json.decode(given)
    except DECODE_ERRORS:
        raise invalid("a field of the request is not valid JSON") from None
    if out.max_output_tokens is not None:
        wanted = whole(pick(config, "maxOutputTokens"))
        config.pop("max_output_tokens", None)
        most = out.max_output_tokens
        config["maxOutputTokens"] = most if wanted is None else min(wanted, most)
    found: GoogleItem = config
    return found


def read_whole(server: Server, body: bytes, request_id: str) -> Answer:
    """A complete answer.

    Raises:
        ProviderError: it is not one of this wire, or it is an error despite its status.
    """
    try:
        generated = _GENERATED.decode(body)
    except DECODE_ERRORS:
        raise unreadable(server, body, _NO_ANSWER) from None
    usage = _with_searches(generated.usage, generated.queries, server)
    if is_set(generated.error):
        billed = "no" if usage is None else "unknown"
        raise embedded_error(server, bytes(generated.error), billed=billed)
    if generated.candidates is None and not generated.finish:
        raise unreadable(server, body, "its answer has no candidates")
    return Answer(
        body=body,
        usage=usage,
        response_id=generated.response_id or "",
        response_model=generated.model_version or "",
        finish_reasons=(generated.finish or "stop",),
        provider_request_id=request_id,
        output_bytes=sum(part.size for part in generated.parts),
    )


def _with_searches(usage: Usage | None, queries: set[str], server: Server) -> Usage | None:
    searches = queries_billed(queries, server.known_as) if queries else 0
    if not searches or usage is None:
        return usage
    return msgspec.structs.replace(usage, searches=searches)


def whole_frame(answer: Answer) -> Frame:
    """A complete answer of this wire, as the only event of a stream."""
    return Frame(
        data=encode_event(answer.body),
        content=True,
        output_bytes=answer.output_bytes,
        usage=answer.usage,
        response_id=answer.response_id,
        response_model=answer.response_model,
        finish_reason=answer.finish_reasons[0] if answer.finish_reasons else "",
        provider_request_id=answer.provider_request_id,
        service=answer.service,
    )


def joined(payloads: Iterable[bytes]) -> bytes:
    """The events of a complete stream as one answer: texts that follow one another are one."""
    whole_answer: GoogleItem = {}
    candidates: dict[int, GoogleItem] = {}
    for data in map(msgspec.json.decode, payloads):
        whole_answer |= {name: value for name, value in data.items() if name != "candidates"}
        for candidate in data.get("candidates") or ():
            index = candidate.get("index", 0)
            known = candidates.setdefault(index, {"content": {"role": "model", "parts": []}})
            known |= {name: value for name, value in candidate.items() if name != "content"}
            for part in (candidate.get("content") or {}).get("parts") or ():
                _add_part(known["content"]["parts"], part)
    whole_answer["candidates"] = [candidates[index] for index in sorted(candidates)]
    return _ENCODER.encode(whole_answer)


def _add_part(parts: list[Any], part: GoogleItem) -> None:
    last = parts[-1] if parts else {}
    plain = part.keys() <= {"text", "thought"} and last.keys() <= {"text", "thought"}
    if plain and parts and part.get("thought") == last.get("thought") and "text" in last:
        last["text"] += part.get("text") or ""
    else:
        parts.append(dict(part))


class GenerateReader:
    """Reads one stream, whose events are relayed as they came."""

    __slots__ = ("_began", "_counted", "_queries", "_request_id", "_server", "ended", "finished")

    def __init__(self, server: Server, request_id: str) -> None:
        self.ended = self.finished = False
        self._began = self._counted = False
        self._server = server
        self._request_id = request_id
        self._queries: set[str] = set()

    def read(self, payload: bytes) -> Frame | None:
        """The event.

        Raises:
            ProviderError: it is not an event of this wire, or it is an error.
        """
        try:
            event = _GENERATED.decode(payload)
        except DECODE_ERRORS:
            error = unreadable(self._server, payload, _NO_ANSWER)
            if self._began:
                error.billed = "unknown"
            raise error from None
        if is_set(event.error) or type(payload) is ErrorPayload:
            billed = "unknown" if self._began else "no"
            raise refusal(self._server, None, read_error_event(payload), billed=billed)
        parts, usage = event.parts, event.usage
        frame = Frame(
            encode_event(payload),
            content=bool(parts),
            output_bytes=sum(part.size for part in parts),
            response_id=event.response_id or "",
            response_model=event.model_version or "",
            finish_reason=event.finish,
            provider_request_id=self._request_id,
        )
        self.finished = self.finished or bool(frame.finish_reason)
        if len(self._queries) < MAX_QUERIES:
            self._queries |= event.queries
        if self.finished:
            frame.usage = usage = _with_searches(usage, self._queries, self._server)
            self._counted = self._counted or usage is not None
        elif usage is not None:
            frame.input_usage = msgspec.structs.replace(
                usage, output_tokens=0, reasoning_output_tokens=0, guessed_output_tokens=0
            )
        self._began = self._began or frame.content
        return frame

    def rest(self, tail: bytes) -> list[bytes] | None:
        """A connection that closes in good order after the finish reason is the end mark."""
        if tail and (type(tail) is ErrorPayload or is_json(tail)):
            return [tail]
        if tail or not self.finished:
            return None
        self.ended = True
        return []

    def survives(self, error: ProviderError) -> bool:
        """Nothing is missing but the end of the connection."""
        del error
        return self.finished and self._counted

    def last(self) -> Frame | None:
        """Nothing follows the last event, and a stream without any answer is an error."""
        if not (self._began or self.finished):
            raise malformed(self._server, "its stream contains no answer")
        return None
