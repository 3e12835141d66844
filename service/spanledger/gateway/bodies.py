"""Bodies of requests: whole in memory, or uploads, which are kept on disk once they are large.

An upload stays until its request has ended, because another attempt may send it again. Its file has no
name, so nothing is left of it even if the process is killed. Disks are read and written in threads.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping
from typing import BinaryIO

from starlette.types import Message, Receive

from spanledger.errors import OverloadedError
from spanledger.gateway.crowd import Slot
from spanledger.wires.form import FILE_TAIL_BYTES, ByteRange, Form, FormReader, Pieces, boundary_of

SPOOL_BYTES = 1024 * 1024
"""Larger uploads are kept on disk."""
CHUNK_BYTES = 256 * 1024
"""Of an upload on disk, what is read or written at a time."""


def room_for_uploads(most_bytes: int) -> str:
    """A warning where large uploads have less room than the settings let them take; else empty."""
    try:
        folder = tempfile.gettempdir()
    except FileNotFoundError:
        return "there is no directory for large uploads, which are refused: set TMPDIR to one"
    free = shutil.disk_usage(folder).free
    if free >= most_bytes:
        return ""
    return (
        f"large uploads may take {most_bytes >> 20} MiB, but {folder!r} has {free >> 20} MiB left: set"
        " TMPDIR to a directory with more room, or lower gateway.max_upload_bytes_in_flight"
    )


class ClientGoneError(Exception):
    """The client disconnected before its request was complete."""


async def whole_body(receive: Receive, place: Slot) -> bytes:
    """The complete body. The server limits its size and pace, the crowd the total of all bodies."""
    message = await receive()
    if message["type"] == "http.request" and not message["more_body"]:  # as nearly always
        body: bytes = message["body"]
        place.take(len(body))
        return body
    return b"".join([chunk async for chunk in _arriving(message, receive, place)])


async def upload_of(headers: Mapping[bytes, bytes], receive: Receive, place: Slot) -> FormUpload:
    """A form, located and kept. The caller of this must close it.

    Raises:
        InvalidRequestError: it is not a form.
    """
    boundary = boundary_of(headers)
    reader = FormReader(boundary, headers[b"content-type"].decode("latin-1"))
    spool = Spool(place)
    try:
        async for chunk in _arriving(await receive(), receive, place):
            reader.feed(chunk)
            await spool.write(chunk)
        form = reader.finish()
        for part in form.files("file")[:1]:
            start = part.value_at + max(0, part.size - FILE_TAIL_BYTES)
            part.tail = await spool.read(ByteRange(start, part.value_at + part.size))
    except BaseException:
        spool.close()
        raise
    return FormUpload(form, spool)


async def _arriving(message: Message, receive: Receive, place: Slot) -> AsyncIterator[bytes]:
    """The body as it arrives, counted; `message` is the first of it."""
    sending = False
    while True:
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        place.take(len(message["body"]))
        yield message["body"]
        if not message["more_body"]:
            break
        if not sending:
            place.start_sending()
            sending = True
        message = await receive()
    place.stop_sending()


class Spool:
    """Bytes that can be read again: in memory up to `SPOOL_BYTES`, then in a file without a name."""

    def __init__(self, place: Slot) -> None:
        self._place = place
        self._memory = bytearray()
        """What is not on disk."""
        self._file: BinaryIO | None = None
        self._on_disk = 0
        self._closed = False

    async def write(self, data: bytes) -> None:
        """Append.

        Raises:
            OverloadedError: the disk has no room, or uploads take too much of it.
        """
        self._memory += data
        if len(self._memory) <= (CHUNK_BYTES if self._file else SPOOL_BYTES):
            return
        self._place.to_disk()
        whole = bytes(self._memory)
        self._memory.clear()
        try:
            await asyncio.to_thread(self._append, whole)
        except OSError as error:
            raise OverloadedError(
                f"the gateway's disk cannot keep the upload ({error.strerror}); retry later"
            ) from None

    async def read(self, span: ByteRange) -> bytes:
        """A range of what was written."""
        return b"".join([chunk async for chunk in self.chunks(span)])

    async def chunks(self, span: ByteRange) -> AsyncIterator[bytes]:
        """A range of what was written, piece by piece."""
        at, written = span.start, self._on_disk
        while at < min(span.end, written):
            chunk = await asyncio.to_thread(self._at, at, min(span.end, written) - at)
            yield chunk
            at += len(chunk)
        if at < span.end:
            yield bytes(self._memory[at - written : span.end - written])

    @property
    def in_memory(self) -> bytes | None:
        """All of it; None if any is on disk."""
        return bytes(self._memory) if self._file is None else None

    def close(self) -> None:
        """Remove it."""
        self._closed = True
        self._memory.clear()
        if self._file is not None:
            self._file.close()

    def _append(self, data: bytes) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  # `close` does it
            if self._closed:  # while this thread was opening it
                self._file.close()
                return
        view = memoryview(data)
        while view:
            count = self._file.write(view)
            self._on_disk += count
            view = view[count:]

    def _at(self, at: int, size: int) -> bytes:
        assert self._file is not None
        chunk = os.pread(self._file.fileno(), min(size, CHUNK_BYTES), at)
        if not chunk:
            raise OSError("an upload on disk is shorter than what was written")
        return chunk


class FormUpload:
    """A form and its bytes; an `Upload`."""

    def __init__(self, form: Form, spool: Spool) -> None:
        self.form = form
        self._spool = spool

    def whole(self, pieces: Pieces) -> bytes | None:
        """The body to send; None where it is on disk."""
        body = self._spool.in_memory
        if body is None:
            return None
        return b"".join(
            item if isinstance(item, bytes) else body[item.start : item.end]
            for item in pieces.items
        )

    async def chunks(self, pieces: Pieces) -> AsyncIterator[bytes]:
        """The same, piece by piece; it can be read again."""
        for item in pieces.items:
            if isinstance(item, bytes):
                yield item
                continue
            async for chunk in self._spool.chunks(item):
                yield chunk

    def close(self) -> None:
        """Remove it."""
        self._spool.close()
