"""Reported usage, parsed into one shape."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanledger.pricing.reported import (
    AnthropicUsage,
    OpenAIUsage,
    anthropic_service,
    from_anthropic,
    from_openai,
)
from spanledger.pricing.usage import PROMPT_MISSING, Usage, estimate_tokens


@dataclass(frozen=True)
class Case:
    """A payload as a server sends it, and its meaning."""

    name: str
    payload: dict[str, Any]
    usage: Usage | None


def unprompted(prompt: int = 0) -> Usage:
    """Five tokens of an answer whose prompt was not counted."""
    return Usage(prompt, 5, ambiguity=PROMPT_MISSING)


OPENAI = [
    Case(
        "OpenAI, cached prompt and reasoning",
        {
            "prompt_tokens": 2006,
            "completion_tokens": 300,
            "total_tokens": 2306,
            "prompt_tokens_details": {"cached_tokens": 1920, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": 192,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        },
        Usage(2006, 300, 1920, 0, 192),
    ),
    Case(
        "OpenAI with prompt-cache breakpoints",
        {
            "prompt_tokens": 5000,
            "completion_tokens": 10,
            "total_tokens": 5010,
            "prompt_tokens_details": {"cached_tokens": 1000, "cache_write_tokens": 3000},
        },
        Usage(5000, 10, 1000, 3000),
    ),
    Case("embeddings", {"prompt_tokens": 8, "total_tokens": 8}, Usage(8, 0)),
    Case(
        "nulls where a server has nothing to say",
        {
            "prompt_tokens": 5,
            "completion_tokens": 7,
            "total_tokens": None,
            "prompt_tokens_details": None,
            "completion_tokens_details": {"reasoning_tokens": None},
        },
        Usage(5, 7),
    ),
    Case(
        "floats",
        {"prompt_tokens": 5.0, "completion_tokens": 6.2, "total_tokens": 12.0},
        Usage(5, 7),
    ),
    Case(
        "DeepSeek",
        {
            "prompt_tokens": 100,
            "completion_tokens": 20,
            "total_tokens": 120,
            "prompt_cache_hit_tokens": 64,
            "prompt_cache_miss_tokens": 36,
        },
        Usage(100, 20, 64),
    ),
    Case(
        "Moonshot",
        {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120, "cached_tokens": 64},
        Usage(100, 20, 64),
    ),
    Case(
        "xAI: completion_tokens lacks the reasoning",
        {
            "prompt_tokens": 37,
            "completion_tokens": 530,
            "total_tokens": 1400,
            "completion_tokens_details": {"reasoning_tokens": 833},
        },
        Usage(37, 1363, reasoning_output_tokens=833),
    ),
    Case(
        "Gemini's own OpenAI endpoint: thoughts are only in the total",
        {"prompt_tokens": 9, "completion_tokens": 40, "total_tokens": 1049},
        Usage(9, 1040, reasoning_output_tokens=1000),
    ),
    Case(
        "Gemini by LiteLLM",
        {
            "prompt_tokens": 250_000,
            "completion_tokens": 1200,
            "total_tokens": 251_200,
            "prompt_tokens_details": {"cached_tokens": 200_000, "text_tokens": 50_000},
            "completion_tokens_details": {"reasoning_tokens": 1000, "text_tokens": 200},
        },
        Usage(250_000, 1200, 200_000, 0, 1000),
    ),
    Case(
        "Anthropic by LiteLLM",
        {
            "prompt_tokens": 90,
            "completion_tokens": 5,
            "total_tokens": 95,
            "prompt_tokens_details": {
                "cached_tokens": 10,
                "cache_creation_tokens": 50,
                "cache_creation_token_details": {
                    "ephemeral_5m_input_tokens": 20,
                    "ephemeral_1h_input_tokens": 30,
                },
            },
            "cache_creation_input_tokens": 50,
            "cache_read_input_tokens": 10,
        },
        Usage(90, 5, 10, 50, 0, 30),
    ),
    Case(
        "a prompt that leaves its cached tokens out",
        {
            "prompt_tokens": 30,
            "completion_tokens": 5,
            "cache_read_input_tokens": 10_000,
            "cache_creation_input_tokens": 50,
        },
        Usage(10_080, 5, 10_000, 50),
    ),
    Case(
        "details that make no sense cost the full price",
        {
            "prompt_tokens": 30,
            "completion_tokens": 5,
            "prompt_tokens_details": {"cached_tokens": -3},
            "completion_tokens_details": [7],
        },
        Usage(30, 5),
    ),
    Case(
        "sound in both directions",
        {
            "prompt_tokens": 130,
            "completion_tokens": 110,
            "total_tokens": 240,
            "prompt_tokens_details": {"audio_tokens": 120, "cached_tokens": 0},
            "completion_tokens_details": {"audio_tokens": 90, "reasoning_tokens": 0},
        },
        Usage(130, 110, audio_input_tokens=120, audio_output_tokens=90),
    ),
    Case(
        "searches, Gemini by LiteLLM",
        {
            "prompt_tokens": 10,
            "completion_tokens": 20,
            "total_tokens": 30,
            "prompt_tokens_details": {"web_search_requests": 2},
        },
        Usage(10, 20, searches=2),
    ),
    Case(
        "searches, Anthropic by LiteLLM",
        {
            "prompt_tokens": 10,
            "completion_tokens": 20,
            "server_tool_use": {"web_search_requests": 3},
        },
        Usage(10, 20, searches=3),
    ),
    Case("nothing", {}, None),
    Case("zeros", {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, None),
    Case("text alone", {"prompt_tokens": "5", "completion_tokens": "5"}, None),
    Case("a prompt alone", {"prompt_tokens": 5}, Usage(5)),
    Case("not finite", {"prompt_tokens": 5, "completion_tokens": float("nan")}, Usage(5)),
    Case("an answer and a total", {"completion_tokens": 5, "total_tokens": 9}, unprompted(4)),
    Case("text", {"prompt_tokens": "5", "completion_tokens": 5}, unprompted()),
    Case("truth", {"prompt_tokens": True, "completion_tokens": 5}, unprompted()),
    Case("negative", {"prompt_tokens": -5, "completion_tokens": 5}, unprompted()),
    Case("absurd", {"prompt_tokens": 10**18, "completion_tokens": 5}, unprompted()),
]

ANTHROPIC = [
    Case(
        "cache read and writes of both ages",
        {
            "input_tokens": 21,
            "output_tokens": 393,
            "cache_creation_input_tokens": 556,
            "cache_read_input_tokens": 188_086,
            "cache_creation": {"ephemeral_5m_input_tokens": 456, "ephemeral_1h_input_tokens": 100},
            "service_tier": "standard",
        },
        Usage(188_663, 393, 188_086, 556, 0, 100),
    ),
    Case("no cache", {"input_tokens": 12, "output_tokens": 6}, Usage(12, 6)),
    Case(
        "ages without their sum, and thinking",
        {
            "input_tokens": 1,
            "output_tokens": 50,
            "cache_creation": {"ephemeral_5m_input_tokens": 3, "ephemeral_1h_input_tokens": 4},
            "output_tokens_details": {"thinking_tokens": 40},
        },
        Usage(8, 50, 0, 7, 40, 4),
    ),
    Case(
        "nulls",
        {
            "input_tokens": 12,
            "output_tokens": 6,
            "cache_creation_input_tokens": None,
            "cache_creation": None,
        },
        Usage(12, 6),
    ),
    Case(
        "searches",
        {
            "input_tokens": 12,
            "output_tokens": 6,
            "server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 1},
        },
        Usage(12, 6, searches=2),
    ),
    Case(
        "a compacted context, whose tokens are in no total",
        {
            "input_tokens": 23_000,
            "output_tokens": 1_000,
            "iterations": [
                {
                    "type": "compaction",
                    "input_tokens": 170_000,
                    "output_tokens": 3_500,
                    "cache_read_input_tokens": 10_000,
                },
                {"type": "message", "input_tokens": 23_000, "output_tokens": 1_000},
                None,
            ],
        },
        Usage(203_000, 4_500, 10_000),
    ),
    Case("no output", {"input_tokens": 12}, None),
    Case("garbage", {"input_tokens": [], "output_tokens": []}, None),
    Case("an answer alone", {"input_tokens": [], "output_tokens": 5}, unprompted()),
]


@pytest.mark.parametrize("case", OPENAI, ids=lambda case: case.name)
def test_openai_usage_is_read(case: Case) -> None:
    """Each server's way of counting on OpenAI's wire ends in the same shape, or in None."""
    assert from_openai(case.payload) == case.usage


@pytest.mark.parametrize("case", ANTHROPIC, ids=lambda case: case.name)
def test_anthropic_usage_is_read(case: Case) -> None:
    """Anthropic's input is only what is fresh; ours includes cached tokens."""
    assert from_anthropic(case.payload) == case.usage


