"""Real gateways whose wall clocks are an hour apart, are set by an hour, and pass midnight at once.

As `clocks`, but whole gateways over HTTP before the simulator, near the same edges of the calendar.
Nobody dies, so all that a gateway took for left behind is settled at its real cost in the end.
"""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

from spanledger.budgets.model import Budget
from tests.prove.accounts import attempt_rows, compare_bill, compare_requests, request_rows
from tests.prove.clocks import EDGES, HOUR_NS, JUMPS_NS, NANOS, balances, check_sums, period_near
from tests.prove.nursery import PATIENCE_S, Started
from tests.prove.proof import Counts, Scenario, promise
from tests.prove.site import Callers, Seen, Site, Sites
from tests.service.budgets.wall_clock import Label, label
from tests.service.ledger.stores import new_store, raw
from tests.support.processes import poll

CALLERS = 3
"""Of each gateway."""
STEPS = 6
AT_MIDNIGHT = 8
MIDNIGHT_ASKED = 3
"""By each caller at midnight."""
BEFORE_NS = 150 * 10**6
DAY_NANO = 15_000_000
"""Room for some hundred requests a day."""
WIDE_NANO = 10**12
TOLD = ("budget_exceeded", "ledger_unavailable")


class Held(NamedTuple):
    """An attempt in the ledger."""

    customer: str
    started_ns: int
    cost: int


class Hours(Scenario):
    """The scenario."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._sites = Sites()

    def close(self) -> None:
        """See `Scenario`."""
        self._sites.close()

    def run(self, seed: int, folder: Path) -> Counts:
        """See `Scenario`."""
        dice = random.Random(f"hours {seed}")
        text, zone = dice.choice(EDGES)
        midnight = seed % 3 == 0
        edge = datetime.fromisoformat(text[:10] if midnight else text).replace(
            tzinfo=ZoneInfo(zone)
        )
        budgets = [
            Budget("day", "customer", "*", DAY_NANO, "day", zone),
            Budget("all", "global", "*", WIDE_NANO, period_near(dice, edge), zone),
            Budget(
                "far", "customer", "red", WIDE_NANO, period_near(dice, edge), dice.choice(EDGES)[1]
            ),
        ]
        site = self._sites.site
        site.begin(new_store(self.kind, folder), folder, budgets, seed)
        life = _Life(site, dice, edge)
        counts = asyncio.run(life.pass_midnight() if midnight else life.step())
        _compare(site, budgets, counts)
        return counts


class _Life:
    """Some gateways' time on one ledger."""

    def __init__(self, site: Site, dice: random.Random, edge: datetime) -> None:
        self.site, self.dice, self.edge = site, dice, edge
        self.counts: Counts = Counter()

    async def step(self) -> Counts:
        """Two gateways an hour apart, whose clocks are set again and again under load."""
        dice = self.dice
        before = timedelta(seconds=dice.randrange(90 * 60))
        base_ns = round((self.edge - before).timestamp()) * NANOS - time.time_ns()
        ahead_ns = [base_ns, base_ns + dice.choice((HOUR_NS, -HOUR_NS))]
        gateways, urls = await self._started(ahead_ns)
        callers = [Callers(self.site.keys, random.Random(dice.random())) for _ in gateways]
        async with asyncio.TaskGroup() as group:
            for some, url in zip(callers, urls, strict=True):
                for number in range(CALLERS):
                    group.create_task(some.ask_on(url, number))
            try:
                for _ in range(STEPS):
                    await asyncio.sleep(0.1 + 0.4 * dice.random())
                    number = dice.randrange(len(gateways))
                    ahead_ns[number] += dice.choice(JUMPS_NS)
                    gateways[number].set_clock(ahead_ns[number])
                    self.counts["clocks set"] += 1
                for some in callers:
                    await self._served_again(some)
            finally:
                for some in callers:
                    some.stopped = True
        await self._stop(gateways, [one for some in callers for one in some.seen])
        return self.counts

    async def _served_again(self, callers: Callers) -> None:
        """A gateway still answers: with an answer, or that the budget is used up."""
        before = len(callers.seen)
        deadline = time.monotonic() + PATIENCE_S
        while not any(one.whole or one.code in TOLD[:1] for one in callers.seen[before:]):
            promise(
                time.monotonic() < deadline, "a gateway does not answer after its clock was set"
            )
            await asyncio.sleep(0.02)

    async def pass_midnight(self) -> Counts:
        """Eight gateways at 23:59:59.9, with callers that go on asking until after midnight."""
        gateways, urls = await self._started([0] * AT_MIDNIGHT)
        callers = Callers(self.site.keys, random.Random(self.dice.random()))
        midnight_ns = round(self.edge.timestamp()) * NANOS
        ahead_ns = midnight_ns - BEFORE_NS - time.time_ns()
        for gateway in gateways:
            gateway.set_clock(ahead_ns - self.dice.randrange(40) * 10**6)
        tasks = [
            asyncio.create_task(callers.ask_on(url, number, MIDNIGHT_ASKED))
            for url in urls
            for number in range(CALLERS)
        ]
        await asyncio.gather(*tasks)
        self.counts["midnights"] += 1
        await self._stop(gateways, callers.seen)
        return self.counts

    async def _started(self, ahead_ns: list[int]) -> tuple[list[Started], list[str]]:
        gateways = [self.site.gateway(skew_ns=ns) for ns in ahead_ns]
        urls = [await asyncio.to_thread(gateway.url) for gateway in gateways]
        for gateway, url in zip(gateways, urls, strict=True):
            promise(url, f"a gateway did not start:\n{gateway.output}")
        return gateways, [str(url) for url in urls]

    async def _stop(self, gateways: list[Started], seen: list[Seen]) -> None:
        counting = (
            "SELECT (SELECT count(*) FROM attempts WHERE state = 'held')"
            " + (SELECT count(*) FROM requests WHERE seq IS NULL)"
        )
        for gateway in gateways:
            promise(not gateway.ended(), f"it ended:\n{gateway.output}")
            gateway.send(signal.SIGTERM)
            await asyncio.to_thread(gateway.wait)
        left = await asyncio.to_thread(
            poll, lambda: raw(self.site.store, counting)[0][0] == 0, PATIENCE_S
        )
        promise(left, "attempts or requests never ended")
        odd = [one for one in seen if not one.whole and not one.left and one.code not in TOLD]
        promise(not odd, f"{len(odd)} callers got something else: {odd[:3]}")
        self.counts["requests asked"] += len(seen)
        self.counts["answered"] += sum(one.whole for one in seen)
        self.counts["refused"] += sum(one.code == "budget_exceeded" for one in seen)


