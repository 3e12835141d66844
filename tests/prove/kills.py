"""Gateways and shippers that are killed at points chosen by seed, under load, next to one that stays.

A seed is the life of one ledger: ten kills, then everything is compared: what callers got, what
the provider billed, the rows, the balances, the spans and the metrics.
"""

from __future__ import annotations

import asyncio
import random
import signal
import threading
from collections import Counter
from pathlib import Path
from typing import Literal, NamedTuple

from spanledger.budgets.model import Budget
from tests.prove.accounts import compare, wait_until_shipped
from tests.prove.nursery import PATIENCE_S, Started
from tests.prove.points import GATEWAY_POINTS, SHIPPER_POINTS, Fuse
from tests.prove.proof import Counts, Scenario, promise
from tests.prove.provider import MOMENTS, Moment
from tests.prove.site import LEASE_S, Callers, Site, Sites
from tests.service.ledger.stores import new_store

KILLS = 10
STEADY_CALLERS = 2
STEADY_PAUSE_S = 0.02
CALLERS = 6
PASSES = (0, 0, 1, 2, 5, 12, 30)
DELAY_S = 0.004
"""A commit takes about as long."""
BUDGETS = (
    Budget("all", "global", "*", 10**12, "month"),
    Budget("each", "customer", "*", 10**11, "day"),
    Budget("red", "customer", "red", 8_000_000, "month", strict=True),
)

Kind = Literal[
    "gateway", "provider", "any time", "paused", "starting", "stopping", "shipper", "collector"
]
KINDS: tuple[Kind, ...] = (
    *("gateway",) * 16,
    *("provider",) * 10,
    *("any time", "any time", "any time", "paused"),
    *("starting", "starting", "stopping", "stopping"),
    *("shipper", "shipper", "shipper", "collector", "collector"),
)
SKEWS_NS = (*(0,) * 8, -3_600 * 10**9, -1_800 * 10**9, -(10**9), 10**9)
"""How far a gateway's clock is ahead. One that is killed an hour ahead keeps its holds for that hour."""
PAUSE_S = 2 * LEASE_S
"""So long that the others take it for dead."""

TIMED = ("any time", "paused", "stopping")
"""Killed by the proof itself, after some answers."""


class Kill(NamedTuple):
    """What is killed when.

    Attributes:
        point: of the process, or a moment of a call at the provider.
        passes: how often the point is passed before.
        delay_s: how long after the point.
        skew_ns: its clock is ahead by this much.
    """

    kind: Kind
    point: str
    passes: int
    delay_s: float
    skew_ns: int

    @classmethod
    def of(cls, dice: random.Random) -> Kill:
        """The next kill."""
        kind = dice.choice(KINDS)
        points = {"gateway": GATEWAY_POINTS, "provider": MOMENTS, "shipper": SHIPPER_POINTS}
        point = dice.choice(points.get(kind, ("",)))
        passes = dice.choice(PASSES)
        if kind == "shipper":
            passes = min(passes, 5)  # it ships a few batches a second
        longest = {"starting": 0.3, "any time": 0.05, "paused": 0.5, "stopping": 0.05}.get(
            kind, DELAY_S
        )
        return cls(kind, point, passes, dice.random() * longest, dice.choice(SKEWS_NS))


class Kills(Scenario):
    """The scenario."""

    def __init__(self, kind: str, kills: int = KILLS) -> None:
        self.kind, self.kills = kind, kills
        self._sites = Sites()

    def close(self) -> None:
        """See `Scenario`."""
        self._sites.close()

    def run(self, seed: int, folder: Path) -> Counts:
        """See `Scenario`."""
        site = self._sites.site
        site.begin(new_store(self.kind, folder), folder, BUDGETS, seed)
        return asyncio.run(_Life(site, seed).live(self.kills))


