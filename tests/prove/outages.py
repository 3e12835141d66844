"""Gateways whose Postgres server is killed, fails over to its standby, or is behind a bad network.

The gateways and their shipper go on. While the server is unavailable callers get 503, and none waits
longer than a request may take. Afterwards both gateways serve again without a restart, and all is compared as
after kills.
"""

from __future__ import annotations

import asyncio
import random
import signal
import time
from abc import abstractmethod
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from spanledger.ledger import open_store
from tests.prove.accounts import compare, wait_until_shipped
from tests.prove.kills import BUDGETS
from tests.prove.nursery import PATIENCE_S
from tests.prove.proof import Counts, Scenario, promise
from tests.prove.servers import ProvenServer
from tests.prove.site import Callers, Seen, Site, Sites
from tests.prove.toxics import Toxic, ToxicProxy, toxic_proxy
from tests.support.processes import poll

GATEWAYS = 2
CALLERS = 4
"""Of each gateway."""
FAULTS = 5
RECOVER_S = 120.0
LONGEST_S = 45.0
"""A request's own deadline is shorter; twice the longest commit comes on top."""
STRIKE_S = 15.0
TOLD = ("budget_exceeded", "ledger_unavailable")


class Outages(Scenario):
    """What the scenarios have in common."""

    def __init__(self, kind: str) -> None:
        promise(kind == "postgres", "this needs a server: --store postgres")
        self.stack = ExitStack()
        self.counts: Counts = Counter()
        self._sites: Sites | None = None
        self.primary = ProvenServer()
        self.stack.callback(self.primary.remove)
        self.primary.create()
        self.primary.start()

    def close(self) -> None:
        """See `Scenario`."""
        if self._sites is not None:
            self._sites.close()
        self.stack.close()

    @abstractmethod
    def addresses(self) -> str:
        """Hosts and ports for the gateways, in the form of a URL."""

    options = ""
    """Of the gateways' URL."""

    @abstractmethod
    async def disturb(self, dice: random.Random) -> None:
        """Let a fault happen, and end it."""

    def run(self, seed: int, folder: Path) -> Counts:
        """See `Scenario`."""
        self._sites = self._sites or Sites()
        self.counts = Counter()
        database = f"seed_{seed}"
        self.primary.sql(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")
        self.primary.sql(f"CREATE DATABASE {database} TEMPLATE template0")
        site = self._sites.site
        site.ledger_url = f"postgresql://{self.addresses()}/{database}{self.options}"
        store = open_store(self.primary.url(database))
        site.begin(store, folder, BUDGETS, seed)
        asyncio.run(self._live(site, database, random.Random(f"outages {seed}")))
        return self.counts

    async def _live(self, site: Site, database: str, dice: random.Random) -> None:
        shipper = site.shipper()
        gateways = [site.gateway() for _ in range(GATEWAYS)]
        urls = [await asyncio.to_thread(gateway.url) for gateway in gateways]
        for gateway, url in zip(gateways, urls, strict=True):
            promise(url, f"a gateway did not start:\n{gateway.output}")
        callers = [Callers(site.keys, random.Random(dice.random())) for _ in gateways]
        async with asyncio.TaskGroup() as group:
            for some, url in zip(callers, urls, strict=True):
                for number in range(CALLERS):
                    group.create_task(some.ask_on(str(url), number))
            try:
                # The first fault is of a ledger that all of them use: a shipper that starts without one ends.
                shipping = await asyncio.to_thread(poll, lambda: site.sink.spans, PATIENCE_S)
                promise(shipping, f"the shipper sends nothing:\n{shipper.output}")
                for _ in range(FAULTS):
                    await asyncio.sleep(dice.random() * 0.5)
                    await self.disturb(dice)
                    for some in callers:
                        await self._served_again(some)
            finally:
                for some in callers:
                    some.stopped = True
        site.store = open_store(self.primary.url(database))
        for process in (*gateways, shipper):
            promise(not process.ended(), f"it ended:\n{process.output}")
        await asyncio.to_thread(wait_until_shipped, site)
        for process in (*gateways, shipper):
            process.send(signal.SIGTERM)
            await asyncio.to_thread(process.wait)
        seen = [one for some in callers for one in some.seen]
        _check_answers(seen)
        self.counts.update(compare(site, seen))
        self.counts["answered 503"] += sum(one.code == "ledger_unavailable" for one in seen)

    async def _served_again(self, callers: Callers) -> None:
        """A gateway answers again."""
        before = len(callers.seen)
        deadline = time.monotonic() + RECOVER_S
        while not any(one.whole for one in callers.seen[before:]):
            promise(time.monotonic() < deadline, f"not served again within {RECOVER_S:g} s")
            await asyncio.sleep(0.02)


def _check_answers(seen: list[Seen]) -> None:
    """Every caller was served, left, or was told why not, in time."""
    odd = [one for one in seen if not one.whole and not one.left and one.code not in TOLD]
    promise(not odd, f"{len(odd)} callers got something else: {odd[:3]}")
    late = [one for one in seen if one.seconds > LONGEST_S]
    promise(not late, f"{len(late)} callers waited too long: {late[:3]}")


class ServerKills(Outages):
    """The server's processes are all killed at once, and it starts again."""

    def addresses(self) -> str:
        """See `Outages`."""
        return f"127.0.0.1:{self.primary.port}"

    async def disturb(self, dice: random.Random) -> None:
        """See `Outages`."""
        await asyncio.to_thread(self.primary.kill)
        await asyncio.sleep(dice.choice((0.0, 0.1, 1.0, 3.0)))
        await asyncio.to_thread(self.primary.start)
        self.counts["server kills"] += 1


class Failovers(Outages):
    """The primary is killed, and its synchronous standby is promoted."""

    options = "?target_session_attrs=read-write"

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.standby = ProvenServer()
        self.stack.callback(self.standby.remove)
        self.standby.follow(self.primary)
        self.primary.wait_for_standby()
        self._ports = sorted((self.primary.port, self.standby.port))

    def addresses(self) -> str:
        """See `Outages`."""
        return ",".join(f"127.0.0.1:{port}" for port in self._ports)

    async def disturb(self, dice: random.Random) -> None:
        """See `Outages`."""
        await asyncio.to_thread(self.primary.kill)
        await asyncio.sleep(dice.choice((0.0, 0.1, 1.0)))
        await asyncio.to_thread(self.standby.promote)
        self.primary, self.standby = self.standby, self.primary
        await asyncio.sleep(dice.choice((0.0, 0.5, 1.5)))
        await asyncio.to_thread(self.standby.follow, self.primary)
        await asyncio.to_thread(self.primary.wait_for_standby)
        self.counts["failovers"] += 1


class BadNetwork(Outages):
    """A proxy between gateways and server that cuts, delays and swallows."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.proxy: ToxicProxy = self.stack.enter_context(toxic_proxy(self.primary.port))

    def addresses(self) -> str:
        """See `Outages`."""
        return f"127.0.0.1:{self.proxy.port}"

    async def disturb(self, dice: random.Random) -> None:
        """See `Outages`."""
        toxic = Toxic.of(dice)
        self.proxy.strike(toxic)
        try:
            struck = await asyncio.to_thread(self.proxy.struck.wait, STRIKE_S)
            promise(struck, f"{toxic} did not strike: nothing went through")
            await asyncio.sleep(toxic.seconds)
        finally:
            await asyncio.to_thread(self.proxy.heal)
        self.counts[f"faults ({toxic.kind})"] += 1
