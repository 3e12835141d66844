"""OpenAI's wire, byte by byte: requests and responses."""

from __future__ import annotations

import json
from typing import Any

import pytest

from spanledger.errors import ProviderError
from spanledger.pricing.usage import Usage
from spanledger.providers.caps import guessed
from spanledger.providers.http import HttpProvider
from spanledger.wires.openai.answer import read_chunk
from spanledger.wires.openai.request import encode_request
from tests.service.providers.samples import (
    ANSWER,
    COUNTED,
    DONE,
    STREAM,
    USAGE,
    delta,
    event,
    failure,
)
from tests.service.providers.scripted import (
    KEY,
    Scripted,
    ask,
    call,
    collect,
    deployment,
)


async def test_body_goes_out_untouched_but_for_the_model(
    server: Scripted, openai_provider: HttpProvider
) -> None:
    """Unknown fields keep their exact bytes, and a caller's headers never mix with ours."""
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
        "accept-encoding",
        "authorization",
        "content-type",
        "content-length",
        "user-agent",
    }
    assert answer.body == json.dumps(ANSWER).encode()
    assert answer.usage == Usage(input_tokens=3, output_tokens=2)
    assert (answer.response_id, answer.response_model) == ("chatcmpl-1", "gpt-4o-mini-2024")
    assert (answer.finish_reasons, answer.provider_request_id) == (("stop",), "req_1")


async def test_embeddings(server: Scripted, openai_provider: HttpProvider) -> None:
    """Embeddings go to their own path and are returned unchanged."""
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
    """A budget's cap lowers the field that the caller used, and never adds a second one."""
    target = deployment(None if base == "openai" else "http://vllm:8000/v1")
    request = call(target, ask(**given), max_output_tokens=50)

    body = json.loads(encode_request(request, stream=False, cap_key=guessed(target)))

    assert {key: value for key, value in body.items() if "max" in key} == sent


async def test_stream_asks_for_usage_and_keeps_other_options(
    server: Scripted, openai_provider: HttpProvider
) -> None:
    """`include_usage` is added to the caller's options, which stay."""
    server.events(b"".join(STREAM) + DONE)
    options = {"include_usage": False, "include_obfuscation": False}

    await collect(openai_provider, call(deployment(server.url), ask(stream_options=options)))

    assert server.requests[0].json["stream"] is True
    assert server.requests[0].json["stream_options"] == {
        "include_usage": True,
        "include_obfuscation": False,
    }


async def test_frames_are_the_events_as_they_came(
    server: Scripted, openai_provider: HttpProvider
) -> None:
    """Each event is one frame with its own bytes; comments and the end mark are not relayed."""
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
    server: Scripted, openai_provider: HttpProvider
) -> None:
    """Split at every byte into two writes, a stream gives the same frames."""
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
        ({"content": [{"type": "text"}]}, 16),
    ],
)
async def test_what_counts_as_content(
    server: Scripted, openai_provider: HttpProvider, field: dict[str, Any], size: int
) -> None:
    """After anything that a client could have acted on, no other deployment can take over."""
    server.events(delta(**field) + delta("stop") + DONE)

    frames = await collect(openai_provider, call(deployment(server.url), ask()))

    assert frames[0].content
    assert frames[0].output_bytes == size


@pytest.mark.parametrize(
    "last",
    [
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "usage": USAGE}]},
        {"choices": [{"delta": {}, "finish_reason": "stop"}], "x_groq": {"usage": USAGE}},
        {"choices": [], "usage": {"prompt_tokens": 0}, "x_groq": {"id": "r", "usage": USAGE}},
        {"choices": [], "usage": USAGE, "x_groq": "r"},
        {"choices": [{"delta": {}, "usage": "none"}], "x_groq": {}, "usage": USAGE},
    ],
    ids=["Moonshot", "Groq", "Groq, zeros beside", "no object there", "garbage there"],
)
async def test_usage_is_found_where_a_stream_has_it(
    server: Scripted, openai_provider: HttpProvider, last: dict[str, Any]
) -> None:
    """Moonshot puts it into the choice (earendil-works/pi#2017), Groq into `x_groq`
    (vercel/ai#1651)."""
    server.events(delta(content="Hi") + event(last) + DONE)

    frames = await collect(openai_provider, call(deployment(server.url), {"stream": True}))

    assert frames[-1].usage == Usage(3, 2)


