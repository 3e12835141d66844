"""What is held, what a smaller hold buys, and how unreported usage is counted."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanledger.ledger.model import Reservation
from spanledger.pricing.book import PriceBook
from spanledger.pricing.demand import Demand
from spanledger.pricing.media import bound_input
from spanledger.pricing.price import Price, Rates
from spanledger.pricing.usage import Usage
from spanledger.routing.history import OutputHistory
from spanledger.routing.hold import (
    DEFAULT_MAX_OUTPUT_TOKENS,
    MAX_HOLD_NANO,
    WINDOW_MARGIN_TOKENS,
    output_bought,
    sizes_of,
)
from spanledger.sim.openai_wire import OpenAIWire, embedding_tokens, read_embedding_inputs
from spanledger.wires import CHAT, EMBEDDINGS
from spanledger.wires.base import Inbound
from tests.service.routing.rig import BOOK, OK, Site, Step, StrictLedger

MODELS = ("gpt-4o-mini", "gpt-4.1", "claude-sonnet-4-5", "gemini/gemini-2.5-pro")


def price_of(name: str, book: PriceBook = BOOK) -> Price:
    """A model's price."""
    price = book.price(name)
    assert price is not None
    return price


@given(
    st.sampled_from(MODELS),
    st.integers(1, 2_000_000),
    st.one_of(st.none(), st.integers(1, 200_000)),
    st.integers(1, 64_000),
    st.integers(1, 8),
    st.floats(0, 1),
)
def test_a_hold_covers_what_it_lets_out(
    model: str, prompt: int, cap: int | None, usual: int, choices: int, share: float
) -> None:
    """Sizes are in order, and for any hold the output it buys costs no more than it."""
    price = price_of(model)
    demand = Demand(prompt, cap, cap or usual, choices, 0)

    sizes = sizes_of(demand, price)
    full, usual_nano, least = sizes.holds.full, sizes.holds.usual, sizes.holds.least
    hold = int(least + (full - least) * share)
    bought = output_bought(sizes, price, hold)

    assert least <= usual_nano <= full
    assert (usual_nano == full) or cap is None
    read = min(prompt, price.max_input_tokens or prompt)
    if bought is None:
        assert hold == full
        most = (cap or price.max_output_tokens or 0) * choices
        assert full >= price.cost_nano(Usage(read, most))
    else:
        assert price.bound_nano(read, bought) <= hold
        assert bought >= min(16 * choices, (cap or usual) * choices)


def test_a_prompt_longer_than_the_model_takes_is_held_as_the_longest() -> None:
    """The provider refuses it, so 20 megabytes do not need a hold for 20 million tokens."""
    price = price_of("gpt-4o-mini")
    assert price.max_input_tokens is not None
    longest = Demand(price.max_input_tokens + WINDOW_MARGIN_TOKENS, 100, 100, 1, 0)

    assert sizes_of(Demand(20_000_000, 100, 100, 1, 0), price) == sizes_of(longest, price)


def test_the_usual_hold_buys_the_usual_output() -> None:
    """Rounding costs not a single token, at any price."""
    price = price_of("gpt-4o-mini")
    sizes = sizes_of(Demand(100, None, 777, 1, 0), price)

    assert output_bought(sizes, price, sizes.holds.usual) == 777


GUESS = DEFAULT_MAX_OUTPUT_TOKENS


