"""The OpenAI wire on its way in: just enough of a body is read to route and price it.

Checks the few fields the gateway acts on and leaves every other value as raw bytes. No I/O.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

import msgspec

from spanledger.errors import InvalidRequestError
from spanledger.ledger.store import UNSAMPLED
from spanledger.providers.base import Operation
from spanledger.providers.openai_wire import Fields
from spanledger.routing.demand import MAX_CHOICES, MAX_OUTPUT_TOKENS, WATCHED

MAX_ROUTE_CHARS = 256
ACTED_ON = frozenset(
    {
        "model",
        "messages",
        "input",
        "stream",
        "stream_options",
        "max_tokens",
        "max_completion_tokens",
        "n",
        *WATCHED,
    }
)
"""Fields that decide where a request goes and what it may cost."""

_TOP_LEVEL = msgspec.json.Decoder(Fields)
_STRING = msgspec.json.Decoder(str)
_INTEGER = msgspec.json.Decoder(int)
_OBJECT = _TOP_LEVEL
_EMPTY_ARRAY = re.compile(rb"\[\s*\]")
_TRACEPARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_NO_TRACE = b"0" * 32
_NO_SPAN = b"0" * 16


@dataclass(frozen=True, slots=True)
class Shape:
    """What the gateway itself acts on in a body."""

    stream: bool
    include_usage: bool


def decode(body: bytes) -> Fields:
    """The top level of a body, values undecoded. Raises InvalidRequestError."""
    if not body:
        raise InvalidRequestError("the body is empty; send a JSON object", code="invalid_json")
    try:
        # msgspec skips over raw strings without looking at their encoding.
        if not body.isascii():
            body.decode()
        return _TOP_LEVEL.decode(body)
    except UnicodeDecodeError:
        raise InvalidRequestError("the body is not UTF-8", code="invalid_json") from None
    except RecursionError:
        raise InvalidRequestError("the body is nested too deep", code="invalid_json") from None
    except msgspec.ValidationError:
        raise InvalidRequestError("the body must be a JSON object", code="invalid_json") from None
    except msgspec.DecodeError as error:
        raise InvalidRequestError(f"the body is not JSON: {error}", code="invalid_json") from None


def route_of(fields: Fields) -> str:
    """The route a body asks for. Raises InvalidRequestError."""
    raw = fields.get("model")
    if raw is None:
        raise _missing("model")
    try:
        route = _STRING.decode(raw)
    except msgspec.DecodeError:
        raise _wrong("model", "a string") from None
    if not 0 < len(route) <= MAX_ROUTE_CHARS:
        raise _wrong("model", f"a string of 1 to {MAX_ROUTE_CHARS} characters")
    return route


def check(fields: Fields, operation: Operation) -> Shape:
    """Check what the gateway relies on. Raises InvalidRequestError."""
    for name in fields:
        if name not in ACTED_ON:
            _check_spelling(name)
    if operation == "embeddings":
        _check_input(fields)
        return Shape(stream=False, include_usage=False)
    _check_array(fields, "messages")
    _integer(fields, "max_tokens", MAX_OUTPUT_TOKENS)
    _integer(fields, "max_completion_tokens", MAX_OUTPUT_TOKENS)
    _integer(fields, "n", MAX_CHOICES)
    return Shape(_boolean(fields, "stream", "stream"), _include_usage(fields))


def check_head(headers: dict[bytes, bytes]) -> None:
    """Refuse bodies we would have to guess at or inflate. Raises InvalidRequestError."""
    coding = headers.get(b"content-encoding")
    if coding is not None and coding.strip().lower() != b"identity":
        raise InvalidRequestError(
            "compressed request bodies are not taken; send it without Content-Encoding",
            status=415,
            code="unsupported_encoding",
        )
    kind = headers.get(b"content-type", b"application/json")
    if kind != b"application/json":
        essence = kind.partition(b";")[0].strip().lower()
        if essence != b"application/json" and not essence.endswith(b"+json"):
            raise InvalidRequestError(
                "the body must be JSON; send `Content-Type: application/json`",
                status=415,
                code="unsupported_media_type",
            )


def parent_of(traceparent: bytes | None) -> tuple[str, str]:
    """Trace id and parent span id of a W3C `traceparent`, or two empty strings.

    A caller that does not sample its trace has `UNSAMPLED` after its span id: the request is traced
    all the same, and its spans say so in their flags.
    """
    if traceparent is None:
        return "", ""
    match = _TRACEPARENT.fullmatch(traceparent)
    if match is None:
        return "", ""
    version, trace, span, flags, rest = match.groups()
    if version == b"ff" or (version == b"00" and rest) or trace == _NO_TRACE or span == _NO_SPAN:
        return "", ""
    sampled = int(flags, 16) & 1
    return trace.decode(), span.decode() + ("" if sampled else UNSAMPLED)


def new_request_id(rng: random.Random, now_ns: int) -> str:
    """`req_` and 24 hex digits: 12 of the time in milliseconds, 12 of chance.

    Ids that rise with time keep the ledger's rows of one moment on the same pages.
    """
    return f"req_{now_ns // 1_000_000:012x}{rng.getrandbits(48):012x}"


def new_trace_id(rng: random.Random) -> str:
    """32 hex digits, not all zero."""
    return f"{rng.getrandbits(128) or 1:032x}"


def new_span_id(rng: random.Random) -> str:
    """16 hex digits, not all zero."""
    return f"{rng.getrandbits(64) or 1:016x}"


def _check_spelling(name: str) -> None:
    """Some servers take `MAX_TOKENS` or `maxTokens` for `max_tokens`: we would hold for what the
    one says and send both."""
    meant = _SPELLED.get(_folded(name))
    if meant is not None:
        raise InvalidRequestError(
            f"write {meant!r} for {name[:MAX_ROUTE_CHARS]!r}", code="invalid_value", param=meant
        )


def _folded(name: str) -> str:
    return name.casefold().replace("_", "").replace("-", "")


_SPELLED = {_folded(name): name for name in ACTED_ON}


def _check_array(fields: Fields, name: str) -> None:
    raw = fields.get(name)
    if raw is None:
        raise _missing(name)
    view = memoryview(raw)
    if bytes(view[:1]) != b"[" or _EMPTY_ARRAY.fullmatch(view):
        raise _wrong(name, "a non-empty array")


def _check_input(fields: Fields) -> None:
    raw = fields.get("input")
    if raw is None:
        raise _missing("input")
    view = memoryview(raw)
    start = bytes(view[:2])
    if start[:1] not in (b"[", b'"') or start == b'""' or _EMPTY_ARRAY.fullmatch(view):
        raise _wrong("input", "a non-empty string or array")


def _integer(fields: Fields, name: str, most: int) -> None:
    raw = fields.get(name)
    if raw is None or bytes(raw) == b"null":
        return
    try:
        value = _INTEGER.decode(raw)
    except msgspec.DecodeError:
        value = 0
    if not 0 < value <= most:
        raise _wrong(name, f"an integer from 1 to {most}")


def _boolean(fields: Fields, name: str, shown: str) -> bool:
    raw = fields.get(name)
    if raw is None:
        return False
    value = bytes(raw)
    if value not in (b"true", b"false", b"null"):
        raise _wrong(shown, "true or false")
    return value == b"true"


def _include_usage(fields: Fields) -> bool:
    raw = fields.get("stream_options")
    if raw is None or bytes(raw) == b"null":
        return False
    try:
        options = _OBJECT.decode(raw)
    except msgspec.DecodeError:
        raise _wrong("stream_options", "an object") from None
    return _boolean(options, "include_usage", "stream_options.include_usage")


def _missing(name: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"the field {name!r} is missing", code="missing_required_parameter", param=name
    )


def _wrong(name: str, wanted: str) -> InvalidRequestError:
    return InvalidRequestError(f"{name!r} must be {wanted}", code="invalid_value", param=name)
