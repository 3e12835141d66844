"""The input of a run: lines of the OpenAI Batch file format, read one at a time.

Owns reading and checking; knows nothing about calls, results or the terminal. Memory does not grow
with the file: lines are limited in size, and seen ids are kept in a temporary database on disk.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import msgspec

MAX_LINE_BYTES = 64 * 2**20
"""A longer job or result line is malformed; it is skipped without being kept in memory."""

URLS = ("/v1/chat/completions", "/v1/embeddings")
_NEEDED = {"/v1/chat/completions": "messages", "/v1/embeddings": "input"}
_COUNT_PIECE = 2**20
_QUEUED_LINES = 64


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a file; `content` is None if it is longer than `MAX_LINE_BYTES`."""

    number: int
    offset: int
    length: int
    content: bytes | None
    ended: bool
    """Whether it ends in a newline; the last line of a truncated file does not."""


@dataclass(frozen=True, slots=True)
class Job:
    """A valid job line."""

    line: int
    custom_id: str
    url: str
    body: dict[str, object]


@dataclass(frozen=True, slots=True)
class InvalidJob:
    """An invalid job line, and why."""

    line: int
    custom_id: str | None
    problem: str

    @property
    def message(self) -> str:
        """The problem with its line number, as reported."""
        return f"line {self.line}: {self.problem}"


def read_lines(file: BinaryIO) -> Iterator[Line]:
    """Read a file line by line in bounded memory."""
    number = offset = 0
    while piece := file.readline(MAX_LINE_BYTES):
        number += 1
        start, content = offset, piece
        offset += len(piece)
        too_long = False
        while len(piece) == MAX_LINE_BYTES and not piece.endswith(b"\n"):
            piece = file.readline(MAX_LINE_BYTES)
            too_long = too_long or bool(piece)
            offset += len(piece)
        kept = None if too_long else content
        yield Line(number, start, offset - start, kept, piece.endswith(b"\n"))


def count_jobs(path: Path) -> int:
    """Count a file's non-blank lines, for the progress bar."""
    jobs, begun = 0, False
    with path.open("rb") as file:
        while piece := file.readline(_COUNT_PIECE):
            begun = begun or not piece.isspace()
            if piece.endswith(b"\n"):
                jobs += begun
                begun = False
    return jobs + begun


def parse_job(line: Line) -> Job | InvalidJob | None:
    """Check one line; None for a blank one."""
    if line.content is None:
        limit = MAX_LINE_BYTES // 2**20
        return InvalidJob(line.number, None, f"longer than {limit} MiB; split the job")
    if not line.content.strip():
        return None
    try:
        data = msgspec.json.decode(line.content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return InvalidJob(line.number, None, f"not valid JSON ({error})")
    if not isinstance(data, dict):
        return InvalidJob(line.number, None, f"expected a JSON object, got {_kind(data)}")
    custom_id = data.get("custom_id")
    if not isinstance(custom_id, str) or not custom_id:
        return InvalidJob(line.number, None, "custom_id is missing or not a string; add one")
    problem = _problem(data)
    if problem:
        return InvalidJob(line.number, custom_id, problem)
    return Job(line.number, custom_id, data["url"], data["body"])


def _problem(data: dict[str, object]) -> str:
    """What is wrong with a job that has an id; empty if it is valid."""
    if data.get("method", "POST") != "POST":
        return f"method {data['method']!r} is not supported; write POST"
    url, body = data.get("url"), data.get("body")
    if url not in URLS:
        return f"url {url!r} is not supported; use one of {', '.join(URLS)}"
    if not isinstance(body, dict):
        return f"body must be a JSON object, got {_kind(body)}"
    if not isinstance(body.get("model"), str):
        return "body.model is missing or not a string"
    needed = _NEEDED[str(url)]
    if needed not in body:
        return f"body.{needed} is missing"
    if body.get("stream"):
        return "body.stream is set, but a batch job cannot stream; remove it"
    return ""


def _kind(value: object) -> str:
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean"}
    return "nothing" if value is None else names.get(type(value), "a number")


class SeenKeys:
    """Keys with a number each, in a temporary database that SQLite spills to disk."""

    def __init__(self) -> None:
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.execute("PRAGMA journal_mode = OFF")
        self._db.execute("CREATE TABLE seen (key TEXT PRIMARY KEY, value INTEGER) WITHOUT ROWID")

    def add(self, key: str, value: int) -> int | None:
        """Add a key unless it exists; return its previous number."""
        before = self.get(key)
        if before is None:
            self._db.execute("INSERT INTO seen VALUES (?, ?)", (key, value))
        return before

    def set(self, key: str, value: int) -> None:
        """Add a key, or change its number."""
        self._db.execute("INSERT OR REPLACE INTO seen VALUES (?, ?)", (key, value))

    def get(self, key: str) -> int | None:
        """The key's number, or None if it was never added."""
        row = self._db.execute("SELECT value FROM seen WHERE key = ?", (key,)).fetchone()
        return None if row is None else int(row[0])

    def close(self) -> None:
        """Delete the temporary database."""
        self._db.close()


class Source:
    """Lines for the run's loop. `stop` makes `next` return None, even while it waits."""

    async def next(self) -> Line | None:
        """The next line, or None at the end."""
        raise NotImplementedError

    def stop(self) -> None:
        """Make a waiting `next` return None."""

    def rest(self) -> Iterator[Line] | None:
        """The lines not read yet, or None if they cannot be read."""
        return None

    def close(self) -> None:
        """Release the source's resources."""


class FileSource(Source):
    """A regular file: reading never waits."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._lines = read_lines(self._file)

    async def next(self) -> Line | None:
        return next(self._lines, None)

    def rest(self) -> Iterator[Line]:
        return self._lines

    def close(self) -> None:
        self._file.close()


class PipeSource(Source):
    """A pipe or terminal: a thread waits for input, so signals and running jobs are not blocked."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[Line | None] = asyncio.Queue(_QUEUED_LINES)
        self._stopped = asyncio.Event()
        # A daemon thread: it may hang in read() forever, and must not keep the process alive.
        threading.Thread(target=self._read, name="worker-stdin", daemon=True).start()

    def _read(self) -> None:
        # The loop may end while this thread waits for a line; the line is then dropped.
        with contextlib.suppress(concurrent.futures.CancelledError):
            for line in read_lines(self._file):
                if not self._put(line):
                    return
            self._put(None)

    def _put(self, line: Line | None) -> bool:
        put = self._queue.put(line)
        try:
            asyncio.run_coroutine_threadsafe(put, self._loop).result()
        except RuntimeError:  # the loop is closed
            put.close()
            return False
        return True

    async def next(self) -> Line | None:
        getting = asyncio.ensure_future(self._queue.get())
        stopping = asyncio.ensure_future(self._stopped.wait())
        try:
            await asyncio.wait((getting, stopping), return_when=asyncio.FIRST_COMPLETED)
            return getting.result() if getting.done() else None
        finally:
            getting.cancel()
            stopping.cancel()

    def stop(self) -> None:
        self._stopped.set()
