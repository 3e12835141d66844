"""Router, adapters, price book and ledger as they run in the gateway, against the simulator.

The simulator keeps its own bill from its own prices; it must be the ledger's to the nano-dollar.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from spanledger.budgets.model import Budget
from spanledger.clock import Clock
from spanledger.config import parse_config
from spanledger.errors import BudgetExceededError, ProviderError, SpanledgerError
from spanledger.ledger import open_ledger
from spanledger.ledger.group import GroupLedger
from spanledger.ledger.model import RequestStart
from spanledger.money import parse_price
from spanledger.pricing.book import PriceBook
from spanledger.providers import create_providers
from spanledger.routing.hold import EXPECTED_TOKENS
from spanledger.routing.plan import Plan
from spanledger.routing.request import Exchange
from spanledger.routing.router import Router
from spanledger.sim.bill import LIST_PRICES
from spanledger.sim.host import RunningSim
from spanledger.sim.server import sim_in_thread
from spanledger.wires import CHAT, EMBEDDINGS
from spanledger.wires.base import Answer
from tests.support.ledgers import store_at
from tests.support.processes import poll

ROUTES = {
    "plain": "openai/gpt-4o-mini",
    "claude": "anthropic/claude-haiku-4-5",
    "storm": "openai/gpt-4o-mini!429;retry_after=20",
    "down": "anthropic/claude-haiku-4-5!529",
    "failing": "openai/gpt-4o-mini!500",
    "reset": "openai/gpt-4o-mini!reset",
    "badkey": "openai/gpt-4o-mini!401",
    "long": "openai/gpt-4o-mini!context_window",
    "silent": "openai/gpt-4o-mini!missing_usage",
    "silent-claude": "anthropic/claude-haiku-4-5!missing_usage",
    "cut-at-once": "openai/gpt-4o-mini!cut:0",
    "cut": "openai/gpt-4o-mini!cut:5",
    "claude-cut": "anthropic/claude-haiku-4-5!cut:5",
    "broken": "openai/gpt-4o-mini!malformed:5",
    "hangs": "openai/gpt-4o-mini!timeout",
    "stalls": "openai/gpt-4o-mini!stall:4",
    "embed": "openai/text-embedding-3-small",
}
SETTINGS = {
    "num_retries": 1,
    "fallbacks": [{"storm": ["down"]}, {"down": ["plain"]}]
    + [{route: ["claude"]} for route in ("failing", "reset", "badkey", "cut-at-once")],
    "context_window_fallbacks": [{"long": ["claude"]}],
}


class Stack:
    """The router on real parts, with both sets of accounts."""

    def __init__(self, sim: RunningSim, path: Path, router: Router, ledger: GroupLedger) -> None:
        self.sim, self.path, self.router, self.ledger = sim, path, router, ledger
        self._ids = itertools.count(1)
        self._clock = Clock()

    def exchange(self, route: str, **fields: Any) -> Exchange:
        """A parsed request."""
        unique = next(self._ids)
        operation = "embeddings" if route == "embed" else "chat"
        if operation == "chat":
            fields.setdefault("messages", [{"role": "user", "content": f"Tell me {unique}."}])
        start = RequestStart(
            request_id=f"req_{unique:024x}",
            trace_id=f"{unique:032x}",
            span_id=f"{unique:016x}",
            parent_span_id="",
            started_ns=self._clock.now_ns(),
            customer="acme",
            team="",
            key_id="",
            route=route,
            operation=operation,
            stream=bool(fields.get("stream")),
        )
        body = msgspec.json.encode({"model": route, **fields})
        deadline = self._clock.monotonic() + 30
        wire = EMBEDDINGS if route == "embed" else CHAT
        return Exchange(start, wire.read(body), deadline)

    async def ask(self, route: str, **fields: Any) -> Answer | SpanledgerError:
        """A complete answer, or the caller's error."""
        try:
            return await self.router.complete(self.exchange(route, **fields))
        except SpanledgerError as error:
            return error

    async def read(self, route: str) -> tuple[bytes, SpanledgerError | None]:
        """All that a stream relays, and its error."""
        events = b""
        try:
            async for frame in self.router.stream(self.exchange(route, stream=True)):
                events += frame.data
        except SpanledgerError as error:
            return events, error
        return events, None

    def attempts(self) -> list[dict[str, Any]]:
        """All attempts in the ledger."""
        reports = store_at(self.path).reports()
        last = next(self._ids)
        rows = [
            attempt
            for unique in range(1, last)
            for _, attempts in reports.trace(f"req_{unique:024x}")
            for attempt in attempts
        ]
        reports.close()
        return rows

    def booked_nano(self) -> int:
        """What was spent according to the ledger."""
        return sum(row["cost_nano"] for row in self.attempts())

    def billed_nano(self) -> int:
        """What the simulator charged."""
        return sum(entry.nano_usd for entry in self.sim.state.bill.entries if entry.billed)


