"""OpenAI's image generation, as api.openai.com writes it.

`gpt-image` models bill and report tokens, `dall-e` models bill the image and report nothing.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import msgspec

from spanledger.sim.bill import Usage
from spanledger.sim.forms import File
from spanledger.sim.openai_wire import OpenAIWire
from spanledger.sim.prompt import (
    Prompt,
    RefusalError,
    digest_of,
    model_of,
    objects,
    string,
    whole,
)
from spanledger.sim.tokens import tokens
from spanledger.sim.wire import Chunk
from spanledger.sim.writer import Answer, Choice, Dice, Pace

BY_TOKENS = "gpt-image"
IMAGES_MAX = 17
INPUT_TOKENS, INPUT_TOKENS_HIGH = 323, 6_563
"""Of an image that is sent: 65 and two tiles of 129, and 6,240 more in high fidelity."""
_MAGIC = (b"\x89PNG", b"\xff\xd8", b"RIFF")
PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n simulated image").decode()
_TOKENS = {
    "low": (272, 408, 400),
    "medium": (1_056, 1_584, 1_568),
    "high": (4_160, 6_240, 6_208),
}
"""By quality, for 1024x1024, 1024x1536 and 1536x1024; OpenAI's guide to image generation."""
_SIZES = ("1024x1024", "1024x1536", "1536x1024")
_DALLE_SIZES = ("1024x1024", "1024x1792", "1792x1024")
_FIELDS = frozenset(
    {
        *("model", "prompt", "n", "size", "quality", "background", "moderation", "output_format"),
        *("output_compression", "stream", "partial_images", "user", "response_format", "style"),
        "metadata",
    }
)


class Picture(NamedTuple):
    """What was asked for: how many images, partial ones of a stream, and the tokens of all."""

    images: int
    partial: int
    tokens: int


def read_picture(body: dict[str, object], prompt: Prompt) -> Picture:
    """Read what decides the price. Raises RefusalError."""
    by_tokens = prompt.model.startswith(BY_TOKENS)
    size, quality = string(body.get("size")), string(body.get("quality"))
    sizes = (*_SIZES, "auto", "") if by_tokens else (*_DALLE_SIZES, "")
    qualities = (*_TOKENS, "auto", "") if by_tokens else ("standard", "hd", "")
    if size not in sizes or quality not in qualities:
        raise RefusalError(400, "Invalid value for 'size' or 'quality'.", param="size")
    count = whole(body, "n", 1, 10 if by_tokens else 1, 1) or 1
    partial = whole(body, "partial_images", 0, 3, 0) or 0
    if partial and not prompt.stream:
        raise RefusalError(400, "'partial_images' needs 'stream'.", param="partial_images")
    if prompt.stream and not by_tokens:
        raise RefusalError(400, "This model does not stream.", param="stream")
    kind = _SIZES.index(size) if size in _SIZES else 1
    each = _TOKENS[quality if quality in _TOKENS else "high"][kind] if by_tokens else 0
    return Picture(count, partial, count * (each + 100 * partial))


def draw(prompt: Prompt, asked: Picture, dice: Dice) -> Answer:
    """The answer: a choice for each image; the tokens of all are in the usage."""
    choices = tuple(Choice(text=PIXEL) for _ in range(asked.images))
    return Answer(dice.name("img-"), prompt.model, choices, Pace(0.0, 1_000.0), int(time.time()))


class ImagesWire(OpenAIWire):
    """Image generation."""

    id_prefix = "img-"
    event = "image_generation"

    def read(self, body: dict[str, object]) -> Prompt:
        """Read a request for images."""
        model, script = model_of(body)
        if not model.startswith((BY_TOKENS, "dall-e", "sim-")):
            raise RefusalError(400, f"Invalid value: '{model}'.", param="model")
        if unknown := sorted(set(body) - _FIELDS):
            raise RefusalError(400, f"Unknown parameter: '{unknown[0]}'.", param=unknown[0])
        text = string(body.get("prompt"))
        if not text:
            raise RefusalError(400, "Missing required parameter: 'prompt'.", param="prompt")
        if model.startswith(BY_TOKENS) and "response_format" in body:
            raise RefusalError(400, "Unknown parameter: 'response_format'.")
        ignored = frozenset({"stream", "user", "metadata"})
        digest = digest_of("images", model, body, ignored)
        stream = body.get("stream") is True
        found = Prompt("openai", model, digest, (), tokens(text), stream=stream, script=script)
        return replace(found, shown=(read_picture(body, found).partial, 1))

    def plain(self, prompt: Prompt, answer: Answer, usage: Usage | None) -> bytes:
        """The images, and the usage of models that bill tokens."""
        rows = [{"b64_json": choice.text} for choice in answer.choices]
        data: dict[str, object] = {"created": answer.created_s, "data": rows}
        if usage is not None and prompt.model.startswith(BY_TOKENS):
            data["usage"] = _usage(usage)
        return msgspec.json.encode(data)

    def opening(self, prompt: Prompt, answer: Answer, usage: Usage | None) -> Iterator[Chunk]:
        """Nothing comes before the first partial image."""
        del prompt, answer, usage
        return iter(())

    def content(self, prompt: Prompt, answer: Answer) -> Iterator[Chunk]:
        """The partial images."""
        del answer
        for index in range(prompt.shown[0]):
            data = {"b64_json": PIXEL, "partial_image_index": index}
            yield Chunk(_event(f"{self.event}.partial_image", data), 100)

    def closing(self, prompt: Prompt, answer: Answer, usage: Usage | None) -> Iterator[Chunk]:
        """The finished images; the last one has the usage."""
        del prompt
        for index, choice in enumerate(answer.choices):
            data: dict[str, object] = {"b64_json": choice.text, "created_at": answer.created_s}
            if usage is not None and index == len(answer.choices) - 1:
                data["usage"] = _usage(usage)
            yield Chunk(_event(f"{self.event}.completed", data))

    def broken(self) -> bytes:
        """An event with truncated JSON."""
        return b'event: image_generation.partial_image\ndata: {"type":"image_gen\n\n'


