"""Google's wire over chat completions: what is sent, and what comes back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spanledger.errors import ProviderError
from spanledger.providers.base import Call, Deployment
from spanledger.wires import GENERATE, OUTBOUND, dropped
from spanledger.wires.base import Habits, Seen, Written
from spanledger.wires.gemini.inbound import GenerateContent

WIRE = OUTBOUND["generate_content", "chat"]
GPT = Deployment("d", "r", "openai", "openai", "gpt-4o-mini", "openai/gpt-4o-mini")
THINKER = Deployment("d", "r", "openai", "openai", "gpt-5-mini", "openai/gpt-5-mini")
SEEN = Seen("req_1", 7)
TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40)
NAMES = st.sampled_from(["f", "g"])
JSON = st.dictionaries(TEXTS, st.none() | st.integers(-9, 9) | TEXTS | st.lists(TEXTS), max_size=3)
HELLO: Any = [{"role": "user", "parts": [{"text": "hi"}]}]
PNG = {"mimeType": "image/png", "data": "iVBORw0KGgo="}


def sent(
    server: Deployment = GPT, cap_name: str = "max_tokens", **fields: Any
) -> tuple[dict[str, Any], list[str]]:
    """The chat request for these fields, and the names of what changed."""
    ask = GenerateContent("m").read(json.dumps({"contents": HELLO, **fields}).encode())
    call = Call(server, GENERATE, ask.fields, 60)
    written = WIRE.request(call, ask.stream, Habits(cap_name))
    return json.loads(written.body), call.changed


def written() -> Written:
    """A request that was sent."""
    ask = GenerateContent("m").read(json.dumps({"contents": HELLO}).encode())
    return WIRE.request(Call(GPT, GENERATE, ask.fields, 60), False, Habits())


@st.composite
def conversations(draw: st.DrawFn) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Contents of text, images and calls, and the messages of a chat that say the same."""
    contents: list[dict[str, Any]] = []
    messages: list[dict[str, Any]] = []
    number = 0
    for _ in range(draw(st.integers(1, 3))):
        text = draw(TEXTS)
        contents.append({"role": "user", "parts": [{"text": text}, {"inlineData": PNG}]})
        url = {"url": "data:image/png;base64,iVBORw0KGgo="}
        parts = [{"type": "text", "text": text}, {"type": "image_url", "image_url": url}]
        messages.append({"role": "user", "content": parts})
        said, calls = draw(TEXTS), draw(st.lists(st.tuples(NAMES, JSON), max_size=3))
        named = draw(st.booleans())
        turn: list[dict[str, Any]] = [{"text": said}]
        results: list[dict[str, Any]] = []
        made: list[dict[str, Any]] = []
        after: list[dict[str, Any]] = []
        for name, args in calls:
            unique = f"id{number}" if named else f"call_{number}"
            number += 1
            more = {"id": unique} if named else {}
            turn.append({"functionCall": {"name": name, "args": args, **more}})
            result = {"result": draw(TEXTS)}
            results.append({"functionResponse": {"name": name, "response": result, **more}})
            made.append({"id": unique, "name": name, "args": args})
            after.append({"role": "tool", "tool_call_id": unique, "content": result})
        contents.append({"role": "model", "parts": turn})
        messages.append({"role": "assistant", "content": said, "calls": made})
        if results:
            contents.append({"role": "user", "parts": results})
            messages += after
    return contents, messages


@settings(max_examples=150, deadline=None)
@given(conversations())
def test_conversations_keep_all_they_say(
    pair: tuple[list[dict[str, Any]], list[dict[str, Any]]],
) -> None:
    """Text, images, calls and their results, whether Google's client names the calls or not."""
    contents, wanted = pair
    chat, changed = sent(contents=contents)

    found = []
    for message in chat["messages"]:
        if message["role"] == "tool":
            message["content"] = json.loads(message["content"])
        if message["role"] == "assistant":
            message["calls"] = [
                {
                    "id": call["id"],
                    "name": call["function"]["name"],
                    "args": json.loads(call["function"]["arguments"]),
                }
                for call in message.pop("tool_calls", [])
            ]
        found.append(message)
    assert found == wanted
    assert changed == []


