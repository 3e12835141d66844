"""Whose key goes where: every row of the table, through the real adapters and over TLS.

All names resolve to a server of the test's, which notes for each request the host it was for and
the key it brought. Every provider's key is in the environment at once, so that a key that goes to
the wrong company is seen.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any

import msgspec
import pytest

from spanledger.config import parse_config
from spanledger.providers import create_providers
from spanledger.providers.base import Call, Deployment
from spanledger.providers.hosts import HOSTS, host_of, provider_name
from spanledger.routing.plan import Plan
from spanledger.wires import CHAT
from tests.support.everybody import Everybody, Seen, every_provider

VARIABLES = sorted({name for host in HOSTS.values() for name in host.keys})
KEYS = {name: f"key-in-{name}" for name in VARIABLES}
OWN_BASES = {
    "azure": "https://resource.openai.azure.com",
    "azure_ai": "https://resource.services.ai.azure.com",
    "databricks": "https://dbc-1.cloud.databricks.com",
}
ELSEWHERE = "https://llm.elsewhere.example/openai/v1"
"""Gemini's own API has no `openai` in its path, and LiteLLM serves it."""


@pytest.fixture
async def everybody(monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Everybody]:
    """All providers."""
    async with every_provider(monkeypatch) as state:
        yield state


def deployment(environ: Mapping[str, str] = KEYS, **params: Any) -> Deployment:
    """The deployment of one entry."""
    data = {"model_list": [{"model_name": "r", "litellm_params": params}]}
    (found,) = Plan.from_config(parse_config(data, environ, "test.yaml"), environ).deployments
    return found


async def asked(everybody: Everybody, target: Deployment, **fields: object) -> Seen:
    """A request to a deployment as it arrives."""
    body = {"model": "r", "messages": [{"role": "user", "content": "hi"}], **fields}
    raw = {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in body.items()}
    providers = create_providers({target.kind})
    try:
        await providers[target.kind].complete(
            Call(target, CHAT, target.fields_for(raw), timeout_s=10)
        )
    finally:
        await providers[target.kind].close()
    (seen,) = everybody.seen
    return seen


PUBLIC = sorted(p for p, h in HOSTS.items() if h.base is None or h.base.startswith("https"))


@pytest.mark.parametrize("prefix", [p for p in PUBLIC if HOSTS[p].base or p in OWN_BASES])
async def test_a_key_of_the_environment_goes_to_its_own_provider(
    everybody: Everybody, prefix: str
) -> None:
    """With all keys in the environment, each host gets only its own."""
    host = HOSTS[prefix]
    more = {"api_base": OWN_BASES[prefix]} if prefix in OWN_BASES else {}

    seen = await asked(everybody, deployment(KEYS, model=f"{prefix}/m", **more))

    assert seen.key in {KEYS[name] for name in host.keys}
    base = more.get("api_base") or host.base or ""
    assert base.startswith(f"https://{seen.host}")


@pytest.mark.parametrize("prefix", sorted(HOSTS))
@pytest.mark.parametrize("alias", ["api_base", "base_url"])
async def test_no_key_of_the_environment_goes_elsewhere(
    everybody: Everybody, prefix: str, alias: str
) -> None:
    """A server that the file names gets the request, and a key only if the file has one."""
    seen = await asked(everybody, deployment(KEYS, model=f"{prefix}/m", **{alias: ELSEWHERE}))

    assert (seen.host, seen.key) == ("llm.elsewhere.example", "")


@pytest.mark.parametrize("prefix", sorted(HOSTS))
async def test_the_files_key_goes_where_the_file_says(everybody: Everybody, prefix: str) -> None:
    """An entry's address and key belong together, whatever the environment has."""
    target = deployment(model=f"{prefix}/m", base_url=ELSEWHERE, api_key="key-in-file")

    seen = await asked(everybody, target)

    assert (seen.host, seen.key) == ("llm.elsewhere.example", "key-in-file")


@pytest.mark.parametrize("model", ["gpt-4o-mini", "openai/gpt-4o-mini"])
async def test_an_everyday_entry_of_openrouter(everybody: Everybody, model: str) -> None:
    """`base_url` is where the request and the key go, not OpenAI."""
    target = deployment(model=model, base_url="https://openrouter.ai/api/v1", api_key="sk-or-1")

    seen = await asked(everybody, target)

    assert (seen.host, seen.path, seen.key) == (
        "openrouter.ai",
        "/api/v1/chat/completions",
        "sk-or-1",
    )


async def test_a_host_of_the_table_gets_its_key_under_any_prefix(everybody: Everybody) -> None:
    """OpenAI's key is not sent to OpenRouter, but OpenRouter's own is."""
    target = deployment(model="gpt-4o-mini", base_url="https://openrouter.ai/api/v1")

    assert (await asked(everybody, target)).key == KEYS["OPENROUTER_API_KEY"]


