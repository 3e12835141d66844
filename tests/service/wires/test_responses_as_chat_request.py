"""Responses requests over chat completions: what is sent, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spanledger.errors import ProviderError
from spanledger.providers.base import Call, Deployment
from spanledger.wires import CHAT, OUTBOUND
from spanledger.wires.base import Habits, Written
from spanledger.wires.fields import OBJECT
from tests.service.wires.codex_requests import LITE, PATCH_GRAMMAR, USUAL

AS_CHAT = OUTBOUND["responses", "chat"]
TOOL = {
    "type": "function",
    "name": "f",
    "description": "d",
    "parameters": {"type": "object", "properties": {}},
    "strict": True,
}
TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40)
IMAGE = "data:image/png;base64,iVBORw0KGgo="


def server(model: str = "deepseek-chat", provider: str = "deepseek") -> Deployment:
    """A deployment that speaks chat alone."""
    return Deployment("d", "r", "openai", provider, model, f"{provider}/{model}")


def written(at: Deployment | None = None, **fields: Any) -> tuple[Written, list[str]]:
    """The request for these fields, and the names of what changed."""
    body = {"model": "m", "input": "hi", **fields}
    call = Call(at or server(), CHAT, OBJECT.decode(json.dumps(body).encode()), 60)
    return AS_CHAT.request(call, body.get("stream", False), Habits()), call.changed


def sent(at: Deployment | None = None, **fields: Any) -> tuple[dict[str, Any], list[str]]:
    """The body for these fields, and the names of what changed."""
    request, changed = written(at, **fields)
    return json.loads(request.body), changed


def refused(**fields: Any) -> tuple[str, str]:
    """What a request is refused with: the message and the field."""
    with pytest.raises(ProviderError) as caught:
        sent(**fields)
    assert caught.value.kind == "invalid_request"
    assert caught.value.told is not None
    return str(caught.value), str(caught.value.told["param"])


def called(call_id: str, name: str = "f", arguments: str = "{}") -> dict[str, Any]:
    """A call of a function."""
    return {"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments}


def returned(call_id: str, output: Any = "done") -> dict[str, Any]:
    """The result of a function."""
    return {"type": "function_call_output", "call_id": call_id, "output": output}


def test_codex() -> None:
    """Its tools get through, its instructions are one message, and hosted search is left out."""
    chat, changed = sent(**USUAL)

    names = [tool["function"]["name"] for tool in chat["tools"]]
    assert names == ["exec_command", "view_image", "multi_agent_v1__close_agent"]
    assert [m["role"] for m in chat["messages"]] == ["system", "user", "user", "assistant", "tool"]
    assert chat["messages"][0]["content"].endswith("CLI.\n\n<skills_instructions>\n## Skills")
    assert chat["messages"][3]["tool_calls"] == [
        {
            "id": "call_1",
            "type": "function",
            "function": {"name": "exec_command", "arguments": '{"cmd": "echo hi"}'},
        }
    ]
    assert chat["messages"][4]["tool_call_id"] == "call_1"
    assert chat["parallel_tool_calls"] is True
    left = {"input", "include", "client_metadata", "prompt_cache_key", "store", "reasoning"}
    assert left.isdisjoint(chat)
    assert sorted(changed) == ["client_metadata", "include", "prompt_cache_key", "tools"]


def test_codex_for_newer_models() -> None:
    """Tools in the input; the default namespace adds nothing to names; free text becomes a field."""
    chat, changed = sent(**LITE)

    functions = {tool["function"]["name"]: tool["function"] for tool in chat["tools"]}
    assert list(functions) == ["exec", "wait", "collaboration__list_agents"]
    free = functions["exec"]["parameters"]
    assert free["required"] == ["input"]
    assert PATCH_GRAMMAR in free["properties"]["input"]["description"]
    assert (chat["reasoning_effort"], chat["parallel_tool_calls"]) == ("low", False)
    assert "verbosity" not in chat
    assert "text" in changed


@st.composite
def conversations(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Items of a conversation, some with a round of parallel calls whose results come late."""
    items: list[dict[str, Any]] = []
    for turn in range(draw(st.integers(1, 3))):
        parts: list[dict[str, Any]] = [{"type": "input_text", "text": draw(TEXTS)}]
        if draw(st.booleans()):
            parts.append({"type": "input_image", "image_url": IMAGE, "detail": "low"})
        items.append({"type": "message", "role": "user", "content": parts})
        if draw(st.booleans()):
            summary = [{"type": "summary_text", "text": draw(TEXTS)}]
            items.append({"type": "reasoning", "id": "rs_1", "summary": summary})
        said = [{"type": "output_text", "text": draw(TEXTS), "annotations": []}]
        items.append({"type": "message", "role": "assistant", "id": "msg_1", "content": said})
        calls = [
            called(f"call_{turn}_{n}", "f", json.dumps({"x": draw(TEXTS)}))
            for n in range(draw(st.integers(0, 2)))
        ]
        results = [returned(call["call_id"], draw(TEXTS)) for call in calls]
        items += [*calls, *draw(st.permutations(results))]
    items.append({"role": "user", "content": draw(TEXTS)})
    return items


