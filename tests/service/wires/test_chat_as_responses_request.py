"""Chat over the Responses API: what is sent, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.responses.response_create_params import ResponseCreateParamsNonStreaming
from pydantic import TypeAdapter

from spanledger.errors import ProviderError
from spanledger.providers.base import Call, Deployment
from spanledger.wires import CHAT, OUTBOUND
from spanledger.wires.base import Habits, Written

WIRE = OUTBOUND["chat", "responses"]
CODEX = Deployment("d-codex", "r", "openai", "openai", "gpt-5.2-codex", "openai/gpt-5.2-codex")
FUNCTION: dict[str, Any] = {
    "name": "get_weather",
    "description": "Weather of a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}
WEATHER = {"type": "function", "function": FUNCTION}
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
        "tools": [{"type": "function", **FUNCTION, "strict": False}],
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
    assert {n: tool[n] for n in ("name", "description", "parameters")} == FUNCTION
