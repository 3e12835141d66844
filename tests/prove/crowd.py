"""256 callers of four gateways at once, on one budget that has room for some of them.

The provider answers nobody until every caller is either refused or at the provider, so no money
becomes free in between: exactly as many calls as fit may arrive there.
"""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp

from spanledger.budgets.model import Budget
from spanledger.money import parse_usd
from tests.prove.accounts import attempt_rows, request_rows
from tests.prove.nursery import PATIENCE_S
from tests.prove.proof import Counts, Scenario, promise
from tests.prove.site import Site, Sites
from tests.service.ledger.stores import new_store

GATEWAYS = 4
CALLERS = 256
FIGURES = ("spent_usd", "held_usd", "needed_usd", "limit_usd")
BODY: dict[str, Any] = {
    "model": "gpt-4o-mini",
    "messages": [{"role": "user", "content": "How much is left?"}],
    "max_tokens": 16,
}


class Reply(NamedTuple):
    """What a caller got."""

    status: int
    error: dict[str, Any]


class Crowd(Scenario):
    """The scenario."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._sites = Sites()

    def close(self) -> None:
        """See `Scenario`."""
        self._sites.close()

    def run(self, seed: int, folder: Path) -> Counts:
        """See `Scenario`."""
        site = self._sites.site
        site.waits = (
            False  # the provider answers nobody until each caller is refused or has arrived
        )
        site.begin(new_store(self.kind, folder), folder, (), seed)
        return asyncio.run(_crowd(site, random.Random(f"crowd {seed}")))


async def _crowd(site: Site, dice: random.Random) -> Counts:
    gateways = [site.gateway() for _ in range(GATEWAYS)]
    urls = []
    for gateway in gateways:
        url = await asyncio.to_thread(gateway.url)
        promise(url, f"a gateway did not start:\n{gateway.output}")
        urls.append(str(url))
    timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
    connector = aiohttp.TCPConnector(limit=CALLERS)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as web:
        first = await _ask(web, urls[0], site.keys[0], 0)
        promise(first.status == 200, f"the first request got {first}")
        (row,) = attempt_rows(site)
        room = dice.choice((0, 1, 255, 256, *(dice.randrange(CALLERS) for _ in range(8))))
        limit = row.cost + room * row.hold + dice.randrange(row.hold)
        with site.store.records("change") as records:
            records.set_budgets(
                [Budget("tight", "customer", "acme", limit, "month")], time.time_ns()
            )
        site.provider.gate.clear()
        try:
            replies = [
                asyncio.create_task(_ask(web, urls[n % GATEWAYS], site.keys[0], n))
                for n in range(CALLERS)
            ]
            await _all_decided(site, replies)
            arrived = len(site.provider.received) - 1
        finally:
            site.provider.gate.set()
        done = await asyncio.gather(*replies)
    promise(arrived == room, f"{arrived} calls arrived at the provider, not {room}")
    for gateway in gateways:
        gateway.send(signal.SIGTERM)
        await asyncio.to_thread(gateway.wait)
    _check(site, done, room, limit)
    return Counter({"requests": CALLERS, "admitted": arrived, "refused": CALLERS - arrived})


async def _ask(web: aiohttp.ClientSession, url: str, key: str, number: int) -> Reply:
    headers = {"authorization": f"Bearer {key}"}
    body = {**BODY, "user": f"{number:03}"}
    async with web.post(f"{url}/v1/chat/completions", json=body, headers=headers) as answer:
        said = await answer.json()
    return Reply(answer.status, said.get("error", {}))


async def _all_decided(site: Site, replies: list[asyncio.Task[Reply]]) -> None:
    """Wait until every caller is refused or at the provider."""
    deadline = time.monotonic() + PATIENCE_S
    while (
        refused := sum(reply.done() for reply in replies)
    ) + len(site.provider.received) - 1 < CALLERS:  # fmt: skip
        arrived = len(site.provider.received) - 1
        promise(time.monotonic() < deadline, f"only {arrived} arrived and {refused} were refused")
        await asyncio.sleep(0.01)


def _check(site: Site, replies: list[Reply], room: int, limit: int) -> None:
    served = sum(reply.status == 200 for reply in replies)
    promise(served == room, f"{served} were served, not {room}")
    for reply in (reply for reply in replies if reply.status != 200):
        promise(reply.error.get("code") == "budget_exceeded", f"a caller got {reply}")
        spent, held, needed, told = (parse_usd(reply.error[name]) for name in FIGURES)
        promise(spent + held + needed > told == limit, f"refused although there was room: {reply}")
    attempts, requests = attempt_rows(site), request_rows(site)
    promise(len(attempts) == room + 1, f"{len(attempts)} attempts, not {room + 1}")
    promise(len(requests) == CALLERS + 1, f"{len(requests)} requests, not {CALLERS + 1}")
    billed = sum(e.nano_usd for entries in site.provider.billed.values() for e in entries)
    reports = site.store.reports()
    try:
        found = reports.verify()
        (state,) = reports.budget_states(int(time.time()))
    finally:
        reports.close()
    promise(not found.problems, f"the ledger does not add up: {found.problems[:3]}")
    promise((state.spent_nano, state.held_nano) == (billed, 0), f"{state}, billed {billed}")
    promise(state.spent_nano <= limit, f"over the limit: {state}")
