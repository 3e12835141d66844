"""What comes back on a connection besides a body: its headers, or one of these errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


class ResponseError(Exception):
    """A response did not arrive as it should."""


class HungUpError(ResponseError):
    """The connection ended before the response."""


class BrokeError(ResponseError):
    """The connection ended within the response."""


class BadResponseError(ResponseError):
    """What came is not HTTP; the text names the kind of mistake."""


class FloodError(ResponseError):
    """The server sent too many interim responses."""


class TooLargeError(ResponseError):
    """The body is larger than the limit."""


class LateError(ResponseError):
    """The response, or what was waited for of it, did not arrive in time."""


class ReplyHeaders(Mapping[str, str]):
    """A response's headers, by names in lower case; the first of equal names. Decoded when asked for.

    A header may have any bytes: those that are not UTF-8 become surrogates.
    """

    __slots__ = ("_raw",)

    def __init__(self, raw: Mapping[bytes, bytes]) -> None:
        self._raw = raw

    def __getitem__(self, name: str) -> str:
        return self._raw[name.encode()].decode("utf-8", "surrogateescape")

    def get(self, name: str, default: Any = None) -> Any:
        """A header, without the exception that a mapping would raise and catch for a missing one."""
        value = self._raw.get(name.encode())
        return default if value is None else value.decode("utf-8", "surrogateescape")

    def __iter__(self) -> Iterator[str]:
        return (name.decode("latin-1") for name in self._raw)

    def __len__(self) -> int:
        return len(self._raw)


def raised_again(error: ResponseError) -> ResponseError:
    """An error to raise for one that is kept, whose traceback would keep the request in memory."""
    return type(error)(*error.args)


def is_whole(content_type: bytes) -> bool:
    """Whether a content type is that of a JSON answer or a web page, not of a stream."""
    return content_type.lower().startswith((b"application/json", b"text/html"))
