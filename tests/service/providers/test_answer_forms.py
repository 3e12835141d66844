"""Errors that arrive as answers, answers that look like errors, and answers in the wrong form."""

from __future__ import annotations

import json
from typing import Any

import pytest

from spanledger.pricing.usage import Usage
from spanledger.providers.base import FailedAnswerError, Frame
from spanledger.providers.error_forms import ERROR_FORMS, ErrorForm, failure_of
from spanledger.providers.failures import kind_of
from spanledger.providers.openai import OpenAIProvider
from spanledger.providers.wordings import CONTENT, CONTEXT, NOT_CONTEXT, Wording
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
from tests.service.providers.scripted import Scripted, ask, call, collect, deployment, payload

JSON_FORMS = [form for form in ERROR_FORMS if not form.raw]
TOOL = {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": {"a": 1}}}


def named(form: ErrorForm | Wording) -> str:
    """The test id of a row."""
    return form.provider


@pytest.mark.parametrize("form", ERROR_FORMS, ids=named)
async def test_an_error_in_a_stream_is_a_failed_attempt(
    server: Scripted, openai_provider: OpenAIProvider, form: ErrorForm
) -> None:
    """Whatever its shape, no part of it is an answer, and before any content nothing is billed."""
    sent = form.example.encode() if form.raw else b"data: " + form.example.encode() + b"\n\n"
    request = call(deployment(server.url), ask())
    server.events(sent + DONE)
    first = await failure(openai_provider, request, stream=True)
    server.events(STREAM[0] + STREAM[1] + sent + DONE)
    later = await failure(openai_provider, request, stream=True)

    assert first.kind != "malformed_response"
    assert (first.billed, later.kind, later.billed) == ("no", first.kind, "unknown")


@pytest.mark.parametrize("form", JSON_FORMS, ids=named)
@pytest.mark.parametrize("stream", [False, True])
async def test_an_error_under_200_is_a_failed_attempt(
    server: Scripted, openai_provider: OpenAIProvider, form: ErrorForm, stream: bool
) -> None:
    """In a JSON body too, whether or not a stream was requested."""
    server.json(200, form.example.encode())

    error = await failure(openai_provider, call(deployment(server.url), ask()), stream=stream)

    assert (error.kind != "malformed_response", error.billed) == (True, "no")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"base_resp": {"status_code": 1002, "status_msg": "rate limit"}}, "rate_limited"),
        ({"base_resp": {"status_code": 1008, "status_msg": "balance"}}, "rate_limited"),
        ({"base_resp": {"status_code": 1026, "status_msg": "input"}}, "content_filtered"),
        ({"object": "error", "message": "m", "type": "InternalServerError"}, "server_error"),
        ({"error_type": "BadRequestError", "error_message": "boom"}, "invalid_request"),
        ({"error_type": "RateLimitError", "error_message": "boom"}, "rate_limited"),
        ({"code": "Throttling.RateQuota", "message": "m"}, "rate_limited"),
        ({"status": 503, "error": "Service Unavailable"}, "overloaded"),
        ({"error": {"code": 401, "message": "m"}}, "authentication_failed"),
        ({"error": {"code": 408, "message": "m"}}, "timeout"),
        (
            {"errors": [{"code": "x", "message": "maximum context length"}]},
            "context_window_exceeded",
        ),
        ({"choices": [{"error": {"code": 429, "message": "m"}}]}, "rate_limited"),
        (
            {"code": "Client specified", "error": "Content violates usage guidelines."},
            "content_filtered",
        ),
    ],
    ids=str,
)
def test_what_an_error_without_a_status_means(error: dict[str, Any], kind: str) -> None:
    """Codes and types of many servers map to one of our kinds."""
    assert kind_of(None, failure_of(error)) == kind


def test_success_is_no_error() -> None:
    """MiniMax and Spark report success in every answer."""
    for good in (
        {"base_resp": {"status_code": 0, "status_msg": "success"}},
        {"code": 0, "message": "Success"},
    ):
        assert not failure_of({"id": "x", "choices": [], **good}).named