class _Life:
    """One ledger's kills."""

    def __init__(self, site: Site, seed: int) -> None:
        self.site = site
        self.dice = random.Random(f"kills {seed}")
        self.callers = Callers(site.keys, self.dice)
        self.counts: Counts = Counter()
        self.shipper: Started

    async def live(self, kills: int) -> Counts:
        """All of it; returns what happened."""
        site = self.site
        self.shipper, steady = site.shipper(), site.gateway()
        steady_callers = Callers(
            site.keys, random.Random(self.dice.random()), pause_s=STEADY_PAUSE_S
        )
        async with asyncio.TaskGroup() as group:
            url = await asyncio.to_thread(steady.url)
            promise(url, f"the first gateway did not start: {steady.output}")
            for number in range(STEADY_CALLERS):
                group.create_task(steady_callers.ask_on(str(url), number))
            try:
                for _ in range(kills):
                    await self._kill(Kill.of(self.dice))
            finally:
                steady_callers.stopped = True
        served = [seen for seen in steady_callers.seen if not seen.left]
        broken = [seen for seen in served if not seen.whole and seen.code != "budget_exceeded"]
        promise(not broken, f"the gateway that stayed did not serve {broken[:3]}")
        await asyncio.to_thread(wait_until_shipped, site)
        for process in (steady, self.shipper):
            process.send(signal.SIGTERM)
            await asyncio.to_thread(process.wait)
        self.counts.update(compare(site, [*self.callers.seen, *steady_callers.seen]))
        return self.counts

    async def _kill(self, kill: Kill) -> None:
        if kill.kind in ("shipper", "collector"):
            await self._kill_shipper(kill)
            return
        fuse = None
        if kill.kind == "gateway":
            fuse = Fuse(kill.point, kill.passes, kill.delay_s)
        victim = self.site.gateway(fuse, kill.skew_ns or None)
        try:
            if kill.kind == "starting":
                await asyncio.sleep(kill.delay_s)
            else:
                await self._under_load(kill, victim)
        finally:
            await asyncio.to_thread(victim.kill)
        self.counts[f"kills ({kill.point or kill.kind})"] += 1
        self.counts["of them with a wrong clock"] += bool(kill.skew_ns)

    async def _under_load(self, kill: Kill, victim: Started) -> None:
        url = await asyncio.to_thread(victim.url)
        promise(url, f"a gateway ended before it was ready:\n{victim.output}")
        before = len(self.callers.seen)
        if kill.kind == "provider":
            self._kill_at(kill, victim)
        tasks = [
            asyncio.create_task(self.callers.ask_on(str(url), number)) for number in range(CALLERS)
        ]
        try:
            if kill.kind in TIMED:
                while sum(s.whole for s in self.callers.seen[before:]) < kill.passes:  # noqa: ASYNC110 - callers fill a list
                    await asyncio.sleep(0.002)
            if kill.kind == "stopping":
                victim.send(signal.SIGTERM)
            if kill.kind == "paused":
                victim.send(signal.SIGSTOP)
                await asyncio.sleep(PAUSE_S)
                victim.send(signal.SIGCONT)
            if kill.kind in TIMED:
                await asyncio.sleep(kill.delay_s)
                victim.send(signal.SIGKILL)
            gone = await asyncio.to_thread(victim.ended, PATIENCE_S)
            promise(gone, f"{kill} did not kill it:\n{victim.output}")
            async with asyncio.timeout(PATIENCE_S):
                await asyncio.gather(*tasks)
        finally:
            self.site.provider.at = lambda _moment, _trace: None
            for task in tasks:
                task.cancel()

    def _kill_at(self, kill: Kill, victim: Started) -> None:
        """Let the provider kill the gateway at a moment of one of its calls."""
        left, callers, first = kill.passes, self.callers, len(self.callers.seen)

        def at(moment: Moment, trace_id: str) -> None:
            nonlocal left
            if moment != kill.point or all(s.trace_id != trace_id for s in callers.seen[first:]):
                return
            left -= 1
            if left < 0:
                threading.Timer(kill.delay_s, victim.send, (signal.SIGKILL,)).start()

        self.site.provider.at = at

    async def _kill_shipper(self, kill: Kill) -> None:
        """Kill the shipper and its successor, and let a third one go on."""
        old = self.shipper
        if kill.kind == "collector":
            self.site.sink.keep_then = lambda _request: old.send(signal.SIGKILL)
            gone = await asyncio.to_thread(old.ended, PATIENCE_S)
            self.site.sink.keep_then = lambda _request: None
            promise(gone, f"the shipper sent nothing:\n{old.output}")
            self.counts["kills (collector has accepted)"] += 1
        else:
            await asyncio.to_thread(old.kill)
            self.counts["kills (shipping)"] += 1
            fused = self.site.shipper(Fuse(kill.point, kill.passes, kill.delay_s))
            gone = await asyncio.to_thread(fused.ended, PATIENCE_S)
            promise(gone, f"{kill} did not kill it:\n{fused.output}")
            self.counts[f"kills ({kill.point})"] += 1
        self.shipper = self.site.shipper()
