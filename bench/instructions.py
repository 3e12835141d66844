"""User instructions that the gateway executes for one non-streaming request, counted by valgrind.

Unlike CPU time, the count hardly depends on the machine or its load, so it shows what a change costs.
The server runs under cachegrind twice, with few and with many requests; the difference is divided by
the difference in requests. Without the kernel's part and without the shipper. Minutes. Linux only.
"""

from __future__ import annotations

import argparse
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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.ends import upstream
from bench.processes import free_port
from bench.subjects import CONFIG

FEW = 160
READY_S = 600.0
BODY = json.dumps(
    {"model": "bench", "messages": [{"role": "user", "content": "hi" * 100}], "max_tokens": 50}
)
TOTAL = re.compile(r"I\s+refs:\s+([\d,]+)")
SETUP = (
    ("budget", "set", "customer", "--customer", "bench", "--limit", "100000", "--period", "month"),
    ("budget", "set", "everything", "--limit", "100000", "--period", "month"),
)


def main() -> None:
    """Count, and print the thousands of instructions a request."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1600, help="requests to count (1600)")
    parser.add_argument("--concurrency", type=int, default=16, help="open connections (16)")
    parser.add_argument(
        "--python", default=sys.executable, help="the Python of another checkout's environment"
    )
    options = parser.parse_args()
    if shutil.which("valgrind") is None:
        raise SystemExit("error: there is no `valgrind` on PATH; install it")
    with tempfile.TemporaryDirectory() as folder, upstream() as provider:
        work = Path(folder)
        (work / "bench.yaml").write_text(
            CONFIG.format(port=provider.port) + "telemetry: {enabled: false}\n", encoding="utf-8"
        )
        program = [options.python, "-m", "spanledger"]
        env = {**os.environ, "SPANLEDGER_LEDGER_URL": f"sqlite:///{work / 'ledger.db'}"}
        created = run(program, env, "keys", "create", "--customer", "bench", "--json")
        for words in SETUP:
            run(program, env, *words)
        key = json.loads(created)["key"]
        few = count(program, env, work, key, FEW, options.concurrency)
        many = count(program, env, work, key, FEW + options.requests, options.concurrency)
    print(f"{(many - few) / options.requests / 1000:,.0f} thousand user instructions a request")


def run(program: list[str], env: dict[str, str], *words: str) -> str:
    """What a command prints."""
    return subprocess.run(
        [*program, *words], env=env, check=True, capture_output=True, text=True
    ).stdout


def count(
    program: list[str], env: dict[str, str], work: Path, key: str, requests: int, concurrency: int
) -> int:
    """Instructions of a gateway from its start to its end, with this many requests."""
    port, log = free_port(), work / "log"
    valgrind = [
        "valgrind",
        "--tool=cachegrind",
        "--cache-sim=no",
        "--cachegrind-out-file=/dev/null",
    ]
    gateway = ["gateway", "--config", str(work / "bench.yaml"), "--port", str(port)]
    with log.open("w") as output:
        server = subprocess.Popen(
            [*valgrind, *program, *gateway], env=env, cwd=work, stdout=output, stderr=output
        )
    try:
        wait_for(server, port, log)
        each = requests // concurrency
        with ThreadPoolExecutor(concurrency) as callers:
            list(callers.map(lambda _: ask(port, key, each), range(concurrency)))
    finally:
        server.terminate()
        server.wait(READY_S)
    found = TOTAL.search(log.read_text(encoding="utf-8"))
    if found is None:
        raise SystemExit(f"error: valgrind printed no count:\n{log.read_text(encoding='utf-8')}")
    return int(found[1].replace(",", ""))


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
