"""The native adapters against the simulated providers: faults, tools, caches and the bill."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from typing import Any

import httpx
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from spanledger.errors import ConfigError, ProviderError
from spanledger.pricing.usage import Usage
from spanledger.providers import create_providers
from spanledger.providers.base import Deployment, Provider, ProviderKind
from spanledger.sim.host import RunningSim
from tests.service.providers.scripted import ask, call, collect, deployment, payload

NATIVE: tuple[ProviderKind, ...] = ("openai", "anthropic")
MODELS = {"openai": "gpt-4o-mini", "anthropic": "claude-sonnet-4-5"}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}


COUNTS = (
    "input_tokens",
    "output_tokens",
    "cache_read_input_tokens",
    "cache_write_input_tokens",
    "cache_write_1h_input_tokens",
)


def billed_usages(sim: RunningSim) -> list[dict[str, int]]:
    """The tokens of each call on the provider's bill."""
    entries = httpx.get(f"{sim.url}/sim/bill?entries=1").json()["entries"]
    return [{name: entry["usage"][name] for name in COUNTS} for entry in entries]


@pytest.fixture
async def providers() -> AsyncGenerator[dict[ProviderKind, Provider]]:
    """Both native adapters, created as in the gateway."""
    made = create_providers(NATIVE)
    yield made
    for provider in made.values():
        await provider.close()


def at(sim: RunningSim, kind: ProviderKind, faults: str = "") -> Deployment:
    """A deployment of the simulator with a fault in its model's name."""
    url = sim.openai_url if kind == "openai" else sim.url
    return deployment(url, kind, MODELS[kind] + (f"!{faults}" if faults else ""))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kind", NATIVE)
@pytest.mark.parametrize(
    ("fault", "kinds", "billed"),
    [
        ("429;retry_after=7", ("rate_limited",), "no"),
        ("500", ("server_error",), "no"),
        ("503", ("overloaded",), "no"),
        ("529", ("overloaded",), "no"),
        ("400", ("invalid_request",), "no"),
        ("401", ("authentication_failed",), "no"),
        ("404", ("not_found",), "no"),
        ("context_window", ("context_window_exceeded",), "no"),
        ("content_filter", ("content_filtered",), "no"),
        ("reset", ("connection_error",), "no"),
        ("timeout", ("timeout",), "unknown"),
        ("garbage", ("malformed_response",), "no"),
        ("malformed:3", ("malformed_response",), "unknown"),
        ("cut:3", ("malformed_response", "stream_interrupted"), "unknown"),
        ("stall:3", ("timeout",), "unknown"),
        ("huge:1", ("malformed_response",), "unknown"),
    ],
)
async def test_faults(
    sim: RunningSim,
    providers: dict[ProviderKind, Provider],
    kind: ProviderKind,
    fault: str,
    kinds: tuple[str, ...],
    billed: str,
    stream: bool,
) -> None:
    """Every fault, on both wires, streamed or not, has its kind, and says whether money is owed."""
    # Only a fault that waits is waited for: a slow machine must not turn the others into timeouts.
    patience_s = 0.3 if "timeout" in kinds else 60.0
    request = call(
        at(sim, kind, fault),
        ask(max_tokens=20),
        timeout_s=patience_s,
        stream_idle_timeout_s=patience_s,
        max_response_bytes=100_000,
    )
    provider = providers[kind]
    with pytest.raises(ProviderError) as caught:
        await (collect(provider, request) if stream else provider.complete(request))

    error = caught.value
    assert error.kind == kinds[-1 if stream else 0]
    assert error.billed == billed
    assert error.retry_after_s == (7.0 if error.kind == "rate_limited" else error.retry_after_s)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kind", NATIVE)
