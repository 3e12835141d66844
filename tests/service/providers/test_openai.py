"""OpenAI's wire, byte by byte: what goes out, what comes back, and how it breaks."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import pytest

from spanledger.errors import ProviderError
from spanledger.pricing.usage import Usage
from spanledger.providers.base import Frame
from spanledger.providers.openai import OpenAIProvider
from spanledger.providers.transport import Limits
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

DONE = b"data: [DONE]\n\n"
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
ANSWER: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-4o-mini-2024",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "é!"}, "finish_reason": "stop"}
    ],
    "usage": USAGE,
}


def event(data: object) -> bytes:
    """An event as OpenAI sends it."""
    return b"data: " + json.dumps(data, ensure_ascii=False).encode() + b"\n\n"


def delta(finish: str | None = None, **fields: object) -> bytes:
    """A chunk with one choice."""
    choice = {"index": 0, "delta": fields, "finish_reason": finish}
    return event({"id": "chatcmpl-1", "model": "gpt-4o-mini-2024", "choices": [choice]})


COUNTED = event({"id": "chatcmpl-1", "choices": [], "usage": USAGE})
STREAM = [
    delta(role="assistant", content=""),
    delta(content="Hé"),
    delta(content="llo"),
    delta("stop"),
    COUNTED,
]


async def failure(provider: OpenAIProvider, request: Any, *, stream: bool = False) -> ProviderError:
    """The error a call ends with."""
    with pytest.raises(ProviderError) as caught:
        await (collect(provider, request) if stream else provider.complete(request))
    return caught.value


async def test_body_goes_out_untouched_but_for_the_model(
    server: Scripted, openai_provider: OpenAIProvider
) -> None:
    """Unknown fields keep their very bytes, and no header of a caller's can be among ours."""
    server.json(200, ANSWER, "x-request-id: req_1")
    odd = b'{ "x_new" : {"b":1.0e5,  "a":[ ]}, "messages":[{"role":"user","content":"\\u00e9"}]}'
    raw = b'{"model":"route","stream":false,"stream_options":null,"more":%b,"seed":18446744073709551616}'

    answer = await openai_provider.complete(call(deployment(server.url), raw % odd))

    request = server.requests[0]
    assert request.path == "/chat/completions"
    assert odd in request.body
    assert b'"seed":18446744073709551616' in request.body
    assert request.json["model"] == "gpt-4o-mini"
    assert set(request.json) == {"model", "more", "seed"}
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert set(request.headers) == {
        "host",
        "authorization",
        "content-type",
        "content-length",
        "user-agent",
    }
    assert answer.body == json.dumps(ANSWER).encode()
    assert answer.usage == Usage(input_tokens=3, output_tokens=2)
    assert (answer.response_id, answer.response_model) == ("chatcmpl-1", "gpt-4o-mini-2024")
    assert (answer.finish_reasons, answer.provider_request_id) == (("stop",), "req_1")


async def test_embeddings(server: Scripted, openai_provider: OpenAIProvider) -> None:
    """Embeddings go to their own path and come back as they are."""
    body = {"object": "list", "data": [{"embedding": [0.1]}], "model": "e", "usage": USAGE}
    server.json(200, body)
    request = call(deployment(server.url), {"model": "r", "input": "x"}, operation="embeddings")

    answer = await openai_provider.complete(request)

    assert server.requests[0].path == "/embeddings"
    assert json.loads(answer.body) == body
    assert answer.usage is not None
    assert answer.usage.input_tokens == 3


@pytest.mark.parametrize(
    ("base", "given", "sent"),
    [
        ("own", {}, {"max_tokens": 50}),
        ("openai", {}, {"max_completion_tokens": 50}),
        ("own", {"max_tokens": 9}, {"max_tokens": 9}),
        ("own", {"max_tokens": 99}, {"max_tokens": 50}),
        ("openai", {"max_tokens": 99}, {"max_tokens": 50}),
        ("own", {"max_completion_tokens": 99}, {"max_completion_tokens": 50}),
        ("own", {"max_completion_tokens": None}, {"max_tokens": 50, "max_completion_tokens": None}),
    ],
)
async def test_cap(base: str, given: dict[str, Any], sent: dict[str, Any]) -> None:
    """A budget's cap lowers the key the caller used, and never adds a second one."""
    from spanledger.providers.openai import _cap_key
    from spanledger.providers.openai_wire import encode_request

    target = deployment(None if base == "openai" else "http://vllm:8000/v1")
    request = call(target, ask(**given), max_output_tokens=50)

    body = json.loads(encode_request(request, stream=False, cap_key=_cap_key(target)))

    assert {key: value for key, value in body.items() if "max" in key} == sent


