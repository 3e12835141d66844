"""The demo's child processes: starts, awaits and stops them, with their output in log files.

A child that dies is reported with the end of its log.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from spanledger.errors import SpanledgerError

START_TIMEOUT_S = 45.0
STOP_TIMEOUT_S = 15.0
_POLL_S = 0.05
_LOG_TAIL = 3
_FOREIGN = ("OTEL_", "TRACELOOP_", "OPENAI_", "ANTHROPIC_", "SPANLEDGER_")
_LISTENING = "listening on "


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Our environment without variables that would change the children's behaviour."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(_FOREIGN)}
    return {
        **kept,
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
        "PYTHONUNBUFFERED": "1",
        **(extra or {}),
    }


class Process:
    """One `spanledger …` child."""

    def __init__(
        self, name: str, *arguments: str, folder: Path, extra: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.output = folder / f"{name}.out"
        self.log = folder / f"{name}.log"
        with self.output.open("wb") as out, self.log.open("wb") as log:
            # A session of its own: Ctrl-C is ours to pass on, in the right order.
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and package
                [sys.executable, "-m", "spanledger", *arguments],
                cwd=folder,
                env=clean_environment(extra),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
                start_new_session=True,
            )

    async def address(self) -> str:
        """The URL it listens on, once it prints it.

        Raises:
            SpanledgerError: it exited, or printed no URL in time.
        """
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            for line in self.output.read_text("utf-8", "replace").splitlines():
                if line.startswith(_LISTENING):
                    return line.removeprefix(_LISTENING).split()[0]
            if self._process.poll() is not None:
                raise SpanledgerError(f"{self.name} exited while starting: {self.tail()}")
            await asyncio.sleep(_POLL_S)
        raise SpanledgerError(f"{self.name} did not start within {START_TIMEOUT_S:.0f} s")

    async def finish(self) -> int:
        """Wait until it exits; returns its exit code."""
        while (code := self._process.poll()) is None:  # noqa: ASYNC110 - a process, not an event
            await asyncio.sleep(_POLL_S)
        return code

    def check(self) -> None:
        """Raise SpanledgerError if it has exited."""
        code = self._process.poll()
        if code is not None:
            raise SpanledgerError(f"{self.name} exited with code {code}: {self.tail()}")

    async def stop(self) -> None:
        """Send SIGTERM, and SIGKILL if it does not exit in time."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while self._process.poll() is None and time.monotonic() < deadline:  # noqa: ASYNC110 - same
            await asyncio.sleep(_POLL_S)
        self.kill()

    def kill(self) -> None:
        """Kill it if it is still running."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def tail(self) -> str:
        """The last lines of its stderr, as one line."""
        lines = self.log.read_text("utf-8", "replace").strip().splitlines()
        return " ".join(line.strip() for line in lines[-_LOG_TAIL:]) or "no message"
