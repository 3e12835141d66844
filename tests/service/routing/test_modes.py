"""What a model is for decides which endpoints its deployments serve."""

from __future__ import annotations

from typing import Any

import pytest

from spanledger.config import parse_config
from spanledger.pricing.book import PriceBook
from spanledger.providers.base import SPOKEN
from spanledger.routing.plan import Plan

BOOK = PriceBook.load()
ENVIRON = {f"{name}_API_KEY": "k" for name in ("OPENAI", "ANTHROPIC", "DEEPSEEK", "GROQ")}


def speaks(model: str, book: PriceBook | None = BOOK, **info: Any) -> tuple[str, ...]:
    """The wires of a deployment of this model."""
    params = {"model": model}
    if model.startswith("hosted_vllm/"):
        params["api_base"] = "http://127.0.0.1:8000/v1"
    entry = {"model_name": "r", "litellm_params": params, "model_info": info}
    config = parse_config({"model_list": [entry]}, {}, "test.yaml")
    (found,) = Plan.from_config(config, ENVIRON, book).deployments
    return found.speaks


@pytest.mark.parametrize(
    ("model", "has", "lacks"),
    [
        ("openai/gpt-4o", "chat", "completions"),
        ("deepseek/deepseek-chat", "completions", "moderations"),
        ("openai/gpt-3.5-turbo-instruct", "completions", "chat"),
        ("openai/omni-moderation-latest", "moderations", "chat"),
        ("openai/text-embedding-3-small", "embeddings", "moderations"),
        ("openai/text-embedding-3-small", "embeddings", "chat"),
        ("openai/gpt-4o", "chat", "embeddings"),
        ("openai/tts-1", "speech", "chat"),
        ("openai/gpt-4o-mini-tts", "speech", "transcriptions"),
        ("openai/whisper-1", "transcriptions", "chat"),
        ("openai/whisper-1", "translations", "speech"),
        ("groq/whisper-large-v3", "transcriptions", "responses"),
        ("openai/gpt-image-1", "image_edits", "chat"),
        ("anthropic/claude-haiku-4-5", "messages", "completions"),
    ],
)
def test_the_price_book_knows_what_a_model_is_for(model: str, has: str, lacks: str) -> None:
    """An endpoint is not served by a model of another kind."""
    assert has in speaks(model)
    assert lacks not in speaks(model)


def test_an_unknown_model_may_be_for_anything() -> None:
    """A server of one's own speaks all that its adapter can, until the file says more."""
    named = {"model": "openai/mine", "api_base": "http://127.0.0.1:8000/v1"}
    config = parse_config({"model_list": [{"model_name": "r", "litellm_params": named}]}, {}, "t")
    (found,) = Plan.from_config(config, ENVIRON, BOOK).deployments
    assert found.speaks == (*SPOKEN["openai"], "responses", "compact")
    assert speaks("hosted_vllm/mine", mode="moderation") == ("moderations",)


def test_the_file_wins_over_the_book() -> None:
    """`model_info.mode` is what the operator says."""
    assert speaks("openai/gpt-4o", mode="moderation") == ("moderations",)
    assert speaks("openai/gpt-4o", None, mode="completion") == speaks(
        "openai/gpt-3.5-turbo-instruct"
    )


def test_a_wildcards_models_have_their_own() -> None:
    """What a caller names decides."""
    entry = {"model_name": "*", "litellm_params": {"model": "openai/*"}}
    config = parse_config({"model_list": [entry]}, {}, "test.yaml")
    plan = Plan.from_config(config, ENVIRON, BOOK)

    (found,) = plan.serve("*", "gpt-3.5-turbo-instruct")
    assert "chat" not in found.speaks
