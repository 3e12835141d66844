"""Amounts to the nano-dollar, and finding a deployment's price."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from spanledger.errors import ConfigError
from spanledger.pricing.book import PriceBook
from spanledger.pricing.price import USUAL_SERVICES, Price, Rates, RateTier, Schedule, Terms
from spanledger.pricing.reported import from_anthropic, from_openai
from spanledger.pricing.usage import Usage


@pytest.fixture(scope="module")
def book() -> PriceBook:
    """The newest book."""
    return PriceBook.load()


TIERED = Price(
    id="2026-11-23/tiered",
    rates=Rates(10, 40, 1, 13, 20, 50),
    tiers=(RateTier(100, Rates(20, 60, 2, 26, 40, 60)), RateTier(1000, Rates(5, 5, 5, 5, 5, 5))),
)


def test_a_cached_and_reasoning_answer(book: PriceBook) -> None:
    """OpenAI: the cached part of the prompt at its own price, reasoning as output."""
    usage = from_openai(
        {
            "prompt_tokens": 2006,
            "completion_tokens": 300,
            "total_tokens": 2306,
            "prompt_tokens_details": {"cached_tokens": 1920},
            "completion_tokens_details": {"reasoning_tokens": 192},
        }
    )
    price = book.price("gpt-4o-2024-08-06")
    assert usage is not None
    assert price is not None

    # 86 at 2.50, 1920 at 1.25, 300 at 10 USD per million
    assert price.cost_nano(usage) == 86 * 2_500 + 1920 * 1_250 + 300 * 10_000


def test_a_cache_written_for_an_hour(book: PriceBook) -> None:
    """Anthropic: reads, writes for five minutes and writes for an hour each have a price."""
    usage = from_anthropic(
        {
            "input_tokens": 21,
            "output_tokens": 393,
            "cache_creation_input_tokens": 556,
            "cache_read_input_tokens": 188_086,
            "cache_creation": {"ephemeral_5m_input_tokens": 456, "ephemeral_1h_input_tokens": 100},
        }
    )
    price = book.price("claude-sonnet-4-5-20250929")
    assert usage is not None
    assert price is not None

    # 3, 15, 0.30, 3.75 and 6 USD per million
    expected = 21 * 3_000 + 393 * 15_000 + 188_086 * 300 + 456 * 3_750 + 100 * 6_000
    assert price.cost_nano(usage) == expected


def test_a_long_prompt_pays_more_for_every_token(book: PriceBook) -> None:
    """Gemini: above 200k input tokens the complete request has the long-context price."""
    price = book.price("gemini/gemini-2.5-pro")
    assert price is not None
    short, long = Usage(200_000, 1200, 150_000, 0, 1000), Usage(200_001, 1200, 150_000, 0, 1000)

    assert price.cost_nano(short) == 50_000 * 1_250 + 150_000 * 125 + 1200 * 10_000
    assert price.cost_nano(long) == 50_001 * 2_500 + 150_000 * 250 + 1200 * 15_000


def test_embeddings_cost_their_input(book: PriceBook) -> None:
    """Two cents per million; a fraction of a nano-dollar is rounded up, once."""
    price = book.price("text-embedding-3-small")
    assert price is not None

    assert price.cost_nano(Usage(8)) == 160
    cheap = Price("x/y", Rates(1, 1, 1, 1, 1, 1))
    assert cheap.cost_nano(Usage(1, 1)) == 1
    assert cheap.cost_nano(Usage(500, 501)) == 2
    assert cheap.cost_nano(Usage(0, 0)) == 0


def test_a_free_model_costs_nothing_and_an_unpriced_one_has_no_price(book: PriceBook) -> None:
    """A price of zero is a price; a missing or incomplete price is not."""
    free = book.find("ollama", "llama3", "ollama/llama3", {}, "d")
    assert free is not None

    assert free.cost_nano(Usage(1000, 1000)) == 0
    assert book.find("perplexity", "sonar", "perplexity/sonar", {}, "d") is None
    assert book.find("openai", "gpt-5-search-api", "gpt-5-search-api", {}, "d") is None
    assert book.find("azure.ai.openai", "model-router", "azure/model-router", {}, "d") is None
    assert book.price("bedrock/us-east-1/1-month-commitment/anthropic.claude-v1") is None


amounts = st.integers(-5, 3000)
usages = st.builds(Usage, *[amounts] * 8)
pico = st.integers(0, 10**9)
rates = st.builds(Rates, *[pico] * 6, *[st.none() | pico] * 3)
schedules = st.builds(
    lambda base, tiers: Schedule(base, tuple(RateTier(a, r) for a, r in sorted(tiers.items()))),
    rates,
    st.dictionaries(st.integers(0, 2000), rates, max_size=3),
)
prices = st.builds(
    lambda usual, services: Price("x/y", usual.rates, usual.tiers, services=services),
    schedules,
    st.dictionaries(st.sampled_from(["flex", "priority", "fast", "us", "fast us"]), schedules),
)
ASKED = {
    "": ("", "default"),
    "flex": ("", "default"),
    "priority": ("", "default", "priority"),
    "fast": ("default", "priority", "fast", "fast us"),
    "us": ("standard", "us", "fast us"),
    "fast us": ("fast us", "us", "fast", "standard"),
}
"""A requested service tier, and the tiers that the answer may report."""


@given(price=prices, usage=usages, more=st.integers(0, 2000))
def test_a_bound_bounds(price: Price, usage: Usage, more: int) -> None:
    """No usage costs more than the bound of its totals, and a larger total has no lower bound."""
    cost = price.cost_nano(usage)
    sound = Terms(sound=True, speech=True)
    bound = price.bound_nano(usage.input_tokens, usage.output_tokens, sound)

    assert 0 <= cost <= bound
    assert bound <= price.bound_nano(usage.input_tokens + more, usage.output_tokens + more, sound)


def possible(usage: Usage) -> Usage:
    """The nearest usage whose parts fit their totals."""
    tokens, output = max(usage.input_tokens, 0), max(usage.output_tokens, 0)
    read = min(max(usage.cache_read_input_tokens, 0), tokens)
    write = min(max(usage.cache_write_input_tokens, 0), tokens - read)
    hour = min(max(usage.cache_write_1h_input_tokens, 0), write)
    reasoning = min(max(usage.reasoning_output_tokens, 0), output)
    return Usage(tokens, output, read, write, reasoning, hour)


@given(price=prices, usage=usages, asked=st.sampled_from(list(ASKED)), data=st.data())
def test_a_bound_holds_for_every_service_tier(
    price: Price, usage: Usage, asked: str, data: st.DataObject
) -> None:
    """Any tier with a price may answer a request for it; without audio, at the price of text."""
    priced = [s for s in ASKED[asked] if s in USUAL_SERVICES or s in price.services]
    served = data.draw(st.sampled_from(priced))
    text = possible(usage)
    loud = Terms(asked, sound=True, speech=True)

    assert price.cost_nano(usage, served) <= price.bound_nano(
        usage.input_tokens, usage.output_tokens, loud
    )
    assert price.cost_nano(text, served) <= price.bound_nano(
        text.input_tokens, text.output_tokens, Terms(asked)
    )


def test_a_service_tier_is_charged_as_the_book_says(book: PriceBook) -> None:
    """OpenAI: priority costs more, flex less, and tiers without their own price cost the usual."""
    usage = Usage(1_000, 100, 400)
    price = book.price("gpt-5-mini")
    assert price is not None

    usual = 600 * 250 + 400 * 25 + 100 * 2_000
    assert price.cost_nano(usage) == price.cost_nano(usage, "default") == usual
    assert price.cost_nano(usage, "priority") == 600 * 450 + 400 * 45 + 100 * 3_600
    assert price.cost_nano(usage, "fast") == price.cost_nano(usage, "priority")
    assert price.cost_nano(usage, "flex") == usual // 2
    assert price.cost_nano(usage, "scale") == usual
    assert price.cost_nano(usage, "never-heard-of") == price.cost_nano(usage, "priority")
    plain = book.price("gpt-4-turbo")
    assert plain is not None
    assert plain.cost_nano(usage, "priority") == plain.cost_nano(usage)
    assert (price.knows("priority"), plain.knows("priority"), plain.knows("flex")) == (
        True,
        False,
        True,
    )


def test_anthropics_ways_to_serve_multiply(book: PriceBook) -> None:
    """Fast mode doubles every price, data residency adds a tenth, also to both."""
    usage = Usage(1_000, 100, 400, 200, 0, 100)
    price = book.price("claude-opus-5")
    assert price is not None
    usual = price.cost_nano(usage)

    assert price.cost_nano(usage, "fast") == 2 * usual
    assert price.cost_nano(usage, "us") * 10 == 11 * usual
    assert price.cost_nano(usage, "fast us") * 10 == 22 * usual
    assert price.bound_nano(1_000, 100, Terms("us")) * 10 == 22 * price.bound_nano(1_000, 100)


def test_sound_and_speech_have_their_price(book: PriceBook) -> None:
    """OpenAI: audio in the prompt and in the answer, each priced apart from text."""
    price = book.price("gpt-audio")
    assert price is not None
    usage = Usage(130, 110, audio_input_tokens=120, audio_output_tokens=90)

    assert price.cost_nano(usage) == 10 * 2_500 + 120 * 32_000 + 20 * 10_000 + 90 * 64_000
    assert price.bound_nano(130, 110) == 130 * 2_500 + 110 * 10_000
    assert price.bound_nano(130, 110, Terms(sound=True)) == 130 * 32_000 + 110 * 10_000
    assert price.bound_nano(130, 110, Terms(speech=True)) == 130 * 2_500 + 110 * 64_000
    impossible = Usage(130, 110, audio_input_tokens=131, audio_output_tokens=111)
    assert price.cost_nano(impossible) == 130 * 32_000 + 110 * 64_000


def test_cached_sound_is_charged_as_sound_where_it_may_be(book: PriceBook) -> None:
    """Gemini: as much of the audio as possible counts as fresh, the rest as cached audio."""
    price = book.price("gemini/gemini-2.5-flash")
    assert price is not None

    few = price.cost_nano(Usage(1_000, 0, 800, audio_input_tokens=150))
    many = price.cost_nano(Usage(1_000, 0, 800, audio_input_tokens=900))
    heard = price.cost_nano(Usage(1_000, 0, audio_input_tokens=150), "priority")

    assert heard == 850 * 540 + 150 * 1_800
    assert few == 50 * 300 + 150 * 1_000 + 800 * 30
    assert many == 200 * 1_000 + 700 * 100 + 100 * 30


def test_a_search_costs_its_fee(book: PriceBook) -> None:
    """Ten dollars per thousand at Anthropic, in addition to the tokens."""
    price = book.price("claude-sonnet-4-5")
    assert price is not None

    assert price.cost_nano(Usage(10, 10, searches=3)) == 10 * 3_000 + 10 * 15_000 + 3 * 10**7


@given(price=prices, usage=usages)
def test_impossible_usage_is_never_cheap(price: Price, usage: Usage) -> None:
    """Parts that exceed their total are charged at least as much as any split of the total."""
    if usage.cache_read_input_tokens + usage.cache_write_input_tokens <= usage.input_tokens:
        return
    plain = structs.replace(
        usage,
        cache_read_input_tokens=0,
        cache_write_input_tokens=0,
        cache_write_1h_input_tokens=0,
    )

    assert price.cost_nano(usage) >= price.cost_nano(plain)


def test_a_bound_takes_the_dearest_of_what_can_be() -> None:
    """Requests up to this size may fall into any tier below, and be written to the cache."""
    assert TIERED.bound_nano(100, 0) == 2  # 100 at 20 pico
    assert TIERED.bound_nano(101, 0) == 5  # 101 at 40
    assert TIERED.bound_nano(2000, 0) == 80  # the cheap tier above 1000 may not be reached
    assert TIERED.bound_nano(0, 1000) == 50


@pytest.mark.parametrize(
    ("provider", "model", "litellm_model", "expected"),
    [
        ("openai", "gpt-4o", "openai/gpt-4o", "gpt-4o"),
        ("openai", "gpt-4o", "gpt-4o", "gpt-4o"),
        ("openai", "gpt-4o-2024-08-06", "openai/gpt-4o-2024-08-06", "gpt-4o-2024-08-06"),
        ("anthropic", "claude-sonnet-4-5", "anthropic/claude-sonnet-4-5", "claude-sonnet-4-5"),
        ("azure.ai.openai", "gpt-4o", "azure/gpt-4o", "azure/gpt-4o"),
        ("azure.ai.openai", "gpt-4o", "gpt-4o", "azure/gpt-4o"),
        ("gcp.gemini", "gemini-2.5-pro", "gemini/gemini-2.5-pro", "gemini/gemini-2.5-pro"),
        ("gcp.vertex_ai", "gemini-2.5-pro", "vertex_ai/gemini-2.5-pro", "gemini-2.5-pro"),
        (
            "aws.bedrock",
            "anthropic.claude-haiku-4-5-20251001-v1:0",
            "bedrock/anthropic.claude-haiku-4-5-20251001-v1:0",
            "anthropic.claude-haiku-4-5-20251001-v1:0",
        ),
        ("x_ai", "grok-4.20-0309-reasoning") + ("xai/grok-4.20-0309-reasoning",) * 2,
        ("openai", "gpt-4o-9999-01-01", "openai/gpt-4o-9999-01-01", None),
        ("openai", "gpt-4", "openai/gpt-4-my-own", "gpt-4"),
        ("openai", "claude-sonnet-4-5", "openai/claude-sonnet-4-5", None),
        ("groq", "gpt-4o", "groq/gpt-4o", None),
        ("groq", "gemini/gemini-2.5-pro", "groq/gemini/gemini-2.5-pro", None),
        ("openai", "gpt", "openai/gpt", None),
        ("openai", "", "", None),
    ],
)
def test_a_model_is_found_by_its_name_alone(
    book: PriceBook, provider: str, model: str, litellm_model: str, expected: str | None
) -> None:
    """A deployment has the price of exactly its model at its provider, or none."""
    price = book.find(provider, model, litellm_model, {}, "d")

    assert (price and price.id) == (expected and f"{book.date}/{expected}")


def test_prices_of_the_config_win(book: PriceBook) -> None:
    """Configured prices replace the book's; the rest is the book's."""
    given = {"input_cost_per_token": 2_000_000, "output_cost_per_token": 7_000_000}

    price = book.find("openai", "gpt-5.6", "openai/gpt-5.6", given, "east")

    listed = book.price("gpt-5.6")
    assert price is not None
    assert listed is not None
    assert (price.rates.input, price.rates.output, price.rates.reasoning) == (
        2_000_000,
        7_000_000,
        7_000_000,
    )
    assert price.rates.cache_write == listed.rates.cache_write
    assert (price.tiers[0].rates.input, price.tiers[0].rates.output) == (2_000_000, 7_000_000)
    assert price.max_output_tokens == listed.max_output_tokens
    half = book.find("openai", "gpt-5.6", "openai/gpt-5.6", {"input_cost_per_token": 1}, "east")
    assert half is not None
    assert half.rates.output == listed.rates.output
    assert half.rates.cache_read == 1


def test_long_prompts_have_a_price_in_the_config_too(book: PriceBook) -> None:
    """A configured tier starts where it says, and inherits the prices below it."""
    given = {
        "input_cost_per_token": 3,
        "output_cost_per_token": 9,
        "input_cost_per_token_above_200k_tokens": 6,
        "input_cost_per_token_priority": 99,
    }

    own = book.find("openai", "own", "openai/own", given, "d")
    known = book.find("openai", "gpt-5.6", "openai/gpt-5.6", given, "d")

    assert own is not None
    assert known is not None
    assert own.rates == Rates(3, 9, 3, 3, 3, 9)
    assert own.tiers == (RateTier(200_000, Rates(6, 9, 6, 6, 6, 9)),)
    assert [(tier.above, tier.rates.input) for tier in known.tiers] == [(200_000, 6), (272_000, 6)]
    assert [tier.rates.cache_write for tier in known.tiers] == [5_000_000, 10_000_000]


def test_a_model_of_ones_own_is_priced_by_the_config_alone(book: PriceBook) -> None:
    """Without a line in the book, cache and reasoning cost as much as other tokens; half a price is
    not a price."""
    given = {"input_cost_per_token": 3, "output_cost_per_token": 9}

    price = book.find("openai", "own", "openai/own", given, "d")

    assert price is not None
    assert price.rates == Rates(3, 9, 3, 3, 3, 9)
    assert book.find("openai", "own", "openai/own", {"input_cost_per_token": 3}, "d") is None
    assert book.find("openai", "own", "openai/own", {}, "d") is None


def test_a_service_tier_of_the_config(book: PriceBook) -> None:
    """It has its configured price, by prompt size too; the book's may be lower."""
    given = {
        "input_cost_per_token": 3,
        "output_cost_per_token": 9,
        "input_cost_per_audio_token": 30,
        "input_cost_per_token_above_200k_tokens": 6,
        "input_cost_per_token_priority": 5,
        "output_cost_per_token_priority": 15,
        "input_cost_per_token_above_200k_tokens_priority": 10,
    }

    own = book.find("openai", "own", "openai/own", given, "d")
    cheap = {key: pico for key, pico in given.items() if "priority" not in key}
    known = book.find("openai", "gpt-5.6", "openai/gpt-5.6", cheap, "d")

    assert own is not None
    assert known is not None
    priority = own.services["priority"]
    assert priority.rates == Rates(5, 15, 5, 5, 5, 15, 30)
    assert priority.tiers == (RateTier(200_000, Rates(10, 15, 10, 10, 10, 15, 30)),)
    assert known.services == {}
    assert not known.knows("priority")
    assert own.id != replace(own, id=known.id).id