def chunks(
    text: str, calls: list[tuple[str, dict[str, Any]]], finish: str, usage: Any
) -> list[Any]:
    """A stream of chat completions, with arguments in pieces."""
    deltas: list[dict[str, Any]] = [{"content": piece} for piece in text]
    for index, (name, args) in enumerate(calls):
        function = {"name": name, "arguments": ""}
        start = {"index": index, "id": f"c{index}", "type": "function", "function": function}
        deltas.append({"tool_calls": [start]})
        deltas += [
            {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}
            for piece in json.dumps(args)
        ]
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "gpt-x"}
    made: list[Any] = [
        {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        for delta in deltas
    ]
    made.append({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
    return [*made, {**head, "choices": [], "usage": usage}]


def streamed(events: list[Any]) -> list[dict[str, Any]]:
    """The events for Google's client, decoded."""
    reader = WIRE.reader(written(), SEEN)
    frames = [reader.read(json.dumps(event).encode()) for event in events]
    frames += [reader.read(b"[DONE]"), reader.last()]
    data = b"".join(frame.data for frame in frames if frame is not None)
    lines = [line for line in data.split(b"\n\n") if line]
    assert all(line.startswith(b"data: ") for line in lines)
    return [json.loads(line[6:]) for line in lines]


@settings(max_examples=150, deadline=None)
@given(
    TEXTS | st.just(""),
    st.lists(st.tuples(NAMES, JSON), max_size=3),
    st.sampled_from([("stop", "STOP"), ("length", "MAX_TOKENS"), ("content_filter", "SAFETY")]),
    st.tuples(st.integers(1, 9_000), st.integers(0, 9_000), st.integers(0, 9_000)),
    st.booleans(),
)
def test_answers_keep_all_they_say(
    text: str,
    calls: list[tuple[str, dict[str, Any]]],
    finish: tuple[str, str],
    counts: tuple[int, int, int],
    stream: bool,
) -> None:
    """Text, calls, the finish reason and the usage, whole and streamed."""
    given_tokens, said, thought = counts
    usage = {
        "prompt_tokens": given_tokens,
        "completion_tokens": said + thought,
        "total_tokens": given_tokens + said + thought,
        "prompt_tokens_details": {"cached_tokens": given_tokens // 2},
        "completion_tokens_details": {"reasoning_tokens": thought},
    }
    reason = "tool_calls" if calls and finish[0] == "stop" else finish[0]
    if stream:
        events = streamed(chunks(text, calls, reason, usage))
        parts = [part for one in events for part in one["candidates"][0]["content"]["parts"]]
        last = events[-1]
    else:
        function_calls = [
            {"id": f"c{n}", "function": {"name": name, "arguments": json.dumps(args)}}
            for n, (name, args) in enumerate(calls)
        ]
        message = {"role": "assistant", "content": text or None, "tool_calls": function_calls}
        body = {
            "id": "chatcmpl-1",
            "model": "gpt-x",
            "choices": [{"index": 0, "message": message, "finish_reason": reason}],
            "usage": usage,
        }
        last = json.loads(WIRE.answer(written(), json.dumps(body).encode(), SEEN).body)
        parts = last["candidates"][0]["content"]["parts"]

    assert "".join(part.get("text", "") for part in parts) == text
    assert [part["functionCall"] for part in parts if "functionCall" in part] == [
        {"name": name, "args": args, "id": f"c{n}"} for n, (name, args) in enumerate(calls)
    ]
    assert last["candidates"][0]["finishReason"] == finish[1]
    told = last["usageMetadata"]
    assert told["promptTokenCount"] == given_tokens
    assert told["candidatesTokenCount"] == said
    assert told.get("thoughtsTokenCount", 0) == thought
    assert told.get("cachedContentTokenCount", 0) == given_tokens // 2
    assert (last["modelVersion"], last["responseId"]) == ("gpt-x", "chatcmpl-1")


def test_settings_have_their_names_in_a_chat() -> None:
    """In either spelling; the cap has the name that the server knows."""
    config = {
        "temperature": 0.5,
        "topP": 0.9,
        "maxOutputTokens": "70",
        "stopSequences": ["x"],
        "seed": 3,
        "candidateCount": 2,
        "presencePenalty": 1,
        "topK": 4,
    }
    snaked = {"temperature": 0.5, "top_p": 0.9, "max_output_tokens": 70, "stop_sequences": ["x"]}
    chat, changed = sent(cap_name="max_completion_tokens", generationConfig=config)
    other, unchanged = sent(generation_config=snaked)
    same = {"temperature": 0.5, "top_p": 0.9, "stop": ["x"]}
    assert changed == ["generationConfig"]  # topK
    assert unchanged == []
    assert {name: chat[name] for name in same} == same == {name: other[name] for name in same}
    assert (chat["max_completion_tokens"], other["max_tokens"]) == (70, 70)
    assert (chat["n"], chat["seed"], chat["presence_penalty"]) == (2, 3, 1)
    assert "n" not in other


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        ({"thinkingLevel": "HIGH"}, "high"),
        ({"thinkingBudget": 20_000}, "high"),
        ({"thinking_budget": 5_000}, "medium"),
        ({"thinkingBudget": 100, "includeThoughts": True}, "low"),
        ({"thinkingBudget": -1}, None),
    ],
)
def test_thinking_is_an_effort(config: dict[str, Any], wanted: str | None) -> None:
    """For models that know one; for others it is left out, and said."""
    chat, changed = sent(THINKER, generationConfig={"thinkingConfig": config})
    assert chat.get("reasoning_effort") == wanted
    assert changed == []
    chat, changed = sent(GPT, generationConfig={"thinkingConfig": config})
    assert "reasoning_effort" not in chat
    assert changed == (["generationConfig"] if wanted else [])


GOOGLES = {
    "type": "OBJECT",
    "properties": {
        "name": {"type": "STRING", "nullable": True},
        "tags": {"type": "ARRAY", "items": {"type": "STRING"}, "maxItems": "3"},
        "kind": {"type": "STRING", "format": "enum", "enum": ["a", "b"]},
    },
    "required": ["name"],
    "propertyOrdering": ["name", "tags"],
}
JSONS = {
    "type": "object",
    "properties": {
        "name": {"type": ["string", "null"]},
        "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 3},
        "kind": {"type": "string", "enum": ["a", "b"]},
    },
    "required": ["name"],
}


@pytest.mark.parametrize(
    ("name", "schema"), [("responseSchema", GOOGLES), ("responseJsonSchema", JSONS)]
)
def test_structured_output(name: str, schema: dict[str, Any]) -> None:
    """Google's schemas become JSON schemas, and JSON schemas stay what they are."""
    chat, _ = sent(generationConfig={"responseMimeType": "application/json", name: schema})
    shape = chat["response_format"]["json_schema"]
    assert (shape["schema"], shape["strict"]) == (JSONS, False)


@pytest.mark.parametrize(
    ("config", "choice", "names"),
    [
        (None, None, ["f", "g"]),
        ({"mode": "AUTO"}, None, ["f", "g"]),
        ({"mode": "NONE"}, "none", ["f", "g"]),
        ({"mode": "ANY"}, "required", ["f", "g"]),
        (
            {"mode": "ANY", "allowedFunctionNames": ["g"]},
            {"type": "function", "function": {"name": "g"}},
            ["g"],
        ),
    ],
)
def test_tools_and_their_choice(
    config: dict[str, Any] | None, choice: Any, names: list[str]
) -> None:
    """Only tools that may be called are sent where a call is required."""
    declared = [
        {"name": "f", "description": "d", "parameters": GOOGLES},
        {"name": "g", "parametersJsonSchema": JSONS},
    ]
    fields: dict[str, Any] = {"tools": [{"functionDeclarations": declared}]}
    if config is not None:
        fields["toolConfig"] = {"functionCallingConfig": config}
    chat, _ = sent(**fields)
    assert [tool["function"]["name"] for tool in chat["tools"]] == names
    assert all(tool["function"]["parameters"] == JSONS for tool in chat["tools"])
    assert chat.get("tool_choice") == choice


def test_results_without_ids_are_their_calls() -> None:
    """The earliest call of the name that has none yet."""
    calls: list[Any] = [{"functionCall": {"name": n, "args": {}}} for n in ("f", "g", "f")]
    results = [{"functionResponse": {"name": n, "response": {"of": n}}} for n in ("g", "f", "f")]
    chat, _ = sent(
        contents=[*HELLO, {"role": "model", "parts": calls}, {"role": "user", "parts": results}]
    )
    called = [call["id"] for call in chat["messages"][1]["tool_calls"]]
    answered = [message["tool_call_id"] for message in chat["messages"][2:]]
    assert answered == [called[1], called[0], called[2]]


def part(**fields: Any) -> dict[str, Any]:
    """A request of one part."""
    return {"contents": [{"role": "user", "parts": [fields]}]}


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"tools": [{"googleSearch": {}}]}, "tools", "functionDeclarations"),
        ({"cachedContent": "cachedContents/1"}, "cachedContent", "send the contents"),
        (part(fileData={"fileUri": "https://x.test/a.mp4"}), "contents[0]", "inlineData"),
        (part(inlineData={"mimeType": "video/mp4", "data": "aa"}), "contents[0]", "images"),
        (part(executableCode={"code": "1"}), "contents[0]", "executableCode"),
        (part(functionResponse={"name": "f", "response": {}}), "contents[0]", "send the call"),
        ({"contents": [{"role": "x", "parts": [{"text": "a"}]}]}, "contents[0]", "role"),
        (
            {"generationConfig": {"responseModalities": ["IMAGE"]}},
            "generationConfig.responseModalities",
            "text",
        ),
        (
            {"generationConfig": {"responseMimeType": "text/x.enum"}},
            "generationConfig.responseMimeType",
            "application/json",
        ),
        ({"toolConfig": {"functionCallingConfig": {"mode": "X"}}}, "toolConfig", "AUTO"),
    ],
)
def test_what_has_no_counterpart(fields: dict[str, Any], param: str, words: str) -> None:
    """It is refused with what to send instead, before anything is sent."""
    if "toolConfig" in fields:
        fields = {**fields, "tools": [{"functionDeclarations": [{"name": "f"}]}]}
    with pytest.raises(ProviderError) as caught:
        sent(**fields)
    assert caught.value.kind == "invalid_request"
    told = caught.value.told or {}
    assert told["param"] == param
    assert words in told["message"]


