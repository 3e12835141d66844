"""What a request costs with 100,000 budgets of 50,000 customers, compared with two budgets.

Each customer has a budget a day and one a month. User instructions are counted by callgrind, without keys:
with two budgets of the only customer, with all budgets and one customer who asks, and with
all budgets while each request is another customer's. The start of the server is not part of it.
Minutes. `--memory` says instead how much memory the gateway takes, and how long it takes to start.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from bench.ends import upstream
from bench.instructions import BODY, READY_S, TOTAL, wait_for
from bench.processes import free_port
from bench.subjects import CONFIG

CUSTOMERS = 50_000
WARM, REQUESTS = 50, 400
"""Requests before counting and while counting, one after the other: how many share a commit must not
matter."""
COUNTED = ("valgrind", "--tool=callgrind", "--instr-atstart=no", "--callgrind-out-file=/dev/null")
READY = " is ready "
"""In the gateway's log."""
FILL = """
import sys, time
from spanledger.budgets.model import Budget
from spanledger.ledger import open_store
url, customers = sys.argv[1], int(sys.argv[2])
budgets = [
    Budget(f"{period}-{number}", "customer", f"c{number}", 10**15, period)
    for number in range(customers)
    for period in ("day", "month")
]
with open_store(url).records("create") as records:
    records.set_budgets(budgets, time.time_ns())
"""


@dataclass(frozen=True, slots=True)
class Case:
    """How many customers have budgets, and whether all of them ask."""

    name: str
    customers: int
    all_ask: bool


CASES = (
    Case("two budgets", 1, False),
    Case(f"{2 * CUSTOMERS:,} budgets, one customer asks", CUSTOMERS, False),
    Case(f"{2 * CUSTOMERS:,} budgets, each request another customer's", CUSTOMERS, True),
)


class Filled:
    """A gateway whose ledger has the budgets of some customers, and no keys."""

    def __init__(self, python: str, work: Path, case: Case) -> None:
        self._program = [python, "-m", "spanledger"]
        self._work = work
        url = f"sqlite:///{work / 'ledger.db'}"
        self._env = {**os.environ, "SPANLEDGER_LEDGER_URL": url}
        command = [python, "-c", FILL, url, str(case.customers)]
        subprocess.run(command, check=True, env=self._env)
        self._case = case
        self._next = itertools.count(1)

    def each(self) -> float:
        """Instructions of a request, counted from when the gateway has answered some."""
        port, log = free_port(), self._work / "log"
        with upstream() as answering, log.open("w") as output:
            server = self._started(answering.port, port, output, COUNTED)
            try:
                self._ask(port, WARM)
                switch = ["callgrind_control", "-i"]
                subprocess.run([*switch, "on", str(server.pid)], check=True, capture_output=True)
                self._ask(port, REQUESTS)
                subprocess.run([*switch, "off", str(server.pid)], check=True, capture_output=True)
            finally:
                server.terminate()
                server.wait(READY_S)
        found = TOTAL.search(log.read_text(encoding="utf-8"))
        if found is None:
            raise SystemExit(f"error: no count:\n{log.read_text(encoding='utf-8')}")
        return int(found[1].replace(",", "")) / REQUESTS

    def _started(
        self, provider: int, port: int, output: IO[str], before: Sequence[str] = ()
    ) -> subprocess.Popen[bytes]:
        config = self._work / "bench.yaml"
        text = CONFIG.format(port=provider) + "telemetry: {enabled: false}\n"
        config.write_text(text, encoding="utf-8")
        command = [*before, *self._program, "gateway", "--config", str(config), "--port", str(port)]
        server = subprocess.Popen(
            command, env=self._env, cwd=self._work, stdout=output, stderr=output
        )
        wait_for(server, port, self._work / "log")
        return server

    def _ask(self, port: int, requests: int) -> None:
        deadline = time.monotonic() + READY_S
        while READY not in (self._work / "log").read_text(encoding="utf-8"):  # it listens before
            if time.monotonic() > deadline:
                raise SystemExit("error: the gateway does not start")
            time.sleep(0.05)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=READY_S)
        for _ in range(requests):
            # Far apart, as customers are whose requests come by chance.
            number = next(self._next) * 7919 % CUSTOMERS if self._case.all_ask else 0
            headers = {
                "x-spanledger-customer": f"c{number}",
                "content-type": "application/json",
            }
            connection.request("POST", "/v1/chat/completions", BODY, headers)
            response = connection.getresponse()
            if response.read() and response.status != 200:
                raise SystemExit(f"error: a request was answered with {response.status}")
        connection.close()

    def at_rest(self) -> tuple[float, float]:
        """MiB of a gateway after a request, and the seconds until it answered that."""
        port, log = free_port(), self._work / "log"
        with upstream() as answering, log.open("w") as output:
            began = time.monotonic()
            server = self._started(answering.port, port, output)
            try:
                self._ask(port, 1)
                return _resident(server.pid), time.monotonic() - began
            finally:
                server.terminate()
                server.wait(READY_S)


def _resident(pid: int) -> float:
    """Memory of a process, MiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    """Print a line for each case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--memory", action="store_true", help="memory and start, not instructions")
    parser.add_argument(
        "--python", default=sys.executable, help="the Python of another checkout's environment"
    )
    options = parser.parse_args()
    measured: Callable[[Filled], str] = _memory if options.memory else _instructions
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            print(
                f"{case.name}: {measured(Filled(options.python, Path(folder), case))}", flush=True
            )


def _instructions(filled: Filled) -> str:
    return f"{filled.each() / 1000:,.0f} thousand user instructions a request"


def _memory(filled: Filled) -> str:
    mib, seconds = filled.at_rest()
    return f"{mib:,.0f} MiB, {seconds:.1f} s until the first answers"


if __name__ == "__main__":
    main()