@pytest.fixture(scope="module")
def shared_sim() -> Iterator[RunningSim]:
    """A simulator that never delays."""
    with sim_in_thread(seed=1, speed=0) as sim:
        yield sim


@pytest.fixture
async def stack(shared_sim: RunningSim, tmp_path: Path) -> AsyncIterator[Stack]:
    """All real."""
    async with opened(shared_sim, tmp_path / "ledger.db") as stack:
        yield stack


@asynccontextmanager
async def opened(shared_sim: RunningSim, path: Path, **gateway: object) -> AsyncIterator[Stack]:
    """All real, with these settings; afterwards the ledger is consistent and nothing is open."""
    shared_sim.state.bill.reset()
    entries = []
    for route, model in ROUTES.items():
        anthropic = model.startswith("anthropic/")
        price = LIST_PRICES[model.partition("/")[2].partition("!")[0]]
        params = {
            "model": model,
            "api_key": "sk-sim",
            "api_base": shared_sim.url if anthropic else shared_sim.openai_url,
        }
        if "!" in model:  # a scripted name is in no price book
            params["input_cost_per_token"] = f"{price.input}e-12"
            params["output_cost_per_token"] = f"{price.output}e-12"
            params["cache_creation_input_token_cost"] = f"{price.cache_write or price.input}e-12"
        entries.append({"model_name": route, "litellm_params": params, "model_info": {"id": route}})
    config = parse_config(
        {"model_list": entries, "router_settings": SETTINGS, "gateway": gateway}, {}, "test.yaml"
    )
    clock = Clock()
    plan = Plan.from_config(config)
    ledger = open_ledger(store_at(path), clock)
    providers = create_providers({d.kind for d in plan.deployments})
    router = Router(config, plan, ledger, PriceBook.load(), providers, clock, "off")
    stack = Stack(shared_sim, path, router, ledger)
    yield stack
    await router.close()
    for provider in providers.values():
        await provider.close()
    await ledger.close()
    reports = store_at(path).reports()
    found = reports.verify()
    reports.close()
    assert (found.problems, found.open_attempts) == ([], 0)


def test_prices_of_the_table_are_the_simulators() -> None:
    """A configured price gives the integer that it came from."""
    assert parse_price("150000e-12") == LIST_PRICES["gpt-4o-mini"].input


@pytest.mark.parametrize(
    ("route", "tried"),
    [
        ("plain", ["gpt-4o-mini"]),
        ("claude", ["claude-haiku-4-5"]),
        ("storm", ["!429 rate_limited", "!529 overloaded", "!529 overloaded", "gpt-4o-mini"]),
        ("failing", ["!500 server_error", "!500 server_error", "claude-haiku-4-5"]),
        ("reset", ["!reset connection_error", "!reset connection_error", "claude-haiku-4-5"]),
        ("badkey", ["!401 authentication_failed", "claude-haiku-4-5"]),
        ("long", ["!context_window context_window_exceeded", "claude-haiku-4-5"]),
        ("silent", ["!missing_usage"]),
        ("silent-claude", ["!missing_usage"]),
    ],
)
@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "stream"])
async def test_a_request_is_served_across_providers(
    stack: Stack, route: str, tried: list[str], streamed: bool
) -> None:
    """Real errors on real wires lead to the next attempt, and every attempt is one row."""
    if streamed:
        events, error = await stack.read(route)
        assert error is None
        assert b'"content"' in events
        assert b'"usage":{' not in events
    else:
        assert isinstance(await stack.ask(route), Answer)

    rows = stack.attempts()
    shown = [
        f"{'!' if '!' in row['model'] else ''}{row['model'].rpartition('!')[2].partition(';')[0]}"
        f" {row['error_type']}".strip()
        for row in rows
    ]
    assert shown == tried
    served = rows[-1]
    assert served["estimated"] == ("silent" in route)
    assert served["output_tokens"] > 0
    if route != "reset":  # the cost of a reset connection is unknown, and estimated
        assert stack.booked_nano() == stack.billed_nano() > 0