def test_thoughts_stay_at_google() -> None:
    """They are signed for it alone; that they are left out is said."""
    said = [{"text": "hm", "thought": True}, {"text": "Hello", "thoughtSignature": "c2ln"}]
    chat, changed = sent(contents=[*HELLO, {"role": "model", "parts": said}, *HELLO])
    assert [message["content"] for message in chat["messages"]] == ["hi", "Hello", "hi"]
    assert changed == ["contents", "contents"]


def test_other_media() -> None:
    """Audio, PDF and text are sent as a chat has them, and an image of the web by its address."""
    parts: list[Any] = [
        {"inlineData": {"mimeType": "audio/wav", "data": "UklGRg=="}},
        {"inline_data": {"mime_type": "application/pdf", "data": "JVBERi0="}},
        {"inlineData": {"mimeType": "text/csv", "data": "YSxi"}},
        {"fileData": {"mimeType": "image/png", "fileUri": "https://x.test/a.png"}},
    ]
    chat, _ = sent(contents=[{"role": "user", "parts": parts}])
    sound, file, text, image = chat["messages"][0]["content"]
    assert sound["input_audio"] == {"data": "UklGRg==", "format": "wav"}
    assert file["file"]["file_data"] == "data:application/pdf;base64,JVBERi0="
    assert text["text"] == "a,b"
    assert image["image_url"]["url"] == "https://x.test/a.png"


def test_a_deployments_own_settings_pass() -> None:
    """But its cap gives way to the caller's."""
    fields: dict[str, Any] = {
        "temperature": 1,
        "max_tokens": 5,
        "metadata": {"a": "b"},
        "generationConfig": {"maxOutputTokens": 9},
    }
    chat, _ = sent(**fields)
    assert (chat["temperature"], chat["max_tokens"], chat["metadata"]) == (1, 9, {"a": "b"})


def test_what_is_refused_here_costs_nothing() -> None:
    """So a budget does not refuse it first, with words about another model."""
    assert {"tools", "cachedContent", "responseModalities"} <= dropped(GENERATE, ("chat",))
