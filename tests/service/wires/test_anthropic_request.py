"""A chat completions request reaches the Messages API with its meaning intact, or is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from spanledger.errors import ProviderError
from spanledger.wires.anthropic.request import (
    JSON_INSTRUCTION,
    encode_messages_request,
)
from spanledger.wires.anthropic.thinking import DEFAULT_MAX_TOKENS
from tests.service.providers.scripted import call, deployment

CACHE = {"type": "ephemeral"}
PNG = "iVBORw0KGgo="
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


def convert(
    messages: list[Any] | None = None,
    *,
    model: str = "claude-sonnet-4-6",
    cap: int | None = None,
    stream: bool = False,
    **fields: Any,
) -> Any:
    """The Messages request for these fields."""
    request = call(
        deployment(None, "anthropic", model),
        {"model": "route", "messages": messages or [user("hi")], **fields},
        max_output_tokens=cap,
    )
    return json.loads(encode_messages_request(request, stream=stream).body)


def refused(messages: list[Any] | None = None, **fields: Any) -> str:
    """The message with which a request is refused."""
    with pytest.raises(ProviderError) as caught:
        convert(messages, **fields)
    error = caught.value
    assert (error.kind, error.status, error.billed) == ("invalid_request", 400, "no")
    assert error.told is not None
    assert error.told["type"] == "invalid_request_error"
    return str(error)


def user(content: Any) -> dict[str, Any]:
    """A message of the user."""
    return {"role": "user", "content": content}


def text(value: str, **more: Any) -> dict[str, Any]:
    """A text part; the block it becomes looks the same."""
    return {"type": "text", "text": value, **more}


def tool_call(number: int, arguments: str = '{"city":"Rome"}') -> dict[str, Any]:
    """A tool call on OpenAI's wire."""
    function = {"name": "get_weather", "arguments": arguments}
    return {"id": f"call_{number}", "type": "function", "function": function}


def test_smallest_request() -> None:
    """Model, messages and the `max_tokens` that the Messages API requires, nothing else."""
    assert convert() == {
        "model": "claude-sonnet-4-6",
        "messages": [{"role": "user", "content": [text("hi")]}],
        "max_tokens": DEFAULT_MAX_TOKENS,
    }