async def test_embeddings_are_booked(stack: Stack) -> None:
    """Input tokens alone, at the book's price."""
    assert isinstance(await stack.ask("embed", input=["some text", "more"]), Answer)

    (row,) = stack.attempts()
    assert (row["output_tokens"], row["error_type"]) == (0, "")
    assert stack.booked_nano() == stack.billed_nano() > 0


async def test_a_stream_cut_before_content_is_served_elsewhere(stack: Stack) -> None:
    """The caller sees one complete answer, charged to the nano-dollar. Only the provider knows what
    earlier attempts cost: they are charged as answers, and marked."""
    events, error = await stack.read("cut-at-once")

    assert error is None
    assert events.count(b'"role":"assistant"') == 1
    *lost, served = stack.attempts()
    assert lost
    assert {(row["estimated"], row["output_tokens"]) for row in lost} == {(1, EXPECTED_TOKENS)}
    assert (served["error_type"], served["estimated"]) == ("", 0)
    answered = [e for e in stack.sim.state.bill.entries if e.outcome == "answered"]
    assert served["cost_nano"] == sum(entry.nano_usd for entry in answered) > 0
    assert stack.booked_nano() > stack.billed_nano()


@pytest.mark.parametrize(
    ("route", "kind"), [("cut", "stream_interrupted"), ("broken", "malformed_response")]
)
async def test_a_stream_that_breaks_after_content_is_paid_to_the_token(
    stack: Stack, route: str, kind: str
) -> None:
    """Five tokens arrived, five are charged, and the caller gets an error."""
    events, error = await stack.read(route)

    assert isinstance(error, ProviderError)
    assert error.kind == kind
    assert events.count(b'"delta":{"content":') == 5
    (row,) = stack.attempts()
    assert (row["output_tokens"], row["chunks"], row["estimated"]) == (5, 5, 1)
    assert stack.booked_nano() == stack.billed_nano() > 0


async def test_a_broken_stream_of_anthropic_has_its_input_to_the_token(stack: Stack) -> None:
    """Anthropic reports its input, including cache writes, before it answers."""
    marked = {"type": "text", "text": "x" * 8_000, "cache_control": {"type": "ephemeral"}}
    messages = [{"role": "user", "content": [marked, {"type": "text", "text": "Go on."}]}]
    exchange = stack.exchange("claude-cut", messages=messages, stream=True)

    with pytest.raises(ProviderError):
        async for _ in stack.router.stream(exchange):
            pass

    (row,) = stack.attempts()
    assert (row["cache_write_tokens"], row["output_tokens"], row["estimated"]) == (2_003, 5, 1)
    assert stack.booked_nano() == stack.billed_nano() > 0


async def test_a_caller_that_leaves_is_charged_what_the_provider_charges(stack: Stack) -> None:
    """The stream is closed after four tokens: both accounts have four."""
    stream = stack.router.stream(stack.exchange("stalls", stream=True))
    seen = 0
    async for frame in stream:
        seen += frame.content
        if seen == 4:
            break
    await stream.aclose()

    (row,) = stack.attempts()
    assert (row["output_tokens"], row["estimated"], row["error_type"]) == (4, 1, "cancelled")
    await asyncio.to_thread(poll, lambda: stack.sim.state.bill.by_outcome.get("aborted"))
    assert stack.booked_nano() == stack.billed_nano() > 0


async def test_a_budget_holds_against_callers_without_a_cap(stack: Stack) -> None:
    """Many concurrent requests without caps: what is served stays within the limit to the
    nano-dollar, and refusals are for money that is spent."""
    limit = 2_000_000
    records = store_at(stack.path).records("create")
    records.set_budgets(
        [Budget("b", "customer", "acme", limit, "month", strict=True)], Clock().now_ns()
    )
    records.close()

    answers = await asyncio.gather(*(stack.ask("plain") for _ in range(60)))

    served = [answer for answer in answers if isinstance(answer, Answer)]
    refused = [answer for answer in answers if isinstance(answer, BudgetExceededError)]
    assert len(served) + len(refused) == 60
    assert 0 < stack.booked_nano() <= limit
    assert stack.booked_nano() == stack.billed_nano()
    assert refused
    for refusal in (answer.refusal for answer in refused):
        assert refusal.limit_nano == limit
        assert refusal.spent_nano + refusal.needed_nano > limit
