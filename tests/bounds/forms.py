"""Random requests with audio and images: speech, and what is sent as a form with files."""

from __future__ import annotations

from typing import Any

from tests.bounds.others import DRAW, PAINT, Other
from tests.service.gateway.audio_files import mp3, ogg, wav

Body = dict[str, Any]
SAY, SAY_HD, SPEAK = "tts-1", "tts-1-hd", "gpt-4o-mini-tts"
HEAR, LISTEN, QUICK = "whisper-1", "gpt-4o-transcribe", "whisper-large-v3"
PNG = b"\x89PNG\r\n\x1a\n"
BOUNDARY = "a-boundary-of-the-bounds"


class Speech(Other):
    """Speech."""

    path = "/v1/audio/speech"

    def body(self) -> Body:
        """A request."""
        dice = self.dice
        body: Body = {"model": dice.choice([SAY, SAY_HD, SPEAK]), "voice": "alloy"}
        body["input"] = self.texts.text(4_000)
        if self.chance(0.4):
            body["speed"] = dice.choice([0.25, 0.5, 1, 4])
        if self.chance(0.3):
            body["response_format"] = dice.choice(["mp3", "wav", "opus", "pcm"])
        if body["model"] == SPEAK:
            if self.chance(0.4):
                body["instructions"] = self.texts.text(400)
            if self.chance(0.4):
                body["stream_format"] = dice.choice(["sse", "audio"])
        return body


class Transcriptions(Other):
    """Transcriptions."""

    path = "/v1/audio/transcriptions"
    models: tuple[str, ...] = (HEAR, LISTEN, QUICK)

    def body(self) -> Body:
        """A request; a pair is a file's name and its data."""
        dice = self.dice
        body: Body = {"model": dice.choice(self.models), "file": self._audio()}
        if self.chance(0.3):
            body["prompt"] = self.texts.text(800)
        if self.chance(0.2):
            body["language"] = "en"
        if body["model"] == LISTEN:
            if self.chance(0.4):
                body["stream"] = "true"
        elif self.chance(0.3):
            body["response_format"] = dice.choice(["json", "verbose_json", "text", "srt", "vtt"])
        return body

    def _audio(self) -> tuple[str, bytes]:
        seconds = self.dice.choice([0.2, 1.0, 3.0, 12.5, 45.0])
        kind = self.dice.randrange(3)
        if kind == 0:
            rate, width = self.dice.choice([8_000, 16_000]), self.dice.choice([1, 2])
            return "a.wav", wav(seconds, rate, width, self.dice.randbytes(1))
        if kind == 1:
            return "a.mp3", mp3(seconds, self.dice.choice([8, 64, 160]))
        return "a.ogg", ogg(seconds, self.dice.choice([100, 4_000]))


class Translations(Transcriptions):
    """Translations, which the oldest model alone makes at OpenAI."""

    path = "/v1/audio/translations"
    models = (HEAR,)


class ImageEdits(Other):
    """Edits of images."""

    path = "/v1/images/edits"

    def body(self) -> Body:
        """A request; a pair is a file's name and its data."""
        dice = self.dice
        body: Body = {"model": dice.choice([DRAW, DRAW, PAINT]), "prompt": self.texts.text(4_000)}
        body["image"] = [self._png() for _ in range(dice.choice([1, 1, 2, 9]))]
        if self.chance(0.2):
            body["mask"] = self._png()
        if body["model"] == PAINT:
            return body
        if self.chance(0.6):
            body["quality"] = dice.choice(["low", "medium", "high", "auto"])
        if self.chance(0.6):
            body["size"] = dice.choice(["1024x1024", "1024x1536", "1536x1024", "auto"])
        if self.chance(0.3):
            body["input_fidelity"] = dice.choice(["low", "high"])
        if self.chance(0.3):
            body["n"] = str(dice.choice([1, 2, 10]))
            if self.chance(0.5):
                body |= {"stream": "true", "partial_images": str(dice.choice([0, 1, 3]))}
        return body

    def _png(self) -> tuple[str, bytes]:
        return "a.png", PNG + self.dice.randbytes(self.dice.choice([8, 3_000]))


class ImageVariations(ImageEdits):
    """Variations of an image."""

    path = "/v1/images/variations"

    def body(self) -> Body:
        """A request."""
        return {"model": PAINT, "image": self._png()}


def written_form(body: Body) -> bytes:
    """A form with these fields; a list is a field for each of its items."""
    parts: list[bytes] = []
    for name, value in body.items():
        many = isinstance(value, list)
        for item in value if many else [value]:
            field = f"{name}[]" if many else name
            head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"'
            if isinstance(item, tuple):
                head += f'; filename="{item[0]}"\r\nContent-Type: application/octet-stream'
            data = item[1] if isinstance(item, tuple) else str(item).encode()
            parts.append(head.encode() + b"\r\n\r\n" + data + b"\r\n")
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()
