"""The adapter for all other providers, with the real LiteLLM, against the simulated providers."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from spanledger.errors import ProviderError
from spanledger.providers.base import Call
from spanledger.providers.litellm import LiteLLMProvider
from spanledger.sim.host import RunningSim
from spanledger.wires import CHAT
from tests.service.providers.scripted import (
    KEY,
    Scripted,
    ask,
    call,
    chunk,
    collect,
    deployment,
    head,
    payload,
)

pytestmark = [
    # We cannot fix LiteLLM or its dependencies.
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.timeout(180),
]

MODELS = {"openai": "openai/gpt-4o-mini", "anthropic": "anthropic/claude-sonnet-4-5"}
WIRES = tuple(MODELS)
ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}
    ],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


@pytest.fixture
async def litellm() -> AsyncGenerator[LiteLLMProvider]:
    """The adapter, imported and closed."""
    provider = LiteLLMProvider()
    provider.warm()
    assert provider._module is not None
    await asyncio.wrap_future(provider._module)
    yield provider
    await provider.close()


def at(sim: RunningSim, wire: str, faults: str = "", **fields: Any) -> Call:
    """A call through LiteLLM to one wire of the simulator."""
    url = sim.openai_url if wire == "openai" else sim.url
    model = MODELS[wire] + (f"!{faults}" if faults else "")
    return call(deployment(url, "litellm", model), ask(**fields), timeout_s=10)


@pytest.mark.parametrize("wire", WIRES)
async def test_answer_and_stream(sim: RunningSim, litellm: LiteLLMProvider, wire: str) -> None:
    """Answers and streams have OpenAI's form, with usage and the provider's request id."""
    answer = await litellm.complete(at(sim, wire, max_tokens=20))

    completion = ChatCompletion.model_validate_json(answer.body)
    assert completion.choices[0].message.content
    assert completion.usage is not None
    assert answer.usage is not None
    assert answer.usage.output_tokens == completion.usage.completion_tokens == 20
    assert answer.finish_reasons == ("length",)
    assert answer.provider_request_id.startswith("req_")

    frames = await collect(litellm, at(sim, wire, max_tokens=20))
    chunks = [ChatCompletionChunk.model_validate(payload(frame)) for frame in frames]
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert [f.usage_only for f in frames] == [False] * (len(frames) - 1) + [True]
    assert frames[-1].usage is not None
    assert frames[-1].usage.output_tokens == 20
    assert b'"cost"' not in frames[-1].data
    assert frames[-2].finish_reason == "length"
    assert frames[0].provider_request_id.startswith("req_")


@pytest.mark.parametrize("wire", WIRES)
async def test_tools(sim: RunningSim, litellm: LiteLLMProvider, wire: str) -> None:
    """Tool calls arrive, streamed or not."""
    fields: dict[str, Any] = {"tools": [WEATHER], "tool_choice": "required"}
    answer = await litellm.complete(at(sim, wire, **fields))
    assert answer.finish_reasons == ("tool_calls",)
    completion = ChatCompletion.model_validate_json(answer.body)
    tool_calls = completion.choices[0].message.tool_calls
    assert tool_calls is not None
    assert tool_calls[0].type == "function"
    assert tool_calls[0].function.name == "get_weather"

    frames = await collect(litellm, at(sim, wire, **fields))
    pieces = [
        piece
        for frame in frames
        for choice in ChatCompletionChunk.model_validate(payload(frame)).choices
        for piece in choice.delta.tool_calls or ()
    ]
    arguments = "".join(p.function.arguments or "" for p in pieces if p.function)
    assert json.loads(arguments).keys() <= {"city"}
    assert any(frame.content for frame in frames)
    assert frames[-2].finish_reason == "tool_calls"


async def test_embeddings(sim: RunningSim, litellm: LiteLLMProvider) -> None:
    """Embeddings arrive with their usage."""
    request = call(
        deployment(sim.openai_url, "litellm", "openai/text-embedding-3-small"),
        {"model": "route", "input": ["one", "two"], "dimensions": 8},
        operation="embeddings",
    )

    answer = await litellm.complete(request)

    assert [len(item["embedding"]) for item in json.loads(answer.body)["data"]] == [8, 8]
    assert answer.usage is not None
    assert answer.usage.input_tokens > 0


@pytest.mark.parametrize("wire", WIRES)
async def test_faults(
    sim: RunningSim,
    litellm: LiteLLMProvider,
    wire: str,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """However LiteLLM wraps a fault, it gets the native adapters' kind, and nothing is logged."""
    caplog.set_level(logging.DEBUG)
    cases = {
        "429;retry_after=7": ("rate_limited", "rate_limited"),
        "500": ("server_error", "server_error"),
        "503": ("overloaded", "overloaded"),
        "529": ("overloaded", "overloaded"),
        "401": ("authentication_failed", "authentication_failed"),
        "403": ("authentication_failed", "authentication_failed"),
        "404": ("not_found", "not_found"),
        "408": ("timeout", "timeout"),
        "422": ("invalid_request", "invalid_request"),
        "context_window": ("context_window_exceeded", "context_window_exceeded"),
        "content_filter": ("content_filtered", "content_filtered"),
        "reset": ("connection_error", "connection_error"),
        "cut:3": ("malformed_response", "stream_interrupted"),
    }
    for fault, kinds in cases.items():
        for stream, kind in zip((False, True), kinds, strict=True):
            request = at(sim, wire, fault, max_tokens=20)
            with pytest.raises(ProviderError) as caught:
                await (collect(litellm, request) if stream else litellm.complete(request))
            error = caught.value

            assert error.kind == kind, (fault, stream)
            owed = fault in ("408", "cut:3")
            assert error.billed == ("unknown" if owed else "no"), (fault, stream)
            assert KEY not in f"{error!r}{error}{error.told!r}"
            if kind == "rate_limited":
                assert error.retry_after_s == 7.0
            if kind == "context_window_exceeded":
                assert error.told is not None
                assert error.told["code"] == "context_length_exceeded"
    captured = capfd.readouterr()
    assert captured.out == ""
    assert KEY not in captured.err + caplog.text
    assert "LiteLLM" not in caplog.text


