"""Chat answers as responses: what comes back, whole and streamed, as OpenAI's own types have it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai import omit
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import Response, ResponseStreamEvent

from spanledger.errors import ProviderError
from spanledger.wires.base import Seen, Written
from tests.service.wires.codex_requests import LITE, USUAL
from tests.service.wires.test_responses_as_chat_request import (
    AS_CHAT,
    TEXTS,
    TOOL,
    returned,
    sent,
    written,
)

EVENTS = {
    get_args(kind.model_fields["type"].annotation)[0]: kind
    for kind in get_args(get_args(ResponseStreamEvent)[0])
}
"""OpenAI's types of events, by their names."""
SEEN = Seen("x", 1_795_000_000, "req_1")
SPACE = {"type": "namespace", "name": "s", "description": "", "tools": [{**TOOL, "name": "g"}]}
FREE = {"type": "custom", "name": "free"}
TOOLS = [TOOL, SPACE, FREE, {"type": "shell"}, {"type": "apply_patch"}]
USAGE = {
    "prompt_tokens": 20,
    "completion_tokens": 9,
    "total_tokens": 29,
    "prompt_tokens_details": {"cached_tokens": 8},
    "completion_tokens_details": {"reasoning_tokens": 3},
}


def call(name: str, arguments: str, call_id: str = "call_1") -> dict[str, Any]:
    """A call in a chat."""
    function = {"name": name, "arguments": arguments}
    return {"id": call_id, "type": "function", "function": function}


def whole(request: Written, message: dict[str, Any], finish: str = "stop", **choice: Any) -> Any:
    """The response for a chat's message, checked against OpenAI's type."""
    completion = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "m-1",
        "choices": [
            {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
            | choice
        ],
        "usage": USAGE,
    }
    answer = AS_CHAT.answer(request, json.dumps(completion).encode(), SEEN)
    response = json.loads(answer.body)
    Response.model_validate(response)
    assert answer.response_id == "chatcmpl-1"
    return response


def streamed(
    request: Written, deltas: list[dict[str, Any]], finish: str | None = "stop", **choice: Any
) -> list[dict[str, Any]]:
    """The events for these pieces, checked against OpenAI's types and its own client's reading."""
    chunks: list[dict[str, Any]] = [
        {"choices": [{"index": 0, "delta": delta, **choice}]} for delta in deltas
    ]
    if finish:
        chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
    chunks.append({"choices": [], "usage": USAGE})
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m-1"}
    reader, data = AS_CHAT.reader(request, SEEN), b""
    for payload in (*(json.dumps({**head, **chunk}).encode() for chunk in chunks), b"[DONE]"):
        if (frame := reader.read(payload)) is not None:
            assert not frame.usage_only
            data += frame.data
    assert reader.ended
    last = reader.last()
    assert last is not None
    return checked(data + last.data)


def checked(data: bytes) -> list[dict[str, Any]]:
    """Events that are numbered, well formed and what OpenAI's client can put together."""
    events = list(parsed(data))
    state: Any = ResponseStreamState(input_tools=[], text_format=omit)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    for event in events:
        state.handle_event(EVENTS[event["type"]].model_validate(event))
    return events


