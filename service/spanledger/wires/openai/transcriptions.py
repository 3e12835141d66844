"""OpenAI's transcriptions and translations: a form with an audio file in, text out.

`whisper-1` bills seconds of audio, the newer models tokens. Answers in JSON report either; as plain
text, subtitles, or from a server that reports nothing, we go by the file's own length.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

import msgspec
from msgspec.structs import replace

from spanledger.pricing.audio import LEAST_BYTES_PER_SECOND, length_of
from spanledger.pricing.demand import Demand
from spanledger.pricing.media import HIDDEN_TOKENS
from spanledger.pricing.reported import from_openai
from spanledger.pricing.usage import MAX_USAGE_TOKENS, Usage, estimate_tokens
from spanledger.wires.base import (
    Answer,
    Ask,
    Content,
    Frame,
    Operation,
    Outgoing,
    Reader,
    Seen,
    Server,
    Written,
)
from spanledger.wires.error_forms import read_failure
from spanledger.wires.failures import malformed, refusal, unreadable
from spanledger.wires.fields import (
    DECODE_ERRORS,
    NULL,
    Fields,
    JsonValue,
    boolean,
    is_json,
    is_set,
    missing,
    route_of,
    text_bytes,
    wrong,
)
from spanledger.wires.form import Form
from spanledger.wires.openai.answer import DONE, decoded, no_answer
from spanledger.wires.openai.forms import FormInbound, FormOut, has, read_fields, size_of, text_of
from spanledger.wires.openai.last_event import LastEventReader
from spanledger.wires.openai.transcript import blob_part
from spanledger.wires.sse import ErrorPayload, encode_event, events_of, is_stream

MOST_TOKENS_PER_SECOND = 32
"""Of audio that is read, as Gemini counts it; OpenAI counts 10. And of text that is written: nobody
speaks twelve words a second."""
MOST_TOKENS_BESIDE = 2_048
"""What a model may write although it hears nothing: the longest answer of OpenAI's models."""
LIKELY_TOKENS_PER_SECOND = 10
LEAST_SECONDS = {"groq": 10}
"""What a provider bills at least (https://console.groq.com/docs/speech-to-text)."""
WHOLE_FORMATS = frozenset({"srt", "vtt", "verbose_json"})
"""Models that write them do not stream, and OpenAI ignores `stream` with them."""
_CUE_END = re.compile(rb"--> *(?:(\d+):)?(\d+):(\d+)[.,](\d+)")
TEXT = "text/plain; charset=utf-8"


class Transcriptions(FormInbound):
    """The inbound wire of transcriptions."""

    name = "transcriptions"
    path = "/v1/audio/transcriptions"
    operation: Operation = "transcription"

    def read_form(self, form: Form) -> Ask:
        """Read a request and check what the gateway acts on. Raises InvalidRequestError."""
        fields = read_fields(form)
        route = route_of(fields)
        files = form.files("file")
        if not files:
            raise missing("file")
        if len(files) > 1 or b"[" in bytes(fields["file"])[:1] or not files[0].size:
            raise wrong("file", "one audio file that is not empty")
        file = files[0]
        length = length_of(file.head, file.tail, file.size)
        known = {} if length is None else {"most_s": length.most, "likely_s": length.likely}
        fields["file"] = msgspec.Raw(msgspec.json.encode({"bytes": file.size, **known}))
        size = size_of(form)
        stream = boolean(fields, "stream", "stream")
        stream = stream and text_of(fields, "response_format") not in (*WHOLE_FORMATS, "text")
        return Ask(self, route, stream, True, fields, size, self.demand(fields, size))

    def demand(self, fields: Fields, body_bytes: int) -> Demand:
        """What bounds a request: the seconds of its file, and as many tokens as these can have."""
        file = file_of(fields)
        seconds = max(file.most(), *LEAST_SECONDS.values())
        in_pieces = has(fields, "chunking_strategy")
        text = body_bytes * seconds if in_pieces else body_bytes  # each piece has the prompt
        heard = MOST_TOKENS_PER_SECOND * seconds
        given, written = text + HIDDEN_TOKENS + heard, heard + MOST_TOKENS_BESIDE
        demand = Demand(given, written, written, 1, given + written, sound=True, fixed=True)
        demand.unit, demand.units = "second", seconds
        demand.inputs, demand.in_one = int(not in_pieces), not in_pieces
        if file.most_s is None:
            demand.unbounded["file"] = (
                "it does not say how long it is; send WAV (PCM), MP3, Ogg, MP4, WebM, or FLAC with its"
                " number of samples, which encoders that write to a pipe leave out"
            )
        return demand

    def estimate(self, fields: Mapping[str, msgspec.Raw]) -> Usage:
        """The tokens and seconds of the file, counted by us because no provider did."""
        seconds = file_of(fields).likely()
        heard = LIKELY_TOKENS_PER_SECOND * seconds
        prompt = estimate_tokens(text_bytes(text_of(fields, "prompt")))
        return Usage(heard + prompt, audio_input_tokens=heard, unit="second", units=seconds)

    def attributes(self, fields: Mapping[str, msgspec.Raw]) -> dict[str, object]:
        """The request's parameters under the names of the GenAI conventions."""
        del fields
        return {"gen_ai.output.type": "text"}

    def content(
        self, fields: Mapping[str, msgspec.Raw], answer: bytes, events: Sequence[bytes]
    ) -> Content:
        """What was said: the prompt and the text. Audio is not captured."""
        heard: list[JsonValue] = [blob_part("audio", "audio/unknown", file_of(fields).bytes)]
        if prompt := text_of(fields, "prompt"):
            heard.append({"type": "text", "content": prompt})
        said = "".join(map(_delta_in, events)) if events else _text_in(answer)
        written: list[JsonValue] = [{"type": "text", "content": said}]
        spoken: list[JsonValue] = [
            {"role": "assistant", "parts": written, "finish_reason": "stop"},
        ]
        return Content([{"role": "user", "parts": heard}], spoken if said else [], [])