def test_free_input_is_free_from_the_cache_too(book: PriceBook) -> None:
    """A configured price of zero also makes free what the book prices separately."""
    given = {"input_cost_per_token": 0, "output_cost_per_token": 0}

    price = book.find("anthropic", "claude-sonnet-4-5", "claude-sonnet-4-5", given, "d")
    spoken = book.find("openai", "gpt-audio", "gpt-audio", given, "d")

    assert price is not None
    assert spoken is not None
    assert price.bound_nano(10**6, 10**6) == 0
    assert spoken.bound_nano(10**6, 10**6, Terms("", sound=True, speech=True)) == 0


def test_a_price_id_names_all_prices(book: PriceBook) -> None:
    """Equal prices have equal ids; one pico-dollar or another deployment makes another id."""
    given = {"input_cost_per_token": 3, "output_cost_per_token": 9}

    def price_id(overrides: dict[str, int], deployment: str = "d") -> str:
        price = book.find("openai", "own", "openai/own", overrides, deployment)
        assert price is not None
        return price.id

    assert price_id(given) == price_id(dict(given))
    assert price_id(given).startswith("config/d/")
    others = {
        price_id({**given, "output_cost_per_token": 10}),
        price_id({**given, "cache_read_input_token_cost": 1}),
        price_id(given, "e"),
        price_id(given),
    }
    assert len(others) == 4


