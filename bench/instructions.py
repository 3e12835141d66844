"""User instructions that the gateway executes for one request or one chunk, counted by valgrind.

Unlike CPU time, the count hardly depends on the machine or its load, so it shows what a change costs.
The server runs under cachegrind twice, with little and with much to do; the difference is divided by
the difference in work. Without the kernel's part: `--syscalls` has strace count how often and for what
the kernel is called. Minutes. Linux only.

Lanes: `whole` (requests on 16 connections), `alone` (one request after the other) and `chunk` (64
streams whose chunks travel one by one), all without the shipper; and `shipper`, which counts only that.
`--wire` says whose streams `chunk` has.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from bench import shipper_lane
from bench.ends import upstream
from bench.processes import free_port
from bench.stepped import STREAMS, Steps
from bench.subjects import CONFIG

READY_S = 600.0
WRITTEN_S = 10.0
"""How long a counter may take to write its figures after the gateway has ended."""
BODY = json.dumps(
    {"model": "bench", "messages": [{"role": "user", "content": "hi" * 100}], "max_tokens": 50}
)
TOTAL = re.compile(r"I\s+refs:\s+([\d,]+)")
CALLS = re.compile(r"^ *[\d.]+ +[\d.]+ +\d+ +(\d+) +(?:\d+ +)?(\w+)$", re.MULTILINE)
RARE = 0.02
"""System calls fewer than this for one request are not shown."""
INSTRUCTIONS = "thousand user instructions"
SETUP = (
    ("budget", "set", "customer", "--customer", "bench", "--limit", "100000", "--period", "month"),
    ("budget", "set", "everything", "--limit", "100000", "--period", "month"),
)


@dataclass(frozen=True, slots=True)
class Lane:
    """A kind of work.

    Attributes:
        one: what one of it is called.
        at_once: open connections.
        few, many: how much of it each connection does in the two runs.
    """

    one: str
    at_once: int
    few: int
    many: int


LANES = {
    "whole": Lane("request", 16, 10, 70),
    "alone": Lane("request alone", 1, 50, 450),
    "chunk": Lane("chunk", 64, 5, 55),
}
SHIPPER = "shipper"


@dataclass(frozen=True, slots=True)
class Counter:
    """A program that runs the gateway and counts what it does, by name.

    Attributes:
        command: before the gateway's; what it counted is then in the file at `{out}`.
        counts: reads that.
    """

    command: tuple[str, ...]
    counts: Callable[[str], dict[str, float]]


def instructions_of(said: str) -> dict[str, float]:
    """What cachegrind counted, in thousands."""
    found = TOTAL.search(said)
    return {} if found is None else {INSTRUCTIONS: int(found[1].replace(",", "")) / 1000}


def calls_of(said: str) -> dict[str, float]:
    """System calls by name, from strace's table."""
    return {name: int(calls) for calls, name in CALLS.findall(said) if name != "total"}


CACHEGRIND = Counter(
    (
        *("valgrind", "--tool=cachegrind", "--cache-sim=no"),
        *("--cachegrind-out-file=/dev/null", "--log-file={out}"),
    ),
    instructions_of,
)
STRACE = Counter(("strace", "-D", "-f", "-c", "-o", "{out}"), calls_of)
"""With -D, the process that we start and end is the gateway itself."""


