"""OpenAI's edits and variations of images: forms with the images that are to be changed. Those of an
edit may also be named in JSON, each by its address, its data or its file.

They cost what generated images cost, and the images that are sent in addition, as input tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from msgspec.structs import replace

from spanledger.pricing.demand import Demand
from spanledger.pricing.media import HIDDEN_TOKENS, LIKELY_IMAGE_TOKENS
from spanledger.pricing.usage import Usage, estimate_tokens
from spanledger.wires.base import Ask, Content, Habits, Operation, Outgoing, Written
from spanledger.wires.bounds import unchecked
from spanledger.wires.failures import invalid
from spanledger.wires.fields import (
    DECODE_ERRORS,
    NULL,
    Fields,
    boolean,
    check_array,
    decode,
    missing,
    route_of,
    text_bytes,
    wrong,
)
from spanledger.wires.form import Form
from spanledger.wires.openai.forms import FormInbound, FormOut, has, read_fields, size_of, text_of
from spanledger.wires.openai.images import ImagesOut, check_counts, image_unit, images_demand
from spanledger.wires.openai.spelling import check_spelling

INPUT_IMAGE_TOKENS = 16_384
"""Of each image that is sent. A gpt-image-1 in high fidelity counts up to 6,240 and 129 for each of a
few tiles, and no image that is drawn has more than 13,367 tokens
(platform.openai.com/docs/guides/image-generation)."""
IMAGES = ("image", "image[]")
_TAKES_JSON = ("openai",)
"""Providers (`Server.provider`) that take edits in JSON
(developers.openai.com/api/reference/resources/images/methods/edit); a server of one's own is among them."""


class ImageEdits(FormInbound):
    """The inbound wire of edits."""

    name = "image_edits"
    path = "/v1/images/edits"
    operation: Operation = "image_edit"
    needs: tuple[str, ...] = ("prompt",)

    def read_form(self, form: Form) -> Ask:
        """Read a request and check what the gateway acts on. Raises InvalidRequestError."""
        fields = read_fields(form)
        route = route_of(fields)
        if not any(part.size for part in form.files(*IMAGES)):
            raise missing("image")
        for name in self.needs:
            if not has(fields, name):
                raise missing(name)
        check_counts(fields)
        size = size_of(form)
        stream = boolean(fields, "stream", "stream")
        return Ask(self, route, stream, True, fields, size, self.demand(fields, size))

    def read(self, body: bytes) -> Ask:
        """Read a request in JSON. Raises InvalidRequestError."""
        if not self.needs:
            return super().read(body)
        fields = decode(body)
        route = route_of(fields)
        check_spelling(fields)
        check_array(fields, "images")
        for name in self.needs:
            if not has(fields, name):
                raise missing(name)
        check_counts(fields)
        size = len(body) - _named(fields)
        stream = boolean(fields, "stream", "stream")
        return Ask(self, route, stream, True, fields, size, self.demand(fields, size))

    def demand(self, fields: Fields, body_bytes: int) -> Demand:
        """What bounds the cost of these fields, where a deployment changed the caller's."""
        sent = INPUT_IMAGE_TOKENS * images_in(fields)
        return images_demand(fields, body_bytes + HIDDEN_TOKENS + sent)

    def estimate(self, fields: Mapping[str, msgspec.Raw]) -> Usage:
        """The prompt's tokens and the images, counted by us because no provider did."""
        prompt = estimate_tokens(text_bytes(text_of(fields, "prompt")))
        seen = LIKELY_IMAGE_TOKENS * images_in(fields)
        usage = Usage(prompt + seen, image_input_tokens=seen)
        return replace(usage, unit=image_unit(fields), units=unchecked(fields, "n") or 1)

    def attributes(self, fields: Mapping[str, msgspec.Raw]) -> dict[str, object]:
        """The request's parameters under the names of the GenAI conventions."""
        count = unchecked(fields, "n") or 1
        found: dict[str, object] = {"gen_ai.output.type": "image"}
        return found | ({"gen_ai.request.choice.count": count} if count > 1 else {})

    def content(
        self, fields: Mapping[str, msgspec.Raw], answer: bytes, events: Sequence[bytes]
    ) -> Content:
        """What was said: the prompt. Images are not captured."""
        del answer, events
        part = {"type": "text", "content": text_of(fields, "prompt")}
        return Content([{"role": "user", "parts": [part]}], [], [])


def _named(fields: Fields) -> int:
    """Bytes of the images that a request in JSON names: they do not belong to the prompt.

    Raises:
        InvalidRequestError: one of them is not named as OpenAI names it.
    """
    size = 0
    for name in ("images", "mask"):
        raw = fields.get(name, NULL)
        try:
            value = msgspec.json.decode(raw, type=list[_Named] | _Named | None)
        except DECODE_ERRORS:
            raise wrong(name, "made of objects with an image_url or a file_id") from None
        for image in value if isinstance(value, list) else [value] if value else []:
            if (image.image_url is None) == (image.file_id is None):
                raise wrong(name, "made of objects with either an image_url or a file_id")
        size += len(bytes(raw))
    return size


class _Named(msgspec.Struct):
    image_url: str | None = None
    file_id: str | None = None


class ImageVariations(ImageEdits):
    """The inbound wire of variations, which have no prompt."""

    name = "image_variations"
    path = "/v1/images/variations"
    operation: Operation = "image_variation"
    needs = ()


class ImageEditsOut(FormOut, ImagesOut):
    """Edits; their answers are those of generated images."""

    name = "image_edits"
    path = "/images/edits"
    finished = "image_edit.completed"

    def request(self, out: Outgoing, stream: bool, habits: Habits, /) -> Written:
        """The caller's form, or its JSON, with the deployment's model."""
        if out.upload is not None:
            return super().request(out, stream, habits)
        if out.deployment.provider not in _TAKES_JSON:
            raise invalid(
                "this provider takes images to edit in a form; send `multipart/form-data`",
                param="images",
                code="unsupported_media_type",
            )
        return ImagesOut.request(self, out, stream, habits)


class ImageVariationsOut(ImageEditsOut):
    """Variations."""

    name = "image_variations"
    path = "/images/variations"


def images_in(fields: Mapping[str, msgspec.Raw]) -> int:
    """How many files a form has, under whatever name."""
    found = 0
    for raw in fields.values():
        if bytes(raw)[:1] not in (b"{", b"["):
            continue
        try:
            value = msgspec.json.decode(raw)
        except DECODE_ERRORS:
            continue
        values = value if isinstance(value, list) else [value]
        found += sum(isinstance(item, dict) for item in values)
    return found
