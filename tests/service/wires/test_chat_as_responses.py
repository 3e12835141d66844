"""Chat over the Responses API: what is sent, and what comes back whole and streamed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses.response_create_params import ResponseCreateParamsNonStreaming
from pydantic import TypeAdapter

from spanledger.errors import ProviderError
from spanledger.providers.base import Call, Deployment
from spanledger.wires import CHAT, OUTBOUND
from spanledger.wires.base import Answer, FailedAnswerError, Habits, Seen, Written
from spanledger.wires.openai.answer_forms import completion_of
from tests.service.wires.responses import (
    CALL,
    CUSTOM,
    SEARCHED,
    THOUGHT,
    USAGE,
    event,
    events,
    message,
    response,
)

WIRE = OUTBOUND["chat", "responses"]
CODEX = Deployment("d-codex", "r", "openai", "openai", "gpt-5.2-codex", "openai/gpt-5.2-codex")
SEEN = Seen("req_1", 7)
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
CITED = {
    "type": "url_citation",
    "start_index": 0,
    "end_index": 2,
    "title": "Rome",
    "url": "https://example.org/rome",
}
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}


def written(*, stream: bool = False, cap: int | None = None, **fields: Any) -> tuple[Written, Call]:
    """The request for these fields, and the call that has the names of what changed."""
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **fields}
    ask = CHAT.read(json.dumps({**body, "stream": stream}).encode())
    call = Call(CODEX, CHAT, ask.fields, 60, max_output_tokens=cap)
    return WIRE.request(call, stream, Habits()), call


def sent(**fields: Any) -> Any:
    """The body of the request."""
    return json.loads(written(**fields)[0].body)


def whole(found: dict[str, Any]) -> tuple[Any, Answer]:
    """The completion for a response, which the client's own types accept."""
    answer = WIRE.answer(written()[0], json.dumps(found).encode(), SEEN)
    completion = json.loads(answer.body)
    ChatCompletion.model_validate(completion, strict=True)
    return completion, answer


def streamed(payloads: list[bytes]) -> tuple[list[Any], list[Any]]:
    """The chunks for these events, which the client's own types accept, and their frames."""
    reader = WIRE.reader(written(stream=True)[0], SEEN)
    frames = [frame for one in payloads if (frame := reader.read(one)) is not None]
    if (last := reader.last()) is not None:
        frames.append(last)
    chunks = [json.loads(frame.data.removeprefix(b"data: ")) for frame in frames]
    for chunk in chunks:
        # The client's types know custom tools in whole answers only; it accepts them in streams.
        if '"custom"' not in json.dumps(chunk):
            ChatCompletionChunk.model_validate(chunk, strict=True)
    return chunks, frames


def joined(payloads: list[bytes]) -> Any:
    """The completion that the chunks for these events add up to."""
    chunks, _ = streamed(payloads)
    found = completion_of([json.dumps(chunk).encode() for chunk in chunks])
    assert found is not None
    return json.loads(found)


def refused(**fields: Any) -> str:
    """The message with which a request is refused."""
    with pytest.raises(ProviderError) as caught:
        written(**fields)
    assert (caught.value.kind, caught.value.status, caught.value.billed) == (
        "invalid_request",
        400,
        "no",
    )
    return str(caught.value)


def test_the_smallest_request() -> None:
    """Model and messages; nothing is kept at the provider, as chat keeps nothing."""
    assert sent() == {
        "model": "gpt-5.2-codex",
        "input": [{"role": "user", "content": "hi"}],
        "store": False,
    }


