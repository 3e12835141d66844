"""The tool that writes the book: what it copies from the list, and what it leaves unpriced."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    """The tool as a module."""
    spec = importlib.util.spec_from_file_location("tool", ROOT / "tools" / "update_prices.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_book_is_what_the_tool_writes(
    tool: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody edits a book by hand: the recorded version gives the same bytes."""
    if importlib.util.find_spec("litellm") is None:
        pytest.skip("LiteLLM is not installed")

    assert tool.check() == 0
    said = capsys.readouterr().out
    if "not compared" in said:
        pytest.skip(said.strip())
    assert "is current" in said


def test_a_changed_book_is_noticed(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One pico-dollar changed by hand fails the check."""
    text = max(tool.BOOKS.glob("*.json")).read_text(encoding="utf-8")
    changed = text.replace('"output": 10000000', '"output": 10000001', 1)
    monkeypatch.setattr(tool, "BOOKS", tmp_path)
    monkeypatch.setattr(tool, "source_version", lambda: json.loads(text)["source"])
    (tmp_path / "2026-11-23.json").write_text(changed, encoding="utf-8")

    assert changed != text
    assert tool.check() == 1


def model(**more: Any) -> dict[str, Any]:
    """A model as LiteLLM lists it."""
    base = {"litellm_provider": "openai", "mode": "chat", "max_input_tokens": 9}
    prices = {"input_cost_per_token": Decimal("2e-6"), "output_cost_per_token": Decimal("8e-6")}
    return base | prices | more


def test_a_book_is_sorted_and_has_a_model_a_line(tool: ModuleType) -> None:
    """In a diff between two dates, each changed model is one changed line."""
    models = {"b": model(), "a": model(), "films": model(mode="video_generation")}

    text = tool.book_text("2026-11-23", models, "litellm 1")

    head, *lines, end = text.splitlines()
    assert head == '{"date": "2026-11-23", "source": "litellm 1", "count": 2, "models": {'
    assert [line.partition(":")[0] for line in lines] == ['"a"', '"b"']
    assert end == "}}"
    assert json.loads(text)["models"]["a"] == {
        "provider": "openai",
        "max_input": 9,
        "input": 2_000_000,
        "output": 8_000_000,
    }


@pytest.mark.parametrize(
    ("listed", "rates"),
    [
        ({"input_cost_per_token": Decimal("1.5000020000000002e-05")}, {"input": 15_000_020}),
        ({"input_cost_per_token": Decimal("1.1e-12")}, {"input": 2}),
        ({"cache_creation_input_token_cost": 0}, {}),
        ({"cache_read_input_token_cost": 0}, {"cache_read": 0}),
        ({"output_cost_per_reasoning_token": Decimal("8e-6")}, {}),
        ({"output_cost_per_reasoning_token": Decimal("9e-6")}, {"reasoning": 9_000_000}),
        ({"litellm_provider": "fireworks_ai"}, {"cache_read": 1_000_000}),
        ({"input_cost_per_token_priority": Decimal("9e-6")}, {}),
    ],
    ids=str,
)
def test_prices_are_taken_over(
    tool: ModuleType, listed: Mapping[str, Any], rates: Mapping[str, int]
) -> None:
    """Floating-point noise is removed, amounts finer than a pico-dollar are rounded up, the rest
    stays."""
    entry = tool.book_entry("m", model(**listed))

    expected = {"input": 2_000_000, "output": 8_000_000, **rates}
    assert {key: entry[key] for key in entry.keys() & tool.RATES.keys()} == expected


def test_tiers_stand_alone(tool: ModuleType) -> None:
    """A tier has its own and its inherited prices, so that it can be used without the one below."""
    entry = tool.book_entry(
        "m",
        model(
            litellm_provider="xai",
            cache_read_input_token_cost=Decimal("1e-6"),
            input_cost_per_token_above_128k_tokens=Decimal("4e-6"),
            output_cost_per_token_above_256k_tokens=Decimal("9e-6"),
            output_cost_per_token_above_256k_tokens_priority=Decimal("99e-6"),
        ),
    )

    assert entry["tiers"] == [
        {"above": 127_999, "input": 4_000_000, "output": 8_000_000, "cache_read": 1_000_000},
        {"above": 255_999, "input": 4_000_000, "output": 9_000_000, "cache_read": 1_000_000},
    ]


@pytest.mark.parametrize(
    ("name", "listed"),
    [
        ("m", {"input_cost_per_token": None}),
        ("m", {"output_cost_per_token": None}),
        ("m", {"output_cost_per_image_token": Decimal("8e-5")}),
        ("m", {"input_cost_per_request": Decimal("5e-3")}),
        ("azure/model-router", {}),
        ("perplexity/sonar-pro", {"search_context_cost_per_query": {}}),
        ("gpt-5-search-api", {"search_context_cost_per_query": {}}),
    ],
)
def test_what_tokens_do_not_price_has_a_reason_instead(
    tool: ModuleType, name: str, listed: Mapping[str, Any]
) -> None:
    """A price that would bill only a fraction of the cost is omitted, with the reason."""
    entry = tool.book_entry(name, model(**listed))

    assert entry["unpriced"]
    assert not entry.keys() & tool.RATES.keys()


def test_service_tiers_are_taken_over(tool: ModuleType) -> None:
    """Each is complete by itself, with inherited prices, long prompts too; half a price is not a
    price."""
    entry = tool.book_entry(
        "m",
        model(
            cache_read_input_token_cost=Decimal("1e-6"),
            output_cost_per_reasoning_token=Decimal("9e-6"),
            input_cost_per_token_above_200k_tokens=Decimal("4e-6"),
            input_cost_per_token_priority=Decimal("3e-6"),
            output_cost_per_token_priority=Decimal("10e-6"),
            input_cost_per_token_above_200k_tokens_priority=Decimal("5e-6"),
            input_cost_per_token_flex=Decimal("1e-6"),
            input_cost_per_token_batches=Decimal("1e-6"),
        ),
    )

    long = {"above": 200_000, "input": 5_000_000, "output": 10_000_000, "cache_read": 1_000_000}
    assert entry["services"] == {
        "priority": {
            "input": 3_000_000,
            "output": 10_000_000,
            "cache_read": 1_000_000,
            "tiers": [long],
        }
    }


def test_an_hour_in_the_cache_is_never_five_minutes(tool: ModuleType) -> None:
    """If an Anthropic model is listed without this price, it is twice the input, as for all
    others."""
    listed = model(
        cache_creation_input_token_cost=Decimal("2.5e-6"),
        input_cost_per_token_above_200k_tokens=Decimal("4e-6"),
    )

    claude = tool.book_entry("vercel_ai_gateway/anthropic/claude-opus-4", listed)

    assert (claude["cache_write_1h"], claude["tiers"][0]["cache_write_1h"]) == (
        4 * 10**6,
        8 * 10**6,
    )
    assert "cache_write_1h" not in tool.book_entry("gpt-5.6", listed)


def test_factors_become_prices(tool: ModuleType) -> None:
    """LiteLLM's factors are multiplied out, both together as well."""
    entry = tool.book_entry(
        "m",
        model(
            provider_specific_entry={"us": Decimal("1.1"), "fast": 2},
            input_cost_per_token_above_100k_tokens=Decimal("5e-6"),
        ),
    )

    inputs = {
        name: (at["input"], at["tiers"][0]["input"]) for name, at in entry["services"].items()
    }
    assert inputs == {
        "fast": (4_000_000, 10_000_000),
        "fast us": (4_400_000, 11_000_000),
        "us": (2_200_000, 5_500_000),
    }


def test_sound_and_searches_are_taken_over(tool: ModuleType) -> None:
    """Audio if its price differs from text, and the most expensive kind of search."""
    entry = tool.book_entry(
        "m",
        model(
            input_cost_per_audio_token=Decimal("4e-5"),
            output_cost_per_audio_token=Decimal("8e-6"),
            search_context_cost_per_query={
                "search_context_size_low": Decimal("0.005"),
                "search_context_size_high": Decimal("0.014"),
            },
        ),
    )

    assert (entry["audio_input"], entry["search"]) == (40_000_000, 14 * 10**9)
    assert "audio_output" not in entry


def test_an_embedding_needs_no_price_of_output(tool: ModuleType) -> None:
    """It has no output; a model that searches only on request keeps its price."""
    entry = tool.book_entry("m", model(mode="embedding", output_cost_per_token=None))
    searching = tool.book_entry("gpt-4o", model(search_context_cost_per_query={}))

    assert entry["output"] == 0
    assert searching["input"] == 2_000_000


def test_an_absurd_price_stops_the_tool(tool: ModuleType) -> None:
    """A cent per token is a mistake in the list, and is not copied."""
    with pytest.raises(SystemExit, match="out of range for a price"):
        tool.book_entry("m", model(input_cost_per_token=Decimal("0.02")))


@pytest.mark.parametrize(
    ("mode", "listed", "expected"),
    [
        ("moderation", {"input_cost_per_token": 0}, {"input": 0, "output": 0}),
        ("rerank", {"input_cost_per_query": Decimal("0.002")}, {"query": 2_000_000_000}),
        ("rerank", {"input_cost_per_token": Decimal("5e-8")}, {"input": 50_000, "output": 0}),
        (
            "audio_speech",
            {"input_cost_per_character": Decimal("1.5e-5")},
            {"character": 15_000_000},
        ),
        (
            "audio_transcription",
            {"input_cost_per_second": Decimal("1e-4"), "output_cost_per_second": 0},
            {"second": 100_000_000},
        ),
        ("image_generation", {"output_cost_per_image": Decimal("0.04")}, {"image": 40_000_000_000}),
        (
            "image_generation",
            {
                "input_cost_per_token": Decimal("5e-6"),
                "input_cost_per_image_token": Decimal("1e-5"),
                "output_cost_per_image_token": Decimal("4e-5"),
            },
            {"input": 5_000_000, "output": 40_000_000, "image_input": 10_000_000},
        ),
    ],
)
def test_what_is_not_text_has_its_own_unit(
    tool: ModuleType, mode: str, listed: Mapping[str, Any], expected: Mapping[str, int]
) -> None:
    """Queries, characters, seconds and images; where tokens have a price, they alone count."""
    entry = tool.book_entry("m", {"litellm_provider": "p", "mode": mode, **listed})

    prices = {k: v for k, v in entry.items() if k not in ("provider", "mode", "units")}
    shown = entry.get("units") or prices
    assert shown == expected
    assert not entry.get("units") or prices == {"input": 0, "output": 0}


def test_the_sizes_of_an_image_are_one_model(tool: ModuleType) -> None:
    """The list has a name for each quality and size; some by the pixel."""
    base = {"litellm_provider": "azure", "mode": "image_generation"}
    models = {
        "azure/hd/1024-x-1792/dall-e-3": base | {"output_cost_per_image": Decimal("0.12")},
        "azure/1024-x-1024/dall-e-3": base | {"input_cost_per_pixel": Decimal("3.81469e-08")},
        "low/1024-x-1024/gpt-image-1": base | {"input_cost_per_image": Decimal("0.011")},
        "gpt-image-1": base | {"output_cost_per_image_token": Decimal("4e-5")},
    }

    found = tool.with_sizes(models)

    assert sorted(found) == ["azure/dall-e-3", "gpt-image-1"]
    assert tool.units_of(found["azure/dall-e-3"]) == {
        "image hd/1024x1792": 120_000_000_000,
        "image standard/1024x1024": 40_000_000_000,
    }
    assert tool.units_of(found["gpt-image-1"]) == {}
