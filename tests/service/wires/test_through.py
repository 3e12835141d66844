"""Any two wires that chat knows meet in it: Messages over the Responses API, with no code of its own."""

from __future__ import annotations

import json
from typing import Any

import anthropic.types
import pytest

from spanledger.errors import ProviderError
from spanledger.providers.base import Call, Deployment
from spanledger.wires import FROM_CHAT, MESSAGES, OUTBOUND, TO_CHAT, UNTRANSLATED, dropped, outbound
from spanledger.wires.anthropic.events import collected
from spanledger.wires.base import Habits, Seen, Written
from tests.service.wires.responses import CALL, THOUGHT, USAGE, events, message, response

WIRE = OUTBOUND["messages", "responses"]
CODEX = Deployment("d", "r", "openai", "openai", "gpt-5.4-codex", "openai/gpt-5.4-codex")
SEEN = Seen("req_1", 7)
TOOL = {"name": "get_weather", "input_schema": {"type": "object", "properties": {}}}
IMAGE = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}


def written(*, stream: bool = False, **fields: Any) -> Written:
    """A request for a model that speaks the Responses API alone."""
    body = {"model": "m", "max_tokens": 50, "messages": [{"role": "user", "content": "hi"}]}
    ask = MESSAGES.read(json.dumps({**body, **fields, "stream": stream}).encode())
    return WIRE.request(Call(CODEX, MESSAGES, ask.fields, 60), stream, Habits())


def test_every_pair_has_its_way() -> None:
    """Callers who can be served through chat are served wherever chat is."""
    for asked in ("chat", *TO_CHAT):
        for name in FROM_CHAT:
            assert OUTBOUND[asked, name].name == name
    assert all(OUTBOUND[name, name] is wire for name, wire in UNTRANSLATED.items())


def test_what_neither_translation_sends_costs_nothing() -> None:
    """Fields that the first leaves out, and those that the second does."""
    assert {"top_k", "speed", "seed"} <= dropped(MESSAGES, ("responses",))
    assert WIRE.least_output == 16
    assert outbound(MESSAGES, ("responses", "embeddings")) is WIRE


TURNS = [
    {
        "role": "user",
        "content": [{"type": "text", "text": "hi"}, {"type": "image", "source": IMAGE}],
    },
    {
        "role": "assistant",
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": "s"},
            {"type": "tool_use", "id": "t", "name": "get_weather", "input": {"city": "Rome"}},
        ],
    },
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "20"}]},
]


def test_turns_are_translated_twice() -> None:
    """Text, images, calls of tools and their results."""
    url = "data:image/png;base64,iVBORw0KGgo="
    called = {"call_id": "t", "name": "get_weather", "arguments": '{"city":"Rome"}'}

    assert json.loads(written(system="Be brief.", messages=TURNS).body)["input"] == [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "hi"},
                {"type": "input_image", "image_url": url, "detail": "auto"},
            ],
        },
        {"type": "function_call", **called},
        {"type": "function_call_output", "call_id": "t", "output": "20"},
    ]


def test_fields_are_translated_twice() -> None:
    """Tools, thinking, structured output and the cap."""
    schema = {"type": "object"}
    body = json.loads(
        written(
            stream=True,
            tools=[TOOL],
            tool_choice={"type": "any"},
            thinking={"type": "enabled", "budget_tokens": 5000},
            output_config={"format": {"type": "json_schema", "schema": schema}},
        ).body
    )
    described = {"type": "json_schema", "name": "answer", "schema": schema, "strict": True}
    function = {"type": "function", "name": "get_weather", "strict": False}

    assert body == {
        "model": "gpt-5.4-codex",
        "input": [{"role": "user", "content": "hi"}],
        "tools": [{**function, "parameters": {"type": "object", "properties": {}}}],
        "tool_choice": "required",
        "max_output_tokens": 50,
        "reasoning": {"effort": "medium"},
        "text": {"format": described},
        "store": False,
        "stream": True,
    }


def test_thinking_with_tools_is_for_this_wire() -> None:
    """OpenAI's newest models refuse the two together in chat completions alone."""
    asked: dict[str, Any] = {"tools": [TOOL], "output_config": {"effort": "low"}}
    turns = [{"role": "user", "content": "hi"}]
    body = json.dumps({"model": "m", "max_tokens": 50, "messages": turns, **asked}).encode()
    call = Call(CODEX, MESSAGES, MESSAGES.read(body).fields, 60)
    chat = json.loads(OUTBOUND["messages", "chat"].request(call, False, Habits()).body)

    assert "reasoning_effort" not in chat
    assert call.changed == ["output_config"]
    assert json.loads(written(**asked).body)["reasoning"] == {"effort": "low"}


@pytest.mark.parametrize("stream", [False, True])
def test_answers_are_translated_twice(*, stream: bool) -> None:
    """The message's type is the client's own."""
    found = response(THOUGHT, message("Let me see."), CALL)
    if stream:
        reader = WIRE.reader(written(stream=True), SEEN)
        frames = [frame for one in events(found) if (frame := reader.read(one)) is not None]
        assert reader.ended
        if (last := reader.last()) is not None:
            frames.append(last)
        told = collected([frame.data for frame in frames if frame.data])
        usage = next(frame.usage for frame in reversed(frames) if frame.usage)
    else:
        answer = WIRE.answer(written(), json.dumps(found).encode(), SEEN)
        assert answer.usage is not None
        told, usage = json.loads(answer.body), answer.usage

    anthropic.types.Message.model_validate(told, strict=True)
    assert told["content"] == [
        {"type": "text", "text": "Let me see."},
        {"type": "tool_use", "id": "call_1", "name": "get_weather", "input": {"city": "Rome"}},
    ]
    assert told["stop_reason"] == "tool_use"
    assert told["usage"] == {
        "input_tokens": 20,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 16,
        "output_tokens": 87,
    }
    assert (usage.input_tokens, usage.output_tokens) == (36, 87)


def test_errors_keep_their_kind() -> None:
    """Also those that come as an answer."""
    error = {"code": "rate_limit_exceeded", "message": "Slow down."}
    found = {**response(status="failed", usage=USAGE), "error": error}

    with pytest.raises(ProviderError) as caught:
        WIRE.answer(written(), json.dumps(found).encode(), SEEN)
    assert caught.value.kind == "rate_limited"
    with pytest.raises(ProviderError, match="stop sequences"):
        written(stop_sequences=["x"])
