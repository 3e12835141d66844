"""Which adapter, provider, price and order an entry of `model_list` gets."""

from __future__ import annotations

from typing import Any

import pytest

from spanledger.config import parse_config
from spanledger.errors import ConfigError
from spanledger.providers.base import Deployment
from spanledger.routing.plan import Plan


def plan_of(
    *params: dict[str, Any], environ: dict[str, str] | None = None, **settings: Any
) -> Plan:
    """The plan of entries; `route` and `id` in one are its model_name and model_info.id."""
    entries = []
    for given in params:
        entry: dict[str, Any] = {
            "model_name": given.pop("route", "r"),
            "litellm_params": {"api_key": "sk-canary", **given},
        }
        if "id" in given:
            entry["model_info"] = {"id": given.pop("id")}
            entry["litellm_params"].pop("id")
        entries.append(entry)
    data = {"model_list": entries, "router_settings": settings}
    return Plan.from_config(parse_config(data, {}, "test.yaml"), environ)


def only(**params: Any) -> Deployment:
    """The deployment of one entry."""
    (deployment,) = plan_of(params).deployments
    return deployment


@pytest.mark.parametrize(
    ("params", "kind", "provider", "model"),
    [
        ({"model": "openai/gpt-4o"}, "openai", "openai", "gpt-4o"),
        ({"model": "gpt-4o-mini"}, "openai", "openai", "gpt-4o-mini"),
        ({"model": "ft:gpt-4o:org::1"}, "openai", "openai", "ft:gpt-4o:org::1"),
        ({"model": "o3-mini"}, "openai", "openai", "o3-mini"),
        ({"model": "o1"}, "openai", "openai", "o1"),
        ({"model": "chatgpt-4o-latest"}, "openai", "openai", "chatgpt-4o-latest"),
        ({"model": "text-embedding-3-small"}, "openai", "openai", "text-embedding-3-small"),
        ({"model": "claude-sonnet-4-5"}, "anthropic", "anthropic", "claude-sonnet-4-5"),
        ({"model": "anthropic/claude-x"}, "anthropic", "anthropic", "claude-x"),
        ({"model": "llama", "api_base": "http://h/v1/"}, "openai", "openai", "llama"),
        (
            {"model": "openai/meta/llama", "api_base": "http://h/v1"},
            "openai",
            "openai",
            "meta/llama",
        ),
        ({"model": "hosted_vllm/m", "api_base": "http://h"}, "openai", "hosted_vllm", "m"),
        ({"model": "m", "custom_llm_provider": "openai"}, "openai", "openai", "m"),
        ({"model": "groq/m", "custom_llm_provider": "groq"}, "openai", "groq", "m"),
        ({"model": "openai/responses/gpt-5"}, "openai", "openai", "gpt-5"),
        (
            {"model": "azure/dep", "api_base": "https://r.openai.azure.com"},
            "openai",
            "azure.ai.openai",
            "dep",
        ),
        ({"model": "azure/d", "tenant_id": "t"}, "litellm", "azure.ai.openai", "d"),
        ({"model": "azure_ai/m", "api_base": "https://h"}, "openai", "azure.ai.inference", "m"),
        ({"model": "azure_ai/claude-x"}, "litellm", "azure.ai.inference", "claude-x"),
        ({"model": "bedrock/us.a.b"}, "litellm", "aws.bedrock", "us.a.b"),
        ({"model": "vertex_ai/gemini-x"}, "litellm", "gcp.vertex_ai", "gemini-x"),
        ({"model": "gemini/gemini-x"}, "openai", "gcp.gemini", "gemini-x"),
        ({"model": "gemini-2.5-pro"}, "openai", "gcp.gemini", "gemini-2.5-pro"),
        ({"model": "gemini-x", "vertex_project": "p"}, "litellm", "gcp.vertex_ai", "gemini-x"),
        ({"model": "gemini/g", "api_base": "http://h/v1beta"}, "litellm", "gcp.gemini", "g"),
        ({"model": "whisper-1"}, "openai", "openai", "whisper-1"),
        ({"model": "dall-e-3"}, "openai", "openai", "dall-e-3"),
        ({"model": "command-r"}, "litellm", "cohere", "command-r"),
        ({"model": "mistral/m"}, "openai", "mistral_ai", "m"),
        ({"model": "xai/grok"}, "openai", "x_ai", "grok"),
        ({"model": "watsonx/m"}, "litellm", "ibm.watsonx.ai", "m"),
        ({"model": "groq/m"}, "openai", "groq", "m"),
    ],
    ids=lambda value: value.get("model") if isinstance(value, dict) else "",
)
def test_an_entry_finds_its_adapter(
    params: dict[str, Any], kind: str, provider: str, model: str
) -> None:
    """Prefix, custom provider, base URL and well-known names decide, as in LiteLLM."""
    found = only(**params)

    assert (found.kind, found.provider, found.model) == (kind, provider, model)
    assert found.litellm_model == params["model"]
    assert not (found.api_base or "").endswith("/")


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"model": "llama-3"}, "write provider/model, for example openai/llama-3"),
        ({"model": "openai/"}, "write provider/model"),
        ({"model": "openai/*"}, "'openai/*' has a '*', but model_name 'r' has none"),
        ({"model": "hosted_vllm/m"}, "write api_base, or set HOSTED_VLLM_API_BASE"),
        ({"model": "gpt-4o", "mock_response": "hi"}, "mock_response: it is not supported"),
        ({"model": "gpt-4o", "max_budget": 1}, "max_budget: it is not supported"),
        (
            {"model": "gpt-4o", "extra_body": {"model": "x"}},
            "extra_body.model: only the caller can set it",
        ),
        ({"model": "gpt-4o", "extra_headers": {"Host": "x"}}, "'Host' is set by the gateway"),
        ({"model": "gpt-4o", "extra_headers": {"a b": "x"}}, "'a b' is not a valid HTTP header"),
        ({"model": "openai/m", "api_base": "host/v1"}, "'host/v1' is not an http(s) URL"),
        ({"model": "gpt-4o", "input_cost_per_token_above_1k_tokens": "much"}, "'much' is not"),
        ({"model": "openai/m", "api_base": "https://u:p@host/v1"}, "a key goes into api_key"),
        ({"model": "openai/m", "api_base": "https://host/v1?key=k"}, "a key goes into api_key"),
    ],
)
def test_an_entry_that_cannot_be_served_says_what_to_change(
    params: dict[str, Any], says: str
) -> None:
    """The error has the entry's location, and all invalid entries are reported at once."""
    with pytest.raises(ConfigError) as caught:
        plan_of({"model": "gpt-4o"}, params, {"model": "other"})

    assert says in str(caught.value)
    assert "model_list.1" in str(caught.value)
    assert "model_list.2" in str(caught.value)