async def test_stream_asks_for_usage_and_keeps_other_options(
    server: Scripted, openai_provider: OpenAIProvider
) -> None:
    """`include_usage` is added to what the caller set, which stays."""
    server.events(b"".join(STREAM) + DONE)
    options = {"include_usage": False, "include_obfuscation": False}

    await collect(openai_provider, call(deployment(server.url), ask(stream_options=options)))

    assert server.requests[0].json["stream"] is True
    assert server.requests[0].json["stream_options"] == {
        "include_usage": True,
        "include_obfuscation": False,
    }


async def test_frames_are_the_events_as_they_came(
    server: Scripted, openai_provider: OpenAIProvider
) -> None:
    """Each event is one frame with its own bytes; comments go, the end mark stays here."""
    server.events(b": ping\n\n" + b"".join(STREAM) + DONE)

    frames = await collect(openai_provider, call(deployment(server.url), ask()))

    assert [frame.data for frame in frames] == STREAM
    assert [frame.content for frame in frames] == [False, True, True, False, False]
    assert [frame.output_bytes for frame in frames] == [0, 3, 3, 0, 0]
    assert [frame.finish_reason for frame in frames] == ["", "", "", "stop", ""]
    assert [frame.usage_only for frame in frames] == [False] * 4 + [True]
    assert frames[-1].usage == Usage(input_tokens=3, output_tokens=2)
    assert {frame.response_id for frame in frames} == {"chatcmpl-1"}


async def test_frames_do_not_depend_on_the_network(
    server: Scripted, openai_provider: OpenAIProvider
) -> None:
    """Cut at every byte into two writes, a stream gives the same frames."""
    body = b"".join(STREAM) + DONE
    request = call(deployment(server.url), ask())
    for cut in range(1, len(body)):
        server.events(body, body[:cut], body[cut:])

        frames = await collect(openai_provider, request)

        assert [frame.data for frame in frames] == STREAM, cut


@pytest.mark.parametrize(
    ("field", "size"),
    [
        ({"refusal": "no"}, 2),
        ({"reasoning_content": "hmm"}, 3),
        ({"reasoning": "hmm"}, 3),
        ({"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": ""}}]}, 0),
        ({"tool_calls": [{"index": 0, "function": {"arguments": '{"a"'}}]}, 4),
        ({"function_call": {"name": "f", "arguments": "{}"}}, 2),
        ({"audio": {"data": "AAAA"}}, 0),
        ({"content": [{"type": "text"}]}, 15),
    ],
)
async def test_what_counts_as_content(
    server: Scripted, openai_provider: OpenAIProvider, field: dict[str, Any], size: int
) -> None:
    """Anything a client could have acted on ends the chance of another deployment."""
    server.events(delta(**field) + delta("stop") + DONE)

    frames = await collect(openai_provider, call(deployment(server.url), ask()))

    assert frames[0].content
    assert frames[0].output_bytes in (size, size + 1)


async def test_missing_usage_leaves_the_bytes_to_count(
    server: Scripted, openai_provider: OpenAIProvider
) -> None:
    """Without usage, or with garbage in its place, text and arguments are measured."""
    message = {
        "role": "assistant",
        "content": "é!",
        "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{}"}}],
    }
    garbage: list[object] = [None, {}, [], "none", {"prompt_tokens": "x"}]
    for usage in garbage:
        server.json(200, {**ANSWER, "choices": [{"message": message}], "usage": usage})
        answer = await openai_provider.complete(call(deployment(server.url), ask()))

        assert (answer.usage, answer.output_bytes) == (None, len("é!{}".encode()))


