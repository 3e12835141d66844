"""The Messages API through the adapter: answers and streams that OpenAI's client can read."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from msgspec.structs import replace
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from spanledger.clock import Clock
from spanledger.errors import ProviderError
from spanledger.pricing.usage import Usage
from spanledger.providers.http import HttpProvider
from spanledger.wires.base import Frame
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

USAGE = {
    "input_tokens": 10,
    "cache_read_input_tokens": 30,
    "cache_creation_input_tokens": 50,
    "cache_creation": {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 30},
    "output_tokens": 7,
    "output_tokens_details": {"thinking_tokens": 3},
}
COUNTED = Usage(
    input_tokens=90,
    output_tokens=7,
    cache_read_input_tokens=30,
    cache_write_input_tokens=50,
    reasoning_output_tokens=3,
    cache_write_1h_input_tokens=30,
)
MESSAGE: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-4-6-x",
    "content": [
        {"type": "thinking", "thinking": "Hm.", "signature": "sig"},
        {"type": "redacted_thinking", "data": "secret"},
        {"type": "text", "text": "It is "},
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
        {"type": "text", "text": "warm."},
        {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Rome"}},
    ],
    "stop_reason": "tool_use",
    "usage": USAGE,
}


def event(kind: str, **fields: Any) -> bytes:
    """An event as Anthropic sends it."""
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


def start(index: int, kind: str, **fields: Any) -> bytes:
    """The start of a content block."""
    return event("content_block_start", index=index, content_block={"type": kind, **fields})


def delta(index: int, kind: str, **fields: Any) -> bytes:
    """More of a content block."""
    return event("content_block_delta", index=index, delta={"type": kind, **fields})


def stop(index: int) -> bytes:
    """The end of a content block."""
    return event("content_block_stop", index=index)


BEGIN = event(
    "message_start",
    message={**MESSAGE, "content": [], "usage": {**USAGE, "output_tokens": 1}},
)
END = [
    event(
        "message_delta",
        delta={"stop_reason": "tool_use", "stop_sequence": None},
        usage={"output_tokens": 7, "input_tokens": None},
    ),
    event("message_stop"),
]
STREAM = [
    BEGIN,
    start(0, "thinking", thinking="", signature=""),
    event("ping"),
    delta(0, "thinking_delta", thinking="H"),
    delta(0, "thinking_delta", thinking="m."),
    delta(0, "signature_delta", signature="sig"),
    stop(0),
    start(1, "text", text=""),
    delta(1, "text_delta", text="It is "),
    delta(1, "citations_delta", citation={}),
    delta(1, "text_delta", text="wärm."),
    stop(1),
    start(2, "tool_use", id="toolu_1", name="get_weather", input={}),
    delta(2, "input_json_delta", partial_json=""),
    delta(2, "input_json_delta", partial_json='{"city":'),
    delta(2, "input_json_delta", partial_json='"Rome"}'),
    stop(2),
    start(3, "tool_use", id="toolu_2", name="now", input={}),
    stop(3),
    event("an_event_of_next_year", index=9),
    *END,
]


def chunks(frames: list[Frame]) -> list[ChatCompletionChunk]:
    """The frames as OpenAI's client parses them."""
    return [ChatCompletionChunk.model_validate(payload(frame), strict=True) for frame in frames]


async def failure(provider: HttpProvider, request: Any, *, stream: bool = False) -> ProviderError:
    """The error a call ends with."""
    with pytest.raises(ProviderError) as caught:
        await (collect(provider, request) if stream else provider.complete(request))
    return caught.value


async def test_answer(server: Scripted) -> None:
    """A message with thinking, text and tool use is a completion with all of it."""
    provider = HttpProvider(clock=Clock(now_ns=lambda: 1_700_000_000_000_000_000))
    server.json(200, MESSAGE, "request-id: req_1")

    answer = await provider.complete(call(deployment(server.url, "anthropic"), ask()))
    await provider.close()

    request = server.requests[0]
    assert request.path == "/v1/messages"
    assert request.headers["x-api-key"] == KEY
    assert request.headers["anthropic-version"] == "2023-06-01"
    assert "authorization" not in request.headers
    completion = ChatCompletion.model_validate_json(answer.body, strict=True)
    assert (completion.id, completion.model) == ("msg_1", "claude-sonnet-4-6-x")
    assert completion.created == 1_700_000_000
    choice = completion.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content == "It is warm."
    assert choice.message.tool_calls is not None
    assert choice.message.tool_calls[0].model_dump(exclude_none=True) == {
        "id": "toolu_1",
        "type": "function",
        "function": {"name": "get_weather", "arguments": '{"city": "Rome"}'},
    }
    assert choice.message.model_extra == {
        "reasoning_content": "Hm.",
        "thinking_blocks": MESSAGE["content"][:2],
    }
    assert completion.usage is not None
    assert completion.usage.model_dump(exclude_none=True) == {
        "prompt_tokens": 90,
        "completion_tokens": 7,
        "total_tokens": 97,
        "prompt_tokens_details": {"cached_tokens": 30, "cache_write_tokens": 50},
        "completion_tokens_details": {"reasoning_tokens": 3},
        "cache_read_input_tokens": 30,
        "cache_creation_input_tokens": 50,
    }
    assert answer.usage == COUNTED
    assert (answer.response_id, answer.response_model) == ("msg_1", "claude-sonnet-4-6-x")
    assert (answer.finish_reasons, answer.provider_request_id) == (("tool_calls",), "req_1")
    assert answer.output_bytes == len('Hm.It is warm.{"city": "Rome"}')