def test_every_field_has_its_place() -> None:
    """Those of the same name pass, the others move."""
    body = sent(
        stream=True,
        max_completion_tokens=500,
        reasoning_effort="high",
        verbosity="low",
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "x", "schema": SCHEMA, "strict": True},
        },
        logprobs=True,
        top_logprobs=2,
        service_tier="flex",
        metadata={"a": "b"},
        user="u",
        safety_identifier="s",
        prompt_cache_key="k",
        parallel_tool_calls=False,
        temperature=0.5,
        top_p=0.9,
        store=True,
        stream_options={"include_usage": True, "include_obfuscation": False},
        tools=[WEATHER],
        tool_choice={"type": "function", "function": {"name": "get_weather"}},
    )

    assert body == {
        "model": "gpt-5.2-codex",
        "input": [{"role": "user", "content": "hi"}],
        "stream": True,
        "max_output_tokens": 500,
        "reasoning": {"effort": "high"},
        "text": {
            "verbosity": "low",
            "format": {"type": "json_schema", "name": "x", "schema": SCHEMA, "strict": True},
        },
        "include": ["message.output_text.logprobs"],
        "top_logprobs": 2,
        "service_tier": "flex",
        "metadata": {"a": "b"},
        "user": "u",
        "safety_identifier": "s",
        "prompt_cache_key": "k",
        "parallel_tool_calls": False,
        "temperature": 0.5,
        "top_p": 0.9,
        "store": True,
        "stream_options": {"include_obfuscation": False},
        "tools": [{**WEATHER["function"], "type": "function", "strict": False}],  # type: ignore[dict-item]
        "tool_choice": {"type": "function", "name": "get_weather"},
    }


def test_settings_of_this_api_are_kept() -> None:
    """A deployment's own, and what LiteLLM's callers write."""
    assert sent(reasoning={"summary": "auto"}, reasoning_effort="low")["reasoning"] == {
        "summary": "auto",
        "effort": "low",
    }
    both = {"effort": "low", "summary": "detailed"}
    assert sent(reasoning_effort=both)["reasoning"] == both
    assert sent(truncation="auto")["truncation"] == "auto"
    included = sent(include=["reasoning.encrypted_content"], logprobs=True)["include"]
    assert included == ["reasoning.encrypted_content", "message.output_text.logprobs"]


@pytest.mark.parametrize(
    ("fields", "cap", "most"),
    [
        ({}, None, None),
        ({"max_tokens": 100}, None, 100),
        ({"max_tokens": 100, "max_completion_tokens": 50}, None, 50),
        ({"max_tokens": 100}, 40, 40),
        ({}, 40, 40),
        ({"max_tokens": 1}, None, 16),
    ],
)
def test_the_lowest_cap_is_sent(fields: Any, cap: int | None, most: int | None) -> None:
    """A budget's, the caller's, and never one that OpenAI refuses."""
    request, call = written(cap=cap, **fields)

    assert json.loads(request.body).get("max_output_tokens") == most
    assert call.changed == (["max_tokens"] if most == 16 else [])


def test_a_conversation_keeps_its_order() -> None:
    """System messages stay where they are; calls and results become items of their own."""
    calls = [
        {
            "id": "call_1",
            "type": "function",
            "function": {"name": "get_weather", "arguments": '{"city":"Rome"}'},
        },
        {"id": "call_2", "type": "custom", "custom": {"name": "patch", "input": "*"}},
    ]
    body = sent(
        messages=[
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "Weather?"}]},
            {"role": "developer", "content": "Use Celsius."},
            {"role": "assistant", "content": "Let me see.", "tool_calls": calls},
            {"role": "tool", "tool_call_id": "call_1", "content": "20"},
            {"role": "tool", "tool_call_id": "call_2", "content": [{"type": "text", "text": "ok"}]},
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
        ]
    )

    assert body["input"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "input_text", "text": "Weather?"}]},
        {"role": "developer", "content": "Use Celsius."},
        {"role": "assistant", "content": "Let me see."},
        {
            "type": "function_call",
            "call_id": "call_1",
            "name": "get_weather",
            "arguments": '{"city":"Rome"}',
        },
        {"type": "custom_tool_call", "call_id": "call_2", "name": "patch", "input": "*"},
        {"type": "function_call_output", "call_id": "call_1", "output": "20"},
        {
            "type": "custom_tool_call_output",
            "call_id": "call_2",
            "output": [{"type": "input_text", "text": "ok"}],
        },
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "refusal", "refusal": "No."}],
        },
    ]


