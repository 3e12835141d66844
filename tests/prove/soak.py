"""One gateway and one shipper for a long time: whether their memory grows, and how large the tables are.

A seed is a few seconds of load, all on the same processes: completions as fast as they are answered,
and next to them streams, fallbacks, refusals and callers that hang up.
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

from tests.prove.kills import BUDGETS
from tests.prove.nursery import Started
from tests.prove.proof import Counts, Scenario, promise
from tests.prove.site import Callers, Sites
from tests.service.ledger.stores import new_store, raw
from tests.support.processes import poll

SLICE_S = 5
CONNECTIONS = 16
OTHER_CALLERS = 2
SHIP_S = 600.0
WARM_SHARE = 0.3
"""Of the samples, which come before the memory has settled."""
MIN_SAMPLES = 8
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
        others = Callers(self._site.keys, random.Random(f"soak {seed}"))
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

    def finish(self) -> Counts:
        """See `Scenario`."""
        ((rows,),) = raw(
            self._site.store,
            "SELECT (SELECT count(*) FROM attempts) + (SELECT count(*) FROM requests)",
        )
        promise(
            poll(lambda: self._spans() >= rows, SHIP_S), f"{self._spans()} of {rows} spans arrived"
        )
        reports = self._site.store.reports()
        found = reports.verify()
        reports.close()
        promise(not found.problems, f"the ledger does not add up: {found.problems[:3]}")
        counts: Counts = Counter({"spans": rows})
        for name, samples in self.memory.items():
            warm = samples[int(len(samples) * WARM_SHARE) :]
            slope = slope_of(warm)
            grown = slope * (warm[-1][0] - warm[0][0])
            counts[f"KB of memory a million requests ({name})"] = round(slope * 1e6 * 1024)
            counts[f"MB at the end ({name})"] = round(samples[-1][1])
            enough = len(samples) >= MIN_SAMPLES
            promise(not enough or grown <= MAX_GROWTH_MB, f"the {name} grew by {grown:.1f} MB")
        return counts


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
