"""User instructions that the shipper executes for one request, counted by valgrind.

A gateway without a shipper writes real rows into a ledger. Then `spanledger ship --once` sends a copy
of it with few requests, and one with many, under cachegrind; the difference is divided by the
difference in requests. Spans and points go to a real endpoint, and the number of spans is checked.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

from bench.ends import sink, upstream
from bench.processes import free_port
from bench.subjects import CONFIG, SPANS_PER_REQUEST
from bench.wire import REQUEST

CONNECTIONS = 16
WARM_UP, FEW, MANY = CONNECTIONS, 1_024, 5_120
"""Requests. The first ledger is for bytecode only; the others fill batches of the shipper."""
READY_S = 120.0
STEADY = {
    "OTEL_EXPORTER_OTLP_TIMEOUT": str(READY_S),
    "PYTHONDONTWRITEBYTECODE": "",
    "PYTHONHASHSEED": "0",
}
"""Nothing is retried because valgrind is slow, or compiled or ordered differently in the next run."""
VALGRIND = ("valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null")
TOTAL = re.compile(r"I\s+refs:\s+([\d,]+)")


def instructions(python: str, work: Path) -> float:
    """Instructions for one shipped request of the checkout whose Python this is."""
    ledgers = [work / f"{requests}.db" for requests in (WARM_UP, FEW, MANY)]
    write_ledgers(python, work, ledgers)
    _, few, many = (_shipped(python, path, int(path.stem)) for path in ledgers)
    return (many - few) / (MANY - FEW)


def write_ledgers(python: str, work: Path, copies: list[Path]) -> None:
    """Write ledgers with as many requests as their names say, in ascending order."""
    ledger = work / "ledger.db"
    environment = {**os.environ, "SPANLEDGER_LEDGER_URL": f"sqlite:///{ledger}"}
    program = [python, "-m", "spanledger"]
    made = subprocess.check_output(
        [*program, "keys", "create", "--customer", "bench", "--json"], env=environment
    )
    key = json.loads(made)["key"]
    written = 0
    for copy in copies:
        requests = int(copy.stem)
        _write(program, environment, work, key, requests - written)
        written = requests
        with closing(sqlite3.connect(ledger)) as source, closing(sqlite3.connect(copy)) as target:
            source.backup(target)


def _write(
    program: list[str], environment: dict[str, str], work: Path, key: str, requests: int
) -> None:
    """Let a gateway without a shipper answer requests."""
    with upstream() as provider:
        config, port = work / "bench.yaml", free_port()
        text = CONFIG.format(port=provider.port) + "telemetry: {enabled: false}\n"
        config.write_text(text, encoding="utf-8")
        gateway = subprocess.Popen(
            [*program, "gateway", "--config", str(config), "--port", str(port)],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            _wait_for(gateway, port)
            with ThreadPoolExecutor(CONNECTIONS) as pool:
                each = [requests // CONNECTIONS] * CONNECTIONS
                list(pool.map(lambda number: _ask(port, key, number), each))
        finally:
            gateway.terminate()
            gateway.wait(READY_S)


def _shipped(python: str, ledger: Path, requests: int) -> int:
    """Instructions of a shipper from its start to its end."""
    log = ledger.with_suffix(".log")
    command = [*VALGRIND, python, "-m", "spanledger", "ship", "--once"]
    with sink() as (port, spans), log.open("w") as output:
        endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}"}
        subprocess.run(
            [*command, "--ledger", f"sqlite:///{ledger}"],
            env={**os.environ, **STEADY, **endpoint},
            stdout=output,
            stderr=output,
            check=False,
        )
        arrived = spans()
    said = log.read_text(encoding="utf-8")
    found = TOTAL.search(said)
    if found is None or arrived != SPANS_PER_REQUEST * requests:
        raise SystemExit(f"error: {arrived} spans of {requests} requests arrived:\n{said}")
    return int(found[1].replace(",", ""))


def _wait_for(gateway: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + READY_S
    while gateway.poll() is None and time.monotonic() < deadline:
        connection = HTTPConnection("127.0.0.1", port, timeout=READY_S)
        try:
            connection.request("GET", "/readyz")
            if connection.getresponse().status == 200:
                return
        except OSError:
            time.sleep(0.1)
        finally:
            connection.close()
    raise SystemExit("error: the gateway does not become ready")


def _ask(port: int, key: str, requests: int) -> None:
    """Send requests one after the other on one connection."""
    connection = HTTPConnection("127.0.0.1", port, timeout=READY_S)
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    for _ in range(requests):
        connection.request("POST", "/v1/chat/completions", REQUEST, headers)
        response = connection.getresponse()
        response.read()
        if response.status != 200:
            raise SystemExit(f"error: a request was answered with {response.status}")
    connection.close()
