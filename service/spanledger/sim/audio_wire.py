"""OpenAI's audio endpoints, as api.openai.com writes them: speech, transcriptions and translations.

`tts-1` bills characters and `whisper-1` seconds, rounded up; the newer models bill tokens. A second of
audio is 10 tokens when it is read and 20 when it is written.
"""

from __future__ import annotations

import base64
import hashlib
import io
import math
import struct
import wave
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import msgspec

from spanledger.sim.bill import Usage
from spanledger.sim.forms import File
from spanledger.sim.openai_wire import OpenAIWire
from spanledger.sim.prompt import Prompt, RefusalError, digest_of, model_of, string
from spanledger.sim.tokens import pieces, tokens
from spanledger.sim.wire import Chunk
from spanledger.sim.writer import Answer

INPUT_CHARACTERS_MAX = 4_096
AUDIO_BYTES_MAX = 25 * 1024 * 1024
READ_TOKENS_PER_SECOND, WRITTEN_TOKENS_PER_SECOND = 10, 20
CHARACTERS_PER_SECOND = 15
TOKEN_BYTES = 400
"""Of audio, in whatever format."""
KINDS = {
    "mp3": b"audio/mpeg",
    "opus": b"audio/opus",
    "aac": b"audio/aac",
    "flac": b"audio/flac",
    "wav": b"audio/wav",
    "pcm": b"audio/pcm",
}
_VOICES = frozenset(
    [
        "alloy",
        "ash",
        "ballad",
        "coral",
        "echo",
        "fable",
        "onyx",
        "nova",
        "sage",
        "shimmer",
        "verse",
        "marin",
        "cedar",
    ]
)
_SPEECH_FIELDS = frozenset(
    ["model", "input", "voice", "instructions", "response_format", "speed", "stream_format"]
)
_EXTENSIONS = frozenset(["flac", "m4a", "mp3", "mp4", "mpeg", "mpga", "oga", "ogg", "wav", "webm"])
_FORM_FIELDS = frozenset(
    {
        *("file", "model", "language", "prompt", "response_format", "temperature", "stream"),
        *("timestamp_granularities", "include", "chunking_strategy"),
    }
)
FORMATS = {
    "json": b"application/json",
    "verbose_json": b"application/json",
    "text": b"text/plain; charset=utf-8",
    "srt": b"text/plain; charset=utf-8",
    "vtt": b"text/plain; charset=utf-8",
}
_MP3_RATES = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
"""kbit/s of MPEG 2, layer III."""


# speech -----------------------------------------------------------------------------------


class SpeechWire(OpenAIWire):
    """Speech. The prompt's `answer_text` has the audio in base64, `tools_barred` that it is events."""

    def __init__(self, *, events: bool = False) -> None:
        self.events = events

    def read(self, body: dict[str, object]) -> Prompt:
        """Read a request for speech."""
        model, script = model_of(body)
        if "tts" not in model:
            raise RefusalError(404, f"The model `{model}` does not exist.", param="model")
        if unknown := sorted(set(body) - _SPEECH_FIELDS):
            raise RefusalError(400, f"Unknown parameter: '{unknown[0]}'.", param=unknown[0])
        text = string(body.get("input"))
        if not 0 < len(text) <= INPUT_CHARACTERS_MAX:
            raise RefusalError(400, "'input' must be 1 to 4096 characters.", param="input")
        if body.get("voice") not in _VOICES:
            raise RefusalError(400, "Input should be a known voice.", param="voice")
        if body.get("response_format", "mp3") not in KINDS:
            raise RefusalError(400, "Invalid 'response_format'.", param="response_format")
        speed = body.get("speed", 1)
        if not isinstance(speed, int | float) or not 0.25 <= speed <= 4:
            raise RefusalError(400, "'speed' must be 0.25 to 4.", param="speed")
        wanted = body.get("stream_format", "audio")
        if wanted not in ("sse", "audio") or (wanted == "sse" and not by_tokens(model)):
            raise RefusalError(400, "Unsupported value: 'stream_format'.", param="stream_format")
        seconds = len(text) / CHARACTERS_PER_SECOND / speed
        digest = digest_of("speech", model, body, frozenset({"stream_format"}))
        count = tokens(text) + tokens(string(body.get("instructions")))
        spoken = max(1, math.ceil(seconds * WRITTEN_TOKENS_PER_SECOND))
        return Prompt(
            "openai",
            model,
            digest,
            (),
            count,
            stream=True,
            script=script,
            shown=(spoken, len(text)),
        )

    def opening(self, prompt: Prompt, answer: Answer, usage: Usage | None) -> Iterator[Chunk]:
        """Nothing comes before the audio."""
        del prompt, answer, usage
        return iter(())

    def content(self, prompt: Prompt, answer: Answer) -> Iterator[Chunk]:
        """The audio, a few tokens at a time."""
        del answer
        left = prompt.shown[0]
        for index in range(0, left, 5):
            count = min(5, left - index)
            audio = audio_of(prompt, index, count)
            if self.events:
                data = {"type": "speech.audio.delta", "audio": base64.b64encode(audio).decode()}
                yield Chunk(_event(data), count)
            else:
                yield Chunk(audio, count)

    def closing(self, prompt: Prompt, answer: Answer, usage: Usage | None) -> Iterator[Chunk]:
        """The event with the usage."""
        del prompt, answer
        if self.events:
            data: dict[str, object] = {"type": "speech.audio.done"}
            if usage is not None:
                data["usage"] = _counts(usage)
            yield Chunk(_event(data))

    def broken(self) -> bytes:
        """An event with truncated JSON, or a byte."""
        return b'event: speech.audio.delta\ndata: {"type":"speech.aud\n\n' if self.events else b"\0"


