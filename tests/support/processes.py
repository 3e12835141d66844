"""Our real processes for tests: started with a command line, awaited, and ended by pid."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

START_S = 90.0
"""Deadlines are for a machine busy with other things: they cost nothing where all is well."""
T = TypeVar("T")


class Child:
    """A running `spanledger …` whose output is kept."""

    def __init__(self, arguments: list[str], folder: Path, env: Mapping[str, str]) -> None:
        self.lines: list[str] = []
        self._seen: queue.Queue[str | None] = queue.Queue()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "spanledger", *arguments],
            cwd=folder,
            env={**clean_environment(), **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def output(self) -> str:
        """All it has printed so far, both streams."""
        return "\n".join(self.lines)

    def wait_for(self, text: str, timeout_s: float = START_S) -> str:
        """The first line with `text` after those already returned."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                line = self._seen.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(
                    f"no {text!r} within {timeout_s} s in:\n{self.output}"
                ) from None
            if line is None:
                raise AssertionError(f"ended before {text!r}:\n{self.output}")
            if text in line:
                return line

    def url(self) -> str:
        """The address it prints when it is ready."""
        return self.wait_for("listening on ").split("listening on ")[1].split()[0]

    def stop(self, timeout_s: float = 20.0) -> int:
        """Send SIGTERM, then SIGKILL if needed; returns the exit status."""
        self.process.terminate()
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"did not end on SIGTERM:\n{self.output}") from None
        finally:
            self._reader.join(5)

    def kill(self) -> None:
        """Kill it."""
        self.process.kill()
        self.process.wait()
        self._reader.join(5)

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as stream:
            for line in stream:
                self.lines.append(line.rstrip("\n"))
                self._seen.put(line)
        self._seen.put(None)


@contextmanager
def running(*arguments: str, folder: Path, env: Mapping[str, str] | None = None) -> Iterator[Child]:
    """A child process that is ended with the block."""
    child = Child(list(arguments), folder, env or {})
    try:
        yield child
    finally:
        if child.process.poll() is None:
            child.stop()
        else:
            child.kill()


def run(
    *arguments: str, folder: Path, env: Mapping[str, str] | None = None, timeout_s: float = 120.0
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "spanledger", *arguments],
        cwd=folder,
        env={**clean_environment(), **(env or {})},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def clean_environment() -> dict[str, str]:
    """Our environment without variables that would change the product's behaviour."""
    prefixes = ("OTEL_", "SPANLEDGER_", "TRACELOOP_", "OPENAI_", "ANTHROPIC_", "LITELLM_")
    return {key: value for key, value in os.environ.items() if not key.startswith(prefixes)}


def poll(probe: Callable[[], T], timeout_s: float = 90.0, every_s: float = 0.05) -> T:
    """Call it until the result is truthy; returns the last result at the deadline."""
    deadline = time.monotonic() + timeout_s
    while not (answer := probe()) and time.monotonic() < deadline:
        time.sleep(every_s)
    return answer
