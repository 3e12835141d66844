"""Which deployments speak the Responses API."""

from __future__ import annotations

from typing import Any

import pytest

from spanledger.config import parse_config
from spanledger.providers.hosts import HOSTS
from spanledger.providers.responses_hosts import SERVES_RESPONSES
from spanledger.routing.plan import Plan

ENDPOINTS = ["/v1/chat/completions", "/v1/responses"]
AZURE = "https://east.openai.azure.com"


def speaks(params: dict[str, Any], endpoints: list[str] | None = None) -> bool:
    """Whether the deployment of an entry speaks it."""
    info = {} if endpoints is None else {"supported_endpoints": endpoints}
    entry = {"model_name": "m", "litellm_params": {"api_key": "k", **params}, "model_info": info}
    (deployment,) = Plan.from_config(parse_config({"model_list": [entry]}, {}, "t")).deployments
    return "responses" in deployment.speaks


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"model": "openai/gpt-4o"}, True),
        ({"model": "gpt-4o"}, True),
        ({"model": "openai/mine", "api_base": "http://127.0.0.1:9/v1"}, True),
        ({"model": "openai/llama", "api_base": "https://api.deepseek.com"}, False),
        ({"model": "openai/llama", "api_base": "https://api.groq.com/openai/v1"}, True),
        ({"model": "groq/llama"}, True),
        ({"model": "mistral/small"}, False),
        ({"model": "openai_like/x", "api_base": "http://127.0.0.1:9/v1"}, False),
        ({"model": "anthropic/claude-haiku-4-5"}, False),
        ({"model": "azure/gpt", "api_base": AZURE, "api_version": "2024-10-21"}, False),
        ({"model": "azure/gpt", "api_base": f"{AZURE}/openai/v1"}, True),
    ],
)
def test_by_provider(params: dict[str, Any], expected: bool) -> None:
    """The address decides, then the prefix; Azure serves it at its newer address alone."""
    assert speaks(params) is expected


def test_the_file_has_the_last_word() -> None:
    """`supported_endpoints`, which is LiteLLM's key, adds the API or takes it away."""
    own = {"model": "openai/mine", "api_base": "http://127.0.0.1:9/v1"}
    assert not speaks(own, ENDPOINTS[:1])
    assert speaks({**own, "model": "openai_like/mine"}, ENDPOINTS)


def test_each_row_is_a_host_with_a_source() -> None:
    """No row is for a provider that nobody can configure, or without a page to check it against."""
    assert SERVES_RESPONSES.keys() <= HOSTS.keys()
    assert all(source.startswith("https://") for source in SERVES_RESPONSES.values())
