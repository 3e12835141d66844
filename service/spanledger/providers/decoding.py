"""Decompresses a response that is compressed although we ask for `identity`.

A few compressed bytes can expand without limit, so what comes out is limited as well. Only complete
responses are decompressed; a compressed stream is refused.
"""

from __future__ import annotations

import zlib

_GZIP = 16 + zlib.MAX_WBITS
_ZLIB = 0x8
"""The method in the first byte of a `deflate` body; some servers send it without this header."""


class CodingError(Exception):
    """The body cannot be decompressed."""


class ExpandedError(CodingError):
    """The body is larger than the limit, once it is decompressed."""


def decompressed(body: bytes, coding: str, most: int) -> bytes:
    """A body without its `Content-Encoding`. Raises CodingError."""
    if coding in ("gzip", "x-gzip"):
        bits = _GZIP
    elif coding == "deflate":
        bits = zlib.MAX_WBITS if body[:1] and body[0] & 0xF == _ZLIB else -zlib.MAX_WBITS
    else:
        raise CodingError
    parts: list[bytes] = []
    left = most
    while body:
        unpacker = zlib.decompressobj(bits)
        try:
            part = unpacker.decompress(body, left + 1)
        except zlib.error:
            raise CodingError from None
        left -= len(part)
        if left < 0:
            raise ExpandedError
        if not unpacker.eof:
            raise CodingError
        parts.append(part)
        body = unpacker.unused_data  # gzip may have further members
    return b"".join(parts)