async def test_success_in_another_shape_costs_no_answer(
    server: Scripted, openai_provider: OpenAIProvider
) -> None:
    """Such an answer, and a stream's last chunk of that kind, are relayed."""
    good: dict[str, Any] = {
        "base_resp": {"status_code": 0, "status_msg": ""},
        "code": 0,
        "message": "Success",
        "error": None,
    }
    server.json(200, {**ANSWER, **good})
    assert (await openai_provider.complete(call(deployment(server.url), ask()))).usage
    server.events(b"".join(STREAM[:4]) + event({"choices": [], "usage": USAGE, **good}) + DONE)
    assert len(await collect(openai_provider, call(deployment(server.url), ask()))) == 5


@pytest.mark.parametrize(
    ("content", "usage", "billed", "tokens"),
    [
        ("", {"prompt_tokens": None, "completion_tokens": None, "total_tokens": 0}, "no", None),
        ("", None, "no", None),
        ("", USAGE, "unknown", 2),
        ('{"events": [{"title": "partial', None, "unknown", None),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_finish_reason_error(
    server: Scripted,
    openai_provider: OpenAIProvider,
    content: str,
    usage: Any,
    billed: str,
    tokens: int | None,
    stream: bool,
) -> None:
    """A choice that ended in an error is not an answer; its text or reported usage is billed."""
    message = {"role": "assistant", "content": content}
    choice = {"index": 0, "message": message, "finish_reason": "error"}
    server.json(200, {**ANSWER, "choices": [choice], "usage": usage})

    error = await failure(openai_provider, call(deployment(server.url), ask()), stream=stream)

    assert (error.kind, error.billed) == ("server_error", billed)
    if billed == "unknown":
        assert isinstance(error, FailedAnswerError)
        assert (error.answer.usage and error.answer.usage.output_tokens) == tokens
        assert error.answer.output_bytes == len(content)


@pytest.mark.parametrize("pieces", [[], [STREAM[0]], [event({"choices": []})]], ids=len)
async def test_a_stream_without_an_answer(
    server: Scripted, openai_provider: OpenAIProvider, pieces: list[bytes]
) -> None:
    """An end mark alone is not an answer."""
    server.events(b"".join(pieces) + DONE)

    error = await failure(openai_provider, call(deployment(server.url), ask()), stream=True)

    assert error.kind == "malformed_response"


async def test_a_break_after_the_usage_costs_nobody_the_answer(
    server: Scripted, openai_provider: OpenAIProvider
) -> None:
    """Finished and with usage, only the end mark is missing."""
    server.events(b"", *STREAM, hang_up=True)

    frames = await collect(openai_provider, call(deployment(server.url), ask()))

    assert [frame.data for frame in frames] == STREAM


async def test_every_choice_has_to_finish(
    server: Scripted, openai_provider: OpenAIProvider
) -> None:
    """The end of the first of two choices is not the end of the answer."""
    server.events(b"".join(STREAM[:4]))

    error = await failure(openai_provider, call(deployment(server.url), ask(n=2)), stream=True)

    assert error.kind == "stream_interrupted"


async def test_arguments_as_an_object(server: Scripted, openai_provider: OpenAIProvider) -> None:
    """Clients expect arguments as a string, so that is what they get, streamed or not."""
    old = {"name": "f", "arguments": []}
    server.events(delta(tool_calls=[TOOL]) + delta(function_call=old) + delta("stop") + DONE)
    frames = await collect(openai_provider, call(deployment(server.url), ask()))
    message = {"role": "assistant", "content": None, "tool_calls": [TOOL]}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
    server.json(200, {**ANSWER, "choices": [choice]})
    answer = await openai_provider.complete(call(deployment(server.url), ask()))

    first, second = (payload(frame)["choices"][0]["delta"] for frame in frames[:2])
    assert first["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"a":1}'}
    assert second["function_call"]["arguments"] == "[]"
    assert [frame.content for frame in frames] == [True, True, False]
    assert [frame.output_bytes for frame in frames] == [7, 2, 0]
    said = json.loads(answer.body)["choices"][0]["message"]
    assert said["tool_calls"][0]["function"]["arguments"] == '{"a":1}'


REFUSAL = {"detail": [{"type": "extra_forbidden", "loc": ["body", "stream_options"], "msg": "no"}]}


def without_options(server: Scripted, status: int = 422) -> None:
    """The server refuses `stream_options` and streams without usage."""
    server.events(b"".join(STREAM[:4]) + DONE)
    good = server.script
    server.json(status, REFUSAL)
    bad = server.script
    assert good is not None
    assert bad is not None

    async def script(writer: Any) -> None:
        await (bad if "stream_options" in server.requests[-1].json else good)(writer)

    server.script = script


@pytest.mark.parametrize("status", [400, 422])
async def test_a_server_without_stream_options_is_asked_again_and_remembered(
    server: Scripted, openai_provider: OpenAIProvider, status: int
) -> None:
    """The first stream takes two requests, later ones take one each."""
    without_options(server, status)
    request = call(deployment(server.url), ask())

    for _ in range(3):
        frames = await collect(openai_provider, request)
        assert [frame.data for frame in frames] == STREAM[:4]

    assert ["stream_options" in r.json for r in server.requests] == [True, False, False, False]
    assert request.changed == []


async def test_a_callers_own_options_are_its_own_affair(
    server: Scripted, openai_provider: OpenAIProvider
) -> None:
    """A caller's own options are refused as the server does it, and change nothing for others; a
    request for usage is met if the server can, and reported if it cannot."""
    without_options(server)
    odd = call(deployment(server.url), ask(stream_options={"bogus": 1}))
    assert (await failure(openai_provider, odd, stream=True)).kind == "invalid_request"
    assert len(server.requests) == 1

    plain = call(deployment(server.url), ask(stream_options={"include_usage": True}))
    await collect(openai_provider, plain)
    assert plain.changed == ["stream_options"]


async def test_a_refusal_that_stays_is_not_remembered(
    server: Scripted, openai_provider: OpenAIProvider
) -> None:
    """An error that quotes a caller's words about `stream_options` costs nobody their usage."""
    request = call(deployment(server.url), ask())
    server.json(400, {"error": {"message": "bad role 'stream_options'"}})
    assert (await failure(openai_provider, request, stream=True)).kind == "invalid_request"
    server.events(b"".join(STREAM) + DONE)
    await collect(openai_provider, request)

    assert ["stream_options" in r.json for r in server.requests] == [True, False, True]


async def test_a_whole_answer_where_a_stream_was_asked_for(
    server: Scripted, openai_provider: OpenAIProvider
) -> None:
    """It is streamed to the caller, with tool calls and usage, under any content type."""
    message = {
        "role": "assistant",
        "content": "Hi",
        "tool_calls": [{**TOOL, "function": {"name": "f", "arguments": "{}"}}, TOOL],
    }
    whole = {**ANSWER, "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}

    def check(frames: list[Frame]) -> None:
        (frame,) = (f for f in frames if f.content)
        said = payload(frame)
        assert said["object"] == "chat.completion.chunk"
        assert said["choices"][0]["delta"]["content"] == "Hi"
        calls = said["choices"][0]["delta"]["tool_calls"]
        assert [(c["index"], c["function"]["arguments"]) for c in calls] == [
            (0, "{}"),
            (1, '{"a":1}'),
        ]
        assert (frame.finish_reason, frame.usage) == ("stop", Usage(3, 2))

    request = call(deployment(server.url), ask())
    server.json(200, whole)
    check(await collect(openai_provider, request))
    body = json.dumps(whole).encode()
    for sent in (
        body,
        body + b"\n\n",
        json.dumps(whole, indent=1).encode(),
        event(whole),
        event(whole) + DONE,
    ):
        server.events(sent)
        check(await collect(openai_provider, request))


async def test_a_stream_where_a_whole_answer_was_asked_for(
    server: Scripted, openai_provider: OpenAIProvider
) -> None:
    """It is joined: text, reasoning, tool calls in pieces, every choice, and the usage."""
    pieces = [
        delta(role="assistant", content=""),
        delta(reasoning_content="h"),
        delta(reasoning_content="m"),
        delta(content="Hé"),
        delta(content="llo"),
        delta(tool_calls=[{"index": 0, "id": "c", "type": "function", "function": {"name": "f"}}]),
        delta(tool_calls=[{"index": 0, "function": {"arguments": '{"a"'}}]),
        delta(tool_calls=[{"index": 0, "function": {"arguments": ":1}"}}]),
        event({"choices": [{"index": 1, "delta": {"content": "B"}, "finish_reason": "stop"}]}),
        delta("tool_calls"),
        COUNTED,
    ]
    request = call(deployment(server.url), ask())
    for end in (DONE, b""):
        server.events(b"".join(pieces) + end)
        answer = await openai_provider.complete(request)

        said = json.loads(answer.body)
        assert said["object"] == "chat.completion"
        assert said["choices"][0]["message"] == {
            "role": "assistant",
            "content": "Héllo",
            "reasoning_content": "hm",
            "tool_calls": [
                {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
            ],
        }
        assert [c["finish_reason"] for c in said["choices"]] == ["tool_calls", "stop"]
        assert said["choices"][1]["message"]["content"] == "B"
        assert (answer.usage, answer.response_id) == (Usage(3, 2), "chatcmpl-1")

    server.events(b"".join(STREAM[:3]))
    assert (await failure(openai_provider, request)).kind == "malformed_response"
    server.events(event({"error": {"message": "m", "code": 503}}) + DONE)
    error = await failure(openai_provider, request)
    assert (error.kind, error.billed) == ("overloaded", "no")
    far = [{"index": 10**9, "id": "c", "function": {"name": "f"}}]
    server.events(delta(tool_calls=far) + delta("stop") + DONE)
    assert (await failure(openai_provider, request)).kind == "malformed_response"


@pytest.mark.parametrize(
    "last",
    [
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "usage": USAGE}]},
        {"choices": [{"delta": {}, "finish_reason": "stop"}], "x_groq": {"usage": USAGE}},
    ],
    ids=["Moonshot", "Groq"],
)
async def test_usage_in_an_odd_place_outlives_another_form(
    server: Scripted, openai_provider: OpenAIProvider, last: dict[str, Any]
) -> None:
    """Neither joining a stream nor turning an answer into one event loses any counts."""
    request = call(deployment(server.url), ask())
    server.events(delta(content="Hi") + event(last) + DONE)
    assert (await openai_provider.complete(request)).usage == Usage(3, 2)

    choice = {**last["choices"][0], "message": {"role": "assistant", "content": "Hi"}}
    del choice["delta"]
    server.json(200, {**last, "choices": [choice]})
    frames = await collect(openai_provider, request)
    assert frames[-1].usage == Usage(3, 2)


@pytest.mark.parametrize("row", CONTEXT, ids=named)
def test_wordings_of_a_prompt_that_is_too_long(row: Wording) -> None:
    """Each provider's text, and its code if it has one, leads to a longer context window."""
    shown = {"message": row.example, "type": "invalid_request_error", "code": None}
    assert kind_of(400, failure_of({"error": shown})) == "context_window_exceeded"
    assert kind_of(None, failure_of({"error": shown})) == "context_window_exceeded"
    if row.code:
        coded = {"message": "no", "code": row.code}
        assert kind_of(400, failure_of({"error": coded})) == "context_window_exceeded"


@pytest.mark.parametrize("row", CONTENT, ids=named)
def test_wordings_of_refused_content(row: Wording) -> None:
    """Each provider's text, and its code if it has one, is a refusal of the content."""
    for status in (400, 403, 422):
        assert (
            kind_of(status, failure_of({"error": {"message": row.example}})) == "content_filtered"
        )
    if row.code:
        coded = {"message": "no", "code": row.code}
        assert kind_of(400, failure_of({"error": coded})) == "content_filtered"


@pytest.mark.parametrize("row", NOT_CONTEXT, ids=named)
def test_wordings_that_only_sound_like_it(row: Wording) -> None:
    """Rate limits and limits of other fields do not lead to a longer context window."""
    assert kind_of(400, failure_of({"error": {"message": row.example}})) == "invalid_request"


def test_every_row_has_its_source() -> None:
    """Every row needs a source, so that it can be checked."""
    rows: tuple[ErrorForm | Wording, ...] = (*ERROR_FORMS, *CONTEXT, *CONTENT, *NOT_CONTEXT)

    assert [row.provider for row in rows if not row.source or not row.example] == []