class Translations(Transcriptions):
    """The inbound wire of translations into English."""

    name = "translations"
    path = "/v1/audio/translations"
    operation: Operation = "translation"


class _File(msgspec.Struct):
    """What is known of an audio file; `most_s` None: nothing bounds how long it is."""

    bytes: int = 0
    most_s: int | None = None
    likely_s: int = 0

    def most(self) -> int:
        """The most seconds that it can have."""
        return self.bytes // LEAST_BYTES_PER_SECOND + 1 if self.most_s is None else self.most_s

    def likely(self) -> int:
        """The seconds that it has probably."""
        return max(1, self.likely_s or self.bytes // 8_000)


_FILE = msgspec.json.Decoder(_File)


def file_of(fields: Mapping[str, msgspec.Raw]) -> _File:
    """The file of a request, as it was measured."""
    try:
        return _FILE.decode(fields["file"])
    except (*DECODE_ERRORS, KeyError):
        return _File()


# answers ----------------------------------------------------------------------------------


class _Told(msgspec.Struct):
    type: str = ""
    seconds: float | None = None


class _Answer(msgspec.Struct):
    """A transcript in JSON, or an event of a stream, also as vLLM writes them."""

    type: str = ""
    text: str | None = None
    delta: str | None = None
    duration: float | str | None = None
    choices: list[msgspec.Raw] | None = None
    usage: msgspec.Raw = NULL
    error: msgspec.Raw = NULL


_ANSWER = msgspec.json.Decoder(_Answer)
_TOLD = msgspec.json.Decoder(_Told)


def read_transcript(out: Outgoing, body: bytes, seen: Seen) -> Answer:
    """Read a complete answer. Raises ProviderError."""
    server = out.deployment
    if text_of(out.fields, "response_format") in ("text", "srt", "vtt") and not _is_object(body):
        kind = seen.content_type or TEXT
        plain = Answer(body, None, provider_request_id=seen.request_id, content_type=kind)
        return _counted(out, plain, body)
    try:
        answer = decoded(_ANSWER, body)
    except DECODE_ERRORS:
        raise unreadable(server, body, "its answer is not in OpenAI's format") from None
    text = answer.text or ""
    usage = _usage(out, answer)
    found = Answer(body, usage, provider_request_id=seen.request_id, output_bytes=text_bytes(text))
    if is_set(answer.error) or answer.text is None:
        raise no_answer(server, found, broken=is_set(answer.error))
    return found if usage is not None else _counted(out, found, text.encode())


def _is_object(body: bytes) -> bool:
    return body.lstrip()[:1] == b"{" and is_json(body)


def _usage(out: Outgoing, answer: _Answer) -> Usage | None:
    """What the answer reports: seconds or tokens. With tokens, the seconds are our own count, for a
    model that is billed by them."""
    try:
        told = _TOLD.decode(answer.usage) if is_set(answer.usage) else _Told()
    except DECODE_ERRORS:
        told = _Told()
    tokens = from_openai(answer.usage) if is_set(answer.usage) else None
    seconds = told.seconds
    if seconds is None:
        seconds = _number(answer.duration)
    if seconds is not None and 0 <= seconds <= MAX_USAGE_TOKENS:
        units = max(math.ceil(round(seconds, 6)), _least(out.deployment))
        return replace(tokens or Usage(), unit="second", units=units)
    if tokens is None:
        return None
    return replace(tokens, unit="second", units=file_of(out.fields).likely())


def _number(value: float | str | None) -> float | None:
    """A duration; Whisper's own server writes it as text."""
    try:
        return None if value is None else float(value)
    except ValueError:
        return None


def _least(server: Server) -> int:
    return LEAST_SECONDS.get(server.provider, 0)


def _counted(out: Outgoing, answer: Answer, text: bytes) -> Answer:
    """The answer with our own count: its file's length, or the last subtitle's end if that is later."""
    file = file_of(out.fields)
    seconds = max(file.likely(), min(_last_cue(text), file.most()), _least(out.deployment))
    heard = out.wire.estimate(out.fields)
    usage = replace(heard, output_tokens=estimate_tokens(len(text)), units=seconds)
    return replace(answer, usage=usage, counted=True, output_bytes=0)


def _last_cue(text: bytes) -> int:
    found = _CUE_END.findall(text)
    if not found:
        return 0
    hours, minutes, seconds, rest = (int(part[:6] or 0) for part in found[-1])
    return (hours * 60 + minutes) * 60 + seconds + (rest > 0)


def _text_in(body: bytes) -> str:
    try:
        return _ANSWER.decode(body).text or ""
    except DECODE_ERRORS:
        return body.decode("utf-8", "replace")


def _delta_in(event: bytes) -> str:
    try:
        return "".join(_ANSWER.decode(payload).delta or "" for payload in events_of(event))
    except DECODE_ERRORS:
        return ""


class TranscriptReader(LastEventReader):
    """Reads one stream of a transcript."""

    __slots__ = ("_began", "_out", "_request_id")

    def __init__(self, out: Outgoing, request_id: str) -> None:
        super().__init__()
        self._began = False
        self._out = out
        self._request_id = request_id

    def read(self, payload: bytes) -> Frame | None:
        """The event as it came, with its name; None for an end mark."""
        if payload.startswith(DONE):
            self.ended = True
            return None
        server = self._out.deployment
        try:
            event = decoded(_ANSWER, payload)
        except DECODE_ERRORS:
            error = unreadable(server, payload, "an event is not in OpenAI's format")
            error.billed = "unknown"
            raise error from None
        if is_set(event.error) or type(payload) is ErrorPayload or event.type == "error":
            billed = "unknown" if self._began else "no"
            raise refusal(server, None, read_failure(payload), billed=billed)
        done = event.type.endswith(".done") or any(
            b'"finish_reason"' in bytes(choice) and b'"finish_reason":null' not in bytes(choice)
            for choice in event.choices or ()
        )
        written = text_bytes(event.delta) + sum(map(_chunk_bytes, event.choices or ()))
        self._began = self._began or written > 0
        self._done = self._done or done
        return Frame(
            data=_named(event.type, payload),
            content=written > 0,
            output_bytes=written,
            usage=_usage(self._out, event),
            provider_request_id=self._request_id,
            finish_reason="stop" if done else "",
        )

    def last(self) -> None:
        """Nothing follows; a stream without an end is an error."""
        if not self._done:
            raise malformed(self._out.deployment, "its stream has no end of the transcript")


class _Delta(msgspec.Struct):
    content: str | None = None


class _Chunk(msgspec.Struct):
    delta: _Delta | None = None


_CHUNK = msgspec.json.Decoder(_Chunk)


def _chunk_bytes(choice: msgspec.Raw) -> int:
    try:
        delta = _CHUNK.decode(choice).delta
    except DECODE_ERRORS:
        return 0
    return 0 if delta is None else text_bytes(delta.content)


def _named(name: str, payload: bytes) -> bytes:
    if not name:
        return encode_event(payload)
    return b"event: " + name.encode() + b"\ndata: " + payload.replace(b"\n", b" ") + b"\n\n"


class TranscriptionsOut(FormOut):
    """Transcriptions."""

    name = "transcriptions"
    path = "/audio/transcriptions"

    def answer(self, written: Written, body: bytes, seen: Seen) -> Answer:
        """A complete answer, the last event of a stream where that came unasked."""
        if is_stream(body) and not _CUE_END.search(body):
            body = _last_event(written.out.deployment, body)
        return read_transcript(written.out, body, seen)

    def reader(self, written: Written, seen: Seen) -> Reader:
        """What reads the answer's stream."""
        return TranscriptReader(written.out, seen.request_id)

    def frame(self, out: Outgoing, answer: Answer, /) -> Frame:
        """A complete answer as the last event of a stream: `whisper-1` does not stream."""
        try:
            whole = msgspec.json.decode(answer.body, type=dict[str, msgspec.Raw])
        except DECODE_ERRORS:
            raise malformed(out.deployment, "its answer has no text to stream") from None
        event: dict[str, object] = {"type": "transcript.text.done"}
        event |= {name: whole[name] for name in ("text", "usage") if name in whole}
        data = _named("transcript.text.done", msgspec.json.encode(event))
        return Frame(
            data=data,
            content=True,
            usage=answer.usage,
            provider_request_id=answer.provider_request_id,
            finish_reason="stop",
        )


class TranslationsOut(TranscriptionsOut):
    """Translations."""

    name = "translations"
    path = "/audio/translations"


def _last_event(server: Server, body: bytes) -> bytes:
    """The event of a stream that has all of its text. Raises ProviderError."""
    for payload in reversed(events_of(body)):
        if b'"transcript.text.done"' in payload or type(payload) is ErrorPayload:
            return payload
    raise malformed(server, "it sent an unfinished stream where an answer was requested")
