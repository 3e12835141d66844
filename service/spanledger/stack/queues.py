"""Sets aside corrupt queue files that would crash the collector at every start.

The collector keeps each queue in a bbolt file, which it maps into memory. If a faulty or full disk
has truncated the file, reading a missing page kills the collector with a signal, which it cannot
handle. So this module first checks the file's format, read-only. The compose stack runs
`python -m spanledger.stack.queues FOLDER`. Run it only while the collector is stopped.
"""

from __future__ import annotations

import mmap
import struct
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

BROKEN = ".broken-"
"""Part of the name of a file that was set aside; the time follows."""

_PAGE = struct.Struct("<QHHI")
"""Id, flags, count, overflow: the header of a page."""
_META = struct.Struct("<IIIIQQQQQQ")
"""Magic, version, page size, flags, root page, sequence, freelist, end, transaction, checksum."""
_LEAF, _BRANCH = struct.Struct("<IIII"), struct.Struct("<IIQ")
_ID = struct.Struct("<Q")
_MAGIC, _VERSION = 0xED0CDAED, 2
_IS_BRANCH, _IS_LEAF, _IS_META, _IS_FREELIST = 0x01, 0x02, 0x04, 0x10
_BUCKET = 0x01
"""Flag of a leaf element that is a bucket: it has a page id and a sequence instead of a value."""
_MANY = 0xFFFF
"""A freelist count that means: the first id is the actual count."""
_NO_FREELIST = 2**64 - 1
_PAGE_SIZES = (4096, 8192, 16384, 32768, 65536)


class _BrokenError(Exception):
    """A fault found in a file."""


def set_aside_broken(folder: Path) -> list[Path]:
    """Rename the queue files that the collector cannot open; returns their new names."""
    found = []
    for file in sorted(folder.glob("*")) if folder.is_dir() else []:
        if file.is_file() and BROKEN not in file.name and fault_of(file):
            now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
            found.append(file.rename(file.with_name(f"{file.name}{BROKEN}{now}")))
    return found


def fault_of(file: Path) -> str:
    """The fault in a bbolt file, or an empty string. Raises OSError."""
    if file.stat().st_size == 0:
        return ""  # the collector initializes empty files
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            _Reader(data).check()
        except (_BrokenError, struct.error) as fault:
            return str(fault)
    return ""


class _Reader:
    """One file; every page in use is visited once."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self._used: set[int] = set()
        metas = [meta for size in _PAGE_SIZES for meta in self._metas(size)]
        if not metas:
            raise _BrokenError("no valid header")
        newest = max(metas, key=lambda meta: meta[8])
        self._size = newest[2]
        self._root, self._freelist, self._end = newest[4], newest[6], newest[7]

    def _metas(self, size: int) -> Iterator[tuple[int, ...]]:
        for number in (0, 1):
            at = number * size + _PAGE.size
            if at + _META.size > len(self._data):
                continue
            meta = _META.unpack_from(self._data, at)
            body = self._data[at : at + _META.size - _ID.size]
            if meta[:3] == (_MAGIC, _VERSION, size) and meta[9] == _fnv64a(body):
                yield meta

    def check(self) -> None:
        """Raise _BrokenError for the first fault."""
        if self._end * self._size > len(self._data):
            raise _BrokenError(f"truncated: {len(self._data)} of {self._end * self._size} bytes")
        waiting = [self._root]
        while waiting:
            waiting += self._tree_page(waiting.pop())
        if self._freelist != _NO_FREELIST:
            self._check_freelist()

    def _page(self, number: int) -> tuple[int, int, int, int]:
        """A page's flags and count, and where it begins and ends."""
        if not 2 <= number < self._end:
            raise _BrokenError(f"page {number} is outside the file")
        at = number * self._size
        own, flags, count, overflow = _PAGE.unpack_from(self._data, at)
        end = at + (1 + overflow) * self._size
        if own != number or end > self._end * self._size:
            raise _BrokenError(f"page {number} is not a page")
        taken = range(number, number + 1 + overflow)
        if not self._used.isdisjoint(taken):
            raise _BrokenError(f"page {number} is used twice")
        self._used.update(taken)
        return flags, count, at, end

    def _tree_page(self, number: int) -> list[int]:
        """Check a page of the tree; returns its child pages."""
        flags, count, at, end = self._page(number)
        below = []
        for index in range(count):
            if flags == _IS_BRANCH:
                place = at + _PAGE.size + index * _BRANCH.size
                offset, key, child = _BRANCH.unpack_from(self._data, place)
                value, is_bucket = 0, False
                below.append(child)
            elif flags == _IS_LEAF:
                place = at + _PAGE.size + index * _LEAF.size
                kind, offset, key, value = _LEAF.unpack_from(self._data, place)
                is_bucket = bool(kind & _BUCKET)
            else:
                break
            if place + offset + key + value > end:
                raise _BrokenError(f"an entry of page {number} is outside it")
            if is_bucket and (child := _ID.unpack_from(self._data, place + offset + key)[0]):
                below.append(child)
        if flags not in (_IS_BRANCH, _IS_LEAF):
            raise _BrokenError(f"page {number} is not a tree page")
        return below

    def _check_freelist(self) -> None:
        flags, count, at, end = self._page(self._freelist)
        if flags != _IS_FREELIST:
            raise _BrokenError("the freelist is not where it should be")
        first = at + _PAGE.size
        if count == _MANY:
            count, first = _ID.unpack_from(self._data, first)[0], first + _ID.size
        if first + count * _ID.size > end:
            raise _BrokenError("the freelist is truncated")
        free = struct.unpack_from(f"<{count}Q", self._data, first)
        if any(not 2 <= number < self._end for number in free) or not self._used.isdisjoint(free):
            raise _BrokenError("a page is both free and in use")


def _fnv64a(data: bytes) -> int:
    value = 0xCBF29CE484222325
    for byte in data:
        value = ((value ^ byte) * 0x100000001B3) % 2**64
    return value


def main(arguments: list[str]) -> int:
    """Set aside the corrupt files in the given folders."""
    for folder in arguments:
        for file in set_aside_broken(Path(folder)):
            print(f"a queue file of the collector is corrupt; moved it to {file}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