def test_images_and_files_are_parts_of_their_message() -> None:
    """With the detail and the name that the caller gave."""
    url = "data:image/png;base64,iVBORw0KGgo="
    file = {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0="}
    parts = [
        {"type": "image_url", "image_url": {"url": url, "detail": "low"}},
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "file", "file": file},
        {"type": "file", "file": {"file_id": "file-1"}},
    ]

    (item,) = sent(messages=[{"role": "user", "content": parts}])["input"]
    assert item["content"] == [
        {"type": "input_image", "image_url": url, "detail": "low"},
        {"type": "input_image", "image_url": url, "detail": "auto"},
        {"type": "input_file", **file},
        {"type": "input_file", "file_id": "file-1"},
    ]


def test_tools_lose_a_level() -> None:
    """And the choice among them; a function is strict only if it says so."""
    grammar = {"type": "grammar", "grammar": {"definition": "start: X", "syntax": "lark"}}
    body = sent(
        tools=[
            {"type": "function", "function": {"name": "f", "strict": True, "parameters": SCHEMA}},
            {"type": "function", "function": {"name": "g"}},
            {"type": "custom", "custom": {"name": "c", "format": grammar}},
            {"type": "web_search"},
        ],
        tool_choice={
            "type": "allowed_tools",
            "allowed_tools": {
                "mode": "required",
                "tools": [{"type": "function", "function": {"name": "f"}}],
            },
        },
    )

    assert body["tools"] == [
        {"type": "function", "name": "f", "strict": True, "parameters": SCHEMA},
        {
            "type": "function",
            "name": "g",
            "strict": False,
            "parameters": {"type": "object", "properties": {}},
        },
        {
            "type": "custom",
            "name": "c",
            "format": {"type": "grammar", "definition": "start: X", "syntax": "lark"},
        },
        {"type": "web_search"},
    ]
    assert body["tool_choice"] == {
        "type": "allowed_tools",
        "mode": "required",
        "tools": [{"type": "function", "name": "f"}],
    }


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"n": 2}, "'n'"),
        ({"stop": ["x"]}, "'stop'"),
        ({"modalities": ["text", "audio"]}, "'modalities'"),
        ({"audio": {"voice": "alloy", "format": "wav"}}, "'audio'"),
        ({"functions": [{"name": "f"}]}, "use 'tools'"),
        ({"function_call": "auto"}, "use 'tool_choice'"),
        ({"response_format": {"type": "xml"}}, "json_schema"),
        ({"tools": [{"type": "function", "function": {}}]}, "needs a name"),
        ({"messages": [{"role": "function", "name": "f", "content": "x"}]}, "messages[0]"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "tool_call_id"),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "input_audio", "input_audio": {"data": "AA=="}}],
                    }
                ]
            },
            "takes no audio",
        ),
    ],
)
def test_what_has_no_counterpart_is_refused(fields: dict[str, Any], told: str) -> None:
    """Where leaving it out would change what the caller gets."""
    assert told in refused(**fields)


def test_what_can_be_missed_is_left_out() -> None:
    """The caller learns of it by name; a value that asks for nothing is no news."""
    request, call = written(
        seed=7, logit_bias={"50256": -100}, presence_penalty=0.5, frequency_penalty=0, n=1, stop=[]
    )

    assert json.loads(request.body).keys() == {"model", "input", "store"}
    assert sorted(call.changed) == ["logit_bias", "presence_penalty"]


