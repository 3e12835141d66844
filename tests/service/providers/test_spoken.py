"""Which wires a deployment speaks follows from its file, its server and its model."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from spanledger.config import parse_config
from spanledger.pricing.book import PriceBook
from spanledger.providers.base import Deployment
from spanledger.routing.plan import Plan
from spanledger.wires.openai.models import RESPONSES_ALONE

ALONE = ("responses",)
BOTH = ("chat", "embeddings", "responses")
CHAT = ("chat", "embeddings")
AZURE = "https://acme.openai.azure.com"


def dialogue(wires: tuple[str, ...]) -> tuple[str, ...]:
    """The wires of dialogues and embeddings; `test_modes.py` has the others."""
    return tuple(name for name in wires if name in (*BOTH, "messages"))


def deployment(model: str, info: dict[str, Any] | None = None, **params: Any) -> Deployment:
    """The deployment of one entry."""
    given = {"model": model, "api_key": "k", **params}
    entry = {"model_name": "r", "litellm_params": given, "model_info": info or {}}
    (found,) = Plan.from_config(parse_config({"model_list": [entry]}, {}, "test")).deployments
    return found


@pytest.mark.parametrize(
    ("model", "info", "params", "wires"),
    [
        ("openai/gpt-5.2-codex", {}, {}, ALONE),
        ("openai/o3-pro", {}, {}, ALONE),
        ("gpt-5-pro-2025-10-06", {}, {}, ALONE),
        ("openai/gpt-5.2-codex", {}, {"api_base": "http://127.0.0.1:1/v1"}, ALONE),
        ("openai/gpt-5.2-codex", {"mode": "chat"}, {}, ("chat",)),
        ("openai/gpt-4o", {}, {}, BOTH),
        ("openai/gpt-5.2-chat-latest", {}, {}, BOTH),
        ("openai/gpt-4o", {"mode": "responses"}, {}, ALONE),
        ("openai/responses/gpt-4o", {}, {}, ALONE),
        ("openai/own", {"supported_endpoints": ["/v1/responses"]}, {}, ALONE),
        ("openai/o3-pro", {"supported_endpoints": ["/v1/chat/completions"]}, {}, ("chat",)),
        ("openrouter/openai/gpt-5.2-codex", {}, {}, BOTH),
        ("deepseek/deepseek-chat", {}, {}, CHAT),
        ("deepseek/deepseek-chat", {"mode": "responses"}, {}, ALONE),
        ("xai/grok-4.20-multi-agent", {}, {}, ALONE),
        ("azure/own", {"base_model": "azure/gpt-5.2-codex"}, {"api_base": AZURE}, ALONE),
        ("azure/own", {}, {"api_base": AZURE}, CHAT),
        ("anthropic/claude-haiku-4-5", {}, {}, ("messages",)),
    ],
)
def test_a_deployment_speaks(
    model: str, info: dict[str, Any], params: dict[str, Any], wires: tuple[str, ...]
) -> None:
    """What the file says comes first; names of models count at their makers only."""
    assert dialogue(deployment(model, info, **params).speaks) == wires


@pytest.mark.parametrize(
    ("model", "base", "address"),
    [
        ("azure/gpt-5-codex", AZURE, f"{AZURE}/openai/v1"),
        ("azure/gpt-5-codex", f"{AZURE}/openai/v1/", f"{AZURE}/openai/v1"),
        (
            "azure/gpt-5-codex",
            f"{AZURE}/openai/deployments/gpt-5-codex/chat/completions?api-version=2025-01-01",
            f"{AZURE}/openai/v1",
        ),
        ("azure/responses/o3", f"{AZURE}/openai/responses", f"{AZURE}/openai/v1"),
        (
            "azure_ai/gpt-5.4-pro",
            "https://acme.services.ai.azure.com/models",
            "https://acme.services.ai.azure.com/openai/v1",
        ),
    ],
)
def test_azure_has_one_address_for_it(model: str, base: str, address: str) -> None:
    """Whatever form the file has; the model goes into the request."""
    found = deployment(model, api_base=base, api_version="2025-04-01-preview")

    assert (found.api_base, found.query) == (address, "")
    assert found.model == model.rpartition("/")[2]


def test_the_names_agree_with_the_price_book() -> None:
    """It lists each model's wire: those of OpenAI, Azure and xAI that have no other, and no more."""
    # LiteLLM lists these for chat; OpenAI's pages of both models have the Responses API alone.
    mistaken = ("computer-use-preview", "o3-deep-research")
    makers = {"openai", "azure", "azure_ai", "xai"}
    listed = {
        name: entry.mode
        for name, entry in PriceBook.load().entries.items()
        if entry.provider in makers and entry.mode in ("chat", "responses")
    }
    alone = {name for name in listed if RESPONSES_ALONE.match(name.rpartition("/")[2])}

    assert {name for name, mode in listed.items() if mode == "responses"} <= alone
    assert {
        name
        for name in alone
        if listed[name] == "chat" and not name.rpartition("/")[2].startswith(mistaken)
    } == set()


@pytest.mark.parametrize(
    ("model", "params", "effort", "wires"),
    [
        ("openai/gpt-5.4", {}, '"low"', ("embeddings", "responses")),
        ("openai/gpt-5.4", {}, None, BOTH),
        ("openai/gpt-5.6-terra", {}, None, ("embeddings", "responses")),
        ("openai/gpt-5.6-terra", {}, "null", ("embeddings", "responses")),
        ("openai/gpt-5.6-terra", {}, '"none"', BOTH),
        ("openai/gpt-5.6-terra", {"reasoning_effort": "none"}, None, BOTH),
        ("openai/gpt-5.4", {"reasoning_effort": "high"}, None, ("embeddings", "responses")),
        ("openai/gpt-5.2", {}, '"high"', BOTH),
        ("openai/gpt-5.6-terra", {"api_base": "http://127.0.0.1:1"}, None, BOTH),
        (
            "openai/gpt-5.6-terra",
            {"api_base": "http://127.0.0.1:1"},
            '"low"',
            ("embeddings", "responses"),
        ),
        ("openrouter/openai/gpt-5.6-terra", {}, '"low"', BOTH),
        ("deepseek/gpt-5.6", {}, '"low"', CHAT),
    ],
)
def test_tools_with_reasoning_avoid_chat(
    model: str, params: dict[str, Any], effort: str | None, wires: tuple[str, ...]
) -> None:
    """Where the model takes the two together in the Responses API alone."""
    found = deployment(model, **params)
    fields = {"tools": msgspec.Raw(b"[{}]")}
    if effort is not None:
        fields["reasoning_effort"] = msgspec.Raw(effort.encode())

    assert dialogue(found.speaks_for(fields)) == wires
    assert found.speaks_for({n: raw for n, raw in fields.items() if n != "tools"}) == found.speaks


def test_stop_sequences_can_be_dropped() -> None:
    """The Responses API knows none: `drop_params` is how a file says to go on without."""
    assert "stop" in deployment("openai/o3-pro", drop_params=True).drops
    assert "stop" not in deployment("openai/o3-pro").drops
    assert "stop" not in deployment("openai/gpt-4o", drop_params=True).drops
