"""Multipart forms: where the parts of a body are, and what of it a deployment is sent.

A form is located, not decoded. The body that goes out consists of ranges of the body that came in, with
only the model's value exchanged and what a deployment adds or leaves out, so every other byte is the
caller's. Libraries for forms decode the parts and do not say where they are.

Whatever two readers of a form could read differently is refused: a boundary inside a part, two
names in one part, an encoded value. Otherwise a provider could read another model than we priced.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import msgspec

from spanledger.errors import InvalidRequestError
from spanledger.wires.fields import DECODE_ERRORS, Fields

MAX_PARTS = 256
MAX_PART_HEAD_BYTES = 8 * 1024
"""Of the headers of one part."""
MAX_TEXT_BYTES = 2 * 1024 * 1024
"""Of all values together that are not files."""
FILE_HEAD_BYTES = 4 * 1024
"""What is kept of a file's beginning: formats say there what they are."""
FILE_TAIL_BYTES = 64 * 1024
"""And of its end, where some say how long they are; the largest page of an Ogg file."""
MAX_PART_NAME_CHARS = 128

_KIND = re.compile(
    rb'multipart/form-data\s*;\s*boundary=("(?P<quoted>[^"\\]+)"|(?P<plain>[^\s";,]+))\s*',
    re.IGNORECASE,
)
_BOUNDARY = re.compile(rb"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")
_DISPOSITION = re.compile(
    rb'form-data((?:\s*;\s*[\w*-]+=(?:"(?:[^"\\]|\\.)*"|[^\s;"]+))*)\s*(?:;\s*)?', re.IGNORECASE
)
_PARAMETER = re.compile(rb';\s*([\w*-]+)=("(?:[^"\\]|\\.)*"|[^\s;"]+)')
_HEADER_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_AS_THEY_ARE = (b"7bit", b"8bit", b"binary")


class ByteRange(NamedTuple):
    """A range of the body that came in."""

    start: int
    end: int


class Pieces(NamedTuple):
    """A body to send: our own bytes, and ranges of the caller's.

    Attributes:
        size: bytes of all of them together.
        content_type: of the request that has this body.
    """

    items: tuple[bytes | ByteRange, ...]
    size: int
    content_type: str


class Upload(Protocol):
    """Where a caller's body is kept until its request has ended."""

    form: Form

    def whole(self, pieces: Pieces) -> bytes | None:
        """The body to send; None where it is too large for memory."""
        ...

    def chunks(self, pieces: Pieces) -> AsyncIterator[bytes]:
        """The same, piece by piece. It can be read again for another attempt."""
        ...


@dataclass(slots=True)
class FormPart:
    """One part of a form.

    Attributes:
        is_file: it has a file name.
        start: where the line with its boundary begins.
        value_at: where its value begins.
        size: bytes of its value.
        head: the value, or the beginning of a file.
        tail: the end of the first file with the name `file`.
    """

    name: str
    is_file: bool
    start: int
    value_at: int
    size: int = 0
    head: bytes = b""
    tail: bytes = b""

    @property
    def end(self) -> int:
        """Where the next boundary begins."""
        return self.value_at + self.size + 2


@dataclass(slots=True)
class Form:
    """A body, located.

    Attributes:
        fields: what was read of it, as JSON: a text for a value, an object for a file, an array for
            a name that came more than once.
        size: bytes of the body.
        end: where the last boundary begins.
    """

    content_type: str
    boundary: bytes
    parts: tuple[FormPart, ...]
    size: int
    end: int
    fields: Fields = field(default_factory=dict)

    def files(self, *names: str) -> list[FormPart]:
        """The files under these names, in their order."""
        return [part for part in self.parts if part.is_file and part.name in names]

    def pieces(self, fields: Mapping[str, msgspec.Raw], model: str) -> Pieces:
        """The body for a deployment: as it came, with another model. What `fields` have and the form
        has not is added; what they lack, or have with another value, is left out or replaced."""
        items: list[bytes | ByteRange] = []
        kept = set()
        for part in self.parts:
            now, came = fields.get(part.name), self.fields.get(part.name)
            if part.name == "model":
                items += (ByteRange(part.start, part.value_at), model.encode(), b"\r\n")
            elif now is not None and came is not None and bytes(now) == bytes(came):
                items.append(ByteRange(part.start, part.end))
            else:
                continue
            kept.add(part.name)
        for name, raw in fields.items():
            if name != "model" and name not in kept:
                items += (self._added(name, text) for text in _texts(raw))
        items.append(ByteRange(self.end, self.size))
        joined = tuple(_joined(items))
        return Pieces(joined, sum(map(_length, joined)), self.content_type)

    def _added(self, name: str, text: str) -> bytes:
        head = f'Content-Disposition: form-data; name="{name}"\r\n\r\n'
        return b"--" + self.boundary + b"\r\n" + head.encode() + text.encode() + b"\r\n"