@pytest.mark.parametrize(
    ("fields", "full_tokens", "usual_tokens", "told"),
    [
        ({"max_tokens": 100}, 100, 100, None),
        ({"max_completion_tokens": 70, "max_tokens": 50}, 70, 70, None),
        ({"max_tokens": 100, "n": 3}, 300, 300, None),
        ({"max_tokens": None}, GUESS, 4_096, GUESS),
        ({}, GUESS, 4_096, GUESS),
        ({"n": 2}, 2 * GUESS, 8_192, GUESS),
        ({"max_tokens": "many"}, GUESS, 4_096, GUESS),
    ],
)
async def test_the_callers_cap_bounds_the_hold(
    fields: dict[str, Any], full_tokens: int, usual_tokens: int, told: int | None
) -> None:
    """With a cap, the hold is for it; without one, for the longest and the usual answer, and a
    guessed maximum is enforced."""
    site = Site({"a": ["a1"]}, {})
    exchange = site.exchange(**fields)

    await site.ask(exchange)

    prompt = bound_input(exchange.ask.body_bytes, exchange.ask.fields).tokens
    holds = site.ledger.asked[0].sizes
    assert holds.full == prompt * 1_000 + full_tokens * 2_000
    assert holds.usual == prompt * 1_000 + usual_tokens * 2_000
    assert holds.least == prompt * 1_000 + 16 * fields.get("n", 1) * 2_000
    assert site.provider.calls[0].max_output_tokens == told


async def test_no_budget_no_cap() -> None:
    """If no budget can be overdrawn, no answer is truncated at a guessed length."""
    site = Site({"a": ["a1"]}, {}, ledger=StrictLedger(remaining_nano=None))

    await site.ask()

    assert site.provider.calls[0].max_output_tokens is None


@pytest.mark.parametrize(("choices", "cap"), [(1, 4_096), (2, 4_096)])
async def test_a_smaller_hold_caps_the_output_upstream(choices: int, cap: int) -> None:
    """Each choice gets its share of what the hold buys, and the span records that."""
    ledger = StrictLedger(lambda reservation: reservation.sizes.usual)
    site = Site({"a": ["a1"]}, {}, ledger=ledger)

    await site.ask(site.exchange(n=choices))

    assert site.provider.calls[0].max_output_tokens == cap
    assert f'"gen_ai.request.max_tokens":{cap}' in site.last.detail


async def test_all_that_is_left_is_turned_into_tokens() -> None:
    """A strict budget's last cents buy as many tokens as possible and not one more."""
    left = 4_000_000

    def decide(reservation: Reservation) -> int:
        assert reservation.sizes.least <= left < reservation.sizes.usual
        return left

    site = Site({"a": ["a1"]}, {}, ledger=StrictLedger(decide))
    exchange = site.exchange()

    await site.ask(exchange)

    prompt = bound_input(exchange.ask.body_bytes, exchange.ask.fields).tokens
    assert site.provider.calls[0].max_output_tokens == (left - prompt * 1_000) // 2_000


async def test_the_routes_history_says_what_is_usual() -> None:
    """After some answers of 300 tokens each, the usual hold is for twice that."""
    site = Site({"a": ["a1"]}, {"a1": [Step(usage=Usage(10, 600))]})
    for _ in range(20):
        await site.ask(site.exchange(n=2))

    await site.ask()

    asked = site.ledger.asked[-1].sizes
    assert asked.usual - asked.least == (2 * 300 - 16) * 2_000


async def test_embeddings_hold_their_input_alone() -> None:
    """They have no output to limit."""
    site = Site({"a": ["a1"]}, {"a1": [OK]})
    exchange = site.exchange(operation="embeddings", input="some text", max_tokens=10**6)

    await site.ask(exchange)

    prompt = bound_input(exchange.ask.body_bytes, exchange.ask.fields).tokens
    asked = site.ledger.asked[0].sizes
    assert {asked.full, asked.usual, asked.least} == {prompt * 1_000}
    assert site.provider.calls[0].max_output_tokens is None


async def test_absurd_sizes_stay_countable() -> None:
    """The largest cap and number of choices cannot make a hold that overflows 64 bits."""
    site = Site({"a": ["a1"]}, {})

    await site.ask(site.exchange(max_tokens=10**30, n=10**9))

    assert site.ledger.asked[0].sizes.full <= MAX_HOLD_NANO


