"""Google's wire at deployments that speak it: what is sent, and how answers and streams are read."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from spanledger.errors import ProviderError
from spanledger.providers.base import Call, Deployment
from spanledger.wires import GENERATE, OUTBOUND
from spanledger.wires.base import Habits, Seen, Written
from spanledger.wires.gemini.inbound import GenerateContent
from spanledger.wires.gemini.usage import UsageMetadata
from spanledger.wires.sse import ErrorPayload

WIRE = OUTBOUND["generate_content", "generate_content"]
GEMINI = Deployment("d", "r", "openai", "gcp.gemini", "gemini-2.5-flash", "gemini/gemini-2.5-flash")
SEEN = Seen("", 7)
HELLO: Any = [{"role": "user", "parts": [{"text": "hi"}]}]
USAGE = {
    "promptTokenCount": 10,
    "candidatesTokenCount": 5,
    "thoughtsTokenCount": 7,
    "cachedContentTokenCount": 4,
    "totalTokenCount": 22,
}


def sent(cap: int | None = None, **fields: Any) -> tuple[dict[str, Any], list[str]]:
    """What is sent for these fields, and the names of what changed."""
    ask = GenerateContent("m").read(json.dumps({"contents": HELLO, **fields}).encode())
    call = Call(GEMINI, GENERATE, ask.fields, 60, max_output_tokens=cap)
    return json.loads(WIRE.request(call, False, Habits()).body), call.changed


def written() -> Written:
    """A request that was sent."""
    ask = GenerateContent("m").read(json.dumps({"contents": HELLO}).encode())
    return WIRE.request(Call(GEMINI, GENERATE, ask.fields, 60), True, Habits())


def event(text: str, finish: str = "", **more: Any) -> bytes:
    """An event of a stream."""
    candidate: dict[str, Any] = {
        "content": {"parts": [{"text": text}], "role": "model"},
        "index": 0,
    }
    if finish:
        candidate["finishReason"] = finish
    return json.dumps({"candidates": [candidate], "responseId": "r1", **more}).encode()


@pytest.mark.parametrize(
    ("config", "cap", "wanted"),
    [
        (None, None, None),
        (None, 50, {"maxOutputTokens": 50}),
        ({"maxOutputTokens": 70, "topK": 3}, 50, {"maxOutputTokens": 50, "topK": 3}),
        ({"max_output_tokens": "30"}, 50, {"maxOutputTokens": 30}),
    ],
)
def test_a_budget_lowers_the_cap(config: Any, cap: int | None, wanted: Any) -> None:
    """Whatever else is set stays as it is."""
    fields = {} if config is None else {"generationConfig": config}
    body, changed = sent(cap, **fields)
    assert body.get("generationConfig") == wanted
    assert changed == []


def test_settings_of_a_deployment() -> None:
    """Those of a chat that Google has by another name are set, and the rest are left out and named."""
    body, changed = sent(
        temperature=0.3,
        max_tokens=9,
        frequency_penalty=None,
        user="u",
        generationConfig={"topP": 0.5},
    )
    assert body["generationConfig"] == {"topP": 0.5, "temperature": 0.3, "maxOutputTokens": 9}
    assert body.keys() == {"contents", "generationConfig"}
    assert changed == ["user"]


@pytest.mark.parametrize(
    ("told", "counts"),
    [
        (USAGE, (10, 12, 4, 7, "")),
        ({**USAGE, "toolUsePromptTokenCount": 3, "totalTokenCount": 25}, (13, 12, 4, 7, "")),
        ({**USAGE, "totalTokenCount": 30}, (10, 20, 4, 7, "total_mismatch")),
        ({"promptTokenCount": 10, "totalTokenCount": 10}, (10, 0, 0, 0, "")),
        ({"candidatesTokenCount": 5}, (0, 5, 0, 0, "prompt_missing")),
    ],
)
def test_usage(told: dict[str, Any], counts: tuple[Any, ...]) -> None:
    """Thoughts and what tools added are not in the other counts; an unexplained rest is output."""
    usage = msgspec.convert(told, UsageMetadata).to_usage()
    assert usage is not None
    assert counts == (
        usage.input_tokens,
        usage.output_tokens,
        usage.cache_read_input_tokens,
        usage.reasoning_output_tokens,
        usage.ambiguity,
    )


def test_usage_by_kind() -> None:
    """Audio and images have prices of their own; garbage is not counted."""
    sound = [{"modality": "TEXT", "tokenCount": 4}, {"modality": "AUDIO", "tokenCount": 6}]
    drawn = [{"modality": "IMAGE", "tokenCount": 5}]
    told = {**USAGE, "promptTokensDetails": sound, "candidatesTokensDetails": drawn}
    usage = msgspec.convert(told, UsageMetadata).to_usage()
    assert usage is not None
    assert (usage.audio_input_tokens, usage.image_output_tokens) == (6, 5)
    for garbage in ({}, {"promptTokenCount": "9"}, {"promptTokenCount": True}):
        assert msgspec.convert(garbage, UsageMetadata).to_usage() is None


def test_a_whole_answer() -> None:
    """It passes as it came; a call makes it end with calls."""
    parts = [{"text": "é"}, {"functionCall": {"name": "f", "args": {"a": 1}}}]
    candidate = {"content": {"parts": parts}, "finishReason": "STOP"}
    body = json.dumps({"candidates": [candidate], "usageMetadata": USAGE, "modelVersion": "v"})
    answer = WIRE.answer(written(), body.encode(), SEEN)
    assert answer.body == body.encode()
    assert (answer.finish_reasons, answer.response_model) == (("tool_calls",), "v")
    assert answer.output_bytes == 2 + len('{"name": "f", "args": {"a": 1}}')
    assert answer.usage is not None


def test_a_blocked_prompt() -> None:
    """It is an answer without candidates, whose prompt is billed."""
    body = {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 3}}
    answer = WIRE.answer(written(), json.dumps(body).encode(), SEEN)
    assert answer.finish_reasons == ("content_filter",)
    assert answer.usage is not None


@pytest.mark.parametrize(
    ("body", "kind", "billed"),
    [
        (b"[]", "malformed_response", "unknown"),
        (b"{}", "malformed_response", "unknown"),
        (b"<html></html>", "malformed_response", "no"),
        (
            b'{"error":{"code":503,"message":"overloaded","status":"UNAVAILABLE"}}',
            "overloaded",
            "no",
        ),
    ],
)
def test_what_cannot_be_an_answer(body: bytes, kind: str, billed: str) -> None:
    """It fails the attempt, and may be billed unless it says that nothing was done."""
    with pytest.raises(ProviderError) as caught:
        WIRE.answer(written(), body, SEEN)
    assert (caught.value.kind, caught.value.billed) == (kind, billed)


def test_a_stream() -> None:
    """Events pass as they came. Until the finish reason, their counts are of the input alone."""
    early = {"promptTokenCount": 10, "candidatesTokenCount": 1, "totalTokenCount": 11}
    reader = WIRE.reader(written(), SEEN)
    first = reader.read(event("a", usageMetadata=early))
    last = reader.read(event("", "STOP", usageMetadata=USAGE))
    assert first is not None
    assert last is not None
    assert first.data == b"data: " + event("a", usageMetadata=early) + b"\n\n"
    assert (first.usage, first.finish_reason, first.content) == (None, "", True)
    assert first.input_usage is not None
    assert (first.input_usage.input_tokens, first.input_usage.output_tokens) == (10, 0)
    assert (last.finish_reason, last.response_id) == ("stop", "r1")
    assert last.usage is not None
    assert reader.rest(b"") == []
    assert reader.ended
    assert reader.last() is None


def test_a_stream_that_breaks() -> None:
    """Without a finish reason it is not complete; after it and its usage, nothing is missing."""
    late = ProviderError("stream_interrupted", "x")
    reader = WIRE.reader(written(), SEEN)
    reader.read(event("a"))
    assert reader.rest(b"") is None
    assert not reader.survives(late)
    reader.read(event("", "MAX_TOKENS", usageMetadata=USAGE))
    assert reader.survives(late)
    empty = WIRE.reader(written(), SEEN)
    with pytest.raises(ProviderError, match="no answer"):
        empty.last()


@pytest.mark.parametrize(
    "payload",
    [
        b'{"error":{"code":500,"message":"x","status":"INTERNAL"}}',
        ErrorPayload(b"boom"),
        b"{",
    ],
)
def test_an_error_within_a_stream(payload: bytes) -> None:
    """What came before it may be billed."""
    reader = WIRE.reader(written(), SEEN)
    reader.read(event("a"))
    with pytest.raises(ProviderError) as caught:
        reader.read(payload)
    assert caught.value.billed == "unknown"


def test_a_stream_that_came_unasked() -> None:
    """It is put together: texts that follow one another are one, and thoughts stay apart."""
    events = [
        {"candidates": [{"content": {"parts": [{"text": "hm", "thought": True}]}, "index": 0}]},
        *(json.loads(event(text)) for text in "ab"),
        json.loads(event("", "STOP", usageMetadata=USAGE)),
    ]
    stream = b"".join(b"data: " + json.dumps(e).encode() + b"\r\n\r\n" for e in events)
    answer = WIRE.answer(written(), stream, SEEN)
    (candidate,) = json.loads(answer.body)["candidates"]
    assert candidate["content"]["parts"] == [{"text": "hm", "thought": True}, {"text": "ab"}]
    assert candidate["finishReason"] == "STOP"
    assert answer.usage is not None
    with pytest.raises(ProviderError, match="unfinished"):
        WIRE.answer(written(), b"data: " + event("a") + b"\n\n", SEEN)