def boundary_of(headers: Mapping[bytes, bytes]) -> bytes:
    """The boundary of a form, by its headers. Raises InvalidRequestError."""
    kind = headers.get(b"content-type", b"")
    if not kind.lstrip().lower().startswith(b"multipart/form-data"):
        raise InvalidRequestError(
            "the body must be a form; send `Content-Type: multipart/form-data` with its boundary,"
            " as HTTP clients do by themselves for a form with a file",
            status=415,
            code="unsupported_media_type",
        )
    found = _KIND.fullmatch(kind)
    boundary = b"" if found is None else found["quoted"] or found["plain"]
    if not _BOUNDARY.fullmatch(boundary):
        raise _wrong(
            "the header Content-Type has no usable boundary; let the HTTP client set it, and set no"
            " Content-Type yourself"
        )
    return boundary


class FormReader:
    """Locates the parts of a form while its bytes arrive."""

    def __init__(self, boundary: bytes, content_type: str = "") -> None:
        self._boundary = boundary
        self._mark = b"--" + boundary
        self._content_type = content_type or f"multipart/form-data; boundary={boundary.decode()}"
        self._buffer = bytearray()
        self._base = 0  # where the buffer begins in the body
        self._text_bytes = 0
        self._parts: list[FormPart] = []
        self._part: FormPart | None = None
        self._kept = bytearray()
        self._end = -1
        self._step = self._open

    def feed(self, data: bytes) -> None:
        """Read on. Raises InvalidRequestError."""
        self._buffer += data
        while self._step():
            pass

    def finish(self) -> Form:
        """The form, once its body is complete. Raises InvalidRequestError."""
        if self._end < 0:
            raise _wrong("it ends before its last boundary; send all of it")
        size = self._base + len(self._buffer)
        parts = tuple(self._parts)
        form = Form(self._content_type, self._boundary, parts, size, self._end)
        form.fields = _fields(parts)
        return form

    # Each step says whether there may be more to read of what has arrived.

    def _open(self) -> bool:
        mark = self._mark
        if len(self._buffer) < len(mark) + 2:
            return False
        if not self._buffer.startswith(mark):
            raise _wrong("it must begin with the boundary that Content-Type names")
        self._after_mark(0)
        return True

    def _after_mark(self, at: int) -> None:
        """What follows a boundary: another part, or the end."""
        after = at + len(self._mark)
        self._step = self._head
        match bytes(self._buffer[after : after + 2]):
            case b"\r\n":
                if len(self._parts) == MAX_PARTS:
                    raise _wrong(f"it has more than {MAX_PARTS} parts")
                self._start = self._base + at
            case b"--":
                self._end, self._step = self._base + at, self._epilogue
            case _:
                raise _wrong("the boundary occurs inside a part; choose another one")
        self._drop(after + 2)

    def _head(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n", 0, MAX_PART_HEAD_BYTES)
        if end < 0:
            if len(self._buffer) >= MAX_PART_HEAD_BYTES:
                raise _wrong(f"a part has more than {MAX_PART_HEAD_BYTES} bytes of headers")
            return False
        name, is_file = _disposition(bytes(self._buffer[:end]))
        self._drop(end + 4)
        self._part = FormPart(name, is_file, self._start, self._base)
        self._kept.clear()
        self._step = self._value
        return True

    def _value(self) -> bool:
        buffer, mark = self._buffer, self._mark
        at = buffer.find(mark)
        if at < 0:
            self._take(len(buffer) - len(mark) - 1)
            return False
        if len(buffer) < at + len(mark) + 2:
            self._take(at - 2)
            return False
        if buffer[max(at - 2, 0) : at] != b"\r\n":
            raise _wrong("the boundary occurs inside a part; choose another one")
        self._take(at - 2)
        part = self._part
        assert part is not None
        part.head = bytes(self._kept)
        self._parts.append(part)
        self._after_mark(2)
        return True

    def _epilogue(self) -> bool:
        if bytes(self._buffer) not in (b"", b"\r", b"\r\n"):
            raise _wrong("it goes on after its last boundary")
        return False

    def _take(self, count: int) -> None:
        """Count this much as the part's value, and keep what is needed of it."""
        part = self._part
        if count <= 0 or part is None:
            return
        part.size += count
        if part.is_file:
            self._kept += self._buffer[: min(count, FILE_HEAD_BYTES - len(self._kept))]
        else:
            self._text_bytes += count
            if self._text_bytes > MAX_TEXT_BYTES:
                raise _wrong(f"its fields without the files exceed {MAX_TEXT_BYTES} bytes")
            self._kept += self._buffer[:count]
        self._drop(count)

    def _drop(self, count: int) -> None:
        del self._buffer[:count]
        self._base += count


def _disposition(head: bytes) -> tuple[str, bool]:
    """A part's name, and whether it is a file. Raises InvalidRequestError."""
    found = b""
    for line in head.split(b"\r\n"):
        name, colon, value = line.partition(b":")
        name, value = name.lower(), value.strip()
        if not colon or not _HEADER_NAME.fullmatch(name) or set(b"\r\n\0") & set(line):
            raise _wrong("a part has a header that is not of the form `Name: value`")
        if name == b"content-transfer-encoding" and value.lower() not in _AS_THEY_ARE:
            raise _wrong("a part is encoded; send its bytes as they are")
        if name == b"content-disposition":
            if found:
                raise _wrong("a part has two Content-Disposition headers")
            found = value
    matched = _DISPOSITION.fullmatch(found)
    given = [] if matched is None else _PARAMETER.findall(matched[1])
    names = [name.lower() for name, _ in given]
    if len(set(names)) != len(names) or b"name" not in names or b"name*" in names:
        raise _wrong('each part needs a header `Content-Disposition: form-data; name="…"`')
    raw: bytes = given[names.index(b"name")][1]
    try:
        text = re.sub(rb"\\(.)", rb"\1", raw[1:-1]).decode() if raw[:1] == b'"' else raw.decode()
    except UnicodeDecodeError:
        text = ""
    if not (0 < len(text) <= MAX_PART_NAME_CHARS and text.isprintable()) or '"' in text:
        raise _wrong(f"the name of a part must be 1 to {MAX_PART_NAME_CHARS} printable characters")
    if text.strip() != text:
        raise _wrong(f"the name {text!r} of a part has spaces around it; leave them out")
    return text, b"filename" in names or b"filename*" in names


def _fields(parts: tuple[FormPart, ...]) -> Fields:
    """The parts as JSON, by name. Raises InvalidRequestError."""
    found: dict[str, list[object]] = {}
    for part in parts:
        try:
            value = {"bytes": part.size} if part.is_file else part.head.decode()
        except UnicodeDecodeError:
            raise _wrong(f"the field {part.name!r} is not UTF-8", part.name) from None
        found.setdefault(part.name, []).append(value)
    return {
        name: msgspec.Raw(msgspec.json.encode(values if len(values) > 1 else values[0]))
        for name, values in found.items()
    }


def _texts(raw: msgspec.Raw) -> list[str]:
    """A value of JSON as the values of a form."""
    try:
        value = msgspec.json.decode(raw)
    except DECODE_ERRORS:
        return []
    values = value if isinstance(value, list) else [] if value is None else [value]
    return [v if isinstance(v, str) else msgspec.json.encode(v).decode() for v in values]


def _joined(items: list[bytes | ByteRange]) -> list[bytes | ByteRange]:
    """The same with neighbours put together."""
    found: list[bytes | ByteRange] = []
    for item in items:
        last = found[-1] if found else None
        if isinstance(item, ByteRange) and isinstance(last, ByteRange) and last.end == item.start:
            found[-1] = ByteRange(last.start, item.end)
        elif isinstance(item, bytes) and isinstance(last, bytes):
            found[-1] = last + item
        else:
            found.append(item)
    return found


def _length(item: bytes | ByteRange) -> int:
    return len(item) if isinstance(item, bytes) else item.end - item.start


def _wrong(what: str, param: str | None = None) -> InvalidRequestError:
    return InvalidRequestError(f"the form cannot be read: {what}", code="invalid_form", param=param)
