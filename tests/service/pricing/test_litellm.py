"""Amounts agree with LiteLLM's to the nano-dollar, for one model per pricing scheme."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator

import pytest

from spanledger.money import nano_from_pico
from spanledger.pricing.book import PriceBook
from spanledger.pricing.reported import from_openai
from spanledger.pricing.usage import Usage

Agree = Callable[..., tuple[int, int]]

ORDINARY = Usage(12_345, 678, 1_024, 0, 100)
WRITTEN = Usage(12_345, 678, 1_024, 5_000, 0, 1_500)


def long(above: int) -> Usage:
    """One token more than a threshold."""
    return Usage(above + 1, 678, 1_024, 512, 100)


@pytest.fixture(scope="session")
def agree() -> Iterator[Agree]:
    """LiteLLM's and our cost of the same usage, in nano-USD; LiteLLM's warnings are ignored."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        warnings.simplefilter("ignore")
        litellm = pytest.importorskip("litellm", reason="LiteLLM is not installed")
        from litellm.types import utils as types

        book = PriceBook.load()

        def both(
            provider: str, litellm_provider: str, model: str, usage: Usage, service: str = ""
        ) -> tuple[int, int]:
            five_minutes = usage.cache_write_input_tokens - usage.cache_write_1h_input_tokens
            theirs = types.Usage(
                prompt_tokens=usage.input_tokens,
                completion_tokens=usage.output_tokens,
                total_tokens=usage.input_tokens + usage.output_tokens,
                prompt_tokens_details=types.PromptTokensDetailsWrapper(
                    cached_tokens=usage.cache_read_input_tokens,
                    cache_creation_tokens=usage.cache_write_input_tokens,
                    audio_tokens=usage.audio_input_tokens,
                    cache_creation_token_details=types.CacheCreationTokenDetails(
                        ephemeral_5m_input_tokens=five_minutes,
                        ephemeral_1h_input_tokens=usage.cache_write_1h_input_tokens,
                    ),
                ),
                completion_tokens_details=types.CompletionTokensDetailsWrapper(
                    reasoning_tokens=usage.reasoning_output_tokens,
                    audio_tokens=usage.audio_output_tokens,
                ),
            )
            usd = litellm.cost_per_token(
                model=model,
                custom_llm_provider=litellm_provider,
                usage_object=theirs,
                service_tier=service or None,
            )
            price = book.find(provider, model, f"{litellm_provider}/{model}", {}, "d")
            ours = from_openai(theirs.model_dump())
            assert price is not None
            assert ours == usage
            return nano_from_pico(round(sum(usd) * 10**12)), price.cost_nano(ours, service)

        yield both


@pytest.mark.parametrize(
    ("provider", "litellm_provider", "model", "usage"),
    [
        ("openai", "openai", "gpt-4o", ORDINARY),
        ("openai", "openai", "gpt-4o-mini-2024-07-18", ORDINARY),
        ("openai", "openai", "gpt-5.6", WRITTEN),
        ("openai", "openai", "gpt-5.6", long(272_000)),
        ("openai", "openai", "text-embedding-3-large", Usage(8_191)),
        ("azure.ai.openai", "azure", "gpt-4o", ORDINARY),
        ("anthropic", "anthropic", "claude-sonnet-4-5-20250929", WRITTEN),
        ("anthropic", "anthropic", "claude-haiku-5-5", WRITTEN),
        ("anthropic", "anthropic", "claude-haiku-5-5", Usage(100_001, 9, 1_024, 512, 0, 100)),
        ("aws.bedrock", "bedrock", "anthropic.claude-haiku-4-5-20251001-v1:0", WRITTEN),
        ("gcp.vertex_ai", "vertex_ai", "claude-sonnet-4-5", WRITTEN),
        ("gcp.gemini", "gemini", "gemini-2.5-flash", ORDINARY),
        ("gcp.gemini", "gemini", "gemini-2.5-pro", long(200_000)),
        ("x_ai", "xai", "grok-4.20-0309-reasoning", long(199_998)),
        ("x_ai", "xai", "grok-4.20-0309-reasoning", long(199_999)),
        ("dashscope", "dashscope", "qwen-plus-latest", ORDINARY),
        ("dashscope", "dashscope", "qwen-plus-latest", long(256_000)),
        ("dashscope", "dashscope", "qwen3-coder-plus", long(128_000)),
        ("mistral_ai", "mistral", "mistral-embed", Usage(999)),
        ("fireworks_ai", "fireworks_ai", "accounts/fireworks/models/deepseek-v3", ORDINARY),
    ],
)
def test_both_reckon_the_same(
    agree: Agree, provider: str, litellm_provider: str, model: str, usage: Usage
) -> None:
    """Our integers are LiteLLM's floats, rounded up once to a nano-dollar."""
    theirs, ours = agree(provider, litellm_provider, model, usage)

    assert theirs > 0
    assert ours == theirs


SPOKEN = Usage(1_234, 678, audio_input_tokens=1_000, audio_output_tokens=600)


@pytest.mark.parametrize(
    ("provider", "litellm_provider", "model", "usage", "service"),
    [
        ("openai", "openai", "gpt-4o-mini", ORDINARY, "priority"),
        ("openai", "openai", "gpt-5-mini", ORDINARY, "flex"),
        ("openai", "openai", "gpt-5.6", WRITTEN, "priority"),
        ("openai", "openai", "gpt-5.6", long(272_000), "priority"),
        ("openai", "openai", "gpt-5.6", long(272_000), "flex"),
        ("openai", "openai", "gpt-5", ORDINARY, "fast"),
        ("openai", "openai", "gpt-6-astra", WRITTEN, "ultrafast"),
        ("azure.ai.openai", "azure", "gpt-5", ORDINARY, "priority"),
        ("gcp.gemini", "gemini", "gemini-2.5-pro", long(200_000), "priority"),
        ("gcp.gemini", "gemini", "gemini-2.5-pro", long(200_000), "flex"),
        ("gcp.gemini", "gemini", "gemini-2.5-flash", ORDINARY, "priority"),
        ("aws.bedrock", "bedrock", "us.amazon.nova-2-lite-v1:0", ORDINARY, "priority"),
        ("openai", "openai", "gpt-audio", SPOKEN, ""),
        ("azure.ai.openai", "azure", "gpt-audio-mini", SPOKEN, ""),
        ("gcp.gemini", "gemini", "gemini-2.5-flash", Usage(900, 9, audio_input_tokens=800), ""),
    ],
)
def test_both_reckon_the_same_at_another_price(
    agree: Agree, provider: str, litellm_provider: str, model: str, usage: Usage, service: str
) -> None:
    """Service tiers, audio and speech agree as text at the usual rates does."""
    theirs, ours = agree(provider, litellm_provider, model, usage, service)

    assert theirs > 0
    assert ours == theirs
