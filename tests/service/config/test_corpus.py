"""LiteLLM files that people have published: each loads, or is refused for a good reason.

The files are shortened to what is particular in them, with their source in the first line. Every
variable they name is set, to a value that says which it is, so that it is seen where a key goes.
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from spanledger.config import draft_config, load_config
from spanledger.config.budgets import subjects_of
from spanledger.errors import ConfigError
from spanledger.providers.hosts import HOSTS
from spanledger.routing.plan import Plan

CORPUS = Path(__file__).parent / "corpus"
BASES = {
    "AZURE_API_BASE": "https://a.openai.azure.com/",
    "AZURE_DEPLOYMENT_URL": "https://a.openai.azure.com",
    "AZURE_OPENAI_API_BASE": "https://a.openai.azure.com",
    "AZURE_OPENAI_API_VERSION": "2024-10-21",
    "AZURE_OPENAI_ENDPOINT": "https://a.openai.azure.com",
    "GPT_API_BASE": "https://gpt.example/v1",
    "LMSTUDIO_URL": "http://host.docker.internal:1234/v1",
    "OLLAMA_GEMMA3_URL": "http://gemma:11434",
    "OPENAI_BASE_URL": "https://llm.example/v1",
    "OPENAI_MODEL_ASSISTANT": "openai/some-model",
}
REFUSED = {
    "CySpiegel--llm-service": [
        "model_list.0.litellm_params.model: required, but missing",
        "model_list.0.api_base: it belongs under litellm_params",
    ],
    "Causal-Insights--ai-gateway": [
        "litellm_settings.custom_provider_map: it decides which model answers"
    ],
}
EMPTY = {"AgenttiX--agx-ai", "Helmi--oss-llmops-stack"}
HOSTS_OF = {
    "1aboveio--litellm-deploy": ["api.openai.com", "api.anthropic.com"],
    "All-Hands-AI--OpenHands": ["localhost"] * 2,
    "CIRISAI--CIRISProxy": [
        "api.together.ai",
        "api.groq.com",
        "api.together.ai",
        "api.openai.com",
        "openrouter.ai",
    ],
    "BerriAI--example_litellm_gcp_cloud_run": ["gemma", "api.openai.com", "litellm"],
    "Agent-StrongHold--maistro-engine": [
        "generativelanguage.googleapis.com",
        "api.mistral.ai",
        "api.x.ai",
        "openrouter.ai",
        "api.openai.com",
    ],
    "ArbiterOS--ArbiterOS-Beta": ["gpt.example", "ark.cn-beijing.volces.com"],
    "BHQUAN97--Orchestrator-AI": [
        "openrouter.ai",
        "generativelanguage.googleapis.com",
        "openrouter.ai",
        "host.docker.internal",
    ],
    "46ki75--open-webui-bedrock-local": ["litellm"],
    "AdvancedNLP--llm-serving": ["litellm", "a.openai.azure.com"],
    "Beyond-the-Loop--beyond-the-loop": [
        "litellm",
        "a.openai.azure.com",
        "a.openai.azure.com",
        "api.perplexity.ai",
    ],
    "DmacMcgreg--coolify-litellm-docker-compose": ["a.openai.azure.com"] * 3,
    "Fast-Editor--Lynkr": [
        "localhost",
        "api.moonshot.ai",
        "a-resource.cognitiveservices.azure.com",
    ],
    "AlbanAndrieu--thiga-ai": ["ollama"] * 2,
    "Gapminder--gapminder-ai": ["api.openai.com"],
    "GovChat-NL--GovChat-NL-LibreChat": ["a.openai.azure.com"],
    "HerzigGroup--herzig-ai-stack": ["localhost"],
    "EnigmaCurry--dry_agent": ["llm.example"],
    "FrankPSch--OpenAgentsGym": ["127.0.0.1"],
    "Connor-W-Cahill--AI-Tools": ["api.anthropic.com", "localhost"],
    "Cyber-Q01--eday-ai": ["generativelanguage.googleapis.com"],
    "AzPepoze--litellm-llamacpp-setup": ["tinyllama"],
    "Decent-Solution--docker-templates": ["a.openai.azure.com"],
    "1-1is0--llm-proxy": ["api.anthropic.com"],
    "ADORSYS-GIS--lite-llm-customer": ["ollama"],
    "ClickHouse--agentic-data-stack": ["litellm"],
    "D0wn10ad--ai-gateway": ["litellm"],
    "Ashish-Tembhekar--LiteLLM_Gateway": ["generativelanguage.googleapis.com", "api.groq.com"],
    "Center-for-Hybrid-Intelligence--owui_seminar_code": ["api.anthropic.com", "api.mistral.ai"],
}
NAMES = sorted(path.stem for path in CORPUS.glob("*.yaml"))


def environment_of(name: str) -> dict[str, str]:
    """An environment with every variable that a file names; keys contain the variable's name."""
    text = (CORPUS / f"{name}.yaml").read_text(encoding="utf-8")
    named = re.findall(r"os\.environ/(\w+)", text)
    return {variable: BASES.get(variable, f"value-of-{variable}") for variable in named}


