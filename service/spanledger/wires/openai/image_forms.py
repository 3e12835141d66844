"""OpenAI's edits and variations of images: forms with the images that are to be changed.

They cost what generated images cost, and the images that are sent in addition, as input tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from msgspec.structs import replace

from spanledger.pricing.demand import Demand
from spanledger.pricing.media import HIDDEN_TOKENS, LIKELY_IMAGE_TOKENS
from spanledger.pricing.usage import Usage, estimate_tokens
from spanledger.wires.base import Ask, Content, Operation
from spanledger.wires.bounds import unchecked
from spanledger.wires.fields import DECODE_ERRORS, Fields, boolean, missing, route_of, text_bytes
from spanledger.wires.form import Form
from spanledger.wires.openai.forms import FormInbound, FormOut, has, read_fields, size_of, text_of
from spanledger.wires.openai.images import ImagesOut, check_counts, image_unit, images_demand

INPUT_IMAGE_TOKENS = 16_384
"""Of each image that is sent. A gpt-image-1 in high fidelity counts up to 6,240 and 129 for each of a
few tiles, and no image that is drawn has more than 13,367 tokens
(platform.openai.com/docs/guides/image-generation)."""
IMAGES = ("image", "image[]")


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