@pytest.mark.parametrize("stream", [False, True])
async def test_timeout(sim: RunningSim, litellm: LiteLLMProvider, stream: bool) -> None:
    """No answer in time is a timeout, and may have cost money."""
    slow = at(sim, "openai", "timeout")
    request = Call(slow.deployment, CHAT, slow.fields, timeout_s=1.0)
    with pytest.raises(ProviderError) as caught:
        await (collect(litellm, request) if stream else litellm.complete(request))

    assert (caught.value.kind, caught.value.billed) == ("timeout", "unknown")


async def test_stream_that_held_nothing(sim: RunningSim, litellm: LiteLLMProvider) -> None:
    """LiteLLM invents an end for a body that was not a stream; it is not relayed as an answer."""
    with pytest.raises(ProviderError) as caught:
        await collect(litellm, at(sim, "openai", "garbage"))

    assert caught.value.kind == "malformed_response"


async def test_a_caller_cannot_steer_litellm(server: Scripted, litellm: LiteLLMProvider) -> None:
    """LiteLLM's own parameters in a body are sent to the provider as data, so our key is not
    diverted."""
    server.json(200, ANSWER)
    steering = {
        "api_base": "http://127.0.0.1:1",
        "base_url": "http://127.0.0.1:1",
        "api_key": "theirs",
        "mock_response": "made up",
        "num_retries": 9,
        "fallbacks": ["x"],
        "custom_llm_provider": "anthropic",
        "extra_headers": {"x-steered": "1"},
        "timeout": 0.0001,
        "metadata": {"api_base": "http://127.0.0.1:1"},
        "guided_json": {"type": "object"},
    }
    target = deployment(server.url, "litellm", "openai/m", extra={"extra_body": {"fixed": 1}})

    answer = await litellm.complete(call(target, ask(temperature=0.5, **steering)))

    assert json.loads(answer.body)["choices"][0]["message"]["content"] == "hi"
    request = server.requests[0]
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert "x-steered" not in request.headers
    assert request.json["guided_json"] == {"type": "object"}
    assert request.json["fixed"] == 1
    assert request.json["temperature"] == 0.5
    assert "metadata" not in request.json


async def test_one_try_only(server: Scripted, litellm: LiteLLMProvider) -> None:
    """Routing does the retries: LiteLLM and OpenAI's client beneath it send one request."""
    server.json(500, {"error": {"message": "x", "type": "server_error"}})
    with pytest.raises(ProviderError):
        await litellm.complete(call(deployment(server.url, "litellm", "openai/m"), ask()))

    assert len(server.requests) == 1


async def test_cap_and_extra_parameters(server: Scripted, litellm: LiteLLMProvider) -> None:
    """A budget's cap lowers the caller's; a deployment's parameters are defaults."""
    server.json(200, ANSWER)
    target = deployment(server.url, "litellm", "openai/m", extra={"temperature": 0.1, "top_p": 0.2})

    await litellm.complete(
        call(target, ask(max_tokens=99, top_p=0.9, n=None), max_output_tokens=50)
    )

    sent = server.requests[0].json
    assert (sent["max_tokens"], sent["temperature"], sent["top_p"]) == (50, 0.1, 0.9)


async def test_aclose_cuts_the_provider_off(server: Scripted, litellm: LiteLLMProvider) -> None:
    """Closing a stream early closes the connection, through all of LiteLLM's layers."""
    choice = {"index": 0, "delta": {"role": "assistant", "content": "x"}, "finish_reason": None}
    data = {**ANSWER, "object": "chat.completion.chunk", "choices": [choice], "usage": None}
    piece = b"data: " + json.dumps(data).encode() + b"\n\n"
    server.answer(head(b"text/event-stream", chunked=True) + chunk(piece * 2))
    frames = litellm.stream(call(deployment(server.url, "litellm", "openai/m"), ask()))
    await anext(frames)
    await frames.aclose()

    async with asyncio.timeout(5):
        await server.gone.wait()


async def test_misconfigured_model_is_not_the_callers_fault(litellm: LiteLLMProvider) -> None:
    """A provider that LiteLLM does not know is treated as a deployment that does not exist."""
    target = deployment(None, "litellm", "no-such-provider/m")
    with pytest.raises(ProviderError) as caught:
        await litellm.complete(call(target, ask()))

    assert (caught.value.kind, caught.value.told) == ("not_found", None)


async def test_import_that_fails_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken installation fails the calls that need it, and says what to install."""

    def broken(name: str) -> Any:
        raise ModuleNotFoundError("No module named 'mcp'", name="mcp")

    monkeypatch.setattr("importlib.import_module", broken)
    provider = LiteLLMProvider()
    with pytest.raises(ProviderError, match="mcp") as caught:
        await provider.complete(call(deployment(None, "litellm", "x/m"), ask()))

    assert "uv tool install" in str(caught.value)
    assert caught.value.billed == "no"
    await provider.close()