def main() -> None:
    """Count, and print the figures of each lane."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "lanes", nargs="*", metavar="LANE", help="whole, alone, chunk, shipper (all)"
    )
    parser.add_argument(
        "--python", default=sys.executable, help="the Python of another checkout's environment"
    )
    parser.add_argument(
        "--wire", default="chat", choices=STREAMS, help="whose streams: %(choices)s (%(default)s)"
    )
    parser.add_argument("--syscalls", action="store_true", help="count system calls, by strace")
    options = parser.parse_args()
    counter = STRACE if options.syscalls else CACHEGRIND
    lanes = (*LANES,) if options.syscalls else (*LANES, SHIPPER)
    if shutil.which(counter.command[0]) is None:
        raise SystemExit(f"error: there is no `{counter.command[0]}` on PATH; install it")
    if unknown := set(options.lanes) - {*lanes}:
        raise SystemExit(f"error: no lane {', '.join(unknown)}; there are {', '.join(lanes)}")
    for name in options.lanes or lanes:
        with tempfile.TemporaryDirectory() as folder:
            if name == SHIPPER:
                each = shipper_lane.instructions(options.python, Path(folder))
                print(f"{each / 1000:,.0f} {INSTRUCTIONS} a request shipped", flush=True)
                continue
            subject = Subject(options.python, Path(folder), options.wire, counter)
            found = subject.each(name)
        if options.syscalls:
            common = {call: n for call, n in found.items() if n >= RARE}
            said = ", ".join(
                f"{n:.1f} {call}" for call, n in sorted(common.items(), key=lambda x: -x[1])
            )
            print(f"{sum(found.values()):.1f} system calls a {LANES[name].one}: {said}", flush=True)
        else:
            print(f"{found[INSTRUCTIONS]:,.0f} {INSTRUCTIONS} a {LANES[name].one}", flush=True)


class Subject:
    """A checkout's gateway, with a key and two budgets."""

    def __init__(self, python: str, work: Path, wire: str, counter: Counter) -> None:
        self._counter = counter
        self._stream = STREAMS[wire]
        self._program = [python, "-m", "spanledger"]
        self._work = work
        self._env = {**os.environ, "SPANLEDGER_LEDGER_URL": f"sqlite:///{work / 'ledger.db'}"}
        self._key = json.loads(self._run("keys", "create", "--customer", "bench", "--json"))["key"]
        for words in SETUP:
            self._run(*words)

    def each(self, lane: str) -> dict[str, float]:
        """The counts for one request or chunk of a lane."""
        size = LANES[lane]
        work = size.at_once * (size.many - size.few)
        few, many = self.count(lane, size.few), self.count(lane, size.many)
        return {name: (count - few.get(name, 0)) / work for name, count in many.items()}

    def count(self, lane: str, each: int) -> dict[str, float]:
        """The counts of a gateway from its start to its end, in which each of the lane's connections
        does this much."""
        at_once = LANES[lane].at_once
        if lane == "chunk":
            provider = free_port()
            return self._counted(
                provider, lambda port: asyncio.run(self._steps(provider, port, each))
            )
        with upstream() as answering:

            def callers(port: int) -> None:
                with ThreadPoolExecutor(at_once) as pool:
                    list(pool.map(lambda _: ask(port, self._key, each), range(at_once)))

            return self._counted(answering.port, callers)

    async def _steps(self, provider: int, port: int, chunks: int) -> None:
        steps = Steps(chunks, self._stream)
        await steps.listen(provider)
        await steps.call(port, self._key, LANES["chunk"].at_once)
        await steps.close()

    def _counted(self, provider: int, drive: Callable[[int], None]) -> dict[str, float]:
        """The counts of a gateway from its start to its end, driven like that."""
        port, log, config = free_port(), self._work / "log", self._work / "bench.yaml"
        models = CONFIG.format(port=provider).replace(STREAMS["chat"].model, self._stream.model)
        config.write_text(models + "telemetry: {enabled: false}\n", encoding="utf-8")
        out = self._work / "counts"
        counting = [word.format(out=out) for word in self._counter.command]
        gateway = ["gateway", "--config", str(config), "--port", str(port)]
        with log.open("w") as output:
            server = subprocess.Popen(
                [*counting, *self._program, *gateway],
                env=self._env,
                cwd=self._work,
                stdout=output,
                stderr=output,
            )
        try:
            wait_for(server, port, log)
            drive(port)
        finally:
            server.terminate()
            server.wait(READY_S)
        deadline = time.monotonic() + WRITTEN_S
        while not (found := self._counter.counts(out.read_text(encoding="utf-8"))):
            if time.monotonic() > deadline:
                raise SystemExit(f"error: no count:\n{log.read_text(encoding='utf-8')}")
            time.sleep(0.2)
        return found

    def _run(self, *words: str) -> str:
        """What a command prints."""
        command = [*self._program, *words]
        done = subprocess.run(command, env=self._env, check=True, capture_output=True, text=True)
        return done.stdout


def wait_for(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Wait until the gateway accepts connections, which takes a while under valgrind."""
    deadline = time.monotonic() + READY_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            if server.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(log.read_text(encoding="utf-8")) from None
            time.sleep(0.2)
        else:
            return


def ask(port: int, key: str, requests: int) -> None:
    """One caller: requests one after the other, on one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=READY_S)
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    for _ in range(requests):
        connection.request("POST", "/v1/chat/completions", BODY, headers)
        response = connection.getresponse()
        if response.read() and response.status != 200:
            raise SystemExit(f"error: a request was answered with {response.status}")
    connection.close()


if __name__ == "__main__":
    main()