def test_an_amount_is_computed_again_from_its_price_id(book: PriceBook) -> None:
    """The id in a row leads to the book and to the line that priced it."""
    price = book.find("gcp.gemini", "gemini-2.5-pro", "gemini/gemini-2.5-pro", {}, "d")
    assert price is not None
    date, _, name = price.id.partition("/")

    again = PriceBook.load(date).price(name)

    assert again == price
    with pytest.raises(ConfigError, match="2020-01-01"):
        PriceBook.load("2020-01-01")


def test_every_line_of_the_book_is_sound(book: PriceBook) -> None:
    """Each line has a price or a reason, cached reads cost no more than input, and tiers ascend."""
    for name, entry in book.entries.items():
        price = book.price(name)
        assert (price is None) == bool(entry.unpriced), name
        if price is None:
            continue
        above = [tier.above for tier in price.tiers]
        assert above == sorted(set(above)), name
        assert price.rates.cache_read <= price.rates.input + 1, name
        assert 0 <= price.rates.dearest_input() <= 10**10, name


def test_the_price_of_a_batch(book: PriceBook) -> None:
    """It is the listed one of the same model, or the configured one, or else the usual price."""
    mini = book.price("gpt-4o-mini")
    assert mini is not None
    assert (mini.batched.rates.input, mini.batched.rates.output) == (75_000, 300_000)
    assert mini.batched.id == mini.id
    unlisted = book.price("gpt-3.5-turbo-instruct")
    assert unlisted is not None
    assert unlisted.batched is unlisted
    keys = {"input_cost_per_token": 10, "output_cost_per_token": 20}
    batches = {"input_cost_per_token_batches": 4, "output_cost_per_token_batches": 8}
    own = book.find("openai", "mine", "openai/mine", {**keys, **batches}, "d")
    plain = book.find("openai", "gpt-4o-mini", "openai/gpt-4o-mini", keys, "d")
    assert own is not None
    assert plain is not None
    assert (own.rates.input, own.batched.rates.input, own.batched.rates.output) == (10, 4, 8)
    assert plain.batched.rates.input == 10
    assert own.batched.bound_nano(1000, 1000) == 12


def test_a_batch_is_rounded_up_once(book: PriceBook) -> None:
    """The sum of many answers in pico-USD is what a single answer of all their tokens costs."""
    mini = book.price("gpt-4o-mini")
    assert mini is not None
    one = Usage(1, 1)
    assert 1000 * mini.batched.cost_pico(one) == mini.batched.cost_pico(Usage(1000, 1000))
