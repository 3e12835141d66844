"""A gateway killed at random moments under load: no money and no span is lost."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sqlite3
import urllib.request
from decimal import Decimal
from typing import Any

import httpx
import openai
import pytest

from spanledger.demo.sink import Sink
from tests.e2e.conftest import Site
from tests.support.processes import poll

KILLS = int(os.environ.get("SPANLEDGER_TEST_KILLS", "12"))
"""The full run is 50; see CONTRIBUTING."""
CALLERS = 8


@pytest.mark.timeout(600)
def test_killed_under_load(site: Site) -> None:
    """After restart and lease expiry all rows are final and add up, and every span has arrived."""
    sink = Sink()
    site.configure(
        ledger={"lease_s": 1},
        telemetry={"endpoint": sink.endpoint, "export_interval_s": 0.5},
    )
    key = site.key("acme")
    site.command("budget", "set", "b", "--customer", "acme", "--limit", "1000")
    rng = random.Random(1)
    before = _bill(site)
    try:
        for _ in range(KILLS):
            gateway = site.gateway()
            try:
                asyncio.run(_load(gateway.url(), key, rng, gateway.kill))
            finally:
                gateway.kill()
        survivor = site.gateway()
        try:
            survivor.url()
            assert poll(lambda: _count(site, "state = 'held'") == 0), "a hold outlived its lease"
            assert poll(lambda: _missing_spans(site, sink) == set()), _missing_spans(site, sink)
        finally:
            survivor.stop()
    finally:
        sink.close()
    verified = site.command("ledger", "verify")
    assert verified["ok"] is True
    assert _count(site, "state = 'settled'") > KILLS, "the load never got through"
    billed = Decimal(_bill(site)["total_usd"]) - Decimal(before["total_usd"])
    assert Decimal(verified["spent_usd"]) >= billed, "money the provider billed is missing"


async def _load(url: str, key: str, rng: random.Random, kill: Any) -> None:
    """Callers send requests without pause until the gateway is killed.

    It is killed at a random moment after some answers: a time alone would kill a slow machine's
    gateway before its first.
    """
    client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=10)
    wanted, delay_s = rng.choice((0, 1, 3, 9, 27)), rng.uniform(0, 0.1)
    answers = asyncio.Semaphore(0)

    async def caller(number: int) -> None:
        turn = 0
        while True:
            turn += 1
            stream = (number + turn) % 3 == 0
            answer = await client.chat.completions.create(
                model="gpt-4o-mini",
                messages=[{"role": "user", "content": f"{number} {turn}"}],
                max_tokens=20,
                stream=stream,
            )
            if stream:
                async for _ in answer:  # type: ignore[union-attr]  # a stream was asked for
                    pass
            answers.release()

    callers = [asyncio.create_task(caller(number)) for number in range(CALLERS)]
    async with asyncio.timeout(60):
        for _ in range(wanted):
            await answers.acquire()
    await asyncio.sleep(delay_s)
    await asyncio.to_thread(kill)
    results = await asyncio.gather(*callers, return_exceptions=True)
    assert all(isinstance(r, openai.APIError | httpx.HTTPError) for r in results), results
    await client.close()


def _rows(site: Site, query: str) -> list[Any]:
    connection = sqlite3.connect(site.ledger)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def _count(site: Site, condition: str) -> int:
    return int(_rows(site, f"SELECT count(*) FROM attempts WHERE {condition}")[0][0])


def _missing_spans(site: Site, sink: Sink) -> set[str]:
    ended = _rows(
        site,
        "SELECT span_id FROM attempts WHERE seq IS NOT NULL"
        " UNION ALL SELECT span_id FROM requests WHERE seq IS NOT NULL",
    )
    return {span_id for (span_id,) in ended} - {span.span_id for span in sink.snapshot()}


def _bill(site: Site) -> Any:
    with urllib.request.urlopen(f"{site.sim_url}/sim/bill", timeout=10) as answer:
        return json.load(answer)
