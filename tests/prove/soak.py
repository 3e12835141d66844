"""One gateway and one shipper for a million requests: whether their memory grows, and how large the
tables become.

A seed is some seconds of load, all on the same processes: completions over 16 connections as fast as
they are answered, by a provider with one fixed answer, and next to them two callers of the simulator
with streams, fallbacks, refusals and hang-ups. Each slice ends when its spans have arrived, so that
the shipper has its share of the machine. It ends after a million requests, however many seeds are left.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import threading
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

from bench.ends import load, sink, upstream
from bench.ledger_size import postgres_sizes, sqlite_sizes

from spanledger.ledger.ports import Store
from spanledger.ledger.sqlite.store import SqliteStore
from tests.prove.kills import BUDGETS
from tests.prove.nursery import Started
from tests.prove.proof import Counts, Scenario, promise
from tests.prove.site import Callers, Sites
from tests.service.ledger.stores import new_store, raw
from tests.support.processes import poll

REQUESTS = 1_000_000
SLICE_S = 10
CONNECTIONS = 16
OTHER_CALLERS = 2
OTHER_PAUSE_S = 0.05
"""Between their requests, whose simulator takes more of the machine than the gateway does."""
SHIP_S = 600.0
WARM_SHARE = 0.3
"""Of the samples, which come before the memory has settled."""
MIN_SAMPLES = 8
BYTES_A_REQUEST = {"sqlite": 1_100, "postgres": 1_500}
"""As the page on Postgres publishes for a request of one attempt."""
SIZE_MARGIN_PERCENT = 10
"""The published figure is rounded, and some requests here have two attempts."""
MIN_SIZED = 100_000
"""Requests below which a size says nothing: files grow in steps."""
MAX_GROWTH_MB = 8.0
"""After warming up. Memory that is lost with each request soon passes it."""


class Soak(Scenario):
    """The scenario."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.requests = 0
        self.memory: dict[str, list[tuple[int, float]]] = {"gateway": [], "shipper": []}
        self._stack = ExitStack()
        self._processes: dict[str, Started] = {}

    def close(self) -> None:
        """See `Scenario`."""
        self._stack.close()

    def run(self, seed: int, folder: Path) -> Counts:
        """See `Scenario`."""
        if not self._processes:
            self._start(folder.parent / f"{folder.name}-ledger")
        dice = random.Random(f"soak {seed}")
        others = Callers(self._site.keys, dice, pause_s=OTHER_PAUSE_S)
        beside = threading.Thread(target=lambda: asyncio.run(_ask(others, self._url)))
        beside.start()
        try:
            done = load(self._port, self._site.keys[0], SLICE_S, CONNECTIONS)
        finally:
            others.stopped = True
            beside.join()
        promise(not done.failed, f"{done.failed} of {done.requests} requests failed")
        self.requests += done.requests + len(others.seen)
        for name, process in self._processes.items():
            promise(not process.ended(), f"the {name} ended:\n{process.output}")
            self.memory[name].append((self.requests, _resident_mb(process.pid)))
        self._wait_until_shipped()
        self.enough = self.requests >= REQUESTS
        return Counter({"requests": done.requests + len(others.seen)})

    def _start(self, folder: Path) -> None:
        folder.mkdir()
        self._stack.callback(shutil.rmtree, folder)
        sites = Sites()
        self._stack.callback(sites.close)
        self._site = site = sites.site
        site.fixed_port = self._stack.enter_context(upstream()).port
        port, self._spans = self._stack.enter_context(sink())
        site.endpoint = f"http://127.0.0.1:{port}"
        site.begin(new_store(self.kind, folder), folder, BUDGETS, 1)
        self._processes = {"gateway": site.gateway(), "shipper": site.shipper()}
        url = self._processes["gateway"].url()
        promise(url, self._processes["gateway"].output)
        self._url = str(url)
        self._port = urlsplit(self._url).port or 0

    def _wait_until_shipped(self) -> int:
        """Wait until all rows have arrived as spans; returns how many there are."""
        ((rows,),) = raw(
            self._site.store,
            "SELECT (SELECT count(*) FROM attempts) + (SELECT count(*) FROM requests)",
        )
        promise(
            poll(lambda: self._spans() >= rows, SHIP_S), f"{self._spans()} of {rows} spans arrived"
        )
        return int(rows)

    def finish(self) -> Counts:
        """See `Scenario`."""
        rows = self._wait_until_shipped()
        reports = self._site.store.reports()
        verified = reports.verify()
        reports.close()
        promise(not verified.problems, f"the ledger does not add up: {verified.problems[:3]}")
        counts: Counts = Counter({"spans": rows})
        for name, samples in self.memory.items():
            warm = samples[int(len(samples) * WARM_SHARE) :]
            slope = slope_of(warm)
            grown = slope * (warm[-1][0] - warm[0][0])
            counts[f"KB of memory a million requests ({name})"] = round(slope * 1e6 * 1024)
            counts[f"MB at the end ({name})"] = round(samples[-1][1])
            enough = len(samples) >= MIN_SAMPLES
            promise(not enough or grown <= MAX_GROWTH_MB, f"the {name} grew by {grown:.1f} MB")
        counts["bytes a request"] = found = size_of(self._site.store) // self.requests
        most = BYTES_A_REQUEST[self.kind]
        text = f"the ledger has {found} bytes a request, but {most} are published"
        sized = found * 100 <= most * (100 + SIZE_MARGIN_PERCENT)
        promise(self.requests < MIN_SIZED or sized, text)
        return counts


def size_of(store: Store) -> int:
    """Bytes of a ledger's tables and indexes."""
    if isinstance(store, SqliteStore):
        return sum(map(sum, sqlite_sizes(store.path).values()))
    return sum(map(sum, postgres_sizes(store.url).values()))


async def _ask(others: Callers, url: str) -> None:
    await asyncio.gather(*(others.ask_on(url, number) for number in range(OTHER_CALLERS)))


def _resident_mb(pid: int) -> float:
    """The memory of a process, with what it shares with the one that it was forked from."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1]) / 1024
    return 0.0


def slope_of(samples: Sequence[tuple[int, float]]) -> float:
    """The least squares' slope of some points, MB for a request; 0 for a single point."""
    mean_x = sum(x for x, _ in samples) / len(samples)
    mean_y = sum(y for _, y in samples) / len(samples)
    spread = sum((x - mean_x) ** 2 for x, _ in samples)
    return sum((x - mean_x) * (y - mean_y) for x, y in samples) / spread if spread else 0.0
