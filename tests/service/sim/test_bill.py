"""The bill is what real usage costs at public prices, call by call, and contains no secret."""

from __future__ import annotations

import asyncio
import importlib.util
import json
from decimal import ROUND_CEILING, Decimal
from functools import cache
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest

from spanledger.sim import bill as bill_module
from spanledger.sim.bill import LIST_PRICES, UNIT_PRICES, Bill, Price, Usage, key_digest
from spanledger.sim.host import RunningSim
from spanledger.sim.server import running_sim
from spanledger.sim.tokens import DENSEST, USUAL, file_tokens
from tests.service.sim.books import bill

NANO = Decimal(10) ** 9


@cache
def public_prices() -> dict[str, dict[str, Any]]:
    """The price map that LiteLLM ships, read without importing it."""
    spec = importlib.util.find_spec("litellm")
    assert spec is not None
    assert spec.submodule_search_locations
    folder = Path(spec.submodule_search_locations[0])
    text = (folder / "model_prices_and_context_window_backup.json").read_text("utf-8")
    prices: dict[str, dict[str, Any]] = json.loads(text, parse_float=str)
    return prices


def test_built_in_prices_are_the_public_ones() -> None:
    """Every built-in price is the public list price, to the pico-dollar."""
    names = {
        "input": "input_cost_per_token",
        "output": "output_cost_per_token",
        "cache_read": "cache_read_input_token_cost",
        "cache_write": "cache_creation_input_token_cost",
        "cache_write_1h": "cache_creation_input_token_cost_above_1hr",
    }
    for model, price in LIST_PRICES.items():
        public = public_prices()[model]
        for ours, theirs in names.items():
            value = getattr(price, ours)
            if theirs in public:
                assert value == Decimal(str(public[theirs])) * 10**12, (model, ours)
            else:
                assert value is None, (model, ours)
        for service, dearer in price.services.items():
            suffix = "_batches" if service == "batch" else f"_{service}"
            check_listed(public, dearer, suffix, names)
        check_long(public, price, "", names)


def check_long(public: dict[str, Any], price: Price, service: str, names: dict[str, str]) -> None:
    """The price of long requests is the public one, where there is one."""
    listed = any(f"{names['input']}_above_" in name for name in public)
    assert (price.long is not None) is listed
    if price.long is not None:
        above, dearer = price.long
        check_listed(public, dearer, f"_above_{above // 1000}k_tokens{service}", names)


def check_listed(public: dict[str, Any], price: Price, suffix: str, names: dict[str, str]) -> None:
    """Each of these prices is the public one with this suffix, and there is no other."""
    for ours, theirs in names.items():
        listed = public.get(f"{theirs}{suffix}")
        value = None if listed is None else Decimal(str(listed)) * 10**12
        assert getattr(price, ours) == value, (suffix, ours)
    if price.long is not None and not suffix.startswith("_above"):
        check_long(public, price, suffix, names)


@pytest.mark.parametrize(
    ("model", "ours", "theirs"),
    [
        ("rerank-v3.5", "unit", "input_cost_per_query"),
        ("gpt-image-1", "input", "input_cost_per_token"),
        ("gpt-image-1", "output", "output_cost_per_image_token"),
        ("aiml/dall-e-3", "unit", "output_cost_per_image"),
        ("tts-1", "unit", "input_cost_per_character"),
        ("gpt-4o-mini-tts", "output", "output_cost_per_audio_token"),
        ("gpt-image-1", "image_input", "input_cost_per_image_token"),
        ("tts-1-hd", "unit", "input_cost_per_character"),
        ("whisper-1", "unit", "output_cost_per_second"),
        ("groq/whisper-large-v3", "unit", "input_cost_per_second"),
        ("gpt-4o-transcribe", "input", "input_cost_per_token"),
        ("gpt-4o-transcribe", "output", "output_cost_per_token"),
    ],
)
def test_prices_of_other_units_are_the_public_ones(model: str, ours: str, theirs: str) -> None:
    """To the pico-dollar."""
    price = UNIT_PRICES[model.rpartition("/")[2]]

    assert getattr(price, ours) == Decimal(str(public_prices()[model][theirs])) * 10**12