def test_conversation_with_tools() -> None:
    """System texts move out of the turns, consecutive messages of a role join, results of a round
    share a turn."""
    body = convert(
        [
            {"role": "system", "content": "Be brief."},
            user("Weather in Rome"),
            user([text("and Oslo?"), text("")]),
            {"role": "developer", "content": [text("Use Celsius.", cache_control=CACHE)]},
            {"role": "assistant", "content": "", "tool_calls": [tool_call(1), tool_call(2, "")]},
            {"role": "tool", "tool_call_id": "call_1", "content": "20"},
            {"role": "tool", "tool_call_id": "call_2", "content": [text("5")]},
            user("Thanks"),
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "No. "}]},
        ],
        model="claude-sonnet-4-5",
    )

    assert body["system"] == [text("Be brief."), text("Use Celsius.", cache_control=CACHE)]
    use = {"type": "tool_use", "name": "get_weather"}
    result = {"type": "tool_result"}
    assert body["messages"] == [
        {"role": "user", "content": [text("Weather in Rome"), text("and Oslo?")]},
        {
            "role": "assistant",
            "content": [
                {**use, "id": "call_1", "input": {"city": "Rome"}},
                {**use, "id": "call_2", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {**result, "tool_use_id": "call_1", "content": "20"},
                {**result, "tool_use_id": "call_2", "content": [text("5")]},
                text("Thanks"),
            ],
        },
        {"role": "assistant", "content": [text("No.")]},
    ]


def test_one_plain_system_message_is_a_string() -> None:
    """The common case keeps the simple form."""
    assert (
        convert([{"role": "system", "content": "Be brief."}, user("hi")])["system"] == "Be brief."
    )


@pytest.mark.parametrize(
    ("part", "block"),
    [
        (
            {"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "low"}},
            {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}},
        ),
        (
            {
                "type": "image_url",
                "image_url": {"url": f"data:image/jpg;base64,{PNG}"},
                "cache_control": CACHE,
            },
            {
                "type": "image",
                "source": {"type": "base64", "media_type": "image/png", "data": PNG},
                "cache_control": CACHE,
            },
        ),
        (
            {
                "type": "file",
                "file": {"file_data": "data:application/pdf;base64,QQ==", "filename": "a"},
            },
            {
                "type": "document",
                "source": {"type": "base64", "media_type": "application/pdf", "data": "QQ=="},
                "title": "a",
            },
        ),
        (
            {"type": "file", "file": {"file_data": "data:text/plain;charset=utf-8;base64,w6k="}},
            {
                "type": "document",
                "source": {"type": "text", "media_type": "text/plain", "data": "é"},
            },
        ),
        (
            {"type": "file", "file": {"file_id": "file_1"}},
            {"type": "document", "source": {"type": "file", "file_id": "file_1"}},
        ),
        ({"type": "document", "source": {}}, {"type": "document", "source": {}}),
    ],
)
def test_content_parts(part: dict[str, Any], block: dict[str, Any]) -> None:
    """Images and files in OpenAI's form become blocks; Anthropic's own pass."""
    assert convert([user([part])])["messages"][0]["content"] == [block]


def test_tools_and_choices() -> None:
    """Functions become tools; Anthropic's own tools and cache marks pass through."""
    own = {"type": "web_search_20250305", "name": "web_search"}
    bare = {"type": "function", "function": {"name": "f", "strict": True}, "cache_control": CACHE}
    body = convert(tools=[WEATHER, own, bare], parallel_tool_calls=False)

    assert body["tools"] == [
        {
            "name": "get_weather",
            "description": "Weather of a city",
            "input_schema": WEATHER["function"]["parameters"],  # type: ignore[index] # a literal
        },
        own,
        {
            "name": "f",
            "input_schema": {"type": "object", "properties": {}},
            "strict": True,
            "cache_control": CACHE,
        },
    ]
    assert body["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}
    named = {"type": "function", "function": {"name": "f"}}
    for given, sent in (
        ("auto", {"type": "auto"}),
        ("none", {"type": "none"}),
        ("required", {"type": "any"}),
        (named, {"type": "tool", "name": "f"}),
    ):
        assert convert(tools=[WEATHER], tool_choice=given)["tool_choice"] == sent
    assert "tool_choice" not in convert(tool_choice="auto", parallel_tool_calls=False)


@pytest.mark.parametrize(
    ("fields", "cap", "max_tokens"),
    [
        ({}, None, DEFAULT_MAX_TOKENS),
        ({}, 100, 100),
        ({"max_tokens": 50}, None, 50),
        ({"max_tokens": 50}, 100, 50),
        ({"max_completion_tokens": 70, "max_tokens": None}, None, 70),
        ({"max_completion_tokens": 70}, 20, 20),
    ],
)
def test_output_cap(fields: dict[str, Any], cap: int | None, max_tokens: int) -> None:
    """`max_tokens` is the caller's, or the default, and never above the budget's cap."""
    assert convert(cap=cap, **fields)["max_tokens"] == max_tokens


def test_sampling_and_identity() -> None:
    """Temperature is clamped, here to its default, so it is not reported; stop becomes sequences,
    the user an id, and unknown fields pass through."""
    body = convert(
        temperature=1.7,
        top_p=0.5,
        stop=["END", " "],
        user="u1",
        top_k=5,
        service_tier="auto",
        metadata={"team": "x"},
        stream=True,
    )

    assert {k: v for k, v in body.items() if k not in ("model", "messages", "max_tokens")} == {
        "top_p": 0.5,
        "top_k": 5,
        "stop_sequences": ["END"],
        "metadata": {"user_id": "u1"},
        "stream": True,
    }
    assert convert(stop="X")["stop_sequences"] == ["X"]
    assert "stop_sequences" not in convert(stop=["\n"])


def test_openais_own_fields_are_left_out() -> None:
    """Fields without a counterpart and without effect on the answer are not sent to Anthropic."""
    fields: dict[str, Any] = {
        "seed": 1, "logit_bias": {}, "logprobs": True, "top_logprobs": 2, "presence_penalty": 1,
        "frequency_penalty": 1, "store": True, "n": 1, "modalities": ["text"], "verbosity": "low",
        "prompt_cache_key": "k", "stream_options": {"include_usage": True}, "audio": None,
    }  # fmt: skip

    assert convert(**fields) == convert()


@pytest.mark.parametrize(
    ("model", "effort", "fields", "thinking", "config", "max_tokens"),
    [
        ("claude-sonnet-4-6", "low", {}, {"type": "adaptive"}, {"effort": "low"}, 4096),
        ("claude-opus-5", "minimal", {}, {"type": "adaptive"}, {"effort": "low"}, 4096),
        ("claude-sonnet-4-5", "low", {}, {"type": "enabled", "budget_tokens": 1024}, None, 5120),
        (
            "claude-3-7-sonnet-20250219",
            "high",
            {"max_tokens": 20000},
            {"type": "enabled", "budget_tokens": 16384},
            None,
            20000,
        ),
        (
            "claude-haiku-4-5-20251001",
            "high",
            {"max_tokens": 4000},
            {"type": "enabled", "budget_tokens": 2000},
            None,
            4000,
        ),
        ("claude-opus-4-1", "high", {"max_tokens": 500}, None, None, 500),
        ("claude-sonnet-4-5", "none", {}, {"type": "disabled"}, None, 4096),
        (
            "claude-sonnet-4-5",
            "high",
            {"thinking": {"type": "enabled", "budget_tokens": 2048}},
            {"type": "enabled", "budget_tokens": 2048},
            None,
            4096,
        ),
    ],
)
def test_reasoning_effort(
    model: str,
    effort: str,
    fields: dict[str, Any],
    thinking: object,
    config: object,
    max_tokens: int,
) -> None:
    """Effort becomes adaptive thinking, or a budget that fits if the model supports nothing
    else."""
    body = convert(model=model, reasoning_effort=effort, **fields)

    assert body.get("thinking") == thinking
    assert body.get("output_config") == config
    assert body["max_tokens"] == max_tokens


def test_a_budgets_cap_lowers_thinking_too() -> None:
    """Thinking must fit into a lowered `max_tokens`, or is dropped."""
    thinking = {"type": "enabled", "budget_tokens": 8000}

    assert (
        convert(thinking=thinking, max_tokens=9000, cap=4000)["thinking"]["budget_tokens"] == 2000
    )
    assert "thinking" not in convert(thinking=thinking, max_tokens=9000, cap=800)
    least = {"type": "enabled", "budget_tokens": 1024}
    assert convert(thinking=least, max_tokens=9000, cap=1025)["thinking"] == least
    assert "thinking" not in convert(thinking=least, max_tokens=9000, cap=1024)
    older = convert(model="claude-sonnet-4-5", reasoning_effort="low", max_tokens=1024)
    assert "thinking" not in older


def test_what_needs_thinking_goes_with_it() -> None:
    """A chat caller may send Anthropic's own fields, and thinking is left out where it is refused."""
    clearing = {"edits": [{"type": "clear_thinking_20251015"}]}
    thinking = {"type": "enabled", "budget_tokens": 2000}
    asked: dict[str, Any] = {
        "thinking": thinking,
        "context_management": clearing,
        "max_tokens": 9000,
    }
    lost = [
        user("Hi"),
        {"role": "assistant", "content": None, "tool_calls": [tool_call(1)]},
        {"role": "tool", "tool_call_id": tool_call(1)["id"], "content": "Sunny."},
    ]

    assert convert(**asked)["context_management"] == clearing
    assert {"thinking", "context_management"}.isdisjoint(convert(lost, **asked))


def test_structured_output() -> None:
    """A schema becomes the output format with its objects closed; JSON mode an instruction."""
    inner = {
        "type": ["object", "null"],
        "properties": {"type": {"type": "string", "enum": ["object"]}},
    }
    schema = {"type": "object", "properties": {"a": {"type": "array", "items": inner}}}
    described = {"name": "n", "strict": True, "schema": schema}
    body = convert(
        response_format={"type": "json_schema", "json_schema": described},
        output_config={"effort": "low"},
    )

    closed = {**inner, "additionalProperties": False}
    assert body["output_config"] == {
        "effort": "low",
        "format": {
            "type": "json_schema",
            "schema": {
                "type": "object",
                "properties": {"a": {"type": "array", "items": closed}},
                "additionalProperties": False,
            },
        },
    }
    assert convert(response_format={"type": "json_object"})["system"] == JSON_INSTRUCTION
    assert convert(response_format={"type": "text"}) == convert()


def test_signed_thinking_goes_back_first() -> None:
    """Thinking blocks of an earlier answer are returned unchanged, before text and tool use."""
    signed = {"type": "thinking", "thinking": "hm", "signature": "sig"}
    message = {
        "role": "assistant",
        "content": "Let me see.",
        "reasoning_content": "hm",
        "thinking_blocks": [signed],
        "tool_calls": [{**tool_call(1), "id": "call.1:x"}],
    }
    body = convert(
        [user("hi"), message, {"role": "tool", "tool_call_id": "call.1:x", "content": ""}]
    )

    kinds = [block["type"] for block in body["messages"][1]["content"]]
    assert kinds == ["thinking", "text", "tool_use"]
    assert body["messages"][1]["content"][0] == signed
    assert body["messages"][1]["content"][2]["id"] == "call_1_x"
    assert body["messages"][2]["content"][0]["tool_use_id"] == "call_1_x"


@pytest.mark.parametrize(
    ("messages", "fields", "names"),
    [
        (None, {"n": 2}, "'n'"),
        (None, {"modalities": ["text", "audio"]}, "modalities"),
        (None, {"audio": {"voice": "x"}}, "audio"),
        (None, {"functions": []}, "tools"),
        (None, {"stop": 7}, "stop"),
        (None, {"temperature": "hot"}, "temperature"),
        (None, {"max_tokens": "x"}, "max_completion_tokens"),
        (None, {"reasoning_effort": "heroic"}, "minimal, low"),
        (None, {"response_format": {"type": "yaml"}}, "response_format"),
        (None, {"response_format": {"type": "json_schema"}}, "schema"),
        (None, {"tools": "x"}, "tools"),
        (None, {"tools": [{"type": "function"}]}, "function.name"),
        (None, {"tools": [{"type": "custom", "custom": {}}]}, "custom"),
        (None, {"tools": [WEATHER], "tool_choice": "maybe"}, "tool_choice"),
        ([{"role": "system", "content": "x"}], {}, "role user"),
        ([{"role": "function", "content": "x"}], {}, "messages[0]"),
        (["x"], {}, "messages[0]"),
        ([user(7)], {}, "messages[0].content"),
        ([user([{"type": "input_audio"}])], {}, "input_audio"),
        ([user([{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}])], {}, "https"),
        ([user([{"type": "image_url", "image_url": {"url": "data:image/png,x"}}])], {}, "data URL"),
        ([user([{"type": "file", "file": {"file_data": "data:x/y;base64,QQ=="}}])], {}, "PDF"),
        ([user([{"type": "file", "file": {}}])], {}, "file_data"),
        ([{"role": "assistant", "tool_calls": [tool_call(1, "[1]")]}], {}, "arguments"),
        ([{"role": "assistant", "tool_calls": [tool_call(1, "{oops")]}], {}, "arguments"),
        ([{"role": "assistant", "tool_calls": [{"id": "x"}]}], {}, "function.name"),
        ([{"role": "tool", "content": "x"}], {}, "id"),
    ],
)
def test_what_cannot_be_said_is_refused(
    messages: list[Any] | None, fields: dict[str, Any], names: str
) -> None:
    """A request that the Messages API cannot express is refused, with the part that is at fault."""
    assert names in refused(messages, **fields)


def test_deep_json_is_refused() -> None:
    """Nesting too deep to convert is the caller's error, not a crash."""
    deep: Any = {"type": "string"}
    for _ in range(300):
        deep = {"type": "object", "properties": {"a": deep}}

    assert "valid JSON" in refused(
        response_format={"type": "json_schema", "json_schema": {"schema": deep}}
    )
