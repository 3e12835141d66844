"""Budgets under contention: many callers, several gateways, one nearly used-up budget."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from decimal import Decimal

import openai
import pytest

from tests.e2e.conftest import Site

GATEWAYS = 4
CALLERS = 200


@pytest.mark.parametrize(
    "capped", [pytest.param(True, id="own cap"), pytest.param(False, id="no cap")]
)
def test_nearly_empty_budget_over_four_gateways(site: Site, capped: bool) -> None:
    """200 concurrent requests that do not wait never exceed the limit, and none is refused while its hold
    fits."""
    site.configure(telemetry={"enabled": False}, gateway={"wait_for_holds_s": 0})
    key = site.key("acme")
    site.command("budget", "set", "b", "--customer", "acme", "--limit", "0.01")
    body = {"max_tokens": 100} if capped else {}
    with ExitStack() as stack:
        gateways = [site.gateway() for _ in range(GATEWAYS)]
        for gateway in gateways:
            stack.callback(gateway.stop)
        urls = [gateway.url() for gateway in gateways]
        results = asyncio.run(_storm(urls, key, body))

    [state] = site.command("budget", "list")
    spent, limit = Decimal(state["spent_usd"]), Decimal(state["limit_usd"])
    refused = [error for error in results if isinstance(error, openai.RateLimitError)]
    assert [e for e in results if e is not None and e not in refused] == []
    assert 0 < len(refused) < CALLERS
    assert spent <= limit
    assert Decimal(state["held_usd"]) == 0
    for error in refused:
        told = error.body
        assert isinstance(told, dict)
        assert told["code"] == "budget_exceeded"
        used = Decimal(told["spent_usd"]) + Decimal(told["held_usd"])
        assert used <= limit
        assert used + Decimal(told["needed_usd"]) > limit, "refused while there was room"
    assert site.command("ledger", "verify")["ok"] is True


async def _storm(urls: list[str], key: str, body: dict[str, int]) -> list[Exception | None]:
    clients = [openai.AsyncOpenAI(base_url=f"{u}/v1", api_key=key, max_retries=0) for u in urls]

    async def call(number: int) -> Exception | None:
        try:
            await clients[number % GATEWAYS].chat.completions.create(
                model="gpt-4o-mini",
                messages=[{"role": "user", "content": f"question {number}"}],
                **body,  # type: ignore[call-overload]  # a dict of options
            )
        except openai.APIError as error:
            return error
        return None

    try:
        return await asyncio.gather(*(call(number) for number in range(CALLERS)))
    finally:
        for client in clients:
            await client.close()
