"""OpenAI's speech: text in, an audio file or a stream of events out.

`tts-1` bills characters, which we count ourselves. `gpt-4o-mini-tts` bills tokens and reports them only in
a stream of events. So it is asked for events whatever the caller asked for, and a caller who wants the
file gets the audio out of them.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Mapping, Sequence

import msgspec
from msgspec.structs import replace

from spanledger.pricing.demand import Demand
from spanledger.pricing.media import HIDDEN_TOKENS, SPOKEN_TOKENS
from spanledger.pricing.reported import from_openai
from spanledger.pricing.usage import Usage, estimate_tokens
from spanledger.wires.base import (
    Answer,
    Ask,
    Content,
    Frame,
    Habits,
    Operation,
    Outgoing,
    Reader,
    Seen,
    Written,
)
from spanledger.wires.error_forms import read_failure
from spanledger.wires.failures import malformed, refusal, unreadable
from spanledger.wires.fields import (
    DECODE_ERRORS,
    NULL,
    Fields,
    decode,
    is_set,
    missing,
    route_of,
    text_bytes,
    wrong,
)
from spanledger.wires.openai.answer import DONE, UsageField, decoded, no_answer
from spanledger.wires.openai.forms import text_of
from spanledger.wires.openai.inbound import OpenAIInbound
from spanledger.wires.openai.last_event import LastEventReader
from spanledger.wires.openai.outbound import EmbeddingsOut
from spanledger.wires.openai.spelling import check_spelling
from spanledger.wires.sse import ErrorPayload, is_events

SPEECH_BY_TOKENS = re.compile(r"gpt-.*tts")
LEAST_SPEED = 0.25
"""OpenAI's lowest `speed`."""
TOKENS_PER_SECOND = 20
"""Of speech that is written: a token is 50 ms."""
LIKELY_CHARACTERS_PER_SECOND = 15
_PCM_BASE64_PER_SECOND = 64_000
"""What `Frame.speech_bytes` counts: base64 of 24,000 samples of two bytes."""
FORMATS = {
    "mp3": ("audio/mpeg", 16_000),
    "opus": ("audio/opus", 8_000),
    "aac": ("audio/aac", 16_000),
    "flac": ("audio/flac", 24_000),
    "wav": ("audio/wav", 48_000),
    "pcm": ("audio/pcm", 48_000),
}
"""Content types, and likely bytes a second (platform.openai.com/docs/guides/text-to-speech)."""
PLAIN = msgspec.Raw(b'"audio"')
"""Known by its identity: a server refused to be asked for events."""


class AudioSpeech(OpenAIInbound):
    """The inbound wire."""

    name = "speech"
    path = "/v1/audio/speech"
    operation: Operation = "speech"

    end = b""

    def read(self, body: bytes) -> Ask:
        """Read a request and check what the gateway acts on. Raises InvalidRequestError."""
        fields = decode(body)
        route = route_of(fields)
        check_spelling(fields)
        if "input" not in fields:
            raise missing("input")
        if not text_of(fields, "input"):
            raise wrong("input", "a non-empty string")
        size = len(body)
        demand = self.demand(fields, size)
        return Ask(self, route, True, True, fields, size, demand, bare=not _wants_events(fields))

    def demand(self, fields: Fields, body_bytes: int) -> Demand:
        """What bounds a request: its characters; and as tokens the text, and the longest speech that
        OpenAI's models produce, slowed down as the caller wants."""
        text, given = text_of(fields, "input"), body_bytes + HIDDEN_TOKENS
        most = math.ceil(SPOKEN_TOKENS / _slowness(fields))
        demand = Demand(given, most, most, 1, given + _likely_tokens(text), fixed=True)
        demand.speech, demand.unit, demand.units = True, "character", len(text)
        return demand

    def estimate(self, fields: Mapping[str, msgspec.Raw]) -> Usage:
        """The tokens of the texts, and the characters, counted by us because no provider did."""
        text = text_of(fields, "input")
        size = text_bytes(text) + text_bytes(text_of(fields, "instructions"))
        return Usage(estimate_tokens(size), unit="character", units=len(text))

    def attributes(self, fields: Mapping[str, msgspec.Raw]) -> dict[str, object]:
        """The request's parameters under the names of the GenAI conventions."""
        del fields
        return {"gen_ai.output.type": "speech"}

    def content(
        self, fields: Mapping[str, msgspec.Raw], answer: bytes, events: Sequence[bytes]
    ) -> Content:
        """What was said: the text. Audio is not captured."""
        del answer, events
        part = {"type": "text", "content": text_of(fields, "input")}
        return Content([{"role": "user", "parts": [part]}], [], [])


def _wants_events(fields: Mapping[str, msgspec.Raw]) -> bool:
    return text_of(fields, "stream_format") == "sse"


def _slowness(fields: Fields) -> float:
    """The speed, where it is below the usual one."""
    try:
        speed = msgspec.json.decode(fields.get("speed", NULL), type=float | None)
    except DECODE_ERRORS:
        return LEAST_SPEED
    return 1.0 if speed is None else min(1.0, max(LEAST_SPEED, speed))


