"""Messages over chat completions: what is sent, what comes back, and the way there and back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spanledger.errors import ProviderError
from spanledger.providers.base import Call, Deployment
from spanledger.wires import CHAT, MESSAGES, OUTBOUND
from spanledger.wires.anthropic.events import collected
from spanledger.wires.base import Habits, Seen, Written

AS_CHAT = OUTBOUND["messages", "chat"]
AS_MESSAGES = OUTBOUND["chat", "messages"]
GPT = Deployment("d", "r", "openai", "openai", "gpt-4o-mini", "openai/gpt-4o-mini")
CLAUDE = Deployment("d", "r", "anthropic", "anthropic", "claude-haiku-4-5", "anthropic/x")
TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40).filter(str.strip)
IDS = st.from_regex(r"[a-zA-Z0-9_-]{1,20}", fullmatch=True)
JSON = st.dictionaries(TEXTS, st.none() | st.integers(-9, 9) | TEXTS | st.lists(TEXTS), max_size=3)
IMAGES = st.just({"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}).map(
    lambda source: {"type": "image", "source": source}
)
TEXT_BLOCKS = TEXTS.map(lambda text: {"type": "text", "text": text})
TOOL = {"name": "f", "description": "d", "input_schema": {"type": "object", "properties": {}}}


def sent(server: Deployment = GPT, **fields: Any) -> tuple[dict[str, Any], list[str]]:
    """The chat request for these fields, and the names of what changed."""
    body = {"model": "m", "max_tokens": 50, "messages": [{"role": "user", "content": "hi"}]}
    ask = MESSAGES.read(json.dumps({**body, **fields}).encode())
    call = Call(server, MESSAGES, ask.fields, 60)
    return json.loads(AS_CHAT.request(call, ask.stream, Habits()).body), call.changed


def written() -> Written:
    """A request that was sent."""
    ask = MESSAGES.read(b'{"model":"m","max_tokens":5,"messages":[{"role":"user","content":"x"}]}')
    return AS_CHAT.request(Call(GPT, MESSAGES, ask.fields, 60), False, Habits())


@st.composite
def conversations(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Turns of text and images, some with a round of tool calls between them."""
    turns: list[dict[str, Any]] = []
    for _ in range(draw(st.integers(1, 3))):
        turns.append(
            {
                "role": "user",
                "content": draw(st.lists(TEXT_BLOCKS | IMAGES, min_size=1, max_size=3)),
            }
        )
        said = draw(st.lists(TEXT_BLOCKS, min_size=1, max_size=2))
        ids = draw(st.lists(IDS, max_size=2, unique=True))
        calls = [{"type": "tool_use", "id": i, "name": "f", "input": draw(JSON)} for i in ids]
        turns.append({"role": "assistant", "content": [*said, *calls]})
        if ids:
            results = [
                {"type": "tool_result", "tool_use_id": i, "content": draw(TEXTS)} for i in ids
            ]
            turns += [
                {"role": "user", "content": results},
                {"role": "assistant", "content": draw(st.lists(TEXT_BLOCKS, min_size=1))},
            ]
    turns.append({"role": "user", "content": [{"type": "text", "text": draw(TEXTS)}]})
    return turns


@settings(max_examples=150, deadline=None)
@given(conversations(), TEXTS, st.sampled_from(["auto", "any", "none", "tool"]), st.booleans())
def test_requests_survive_the_way_there_and_back(
    turns: list[dict[str, Any]], system: str, choice: str, alone: bool
) -> None:
    """Text, images, tools, their calls and results, the choice, stops and the cap."""
    picked: dict[str, Any] = {"type": choice, **({"name": "f"} if choice == "tool" else {})}
    if alone and choice != "none":
        picked["disable_parallel_tool_use"] = True
    fields: dict[str, Any] = {
        "messages": turns,
        "system": system,
        "tools": [TOOL],
        "tool_choice": picked,
        "stop_sequences": ["end"],
        "max_tokens": 77,
        "temperature": 0.5,
    }
    chat, changed = sent(**fields)
    ask = CHAT.read(json.dumps({**chat, "model": "m"}).encode())
    back = json.loads(AS_MESSAGES.request(Call(CLAUDE, CHAT, ask.fields, 60), False, Habits()).body)

    assert changed == []
    assert {name: back[name] for name in fields} == fields


