"""Sets aside files of the collector's queues that would stop it at each start.

The collector keeps each queue in a bbolt file, which it maps into memory: of a file that a broken
disk or a full one has cut short it reads pages that are not there, and is ended by a signal before
it can do anything about it. So the file is read here first, by its format, without changing it.
`python -m spanledger.stack.queues FOLDER` is for the compose stack. Only for a collector that does
not run.
"""

from __future__ import annotations

import mmap
import struct
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

BROKEN = ".broken-"
"""In the name of a file that was set aside, before the moment."""

_PAGE = struct.Struct("<QHHI")
"""Id, flags, count, overflow: the header of a page."""
_META = struct.Struct("<IIIIQQQQQQ")
"""Magic, version, page size, flags, root page, sequence, freelist, end, transaction, checksum."""
_LEAF, _BRANCH = struct.Struct("<IIII"), struct.Struct("<IIQ")
_ID = struct.Struct("<Q")
_MAGIC, _VERSION = 0xED0CDAED, 2
_IS_BRANCH, _IS_LEAF, _IS_META, _IS_FREELIST = 0x01, 0x02, 0x04, 0x10
_BUCKET = 0x01
"""The flag of a leaf's element that is a bucket: a page id and a sequence instead of a value."""
_MANY = 0xFFFF
"""A freelist's count that says: the first id is the count."""
_NO_FREELIST = 2**64 - 1
_PAGE_SIZES = (4096, 8192, 16384, 32768, 65536)


class _BrokenError(Exception):
    """What is wrong with a file."""


def set_aside_broken(folder: Path) -> list[Path]:
    """Rename the queue files that the collector could not open; their new names."""
    found = []
    for file in sorted(folder.glob("*")) if folder.is_dir() else []:
        if file.is_file() and BROKEN not in file.name and fault_of(file):
            now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
            found.append(file.rename(file.with_name(f"{file.name}{BROKEN}{now}")))
    return found


def fault_of(file: Path) -> str:
    """What is wrong with a bbolt file; empty if nothing is. Raises OSError."""
    if file.stat().st_size == 0:
        return ""  # as good as new
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
            raise _BrokenError(f"cut short: {len(self._data)} of {self._end * self._size} bytes")
        waiting = [self._root]
        while waiting:
            waiting += self._tree_page(waiting.pop())
        if self._freelist != _NO_FREELIST:
            self._check_freelist()

    def _page(self, number: int) -> tuple[int, int, int, int]:
        """Flags, count, where its content begins and ends."""
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
        """Check a page of the tree; the pages below it."""
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
            raise _BrokenError(f"page {number} is not of the tree")
        return below

    def _check_freelist(self) -> None:
        flags, count, at, end = self._page(self._freelist)
        if flags != _IS_FREELIST:
            raise _BrokenError("the list of free pages is not where it should be")
        first = at + _PAGE.size
        if count == _MANY:
            count, first = _ID.unpack_from(self._data, first)[0], first + _ID.size
        if first + count * _ID.size > end:
            raise _BrokenError("the list of free pages is cut short")
        free = struct.unpack_from(f"<{count}Q", self._data, first)
        if any(not 2 <= number < self._end for number in free) or not self._used.isdisjoint(free):
            raise _BrokenError("a page is both free and in use")


def _fnv64a(data: bytes) -> int:
    value = 0xCBF29CE484222325
    for byte in data:
        value = ((value ^ byte) * 0x100000001B3) % 2**64
    return value


def main(arguments: list[str]) -> int:
    """Set aside what is broken in the folders named."""
    for folder in arguments:
        for file in set_aside_broken(Path(folder)):
            print(f"set aside {file}: the collector could not have opened it", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
