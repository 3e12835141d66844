"""Which deployments speak the wires for audio and for changing images."""

from __future__ import annotations

from typing import Any

import pytest

from spanledger.config import parse_config
from spanledger.pricing.book import PriceBook
from spanledger.providers.hosts import HOSTS
from spanledger.providers.media_hosts import MEDIA_HOSTS, MEDIA_WIRES
from spanledger.routing.plan import Plan

BOOK = PriceBook.load()
LOCAL = "http://127.0.0.1:9/v1"


def media(model: str, info: dict[str, Any] | None = None, **params: Any) -> set[str]:
    """Those of them that the deployment of an entry speaks."""
    given = {"model": model, "api_key": "k", **params}
    entry = {"model_name": "m", "litellm_params": given, "model_info": info or {}}
    config = parse_config({"model_list": [entry]}, {}, "t")
    (deployment,) = Plan.from_config(config, book=BOOK).deployments
    return {*deployment.speaks} & {*MEDIA_WIRES}


@pytest.mark.parametrize(
    ("model", "params", "wanted"),
    [
        ("openai/mine", {"api_base": LOCAL}, MEDIA_WIRES),
        ("hosted_vllm/mine", {"api_base": LOCAL}, {"transcriptions", "translations"}),
        ("deepseek/mine", {}, set()),
        ("openai/mine", {"api_base": "https://api.deepseek.com"}, set()),
        (
            "azure/mine",
            {"api_base": "https://a.openai.azure.com"},
            MEDIA_WIRES - {"image_variations"},
        ),
        ("groq/whisper-large-v3", {}, {"transcriptions", "translations"}),
        ("aiml/dall-e-3", {}, set()),
        ("mistral/voxtral-mini-tts-latest", {}, {"speech"}),
        (
            "litellm_proxy/mine",
            {"api_base": LOCAL},
            {"image_edits", "speech", "transcriptions"},
        ),
        ("openai/gpt-4o", {}, set()),
    ],
)
def test_by_provider_and_model(model: str, params: dict[str, Any], wanted: set[str]) -> None:
    """The server decides about models that nobody knows, the price book about the others."""
    assert media(model, **params) == wanted


def test_the_file_has_the_last_word() -> None:
    """Both of LiteLLM's keys add what the table does not have."""
    said = {"supported_endpoints": ["/v1/audio/speech"]}
    assert media("deepseek/mine", said) == {"speech"}
    said = {"supported_endpoints": ["/v1/audio/transcriptions"]}
    assert media("openai/whisper-1", said) == {"transcriptions"}
    assert media("deepseek/mine", {"mode": "audio_transcription"}) == {
        "transcriptions",
        "translations",
    }


@pytest.mark.parametrize("prefix", MEDIA_HOSTS)
def test_each_row_has_a_host_and_a_source(prefix: str) -> None:
    """So that it can be checked."""
    assert prefix in HOSTS
    assert MEDIA_HOSTS[prefix].source.startswith("https://")
    assert MEDIA_HOSTS[prefix].wires <= MEDIA_WIRES