async def test_tool_round_trip(
    sim: RunningSim, providers: dict[ProviderKind, Provider], kind: ProviderKind, stream: bool
) -> None:
    """A tool call arrives with its arguments, and its result is sent back, on both wires."""
    messages: list[Any] = [{"role": "user", "content": "Weather in Rome?"}]
    request = call(at(sim, kind), ask(messages=messages, tools=[WEATHER], tool_choice="required"))
    if stream:
        arguments = name = identity = ""
        for frame in await collect(providers[kind], request):
            chunk = ChatCompletionChunk.model_validate(payload(frame), strict=True)
            for choice in chunk.choices:
                for piece in choice.delta.tool_calls or ():
                    assert piece.function is not None
                    identity += piece.id or ""
                    name += piece.function.name or ""
                    arguments += piece.function.arguments or ""
    else:
        answer = await providers[kind].complete(request)
        assert answer.finish_reasons == ("tool_calls",)
        completion = ChatCompletion.model_validate_json(answer.body, strict=True)
        tool_calls = completion.choices[0].message.tool_calls
        assert tool_calls is not None
        assert tool_calls[0].type == "function"
        identity, name = tool_calls[0].id, tool_calls[0].function.name
        arguments = tool_calls[0].function.arguments

    assert name == "get_weather"
    assert set(json.loads(arguments)) == {"city"}
    function = {"name": name, "arguments": arguments}
    messages += [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": identity, "type": "function", "function": function}],
        },
        {"role": "tool", "tool_call_id": identity, "content": "20 degrees"},
    ]
    again = await providers[kind].complete(
        call(at(sim, kind), ask(messages=messages, tools=[WEATHER]))
    )
    assert again.finish_reasons == ("stop",)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kind", NATIVE)
async def test_usage_is_the_providers_bill(
    sim: RunningSim, providers: dict[ProviderKind, Provider], kind: ProviderKind, stream: bool
) -> None:
    """Tokens in our records are those on the provider's bill, cached ones included."""
    before = len(billed_usages(sim))
    long = {"type": "text", "text": f"{kind} {stream} word " * 2000}
    if kind == "anthropic":
        long["cache_control"] = {"type": "ephemeral", "ttl": "1h"}  # type: ignore[assignment] # JSON
    messages = [{"role": "user", "content": [long]}]
    request = call(at(sim, kind), ask(messages=messages, max_tokens=30))
    usages: list[Usage | None] = []
    for _ in range(2):
        if stream:
            usages.append((await collect(providers[kind], request))[-1].usage)
        else:
            usages.append((await providers[kind].complete(request)).usage)

    billed = billed_usages(sim)[before:]
    assert [usage and {name: getattr(usage, name) for name in COUNTS} for usage in usages] == billed
    assert billed[1]["cache_read_input_tokens"] > 1000
    assert (billed[0]["cache_write_1h_input_tokens"] > 1000) == (kind == "anthropic")


@pytest.mark.parametrize("kind", NATIVE)
async def test_missing_usage_is_none(
    sim: RunningSim, providers: dict[ProviderKind, Provider], kind: ProviderKind
) -> None:
    """Without reported usage none is invented, and there are bytes to estimate from."""
    answer = await providers[kind].complete(call(at(sim, kind, "missing_usage"), ask()))
    assert answer.usage is None
    assert answer.output_bytes > 0
    frames = await collect(providers[kind], call(at(sim, kind, "missing_usage"), ask()))
    assert all(frame.usage is None for frame in frames)
    assert sum(frame.output_bytes for frame in frames) > 0


async def test_thinking_comes_through(
    sim: RunningSim, providers: dict[ProviderKind, Provider]
) -> None:
    """Thinking requested by effort arrives as reasoning, and its blocks can be sent back."""
    messages: list[Any] = [{"role": "user", "content": "Think"}]
    request = call(at(sim, "anthropic"), ask(messages=messages, reasoning_effort="low"))
    answer = await providers["anthropic"].complete(request)
    message = json.loads(answer.body)["choices"][0]["message"]

    assert message["reasoning_content"]
    assert message["thinking_blocks"][0]["signature"]
    follow = [*messages, message, {"role": "user", "content": "Go on"}]
    again = call(at(sim, "anthropic"), ask(messages=follow, reasoning_effort="low"))
    assert (await providers["anthropic"].complete(again)).finish_reasons


def test_missing_litellm_is_told_at_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra, a deployment that needs it stops startup with what to install."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)

    with pytest.raises(ConfigError, match=r"uv tool install '\.\[litellm\]'"):
        create_providers(["litellm"])
