"""The output of a run: result lines in the OpenAI Batch format, appended one at a time.

Owns the file: it locks out a second worker, reads what an earlier run finished, and moves unreadable
lines aside. Nothing in the file is ever lost or overwritten.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, Literal

import msgspec

from spanledger.errors import SpanledgerError, UsageError
from spanledger.worker.jobs import Line, SeenKeys, read_lines

DONE, FAILED = 1, 2
INVALID_JOB = "invalid_job"
_COPY_CHUNK = 2**20
_MAX_ASIDE_FILES = 10_000

ResultKind = Literal["done", "failed", "damaged"]


class _Response(msgspec.Struct):
    status_code: int


class _Error(msgspec.Struct):
    code: str = ""
    message: str = ""


class _Record(msgspec.Struct):
    """The fields we need from a result line; the rest is skipped."""

    custom_id: str | None
    """None only for an invalid job without an id."""
    response: _Response | None = None
    error: _Error | None = None


class Results:
    """An open results file that only this process writes.

    Attributes:
        done: results of earlier runs that succeeded.
        failed: results of earlier runs that failed and are kept.
        notes: what was repaired or moved aside, to be shown on the terminal.
    """

    def __init__(self, path: Path, *, retry_failed: bool = False) -> None:
        self.path = path
        self.done = 0
        self.failed = 0
        self.notes: list[str] = []
        self._retry_failed = retry_failed
        self._index = SeenKeys()
        self._locks = contextlib.ExitStack()
        try:
            self._fd = self._lock(path)
            self._load()
        except BaseException:
            self.close()
            raise

    def state(self, custom_id: str) -> int | None:
        """`DONE` or `FAILED` if an earlier line has this id's result."""
        return self._index.get(f"id:{custom_id}")

    def reported(self, message: str) -> bool:
        """Whether the file already has an invalid job with exactly this message."""
        return self._index.get(f"invalid:{message}") is not None

    def append(self, record: Mapping[str, object]) -> None:
        """Write one complete line.

        Raises:
            SpanledgerError: the write failed; the file ends with its last complete line.
        """
        line = msgspec.json.encode(record) + b"\n"
        end = os.lseek(self._fd, 0, os.SEEK_END)
        view = memoryview(line)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, end)
            raise SpanledgerError(
                f"cannot write {str(self.path)!r}: {error.strerror}; free some space and run the same"
                " command again"
            ) from error

    def close(self) -> None:
        """Make the file durable and release it."""
        self._locks.close()
        self._index.close()

    def _lock(self, path: Path) -> int:
        """Open for appending and lock; retries if the lock's owner replaced the file meanwhile."""
        while True:
            fd = _open(path)
            self._locks.callback(_close, fd)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise UsageError(
                    f"another worker is writing {str(path)!r}; wait for it or choose another -o"
                ) from None
            with contextlib.suppress(OSError):
                if os.path.samestat(os.fstat(fd), path.stat()):
                    return fd

    def _load(self) -> None:
        """Read earlier results; repair a damaged file."""
        damaged: Line | None = None
        damaged_count = retried = 0
        last: Line | None = None
        with self.path.open("rb") as file:
            for line in read_lines(file):
                last = line
                kind = self._note_line(line)
                if kind == "damaged":
                    damaged, damaged_count = line, damaged_count + 1
                retried += kind == "failed" and self._retry_failed
        if last is None:
            return
        if damaged_count + retried > (1 if damaged is last else 0):
            self._rewrite(damaged_count, retried)
        elif damaged is last:
            aside = self._aside("damaged")
            with aside, self.path.open("rb") as file:
                _copy(file, last, aside)
                os.fsync(aside.fileno())
            os.ftruncate(self._fd, last.offset)
            self.notes.append(f"the last line was truncated; moved to {Path(aside.name).name}")
        elif not last.ended:
            os.write(self._fd, b"\n")

    def _note_line(self, line: Line) -> ResultKind:
        record = _decode(line)
        kind = _kind(record)
        if record is None or (kind == "failed" and self._retry_failed):
            return kind
        if kind == "done":
            self.done += 1
            self._index.set(f"id:{record.custom_id}", DONE)
            return kind
        self.failed += 1
        if record.error and record.error.code == INVALID_JOB:
            self._index.set(f"invalid:{record.error.message}", FAILED)
        else:
            self._index.add(f"id:{record.custom_id}", FAILED)
        return kind

    def _rewrite(self, damaged: int, retried: int) -> None:
        """Keep the good lines, move the others to separate files, replace the file atomically."""
        fresh = self.path.with_name(f"{self.path.name}.{os.getpid()}.tmp")
        with contextlib.ExitStack() as stack:
            stack.callback(fresh.unlink, missing_ok=True)
            source = stack.enter_context(self.path.open("rb"))
            lines = stack.enter_context(self.path.open("rb"))
            keep = stack.enter_context(fresh.open("wb"))
            targets: dict[ResultKind, BinaryIO] = {"done": keep, "failed": keep}
            if damaged:
                targets["damaged"] = stack.enter_context(self._aside("damaged"))
                self.notes.append(
                    f"{damaged} unreadable {_lines(damaged)} moved to {Path(targets['damaged'].name).name}"
                )
            if retried:
                targets["failed"] = stack.enter_context(self._aside("failed"))
                self.notes.append(
                    f"{retried} failed {_lines(retried)} moved to {Path(targets['failed'].name).name},"
                    f" {'their jobs run' if retried > 1 else 'its job runs'} again"
                )
            for line in read_lines(lines):
                target = targets[_kind(_decode(line))]
                _copy(source, line, target)
                if not line.ended:
                    target.write(b"\n")
            for target in {id(t): t for t in targets.values()}.values():
                target.flush()
                os.fsync(target.fileno())
            fresh.chmod(stat.S_IMODE(os.fstat(self._fd).st_mode))
            self._fd = self._take_over(fresh)

    def _take_over(self, fresh: Path) -> int:
        """Lock the new file before renaming it, so no other worker can take it."""
        fd = _open(fresh)
        self._locks.callback(_close, fd)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fresh.replace(self.path)
        return fd

    def _aside(self, what: str) -> BinaryIO:
        """Create the next free `<results>.<what>-<n>`."""
        for number in range(1, _MAX_ASIDE_FILES):
            path = self.path.with_name(f"{self.path.name}.{what}-{number}")
            with contextlib.suppress(FileExistsError):
                return path.open("xb")
        raise UsageError(f"too many {self.path.name}.{what}-* files; remove some")


