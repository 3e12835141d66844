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
        ({"model": "hosted_vllm/m"}, "litellm", "hosted_vllm", "m"),
        ({"model": "m", "custom_llm_provider": "openai"}, "openai", "openai", "m"),
        ({"model": "groq/m", "custom_llm_provider": "groq"}, "litellm", "groq", "m"),
        ({"model": "openai/responses/gpt-5"}, "litellm", "openai", "responses/gpt-5"),
        ({"model": "azure/dep"}, "litellm", "azure.ai.openai", "dep"),
        ({"model": "azure_ai/m"}, "litellm", "azure.ai.inference", "m"),
        ({"model": "bedrock/us.a.b"}, "litellm", "aws.bedrock", "us.a.b"),
        ({"model": "vertex_ai/gemini-x"}, "litellm", "gcp.vertex_ai", "gemini-x"),
        ({"model": "gemini/gemini-x"}, "litellm", "gcp.gemini", "gemini-x"),
        ({"model": "mistral/m"}, "litellm", "mistral_ai", "m"),
        ({"model": "xai/grok"}, "litellm", "x_ai", "grok"),
        ({"model": "watsonx/m"}, "litellm", "ibm.watsonx.ai", "m"),
        ({"model": "groq/m"}, "litellm", "groq", "m"),
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
        ({"model": "llama-3"}, "write provider/model, as openai/llama-3"),
        ({"model": "openai/"}, "write provider/model"),
        ({"model": "openai/*"}, "'openai/*' is a wildcard, which is not supported yet"),
        ({"model": "gpt-4o", "route": "gpt-*"}, "'gpt-*' is a wildcard"),
        ({"model": "gpt-4o", "input_cost_per_token_above_1k_tokens": "much"}, "'much' is not"),
        ({"model": "openai/m", "api_base": "https://u:p@host/v1"}, "a key goes into api_key"),
        ({"model": "openai/m", "api_base": "https://host/v1?key=k"}, "a key goes into api_key"),
    ],
)
def test_an_entry_that_cannot_be_served_says_what_to_change(
    params: dict[str, Any], says: str
) -> None:
    """The error has the entry's place, and all bad entries are named at once."""
    with pytest.raises(ConfigError) as caught:
        plan_of({"model": "gpt-4o"}, params, {"model": "other"})

    assert says in str(caught.value)
    assert "model_list.1" in str(caught.value)
    assert "model_list.2" in str(caught.value)


def test_ids_are_stable_unique_and_without_secrets() -> None:
    """The id follows from the entry; rotating its key does not change it, equal ones are counted."""
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
    """All of LiteLLM's keys of a price a token are read, also those we have no field for."""
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
    """`model_info.base_model` wins over LiteLLM's other place for it, and neither is warned of."""
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
    """They are handed through where LiteLLM serves, and named as without effect elsewhere."""
    params = {"organization": "o", "max_parallel_requests": 3, "api_version": None}
    plan = plan_of(
        {"model": "azure/d", "id": "far", **params}, {"model": "gpt-4o", "id": "near", **params}
    )

    far, near = plan.deployments
    assert far.extra == {"organization": "o", "api_version": None}
    assert near.extra == {}
    assert plan.warnings == (
        "deployment 'far': litellm_params.max_parallel_requests has no effect",
        "deployment 'near': litellm_params.max_parallel_requests has no effect",
        "deployment 'near': litellm_params.organization has no effect",
    )


def test_keys_come_from_the_config_or_the_environment_handed_in() -> None:
    """The customary variable fills in for a missing key; a key nowhere is a warning by name."""
    environ = {"OPENAI_API_KEY": "sk-env"}
    plan = plan_of(
        {"model": "gpt-4o", "api_key": None, "id": "env"},
        {"model": "claude-x", "api_key": None, "id": "none"},
        {"model": "gpt-4o", "api_key": None, "id": "own", "api_base": "http://localhost:1/v1"},
        environ=environ,
    )

    assert [d.api_key for d in plan.deployments] == ["sk-env", None, None]
    (warning,) = plan.warnings
    assert "'none' has no api_key and ANTHROPIC_API_KEY is not set" in warning
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
