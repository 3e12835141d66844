"""The simulator on Google's wire: what it answers, bills and refuses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from spanledger.sim.host import RunningSim
from spanledger.sim.server import sim_in_thread

HELLO: Any = [{"role": "user", "parts": [{"text": "Say hello, please."}]}]
TOOL: Any = {"functionDeclarations": [{"name": "f", "parameters": {"type": "OBJECT"}}]}


@pytest.fixture(scope="module")
def sim() -> Iterator[RunningSim]:
    """A simulator."""
    with sim_in_thread() as running:
        yield running


def ask(
    sim: RunningSim, verb: str = "generateContent", model: str = "gemini-2.5-flash", **fields: Any
) -> httpx.Response:
    """One request."""
    url = f"{sim.url}/v1beta/models/{model}:{verb}"
    return httpx.post(
        url, json={"contents": HELLO, **fields}, headers={"x-goog-api-key": "k"}, timeout=30
    )


def test_thoughts_are_billed_and_not_shown(sim: RunningSim) -> None:
    """The usage has them apart, and the bill has their sum with the answer."""
    usage = ask(sim).json()["usageMetadata"]
    entry = sim.state.bill.entries[-1]
    assert entry.usage.output_tokens == usage["candidatesTokenCount"] + usage["thoughtsTokenCount"]
    assert entry.usage.reasoning_output_tokens == usage["thoughtsTokenCount"] > 0
    off = {"thinkingConfig": {"thinkingBudget": 0}}
    assert "thoughtsTokenCount" not in ask(sim, generationConfig=off).json()["usageMetadata"]


def test_a_stream_adds_up(sim: RunningSim) -> None:
    """Its texts are the whole answer, and its last event has the reason and the usage."""
    whole = ask(sim, generationConfig={"seed": 1}).json()
    text = ask(sim, "streamGenerateContent?alt=sse", generationConfig={"seed": 1}).text
    events = [httpx.Response(200, text=line[6:]).json() for line in text.split("\r\n\r\n") if line]
    said = "".join(e["candidates"][0]["content"]["parts"][0]["text"] for e in events)
    assert said
    assert events[-1]["candidates"][0]["finishReason"] == "STOP"
    assert (
        events[-1]["usageMetadata"]["promptTokenCount"]
        == whole["usageMetadata"]["promptTokenCount"]
    )


def test_both_spellings(sim: RunningSim) -> None:
    """Names with capitals or underscores."""
    answer = ask(
        sim,
        system_instruction={"parts": [{"text": "Be brief."}]},
        generation_config={"max_output_tokens": 3, "thinking_config": {"thinking_budget": 0}},
    )
    assert answer.json()["candidates"][0]["finishReason"] == "MAX_TOKENS"


def test_a_call(sim: RunningSim) -> None:
    """A function that must be called is."""
    calling = {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}}
    (part,) = ask(sim, tools=[TOOL], toolConfig=calling).json()["candidates"][0]["content"]["parts"]
    assert part["functionCall"]["name"] == "f"


CALLED: Any = {"role": "model", "parts": [{"functionCall": {"name": "f", "args": {}}}]}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"temperature": 1}, 'Unknown name "temperature"'),
        ({"generationConfig": {"maxTokens": 1}}, 'Unknown name "maxTokens"'),
        ({"generationConfig": {"maxOutputTokens": 0}}, "maxOutputTokens"),
        ({"generationConfig": {"stopSequences": ["a"] * 6}}, "stop_sequences"),
        ({"generationConfig": {"responseSchema": {"type": "OBJECT"}}}, "mime type"),
        ({"contents": []}, "contents is not specified"),
        ({"contents": [{"role": "assistant", "parts": [{"text": "x"}]}]}, "valid role"),
        ({"contents": [{"role": "user", "parts": []}]}, "must not be empty"),
        ({"contents": [{"parts": [{"text": "x", "inlineData": {}}]}]}, "oneof"),
        ({"contents": [{"parts": [{"thought": True}]}]}, "must have one initialized field"),
        ({"contents": [*HELLO, CALLED, *HELLO]}, "number of function response parts"),
        ({"tools": [{"name": "f"}]}, 'Unknown name "name"'),
        ({"tools": [TOOL, TOOL]}, "Duplicate function declaration"),
        (
            {"tools": [{"functionDeclarations": [{"name": "f", "parameters": {"$ref": "x"}}]}]},
            'Unknown name "$ref"',
        ),
        ({"toolConfig": {"functionCallingConfig": {"mode": "auto"}}}, "mode"),
    ],
)
def test_what_google_refuses(sim: RunningSim, fields: dict[str, Any], words: str) -> None:
    """With its words, and free of charge."""
    answer = ask(sim, **fields)
    error = answer.json()["error"]
    assert (answer.status_code, error["status"]) == (400, "INVALID_ARGUMENT")
    assert words in error["message"]
    assert not sim.state.bill.entries[-1].billed


def test_a_key_is_needed(sim: RunningSim) -> None:
    """In its own header."""
    url = f"{sim.url}/v1beta/models/gemini-2.5-flash:generateContent"
    answer = httpx.post(url, json={"contents": HELLO}, headers={"authorization": "Bearer k"})
    assert answer.json()["error"]["status"] == "PERMISSION_DENIED"


def test_tokens_are_counted_as_they_are_billed(sim: RunningSim) -> None:
    """Counting is free, and right."""
    count = ask(sim, "countTokens").json()["totalTokens"]
    assert ask(sim).json()["usageMetadata"]["promptTokenCount"] == count