async def test_missing_usage_leaves_the_bytes_to_count(
    server: Scripted, openai_provider: HttpProvider
) -> None:
    """Without usage, or with garbage instead, text and arguments are measured."""
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
    ("said", "read"),
    [("priority", "priority"), (None, ""), (5, ""), ({"a": 1}, ""), (["x"], ""), (True, "")],
    ids=str,
)
async def test_the_service_tier_is_what_the_answer_says(
    server: Scripted, openai_provider: HttpProvider, said: object, read: str
) -> None:
    """Streamed or not; garbage instead of it does not fail the answer."""
    server.json(200, {**ANSWER, "service_tier": said})
    answer = await openai_provider.complete(call(deployment(server.url), ask()))
    chunk = {"id": "c", "service_tier": said, "choices": [], "usage": USAGE}
    server.events(STREAM[1] + STREAM[3] + event(chunk) + DONE)
    frames = await collect(openai_provider, call(deployment(server.url), ask()))

    assert answer.service == read
    assert [frame.service for frame in frames] == ["", "", read]


async def test_speech_is_measured_beside_text(
    server: Scripted, openai_provider: HttpProvider
) -> None:
    """If usage is missing, audio is measured apart from text, since it is priced separately."""
    speech = {"id": "audio_1", "data": "A" * 64_000, "transcript": "Hello."}
    message = {"role": "assistant", "content": None, "audio": speech}
    server.json(200, {**ANSWER, "choices": [{"message": message}], "usage": None})
    answer = await openai_provider.complete(call(deployment(server.url), ask()))
    server.events(delta(audio={"data": "A" * 64_000}) + delta(content="Hi") + COUNTED + DONE)
    frames = await collect(openai_provider, call(deployment(server.url), ask()))

    assert answer.output_bytes == 0
    assert answer.speech_bytes == len(json.dumps(speech))
    assert [(f.content, f.output_bytes) for f in frames] == [(True, 0), (True, 2), (False, 0)]
    assert [f.speech_bytes // 1_000 for f in frames] == [64, 0, 0]


@pytest.mark.parametrize(
    ("pieces", "kind"),
    [
        ([], "malformed_response"),
        ([b": ping\n\n"], "malformed_response"),
        ([STREAM[0]], "stream_interrupted"),
        (STREAM[:4], None),
        ([STREAM[0], COUNTED], "stream_interrupted"),
        ([*STREAM[:4], COUNTED[:-9]], "stream_interrupted"),
        (STREAM, None),
        ([*STREAM[:4], b"data: [DONE]"], None),
        ([*STREAM[:4], COUNTED[:-2]], None),
    ],
)
async def test_streams_without_an_end_mark(
    server: Scripted, openai_provider: HttpProvider, pieces: list[bytes], kind: str | None
) -> None:
    """A stream that closes properly is complete once it is finished, with or without usage."""
    server.events(b"".join(pieces) or b"\n")
    request = call(deployment(server.url), ask())
    if kind is None:
        assert await collect(openai_provider, request)
        return

    error = await failure(openai_provider, request, stream=True)

    assert (error.kind, error.billed) == (kind, "unknown")


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
    server: Scripted, openai_provider: HttpProvider, data: bytes, kind: str, billed: str
) -> None:
    """A broken, huge or failing chunk ends the stream with its kind; after content, money may be
    owed."""
    request = call(deployment(server.url), ask(), max_response_bytes=4000)
    server.events(data + DONE)
    assert (await failure(openai_provider, request, stream=True)).billed == billed

    server.events(STREAM[1] + data + DONE)
    error = await failure(openai_provider, request, stream=True)
    assert (error.kind, error.billed) == (kind, "unknown")


async def test_stream_refused_with_a_status_or_in_json(
    server: Scripted, openai_provider: HttpProvider
) -> None:
    """Errors before the stream are the same as without one, also with status 200."""
    request = call(deployment(server.url), ask())
    server.json(429, {"error": {"message": "slow"}}, "retry-after: 3")
    error = await failure(openai_provider, request, stream=True)
    assert (error.kind, error.status, error.retry_after_s) == ("rate_limited", 429, 3.0)

    server.json(200, {"error": {"message": "m", "code": "context_length_exceeded"}})
    assert (await failure(openai_provider, request, stream=True)).kind == "context_window_exceeded"
    assert (await failure(openai_provider, request)).kind == "context_window_exceeded"

    server.json(200, {"object": "list", "data": []})
    assert (await failure(openai_provider, request, stream=True)).kind == "malformed_response"


