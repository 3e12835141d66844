"""Usage as people received it, and its cost to the nano-dollar."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from spanledger.pricing import reported
from spanledger.pricing.forms import (
    AMBIGUITIES,
    CACHE_UNPLACED,
    PARTS_MISMATCH,
    PLACES,
    TOTAL_MISMATCH,
    USAGE_FORMS,
)
from spanledger.pricing.price import Price, Rates
from spanledger.pricing.reported import OpenAIUsage, add_counts, from_anthropic, from_openai
from spanledger.pricing.usage import COUNT_DECREASED, PROMPT_MISSING, TOTAL_ALONE, Usage

PRICE = Price(
    "test/model",
    Rates(
        input=1_000_000,
        output=10_000_000,
        cache_read=100_000,
        cache_write=1_250_000,
        cache_write_1h=2_000_000,
        reasoning=10_000_000,
        audio_input=4_000_000,
        audio_output=20_000_000,
    ),
    search=5_000_000_000,
)
"""Pico-USD: 1,000 nano-USD per input token, 100 cached, 1,250 written, 10,000 output."""
IN, READ, WRITE, HOUR, OUT = 1_000, 100, 1_250, 2_000, 10_000


@dataclass(frozen=True)
class Case:
    """A usage object as it was reported, and its cost in nano-USD."""

    source: str
    payload: dict[str, Any]
    nano: int
    ambiguity: str = ""


def told(prompt: int, completion: int, total: int | None = None, **more: Any) -> dict[str, Any]:
    """A usage object in OpenAI's names."""
    sums = {} if total is None else {"total_tokens": total}
    return {"prompt_tokens": prompt, "completion_tokens": completion, **sums, **more}


def cached(tokens: int, **more: Any) -> dict[str, Any]:
    """`prompt_tokens_details`."""
    return {"prompt_tokens_details": {"cached_tokens": tokens, **more}}


def thought(tokens: int) -> dict[str, Any]:
    """`completion_tokens_details`."""
    return {"completion_tokens_details": {"reasoning_tokens": tokens}}


def anthropic(read: int, write: int) -> dict[str, Any]:
    """The cache in Anthropic's names."""
    return {"cache_read_input_tokens": read, "cache_creation_input_tokens": write}


