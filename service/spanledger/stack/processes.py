"""Processes that outlive the command that started them, and are recognized later.

A process is identified by its pid and its start time: the pid alone may have been reused by an
unrelated process, which must never be signalled. Each process is started in its own session and
process group, so its children can be found with it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_POLL_S = 0.05
_STAT_STATE, _STAT_GROUP, _STAT_STARTED, _STAT_RSS = 0, 2, 19, 21
"""Fields of /proc/PID/stat after the name."""
_DEAD = "ZX"


@dataclass(frozen=True, slots=True)
class Running:
    """A process as recorded in the state file."""

    pid: int
    started: str
    """Distinguishes it from a later process with the same pid."""


@dataclass(frozen=True, slots=True)
class _Seen:
    pid: int
    group: int
    started: str
    rss_bytes: int


def start(command: Sequence[str], environ: Mapping[str, str], folder: Path, log: Path) -> Running:
    """Start a program that writes to a log; the previous log is kept as `….1`."""
    if log.exists():
        log.replace(log.with_name(f"{log.name}.1"))
    with log.open("ab") as output:
        process = subprocess.Popen(  # noqa: S603 - the stack's own programs
            command,
            cwd=folder,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    # It outlives us; this stops Popen from warning about that.
    process.returncode = 0
    seen = _look(process.pid)
    return Running(process.pid, seen.started if seen else "")


def is_alive(process: Running) -> bool:
    """Whether the recorded process is still running."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(process.pid, os.WNOHANG)
    seen = _look(process.pid)
    return seen is not None and seen.started == process.started


def memory_bytes(processes: Sequence[Running]) -> dict[int, int]:
    """Resident memory by pid, including children; memory that processes share is split among them."""
    groups = {process.pid: 0 for process in processes if is_alive(process)}
    for seen in _all():
        if seen.group in groups:
            groups[seen.group] += _proportional(seen.pid) or seen.rss_bytes
    return groups


def _proportional(pid: int) -> int:
    """Linux's proportional set size; 0 where the system does not provide it."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def stop(process: Running, grace_s: float) -> bool:
    """Stop a process and the rest of its group; returns whether SIGTERM was enough."""
    heeded = True
    if is_alive(process):
        _signal(process.pid, signal.SIGTERM)
        heeded = _ended(process, grace_s)
    elif _look(process.pid) is not None:
        return True  # the pid has been reused, so the group is gone as well
    _signal_group(process.pid)
    _ended(process, grace_s)
    return heeded


def _ended(process: Running, within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while is_alive(process):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _signal_group(leader: int) -> None:
    """Kill the remaining members; while there is one, the group's id cannot be reused."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def _look(pid: int) -> _Seen | None:
    if Path("/proc/self/stat").exists():
        return _from_proc(pid)
    return next((seen for seen in _from_ps("-p", str(pid))), None)


def _all() -> list[_Seen]:
    if not Path("/proc/self/stat").exists():
        return _from_ps("-ax")
    pids = [int(path.name) for path in Path("/proc").glob("[0-9]*")]
    return [seen for pid in pids if (seen := _from_proc(pid)) is not None]


def _from_proc(pid: int) -> _Seen | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    if fields[_STAT_STATE] in _DEAD:
        return None
    return _Seen(
        pid,
        int(fields[_STAT_GROUP]),
        f"{_boot()}:{fields[_STAT_STARTED]}",
        int(fields[_STAT_RSS]) * os.sysconf("SC_PAGESIZE"),
    )


def _boot() -> str:
    """The id of this boot. Start times count from boot, so they are only unique within one."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


def _from_ps(*which: str) -> list[_Seen]:
    """The same from `ps`, on systems without /proc."""
    done = subprocess.run(  # noqa: S603 - fixed words and a number
        ["ps", *which, "-o", "pid=,pgid=,rss=,state=,lstart="],  # noqa: S607 - the system's own
        capture_output=True,
        text=True,
        check=False,
    )
    rows = (line.split(maxsplit=4) for line in done.stdout.splitlines())
    return [
        _Seen(int(pid), int(group), started.strip(), int(rss) * 1024)
        for pid, group, rss, state, started in rows
        if state[0] not in _DEAD
    ]