@pytest.mark.parametrize(
    ("pieces", "kind"),
    [
        ([], "malformed_response"),
        ([b": ping\n\n"], "malformed_response"),
        ([STREAM[0]], "stream_interrupted"),
        (STREAM[:4], "stream_interrupted"),
        ([STREAM[0], COUNTED], "stream_interrupted"),
        ([*STREAM[:4], COUNTED[:-9]], "stream_interrupted"),
        (STREAM, None),
        ([*STREAM[:4], b"data: [DONE]"], None),
    ],
)
async def test_streams_without_an_end_mark(
    server: Scripted, openai_provider: OpenAIProvider, pieces: list[bytes], kind: str | None
) -> None:
    """A stream that closes in good order is whole only if it was finished and counted."""
    server.events(b"".join(pieces) or b"\n")
    request = call(deployment(server.url), ask())
    if kind is None:
        assert await collect(openai_provider, request)
        return

    error = await failure(openai_provider, request, stream=True)

    assert (error.kind, error.billed) == (kind, "unknown")


async def test_connection_lost_in_a_stream(
    server: Scripted, openai_provider: OpenAIProvider
) -> None:
    """The frames before the break come through, then the break is told."""
    server.events(b"", *STREAM[:2], hang_up=True)
    frames: list[Frame] = []

    async def read() -> None:
        async for frame in openai_provider.stream(call(deployment(server.url), ask())):
            frames.append(frame)  # noqa: PERF401 - a comprehension would lose them

    with pytest.raises(ProviderError) as caught:
        await read()

    assert [frame.data for frame in frames] == STREAM[:2]
    assert (caught.value.kind, caught.value.billed) == ("stream_interrupted", "unknown")


@pytest.mark.parametrize(
    ("data", "kind", "billed"),
    [
        (b"data: {oops\n\n", "malformed_response", "unknown"),
        (b"data: [1]\n\n", "malformed_response", "unknown"),
        (b'data: {"choices":[{"delta":{"content":"\xff"}}]}\n\n', "malformed_response", "unknown"),
        (event({"error": {"message": "m", "code": "rate_limit_exceeded"}}), "rate_limited", "no"),
        (event({"error": {"message": "m", "type": "server_error"}}), "server_error", "no"),
        (event({"error": {"message": "maximum context length"}}), "context_window_exceeded", "no"),
        (b"data: " + b"x" * 5000 + b"\n\n", "malformed_response", "unknown"),
    ],
)
async def test_bad_chunks(
    server: Scripted, openai_provider: OpenAIProvider, data: bytes, kind: str, billed: str
) -> None:
    """A broken, huge or failing chunk ends the stream with its kind; once content came, money
    may be owed."""
    request = call(deployment(server.url), ask(), max_response_bytes=4000)
    server.events(data + DONE)
    assert (await failure(openai_provider, request, stream=True)).billed == billed

    server.events(STREAM[1] + data + DONE)
    error = await failure(openai_provider, request, stream=True)
    assert (error.kind, error.billed) == (kind, "unknown")


async def test_stream_refused_with_a_status_or_in_json(
    server: Scripted, openai_provider: OpenAIProvider
) -> None:
    """Errors before the stream are the same as without one, also under a status of 200."""
    request = call(deployment(server.url), ask())
    server.json(429, {"error": {"message": "slow"}}, "retry-after: 3")
    error = await failure(openai_provider, request, stream=True)
    assert (error.kind, error.status, error.retry_after_s) == ("rate_limited", 429, 3.0)

    server.json(200, {"error": {"message": "m", "code": "context_length_exceeded"}})
    assert (await failure(openai_provider, request, stream=True)).kind == "context_window_exceeded"
    assert (await failure(openai_provider, request)).kind == "context_window_exceeded"

    server.json(200, ANSWER)
    assert (await failure(openai_provider, request, stream=True)).kind == "malformed_response"


@pytest.mark.parametrize(
    "body", [b"", b"hello", b"[]", b"{}", b'{"choices":[]}', b'{"choices":7}', b'{"a":' * 50_000]
)
async def test_answers_that_are_none(
    server: Scripted, openai_provider: OpenAIProvider, body: bytes
) -> None:
    """A good status with something else under it is malformed, and may have cost money."""
    server.json(200, body)

    error = await failure(openai_provider, call(deployment(server.url), ask()))

    assert (error.kind, error.billed) == ("malformed_response", "unknown")


