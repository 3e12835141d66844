"""Chat over the Responses API: what comes back, whole and streamed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from spanledger.errors import ProviderError
from spanledger.wires.base import Answer, FailedAnswerError, Seen
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
from tests.service.wires.test_chat_as_responses_request import TEXTS, WIRE, sent, written

SEEN = Seen("req_1", 7)
CITED = {
    "type": "url_citation",
    "start_index": 0,
    "end_index": 2,
    "title": "Rome",
    "url": "https://example.org/rome",
}


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