@settings(max_examples=150, deadline=None)
@given(
    TEXTS | st.just(""),
    st.lists(st.tuples(IDS, JSON), max_size=2),
    st.sampled_from(["end_turn", "max_tokens", "refusal"]),
    st.tuples(*[st.integers(0, 10_000)] * 3),
    st.booleans(),
)
def test_answers_survive_the_way_there_and_back(
    text: str,
    calls: list[tuple[str, dict[str, Any]]],
    stop: str,
    counts: tuple[int, int, int],
    stream: bool,
) -> None:
    """Text, tool calls, the stop reason and the usage, whole and streamed."""
    content: list[dict[str, Any]] = [{"type": "text", "text": text}] if text else []
    content += [{"type": "tool_use", "id": i, "name": "f", "input": v} for i, v in calls]
    fresh, read, output = counts
    message = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-haiku-4-5",
        "content": content,
        "stop_reason": "tool_use" if calls and stop == "end_turn" else stop,
        "stop_sequence": None,
        "usage": {
            "input_tokens": fresh + 1,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": read,
            "output_tokens": output + 1,
        },
    }
    out = Call(CLAUDE, CHAT, CHAT.read(_CHAT_BODY).fields, 60)
    theirs = AS_MESSAGES.request(out, False, Habits())
    completion = AS_MESSAGES.answer(theirs, json.dumps(message).encode(), Seen("", 1))
    if stream:
        whole = json.loads(completion.body)
        (choice,) = whole["choices"]
        delta = choice["message"]
        for number, call in enumerate(delta.get("tool_calls", ())):
            call["index"] = number
        head = {name: whole[name] for name in ("id", "model", "created")}
        chunks = [
            {**head, "choices": [{"index": 0, "delta": delta}]},
            {
                **head,
                "choices": [{"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}],
            },
            {**head, "choices": [], "usage": whole["usage"]},
        ]
        assert _streamed([json.dumps(chunk).encode() for chunk in chunks]) == message
    else:
        back = AS_CHAT.answer(written(), completion.body, Seen("", 1))
        assert json.loads(back.body) == message
        assert back.usage == completion.usage


_CHAT_BODY = b'{"model":"m","messages":[{"role":"user","content":"x"}]}'


def _streamed(chunks: list[bytes]) -> dict[str, Any]:
    """The message that the events for these chunks add up to."""
    reader = AS_CHAT.reader(written(), Seen("", 1))
    frames = [frame for chunk in (*chunks, b"[DONE]") if (frame := reader.read(chunk))]
    assert reader.ended
    if (last := reader.last()) is not None:
        frames.append(last)
    return collected([frame.data for frame in frames if frame.data])


def test_blocks_open_and_close_in_order() -> None:
    """One at a time, with rising numbers; reasoning is not shown, but counted."""
    pieces: list[dict[str, Any]] = [
        {"role": "assistant", "content": ""},
        {"reasoning_content": "hm"},
        {"content": "a"},
        {"content": "b"},
        {"tool_calls": [{"index": 0, "id": "t", "function": {"name": "f", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]},
    ]
    reader = AS_CHAT.reader(written(), Seen("", 1))
    data, counted = b"", 0
    for piece in pieces:
        chunk = {"id": "x", "model": "m", "choices": [{"index": 0, "delta": piece}]}
        frame = reader.read(json.dumps(chunk).encode())
        assert frame is not None
        assert not frame.usage_only
        data += frame.data
        counted += frame.output_bytes
    reader.read(b'{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}')
    reader.read(b"[DONE]")
    last = reader.last()
    assert last is not None
    names = [line[7:] for line in (data + last.data).decode().splitlines() if line[:6] == "event:"]

    assert names == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
    ]
    assert b'"stop_reason":"tool_use"' in last.data
    assert counted == len("hmab{}")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools"),
        ({"mcp_servers": [{"url": "https://x"}]}, "mcp_servers"),
        ({"container": "c"}, "container"),
        (
            {"messages": [{"role": "user", "content": [{"type": "container_upload"}]}]},
            "messages[0]",
        ),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "image", "source": {"type": "file", "file_id": "f"}}],
                    }
                ]
            },
            "messages[0]",
        ),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0]"),
        ({"tool_choice": {"type": "x"}, "tools": [TOOL]}, "tool_choice"),
        ({"output_config": {"format": {"type": "xml"}}}, "output_config"),
    ],
)
def test_what_has_no_counterpart_is_refused(fields: dict[str, Any], param: str) -> None:
    """With the place in the request."""
    with pytest.raises(ProviderError) as caught:
        sent(**fields)
    assert caught.value.kind == "invalid_request"
    assert caught.value.told is not None
    assert caught.value.told["param"] == param


@pytest.mark.parametrize(
    ("model", "fields", "effort", "changed"),
    [
        ("o3", {"thinking": {"type": "enabled", "budget_tokens": 1024}}, "low", []),
        ("gpt-5", {"thinking": {"type": "enabled", "budget_tokens": 20_000}}, "high", []),
        (
            "gpt-5",
            {"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}},
            "high",
            [],
        ),
        ("gpt-5", {"thinking": {"type": "disabled"}}, None, []),
        ("gpt-5.4", {"output_config": {"effort": "low"}, "tools": [TOOL]}, None, ["output_config"]),
        ("gpt-4o", {"thinking": {"type": "enabled", "budget_tokens": 1024}}, None, ["thinking"]),
        ("gpt-5-chat-latest", {"output_config": {"effort": "low"}}, None, ["output_config"]),
    ],
)
def test_thinking(
    model: str, fields: dict[str, Any], effort: str | None, changed: list[str]
) -> None:
    """It becomes an effort where the model knows one, and is named where it does not."""
    server = Deployment("d", "r", "openai", "openai", model, f"openai/{model}")
    chat, names = sent(server, **fields)

    assert (chat.get("reasoning_effort"), names) == (effort, changed)


def test_other_fields() -> None:
    """Results with images, documents, structured output, the user, and settings of a deployment."""
    image = {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}}
    result = {
        "type": "tool_result",
        "tool_use_id": "t",
        "content": [{"type": "text", "text": "see"}, image],
    }
    pdf = {
        "type": "document",
        "title": "a.pdf",
        "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERg=="},
    }
    schema = {
        "type": "object",
        "properties": {"a": {"type": "string"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    chat, changed = sent(
        messages=[{"role": "user", "content": [result, pdf]}],
        output_config={"format": {"type": "json_schema", "schema": schema}},
        metadata={"user_id": "u" * 80},
        seed=7,
        inference_geo="us",
        mcp_servers=[],
    )

    assert chat["messages"][0] == {"role": "tool", "tool_call_id": "t", "content": "see"}
    kinds = [part["type"] for part in chat["messages"][1]["content"]]
    assert kinds == ["image_url", "file"]
    assert chat["response_format"]["json_schema"]["strict"] is True
    assert len(chat["user"]) == 64
    assert chat["seed"] == 7
    assert changed == ["inference_geo", "metadata"]