def test_usage_is_read_from_any_form() -> None:
    """A decoded object, a struct within a response and raw JSON give the same."""
    payload, expected = OPENAI[0].payload, OPENAI[0].usage
    raw = json.dumps(payload).encode()

    assert from_openai(raw) == expected
    assert from_openai(msgspec.Raw(raw)) == expected
    assert from_openai(msgspec.json.decode(raw, type=OpenAIUsage)) == expected
    message = json.dumps(ANTHROPIC[0].payload).encode()
    assert msgspec.json.decode(message, type=AnthropicUsage).to_usage() == ANTHROPIC[0].usage


@pytest.mark.parametrize(
    "raw", [None, 5, "usage", [], b"", b"{", b"null", b'"x"', b"\xff", b"[" * 100_000]
)
def test_garbage_is_no_usage(raw: object) -> None:
    """Whatever is in place of usage, reading it does not fail."""
    assert from_openai(raw) is None
    assert from_anthropic(raw) is None


@pytest.mark.parametrize(
    ("usage", "service"),
    [
        (None, ""),
        ({"input_tokens": 1}, ""),
        ({"speed": None, "inference_geo": None, "service_tier": "priority"}, ""),
        ({"speed": "standard", "inference_geo": "not_available"}, "standard"),
        ({"speed": "fast", "inference_geo": "global"}, "fast"),
        ({"inference_geo": "us"}, "us"),
        ({"speed": "fast", "inference_geo": "us"}, "fast us"),
        ({"speed": ["fast"], "inference_geo": {}}, "standard"),
    ],
)
def test_how_anthropic_served_is_told(usage: dict[str, Any] | None, service: str) -> None:
    """Fast mode and regional processing have their price; capacity bought in advance has none."""
    assert anthropic_service(usage) == service