async def test_answer_over_the_limit(server: Scripted, openai_provider: OpenAIProvider) -> None:
    """An answer larger than the limit is not read to its end."""
    server.answer(head(b"application/json", chunked=True), *[chunk(b"x" * 1000)] * 20)

    error = await failure(
        openai_provider, call(deployment(server.url), ask(), max_response_bytes=5000)
    )

    assert error.kind == "malformed_response"
    assert "larger than 5000 bytes" in str(error)
    async with asyncio.timeout(5):
        await server.gone.wait()


async def test_half_an_answer(server: Scripted, openai_provider: OpenAIProvider) -> None:
    """A connection that breaks within an answer: malformed, and perhaps billed."""
    server.answer(head(b"application/json", extra=b"content-length: 99\r\n") + b"{", hang_up=True)

    error = await failure(openai_provider, call(deployment(server.url), ask()))

    assert (error.kind, error.billed) == ("malformed_response", "unknown")


async def test_no_answer(server: Scripted, openai_provider: OpenAIProvider) -> None:
    """Hung up on, refused, unresolvable, not HTTP, not a URL: no answer byte, nothing billed."""
    server.answer(hang_up=True)
    for stream in (False, True):
        error = await failure(openai_provider, call(deployment(server.url), ask()), stream=stream)
        assert (error.kind, error.billed) == ("connection_error", "no")

    for url in ("http://127.0.0.1:1", "http://no-such-host.invalid", "ftp://x", "::", "https://"):
        error = await failure(openai_provider, call(deployment(url), ask()))
        assert (error.kind, error.billed) == ("connection_error", "no"), url

    unanswered = deployment(server.url.replace("http", "https"))
    tls = await failure(openai_provider, call(unanswered, ask(), timeout_s=0.1))
    assert (tls.kind, tls.billed) == ("connection_error", "no")

    server.answer(b"SSH-2.0-OpenSSH\r\n\r\n", hang_up=True)
    error = await failure(openai_provider, call(deployment(server.url), ask()))
    assert error.kind == "malformed_response"


async def test_stale_connection_is_told_not_retried(
    server: Scripted, openai_provider: OpenAIProvider
) -> None:
    """A kept connection that the server drops on the next request is a connection error."""
    request = call(deployment(server.url), ask())
    server.json(200, ANSWER)
    await openai_provider.complete(request)
    server.answer(hang_up=True)

    error = await failure(openai_provider, request)

    assert (error.kind, error.billed) == ("connection_error", "no")
    assert (server.connections, len(server.requests)) == (1, 2)


@pytest.mark.parametrize("stream", [False, True])
async def test_timeout(server: Scripted, openai_provider: OpenAIProvider, stream: bool) -> None:
    """No answer in time: the connection is cut, and it may have cost money."""
    server.answer(b"HTTP/1.1 200 OK\r\n")

    error = await failure(
        openai_provider, call(deployment(server.url), ask(), timeout_s=0.05), stream=stream
    )

    assert (error.kind, error.billed) == ("timeout", "unknown")
    async with asyncio.timeout(5):
        await server.gone.wait()


async def test_silence_within_a_stream(server: Scripted, openai_provider: OpenAIProvider) -> None:
    """A stream that falls silent for too long is cut; until the first chunk the try's own
    timeout counts."""
    server.answer(head(b"text/event-stream", chunked=True) + chunk(STREAM[1]))
    request = call(deployment(server.url), ask(), stream_idle_timeout_s=0.05)
    error = await failure(openai_provider, request, stream=True)
    assert (error.kind, error.billed) == ("timeout", "unknown")
    async with asyncio.timeout(5):
        await server.gone.wait()

    async def late(writer: asyncio.StreamWriter) -> None:
        writer.write(head(b"text/event-stream", chunked=True))
        await asyncio.sleep(0.15)
        writer.write(chunk(b"".join(STREAM) + DONE) + b"0\r\n\r\n")

    server.script = late
    assert len(await collect(openai_provider, request)) == len(STREAM)


