"""Paths of requests that are passed through: `/v1/PROVIDER/…`, read as bytes from the request line.

What a provider makes of dots, doubled slashes and encoded characters in a path is not known, so any
path with more than one meaning is refused: it could leave the address that the deployment names.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from spanledger.errors import InvalidRequestError

MAX_SEGMENTS = 16
MAX_PATH_BYTES = 2_048
_PREFIX = b"/v1/"
_SAFE = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})+")
_WORD = re.compile(r"[a-z][a-z_-]{0,31}(?::[A-Za-z]{1,32})?|v[0-9][a-z0-9]{0,7}")
_SLASHED = (b"/", b"\\", b"%2f", b"%5c")
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")


class PassPath(NamedTuple):
    """Where a request is to be passed on.

    Attributes:
        provider: whose endpoint it is, as the caller names it.
        rest: what follows, percent-encoded as it came; no slash at its beginning.
    """

    provider: str
    rest: str

    @property
    def template(self) -> str:
        """The path without what looks like an id, a name or a number."""
        words = [part if _WORD.fullmatch(part) else "{id}" for part in self.rest.split("/")]
        return "/" + "/".join(words)


def provider_in(path: str) -> str:
    """The first segment below `/v1`, if anything follows it."""
    if not path.startswith("/v1/"):
        return ""
    name, slash, _ = path[4:].partition("/")
    return name if slash else ""


def pass_path(raw: bytes) -> PassPath:
    """The parts of a path as it stood in the request line, without its query.

    Raises:
        InvalidRequestError: it is too long, or can be read in more than one way.
    """
    if len(raw) > MAX_PATH_BYTES:
        raise _refused(f"it is longer than {MAX_PATH_BYTES} bytes")
    name, _, rest = raw.removeprefix(_PREFIX).partition(b"/")
    segments = rest.split(b"/")
    if len(segments) > MAX_SEGMENTS:
        raise _refused(f"it has more than {MAX_SEGMENTS} parts")
    for segment in segments:
        if not segment:
            raise _refused("it has an empty part; leave out slashes that are doubled or at the end")
        if not _SAFE.fullmatch(segment):
            raise _refused("it has a character that must be percent-encoded")
        # A server may decode more than once.
        once = unquote_to_bytes(segment)
        twice = unquote_to_bytes(once)
        if {once, twice} & {b".", b".."}:
            raise _refused("it has a part that is only dots")
        if any(mark in form.lower() for form in (once, twice) for mark in _SLASHED):
            raise _refused("it has an encoded slash")
        if _CONTROL.search(once) or _CONTROL.search(twice):
            raise _refused("it has a control character")
    return PassPath(unquote_to_bytes(name).decode("latin-1"), rest.decode("ascii"))


def _refused(why: str) -> InvalidRequestError:
    return InvalidRequestError(f"this path cannot be passed on: {why}", code="invalid_path")