@pytest.mark.parametrize(
    ("stop_reason", "finish_reason"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("pause_turn", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("new", "stop"),
        (None, "stop"),
    ],
)
async def test_finish_reasons(
    server: Scripted,
    anthropic_provider: HttpProvider,
    stop_reason: str | None,
    finish_reason: str,
) -> None:
    """Each stop reason maps to one finish reason; an answer without blocks has an empty text."""
    server.json(200, {**MESSAGE, "content": [], "stop_reason": stop_reason, "usage": None})

    request = call(deployment(server.url + "/v1", "anthropic"), ask())
    answer = await anthropic_provider.complete(request)

    assert server.requests[0].path == "/v1/messages"
    completion = ChatCompletion.model_validate_json(answer.body, strict=True)
    assert completion.choices[0].finish_reason == finish_reason
    assert completion.choices[0].message.content == ""
    assert (completion.usage, answer.usage) == (None, None)


async def test_stream(server: Scripted, anthropic_provider: HttpProvider) -> None:
    """Events become chunks: role, thinking, text, tool calls by index, finish, usage."""
    server.events(b"".join(STREAM))

    frames = await collect(anthropic_provider, call(deployment(server.url, "anthropic"), ask()))

    read = chunks(frames)
    assert {(c.id, c.model) for c in read} == {("msg_1", "claude-sonnet-4-6-x")}
    deltas = [c.choices[0].delta.model_dump(exclude_unset=True) for c in read if c.choices]
    function = {"name": "get_weather", "arguments": ""}
    signed = {"type": "thinking", "thinking": "Hm.", "signature": "sig"}
    assert deltas == [
        {"role": "assistant", "content": ""},
        {"reasoning_content": "H"},
        {"reasoning_content": "m."},
        {"thinking_blocks": [signed]},
        {"content": "It is "},
        {"content": "wärm."},
        {"tool_calls": [{"index": 0, "id": "toolu_1", "type": "function", "function": function}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"city":'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '"Rome"}'}}]},
        {
            "tool_calls": [
                {
                    "index": 1,
                    "id": "toolu_2",
                    "type": "function",
                    "function": {"name": "now", "arguments": ""},
                }
            ]
        },
        {"tool_calls": [{"index": 1, "function": {"arguments": "{}"}}]},
        {},
    ]
    assert [f.content for f in frames] == [False, *[True] * 2, False, *[True] * 7, False, False]
    assert sum(f.output_bytes for f in frames) == len('Hm.It is w  rm.{"city":"Rome"}{}')
    assert [f.finish_reason for f in frames if f.finish_reason] == ["tool_calls"]
    assert [f.usage for f in frames if f.usage] == [COUNTED, COUNTED]
    assert [f.usage_only for f in frames] == [False] * (len(frames) - 1) + [True]
    assert read[-1].choices == []
    assert read[-1].usage is not None
    assert read[-1].usage.prompt_tokens == 90


async def test_frames_do_not_depend_on_the_network(
    server: Scripted, anthropic_provider: HttpProvider
) -> None:
    """Split at any byte into two writes, a stream gives the same frames."""
    request = call(deployment(server.url, "anthropic"), ask())
    body = b"".join(STREAM)
    server.events(body)
    whole = [payload(f)["choices"] for f in await collect(anthropic_provider, request)]
    for cut in range(1, len(body), 11):
        server.events(body, body[:cut], body[cut:])

        frames = await collect(anthropic_provider, request)

        assert [payload(f)["choices"] for f in frames] == whole, cut


@pytest.mark.parametrize(
    ("events", "kind", "billed"),
    [
        ([], "malformed_response", "unknown"),
        (
            [BEGIN, start(0, "text"), delta(0, "text_delta", text="x")],
            "stream_interrupted",
            "unknown",
        ),
        ([b"data: {oops\n\n"], "malformed_response", "unknown"),
        ([event("content_block_delta", index=0)], "malformed_response", "unknown"),
        (
            [event("error", error={"type": "overloaded_error", "message": "Overloaded"})],
            "overloaded",
            "no",
        ),
        (
            [BEGIN, delta(0, "text_delta", text="x"), event("error", error={"type": "api_error"})],
            "server_error",
            "unknown",
        ),
    ],
)
async def test_broken_streams(
    server: Scripted,
    anthropic_provider: HttpProvider,
    events: list[bytes],
    kind: str,
    billed: str,
) -> None:
    """Truncated, malformed and failing streams end with their kind of error."""
    server.events(b"".join(events) or b"\n")

    error = await failure(
        anthropic_provider, call(deployment(server.url, "anthropic"), ask()), stream=True
    )

    assert (error.kind, error.billed) == (kind, billed)


async def test_searches_and_the_way_it_was_served_are_read(
    server: Scripted, anthropic_provider: HttpProvider
) -> None:
    """Streamed or not: searches are priced separately, and the caller sees them."""
    searched = {"server_tool_use": {"web_search_requests": 2}, "speed": "fast"}
    usage = {**USAGE, **searched, "inference_geo": "us"}
    request = call(deployment(server.url, "anthropic"), ask())
    server.json(200, {**MESSAGE, "usage": usage})
    answer = await anthropic_provider.complete(request)
    begun = event("message_start", message={**MESSAGE, "content": [], "usage": usage})
    server.events(b"".join([begun, *STREAM[7:12], *END]))
    frames = await collect(anthropic_provider, request)

    assert answer.usage is not None
    assert (answer.usage.searches, answer.service) == (2, "fast us")
    assert json.loads(answer.body)["usage"]["server_tool_use"] == {"web_search_requests": 2}
    assert frames[-1].usage is not None
    assert frames[-1].usage.searches == 2
    assert {frame.service for frame in frames if frame.service} == {"fast us"}


async def test_the_input_is_known_from_the_first_event(
    server: Scripted, anthropic_provider: HttpProvider
) -> None:
    """A stream that breaks later has its input reported, including the cache, but no output yet."""
    server.events(b"".join(STREAM))

    frames = await collect(anthropic_provider, call(deployment(server.url, "anthropic"), ask()))

    assert frames[0].input_usage == replace(COUNTED, output_tokens=0, reasoning_output_tokens=0)
    assert frames[0].usage is None
    assert [frame.input_usage for frame in frames[1:]] == [None] * (len(frames) - 1)


async def test_stream_without_its_end_mark_is_whole_once_counted(
    server: Scripted, anthropic_provider: HttpProvider
) -> None:
    """After the stop reason and usage, only the end mark is missing."""
    server.events(b"".join(STREAM[:-1]))

    frames = await collect(anthropic_provider, call(deployment(server.url, "anthropic"), ask()))

    assert frames[-1].usage == COUNTED


async def test_errors(server: Scripted, anthropic_provider: HttpProvider) -> None:
    """Refusals have their kind, streamed or not; invalid answers are malformed."""
    request = call(deployment(server.url, "anthropic"), ask())
    error = {"type": "error", "error": {"type": "rate_limit_error", "message": "slow"}}
    for stream in (False, True):
        server.json(429, error, "retry-after: 4")
        raised = await failure(anthropic_provider, request, stream=stream)
        assert (raised.kind, raised.retry_after_s, raised.billed) == ("rate_limited", 4.0, "no")
        server.json(200, error)
        assert (await failure(anthropic_provider, request, stream=stream)).kind == "rate_limited"
        for body in (b"", b"hi", b"[]", b"{}", b'{"content":7}'):
            server.json(200, body)
            raised = await failure(anthropic_provider, request, stream=stream)
            assert (raised.kind, raised.billed) == ("malformed_response", "unknown")


async def test_embeddings_are_refused(server: Scripted, anthropic_provider: HttpProvider) -> None:
    """Anthropic has none, so nothing is sent."""
    request = call(
        deployment(server.url, "anthropic"), {"model": "r", "input": "x"}, operation="embeddings"
    )

    assert (await failure(anthropic_provider, request)).kind == "invalid_request"
    assert server.requests == []


async def test_aclose_cuts_the_provider_off(
    server: Scripted, anthropic_provider: HttpProvider
) -> None:
    """Closing a stream early hangs up at once."""
    server.answer(head(b"text/event-stream", chunked=True) + chunk(BEGIN))
    frames = anthropic_provider.stream(call(deployment(server.url, "anthropic"), ask()))
    await anext(frames)
    await frames.aclose()

    async with asyncio.timeout(5):
        await server.gone.wait()


async def test_keys_stay_out_of_errors_and_representations(
    server: Scripted, anthropic_provider: HttpProvider
) -> None:
    """An echoed key appears in no error and no repr."""
    request = call(deployment(server.url, "anthropic"), ask())
    for status in (400, 401, 403, 500):
        server.json(status, {"error": {"type": KEY, "message": f"invalid x-api-key {KEY}"}})
        error = await failure(anthropic_provider, request)
        shown = [error, error.told, request, *anthropic_provider._targets.values()]
        assert KEY not in "".join(f"{item!r}{item!s}" for item in shown)
