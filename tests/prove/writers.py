"""Several writing processes, started once and given one order after another."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

import msgspec

from tests.prove.proof import ROOT, BrokenPromiseError
from tests.prove.writer import Got, Order
from tests.support.processes import clean_environment

END_S = 10.0


class Writers:
    """The processes."""

    def __init__(self, number: int) -> None:
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-m", "tests.prove.writer"],
                cwd=ROOT,
                env=clean_environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(number)
        ]

    def open(self, orders: Sequence[Order]) -> None:
        """Give each process an order, and wait until all have opened the ledger."""
        for process, order in zip(self._processes, orders, strict=True):
            _write(process, msgspec.json.encode(order).decode())
        for process in self._processes:
            _read(process)

    def go(self) -> list[list[Got]]:
        """Let all callers go; what each got, by process."""
        for process in self._processes:
            _write(process, "go")
        return [msgspec.json.decode(_read(process), type=list[Got]) for process in self._processes]

    def close(self) -> None:
        """End the processes."""
        for process in self._processes:
            for pipe in (process.stdin, process.stdout):
                assert pipe is not None
                pipe.close()
            try:
                process.wait(END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _write(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


def _read(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise BrokenPromiseError(f"a writing process ended with status {process.wait()}")
    return line
