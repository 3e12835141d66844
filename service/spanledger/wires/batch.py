"""The lines of batches: requests in a file, and their answers in another. OpenAI's form.

Each line is a request of a wire of ours. It is read as that wire reads it and written as it would be
sent, so a batch costs no more than its requests would one by one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from spanledger.errors import InvalidRequestError
from spanledger.pricing.reported import OpenAIUsage
from spanledger.pricing.searches import with_citations, with_searches
from spanledger.pricing.usage import Usage
from spanledger.wires import INBOUND
from spanledger.wires.base import Ask, Inbound
from spanledger.wires.fields import DECODE_ERRORS

ENDPOINTS: Mapping[str, Inbound] = {
    path: wire
    for path, wire in INBOUND.items()
    if wire.name in ("chat", "responses", "embeddings", "completions", "moderations")
}
"""What the lines of a batch may ask for, by path."""
MAX_LINES = 50_000
"""As at OpenAI."""
MAX_CUSTOM_ID_CHARS = 512


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    custom_id: str
    method: str
    url: str
    body: msgspec.Raw


class _Body(msgspec.Struct):
    usage: OpenAIUsage | None = None
    service_tier: Any = None


class _Response(msgspec.Struct):
    status_code: int = 0
    body: msgspec.Raw = msgspec.Raw(b"{}")


class _Result(msgspec.Struct):
    response: _Response | None = None


_LINE = msgspec.json.Decoder(_Line)
_RESULT = msgspec.json.Decoder(_Result)
_BODY = msgspec.json.Decoder(_Body)
_ENCODER = msgspec.json.Encoder()


class Line(NamedTuple):
    """One request of a batch."""

    custom_id: str
    url: str
    ask: Ask

    def written(self, body: bytes) -> bytes:
        """The line with the body that a deployment is sent."""
        fields = {"custom_id": self.custom_id, "method": "POST", "url": self.url}
        return _ENCODER.encode({**fields, "body": msgspec.Raw(body)}) + b"\n"


class Result(NamedTuple):
    """What one answer of a batch was billed: nothing if it failed.

    Attributes:
        usage: None where the answer succeeded and reports none.
    """

    answered: bool
    usage: Usage | None


def read_line(raw: bytes, number: int) -> Line:
    """A line of a batch's input, the first of which has number 1. Raises InvalidRequestError."""
    try:
        line = _LINE.decode(raw)
    except DECODE_ERRORS as error:
        raise wrong_line(
            number,
            f"it must be an object of custom_id, method, url and body ({error})",
        ) from None
    if not 0 < len(line.custom_id) <= MAX_CUSTOM_ID_CHARS:
        raise wrong_line(number, f"custom_id must have 1 to {MAX_CUSTOM_ID_CHARS} characters")
    wire = ENDPOINTS.get(line.url)
    if line.method != "POST" or wire is None:
        raise wrong_line(number, f"method must be POST, and url one of {', '.join(ENDPOINTS)}")
    try:
        ask = wire.read(bytes(line.body))
    except InvalidRequestError as error:
        raise wrong_line(number, str(error)) from None
    if ask.stream:
        raise wrong_line(number, "an answer in a batch is not streamed; leave out 'stream'")
    if ask.follows or ask.bound_to or "background" in ask.fields:
        raise wrong_line(
            number,
            "'previous_response_id', 'background' and compactions do not work in a batch; leave them"
            " out",
        )
    return Line(line.custom_id, line.url, ask)


def read_result(raw: bytes) -> Result:
    """A line of a batch's output; anything else counts as an answer without usage."""
    try:
        response = _RESULT.decode(raw).response
        if response is None or response.status_code != 200:
            return Result(False, None)
        told = _BODY.decode(response.body).usage
    except DECODE_ERRORS:
        return Result(True, None)
    usage = None if told is None else told.to_usage()
    if usage is not None:
        body = bytes(response.body)
        usage = with_citations(with_searches(usage, body), body)
    return Result(True, usage)


def is_free(wire: Inbound) -> bool:
    """Whether answers of a wire report no usage because nobody bills them."""
    return wire.name == "moderations"


def wrong_line(number: int, what: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"line {number} of the file: {what}", code="invalid_batch_line", param="file"
    )