def parsed(data: bytes) -> Iterator[dict[str, Any]]:
    """The events in these bytes."""
    for block in data.decode().strip().split("\n\n"):
        name, payload = block.split("\n", 1)
        event = json.loads(payload.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        yield event


def names(events: list[dict[str, Any]]) -> list[str]:
    """The types of events, without what all have in common."""
    return [event["type"].removeprefix("response.") for event in events]


def test_a_text() -> None:
    """The whole object, with what the request said."""
    request, _ = written(
        instructions="Be brief.",
        metadata={"a": "b"},
        temperature=0.5,
        tools=[TOOL],
        text={"format": {"type": "json_object"}},
        max_output_tokens=50,
        store=True,
    )
    response = whole(request, {"content": "hello"})

    usage = response.pop("usage")
    assert response == {
        "id": "resp_1",
        "object": "response",
        "created_at": 1_795_000_000,
        "status": "completed",
        "completed_at": 1_795_000_000,
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": "Be brief.",
        "max_output_tokens": 50,
        "max_tool_calls": None,
        "metadata": {"a": "b"},
        "model": "m-1",
        "output": [
            {
                "id": "msg_1_0",
                "type": "message",
                "role": "assistant",
                "status": "completed",
                "content": [
                    {"type": "output_text", "text": "hello", "annotations": [], "logprobs": []}
                ],
            }
        ],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "prompt_cache_key": None,
        "reasoning": {"effort": None, "summary": None},
        "safety_identifier": None,
        "service_tier": "default",
        "store": False,
        "temperature": 0.5,
        "text": {"format": {"type": "json_object"}},
        "tool_choice": "auto",
        "tools": [TOOL],
        "top_logprobs": 0,
        "top_p": None,
        "truncation": "disabled",
        "user": None,
    }
    assert usage == {
        "input_tokens": 20,
        "input_tokens_details": {"cached_tokens": 8, "cache_write_tokens": 0},
        "output_tokens": 9,
        "output_tokens_details": {"reasoning_tokens": 3},
        "total_tokens": 29,
    }


def test_the_order_of_events() -> None:
    """One item after the other, each opened, filled and closed; the response in the end."""
    request, _ = written(tools=TOOLS, stream=True)
    events = streamed(
        request,
        [
            {"role": "assistant", "content": ""},
            {"reasoning_content": "h"},
            {"reasoning_content": "m"},
            {"content": "a"},
            {"content": "b"},
            {"tool_calls": [{"index": 0, **call("f", "")}]},
            {"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]},
        ],
        "tool_calls",
    )

    assert names(events) == [
        "created",
        "in_progress",
        "output_item.added",
        "reasoning_summary_part.added",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
        "output_item.done",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]
    done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    last = events[-1]["response"]
    assert last["output"] == done
    assert last["usage"]["total_tokens"] == 29
    assert [item["type"] for item in done] == ["reasoning", "message", "function_call"]
    assert done[2]["call_id"] == "call_1"
    assert events[0]["response"]["status"] == "in_progress"
    assert {event["response"]["id"] for event in events if "response" in event} == {"resp_1"}


CALLS = st.sampled_from(
    [
        ("f", '{"a": 1}'),
        ("s__g", "{}"),
        ("free", '{"input": "x\\ny"}'),
        ("shell", '{"commands": ["ls"]}'),
        ("apply_patch", '{"type": "update_file", "path": "p", "diff": "+a"}'),
    ]
)


@settings(max_examples=60, deadline=None)
@given(
    TEXTS | st.just(""),
    TEXTS | st.just(""),
    st.lists(CALLS, max_size=3),
    st.sampled_from(["stop", "length", "content_filter"]),
    st.integers(1, 5),
)
def test_whole_and_streamed_are_the_same(
    thought: str, text: str, calls: list[tuple[str, str]], finish: str, step: int
) -> None:
    """Whatever the pieces, and also where a complete answer has to be shown as a stream."""
    request, _ = written(tools=TOOLS)
    made = [call(name, said, f"call_{n}") for n, (name, said) in enumerate(calls)]
    finish = "tool_calls" if made and finish == "stop" else finish
    message: dict[str, Any] = {"content": text or None}
    deltas: list[dict[str, Any]] = [{"role": "assistant"}]
    if thought:
        message["reasoning_content"] = thought
        deltas += [{"reasoning_content": piece} for piece in _pieces(thought, step)]
    deltas += [{"content": piece} for piece in _pieces(text, step)]
    if made:
        message["tool_calls"] = made
    for number, one in enumerate(made):
        opened = {**one, "index": number, "function": {**one["function"], "arguments": ""}}
        deltas.append({"tool_calls": [opened]})
        for piece in _pieces(one["function"]["arguments"], step):
            deltas.append({"tool_calls": [{"index": number, "function": {"arguments": piece}}]})
    response = whole(request, message, finish)
    events = streamed(request, deltas, finish)

    assert events[-1]["response"] == response
    answer = AS_CHAT.answer(request, json.dumps(_completion(message, finish)).encode(), SEEN)
    at_once = checked(AS_CHAT.frame(request.out, answer).data)
    assert at_once[-1]["response"] == response
    done = [e["item"] for e in at_once if e["type"] == "response.output_item.done"]
    assert done == response["output"]


def _pieces(text: str, step: int) -> list[str]:
    return [text[at : at + step] for at in range(0, len(text), step)]


def _completion(message: dict[str, Any], finish: str) -> dict[str, Any]:
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return {"id": "chatcmpl-1", "model": "m-1", "choices": [choice], "usage": USAGE}


@settings(max_examples=30, deadline=None)
@given(TEXTS, TEXTS, st.lists(CALLS, min_size=1, max_size=3))
def test_an_answer_sent_back_is_the_message_it_was(
    thought: str, text: str, calls: list[tuple[str, str]]
) -> None:
    """Clients return items as they got them, with results."""
    request, _ = written(tools=TOOLS)
    made = [call(name, said, f"call_{n}") for n, (name, said) in enumerate(calls)]
    message = {"reasoning_content": thought, "content": text, "tool_calls": made}
    output = whole(request, message, "tool_calls")["output"]
    results = [
        {**returned(item["call_id"]), "type": f"{item['type']}_output"}
        for item in output
        if "call_id" in item
    ]
    chat, changed = sent(input=[*output, *results], tools=TOOLS)
    back = chat["messages"][0]

    assert changed == []
    assert (back["content"], back["reasoning_content"]) == (text, thought)
    for had, wanted in zip(back["tool_calls"], made, strict=True):
        assert (had["id"], had["function"]["name"]) == (wanted["id"], wanted["function"]["name"])
        there = json.loads(had["function"]["arguments"])
        assert there == json.loads(wanted["function"]["arguments"])


@pytest.mark.parametrize(
    ("finish", "status", "reason"),
    [
        ("stop", "completed", None),
        ("tool_calls", "completed", None),
        ("length", "incomplete", "max_output_tokens"),
        ("content_filter", "incomplete", "content_filter"),
    ],
)
def test_how_it_ends(finish: str, status: str, reason: str | None) -> None:
    """A cut answer says so, and its last event has another name."""
    request, _ = written()
    response = whole(request, {"content": "a"}, finish)
    events = streamed(request, [{"content": "a"}], finish)

    assert response["status"] == response["output"][-1]["status"] == status
    assert response["incomplete_details"] == ({"reason": reason} if reason else None)
    assert events[-1]["type"] == f"response.{status}"


def test_an_answer_without_a_finish_reason() -> None:
    """Some servers never say it; all items are closed all the same (CLIProxyAPI#4860)."""
    request, _ = written()
    events = streamed(request, [{"content": "a"}], None)

    assert "output_item.done" in names(events)
    assert events[-1]["response"]["status"] == "completed"


@pytest.mark.parametrize(
    ("name", "arguments", "wanted"),
    [
        ("f", "", {"type": "function_call", "name": "f", "arguments": "{}"}),
        ("functions.f", "{}", {"type": "function_call", "name": "f"}),
        ("s__g", "{}", {"type": "function_call", "name": "g", "namespace": "s"}),
        ("s.g", "{}", {"type": "function_call", "name": "g", "namespace": "s"}),
        ("g", "{}", {"type": "function_call", "name": "g", "namespace": "s"}),
        ("other", "{}", {"type": "function_call", "name": "other"}),
        ("free", '{"input":"a"}', {"type": "custom_tool_call", "name": "free", "input": "a"}),
        ("free", '{"patch":"a"}', {"type": "custom_tool_call", "input": "a"}),
        ("free", "a = 1", {"type": "custom_tool_call", "input": "a = 1"}),
        ("free", '"a"', {"type": "custom_tool_call", "input": "a"}),
        ("free", '{"a":1}', {"type": "custom_tool_call", "input": '{"a":1}'}),
        (
            "shell",
            '{"commands": ["ls"], "timeout_ms": 5}',
            {
                "type": "shell_call",
                "action": {"commands": ["ls"], "timeout_ms": 5, "max_output_length": None},
            },
        ),
        (
            "apply_patch",
            '{"type": "delete_file", "path": "a", "diff": "x"}',
            {"type": "apply_patch_call", "operation": {"type": "delete_file", "path": "a"}},
        ),
    ],
)
def test_calls(name: str, arguments: str, wanted: dict[str, Any]) -> None:
    """Come back as what the caller's tool is, also where a model writes its name or input oddly."""
    request, _ = written(tools=TOOLS)
    (item,) = whole(request, {"content": None, "tool_calls": [call(name, arguments)]})["output"]

    assert {key: item[key] for key in wanted} == wanted
    assert item["call_id"] == "call_1"
    assert ("namespace" in item) == ("namespace" in wanted)


def test_codex() -> None:
    """Calls name the namespace, by which it finds its tools."""
    usual, _ = written(**USUAL)
    lite, _ = written(**LITE)
    asked = call("multi_agent_v1__close_agent", "{}")
    (closing,) = whole(usual, {"tool_calls": [asked]}, "tool_calls")["output"]
    run = {"tool_calls": [call("functions__exec", '{"input": "text(1)"}')]}
    (running,) = whole(lite, run, "tool_calls")["output"]

    assert (closing["namespace"], closing["name"]) == ("multi_agent_v1", "close_agent")
    assert (running["namespace"], running["name"]) == ("functions", "exec")
    assert (running["type"], running["input"]) == ("custom_tool_call", "text(1)")


def test_calls_that_servers_number_oddly() -> None:
    """All of them 0, by turns, with the name late, or without an id."""
    request, _ = written(tools=TOOLS)
    same = [
        {"tool_calls": [{"index": 0, **call("f", '{"a":1}', "x")}]},
        {"tool_calls": [{"index": 0, **call("f", '{"a":2}', "y")}]},
    ]
    turns = [
        {"tool_calls": [{"index": 0, **call("f", '{"a"', "x")}]},
        {"tool_calls": [{"index": 1, **call("f", '{"a"', "y")}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": ":1}"}}]},
        {"tool_calls": [{"index": 1, "function": {"arguments": ":2}"}}]},
    ]
    late = [
        {"tool_calls": [{"index": 0, "id": "x", "function": {"arguments": '{"a"'}}]},
        {"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": ":1}"}}]},
        {"tool_calls": [{"index": 1, "id": "y", "function": {"name": "f", "arguments": ""}}]},
        {"tool_calls": [{"index": 1, "id": "y", "function": {"arguments": '{"a":2}'}}]},
    ]
    for deltas in (same, turns, late):
        output = streamed(request, deltas, "tool_calls")[-1]["response"]["output"]
        assert [item["call_id"] for item in output] == ["x", "y"]
        assert [item["arguments"] for item in output] == ['{"a":1}', '{"a":2}']

    nameless = [{"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": "{}"}}]}]
    (item,) = streamed(request, nameless, "tool_calls")[-1]["response"]["output"]
    assert item["call_id"] == "call_1_0"