def test_reasoning_goes_back_to_where_it_came_from() -> None:
    """A deployment gets its own reasoning, ahead of what it led to; any other cannot read it."""
    completion, _ = whole(response(THOUGHT, CALL))
    said = completion["choices"][0]["message"]
    result = {"role": "tool", "tool_call_id": "call_1", "content": "20"}
    again = sent(messages=[{"role": "user", "content": "hi"}, said, result])

    assert said["reasoning_content"] == "First this.\n\nThen that."
    assert again["input"][1:3] == [
        THOUGHT,
        {n: v for n, v in CALL.items() if n not in ("id", "status")},
    ]
    said["reasoning_items"][0]["served_by"] = "another"
    request, call = written(messages=[{"role": "user", "content": "hi"}, said, result])
    assert [item.get("type") for item in json.loads(request.body)["input"]] == [
        None,
        "function_call",
        "function_call_output",
    ]
    assert call.changed == ["messages"]


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (response(message("Hello.")), "stop"),
        (response(THOUGHT, CALL, CUSTOM), "tool_calls"),
        (
            response(
                message("Hel"),
                status="incomplete",
                incomplete_details={"reason": "max_output_tokens"},
            ),
            "length",
        ),
        (
            response(
                message("Hel"), status="incomplete", incomplete_details={"reason": "content_filter"}
            ),
            "content_filter",
        ),
        (
            response(
                THOUGHT, status="incomplete", incomplete_details={"reason": "max_output_tokens"}
            ),
            "length",
        ),
        (response(message(refusal="No.")), "stop"),
        (response(SEARCHED, message("So.", "And.", annotations=[CITED]), message("Bye.")), "stop"),
    ],
)
def test_whole_and_streamed_say_the_same(found: dict[str, Any], reason: str) -> None:
    """Text, refusals, calls, reasoning, citations, the finish reason and the usage."""
    completion, answer = whole(found)
    together = joined(events(found))

    said, pieced = (one["choices"][0]["message"] for one in (completion, together))
    names = ("content", "refusal", "reasoning_content", "reasoning_items", "annotations")
    for name in (*names, "tool_calls"):
        assert (said.get(name) or None) == (pieced.get(name) or None)
    assert completion["choices"][0]["finish_reason"] == reason
    assert together["choices"][0]["finish_reason"] == reason
    assert answer.finish_reasons == (reason,)
    assert answer.usage is not None
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (36, 87)
    assert (answer.usage.cache_read_input_tokens, answer.usage.reasoning_output_tokens) == (16, 64)
    assert completion["usage"] == together["usage"]
    assert completion["usage"]["prompt_tokens_details"]["cached_tokens"] == 16
    for name in ("id", "created", "model", "service_tier"):
        assert completion[name] == together[name]


def test_citations_count_in_the_text_that_they_are_in() -> None:
    """Their places move with the texts before them."""
    completion, _ = whole(response(message("Hi."), message("Rome.", annotations=[CITED])))
    said = completion["choices"][0]["message"]

    (cited,) = said["annotations"]
    where = cited["url_citation"]
    assert said["content"][where["start_index"] : where["end_index"]] == "Ro"


def test_log_probabilities_are_read() -> None:
    """In both forms; those of a stream have no bytes."""
    one = {"token": "Hi", "bytes": [72, 105], "logprob": -0.5, "top_logprobs": []}
    found = response(message("Hi"))
    found["output"][0]["content"][0]["logprobs"] = [one]
    completion, _ = whole(found)
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    delta = {"token": "Hi", "logprob": -0.5, "top_logprobs": [{"token": "Hi", "logprob": -0.5}]}
    chunks, _ = streamed(
        [event("response.output_text.delta", delta="Hi", logprobs=[delta], **place)]
    )

    assert completion["choices"][0]["logprobs"]["content"] == [one]
    (shown,) = chunks[0]["choices"][0]["logprobs"]["content"]
    assert (shown["token"], shown["bytes"]) == ("Hi", None)


def test_the_reasoning_of_open_models_is_shown() -> None:
    """They have no summary."""
    item = {
        "id": "rs_1",
        "type": "reasoning",
        "summary": [],
        "content": [{"type": "reasoning_text", "text": "Hm."}],
    }
    completion, _ = whole(response(item, message("Hi.")))
    place = {"item_id": "rs_1", "output_index": 0, "content_index": 0}
    chunks, _ = streamed([event("response.reasoning_text.delta", delta="Hm.", **place)])

    assert completion["choices"][0]["message"]["reasoning_content"] == "Hm."
    assert "reasoning_items" not in completion["choices"][0]["message"]
    assert chunks[0]["choices"][0]["delta"] == {"reasoning_content": "Hm."}


def test_only_content_is_content() -> None:
    """Before that, another deployment can take over."""
    _, frames = streamed(events(response(THOUGHT, message("Hello."), CALL)))
    firsts = [frame for frame in frames if not frame.content]

    assert [b'"role":"assistant"' in firsts[0].data, b"reasoning_items" in firsts[1].data] == [
        True,
        True,
    ]
    assert sum(frame.output_bytes for frame in frames) == len(
        "First this.\n\nThen that.Hello." + str(CALL["arguments"])
    )
    assert [frame.usage_only for frame in frames] == [False] * (len(frames) - 1) + [True]