CASES = (
    Case(
        "Portkey-AI/gateway#1211: cached input is only in the total",
        told(12_000, 19, 22_555, **anthropic(10_536, 0)),
        12_000 * IN + 10_536 * READ + 19 * OUT,
    ),
    Case(
        "Portkey-AI/gateway#1754: written input too",
        told(30, 5, 30 + 5 + 10_000 + 50, **anthropic(10_000, 50)),
        30 * IN + 10_000 * READ + 50 * WRITE + 5 * OUT,
    ),
    Case(
        "BerriAI/litellm#15270: reads are in the prompt, writes only in the total",
        told(10_500, 100, 12_600, **anthropic(10_000, 2_000)),
        500 * IN + 10_000 * READ + 2_000 * WRITE + 100 * OUT,
    ),
    Case(
        "BerriAI/litellm#11364: everything inside, under both names",
        told(
            98_805,
            5_120,
            103_925,
            **cached(66_360, cache_creation_tokens=32_435),
            **anthropic(66_360, 32_435),
            **thought(1_710),
        ),
        10 * IN + 66_360 * READ + 32_435 * WRITE + 5_120 * OUT,
    ),
    Case(
        "zenml-io/kitaru#464: the cache is in neither prompt nor total",
        told(7, 200, 207, **anthropic(10_000, 300)),
        7 * IN + 10_000 * READ + 300 * WRITE + 200 * OUT,
    ),
    Case(
        "browser-use/browser-use#4294: the total lacks what the prompt has",
        told(10_500, 200, 700, **anthropic(10_000, 0)),
        500 * IN + 10_000 * READ + 200 * OUT,
    ),
    Case(
        "Wei-Shaw/sub2api#5771: xAI's reasoning is outside the answer",
        told(10_120, 1_499, 14_428, **cached(128), **thought(2_809)),
        9_992 * IN + 128 * READ + (1_499 + 2_809) * OUT,
    ),
    Case(
        "vercel/ai#12425: xAI, an answer of one token",
        told(12, 1, 399, **thought(386)),
        12 * IN + 387 * OUT,
    ),
    Case(
        "promptfoo/promptfoo#9507: xAI where reasoning is inside",
        told(500, 500, 1_000, **thought(200)),
        500 * IN + 500 * OUT,
    ),
    Case(
        "router-for-me/CLIProxyAPI#5733: nothing but thoughts",
        told(21, 0, 81, **thought(60)),
        21 * IN + 60 * OUT,
    ),
    Case(
        "LiveBench/LiveBench#503: reasoning outside both, without a total",
        told(100, 237, **thought(1_901)),
        100 * IN + (237 + 1_901) * OUT,
    ),
    Case(
        "mozilla-ai/any-llm#1290: Gemini's thoughts are only in the total",
        told(20, 198, 623),
        20 * IN + 603 * OUT,
    ),
    Case(
        "Gemini's OpenAI endpoint with a cached prompt: a surplus smaller than the cache",
        told(9_000, 40, 10_040, **cached(8_000)),
        1_000 * IN + 8_000 * READ + 1_040 * OUT,
    ),
    Case(
        "bgeneto/open-webui-cost-tracker#6: Perplexity Sonar Deep Research",
        told(
            108,
            3_256,
            3_364,
            citation_tokens=7_299,
            num_search_queries=74,
            reasoning_tokens=73_248,
        ),
        (108 + 7_299) * IN + (3_256 + 73_248) * OUT + 74 * 5_000_000,
    ),
    Case(
        "SGLang: reasoning at the top, inside the answer",
        told(100, 50, 150, prompt_tokens_details=None, reasoning_tokens=30),
        100 * IN + 50 * OUT,
    ),
    Case(
        "DeepSeek API reference",
        told(100, 20, 120, prompt_cache_hit_tokens=64, prompt_cache_miss_tokens=36),
        36 * IN + 64 * READ + 20 * OUT,
    ),
    Case(
        "aallan/vera-bench#97: Moonshot's cached tokens are at the top",
        told(19, 21, 40, cached_tokens=10),
        9 * IN + 10 * READ + 21 * OUT,
    ),
    Case(
        "Bike4Mind/bike4mind#1089: Moonshot reports it twice",
        told(2_989, 5, 2_994, cached_tokens=2_989, **cached(2_989)),
        2_989 * READ + 5 * OUT,
    ),
    Case(
        "0xPlaygrounds/rig#1724: Mistral's own name",
        told(1_013, 30, 1_043, num_cached_tokens=1_008),
        5 * IN + 1_008 * READ + 30 * OUT,
    ),
    Case(
        "vercel/ai#14382: Mistral's name without an s",
        told(1_013, 30, 1_043, prompt_token_details={"cached_tokens": 1_008}),
        5 * IN + 1_008 * READ + 30 * OUT,
    ),
    Case(
        "BerriAI/litellm#40090: Qwen writes its cache",
        told(
            2_000,
            10,
            2_010,
            **cached(0, cache_creation_input_tokens=1_889, cache_type="ephemeral"),
        ),
        111 * IN + 1_889 * WRITE + 10 * OUT,
    ),
    Case(
        "mozilla-ai/any-llm#622: OpenRouter",
        told(
            13_559,
            122,
            13_681,
            **cached(0, audio_tokens=0, video_tokens=0),
            **thought(0),
            cost=0.017558,
            is_byok=False,
            cost_details={"upstream_inference_cost": None},
        ),
        13_559 * IN + 122 * OUT,
    ),
    Case(
        "aplisay/llm-agent#345: OpenRouter's writes are in the prompt",
        told(5_000, 10, 5_010, **cached(1_000, cache_write_tokens=3_000)),
        1_000 * IN + 1_000 * READ + 3_000 * WRITE + 10 * OUT,
    ),
    Case(
        "QuantumNous/new-api: both sets of names, one of them zero, and writes by age",
        told(
            1_000,
            50,
            1_050,
            **cached(100, cached_creation_tokens=400),
            input_tokens=0,
            output_tokens=0,
            input_tokens_details=None,
            claude_cache_creation_5_m_tokens=300,
            claude_cache_creation_1_h_tokens=100,
        ),
        500 * IN + 100 * READ + 300 * WRITE + 100 * HOUR + 50 * OUT,
    ),
    Case(
        "OpenAI Responses API's names",
        {
            "input_tokens": 2_006,
            "output_tokens": 300,
            "total_tokens": 2_306,
            "input_tokens_details": {"cached_tokens": 1_920},
            "output_tokens_details": {"reasoning_tokens": 192},
        },
        86 * IN + 1_920 * READ + 300 * OUT,
    ),
    Case(
        "huaweicloud, langgenius/dify-plugin-sdks#188: nulls among the details",
        told(
            4_282,
            46,
            4_328,
            completion_tokens_details=None,
            **cached(1_024, audio_tokens=None),
        ),
        3_258 * IN + 1_024 * READ + 46 * OUT,
    ),
    Case(
        "OpenAI audio guide: audio in both directions",
        told(
            130,
            110,
            240,
            prompt_tokens_details={"audio_tokens": 120, "cached_tokens": 0},
            completion_tokens_details={"audio_tokens": 90},
        ),
        10 * IN + 120 * 4_000 + 20 * OUT + 90 * 20_000,
    ),
    Case("a total of zero is not a total", told(100, 20, 0), 100 * IN + 20 * OUT),
    Case("embeddings", {"prompt_tokens": 8, "total_tokens": 8}, 8 * IN),
    # Usage in no known form is charged at the higher reading.
    Case(
        "Copilot on CultivateLabs/raif#470: Gemini's tools read more than the prompt",
        told(1_000, 50, 1_500, **thought(300)),
        1_000 * IN + 500 * OUT,
        TOTAL_MISMATCH,
    ),
    Case(
        "a total that the cache explains only in part",
        told(12_000, 19, 15_019, **cached(1_000)),
        11_000 * IN + 1_000 * READ + 3_019 * OUT,
        TOTAL_MISMATCH,
    ),
    Case("a total below its parts", told(100, 20, 50), 100 * IN + 20 * OUT, TOTAL_MISMATCH),
    Case(
        "a total below its parts, with a cache",
        told(100, 20, 50, **cached(40)),
        100 * IN + 40 * READ + 20 * OUT,
        TOTAL_MISMATCH,
    ),
    Case(
        "a cache larger than the prompt, and a total that is neither sum",
        told(100, 20, 1_500, **cached(400)),
        100 * IN + 400 * READ + 1_000 * OUT,
        TOTAL_MISMATCH,
    ),
    Case(
        "more sound than prompt",
        told(10, 5, 15, prompt_tokens_details={"audio_tokens": 12}),
        10 * 4_000 + 5 * OUT,
        PARTS_MISMATCH,
    ),
    Case(
        "more reasoning and speech than answer",
        told(
            10,
            50,
            60,
            completion_tokens_details={"reasoning_tokens": 30, "audio_tokens": 30},
        ),
        10 * IN + 50 * 20_000,
        PARTS_MISMATCH,
    ),
    Case(
        "the cache in Anthropic's names, and no total",
        told(12_000, 19, **anthropic(10_536, 0)),
        12_000 * IN + 10_536 * READ + 19 * OUT,
        CACHE_UNPLACED,
    ),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.source)