def openai_cost(model: str, usage: openai.types.CompletionUsage) -> Decimal:
    """The nano-dollars of a usage at public prices, computed independently."""
    price = public_prices()[model]
    details = usage.prompt_tokens_details
    cached = (details.cached_tokens or 0) if details else 0
    usd = (
        (usage.prompt_tokens - cached) * Decimal(str(price["input_cost_per_token"]))
        + cached * Decimal(str(price["cache_read_input_token_cost"]))
        + usage.completion_tokens * Decimal(str(price["output_cost_per_token"]))
    )
    return (usd * NANO).to_integral_value(ROUND_CEILING)


def anthropic_cost(model: str, usage: anthropic.types.Usage) -> Decimal:
    """The same for Anthropic's usage, where input excludes the cache."""
    price = public_prices()[model]
    usd = (
        usage.input_tokens * Decimal(str(price["input_cost_per_token"]))
        + (usage.cache_read_input_tokens or 0) * Decimal(str(price["cache_read_input_token_cost"]))
        + (usage.cache_creation_input_tokens or 0)
        * Decimal(str(price["cache_creation_input_token_cost"]))
        + usage.output_tokens * Decimal(str(price["output_cost_per_token"]))
    )
    return (usd * NANO).to_integral_value(ROUND_CEILING)


async def test_the_bill_is_usage_times_prices() -> None:
    """The total, and each entry found by its answer's id, is the reported usage at list prices."""
    expected: dict[str, Decimal] = {}
    models = ("gpt-4o", "gpt-4o-mini", "gpt-4.1", "o4-mini")

    async with (
        running_sim(seed=5) as sim,
        openai.AsyncOpenAI(base_url=sim.openai_url, api_key="k1") as gpt,
        anthropic.AsyncAnthropic(base_url=sim.url, api_key="k2") as claude,
        httpx.AsyncClient(base_url=sim.url) as web,
    ):

        async def say(number: int) -> None:
            model = models[number % len(models)]
            answer = await gpt.chat.completions.create(
                model=model, messages=[{"role": "user", "content": f"{number % 9} again " * 200}]
            )
            assert answer.usage is not None
            expected[answer.id] = openai_cost(model, answer.usage)

        async def tell(number: int) -> None:
            async with claude.messages.stream(
                model="claude-haiku-4-5",
                max_tokens=60,
                system=[
                    {
                        "type": "text",
                        "text": f"{number % 3} rules " * 300,
                        "cache_control": {"type": "ephemeral"},
                    }
                ],
                messages=[{"role": "user", "content": f"question {number}"}],
            ) as stream:
                message = await stream.get_final_message()
            expected[message.id] = anthropic_cost("claude-haiku-4-5", message.usage)

        await asyncio.gather(*map(say, range(24)), *map(tell, range(12)))
        shown = (await web.get("/sim/bill?entries=1")).json()

    assert {entry["id"]: entry["nano_usd"] for entry in shown["entries"]} == expected
    assert len(expected) == 36
    assert Decimal(shown["total_usd"]) * NANO == sum(expected.values())
    assert any(entry["usage"]["cache_read_input_tokens"] for entry in shown["entries"])


def test_views(gpt: openai.OpenAI, web: httpx.Client) -> None:
    """The bill is also split by model and by key, adds up, and can be reset."""
    gpt.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "a"}])
    gpt.embeddings.create(model="text-embedding-3-small", input="abcdefgh")
    gpt.chat.completions.create(
        model="gpt-4o-2024-08-06", messages=[{"role": "user", "content": "a"}]
    )
    gpt.chat.completions.create(model="made-up", messages=[{"role": "user", "content": "a"}])
    shown = bill(web)

    assert shown["calls"] == shown["billed_calls"] == 4
    assert shown["unpriced_calls"] == 1
    assert shown["by_model"]["text-embedding-3-small"]["total_usd"] == "0.00000004"
    assert shown["by_model"]["gpt-4o-2024-08-06"]["total_usd"] != "0.00"
    assert shown["by_model"]["made-up"]["total_usd"] == "0.00"
    assert list(shown["by_key"]) == [key_digest("sk-1")]
    assert web.delete("/sim/bill").status_code == 204
    assert bill(web)["calls"] == 0
    assert bill(web)["by_model"] == {}