def test_ids_are_stable_unique_and_without_secrets() -> None:
    """The id is derived from the entry; rotating its key keeps it, and identical entries are
    numbered."""
    entry = {"model": "bedrock/m", "aws_secret_access_key": "s1", "api_key": "k1"}
    rotated = {"model": "bedrock/m", "aws_secret_access_key": "s2", "api_key": "k2"}
    other = {"model": "bedrock/m", "aws_region_name": "eu-central-1"}

    ids = [
        d.id for d in plan_of(entry, rotated, other, {"model": "gpt-4o", "id": "mine"}).deployments
    ]

    assert ids[0] == only(**{**entry, "api_key": "k3"}).id
    assert ids[0].startswith("r-")
    assert ids[1] == f"{ids[0]}-2"
    assert len(set(ids)) == 4
    assert ids[3] == "mine"


def test_prices_of_the_config_are_integers() -> None:
    """All of LiteLLM's keys for a price per token are read, including those we have no field
    for."""
    found = only(
        model="groq/m",
        input_cost_per_token="0.0000025",
        output_cost_per_token=1e-5,
        input_cost_per_token_above_200k_tokens="5e-6",
        cache_creation_input_token_cost_above_1hr=6e-6,
        output_cost_per_token_batches=None,
    )

    assert found.prices == {
        "input_cost_per_token": 2_500_000,
        "output_cost_per_token": 10_000_000,
        "input_cost_per_token_above_200k_tokens": 5_000_000,
        "cache_creation_input_token_cost_above_1hr": 6_000_000,
    }
    assert found.extra == {}


