"""Reads chunks of a stream that differ from an earlier one in their text alone, without decoding them.

Most chunks of a stream are the same bytes around another piece of text. The first such chunk is read
like any other; then its reader is asked what it makes of the same bytes around other texts. If only
the text counts, later chunks of this shape need no decoding: the bytes before and behind their text
must be those that were learnt. Whatever else a chunk says (a finish reason, usage, an error, a second
choice, a name nobody knows) makes other bytes, and such a chunk goes to the full reader.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from spanledger.errors import ProviderError
from spanledger.wires.base import Frame
from spanledger.wires.sse import encode_event

MAX_SHAPES = 4
"""Shapes that are learnt of a stream, unless they turn out to be worth it."""
WORTH_CHUNKS = 8
"""A shape that has served this many chunks was worth it: as many may be learnt again."""
MAX_CANDIDATES = 4
"""Places in a chunk that are tried as the place of its text."""

_BEGINNING = re.compile(rb'"(?:content|reasoning_content|reasoning|arguments)": ?"')
_TEXT = re.compile(rb'(?:[^\x00-\x1f"\\]+|\\["\\/bfnrt])*')
"""A JSON string up to its end quote; escapes of more than one character are left to the decoder."""
_BACKSLASH = ord("\\")
_ESCAPE = re.compile(rb"\\.")
_PADDING = re.compile(rb'(,"obfuscation":")[0-9A-Za-z]*"\}')
"""Random characters with which OpenAI hides the length of a chunk's text."""
_END = b'"}'


class UsualReader:
    """The shape of one stream's chunks, once it is known."""

    __slots__ = (
        "_before",
        "_behind",
        "_empty",
        "_frame",
        "_full",
        "_learnt",
        "_padded",
        "_served",
        "_start",
    )

    def __init__(self, full: Callable[[bytes], Frame]) -> None:
        """`full` reads any chunk, and raises where it is none."""
        self._full = full
        self._before = self._behind = b""
        self._start = self._served = self._learnt = 0
        self._padded = self._empty = False
        self._frame = Frame(b"")

    def read(self, payload: bytes) -> Frame | None:
        """The chunk in a payload, as the full reader would read it; None if it must be asked."""
        start = self._start
        if not (start and payload.startswith(self._before)):
            return None
        found = _TEXT.match(payload, start)
        end = start if found is None else found.end()
        behind = self._behind
        if not payload.startswith(behind, end):
            return None
        rest = payload[end + len(behind) :]
        if rest and not (
            self._padded and rest.endswith(_END) and (rest[:-2].isalnum() or rest == _END)
        ):
            return None
        if not rest and self._padded:
            return None
        size = end - start
        if size:
            text = payload[start:end]
            if not text.isascii():
                try:
                    text.decode()
                except UnicodeDecodeError:
                    return None
            if _BACKSLASH in text:
                size -= len(_ESCAPE.findall(text))
        self._served += 1
        frame = self._frame
        return Frame(
            b"data: %b\n\n" % payload,
            size > 0 or self._empty,
            size,
            False,
            None,
            frame.response_id,
            frame.response_model,
            "",
            frame.provider_request_id,
            0,
            None,
            frame.service,
            False,
            True,
        )

    def learn(self, payload: bytes, frame: Frame) -> None:
        """Take a chunk that the full reader has read as an example of the usual ones."""
        if not self._is_plain(payload, frame):
            return
        if self._served >= WORTH_CHUNKS:
            self._served = self._learnt = 0
        if self._learnt >= MAX_SHAPES:
            return
        self._learnt += 1
        for number, beginning in enumerate(_BEGINNING.finditer(payload)):
            if number == MAX_CANDIDATES:
                return
            start = beginning.end()
            found = _TEXT.match(payload, start)
            end = start if found is None else found.end()
            before, behind = payload[:start], payload[end:]
            if not behind.startswith(b'"'):
                continue
            empty = self._content_if_empty(before, behind, frame)
            if empty is not None:
                padding = _PADDING.search(behind)
                self._padded = padding is not None and padding.end() == len(behind)
                if padding is not None and self._padded:
                    behind = behind[: padding.end(1)]
                self._before, self._behind, self._start = before, behind, start
                self._frame, self._empty = frame, empty
                return

    def _is_plain(self, payload: bytes, frame: Frame) -> bool:
        return (
            frame.content
            and not (frame.finish_reason or frame.speech_bytes or frame.closes)
            and frame.usage is None
            and b"\n" not in payload
        )

    def _content_if_empty(self, before: bytes, behind: bytes, frame: Frame) -> bool | None:
        """Whether the chunk counts as content when there is no text between these bytes. None if that
        text is not all that is generated in it, or if anything else depends on the text."""
        empty, other = before + behind, before + b"xy" + behind
        try:
            nothing, something = self._full(empty), self._full(other)
        except ProviderError:
            return None
        wanted = replace(frame, data=encode_event(other), content=True, output_bytes=2)
        if something != wanted:
            return None
        wanted = replace(frame, data=encode_event(empty), content=nothing.content, output_bytes=0)
        return nothing.content if nothing == wanted else None
