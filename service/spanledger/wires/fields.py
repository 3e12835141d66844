"""Bodies of JSON, read no further than somebody acts on them: the top level decoded, values raw.

What is wrong with a caller's body is an `InvalidRequestError` that says what to send instead.
"""

from __future__ import annotations

import re
from collections.abc import Container
from typing import TypeGuard

import msgspec

from spanledger.errors import InvalidRequestError

Fields = dict[str, msgspec.Raw]
"""The top level of a body."""

Text = str | list[msgspec.Raw] | None
"""A generated text; some compatible servers send content in parts."""

JsonValue = object
"""What a JSON decoder gives: dict, list, str, int, float, bool or None."""

MAX_ROUTE_CHARS = 256
MAX_HEADER_BYTES = 1024
"""Of a header that is forwarded to a provider."""

DECODE_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""`ValidationError` is a `DecodeError`; a text may hide invalid UTF-8, nesting may be too deep."""

_JSON = b"application/json"
NULL = msgspec.Raw(b"null")
OBJECT = msgspec.json.Decoder(Fields)
_STRING = msgspec.json.Decoder(str)
_INTEGER = msgspec.json.Decoder(int)
EMPTY_ARRAY = re.compile(rb"\[\s*\]")
_FILLED_ARRAY = re.compile(rb"\[\s*[^\s\]]")


def decode(body: bytes) -> Fields:
    """The top level of a body, values undecoded. Raises InvalidRequestError."""
    if not body:
        raise InvalidRequestError("the body is empty; send a JSON object", code="invalid_json")
    try:
        # msgspec skips over raw strings without looking at their encoding.
        if not body.isascii():
            body.decode()
        return OBJECT.decode(body)
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
        raise missing("model")
    try:
        route = _STRING.decode(raw)
    except msgspec.DecodeError:
        raise wrong("model", "a string") from None
    if not 0 < len(route) <= MAX_ROUTE_CHARS:
        raise wrong("model", f"a string of 1 to {MAX_ROUTE_CHARS} characters")
    return route


def check_head(headers: dict[bytes, bytes]) -> None:
    """Refuse bodies we would have to guess at or inflate. Raises InvalidRequestError."""
    check_encoding(headers)
    if not _is_json_type(headers.get(b"content-type", _JSON)):
        raise InvalidRequestError(
            "the body must be JSON; send `Content-Type: application/json`",
            status=415,
            code="unsupported_media_type",
        )


def is_json_head(headers: dict[bytes, bytes]) -> bool:
    """Whether the head of a request says that its body is JSON."""
    return _is_json_type(headers.get(b"content-type", b""))


def _is_json_type(kind: bytes) -> bool:
    if kind == _JSON:
        return True
    essence = kind.partition(b";")[0].strip().lower()
    return essence == _JSON or essence.endswith(b"+json")


def check_encoding(headers: dict[bytes, bytes]) -> None:
    """Refuse bodies that we would have to inflate. Raises InvalidRequestError."""
    coding = headers.get(b"content-encoding")
    if coding is not None and coding.strip().lower() != b"identity":
        raise InvalidRequestError(
            "compressed request bodies are not supported; send it without Content-Encoding",
            status=415,
            code="unsupported_encoding",
        )


def forwarded(headers: dict[bytes, bytes], names: tuple[str, ...]) -> dict[str, str]:
    """The headers of these names that a provider may be sent. Raises InvalidRequestError."""
    found: dict[str, str] = {}
    for name in names:
        raw = headers.get(name.encode())
        if raw is None:
            continue
        if len(raw) > MAX_HEADER_BYTES or not (raw.isascii() and raw.decode().isprintable()):
            raise InvalidRequestError(
                f"the header {name!r} must be at most {MAX_HEADER_BYTES} printable characters",
                code="invalid_header",
            )
        found[name] = raw.decode()
    return found


def check_array(fields: Fields, name: str) -> None:
    """Check that a field is an array with something in it. Raises InvalidRequestError."""
    raw = fields.get(name)
    if raw is None:
        raise missing(name)
    if _FILLED_ARRAY.match(memoryview(raw)) is None:
        raise wrong(name, "a non-empty array")


def positive(fields: Fields, name: str, most: int) -> int | None:
    """A number from 1 to `most`, or None where the field is absent. Raises InvalidRequestError."""
    raw = fields.get(name)
    if raw is None or bytes(raw) == b"null":
        return None
    try:
        value = _INTEGER.decode(raw)
    except msgspec.DecodeError:
        value = 0
    if not 0 < value <= most:
        raise wrong(name, f"an integer from 1 to {most}")
    return value


def boolean(fields: Fields, name: str, shown: str) -> bool:
    """A field that is true or false, and false when it is absent. Raises InvalidRequestError."""
    raw = fields.get(name)
    if raw is None:
        return False
    value = bytes(raw)
    if value not in (b"true", b"false", b"null"):
        raise wrong(shown, "true or false")
    return value == b"true"


def is_json(payload: bytes) -> bool:
    """Whether a payload is complete JSON."""
    try:
        msgspec.json.decode(payload)
    except DECODE_ERRORS:
        return False
    return True


def is_set(raw: msgspec.Raw) -> bool:
    """Whether a raw value is present and not null."""
    return raw is not NULL and bytes(raw) != b"null"


def among(value: object, names: Container[str]) -> TypeGuard[str]:
    """Whether a value is a text, and one of these. A caller may send a list or an object in its place,
    and sets and tables cannot be asked for those."""
    return isinstance(value, str) and value in names


def text_bytes(text: Text) -> int:
    """UTF-8 bytes of generated text."""
    if not text:
        return 0
    if isinstance(text, str):
        return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
    return sum(len(bytes(part)) for part in text)


def missing(name: str) -> InvalidRequestError:
    """The error for a field that is required."""
    return InvalidRequestError(
        f"the field {name!r} is missing", code="missing_required_parameter", param=name
    )


def wrong(name: str, wanted: str) -> InvalidRequestError:
    """The error for a field of the wrong kind."""
    return InvalidRequestError(f"{name!r} must be {wanted}", code="invalid_value", param=name)