@pytest.mark.parametrize(
    ("params", "info", "base", "known_as"),
    [
        ({}, {}, "", "prod-eu-1"),
        ({}, {"base_model": None}, "", "prod-eu-1"),
        (
            {},
            {"base_model": "azure/gpt-4o-2024-08-06"},
            "azure/gpt-4o-2024-08-06",
            "gpt-4o-2024-08-06",
        ),
        ({"base_model": " azure/gpt-5 "}, {}, "azure/gpt-5", "gpt-5"),
        ({"base_model": "azure/gpt-5"}, {"base_model": "gpt-4o"}, "gpt-4o", "gpt-4o"),
    ],
)
def test_a_base_model_comes_from_either_section(
    params: dict[str, Any], info: dict[str, Any], base: str, known_as: str
) -> None:
    """`model_info.base_model` wins over LiteLLM's other place for it, and neither causes a
    warning."""
    entry = {
        "model_name": "r",
        "litellm_params": {"model": "openai/prod-eu-1", "api_key": "k", **params},
        "model_info": info,
    }
    plan = Plan.from_config(parse_config({"model_list": [entry]}, {}, "test.yaml"))

    (deployment,) = plan.deployments
    assert (deployment.base_model, deployment.known_as) == (base, known_as)
    assert plan.warnings == ()


def test_only_litellm_gets_parameters_we_do_not_know() -> None:
    """They are passed through if LiteLLM serves, and reported as without effect elsewhere."""
    params = {"aws_region_name": "eu", "max_parallel_requests": 3, "api_version": None}
    plan = plan_of(
        {"model": "bedrock/d", "id": "far", **params}, {"model": "gpt-4o", "id": "near", **params}
    )

    far, near = plan.deployments
    assert far.extra == {"aws_region_name": "eu"}
    assert near.extra == {}
    assert plan.warnings == (
        "deployment 'far': litellm_params.max_parallel_requests has no effect",
        "deployment 'near': litellm_params.aws_region_name has no effect",
        "deployment 'near': litellm_params.max_parallel_requests has no effect",
    )


def test_keys_come_from_the_config_or_the_environment_handed_in() -> None:
    """The usual variable replaces a missing key; without it, a deployment is off."""
    environ = {"OPENAI_API_KEY": "sk-env"}
    plan = plan_of(
        {"model": "gpt-4o", "api_key": None, "id": "env"},
        {"model": "claude-x", "api_key": None, "id": "none"},
        {"model": "gpt-4o", "api_key": None, "id": "own", "api_base": "http://localhost:1/v1"},
        environ=environ,
    )

    assert [(d.id, d.api_key) for d in plan.deployments] == [("env", "sk-env"), ("own", None)]
    assert [(off.id, off.reason) for off in plan.off] == [("none", "ANTHROPIC_API_KEY is not set")]
    assert plan.warnings == ("deployment 'none' is off: ANTHROPIC_API_KEY is not set",)
    assert "sk-canary" not in repr(only(model="gpt-4o"))


def test_limits_and_timeouts_follow_the_entry_then_the_settings() -> None:
    """An entry's timeout wins over the router's."""
    plan = plan_of(
        {"model": "gpt-4o", "timeout": 7, "rpm": 5, "tpm": 6, "weight": 2},
        {"model": "o1"},
        timeout=9,
    )

    first, second = plan.deployments
    assert (first.timeout_s, first.rpm, first.tpm, first.weight) == (7, 5, 6, 2)
    assert (second.timeout_s, second.rpm, second.tpm, second.weight) == (9, None, None, 0)
    assert plan.routes == {"r": (first, second)}


def test_fallbacks_become_chains_without_loops() -> None:
    """Each route's fallbacks are followed by theirs, once each, and never by the route itself."""
    plan = plan_of(
        *({"model": "gpt-4o", "route": route} for route in "abcd"),
        fallbacks=[{"a": ["b", "c"]}, {"b": ["d", "a"]}, {"c": ["c"]}],
        default_fallbacks=["b"],
        context_window_fallbacks=[{"a": ["d"]}],
    )

    assert {route: onward.fallbacks for route, onward in plan.onward.items()} == {
        "a": ("b", "d", "c"),
        "b": ("d", "a", "c"),
        "c": (),
        "d": ("b", "a", "c"),
    }
    assert {route: onward.context for route, onward in plan.onward.items()} == {
        "a": ("d",),
        "b": (),
        "c": (),
        "d": (),
    }


def test_what_litellm_serves_gets_parameters_nobody_knows_from_litellm() -> None:
    """Otherwise they are fields of the provider; anything that may be a secret is in no body."""
    given = {"num_ctx": 4096, "my_token": "s", "temperature": 0.5}

    far, near = only(model="bedrock/m", **given), only(model="ollama/m", **given)

    assert (far.extra, sorted(far.defaults)) == (
        {"num_ctx": 4096, "my_token": "s"},
        ["temperature"],
    )
    assert (near.extra, sorted(near.defaults)) == ({}, ["num_ctx", "temperature"])
    assert sorted(near.fields_for({}, "embeddings")) == ["num_ctx"]