def by_tokens(model: str) -> bool:
    """Whether a model bills tokens."""
    return model.startswith("gpt-")


def audio_of(prompt: Prompt, index: int, count: int) -> bytes:
    """The audio of some tokens; the same for the same request."""
    seed = hashlib.blake2b(prompt.digest + index.to_bytes(4, "big"), digest_size=50).digest()
    return seed * (TOKEN_BYTES // 50 * count)


def speech_usage(prompt: Prompt) -> Usage:
    """What speech bills."""
    spoken, characters = prompt.shown
    if by_tokens(prompt.model):
        return Usage(prompt.input_tokens, spoken)
    return Usage(units=characters)


# transcriptions ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Heard:
    """An audio file: its length, and what is said in it."""

    seconds: float
    text: str


class TranscriptWire(OpenAIWire):
    """Transcriptions and translations."""

    def read(self, body: dict[str, object]) -> Prompt:
        """Read a request for a transcript."""
        model, script = model_of(body)
        if not ("whisper" in model or "transcribe" in model):
            raise RefusalError(404, f"The model `{model}` does not exist.", param="model")
        if unknown := sorted(set(body) - _FORM_FIELDS):
            raise RefusalError(400, f"Unknown parameter: '{unknown[0]}'.", param=unknown[0])
        wanted = string(body.get("response_format", "json"))
        if wanted not in FORMATS or (by_tokens(model) and wanted not in ("json", "text")):
            message = f"response_format '{wanted}' is not compatible with model '{model}'."
            raise RefusalError(400, message, param="response_format")
        heard = hear(body.get("file"))
        said = string(body.get("stream", "false"))
        if said not in ("true", "false"):
            raise RefusalError(400, "'stream' must be a boolean.", param="stream")
        shown = {name: value for name, value in body.items() if not isinstance(value, File)}
        digest = digest_of("audio", model, {**shown, "heard": heard.text}, frozenset({"stream"}))
        read = math.ceil(heard.seconds * READ_TOKENS_PER_SECOND)
        prompt = Prompt("openai", model, digest, (), read, script=script)
        return replace(
            prompt,
            input_tokens=read + tokens(string(body.get("prompt"))),
            stream=said == "true" and by_tokens(model),
            shown=(read, math.ceil(heard.seconds)),
            asked=heard.text,
            service="",
            schema=wanted,
        )

    def plain(self, prompt: Prompt, answer: Answer, usage: Usage | None) -> bytes:
        """The transcript in the format that was asked for."""
        del answer
        text, seconds = prompt.asked, float(prompt.shown[1])
        if prompt.schema == "text":
            return text.encode() + b"\n"
        if prompt.schema in ("srt", "vtt"):
            return _subtitles(text, seconds, str(prompt.schema))
        data: dict[str, object] = {"text": text}
        if prompt.schema == "verbose_json":
            segment = {"id": 0, "start": 0.0, "end": seconds, "text": text}
            data |= {"task": "transcribe", "language": "english", "duration": seconds}
            data["segments"] = [segment]
        if usage is not None and "large" not in prompt.model:  # Groq reports none
            data["usage"] = _transcript_usage(prompt, usage)
        return msgspec.json.encode(data)

    def opening(self, prompt: Prompt, answer: Answer, usage: Usage | None) -> Iterator[Chunk]:
        """Nothing comes before the text."""
        del prompt, answer, usage
        return iter(())

    def content(self, prompt: Prompt, answer: Answer) -> Iterator[Chunk]:
        """The text, token by token."""
        del answer
        for piece, count in pieces(prompt.asked):
            yield Chunk(_event({"type": "transcript.text.delta", "delta": piece}), count)

    def closing(self, prompt: Prompt, answer: Answer, usage: Usage | None) -> Iterator[Chunk]:
        """The event with all of it."""
        del answer
        data: dict[str, object] = {"type": "transcript.text.done", "text": prompt.asked}
        if usage is not None:
            data["usage"] = _transcript_usage(prompt, usage)
        yield Chunk(_event(data))

    def broken(self) -> bytes:
        """An event with truncated JSON."""
        return b'event: transcript.text.delta\ndata: {"type":"transc\n\n'


def transcript_usage(prompt: Prompt) -> Usage:
    """What a transcript bills; Groq bills ten seconds at least."""
    if by_tokens(prompt.model):
        return Usage(prompt.input_tokens, tokens(prompt.asked))
    return Usage(units=max(prompt.shown[1], 10 if "large" in prompt.model else 0))


def hear(file: object) -> Heard:
    """Read an audio file. Raises RefusalError."""
    if not isinstance(file, File) or not file.data:
        raise RefusalError(400, "'file' is a required property", param="file")
    if len(file.data) > AUDIO_BYTES_MAX:
        message = (
            f"Maximum content size limit ({AUDIO_BYTES_MAX}) exceeded ({len(file.data)} bytes)"
        )
        raise RefusalError(413, message)
    if file.name.rpartition(".")[2].lower() not in _EXTENSIONS:
        known = sorted(_EXTENSIONS)
        raise RefusalError(400, f"Invalid file format. Supported formats: {known}", param="file")
    seconds = _seconds(file.data)
    if seconds is None:
        message = "Audio file might be corrupted or unsupported"
        raise RefusalError(400, message, param="file", code="invalid_value")
    words = hashlib.blake2b(file.data, digest_size=8).hexdigest()
    return Heard(seconds, " ".join(["word " + words] * max(1, math.ceil(seconds / 5))))


def _seconds(data: bytes) -> float | None:
    """Its length: WAV, MP3 of a constant bit rate, and Ogg by its last page."""
    if data.startswith(b"RIFF"):
        try:
            with wave.open(io.BytesIO(data)) as opened:
                return float(opened.getnframes() / opened.getframerate())
        except (wave.Error, EOFError, ZeroDivisionError):
            return None
    if data[:2] == b"\xff\xf3":
        rate = _MP3_RATES[min(data[2] >> 4, 14)] * 125
        return len(data) / rate if rate else None
    if data.startswith(b"OggS"):
        (position,) = struct.unpack_from("<q", data, data.rfind(b"OggS") + 6)
        return float(position) / 48_000
    return None


def _subtitles(text: str, seconds: float, kind: str) -> bytes:
    whole, rest = divmod(int(seconds), 60)
    mark = "," if kind == "srt" else "."
    end = f"{whole // 60:02d}:{whole % 60:02d}:{rest:02d}{mark}000"
    cue = f"00:00:00{mark}000 --> {end}\n{text}\n\n"
    return (f"1\n{cue}" if kind == "srt" else f"WEBVTT\n\n{cue}").encode()


def _transcript_usage(prompt: Prompt, usage: Usage) -> dict[str, object]:
    if not by_tokens(prompt.model):
        return {"type": "duration", "seconds": prompt.shown[1]}
    heard = min(prompt.shown[0], usage.input_tokens)
    details = {"audio_tokens": heard, "text_tokens": usage.input_tokens - heard}
    return {"type": "tokens", **_counts(usage), "input_token_details": details}


def _counts(usage: Usage) -> dict[str, object]:
    return {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }


def _event(data: Mapping[str, object]) -> bytes:
    kind = str(data["type"]).encode()
    return b"event: " + kind + b"\ndata: " + msgspec.json.encode(data) + b"\n\n"