def test_tokens_are_estimated_by_bytes() -> None:
    """Four bytes per token, rounded up."""
    assert [estimate_tokens(n) for n in (0, 1, 4, 5)] == [0, 1, 1, 2]


def test_parts_that_add_up_to_the_impossible_are_no_usage() -> None:
    """Then the answer itself is counted: the caller is neither overcharged nor served for free."""
    parts = {"completion_tokens_details": {"reasoning_tokens": 999_999_999}}
    cached = {"prompt_tokens_details": {"cached_tokens": 999_999_999}}
    base = {"prompt_tokens": 10, "completion_tokens": 5}
    assert from_openai(base | parts) is None
    assert from_openai(base | cached) is None
    anthropic = {"input_tokens": 10, "output_tokens": 5, "cache_read_input_tokens": 999_999_999}
    assert from_anthropic(anthropic) is None


counts = st.sampled_from([0, 0, 1, 2, 5, 10, -1, 2.5, True, None, "7", 10**9, 10**9 + 1])


def details(*names: str) -> st.SearchStrategy[Any]:
    """Some of these counts as an object, or what is not an object."""
    some = st.dictionaries(st.sampled_from(names), counts, max_size=3)
    return st.one_of(st.none(), some, st.sampled_from([[], 3, "x"]))


@given(
    payload=st.fixed_dictionaries(
        {"prompt_tokens": counts, "completion_tokens": counts},
        optional={
            "total_tokens": counts,
            "prompt_tokens_details": details("cached_tokens", "audio_tokens", "cache_write_tokens"),
            "completion_tokens_details": details(
                "reasoning_tokens", "audio_tokens", "rejected_prediction_tokens", "other"
            ),
            "cached_tokens": counts,
            "cost": counts,
        },
    ),
    adds_up=st.booleans(),
)
def test_the_usual_form_is_read_as_the_tables_read_it(
    payload: dict[str, Any], adds_up: bool
) -> None:
    """Reading the usual form directly is a shorter way to the same usage, and changes none."""
    both = payload["prompt_tokens"], payload["completion_tokens"]
    if adds_up and all(type(count) is int for count in both):
        payload["total_tokens"] = sum(both)
    usage = msgspec.convert(payload, OpenAIUsage)

    assert usage.to_usage() == usage.by_the_tables()