def test_refusals_sources_and_probabilities() -> None:
    """Parts of a message that are not its text."""
    request, _ = written(include=["message.output_text.logprobs"])
    source = {"start_index": 0, "end_index": 1, "title": "t", "url": "https://x"}
    cited = {"content": "a", "annotations": [{"type": "url_citation", "url_citation": source}]}
    top = {"token": "a", "logprob": -0.5, "bytes": [97]}
    logprobs = {"content": [{**top, "top_logprobs": [top]}]}
    response = whole(request, cited, logprobs=logprobs)
    (part,) = response["output"][0]["content"]
    events = streamed(request, [cited, {"refusal": "no"}], logprobs=logprobs)

    assert part["annotations"] == [{"type": "url_citation", **source}]
    assert part["logprobs"] == logprobs["content"]
    assert events[-1]["response"]["output"][0]["content"] == [
        part,
        {"type": "refusal", "refusal": "no"},
    ]
    kinds = names(events)
    assert kinds.count("output_text.annotation.added") == kinds.count("refusal.done") == 1


def test_an_empty_answer() -> None:
    """Has a message that says nothing: agents wait for one."""
    request, _ = written()
    response = whole(request, {"content": ""})

    assert [part["text"] for part in response["output"][0]["content"]] == [""]
    assert streamed(request, [{"content": ""}])[-1]["response"] == response


def test_a_stream_without_an_answer_is_an_error() -> None:
    """As on every other wire."""
    request, _ = written()
    reader = AS_CHAT.reader(request, SEEN)
    reader.read(b"[DONE]")
    with pytest.raises(ProviderError):
        reader.last()