def test_keys_do_not_show(sim: RunningSim, web: httpx.Client) -> None:
    """The API key is nowhere on the bill."""
    secret = "sk-very-secret-canary"
    with openai.OpenAI(base_url=sim.openai_url, api_key=secret) as client:
        client.embeddings.create(model="text-embedding-3-small", input="x")

    assert secret not in web.get("/sim/bill?entries=1").text
    assert "canary" not in repr(sim.state)


def test_prices_can_be_set(gpt: openai.OpenAI, web: httpx.Client) -> None:
    """A price set at run time is charged; an invalid one is rejected."""
    good = web.put("/sim/prices", json={"mine": {"input": 1, "output": 7_000}})
    gpt.chat.completions.create(model="mine!tokens:3", messages=[{"role": "user", "content": "a"}])
    bad = [{"mine": {"output": 1}}, {"mine": {"input": 0.5}}, {"mine": {"input": 1, "x": 1}}, []]

    assert good.json()["mine"]["output"] == 7_000
    assert bill(web)["entries"][-1]["nano_usd"] == 22  # 4 + 21,000 pico-dollars, rounded up
    assert [web.put("/sim/prices", json=prices).status_code for prices in bad] == [400] * 4


def test_the_bill_is_bounded() -> None:
    """Names above the limit share one group, and the oldest entries are dropped; totals stay exact."""
    book = Bill(prices={"m": Price(input=1_000)})
    many = bill_module.ENTRIES_MAX + 5
    for number in range(many):
        book.add(
            id=str(number),
            request_id="",
            wire="openai",
            operation="chat",
            model="m",
            key=f"key-{number}",
            outcome="answered",
            usage=Usage(1),
        )

    assert len(book.entries) == bill_module.ENTRIES_MAX
    assert (book.entries[0].id, book.dropped_entries) == ("5", 5)
    assert len(book.by_key) == bill_module.GROUPS_MAX + 1
    assert book.by_key["other"].calls == many - bill_module.GROUPS_MAX
    assert book.view()["total_usd"] == "0.000020005"


async def test_a_dense_provider_bills_more_for_the_same() -> None:
    """A token for each byte, expensive images and files, instructions for tools; answers fit the cap."""
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    schema = len(json.dumps([tool], separators=(",", ":")))
    data = "data:application/pdf;base64,JVBE"
    pages = file_tokens(data) // USUAL.page
    content = [
        {"type": "text", "text": "漢字"},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
        {"type": "file", "file": {"file_data": data}},
    ]
    body = {
        "model": "gpt-4.1",
        "messages": [{"role": "user", "content": content}],
        "tools": [tool],
        "max_tokens": 7,
    }
    async with running_sim() as sim, httpx.AsyncClient(base_url=sim.url) as web:
        for counting in (USUAL, DENSEST):
            sim.state.counting = counting
            headers = {"authorization": "Bearer k"}
            answer = await web.post("/v1/chat/completions", json=body, headers=headers)
            used = answer.json()["usage"]
            text, tools = -(-6 // counting.text), -(-schema // counting.text)
            media = counting.image + pages * counting.page
            assert used["prompt_tokens"] == 3 + text + media + counting.tools + tools
            assert used["completion_tokens"] == 7


async def test_writing_to_the_cache_is_billed_where_it_costs() -> None:
    """OpenAI reports what it wrote with the models that charge for it."""
    text = "word " * 2_000
    body = {"model": "gpt-5.6-terra", "messages": [{"role": "user", "content": text}]}
    async with running_sim() as sim, httpx.AsyncClient(base_url=sim.url) as web:
        seen = []
        for _ in range(2):
            answer = await web.post(
                "/v1/chat/completions", json=body, headers={"authorization": "Bearer k"}
            )
            details = answer.json()["usage"]["prompt_tokens_details"]
            seen.append((details["cached_tokens"], details.get("cache_write_tokens", 0)))
    assert seen == [(0, 2_432), (2_432, 0)]


async def test_a_longer_input_than_the_window_is_refused() -> None:
    """As at the provider, and free of charge."""
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "x" * 600_000}]}
    async with running_sim() as sim, httpx.AsyncClient(base_url=sim.url) as web:
        headers = {"authorization": "Bearer k"}
        answer = await web.post("/v1/chat/completions", json=body, headers=headers)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "context_length_exceeded"
    assert sim.state.bill.total.nano == 0