@settings(max_examples=100, deadline=None)
@given(conversations(), TEXTS)
def test_nothing_that_was_said_is_lost(items: list[dict[str, Any]], instructions: str) -> None:
    """Each text, image, call and result is in the chat once, in order, and results follow calls."""
    chat, changed = sent(input=items, instructions=instructions, tools=[TOOL])

    assert changed == []
    wanted, had = _flat_items(items), _flat_messages(chat["messages"][1:])
    assert sorted(map(repr, had)) == sorted(map(repr, wanted))
    ordered = ("user", "assistant", "call")
    assert [x for x in had if x[0] in ordered] == [x for x in wanted if x[0] in ordered]
    assert chat["messages"][0] == {"role": "system", "content": instructions}
    waiting: set[str] = set()
    for message in chat["messages"]:
        if message["role"] == "tool":
            waiting.remove(message["tool_call_id"])
        else:
            assert not waiting
        waiting |= {call["id"] for call in message.get("tool_calls", ())}


def _flat_items(items: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = []
    for item in items:
        kind = item.get("type", "message")
        if kind == "message" and isinstance(item["content"], str):
            found.append((item["role"], item["content"]))
        elif kind == "message":
            found += [
                (item["role"], part.get("text") or part["image_url"]) for part in item["content"]
            ]
        elif kind == "reasoning":
            found.append(("reasoning", item["summary"][0]["text"]))
        elif kind == "function_call":
            found.append(("call", item["call_id"], item["name"], item["arguments"]))
        else:
            found.append(("result", item["call_id"], item["output"]))
    return found


def _flat_messages(messages: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = []
    for message in messages:
        role, content = message["role"], message["content"]
        if role == "tool":
            found.append(("result", message["tool_call_id"], content))
            continue
        if message.get("reasoning_content"):
            found.append(("reasoning", message["reasoning_content"]))
        parts = content if isinstance(content, list) else [{"text": content}]
        found += [(role, part.get("text") or part["image_url"]["url"]) for part in parts]
        for call in message.get("tool_calls", ()):
            found.append(("call", call["id"], *call["function"].values()))
    return found


@pytest.mark.parametrize(
    ("fields", "param", "says"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id", "send the earlier items"),
        ({"conversation": {"id": "conv_1"}}, "conversation", "stores nothing"),
        ({"background": True}, "background", "wait for the answer"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt", "'instructions'"),
        ({"moderation": {"model": "x"}}, "moderation", "leave it out"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0]", "send the item"),
        ({"input": [{"id": "msg_1"}]}, "input[0]", "send the item"),
        ({"input": [returned("c")]}, "input[0]", "send all items"),
        ({"input": [called("c")]}, "input[0]", "send its output"),
        ({"input": [{"type": "compaction", "encrypted_content": "x"}]}, "input[0]", "OpenAI"),
        ({"input": [{"type": "computer_call"}]}, "input[0]", "use functions"),
        ({"input": [{"type": "novelty"}]}, "input[0]", "'novelty'"),
        ({"input": [{"role": "user", "content": [{"type": "x"}]}]}, "input[0]", "'x'"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]},
            "input[0]",
            "image_url",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_file", "file_url": "u"}]}]},
            "input[0]",
            "file_data",
        ),
        ({"input": [{"role": "tool", "content": "x"}]}, "input[0]", "role"),
        ({"input": 7}, "input", "a string or an array"),
        ({"tools": [{"type": "file_search", "vector_store_ids": []}]}, "tools[0]", "functions"),
        ({"tools": [TOOL, {"type": "mcp", "server_label": "x"}]}, "tools[1]", "functions"),
        ({"tools": [{"type": "web_search"}]}, "tools[0]", "run at OpenAI"),
        ({"tools": [{"type": "function"}]}, "tools[0]", "name"),
        (
            {"tools": [{"type": "shell", "environment": {"type": "container_auto"}}]},
            "tools[0]",
            "functions",
        ),
        ({"tools": [TOOL], "tool_choice": {"type": "web_search"}}, "tool_choice", "functions"),
        ({"text": {"format": {"type": "xml"}}}, "text.format", "json_schema"),
    ],
)
def test_what_has_no_counterpart_is_refused(fields: dict[str, Any], param: str, says: str) -> None:
    """With the place in the request, and what to send instead."""
    message, named = refused(**fields)

    assert named == param
    assert says in message


def test_all_mistakes_at_once() -> None:
    """A caller that moves here reads all of them, but no more than it can."""
    message, _ = refused(
        previous_response_id="resp_1",
        background=True,
        tools=[{"type": "mcp"}] * 20,
        text={"format": {"type": "xml"}},
    )

    assert "previous_response_id: " in message
    assert "background: " in message
    assert "tools[5]: " in message
    assert message.endswith("and 15 more")


def test_values_that_ask_for_nothing_are_no_mistake() -> None:
    """SDKs send null and defaults."""
    chat, changed = sent(
        background=False,
        conversation=None,
        previous_response_id=None,
        store=False,
        truncation="disabled",
        metadata={},
        context_management=[],
        stream_options={"include_obfuscation": False},
        tools=[],
        tool_choice="auto",
        stream=True,
    )

    assert changed == []
    assert chat.keys() == {"model", "messages", "stream", "stream_options"}
    assert chat["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize(
    ("model", "fields", "chat", "changed"),
    [
        ("gpt-5", {"reasoning": {"effort": "high"}}, {"reasoning_effort": "high"}, []),
        ("gpt-4o", {"reasoning": {"effort": "high"}}, {}, ["reasoning"]),
        ("gpt-5.4", {"reasoning": {"effort": "low"}, "tools": [TOOL]}, {}, ["reasoning"]),
        ("qwen3", {"reasoning": {"effort": "low"}}, {"reasoning_effort": "low"}, []),
        ("gpt-5", {"text": {"verbosity": "low"}}, {"verbosity": "low"}, []),
        ("qwen3", {"text": {"verbosity": "low"}}, {}, ["text"]),
        ("gpt-5", {"prompt_cache_key": "k"}, {"prompt_cache_key": "k"}, []),
        ("gpt-oss-120b", {"safety_identifier": "u"}, {}, ["safety_identifier"]),
        ("qwen3", {"top_logprobs": 2}, {"logprobs": True, "top_logprobs": 2}, []),
        ("qwen3", {"include": ["message.output_text.logprobs"]}, {"logprobs": True}, []),
        ("qwen3", {"max_output_tokens": 9}, {"max_tokens": 9}, []),
        ("qwen3", {"max_output_tokens": 9, "max_tokens": 5}, {"max_tokens": 5}, []),
        ("qwen3", {"user": "u", "temperature": 0.5}, {"user": "u", "temperature": 0.5}, []),
        ("qwen3", {"store": True}, {}, ["store"]),
        ("qwen3", {"truncation": "auto"}, {}, ["truncation"]),
        ("qwen3", {"top_k": 4}, {"top_k": 4}, []),
    ],
)
def test_parameters(
    model: str, fields: dict[str, Any], chat: dict[str, Any], changed: list[str]
) -> None:
    """Under the chat's names where there is one, for models that know them."""
    body, names = sent(server(model, "openai"), **fields)

    extra = {n: v for n, v in body.items() if n not in ("model", "messages", "tools", "stream")}
    assert (extra, names) == (chat, changed)


@pytest.mark.parametrize(
    ("at", "name"),
    [
        (server(), "reasoning_content"),
        (server("kimi-k3", "openai"), "reasoning_content"),
        (server("gpt-oss-120b", "groq"), "reasoning"),
        (server("gpt-5", "openai"), None),
        (server("mistral-large", "mistral"), None),
    ],
)
def test_earlier_reasoning(at: Deployment, name: str | None) -> None:
    """Goes back to servers that want it, by their name for it."""
    thought = {"type": "reasoning", "id": "rs", "summary": [{"type": "summary_text", "text": "hm"}]}
    chat, changed = sent(at, input=[thought, called("c"), returned("c")], tools=[TOOL])
    said = chat["messages"][0]

    assert {n: v for n, v in said.items() if n.startswith("reasoning")} == (
        {name: "hm"} if name else {}
    )
    assert changed == ([] if name else ["input"])


def test_reasoning_that_openai_encrypted_stays_out() -> None:
    """Its summary is not what the model thought."""
    thought = {
        "type": "reasoning",
        "summary": [{"type": "summary_text", "text": "hm"}],
        "encrypted_content": "gAAA",
    }
    said = {"role": "assistant", "content": "x"}
    chat, changed = sent(input=[thought, said])

    assert chat["messages"] == [{"role": "assistant", "content": "x"}]
    assert changed == ["input"]


def test_a_reference_to_reasoning_of_ours_is_left_out() -> None:
    """AI SDK sends references by default; an answer can do without what was thought before."""
    reference = {"type": "item_reference", "id": "rs_chat_1_0"}
    chat, changed = sent(input=[reference, called("c"), returned("c")])

    assert [m["role"] for m in chat["messages"]] == ["assistant", "tool"]
    assert changed == ["input"]


def test_a_text_between_a_call_and_its_result() -> None:
    """Becomes part of the turn, as servers want results next (BerriAI/litellm#32536)."""
    said = {"role": "assistant", "content": [{"type": "output_text", "text": "wait"}]}
    note = {"role": "developer", "content": "be quick"}
    items = [called("a"), said, called("b"), returned("b"), note, returned("a")]
    chat, _ = sent(input=items, tools=[TOOL])

    assert [m["role"] for m in chat["messages"]] == ["assistant", "tool", "tool", "system"]
    assert [m.get("tool_call_id") for m in chat["messages"][1:3]] == ["a", "b"]
    assert chat["messages"][0]["content"] == "wait"


def test_ids_that_a_provider_gives_twice() -> None:
    """Each call gets the result that came after it."""
    items = [called("call_0"), returned("call_0", "1"), called("call_0"), returned("call_0", "2")]
    chat, _ = sent(input=items, tools=[TOOL])

    assert [m["content"] for m in chat["messages"] if m["role"] == "tool"] == ["1", "2"]


def test_results_with_images_and_files() -> None:
    """The text is the tool's; the rest follows all results of the turn."""
    parts = [
        {"type": "input_text", "text": "see"},
        {"type": "input_image", "image_url": IMAGE},
        {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,JVB"},
    ]
    chat, _ = sent(input=[called("a"), called("b"), returned("a", parts), returned("b")])

    assert [m["role"] for m in chat["messages"]] == ["assistant", "tool", "tool", "user"]
    assert chat["messages"][1]["content"] == "see"
    assert [part["type"] for part in chat["messages"][3]["content"]] == ["image_url", "file"]


def test_structured_output() -> None:
    """A schema, as a chat has it."""
    shape = {"type": "json_schema", "name": "s", "schema": {"type": "object"}, "strict": True}
    chat, _ = sent(text={"format": shape})

    described = {"name": "s", "schema": {"type": "object"}, "strict": True}
    assert chat["response_format"] == {"type": "json_schema", "json_schema": described}
