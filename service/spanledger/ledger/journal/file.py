"""A journal's file: what is appended is durable, and what a dead process left can be read.

One line for each record: a checksum, then JSON. A line that is cut off was never acknowledged. The
process that owns a file holds a kernel lock on it, so a file without one was left behind.
"""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import msgspec
from msgspec.structs import replace

from spanledger.ledger.model import AttemptEnd, EndRequest, Journaled

log = logging.getLogger(__name__)

JOURNAL_SUFFIX = ".journal"
DAMAGED_SUFFIX = ".damaged"
"""Added to the name of a file that could not be read or recorded completely."""
JOURNAL_VERSION = 1
CREATION_S = 60
"""A file without a first line that is older was left by a process that died while it created it."""
"""Of the records' form; a file of a later version is left for a program that knows it."""
_CHECKSUM = 8
"""Hexadecimal digits before each record; a space follows."""

JournalEntry = Journaled | AttemptEnd | EndRequest
"""What is recorded in the ledger when it is back, in the same order."""


class _Begun(msgspec.Struct, frozen=True, tag="begun"):
    version: int
    ledger: str
    owner: str


class _Held(msgspec.Struct, frozen=True, tag="held"):
    entry: Journaled


class _Ended(msgspec.Struct, frozen=True, tag="ended"):
    entry: AttemptEnd


class _RequestEnded(msgspec.Struct, frozen=True, tag="request_ended"):
    entry: EndRequest


_Record = _Begun | _Held | _Ended | _RequestEnded
_decoder: msgspec.json.Decoder[_Record] = msgspec.json.Decoder(_Record)


def encode(entry: JournalEntry) -> bytes | None:
    """An entry as a line; None if a text in it is not valid."""
    try:
        return _encode(entry)
    except UnicodeEncodeError:
        return None


def _encode(entry: JournalEntry) -> bytes:
    match entry:
        case Journaled():
            return _line(_Held(entry))
        case AttemptEnd():
            return _line(_Ended(entry))
        case EndRequest():
            return _line(_RequestEnded(entry))


def _line(record: msgspec.Struct) -> bytes:
    text = msgspec.json.encode(record)
    return b"%08x %s\n" % (crc32(text), text)


class JournalFile:
    """The file of a running process. Errors are OSError; after one, the file is as it was before.

    Attributes:
        size: bytes that are durable.
    """

    def __init__(self, folder: Path, ledger: str, owner: str) -> None:
        """Create it.

        Args:
            ledger: id of the only ledger that its entries may be recorded in.
        """
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = folder / f"{owner}{JOURNAL_SUFFIX}"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND
        self._file = os.open(self._path, flags, 0o600)  # it may contain prompts
        self.size = 0
        self._torn = False
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX)
            if os.fstat(self._file).st_nlink == 0:
                raise OSError(f"{self._path} was removed while it was created")
            self.append([_line(_Begun(JOURNAL_VERSION, ledger, owner))])
            _sync_folder(folder)
        except BaseException:
            self.remove()
            raise
        self._empty = self.size

    @property
    def empty(self) -> bool:
        """Whether it has no entry."""
        return self.size == self._empty

    def append(self, lines: Sequence[bytes]) -> None:
        """Append lines; they are durable when this returns."""
        if self._torn:
            raise OSError("a write that failed could not be undone")
        data = b"".join(lines)
        try:
            written = 0
            while written < len(data):
                written += os.write(self._file, data[written:])
            os.fsync(self._file)
        except OSError:
            self._undo()
            raise
        self.size += len(data)

    def _undo(self) -> None:
        """Remove what a failed write may have left: a line behind half a line could not be read."""
        try:
            os.ftruncate(self._file, self.size)
        except OSError:
            self._torn = True

    def clear(self) -> None:
        """Drop all entries."""
        os.ftruncate(self._file, self._empty)
        os.fsync(self._file)
        self.size, self._torn = self._empty, False

    def keep_damaged(self) -> Path:
        """Give the file another name, under which no process reads it; returns it."""
        return self._path.rename(self._path.with_suffix(JOURNAL_SUFFIX + DAMAGED_SUFFIX))

    def remove(self) -> None:
        """Delete it, and close it."""
        with suppress(OSError):
            self._path.unlink()
        self.close()

    def close(self) -> None:
        """Close it, which gives up the lock."""
        os.close(self._file)


class _NotOursError(Exception):
    """A file that nobody here may record."""


