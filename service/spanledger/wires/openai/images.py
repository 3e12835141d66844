"""OpenAI's image generation: what bounds a request, and how an answer and its stream are read.

OpenAI's own models bill tokens and report them. Others bill the image, by its quality and size. Nothing
in a request shortens an image, so a hold is for all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from msgspec.structs import replace as with_parts

from spanledger.pricing.demand import Demand
from spanledger.pricing.media import HIDDEN_TOKENS, UNREADABLE
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
    Server,
    Written,
)
from spanledger.wires.bounds import MAX_CHOICES, unchecked
from spanledger.wires.error_forms import read_failure
from spanledger.wires.failures import malformed, refusal, unreadable
from spanledger.wires.fields import (
    DECODE_ERRORS,
    NULL,
    Fields,
    boolean,
    decode,
    is_set,
    missing,
    positive,
    route_of,
    text_bytes,
)
from spanledger.wires.openai.answer import DONE, UsageField, decoded, no_answer
from spanledger.wires.openai.inbound import OpenAIInbound
from spanledger.wires.openai.last_event import LastEventReader
from spanledger.wires.openai.outbound import EmbeddingsOut
from spanledger.wires.openai.spelling import check_spelling
from spanledger.wires.sse import ErrorPayload

MOST_TOKENS = {"low": 500, "medium": 4_000}
"""Output tokens of an image by its quality: at most 408 and 3,400 for any size that is priced
(platform.openai.com/docs/guides/image-generation, and LiteLLM's prices of gpt-image-2 at fal.ai)."""
MOST_TOKENS_LARGE = 14_000
"""Of higher quality: 13,367 for 3840 by 2160 of gpt-image-2."""
MOST_TOKENS_USUAL = 7_200
"""The same up to 1536 by 1024: 7,033 for gpt-image-2, 6,240 for gpt-image-1."""
USUAL_PIXELS = 1_536 * 1_024
PARTIAL_TOKENS = 100
"""Of each partial image of a stream, in addition."""
MAX_PARTIAL = 10
BILLED_BY_TOKENS = "gpt-image"


class Images(OpenAIInbound):
    """The inbound wire."""

    name = "images"
    path = "/v1/images/generations"
    operation: Operation = "image_generation"

    end = b""

    def read(self, body: bytes) -> Ask:
        """Read a request and check what the gateway acts on. Raises InvalidRequestError."""
        fields = decode(body)
        route = route_of(fields)
        check_spelling(fields)
        if "prompt" not in fields:
            raise missing("prompt")
        check_counts(fields)
        size = len(body)
        stream = boolean(fields, "stream", "stream")
        return Ask(self, route, stream, True, fields, size, self.demand(fields, size))

    def demand(self, fields: Fields, body_bytes: int) -> Demand:
        """What bounds the cost of these fields, where a deployment changed the caller's."""
        return images_demand(fields, body_bytes + HIDDEN_TOKENS)

    def estimate(self, fields: Mapping[str, msgspec.Raw]) -> Usage:
        """The prompt's tokens and the images, counted by us because no provider did."""
        prompt = estimate_tokens(text_bytes(text_of(fields, "prompt")))
        units = unchecked(fields, "n") or 1
        return Usage(prompt, unit=image_unit(fields), units=units)

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


def check_counts(fields: Fields) -> None:
    """Check the numbers of images. Raises InvalidRequestError."""
    positive(fields, "n", MAX_CHOICES)
    if bytes(fields.get("partial_images", NULL)) != b"0":
        positive(fields, "partial_images", MAX_PARTIAL)


def images_demand(fields: Fields, given: int) -> Demand:
    """What bounds the cost of drawing, with this much input."""
    each = image_tokens(fields)
    each += PARTIAL_TOKENS * (unchecked(fields, "partial_images") or 0)
    count = unchecked(fields, "n") or 1
    demand = Demand(given, each, each, count, given + each * count, fixed=True)
    demand.unit, demand.units = image_unit(fields), count
    return demand


def text_of(fields: Mapping[str, msgspec.Raw], name: str) -> str:
    """A field that is a text; empty if it is not one."""
    try:
        value = msgspec.json.decode(fields[name])
    except (*UNREADABLE, KeyError):
        return ""
    return value if isinstance(value, str) else ""


def image_unit(fields: Mapping[str, msgspec.Raw]) -> str:
    """The image that is billed, by its quality and size; what is not said is as at OpenAI."""
    quality, size = text_of(fields, "quality"), text_of(fields, "size")
    return f"image {quality or 'standard'}/{size or '1024x1024'}"


def image_tokens(fields: Mapping[str, msgspec.Raw]) -> int:
    """The most tokens of an image."""
    quality = text_of(fields, "quality")
    if quality in MOST_TOKENS:
        return MOST_TOKENS[quality]
    wide, _, tall = text_of(fields, "size").partition("x")
    known = wide[:6].isdecimal() and tall[:6].isdecimal()
    if known and int(wide[:6]) * int(tall[:6]) <= USUAL_PIXELS:
        return MOST_TOKENS_USUAL
    return MOST_TOKENS_LARGE


# answers ----------------------------------------------------------------------------------


class _Details(msgspec.Struct):
    image_tokens: int = 0


class _Parts(msgspec.Struct):
    input_tokens_details: _Details | None = None
    output_tokens_details: _Details | None = None


class _Images(msgspec.Struct):
    """An answer, or an event of a stream."""

    type: str = ""
    data: list[msgspec.Raw] | None = None
    b64_json: msgspec.Raw = NULL
    usage: UsageField = None
    error: msgspec.Raw = NULL


class _WithParts(msgspec.Struct):
    usage: _Parts | None = None


_IMAGES = msgspec.json.Decoder(_Images)
_WITH_PARTS = msgspec.json.Decoder(_WithParts)


def read_images(out: Outgoing, body: bytes, provider_request_id: str) -> Answer:
    """Read a complete answer. Raises ProviderError."""
    server = out.deployment
    try:
        answer = decoded(_IMAGES, body)
    except DECODE_ERRORS:
        raise unreadable(server, body, "its answer is not in OpenAI's format") from None
    count = len(answer.data or ())
    usage, uncounted = _usage(answer, body), 0
    if usage is None and BILLED_BY_TOKENS in server.known_as:
        uncounted = 4 * count * image_tokens(out.fields)
    elif count and (usage is None or not usage.output_tokens):
        usage = with_parts(usage or Usage(), unit=image_unit(out.fields), units=count)
    found = Answer(
        body=body,
        usage=usage,
        provider_request_id=provider_request_id,
        output_bytes=uncounted,
    )
    if is_set(answer.error) or not count:
        raise no_answer(server, found, broken=is_set(answer.error))
    return found


def _usage(answer: _Images, payload: bytes) -> Usage | None:
    """The tokens, and how many of them are images: all output of which nothing else is said."""
    told = from_openai(answer.usage)
    if told is None:
        return None
    try:
        parts = _WITH_PARTS.decode(payload).usage or _Parts()
    except DECODE_ERRORS:
        parts = _Parts()
    given, drawn = parts.input_tokens_details, parts.output_tokens_details
    output = told.output_tokens if drawn is None else min(drawn.image_tokens, told.output_tokens)
    seen = 0 if given is None else min(given.image_tokens, told.input_tokens)
    return with_parts(told, image_input_tokens=max(seen, 0), image_output_tokens=max(output, 0))


class ImagesReader(LastEventReader):
    """Reads one stream of images: partial ones, and at last the finished one with its usage."""

    __slots__ = ("_began", "_out", "_request_id", "_server")

    def __init__(self, out: Outgoing, request_id: str) -> None:
        super().__init__()
        self._began = False
        self._out = out
        self._server: Server = out.deployment
        self._request_id = request_id

    def read(self, payload: bytes) -> Frame | None:
        """The event as it came, with its name; None for an end mark."""
        if payload.startswith(DONE):
            self.ended = True
            return None
        try:
            event = decoded(_IMAGES, payload)
        except DECODE_ERRORS:
            error = unreadable(self._server, payload, "an event is not in OpenAI's format")
            error.billed = "unknown"
            raise error from None
        if is_set(event.error) or type(payload) is ErrorPayload or event.type == "error":
            billed = "unknown" if self._began else "no"
            raise refusal(self._server, None, read_failure(payload), billed=billed)
        finished = event.type.endswith(".completed")
        self._began, self._done = True, self._done or finished
        name, drawn, size = event.type.encode(), is_set(event.b64_json), 0
        if drawn and BILLED_BY_TOKENS in self._server.known_as:
            size = 4 * (image_tokens(self._out.fields) if finished else PARTIAL_TOKENS)
        return Frame(
            data=b"event: " + name + b"\ndata: " + payload.replace(b"\n", b" ") + b"\n\n",
            content=drawn,
            output_bytes=size,
            usage=_usage(event, payload),
            provider_request_id=self._request_id,
            finish_reason="stop" if finished else "",
        )

    def last(self) -> None:
        """Nothing follows; a stream without an image is an error."""
        if not self._done:
            raise malformed(self._server, "its stream contains no finished image")


class ImagesOut(EmbeddingsOut):
    """Image generation."""

    name = "images"
    path = "/images/generations"
    finished = "image_generation.completed"

    def request(self, out: Outgoing, stream: bool, habits: Habits, /) -> Written:
        """The caller's body; a stream reports its usage unasked, and `stream_options` are refused."""
        return super().request(out, stream, with_parts(habits, ask_usage=False))

    def answer(self, written: Written, body: bytes, seen: Seen) -> Answer:
        """A complete answer."""
        return read_images(written.out, body, seen.request_id)

    def reader(self, written: Written, seen: Seen) -> Reader:
        """What reads the answer's stream."""
        return ImagesReader(written.out, seen.request_id)

    def frame(self, out: Outgoing, answer: Answer, /) -> Frame:
        """A complete answer where a stream was requested: its first image, as the last event."""
        try:
            whole = msgspec.json.decode(answer.body)
            data = {**whole["data"][0], "type": self.finished}
            payload = msgspec.json.encode({"usage": whole.get("usage"), **data})
        except (*DECODE_ERRORS, KeyError, TypeError, IndexError, AttributeError):
            raise malformed(out.deployment, "its answer has no image to stream") from None
        frame = ImagesReader(out, answer.provider_request_id).read(payload)
        assert frame is not None
        frame.content, frame.usage = True, answer.usage
        return frame