@pytest.mark.parametrize(
    ("params", "url", "header"),
    [
        ({}, "/openai/deployments/dep/chat/completions?api-version=2025-02-01-preview", "api-key"),
        (
            {"api_version": "2024-10-21"},
            "/openai/deployments/dep/chat/completions?api-version=2024-10-21",
            "api-key",
        ),
        (
            {"api_base": "https://resource.openai.azure.com/?api-version=2024-06-01"},
            "/openai/deployments/dep/chat/completions?api-version=2024-06-01",
            "api-key",
        ),
        (
            {"api_base": "https://resource.openai.azure.com/openai/deployments/other/"},
            "/openai/deployments/other/chat/completions?api-version=2025-02-01-preview",
            "api-key",
        ),
        (
            {
                "api_base": "https://resource.openai.azure.com/openai/deployments/o/chat/"
                "completions?api-version=2024-06-01"
            },
            "/openai/deployments/o/chat/completions?api-version=2024-06-01",
            "api-key",
        ),
        ({"api_version": "v1"}, "/openai/v1/chat/completions", "api-key"),
        (
            {"api_version": "preview"},
            "/openai/v1/chat/completions?api-version=preview",
            "api-key",
        ),
        (
            {"api_base": "https://resource.openai.azure.com/openai/v1/"},
            "/openai/v1/chat/completions",
            "api-key",
        ),
        (
            {"azure_ad_token": "entra"},
            "/openai/deployments/dep/chat/completions?api-version=2025-02-01-preview",
            "authorization",
        ),
    ],
)
async def test_azure(everybody: Everybody, params: dict[str, Any], url: str, header: str) -> None:
    """All forms in which configurations name an Azure deployment."""
    given = {"model": "azure/dep", "api_base": "https://resource.openai.azure.com", **params}

    seen = await asked(everybody, deployment(**given))

    assert (seen.host, seen.path) == ("resource.openai.azure.com", url)
    assert header in seen.headers


@pytest.mark.parametrize(
    ("params", "path", "model"),
    [
        ({"model": "openrouter/openai/gpt-4o"}, "/api/v1/chat/completions", "openai/gpt-4o"),
        ({"model": "openrouter/auto"}, "/api/v1/chat/completions", "openrouter/auto"),
        (
            {"model": "fireworks_ai/llama-v3p1-8b-instruct"},
            "/inference/v1/chat/completions",
            "accounts/fireworks/models/llama-v3p1-8b-instruct",
        ),
        (
            {"model": "ollama_chat/llama3", "api_base": "https://gpu.example"},
            "/v1/chat/completions",
            "llama3",
        ),
        (
            {"model": "ollama/llama3", "api_base": "https://gpu.example/v1/"},
            "/v1/chat/completions",
            "llama3",
        ),
        (
            {"model": "hosted_vllm/org/m", "api_base": "https://gpu.example/v1/chat/completions"},
            "/v1/chat/completions",
            "org/m",
        ),
        ({"model": "gemini-2.5-pro"}, "/v1beta/openai/chat/completions", "gemini-2.5-pro"),
        (
            {"model": "azure/o_series/dep", "api_base": "https://r.openai.azure.com"},
            "/openai/deployments/dep/chat/completions?api-version=2025-02-01-preview",
            "dep",
        ),
    ],
)
async def test_oddities_of_addresses_and_names(
    everybody: Everybody, params: dict[str, Any], path: str, model: str
) -> None:
    """Paths and model names are those that the provider knows."""
    seen = await asked(everybody, deployment(**params))

    assert (seen.path, seen.body["model"]) == (path, model)


async def test_mistral_is_asked_in_its_own_words(everybody: Everybody) -> None:
    """It refuses OpenAI's names for a cap and a seed with 422."""
    target = deployment(model="mistral/mistral-small-latest")

    seen = await asked(everybody, target, max_completion_tokens=5, seed=7)

    assert (seen.body["max_tokens"], seen.body["random_seed"]) == (5, 7)
    assert not seen.body.keys() & {"max_completion_tokens", "seed", "stream_options"}


async def test_openrouter_is_told_whose_application_this_is_where_the_file_says_so(
    everybody: Everybody,
) -> None:
    """LiteLLM's variables and `extra_headers` are sent, the latter win; by default nothing is
    sent."""
    plain = await asked(everybody, deployment(model="openrouter/a/b"))
    assert not plain.headers.keys() & {"http-referer", "x-title"}

    everybody.seen.clear()
    environ = {**KEYS, "OR_SITE_URL": "https://acme.example", "OR_APP_NAME": "Acme"}
    target = deployment(
        environ, model="openrouter/a/b", extra_headers={"x-title": "Mine"}, organization="o-1"
    )
    seen = await asked(everybody, target)

    assert seen.headers["http-referer"] == "https://acme.example"
    assert (seen.headers["x-title"], seen.headers["openai-organization"]) == ("Mine", "o-1")


def test_the_environment_may_name_a_server_and_its_key() -> None:
    """A variable and the key of the same name belong together."""
    environ = {"HOSTED_VLLM_API_BASE": "http://gpu:8000/v1", "HOSTED_VLLM_API_KEY": "k"}

    found = deployment(environ, model="hosted_vllm/m")

    assert (found.api_base, found.api_key) == ("http://gpu:8000/v1", "k")


def test_clients_variables_are_named_and_not_obeyed() -> None:
    """A gateway that used its own address as OpenAI's would call itself."""
    environ = {**KEYS, "OPENAI_BASE_URL": "http://127.0.0.1:4000/v1"}
    entry = {"model_name": "r", "litellm_params": {"model": "gpt-4o"}}
    plan = Plan.from_config(parse_config({"model_list": [entry]}, environ, "t"), environ)

    assert plan.deployments[0].api_base is None
    (warning,) = plan.warnings
    assert warning.startswith("OPENAI_BASE_URL is ignored")


@pytest.mark.parametrize(
    "base", ["http://api.openai.com/v1", "https://api.openai.com.evil.example"]
)
def test_a_lookalike_gets_no_key(base: str) -> None:
    """Neither without TLS nor for a name that only begins like the provider's."""
    assert deployment(model="openai/m", api_base=base).api_key is None
    assert host_of(base) is None


def test_rows_are_whole() -> None:
    """Each row has a source, keys, and a name for telemetry; addresses have no trailing slash."""
    for prefix, host in HOSTS.items():
        assert host.source
        assert host.keys
        assert provider_name(prefix)
        assert host.base is None or not host.base.endswith("/")
        assert host.base is not None or host.base_variables