@pytest.mark.parametrize("left", ["added", "done"])
def test_servers_that_stream_little(left: str) -> None:
    """What only an item's last event says, or only the response's."""
    found = response(message("Hello."), CALL)
    kept = [one for one in events(found) if b".delta" not in one]
    if left == "done":
        kept = [events(found)[0], events(found)[-1]]
    said = joined(kept)["choices"][0]["message"]

    assert said["tool_calls"][0]["function"] == {
        "name": "get_weather",
        "arguments": CALL["arguments"],
    }
    if left == "done":
        assert said["content"] == "Hello."


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("server_error", "server_error"),
        ("rate_limit_exceeded", "rate_limited"),
        ("invalid_prompt", "invalid_request"),
        ("image_content_policy_violation", "content_filtered"),
        ("context_length_exceeded", "context_window_exceeded"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_failed_response_keeps_its_kind(code: str, kind: str, *, stream: bool) -> None:
    """And is charged what it says that it used."""
    failure = {"code": code, "message": "It did not work."}
    found = {**response(status="failed", usage=None), "error": failure}
    counted = {**found, "usage": USAGE}

    def raised(one: dict[str, Any]) -> ProviderError:
        payload = {"type": "response.failed", "sequence_number": 1, "response": one}
        with pytest.raises(ProviderError) as caught:
            _ = streamed([json.dumps(payload).encode()]) if stream else whole(one)
        return caught.value

    assert (raised(found).kind, raised(found).billed) == (kind, "no")
    error = raised(counted)
    assert error.kind == kind
    assert isinstance(error, FailedAnswerError)
    assert error.answer.usage is not None
    assert error.answer.usage.output_tokens == 87


@pytest.mark.parametrize(
    "payload",
    [
        event("error", code="rate_limit_exceeded", message="Slow down.", param=None),
        b'{"type":"error","error":{"type":"tokens","code":"rate_limit_exceeded","message":"x"}}',
    ],
)
def test_an_error_event_keeps_its_kind(payload: bytes) -> None:
    """In the documented form, and in the one that is sent."""
    with pytest.raises(ProviderError) as before:
        streamed([payload])
    with pytest.raises(ProviderError) as after:
        streamed([*events(response(message("Hello.")))[:-2], payload])

    assert (before.value.kind, before.value.billed) == ("rate_limited", "no")
    assert (after.value.kind, after.value.billed) == ("rate_limited", "unknown")


def test_a_stream_without_its_end_is_broken() -> None:
    """A clean close is no end here: the last event has the usage."""
    reader = WIRE.reader(written(stream=True)[0], SEEN)
    payloads = events(response(message("Hello.")))
    for one in payloads[:-1]:
        reader.read(one)

    assert reader.rest(b"") is None
    assert not reader.survives(ProviderError("stream_interrupted", "x"))
    reader.read(payloads[-1])
    assert reader.ended


def test_the_other_form_than_asked_for() -> None:
    """A stream for a whole answer, and a whole answer for a stream."""
    found = response(THOUGHT, message("Hello."))
    body = b"".join(b"data: " + one + b"\n\n" for one in events(found))
    answer = WIRE.answer(written()[0], body, SEEN)
    frame = WIRE.frame(written()[1], whole(found)[1])

    assert json.loads(answer.body)["choices"][0]["message"]["content"] == "Hello."
    assert answer.usage is not None
    assert answer.usage.output_tokens == 87
    delta = json.loads(frame.data.removeprefix(b"data: "))["choices"][0]["delta"]
    assert delta["content"] == "Hello."
    with pytest.raises(ProviderError, match="unfinished"):
        WIRE.answer(written()[0], body[: body.rindex(b"data: ")], SEEN)


@pytest.mark.parametrize("body", [b"{}", b"[]", b"{", b'{"output":1}', b"<!doctype html><html>"])
def test_what_is_no_response(body: bytes) -> None:
    """Is an error of the provider's."""
    with pytest.raises(ProviderError) as caught:
        WIRE.answer(written()[0], body, SEEN)
    assert caught.value.kind == "malformed_response"


TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=30)
IDS = st.from_regex(r"[a-zA-Z0-9_-]{1,20}", fullmatch=True)
IMAGE = {"type": "image_url", "image_url": {"url": "https://example.org/a.png", "detail": "high"}}
PARTS = st.lists(
    TEXTS.map(lambda text: {"type": "text", "text": text}) | st.just(IMAGE), min_size=1, max_size=3
)
_REQUEST: TypeAdapter[Any] = TypeAdapter(ResponseCreateParamsNonStreaming)