def check_paths(jobs: Path | None, results: Path) -> None:
    """Reject obvious mistakes before anything is opened for writing.

    Raises:
        UsageError: names the path and what to use instead.
    """
    if jobs is not None and not jobs.is_file():
        what = "is not a regular file" if jobs.exists() else "does not exist"
        raise UsageError(f"jobs file {str(jobs)!r} {what}")
    if results.is_dir():
        raise UsageError(
            f"output {str(results)!r} is a directory; name a file, such as results.jsonl"
        )
    if results.exists() and not results.is_file():
        raise UsageError(f"output {str(results)!r} is not a regular file")
    if not results.parent.is_dir():
        raise UsageError(f"the directory of the output {str(results)!r} does not exist; create it")
    if jobs is not None and results.exists() and jobs.samefile(results):
        raise UsageError(f"{str(results)!r} is both input and output; choose another -o")


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise UsageError(
            f"cannot write output {str(path)!r}: {error.strerror}; choose another -o"
        ) from error


def _close(fd: int) -> None:
    with contextlib.suppress(OSError):
        os.fsync(fd)
    os.close(fd)


def _decode(line: Line) -> _Record | None:
    """A result line, or None if it is not one."""
    if line.content is None:
        return None
    try:
        record = msgspec.json.decode(line.content, type=_Record)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    named = record.custom_id is not None or record.error is not None
    whole = record.response is not None or record.error is not None
    return record if named and whole else None


def _kind(record: _Record | None) -> ResultKind:
    if record is None:
        return "damaged"
    answered = record.response is not None and 200 <= record.response.status_code < 300
    return "done" if answered and record.error is None else "failed"


def _copy(source: BinaryIO, line: Line, target: BinaryIO) -> None:
    source.seek(line.offset)
    left = line.length
    while left and (chunk := source.read(min(left, _COPY_CHUNK))):
        target.write(chunk)
        left -= len(chunk)


def _lines(count: int) -> str:
    return "line" if count == 1 else "lines"