async def test_aclose_cuts_the_provider_off(
    server: Scripted, openai_provider: OpenAIProvider
) -> None:
    """Closing a stream early, or cancelling its reader, hangs up at once."""
    server.answer(head(b"text/event-stream", chunked=True) + chunk(STREAM[1]))
    request = call(deployment(server.url), ask())
    frames = openai_provider.stream(request)
    await anext(frames)
    await frames.aclose()
    async with asyncio.timeout(5):
        await server.gone.wait()

    for started in (False, True):
        server.gone.clear()
        server.answer(head(b"text/event-stream", chunked=True) if started else b"")
        task = asyncio.create_task(collect(openai_provider, request))
        server.asked.clear()
        async with asyncio.timeout(5):
            await server.asked.wait()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        async with asyncio.timeout(5):
            await server.gone.wait()


async def test_connection_is_kept_after_a_stream(
    server: Scripted, openai_provider: OpenAIProvider
) -> None:
    """The bytes after an end mark are read, so that the next call needs no handshake."""
    request = call(deployment(server.url), ask())
    for _ in range(3):
        server.events(b"".join(STREAM) + DONE)
        await collect(openai_provider, request)
        await asyncio.gather(*openai_provider._transport._drains)

    assert server.connections == 1


async def test_endless_stream_after_its_end_mark_is_cut(server: Scripted) -> None:
    """A server that goes on after its end mark holds neither the caller nor a connection."""
    provider = OpenAIProvider(Limits(drain_timeout_s=0.05))
    server.answer(head(b"text/event-stream", chunked=True) + chunk(b"".join(STREAM) + DONE))

    assert len(await collect(provider, call(deployment(server.url), ask()))) == len(STREAM)

    async with asyncio.timeout(5):
        await server.gone.wait()
    await provider.close()


async def test_redirects_are_not_followed(
    server: Scripted, openai_provider: OpenAIProvider
) -> None:
    """A key is never carried to where a provider points."""
    server.json(307, {}, f"location: {server.url}/elsewhere")

    error = await failure(openai_provider, call(deployment(server.url), ask()))

    assert error.kind == "not_found"
    assert "redirect" in str(error)
    assert len(server.requests) == 1


async def test_large_bodies(server: Scripted, openai_provider: OpenAIProvider) -> None:
    """A prompt of several megabytes arrives whole."""
    server.json(200, ANSWER)
    text = "é" * 1_500_000

    await openai_provider.complete(call(deployment(server.url), ask(prompt=text)))

    assert server.requests[0].json["prompt"] == text


async def test_keys_stay_out_of_errors_and_representations(
    server: Scripted, openai_provider: OpenAIProvider
) -> None:
    """An echoed key is neither in the error, nor in what it came from, nor in any repr."""
    target = deployment(server.url)
    request = call(target, ask())
    for status in (400, 401, 500):
        server.json(
            status, {"error": {"message": f"Incorrect API key provided: {KEY}", "code": KEY}}
        )
        error = await failure(openai_provider, request)
        chain: list[BaseException | None] = [error, error.__cause__, error.__context__]
        assert KEY not in "".join(f"{link!r}{link}" for link in chain) + repr(error.body)
    refused = await failure(openai_provider, call(deployment("http://127.0.0.1:1"), ask()))
    shown = [refused, refused.__context__, request, target, *openai_provider._targets.values()]
    assert KEY not in "".join(f"{item!r}{item}" for item in shown)

    broken = call(deployment(server.url, api_key="two\nlines"), ask())
    error = await failure(openai_provider, broken)
    assert error.kind == "authentication_failed"
    assert "two" not in str(error)


async def test_local_servers_need_no_key(server: Scripted, openai_provider: OpenAIProvider) -> None:
    """Without a key there is no authorization header."""
    server.json(200, ANSWER)

    await openai_provider.complete(call(deployment(server.url, api_key=None), ask()))

    assert "authorization" not in server.requests[0].headers


async def test_multi_line_events_stay_events(
    server: Scripted, openai_provider: OpenAIProvider
) -> None:
    """Pretty-printed JSON over several data lines is relayed so that it is read the same."""
    server.events(b'data: {"choices":\ndata: [{"delta":{"content":"x"}}]}\n\n' + DONE)

    frames = await collect(openai_provider, call(deployment(server.url), ask()))

    assert frames[0].data == b'data: {"choices":\ndata: [{"delta":{"content":"x"}}]}\n\n'
    assert frames[0].content


def test_payload_helper_reads_frames() -> None:
    """The tests' own reading of a frame is right."""
    assert payload(Frame(data=STREAM[0]))["id"] == "chatcmpl-1"
