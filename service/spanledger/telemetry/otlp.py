"""OTLP's protobuf wire format, as far as the shipper's spans need it: values in, bytes out.

Owns the field numbers of `opentelemetry/proto/trace/v1/trace.proto` and `common/v1/common.proto`, and
knows nothing of rows, attributes' names or HTTP. A message is its fields one after the other, in any
order; a field is a tag and, for text or a message, a length and that many bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

from opentelemetry.sdk.resources import Resource

AttributeValue = str | bool | int | float | list[str]

SERVER, CLIENT = b"\x30\x02", b"\x30\x03"
"""The kinds of span, as fields."""
MAX_HEADS = 8192
"""Beginnings of attributes kept for reuse: one for each name and size of value."""

_HAS_IS_REMOTE = 0x100
_IS_REMOTE = 0x200
_SMALL = tuple(bytes((value,)) for value in range(0x80))
_double = struct.Struct("<d").pack
_identity = struct.Struct("<2s16s2s8scQcQ2sI").pack


def field(tag: bytes, data: bytes) -> bytes:
    """A length-delimited field: text, bytes or a message."""
    size = len(data)
    return tag + (_SMALL[size] if size < 0x80 else _varint(size)) + data


def attributes(found: Mapping[str, AttributeValue]) -> bytes:
    """Attributes of a span. Raises ValueError or TypeError on a value OTLP cannot hold."""
    parts: list[bytes] = []
    for key, value in found.items():
        data = _any_value(value)
        parts += (_head(key, len(data)), data)
    return b"".join(parts)


def identity(
    trace_id: str,
    span_id: str,
    parent_id: str,
    times_ns: tuple[int, int],
    *,
    sampled: bool,
    remote: bool,
) -> bytes:
    """A span's ids (hex), its start and end, and its flags.

    Args:
        parent_id: empty for a root span.
        sampled: whether the trace is, as W3C's trace flags say it.
        remote: whether the parent is a span of another process.

    Raises:
        ValueError: an id is not hex, or a time does not fit.
    """
    start_ns, end_ns = times_ns
    flags = _HAS_IS_REMOTE | (_IS_REMOTE if remote and parent_id else 0) | sampled
    trace, span, parent = map(bytes.fromhex, (trace_id, span_id, parent_id))
    try:
        fixed = _identity(
            *(b"\x0a\x10", trace, b"\x12\x08", span),
            *(b"\x39", start_ns, b"\x41", end_ns, b"\x85\x01", flags),
        )
    except struct.error as error:
        raise ValueError(f"times of span {span_id}: {error}") from error
    return fixed + field(b"\x22", parent) if parent else fixed


def name(text: str) -> bytes:
    """A span's name."""
    return field(b"\x2a", text.encode())


def status(description: str, *, failed: bool) -> bytes:
    """A span's status: `ERROR` with a description, or `UNSET`."""
    if not failed:
        return b"\x7a\x00"
    text = field(b"\x12", description.encode()) if description else b""
    return field(b"\x7a", text + b"\x18\x02")


def export_of(
    resource: Resource, scope: str, version: str, schema_url: str
) -> Callable[[Iterable[bytes]], bytes]:
    """A function that makes an `ExportTraceServiceRequest` of spans of this resource and scope."""
    pairs = resource.attributes.items()
    described = b"".join([field(b"\x0a", _key_value(k, v)) for k, v in pairs])
    before = field(b"\x0a", described)
    after = field(b"\x1a", resource.schema_url.encode()) if resource.schema_url else b""
    named = field(b"\x0a", field(b"\x0a", scope.encode()) + field(b"\x12", version.encode()))
    form = field(b"\x1a", schema_url.encode())

    def export(spans: Iterable[bytes]) -> bytes:
        scoped = b"".join([named, *[field(b"\x12", span) for span in spans], form])
        return field(b"\x0a", before + field(b"\x12", scoped) + after)

    return export


def _varint(value: int) -> bytes:
    """An unsigned integer, seven bits a byte, lowest first."""
    if value < 0x80:
        return _SMALL[value]
    if value < 0x4000:
        return bytes((value & 0x7F | 0x80, value >> 7))
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _any_value(value: object) -> bytes:
    """`AnyValue`."""
    write = _WRITERS.get(type(value))
    if write is None:
        raise TypeError(f"{type(value).__name__} is not an attribute value")
    return write(value)


def _text(value: str) -> bytes:
    data = value.encode()
    size = len(data)
    return (_SMALL_TEXTS[size] if size < 0x80 else b"\x0a" + _varint(size)) + data


def _integer(value: int) -> bytes:
    if 0 <= value < 0x80:
        return _SMALL_INTEGERS[value]
    if not -(2**63) <= value < 2**63:
        raise ValueError(f"{value} does not fit OTLP's 64-bit integers")
    return b"\x18" + _varint(value & 0xFFFF_FFFF_FFFF_FFFF)


def _items(value: Iterable[object]) -> bytes:
    return field(b"\x2a", b"".join([field(b"\x0a", _any_value(item)) for item in value]))


_SMALL_TEXTS = tuple(b"\x0a" + size for size in _SMALL)
_SMALL_INTEGERS = tuple(b"\x18" + value for value in _SMALL)
_WRITERS: dict[type, Callable[[Any], bytes]] = {
    str: _text,
    bool: lambda value: b"\x10\x01" if value else b"\x10\x00",
    int: _integer,
    float: lambda value: b"\x21" + _double(value),
    list: _items,
    tuple: _items,
}


def _key_value(key: str, value: object) -> bytes:
    """`KeyValue`, without a tag."""
    return field(b"\x0a", key.encode()) + field(b"\x12", _any_value(value))


@lru_cache(MAX_HEADS)
def _head(key: str, size: int) -> bytes:
    """An attribute of a span up to its value of this many bytes, which is most of its encoding."""
    inner = field(b"\x0a", key.encode()) + b"\x12" + _varint(size)
    return b"\x4a" + _varint(len(inner) + size) + inner
