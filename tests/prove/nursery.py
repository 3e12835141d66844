"""Starts `spanledger …` quickly: a process that has imported everything forks for each command.

A gateway that is started from the shell needs a second of CPU for its imports, which say nothing
about a ledger. What is forked runs the same command line in a process of its own.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec

from tests.prove.points import Fuse, arm
from tests.prove.proof import ROOT, BrokenPromiseError
from tests.support.processes import clean_environment

PR_SET_PDEATHSIG = 1
PATIENCE_S = 300.0
"""Longest wait for a process: proofs run at low priority on busy machines."""
LINE_BYTES = 65_536
SKEW = "<q"
"""Nanoseconds in a file."""
IMPORTED = (
    "psycopg",
    "spanledger.app",
    "spanledger.commands.gateway",
    "spanledger.commands.ship",
    "spanledger.commands.summary",
    "spanledger.ledger.postgres.store",
    "spanledger.ledger.sqlite.store",
    "spanledger.telemetry.delivery",
    "spanledger.telemetry.pipeline",
    "spanledger.telemetry.shipper",
)


class Command(msgspec.Struct):
    """A command line to run."""

    words: list[str]
    folder: str
    log: str
    fuse: Fuse | None = None
    skew: str = ""
    """The file in which it finds by how much its wall clock is ahead; empty if that is right."""


class Started:
    """A process that was forked; its output is in a file.

    Args:
        skew: the file with how far its wall clock is ahead.
    """

    def __init__(self, pid: int, log: Path, skew: Path) -> None:
        self.pid, self.log, self._skew = pid, log, skew
        self._lock = threading.Lock()
        try:
            self._fd = os.pidfd_open(pid)
        except ProcessLookupError:  # it has ended already
            self._fd = -1

    def ended(self, timeout_s: float = 0.0) -> bool:
        """Whether it has ended, waiting for that at most so long."""
        return self._fd < 0 or bool(select.select([self._fd], [], [], timeout_s)[0])

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, unless it has ended; from any thread."""
        with self._lock, contextlib.suppress(ProcessLookupError):
            if self._fd >= 0:
                signal.pidfd_send_signal(self._fd, number)

    def set_clock(self, ahead_ns: int) -> None:
        """Let its wall clock be ahead by this much from now on, if it was started with one that is."""
        with self._skew.open("r+b") as file:
            file.write(struct.pack(SKEW, ahead_ns))

    def kill(self) -> None:
        """Kill it, and wait until it is gone."""
        if self._fd >= 0:
            self.send(signal.SIGKILL)
            self.wait()

    def wait(self) -> None:
        """Wait until it has ended."""
        if not self.ended(PATIENCE_S):
            self.send(signal.SIGKILL)
            raise BrokenPromiseError(f"it did not end within {PATIENCE_S:g} s:\n{self.output}")
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1

    @property
    def output(self) -> str:
        """What it has printed so far."""
        return self.log.read_text(errors="replace")

    def url(self) -> str | None:
        """The address it listens on; None if it ended before it did."""
        deadline = time.monotonic() + PATIENCE_S
        while "(base URL" not in (said := self.output):
            if self.ended(0.005):
                return None
            if time.monotonic() > deadline:
                raise BrokenPromiseError(f"not ready within {PATIENCE_S:g} s:\n{said}")
        return said.split("listening on ")[1].split()[0]


class Nursery:
    """The process that forks. A process with threads must not be forked, so it has none."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._children: list[Started] = []
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.prove.nursery", str(theirs.fileno())],
            cwd=ROOT,
            env=clean_environment(),
            pass_fds=[theirs.fileno()],
        )
        theirs.close()

    def start(
        self,
        words: Sequence[str],
        folder: Path,
        log: Path,
        fuse: Fuse | None = None,
        skew_ns: int | None = None,
    ) -> Started:
        """Run a command line in a folder, with its output in a file.

        Args:
            skew_ns: its clock is ahead by this much, until it is set; None for the machine's own.
        """
        log.touch()
        skew = log.with_suffix(".skew")
        if skew_ns is not None:
            skew.write_bytes(struct.pack(SKEW, skew_ns))
        words = list(words)
        command = Command(words, str(folder), str(log), fuse, "" if skew_ns is None else str(skew))
        self._socket.send(msgspec.json.encode(command))
        answer = self._socket.recv(LINE_BYTES)
        if not answer:
            raise BrokenPromiseError("the nursery has ended")
        started = Started(int(answer), log, skew)
        self._children = [child for child in self._children if not child.ended()]
        self._children.append(started)
        return started

    def close(self) -> None:
        """Kill everything that it started."""
        for child in self._children:
            child.kill()
        self._socket.close()
        self._process.wait(PATIENCE_S)


# the process that forks -------------------------------------------------------------------------


def main() -> None:
    """Fork for each command, until the other end of the socket is closed."""
    _import_everything()
    orders = socket.socket(fileno=int(sys.argv[1]))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for what it forks
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while line := orders.recv(LINE_BYTES):
        command = msgspec.json.decode(line, type=Command)
        pid = os.fork()
        if pid == 0:
            orders.close()
            _become(command)
        orders.send(str(pid).encode())


def _import_everything() -> None:
    """All that a gateway and a shipper need: imports cost them a second of CPU."""
    for name in IMPORTED:
        import_module(name)
    assert threading.active_count() == 1, "a process with threads must not be forked"


def _become(command: Command) -> None:
    """Turn into the command; does not return."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    for number in (signal.SIGCHLD, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    os.chdir(command.folder)
    log = os.open(command.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for output in (1, 2):
        os.dup2(log, output)
    if command.fuse is not None:
        arm(command.fuse)
    if command.skew:
        _skew(Path(command.skew))
    from spanledger.cli import main as run

    sys.argv = ["spanledger", *command.words]
    status = 1
    try:
        run()
        status = 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 1
    finally:
        sys.stdout.flush()
        os._exit(status)


def _skew(file: Path) -> None:
    """Let the wall clock be ahead by what a file says at each moment; durations are measured by another
    one."""
    real, read = time.time_ns, struct.Struct(SKEW).unpack_from
    with file.open("r+b") as opened:
        ahead = mmap.mmap(opened.fileno(), 0)
    time.time_ns = lambda: real() + int(read(ahead)[0])
    from spanledger.clock import Clock

    make: Any = Clock.__init__
    make.__defaults__ = (time.time_ns, *make.__defaults__[1:])


if __name__ == "__main__":
    main()