class LeftBehind(NamedTuple):
    """A file of a process that has died, locked by this one.

    Attributes:
        entries: to be recorded, in order.
        damaged: a part of it could not be read.
    """

    path: Path
    file: int
    entries: Sequence[JournalEntry]
    damaged: bool

    def recorded(self, *, completely: bool) -> None:
        """Delete the file, or keep it under another name if not all of it could be recorded."""
        try:
            if self.damaged or not completely:
                kept = self.path.rename(self.path.with_suffix(JOURNAL_SUFFIX + DAMAGED_SUFFIX))
                log.error("%s has entries that could not be recorded; the others were", kept)
            else:
                self.path.unlink()
        except OSError as error:
            log.warning("cannot remove %s, which has been recorded: %s", self.path, error)
        os.close(self.file)


def left_behind(folder: Path, ledger: str, passed: set[Path]) -> Iterator[LeftBehind]:
    """Lock and read all files that dead processes left for this ledger; the caller closes them.

    Args:
        passed: files that are not for us, as the log says once; those found now are added.
    """
    for path in sorted(folder.glob(f"*{JOURNAL_SUFFIX}")):
        found, problem = None, ""
        if path in passed:
            continue
        try:
            found = _take_over(path, ledger)
        except FileNotFoundError:
            continue  # its process has ended and removed it, or another one has recorded it
        except _NotOursError as error:
            passed.add(path)
            log.warning("%s %s; it is left there", path, error)
        except OSError as error:
            problem = str(error)
        if problem:
            passed.add(path)
            log.error("cannot read the journal %s: %s", path, problem)
        if found is not None:
            log.warning(
                "%s was left by a process that ended while the ledger was unavailable: recording"
                " its %d entries",
                path,
                len(found.entries),
            )
            yield found


def _take_over(path: Path, ledger: str) -> LeftBehind | None:
    file = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        gone = os.fstat(file).st_nlink == 0  # another process has recorded it
        found = None if gone else _read(path, file, ledger)
    except BlockingIOError:  # its process is running
        found = None
    except BaseException:
        os.close(file)
        raise
    if found is None:
        os.close(file)
    return found


def _read(path: Path, file: int, ledger: str) -> LeftBehind | None:
    lines = path.read_bytes().split(b"\n")
    cut_off = lines.pop()  # empty, unless the last line has no end
    records = [_record(line) for line in lines]
    begun = records[0] if records else None
    if not records or (begun is None and len(records) == 1):
        # It died while creating the file. If it is just doing so, it has no lock yet.
        if time.time() - os.fstat(file).st_mtime > CREATION_S:
            path.unlink()
        return None
    if not isinstance(begun, _Begun) or begun.version > JOURNAL_VERSION:
        raise _NotOursError("is not a journal that this version can read")
    if begun.ledger != ledger:
        raise _NotOursError("belongs to another ledger")
    damaged = None in records if cut_off else None in records[:-1]
    entries = [record.entry for record in records[1:] if isinstance(record, _KINDS)]
    return LeftBehind(path, file, _of_dead(entries, begun.owner), damaged)


_KINDS = (_Held, _Ended, _RequestEnded)


def _record(line: bytes) -> _Record | None:
    """A line's record; None if it is damaged."""
    text = line[_CHECKSUM + 1 :]
    if line[: _CHECKSUM + 1] != b"%08x " % crc32(text):
        return None
    try:
        return _decoder.decode(text)
    except msgspec.MsgspecError:
        return None


def _of_dead(entries: Sequence[JournalEntry], owner: str) -> list[JournalEntry]:
    """Attempts whose request has not ended still belong to the dead process, so that they expire;
    the others are ended at once, by the process that records them."""
    ended = {request_of(e) for e in entries if not isinstance(e, Journaled) and _ends_request(e)}
    return [
        replace(e, owner=owner) if isinstance(e, Journaled) and request_of(e) not in ended else e
        for e in entries
    ]


def _ends_request(entry: AttemptEnd | EndRequest) -> bool:
    return isinstance(entry, EndRequest) or entry.request is not None


def request_of(entry: JournalEntry) -> str:
    """The request that an entry belongs to."""
    match entry:
        case Journaled():
            return entry.reservation.request.request_id
        case AttemptEnd():
            return entry.attempt_id.rpartition(".")[0]
        case EndRequest():
            return entry.start.request_id


def _sync_folder(folder: Path) -> None:
    """Make a new file's name durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