def _compare(site: Site, budgets: list[Budget], counts: Counts) -> None:
    """Bill, rows and balances: each cost is in the period that its gateway's clock showed, once."""
    attempts = attempt_rows(site)
    counts.update(compare_bill(site, {row.span_id: row for row in attempts}))
    compare_requests(attempts, request_rows(site))
    expired = [row for row in attempts if row.state == "expired"]
    promise(not expired, f"nobody died, but these expired for good: {expired[:3]}")
    query = (
        "SELECT r.customer, a.started_ns, a.cost_nano FROM attempts a"
        " JOIN requests r ON r.request_id = a.request_id"
    )
    held = [Held(*row) for row in raw(site.store, query)]
    stored: Counter[tuple[str, str, Label | None]] = Counter()
    by_name = {budget.name: budget for budget in budgets}
    for name, subject, start_s, spent, still_held in balances(site.store):
        budget = by_name[name]
        promise(still_held == 0, f"{still_held} are still held on {name}")
        stored[name, subject, label(budget.period, budget.timezone, start_s)] += spent
    wanted: Counter[tuple[str, str, Label | None]] = Counter()
    for budget in budgets:
        for one in held:
            subject = one.customer if budget.scope == "customer" else "*"
            period = label(budget.period, budget.timezone, one.started_ns // NANOS)
            if budget.subject in ("*", subject) and period is not None:
                wanted[budget.name, subject, period] += one.cost
    promise(+stored == +wanted, f"the balances have {+stored}, the rows {+wanted}")
    over = {place: spent for place, spent in stored.items() if spent > by_name[place[0]].limit_nano}
    promise(not over, f"over the limit: {over}")
    counts["periods with costs"] += len(+stored)
    check_sums(site.store)