@given(st.lists(st.integers(0, 5_000), min_size=1, max_size=400))
def test_history_never_falls_behind_a_longer_answer(lengths: list[int]) -> None:
    """The percentile is one of the last 256 lengths, and at most one in a hundred exceeds a fresh
    one."""
    history = OutputHistory()
    assert history.p99() is None
    for length in lengths:
        history.record(length)

    last = lengths[-256:]
    p99 = history.p99()
    assert p99 is not None
    assert p99 <= max(lengths)
    longer = sum(length > p99 for length in last)
    assert longer <= max(2, len(last) // 50)


PARTS = st.lists(
    st.one_of(
        st.builds(lambda text: {"type": "text", "text": text}, st.text(max_size=30)),
        st.just({"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}),
    ),
    max_size=3,
)
CALLS = st.lists(
    st.builds(
        lambda text: {"id": "c", "type": "function", "function": {"name": "f", "arguments": text}},
        st.text(max_size=30),
    ),
    max_size=2,
)
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "user", "assistant", "tool"])},
        optional={
            "content": st.one_of(st.none(), st.text(max_size=60), PARTS),
            "tool_calls": CALLS,
        },
    ),
    min_size=1,
    max_size=4,
)
TOOLS = st.lists(
    st.just({"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}),
    max_size=2,
)


def raw(**fields: object) -> dict[str, msgspec.Raw]:
    """Fields as the gateway parses them."""
    return {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in fields.items()}


@given(MESSAGES, TOOLS)
def test_a_counted_prompt_is_what_the_simulator_counts(
    messages: list[dict[str, object]], tools: list[dict[str, object]]
) -> None:
    """Estimates and the simulated provider's bill agree, so that the demo reconciles."""
    body: dict[str, object] = {"model": "m", "messages": messages, "tools": tools}

    counted = OpenAIWire().read(body).input_tokens

    assert CHAT.estimate(raw(messages=messages, tools=tools)).input_tokens == counted


@pytest.mark.parametrize(
    "given_input", ["some text", ["some text", "änd more"], [1, 2, 3], [[1, 2], [3]]]
)
def test_counted_embeddings_are_what_the_simulator_counts(given_input: object) -> None:
    """Texts by their bytes, token lists by their length."""
    counted = sum(map(embedding_tokens, read_embedding_inputs({"input": given_input})))

    assert EMBEDDINGS.estimate(raw(input=given_input)).input_tokens == counted


@pytest.mark.parametrize("wire", [CHAT, EMBEDDINGS])
@pytest.mark.parametrize(
    "content",
    [b"{}", b"[1, null, [[]]]", b'[{"content": 5}]', b'"text"', b"[" * 100_000, b'"\xff\xfe"'],
    ids=["object", "mixed", "number", "text", "deep", "not UTF-8"],
)
def test_a_prompt_of_any_shape_is_counted(wire: Inbound, content: bytes) -> None:
    """The gateway passes unknown shapes through, so counting must not fail on them."""
    fields = {"messages": msgspec.Raw(content), "input": msgspec.Raw(content)}

    assert wire.estimate(fields).input_tokens >= 0


@pytest.mark.parametrize("inputs", [1, 3, 0])
def test_the_longest_prompt_bounds_each_input(inputs: int) -> None:
    """A list of texts may be longer than a context window, and what is cut into pieces too."""
    price = Price("p", Rates(1_000_000, 0, 0, 0, 0, 0), max_input_tokens=1_000)
    demand = Demand(10_000, 0, 0, 1, 10_000, inputs=inputs)

    assert sizes_of(demand, price).input_tokens == (1_001 * inputs or 10_000)


def test_a_text_that_fills_a_model_is_held() -> None:
    """OpenAI embeds 8,192 tokens, of which the price book has 8,191."""
    demand = EMBEDDINGS.read(msgspec.json.encode({"model": "m", "input": [100_000] * 8_192})).demand

    assert sizes_of(demand, price_of("text-embedding-3-small")).input_tokens >= 8_192
