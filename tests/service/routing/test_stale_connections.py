"""Providers that close connections as unused, in the moment in which the next request goes out.

On real sockets: the server closes a kept connection without a word once the request arrives.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest

from spanledger.clock import Clock
from spanledger.config import parse_config
from spanledger.errors import ProviderError
from spanledger.ledger import open_ledger
from spanledger.ledger.model import RequestStart
from spanledger.pricing.book import PriceBook
from spanledger.providers import create_providers
from spanledger.routing.plan import Plan
from spanledger.routing.request import Exchange
from spanledger.routing.router import Router
from spanledger.wires import CHAT
from tests.service.providers.samples import ANSWER, STREAM
from tests.service.providers.scripted import Script, Scripted, scripted
from tests.support.ledgers import store_at

SETTINGS = {"num_retries": 0, "allowed_fails": 0}
"""The strictest: no retries, and a cooldown after the first failure."""


@dataclass
class Rig:
    """A router before the scripted server."""

    server: Scripted
    router: Router
    path: Path
    ids: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    asked: int = 0

    async def ask(self, *, stream: bool = False) -> bytes:
        """All of an answer. Raises the caller's error."""
        unique = self.asked = next(self.ids)
        now_ns = Clock().now_ns()
        start = RequestStart(
            f"req_{unique:024x}", f"{unique:032x}", f"{unique:016x}", "", now_ns, "acme", "", "",
            "chat", "chat", stream,
        )  # fmt: skip
        messages = [{"role": "user", "content": "Hello"}]
        body = msgspec.json.encode({"model": "chat", "messages": messages, "stream": stream})
        exchange = Exchange(start, CHAT.read(body), Clock().monotonic() + 30)
        if not stream:
            return (await self.router.complete(exchange)).body
        return b"".join([frame.data async for frame in self.router.stream(exchange)])

    def attempts(self) -> list[tuple[str, str, int, str]]:
        """Those of the last request: state, error, cost, reason."""
        with store_at(self.path).reports() as reports:
            ((_, attempts),) = reports.trace(f"req_{self.asked:024x}")
        return [
            (row["state"], row["error_type"], row["cost_nano"], row["reason"]) for row in attempts
        ]


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    """All real but the server; afterwards the ledger adds up and nothing is open."""
    path, clock = tmp_path / "ledger.db", Clock()
    async with scripted() as server:
        entry = {"model": "openai/gpt-4o-mini", "api_key": "sk-sim", "api_base": server.url}
        config = parse_config(
            {
                "model_list": [{"model_name": "chat", "litellm_params": entry}],
                "router_settings": SETTINGS,
            },
            {},
            "test.yaml",
        )
        plan, ledger = Plan.from_config(config), open_ledger(store_at(path), clock)
        providers = create_providers({d.kind for d in plan.deployments})
        router = Router(config, plan, ledger, PriceBook.load(), providers, clock, "off")
        yield Rig(server, router, path)
        await router.close()
        for provider in providers.values():
            await provider.close()
        await ledger.close()
    with store_at(path).reports() as reports:
        found = reports.verify()
    assert (found.problems, found.open_attempts) == ([], 0)


def answering(server: Scripted, *, stream: bool) -> Script:
    """A script of a complete answer."""
    if stream:
        server.events(b"", *STREAM, b"data: [DONE]\n\n")
    else:
        server.json(200, ANSWER)
    assert server.script is not None
    return server.script


def hang_up_first(server: Scripted, times: int, then: Script) -> None:
    """Close so many connections when a request arrives on them, then answer."""
    left = iter(range(times))

    async def script(writer: asyncio.StreamWriter) -> None:
        if next(left, None) is None:
            await then(writer)
        else:
            writer.close()

    server.script = script


@pytest.mark.parametrize("stream", [False, True])
async def test_a_stale_connection_costs_one_free_attempt(rig: Rig, stream: bool) -> None:
    """The request is served by the same deployment on a new connection, with no retries allowed; the
    first attempt is released, and no cooldown begins for it."""
    answer = answering(rig.server, stream=stream)
    await rig.ask(stream=stream)
    hang_up_first(rig.server, 1, answer)

    assert b"content" in await rig.ask(stream=stream)

    first, second = rig.attempts()
    assert first == ("released", "connection_error", 0, "")
    assert (second[0], second[1], second[3]) == ("settled", "", "connection_error")
    assert second[2] > 0
    assert rig.server.connections == 2
    await rig.ask(stream=stream)
    assert len(rig.attempts()) == 1


async def test_all_kept_connections_may_be_stale(rig: Rig) -> None:
    """After one, no other kept connection is used: each caller needs one more attempt at most."""
    answer = answering(rig.server, stream=False)
    gate = asyncio.Event()

    async def together(writer: asyncio.StreamWriter) -> None:
        await gate.wait()
        await answer(writer)

    rig.server.script = together
    asking = [asyncio.create_task(rig.ask()) for _ in range(4)]
    while len(rig.server.requests) < 4:  # noqa: ASYNC110 - the server fills a list
        await asyncio.sleep(0.001)
    gate.set()
    await asyncio.gather(*asking)
    hang_up_first(rig.server, 1, answer)

    await rig.ask()

    assert len(rig.attempts()) == 2
    assert rig.server.connections == 5


async def test_a_provider_that_hangs_up_on_everybody_has_failed(rig: Rig) -> None:
    """On a new connection it is a failure like any other: the caller gets it, and a cooldown
    begins."""
    answer = answering(rig.server, stream=False)
    await rig.ask()
    hang_up_first(rig.server, 2, answer)

    with pytest.raises(ProviderError) as caught:
        await rig.ask()

    assert caught.value.kind == "connection_error"
    assert [state for state, *_ in rig.attempts()] == ["released", "released"]
    (shown,) = rig.router.health.snapshot()
    assert shown.state == "cooling"
