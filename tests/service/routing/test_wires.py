"""Only a deployment that the caller's wire can be put into is a candidate."""

from __future__ import annotations

import pytest

from spanledger.config import parse_config
from spanledger.errors import InvalidRequestError
from spanledger.providers.base import SPOKEN
from spanledger.routing.plan import Plan
from tests.service.routing.rig import Attempted, Site, fails

CLAUDE = {"model": "anthropic/claude-haiku-4-5"}


async def test_a_deployment_without_the_wire_is_no_candidate() -> None:
    """The group's other deployment serves every request, and nothing was attempted before."""
    site = Site({"a": [("c", CLAUDE), "o"]}, {})

    for _ in range(8):
        assert not isinstance(
            await site.ask(site.exchange(operation="embeddings", input="x")), Exception
        )

    assert {call.deployment.id for call in site.provider.calls} == {"o"}
    assert site.attempted == [Attempted("o")] * 8


async def test_a_fallback_serves_what_the_route_cannot() -> None:
    """The attempt says which route it falls back from, and why."""
    site = Site({"a": [("c", CLAUDE)], "b": ["o"]}, {}, fallbacks=[{"a": ["b"]}])

    await site.ask(site.exchange(operation="embeddings", input="x"))

    assert site.attempted == [Attempted("o", fallback_from="a", reason="unsupported_endpoint")]


async def test_a_fallback_without_the_wire_is_passed_over() -> None:
    """The next one is called instead; the caller of the last error gets the provider's."""
    site = Site(
        {"a": ["o"], "b": [("c", CLAUDE)], "d": ["p"]},
        {"o": [fails("server_error")]},
        fallbacks=[{"a": ["b", "d"]}],
    )

    await site.ask(site.exchange(operation="embeddings", input="x"))

    assert [attempt.deployment for attempt in site.attempted] == ["o", "p"]


@pytest.mark.parametrize("fallbacks", [[], [{"a": ["b"]}]])
async def test_none_left_is_a_clear_refusal(fallbacks: list[dict[str, list[str]]]) -> None:
    """It names the route, the endpoint, what its deployments speak, and where to call it."""
    site = Site({"a": [("c", CLAUDE)], "b": [("d", CLAUDE)]}, {}, fallbacks=fallbacks)

    error = await site.ask(site.exchange(operation="embeddings", input="x"))

    assert isinstance(error, InvalidRequestError)
    assert (error.status, error.code, error.param) == (400, "unsupported_endpoint", "model")
    for part in ("'a'", "/v1/embeddings", "messages", "call it at /v1/chat/completions, "):
        assert part in str(error)
    assert site.outcome == ("error", "invalid_request", 400)
    assert not site.provider.calls


async def test_a_wildcards_model_is_filtered_too() -> None:
    """By the deployments that would serve the model; the same model serves other wires."""
    wild = {"model": "anthropic/*"}
    site = Site({"claude-*": [("c", wild)]}, {})
    embed = site.exchange("claude-*", operation="embeddings", input="x")
    chat = site.exchange("claude-*")
    embed.asked = chat.asked = "claude-haiku-4-5"

    error, answer = await site.ask(embed), await site.ask(chat)

    assert isinstance(error, InvalidRequestError)
    assert error.code == "unsupported_endpoint"
    assert "'claude-haiku-4-5'" in str(error)
    assert not isinstance(answer, Exception)


async def test_a_long_prompt_does_not_turn_to_a_route_without_the_wire() -> None:
    """A prompt that is too long is the caller's error where no fallback could take it."""
    site = Site(
        {"a": ["o"], "b": [("c", CLAUDE)]},
        {"o": [fails("context_window_exceeded", status=400)]},
        context_window_fallbacks=[{"a": ["b"]}],
    )

    await site.ask(site.exchange(operation="embeddings", input="x"))

    assert site.outcome == ("error", "context_window_exceeded", 400)
    assert len(site.attempted) == 1


def test_a_route_that_nobody_can_call_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its deployments speak something that no endpoint can be served with."""
    monkeypatch.setitem(SPOKEN, "litellm", ("postcards",))
    entries = [
        {"model_name": "far", "litellm_params": {"model": "bedrock/x"}},
        {"model_name": "near", "litellm_params": {"model": "bedrock/y"}},
        {"model_name": "near", "litellm_params": {"model": "openai/z", "api_key": "k"}},
    ]

    plan = Plan.from_config(parse_config({"model_list": entries}, {}, "test.yaml"))

    (warning,) = plan.warnings
    assert "'far' cannot be called" in warning
    assert "speak postcards" in warning