def _likely_tokens(text: str) -> int:
    return -(-len(text) * TOKENS_PER_SECOND // LIKELY_CHARACTERS_PER_SECOND)


class _Event(msgspec.Struct):
    type: str = ""
    audio: str | None = None
    usage: UsageField = None
    error: msgspec.Raw = NULL


_EVENT = msgspec.json.Decoder(_Event)


class SpeechReader(LastEventReader):
    """Reads one answer: events or a file, for a caller who asked for either."""

    def __init__(self, out: Outgoing, seen: Seen) -> None:
        super().__init__()
        self._out = out
        self._seen = seen
        self._events = is_events(seen.content_type)
        self._wants_events = _wants_events(out.fields)
        self._began = self._told = False
        chosen = text_of(out.fields, "response_format")
        self._kind, self._rate = FORMATS.get(chosen, FORMATS["mp3"])

    def read(self, payload: bytes) -> Frame | None:
        """An event or a piece of the file, as the caller wants it; None for an end mark."""
        if not self._events:
            kind = self._seen.content_type
            data = _delta(payload) if self._wants_events else payload
            return self._piece(data, len(payload), kind)
        if payload.startswith(DONE):
            self.ended = True
            return None
        server = self._out.deployment
        try:
            event = decoded(_EVENT, payload)
            audio = base64.b64decode(event.audio or "", validate=True)
        except (*DECODE_ERRORS, binascii.Error):
            error = unreadable(server, payload, "an event is not in OpenAI's format")
            error.billed = "unknown"
            raise error from None
        if is_set(event.error) or type(payload) is ErrorPayload or event.type == "error":
            billed = "unknown" if self._began else "no"
            raise refusal(server, None, read_failure(payload), billed=billed)
        data = _event(event.type, payload) if self._wants_events else audio
        if event.type.endswith(".done"):
            return self._finished(data, event)
        return self._piece(data, len(audio), self._kind)

    def _piece(self, data: bytes, size: int, kind: str) -> Frame:
        self._began = self._began or size > 0
        return Frame(
            data=data,
            content=size > 0,
            speech_bytes=size * _PCM_BASE64_PER_SECOND // self._rate,
            provider_request_id=self._seen.request_id,
            content_type=kind,
        )

    def _finished(self, data: bytes, event: _Event) -> Frame:
        self._done = True
        told = from_openai(event.usage)
        self._told = told is not None
        return Frame(
            data=data if self._wants_events else b"",
            usage=None if told is None else replace(told, audio_output_tokens=told.output_tokens),
            finish_reason="stop",
            provider_request_id=self._seen.request_id,
        )

    def rest(self, tail: bytes) -> list[bytes] | None:
        """A clean close is the end of a file, and of events after the last one."""
        if self._events:
            return super().rest(tail)
        self.ended = True
        return []

    def last(self) -> Frame | None:
        """The characters, where they are what is billed. An answer without audio is an error."""
        server = self._out.deployment
        if not self._began:
            raise malformed(server, "its answer contains no audio")
        usage = None
        if not self._told and not SPEECH_BY_TOKENS.search(server.known_as):
            text = text_of(self._out.fields, "input")
            usage = Usage(unit="character", units=len(text))
        data = b""
        if self._wants_events and not self._events:
            data = _event("speech.audio.done", b'{"type":"speech.audio.done"}')
        return Frame(data=data, usage=usage, provider_request_id=self._seen.request_id)


def _delta(audio: bytes) -> bytes:
    data = {"type": "speech.audio.delta", "audio": base64.b64encode(audio).decode()}
    return _event("speech.audio.delta", msgspec.json.encode(data))


def _event(name: str, payload: bytes) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + payload.replace(b"\n", b" ") + b"\n\n"


class SpeechOut(EmbeddingsOut):
    """Speech."""

    name = "speech"
    path = "/audio/speech"
    spelled = False

    def request(self, out: Outgoing, stream: bool, habits: Habits, /) -> Written:
        """The caller's body with the deployment's model, and for events where they have the usage."""
        del stream, habits
        fields: dict[str, object] = {**out.fields, "model": out.deployment.model}
        if fields.get("stream_format") is PLAIN:
            del fields["stream_format"]
        elif out.deployment.asks_usage and SPEECH_BY_TOKENS.search(out.deployment.known_as):
            fields["stream_format"] = "sse"
            if not _wants_events(out.fields):
                return Written(out, msgspec.json.encode(fields), eased=_without_events)
        return Written(out, msgspec.json.encode(fields))

    def answer(self, written: Written, body: bytes, seen: Seen) -> Answer:
        """Not audio, but JSON or a page: an error, whatever its status. Raises ProviderError."""
        found = Answer(body, None, provider_request_id=seen.request_id)
        raise no_answer(written.out.deployment, found, broken=False)

    def reader(self, written: Written, seen: Seen) -> Reader:
        """What reads the answer."""
        return SpeechReader(written.out, seen)


def _without_events(out: Outgoing, status: int, body: bytes) -> Fields | None:
    """The fields for a server that does not know `stream_format`."""
    if status not in (400, 415, 422, 501) or b"stream_format" not in body:
        return None
    return {**out.fields, "stream_format": PLAIN}
