"""Starts and stops the servers of a measurement, and reads their CPU time from /proc."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

TICK_US = 1_000_000 / os.sysconf("SC_CLK_TCK")
SUBJECT_CORE, OTHER_CORE = "0", "1"
END_TIMEOUT_S = 30.0


@dataclass(slots=True)
class Server:
    """A process started by this module."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        """The root of its process tree."""
        return self.process.pid

    def wait_for(self, is_true: Callable[[], bool], what: str, timeout_s: float = 120) -> None:
        """Poll; if the server exits or takes too long, stop the run and show its last output."""
        deadline = time.monotonic() + timeout_s
        while not is_true():
            if self.process.poll() is not None or time.monotonic() > deadline:
                said = self.log.read_text(errors="replace")[-2000:]
                raise SystemExit(f"waited for {what}; {self.process.args!r} said:\n{said}")
            time.sleep(0.05)


def can_pin() -> bool:
    """Whether there is one core for the subject and another for everything else."""
    return shutil.which("taskset") is not None and len(os.sched_getaffinity(0)) > 1


def pinned(core: str) -> list[str]:
    """The command prefix that pins a process to a core; empty if that is not possible, or if no core
    is named."""
    return ["taskset", "-c", core] if core and can_pin() else []


@contextmanager
def server(command: list[str], core: str, environment: Mapping[str, str]) -> Iterator[Server]:
    """Run a server on a core for the duration of the block."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with log.open("wb") as output:
            started = subprocess.Popen(
                [*pinned(core), *command],
                env={**os.environ, **environment},
                cwd=folder,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            try:
                yield Server(started, log)
            finally:
                started.terminate()
                try:
                    started.wait(END_TIMEOUT_S)
                except subprocess.TimeoutExpired:
                    started.kill()
                    started.wait()


@dataclass(frozen=True, slots=True)
class Footprint:
    """CPU and memory of a process tree, by role (`server`, `shipper`)."""

    cpu_us: Mapping[str, float] = field(default_factory=dict)
    resident_mb: float = 0.0

    @classmethod
    def of(cls, pid: int) -> Footprint:
        """Read the current values."""
        cpu: dict[str, float] = {}
        resident_kb = 0
        for member in tree(pid):
            stat = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
            name = role(member)
            cpu[name] = cpu.get(name, 0.0) + (int(stat[11]) + int(stat[12])) * TICK_US
            # A page shared by several processes counts once in total.
            for line in Path(f"/proc/{member}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    resident_kb += int(line.split()[1])
        return cls(cpu, resident_kb / 1024)


def tree(pid: int) -> list[int]:
    """A process and all its descendants."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += tree(int(child))
    return found


def role(pid: int) -> str:
    """The role of a process in the tree, from its command line."""
    words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    return "shipper" if "ship" in words else "server"


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def fetch(url: str) -> bytes | None:
    """The body behind a loopback URL, or None unless the status is 200."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - loopback, ours
            return bytes(answer.read()) if answer.status == 200 else None
    except (urllib.error.URLError, OSError):
        return None