@pytest.mark.parametrize(
    ("body", "billed"),
    [
        (b"", "unknown"),
        (b"hello", "unknown"),
        (b"[]", "unknown"),
        (b"{}", "unknown"),
        (b'{"choices":7}', "unknown"),
        (b'{"a":' * 50_000, "unknown"),
        (b'{"choices":[]}', "no"),
        (b'{"choices":null,"usage":null}', "no"),
        (b"<!DOCTYPE html><title>It works</title>", "no"),
        (b"\n<html><body>Sign in</body></html>", "no"),
    ],
)
async def test_answers_that_are_none(
    server: Scripted, openai_provider: HttpProvider, body: bytes, billed: str
) -> None:
    """A response with status 200 and an unexpected body is malformed, and may have cost money
    unless it shows that no model ran."""
    server.json(200, body)

    error = await failure(openai_provider, call(deployment(server.url), ask()))

    assert (error.kind, error.billed) == ("malformed_response", billed)


async def test_keys_stay_out_of_errors_and_representations(
    server: Scripted, openai_provider: HttpProvider
) -> None:
    """An echoed key is neither in the error, nor in its cause, nor in any repr."""
    target = deployment(server.url)
    request = call(target, ask())
    for status in (400, 401, 500):
        server.json(
            status, {"error": {"message": f"Incorrect API key provided: {KEY}", "code": KEY}}
        )
        error = await failure(openai_provider, request)
        chain: list[BaseException | None] = [error, error.__cause__, error.__context__]
        assert KEY not in "".join(f"{link!r}{link}" for link in chain) + repr(error.told)
    refused = await failure(openai_provider, call(deployment("http://127.0.0.1:1"), ask()))
    shown = [refused, refused.__context__, request, target, *openai_provider._targets.values()]
    assert KEY not in "".join(f"{item!r}{item}" for item in shown)

    broken = call(deployment(server.url, api_key="two\nlines"), ask())
    error = await failure(openai_provider, broken)
    assert error.kind == "authentication_failed"
    assert "two" not in str(error)


async def test_local_servers_need_no_key(server: Scripted, openai_provider: HttpProvider) -> None:
    """Without a key there is no authorization header."""
    server.json(200, ANSWER)

    await openai_provider.complete(call(deployment(server.url, api_key=None), ask()))

    assert "authorization" not in server.requests[0].headers


async def test_multi_line_events_stay_events(
    server: Scripted, openai_provider: HttpProvider
) -> None:
    """Pretty-printed JSON over several data lines is relayed so that it is parsed the same."""
    server.events(b'data: {"choices":\ndata: [{"delta":{"content":"x"}}]}\n\n' + DONE)

    frames = await collect(openai_provider, call(deployment(server.url), ask()))

    assert frames[0].data == b'data: {"choices":\ndata: [{"delta":{"content":"x"}}]}\n\n'
    assert frames[0].content


async def test_half_a_character_costs_no_answer(
    server: Scripted, openai_provider: HttpProvider
) -> None:
    """A server that splits text between two UTF-16 units is relayed unchanged, and counted."""
    cut = {**ANSWER, "choices": [{"message": {"content": "a\ud83d"}, "finish_reason": "stop"}]}
    server.json(200, cut)

    answer = await openai_provider.complete(call(deployment(server.url), ask()))

    assert b"\\ud83d" in answer.body
    assert answer.usage == Usage(input_tokens=3, output_tokens=2)


def test_half_a_character_is_content() -> None:
    """The chunk that carries it keeps its bytes; other garbage is still malformed."""
    payload = json.dumps({"choices": [{"delta": {"content": "\ud83d"}}]}).encode()
    target = deployment("http://127.0.0.1")

    frame = read_chunk(target, payload, "", began=True)

    assert (frame.content, frame.output_bytes) == (True, 3)
    assert payload in frame.data
    with pytest.raises(ProviderError, match="a chunk is not"):
        read_chunk(target, payload[:-1], "", began=True)
