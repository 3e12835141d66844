"""Governed requests over HTTP through 1, 2 and 4 gateways on one ledger, in SQLite and in Postgres.

Each gateway is a process as in production but for its shipper: a key, three budgets that every request
counts on, a durable ledger. All requests are of one customer, which is the hardest case. Each gateway has
its own client, which sends as fast as it is answered: `connections` requests at a time, then one. The
provider is nginx with one fixed answer. What is counted:

- requests a second, of all gateways together
- CPU per request, of all gateways, and of all processes of the Postgres server
- p50 and p99 of a request, without what the provider takes when it is asked directly

Clients and provider share one core of the machine with everything else, so on a machine with few cores,
requests a second do not rise with gateways; CPU per request says what they would do on more. Linux only.

    .venv/bin/python -m bench.gateways --rounds 3 --seconds 10
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.ends import Load, Upstream, load, upstream
from bench.processes import Footprint, Server, fetch, free_port, server
from bench.subjects import CONFIG
from tests.support import postgres

from spanledger.budgets.model import Budget
from spanledger.ledger import open_store

STORES = ("sqlite", "postgres")
WARM_UP_S = 2
LIMIT_NANO = 10**15
SETTINGS = {"shared_buffers": "512MB", "max_wal_size": "4GB", "fsync": "on"}
EVERY_CORE = ""


@dataclass(frozen=True, slots=True)
class Cell:
    """One measurement.

    Attributes:
        gateway_us: CPU of all gateways for a request.
        database_us: CPU of the database's server for a request; 0 if there is none.
        added_p50_ms: what a request takes, less what the provider takes.
    """

    store: str
    gateways: int
    connections: int
    requests_per_s: float
    gateway_us: float
    database_us: float
    added_p50_ms: float
    added_p99_ms: float


@dataclass(frozen=True, slots=True)
class Running:
    """Gateways on one ledger.

    Attributes:
        database: the process of the database's server; 0 if there is none.
    """

    servers: list[Server]
    ports: list[int]
    key: str
    database: int

    def cpu_us(self) -> tuple[float, float]:
        """CPU so far, of the gateways and of the database."""
        own = sum(sum(Footprint.of(one.pid).cpu_us.values()) for one in self.servers)
        theirs = sum(Footprint.of(self.database).cpu_us.values()) if self.database else 0.0
        return own, theirs

    def loaded(self, seconds: int, connections: int) -> list[Load]:
        """A client before each gateway, all at once."""
        with ThreadPoolExecutor(len(self.ports)) as clients:
            sent = [
                clients.submit(load, port, self.key, seconds, connections) for port in self.ports
            ]
            seen = [one.result() for one in sent]
        failed = sum(one.failed for one in seen)
        if failed or not all(one.requests for one in seen):
            raise SystemExit(f"{failed} requests failed: {seen}")
        return seen


def started(
    stack: ExitStack, url: str, count: int, provider: Upstream, folder: Path, database: int
) -> Running:
    """Start gateways on a new ledger with its key and budgets."""
    store = open_store(url)
    now_ns = time.time_ns()
    with store.records("create") as records:
        key, _ = records.create_key("bench", "bench", (), now_ns)
        records.set_budgets(
            [
                Budget("each", "customer", "*", LIMIT_NANO, "month"),
                Budget("team", "team", "*", LIMIT_NANO, "month"),
                Budget("all", "global", "*", LIMIT_NANO, "month"),
            ],
            now_ns,
        )
    config = folder / "bench.yaml"
    config.write_text(CONFIG.format(port=provider.port), encoding="utf-8")
    servers, ports = [], []
    for _ in range(count):
        ports.append(port := free_port())
        words = ["gateway", "--no-ship", "--config", str(config), "--port", str(port)]
        command = [sys.executable, "-m", "spanledger", *words]
        environment = {"SPANLEDGER_LEDGER_URL": url}
        servers.append(stack.enter_context(server(command, EVERY_CORE, environment)))
    for one, port in zip(servers, ports, strict=True):
        ready = f"http://127.0.0.1:{port}/readyz"
        one.wait_for(lambda ready=ready: fetch(ready) is not None, ready)  # type: ignore[misc]  # its default
    return Running(servers, ports, key, database)


def measured(running: Running, store: str, connections: int, seconds: int, direct: Load) -> Cell:
    """One load; `direct` is the provider's own."""
    before = running.cpu_us()
    seen = running.loaded(seconds, connections)
    own, theirs = (after - b for after, b in zip(running.cpu_us(), before, strict=True))
    requests = sum(one.requests for one in seen)
    return Cell(
        store,
        len(running.ports),
        connections,
        requests_per_s=sum(one.requests / one.seconds for one in seen),
        gateway_us=own / requests,
        database_us=theirs / requests,
        added_p50_ms=statistics.mean(one.p50_ms for one in seen) - direct.p50_ms,
        added_p99_ms=max(one.p99_ms for one in seen) - direct.p99_ms,
    )


def verified(url: str) -> None:
    """The ledger must add up, with nothing open."""
    with open_store(url).reports() as reports:
        found = reports.verify()
    if found.problems or found.held_nano:
        raise SystemExit(f"{url} does not add up: {found}")


def measure(options: argparse.Namespace) -> Iterator[Cell]:
    """All cells in turn, round after round; yields their medians."""
    found: dict[tuple[str, int, int], list[Cell]] = {}
    with ExitStack() as stack:
        provider = stack.enter_context(upstream())
        database = postgres.Server(SETTINGS)
        stack.callback(database.remove)
        if "postgres" in options.stores:
            database.create()
            database.start()
        direct = load(provider.port, "none", WARM_UP_S, 1)
        for _, store, count in itertools.product(
            range(options.rounds), options.stores, options.gateways
        ):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            with ExitStack() as cell:
                in_file = store == "sqlite"
                url = f"sqlite:///{folder}/ledger.db" if in_file else database.new_database()
                pid = 0 if in_file else database.pid
                running = started(cell, url, count, provider, folder, pid)
                running.loaded(WARM_UP_S, options.connections)
                for connections in (options.connections, 1):
                    one = measured(running, store, connections, options.seconds, direct)
                    found.setdefault((store, count, connections), []).append(one)
            verified(url)
    for cells in found.values():
        yield median(cells)


def median(cells: list[Cell]) -> Cell:
    """The median of each figure."""
    first = asdict(cells[0])
    figures = {
        name: round(statistics.median(asdict(one)[name] for one in cells), 2)
        for name, value in first.items()
        if isinstance(value, float)
    }
    return Cell(**{**first, **figures})


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=10, help="of each load")
    parser.add_argument("--connections", type=int, default=16, help="of each client")
    parser.add_argument("--gateways", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--stores", nargs="+", default=list(STORES), choices=list(STORES))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    for cell in measure(options):
        row = asdict(cell)
        text = json.dumps(row) if options.json else "  ".join(f"{v!s:>9}" for v in row.values())
        print(text, flush=True)


if __name__ == "__main__":
    main()