class EditsWire(ImagesWire):
    """Edits and variations; `shown` of a prompt has the images that were sent in place of its 1."""

    event = "image_edit"

    def __init__(self, *, prompted: bool = True) -> None:
        self.prompted = prompted

    def read(self, body: dict[str, object]) -> Prompt:
        """Read a form with images, or JSON that names them."""
        if "images" in body:
            return self._read_named(body)
        files = [file for name in ("image", "mask") for file in _files(body.get(name))]
        if not _files(body.get("image")) or len(files) > IMAGES_MAX:
            raise RefusalError(400, "Missing required parameter: 'image'.", param="image")
        if any(not file.data.startswith(_MAGIC) for file in files):
            raise RefusalError(400, "Invalid image file or mode.", param="image")
        typed = typed_fields(body)
        fidelity = typed.pop("input_fidelity", "low")
        if not self.prompted and "prompt" in typed:
            raise RefusalError(400, "Unknown parameter: 'prompt'.", param="prompt")
        asked = super().read(typed if self.prompted else {"prompt": "?", **typed})
        each = INPUT_TOKENS_HIGH if fidelity == "high" else INPUT_TOKENS
        seen = each * len(files) if asked.model.startswith(BY_TOKENS) else 0
        text = asked.input_tokens if self.prompted else 0
        digest = digest_of("edits", asked.model, {**typed, "seen": seen}, frozenset({"stream"}))
        return replace(
            asked, digest=digest, input_tokens=text + seen, shown=(asked.shown[0], max(seen, 1))
        )

    def _read_named(self, body: dict[str, object]) -> Prompt:
        """Read a request in JSON."""
        mask = body.get("mask")
        images = [*objects(body["images"]), *objects([] if mask is None else [mask])]
        if not images or len(images) > IMAGES_MAX or not self.prompted:
            raise RefusalError(400, "Invalid value for 'images'.", param="images")
        for image in images:
            if len(image.keys() & {"image_url", "file_id"}) != 1 or len(image) > 1:
                raise RefusalError(400, "Provide exactly one of image_url or file_id.")
        left = {n: v for n, v in body.items() if n not in ("images", "mask", "input_fidelity")}
        asked = super().read(left)
        each = INPUT_TOKENS_HIGH if body.get("input_fidelity") == "high" else INPUT_TOKENS
        seen = each * len(images) if asked.model.startswith(BY_TOKENS) else 0
        digest = digest_of("edits", asked.model, {**left, "seen": seen}, frozenset({"stream"}))
        tokens_in = asked.input_tokens + seen
        return replace(
            asked, digest=digest, input_tokens=tokens_in, shown=(asked.shown[0], max(seen, 1))
        )


def typed_fields(body: dict[str, object]) -> dict[str, object]:
    """A form's fields without its files, numbers and booleans as what they mean."""
    found: dict[str, object] = {}
    for name, value in body.items():
        if name in ("n", "partial_images", "output_compression") and str(value).isdecimal():
            found[name] = int(str(value))
        elif name == "stream":
            found[name] = value in ("true", True)
        elif not _files(value):
            found[name] = value
    return found


def _files(value: object) -> list[File]:
    return [v for v in (value if isinstance(value, list) else [value]) if isinstance(v, File)]


def _usage(usage: Usage) -> dict[str, object]:
    return {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "input_tokens_details": {
            "text_tokens": usage.input_tokens - usage.image_input_tokens,
            "image_tokens": usage.image_input_tokens,
        },
    }


def _event(kind: str, data: dict[str, object]) -> bytes:
    body = msgspec.json.encode({"type": kind, **data})
    return b"event: " + kind.encode() + b"\ndata: " + body + b"\n\n"