@st.composite
def conversations(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Messages of text and images, some with a round of tool calls between them."""
    made: list[dict[str, Any]] = []
    if draw(st.booleans()):
        made.append({"role": draw(st.sampled_from(["system", "developer"])), "content": "s"})
    for _ in range(draw(st.integers(1, 3))):
        made.append({"role": "user", "content": draw(TEXTS | PARTS)})
        calls = [
            {
                "id": one,
                "type": "function",
                "function": {"name": draw(IDS), "arguments": json.dumps({"a": draw(TEXTS)})},
            }
            for one in draw(st.lists(IDS, max_size=2, unique=True))
        ]
        said: dict[str, Any] = {"role": "assistant", "content": draw(TEXTS | st.none())}
        made.append({**said, "tool_calls": calls} if calls else {**said, "content": draw(TEXTS)})
        made += [
            {"role": "tool", "tool_call_id": one["id"], "content": draw(TEXTS)} for one in calls
        ]
    return [*made, {"role": "user", "content": draw(TEXTS)}]


def back(items: list[Any]) -> list[dict[str, Any]]:
    """The messages that input items came from."""
    made: list[dict[str, Any]] = []
    for item in items:
        kind = item.get("type", "message")
        if kind == "function_call":
            called = {"name": item["name"], "arguments": item["arguments"]}
            call = {"id": item["call_id"], "type": "function", "function": called}
            if made[-1]["role"] != "assistant":
                made.append({"role": "assistant", "content": None})
            made[-1].setdefault("tool_calls", []).append(call)
        elif kind == "function_call_output":
            made.append(
                {"role": "tool", "tool_call_id": item["call_id"], "content": item["output"]}
            )
        else:
            content = item["content"]
            if isinstance(content, list):
                content = [_part(part) for part in content]
            made.append({"role": item["role"], "content": content})
    return made


def _part(part: dict[str, Any]) -> dict[str, Any]:
    if part["type"] == "input_text":
        return {"type": "text", "text": part["text"]}
    image = {"url": part["image_url"], "detail": part["detail"]}
    return {"type": "image_url", "image_url": image}


@settings(max_examples=150, deadline=None)
@given(conversations(), st.sampled_from(["auto", "none", "required"]), st.booleans())
def test_nothing_of_a_request_is_lost(
    messages: list[dict[str, Any]], choice: str, strict: bool
) -> None:
    """Text, images, tools, their calls and results, and structured output, by the client's own
    types of a request."""
    described = {"name": "x", "schema": SCHEMA, "strict": strict}
    body = sent(
        messages=messages,
        tools=[WEATHER],
        tool_choice=choice,
        response_format={"type": "json_schema", "json_schema": described},
    )

    _REQUEST.validate_python(body)
    assert back(body["input"]) == messages
    assert body["text"]["format"] == {"type": "json_schema", **described}
    assert body["tool_choice"] == choice
    (tool,) = body["tools"]
    assert {n: tool[n] for n in ("name", "description", "parameters")} == WEATHER["function"]


@settings(max_examples=100, deadline=None)
@given(st.lists(TEXTS, max_size=3), st.lists(TEXTS, max_size=2), st.integers(1, 7))
def test_nothing_of_an_answer_is_lost(texts: list[str], inputs: list[str], pieces: int) -> None:
    """However its events cut it."""
    calls = [
        {**CALL, "id": f"fc_{n}", "call_id": f"call_{n}", "arguments": json.dumps({"a": one})}
        for n, one in enumerate(inputs)
    ]
    found = response(THOUGHT, *(message(text) for text in texts), *calls)
    said = joined(events(found, pieces))["choices"][0]["message"]

    assert (said["content"] or "") == "\n\n".join(texts)
    assert [call["function"]["arguments"] for call in said.get("tool_calls", ())] == [
        call["arguments"] for call in calls
    ]