def test_reported_usage_costs_what_was_billed(case: Case) -> None:
    """Each form seen in public reports has its correct cost; any other is charged the higher
    way."""
    usage = from_openai(case.payload)

    assert usage is not None
    assert (PRICE.cost_nano(usage), usage.ambiguity) == (case.nano, case.ambiguity)


@pytest.mark.parametrize("form", USAGE_FORMS, ids=lambda form: form.name)
def test_every_form_decides(form: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each row of the table changes the cost of some report, or whether it is ambiguous."""
    usual = [from_openai(case.payload) for case in CASES]
    inside = form is USAGE_FORMS[0]
    monkeypatch.setattr(
        reported, "USAGE_FORMS", tuple(row for row in USAGE_FORMS if row is not form)
    )

    without = [from_openai(case.payload) for case in CASES]

    assert inside or without != usual
    assert form.sources


def nested(path: str, value: object) -> dict[str, Any]:
    """An object with a value at a path."""
    head, _, rest = path.partition(".")
    return {head: nested(rest, value) if rest else value}


@pytest.mark.parametrize(
    ("count", "path"),
    [(count, place.path) for count, places in PLACES.items() for place in places],
)
def test_every_place_is_read(count: str, path: str) -> None:
    """A count is found in each place of the table."""
    assert path.partition(".")[0] in OpenAIUsage.__struct_fields__
    base = {} if count in ("prompt", "completion", "total") else {"prompt_tokens": 100}
    base |= {} if count in ("prompt", "completion", "total") else {"completion_tokens": 100}
    expected = {
        "prompt": Usage(7),
        "completion": Usage(0, 7, ambiguity=PROMPT_MISSING),
        "total": Usage(0, 7, ambiguity=TOTAL_ALONE, guessed_output_tokens=7),
        "read": Usage(100, 100, 7),
        "write": Usage(100, 100, 0, 7),
        "write_1h": Usage(100, 100, 0, 7, 0, 7),
        "reasoning": Usage(100, 100, reasoning_output_tokens=7),
        "citations": Usage(107, 100),
        "audio_input": Usage(100, 100, audio_input_tokens=7),
        "audio_output": Usage(100, 100, audio_output_tokens=7),
        "searches": Usage(100, 100, searches=7),
    }[count]

    usage = from_openai(base | {"total_tokens": 200} | nested(path, 7) if base else nested(path, 7))

    assert usage == expected


def test_every_ambiguity_is_explained() -> None:
    """The page has a line for each."""
    assert set(AMBIGUITIES) == {
        TOTAL_MISMATCH,
        CACHE_UNPLACED,
        PARTS_MISMATCH,
        PROMPT_MISSING,
        TOTAL_ALONE,
        COUNT_DECREASED,
    }


FIRST = Usage(1_000, 1)
FULL = Usage(1_000, 50, 800)


@pytest.mark.parametrize(
    ("told_in_turn", "expected"),
    [
        ((FIRST, FULL), FULL),
        ((FULL, FULL), FULL),
        ((FULL, Usage(1_000, 0)), FULL),
        ((FULL, Usage(0, 60, ambiguity=PROMPT_MISSING)), Usage(1_000, 60, 800)),
        ((Usage(0, 60, ambiguity=PROMPT_MISSING), FIRST), Usage(1_000, 60, 0, ambiguity="?")),
        ((Usage(1_000, 20, 800), Usage(1_000, 50)), FULL),
        ((Usage(900, 20, 800), Usage(1_000, 50)), Usage(1_000, 50)),
        ((FULL, Usage(1_000, 40, 800)), Usage(1_000, 50, 800, ambiguity="?")),
        ((FULL, Usage(10, 60)), Usage(1_000, 60, 800, ambiguity="?")),
        ((FULL, Usage(1_000, 40, 800), Usage(1_000, 90, 800)), Usage(1_000, 90, 800)),
        ((FULL, Usage(0, 1_060, ambiguity=TOTAL_ALONE)), FULL),
    ],
)
def test_counts_of_a_stream_are_cumulative(
    told_in_turn: tuple[Usage, ...], expected: Usage
) -> None:
    """The last count is used; a zero replaces nothing, and after a decrease the larger one is kept
    and reported."""
    usage = told_in_turn[0]
    for later in told_in_turn[1:]:
        usage = usage.followed_by(later)

    if expected.ambiguity:
        assert usage.ambiguity == COUNT_DECREASED
        assert (usage.input_tokens, usage.output_tokens) == (
            expected.input_tokens,
            expected.output_tokens,
        )
    else:
        assert usage == expected


@pytest.mark.parametrize(
    ("source", "events", "usage"),
    [
        (
            "envoyproxy/ai-gateway#1631",
            (
                {"input_tokens": 1_000, "output_tokens": 1},
                {"input_tokens": 0, "output_tokens": 50},
            ),
            Usage(1_000, 50),
        ),
        (
            "envoyproxy/ai-gateway#2239",
            (
                {"input_tokens": 20, "cache_read_input_tokens": 900, "output_tokens": 1},
                {
                    "input_tokens": 20,
                    "cache_read_input_tokens": 900,
                    "cache_creation_input_tokens": 0,
                    "output_tokens": 50,
                },
            ),
            Usage(920, 50, 900),
        ),
        (
            "sgl-project/sglang#20685",
            ({"input_tokens": 0, "output_tokens": 0}, {"input_tokens": 8, "output_tokens": 16}),
            Usage(8, 16),
        ),
        (
            "MiXaiLL76/auto_ai_router#142",
            ({"input_tokens": 0, "output_tokens": 0}, {"output_tokens": 16}),
            Usage(0, 16, ambiguity=PROMPT_MISSING),
        ),
        (
            "tensorzero/tensorzero#5481",
            ({"input_tokens": 25, "output_tokens": 1}, {"output_tokens": 15}),
            Usage(25, 15),
        ),
        (
            "a zero within an object, and nulls",
            (
                {
                    "input_tokens": 10,
                    "output_tokens": 1,
                    "cache_creation": {"ephemeral_1h_input_tokens": 40},
                    "server_tool_use": {"web_search_requests": 2},
                },
                {
                    "input_tokens": None,
                    "output_tokens": 9,
                    "cache_creation": {
                        "ephemeral_1h_input_tokens": 0,
                        "ephemeral_5m_input_tokens": 0,
                    },
                    "server_tool_use": None,
                },
            ),
            Usage(50, 9, 0, 40, 0, 40, searches=2),
        ),
    ],
)
def test_anthropic_counts_add_up(
    source: str, events: tuple[dict[str, Any], ...], usage: Usage
) -> None:
    """Each count has its last reported value, except zeros."""
    told_so_far: dict[str, Any] = {}
    for event in events:
        add_counts(told_so_far, event)

    assert from_anthropic(told_so_far) == usage, source