def test_every_file_is_expected() -> None:
    """Every file has an expectation."""
    assert set(NAMES) == {*REFUSED, *EMPTY, *HOSTS_OF}
    assert len(NAMES) >= 30


@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_people(name: str) -> None:
    """Entries are served at their address with their key, or the file explains why not."""
    environ = environment_of(name)
    draft = draft_config(CORPUS / f"{name}.yaml", environ)

    if name in REFUSED:
        assert list(draft.problems) == REFUSED[name]
        return
    assert draft.problems == ()
    plan = Plan.from_config(draft.config, environ)
    assert plan.off == ()
    if name in EMPTY:
        assert plan.deployments == ()
        return
    found = []
    for entry, deployment in zip(draft.config.model_list, plan.deployments, strict=True):
        host = HOSTS.get(deployment.provider)
        base = deployment.api_base or (host.base if host else None) or ""
        found.append("litellm" if deployment.kind == "litellm" else urlsplit(base).hostname)
        given = entry.litellm_params.api_key
        assert deployment.api_key == (given.get_secret_value() if given else None)
    assert found == HOSTS_OF[name]


@pytest.mark.parametrize("name", [n for n in NAMES if n not in REFUSED and n not in EMPTY])
def test_without_its_variables_a_file_still_starts(name: str) -> None:
    """Deployments without a key or an address are off, by name; no request goes elsewhere instead."""
    draft = draft_config(CORPUS / f"{name}.yaml", {})
    assert draft.problems == ()
    plan = Plan.from_config(draft.config, {})

    entries = draft.config.model_list
    assert len(plan.deployments) + len(plan.off) == len(entries)
    unset = [e.model_name for e in entries if e.litellm_params.unset]
    assert sorted(off.route for off in plan.off) == sorted(unset)
    assert all("is not set" in off.reason or "are not set" in off.reason for off in plan.off)


def test_money_of_a_file_becomes_a_budget() -> None:
    """LiteLLM's `max_budget` limits everything together, per day."""
    for name in ("BHQUAN97--Orchestrator-AI", "Cyber-Q01--eday-ai"):
        (budget,) = draft_config(CORPUS / f"{name}.yaml", environment_of(name)).config.budgets
        assert (budget.name, budget.limit, budget.period) == (
            "litellm-max-budget",
            2_000_000_000,
            "day",
        )
        assert not subjects_of(budget)


def test_settings_without_effect_are_listed() -> None:
    """Including keys unknown to LiteLLM, and prices in the wrong place."""
    name = "ClickHouse--agentic-data-stack"
    warnings = draft_config(CORPUS / f"{name}.yaml", environment_of(name)).config.warnings

    assert any(w.startswith("model_list.0.model_info.pricing has no effect") for w in warnings)
    assert "health_check has no effect: the section is unknown" in warnings
    assert "router_settings.enable_load_balancing has no effect" in warnings
    assert "general_settings.enable_cors has no effect" in warnings


def test_a_mode_that_is_not_served_is_named() -> None:
    """Audio and image models are accepted, with a warning that they are not served."""
    name = "DmacMcgreg--coolify-litellm-docker-compose"
    warnings = draft_config(CORPUS / f"{name}.yaml", environment_of(name)).config.warnings

    assert any(w.startswith("model_list.2.model_info.mode is 'tts'") for w in warnings)


def test_openrouter_over_the_plain_wire_is_openrouter() -> None:
    """`openai/` only names the API: prices and telemetry name the actual provider."""
    name = "BHQUAN97--Orchestrator-AI"
    draft = draft_config(CORPUS / f"{name}.yaml", environment_of(name))
    first = Plan.from_config(draft.config, {}).deployments[0]

    assert (first.provider, first.model) == ("openrouter", "deepseek/deepseek-v4-flash")
    assert first.litellm_model == "openrouter/deepseek/deepseek-v4-flash"


def test_a_file_that_is_refused_is_refused_whole(tmp_path: Path) -> None:
    """No part of a file is served if one part cannot be obeyed."""
    path = tmp_path / "f.yaml"
    path.write_text("litellm_settings: {api_base: https://elsewhere.example}\n")
    with pytest.raises(ConfigError, match="it decides where requests or keys go"):
        load_config(path, {})
