"""The Responses API as callers speak it: what is read, bounded, sent and understood."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import openai
import pytest

from spanledger.errors import InvalidRequestError, ProviderError
from spanledger.pricing.demand import Demand
from spanledger.providers.base import Call, Deployment
from spanledger.wires import OUTBOUND, RESPONSES
from spanledger.wires.answer_ids import AnswerId, answer_id, handed_id
from spanledger.wires.base import Ask, FailedAnswerError, Habits, Problem, Reader, Seen, Written
from spanledger.wires.bounds import ANY_WINDOW_TOKENS
from spanledger.wires.sse import events_of

NATIVE = OUTBOUND["responses", "responses"]
SERVER = Deployment("d", "r", "openai", "openai", "gpt-5", "openai/gpt-5")
REQUEST_ID = "req_0123456789abcdef01234567"
SEEN = Seen("theirs", 1, REQUEST_ID)
TOOL: dict[str, Any] = {"type": "function", "name": "f", "parameters": {}}
ANSWER: dict[str, Any] = {
    "id": "resp_1",
    "object": "response",
    "model": "gpt-5-2025",
    "status": "completed",
    "output": [
        {"id": "rs_1", "type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}]},
        {"type": "message", "content": [{"type": "output_text", "text": 'Grüße "resp_1"'}]},
    ],
    "service_tier": "priority",
    "usage": {
        "input_tokens": 9,
        "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0},
        "output_tokens": 7,
        "output_tokens_details": {"reasoning_tokens": 3},
        "total_tokens": 16,
    },
}


def read(**fields: Any) -> Ask:
    """A request with these fields, as the wire reads it."""
    return RESPONSES.read(json.dumps({"model": "m", "input": "hi", **fields}).encode())


def written(ask: Ask | None = None, cap: int | None = None, *, stream: bool = False) -> Written:
    """A request as it is sent."""
    fields = (ask or read()).fields
    call = Call(SERVER, RESPONSES, fields, 60, max_output_tokens=cap, request_id=REQUEST_ID)
    return NATIVE.request(call, stream, Habits())


def reader() -> Reader:
    """What reads a stream."""
    return NATIVE.reader(written(stream=True), SEEN)


def event(kind: str, **data: Any) -> bytes:
    """The payload of an event."""
    return json.dumps({"type": kind, "sequence_number": 0, **data}).encode()


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": {"role": "user"}}, "input"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"messages": []}, "messages"),
        ({"max_tokens": 4}, "max_tokens"),
        ({"maxOutputTokens": 4}, "max_output_tokens"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"stream": 1}, "stream"),
        ({"background": "yes"}, "background"),
        ({"previous_response_id": 1}, "previous_response_id"),
    ],
)
def test_what_is_refused(fields: dict[str, Any], param: str) -> None:
    """What the gateway acts on is checked, and the error names the field."""
    with pytest.raises(InvalidRequestError) as caught:
        read(**fields)
    assert caught.value.param == param


def test_input_may_be_elsewhere() -> None:
    """The answer before it, or a stored prompt, can be all the input."""
    body = {"model": "m", "previous_response_id": "resp_x"}
    assert RESPONSES.read(json.dumps(body).encode()).follows == "resp_x"
    assert read(input=None, prompt={"id": "pmpt_1"}).demand.unbounded.keys() == {"prompt"}


@pytest.mark.parametrize(
    ("tool", "bounded"),
    [
        (TOOL, True),
        ({"type": "custom", "name": "c", "format": {"type": "grammar"}}, True),
        ({"type": "apply_patch"}, True),
        ({"type": "local_shell"}, True),
        ({"type": "computer_use_preview"}, True),
        ({"type": "shell", "environment": {"type": "local"}}, True),
        ({"type": "tool_search", "execution": "client"}, True),
        ({"type": "namespace", "name": "n", "tools": [TOOL]}, True),
        ({"type": "namespace", "name": "n", "tools": [{"type": "web_search"}]}, False),
        ({"type": "shell"}, False),
        ({"type": "tool_search"}, False),
        ({"type": "web_search"}, False),
        ({"type": "mcp"}, False),
        ({**TOOL, "allowed_callers": ["programmatic"]}, False),
        ({"name": "f"}, False),
        ("web_search", False),
    ],
)
def test_tools_that_the_caller_runs_are_bounded(tool: Any, *, bounded: bool) -> None:
    """Every other tool may run at the provider, whatever namespace it hides in."""
    assert ("tools" not in read(tools=[tool]).demand.unbounded) is bounded


@pytest.mark.parametrize("kind", ["additional_tools", "tool_search_output", "of_tomorrow", None])
def test_tools_in_the_input_are_as_those_beside_it(kind: str | None) -> None:
    """An item of the input that brings a tool which may run at the provider is not bounded."""

    def demand(*tools: Any) -> Demand:
        hello = {"role": "user", "content": "hi"}
        return read(input=[hello, {"type": kind, "role": "developer", "tools": tools}]).demand

    assert not demand(TOOL).unbounded
    for tool in ({"type": "web_search"}, {"type": "mcp", "server_label": "x"}, {"name": "f"}):
        assert demand(tool).unbounded.keys() == {"tools"}
        assert demand(TOOL, {"type": "namespace", "name": "n", "tools": [tool]}).unbounded
    assert demand({"type": "local_shell"}).input_tokens > demand(TOOL).input_tokens


@pytest.mark.parametrize(
    "tools",
    [
        '[{"type":"web_search","type":"function","name":"f"}]',
        '[{"type":"function","name":"f"}],"tools":[]',
        '{"type":"web_search"}',
        '[{"\\u0074ype":"web_search"}]',
    ],
)
def test_tools_in_the_input_cannot_hide(tools: str) -> None:
    """Neither in a key that appears twice nor in escapes."""
    item = '{"type":"additional_tools","role":"developer","\\u0074ools":' + tools + "}"
    body = '{"model":"m","input":[{"role":"user","content":"hi"},' + item + "]}"
    assert RESPONSES.read(body.encode()).demand.unbounded


def test_the_tools_of_a_server_are_only_listed() -> None:
    """What runs them must be among the request's own tools."""
    listed = {
        "type": "mcp_list_tools",
        "id": "mcpl_1",
        "server_label": "x",
        "tools": [{"name": "f"}],
    }
    assert not read(input=[{"role": "user", "content": "hi"}, listed]).demand.unbounded


def test_a_tool_is_what_is_sent() -> None:
    """Of a key that a tool has twice, the value that was checked is the one that is sent."""
    body = (
        b'{"model":"m","input":"hi","tools":[{"type":"web_search","type":"function","name":"f"}]}'
    )
    ask = RESPONSES.read(body)
    assert not ask.demand.unbounded
    assert b"web_search" not in written(ask).body


@pytest.mark.parametrize(
    ("item", "stored"),
    [
        ({"type": "item_reference", "id": "msg_1"}, True),
        ({"id": "msg_1"}, True),
        ({"type": "reasoning", "id": "rs_1", "summary": []}, True),
        ({"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x"}, False),
        ({"role": "assistant", "id": "msg_1", "content": "x"}, False),
        ({"type": "function_call", "id": "fc_1", "arguments": "{}"}, False),
    ],
)
def test_stored_items_hold_the_context_window(item: dict[str, Any], *, stored: bool) -> None:
    """What the provider has stored is not in the body, so all that the model can read is held."""
    held = read(input=[item]).demand.input_tokens
    assert (held >= ANY_WINDOW_TOKENS) is stored


def test_an_escaped_reference_is_seen() -> None:
    """An escaped letter does not hide that an item is only named."""
    body = b'{"model":"m","input":[{"type":"item\\u005freference","\\u0069d":"msg_1"}]}'
    assert RESPONSES.read(body).demand.input_tokens >= ANY_WINDOW_TOKENS


def test_text_is_not_decoded_for_its_type() -> None:
    """`input_text`, which every message has, is not taken for media."""
    items = [{"role": "user", "content": [{"type": "input_text", "text": "x"}]}]
    assert read(input=items).demand.input_tokens < 2_000


def test_the_body_is_the_callers() -> None:
    """Unknown fields and values pass as they came; only model, stream, cap and ids are ours."""
    ask = read(novelty={"a": [1.0, None]}, store=False, max_output_tokens=500)
    body = json.loads(written(ask, 100, stream=True).body)
    assert body == {
        "model": "gpt-5",
        "input": "hi",
        "novelty": {"a": [1.0, None]},
        "store": False,
        "max_output_tokens": 100,
        "stream": True,
    }


def test_a_null_cap_does_not_hide_the_deployments() -> None:
    """A deployment's `max_tokens` is what the hold counts on, so it is sent for a null."""
    fields = {**read(max_output_tokens=None).fields, "max_tokens": msgspec.Raw(b"64")}
    assert RESPONSES.demand(fields, 100).cap == 64
    call = Call(SERVER, RESPONSES, fields, 60)
    assert json.loads(NATIVE.request(call, False, Habits()).body)["max_output_tokens"] == 64


def test_a_whole_answer() -> None:
    """Usage, service and text are read; the id becomes the caller's, and no text changes."""
    answer = NATIVE.answer(written(), json.dumps(ANSWER).encode(), SEEN)
    usage = answer.usage
    assert usage is not None
    body = json.loads(answer.body)

    assert (usage.input_tokens, usage.output_tokens) == (9, 7)
    assert (usage.cache_read_input_tokens, usage.reasoning_output_tokens) == (4, 3)
    assert (answer.response_id, answer.response_model) == ("resp_1", "gpt-5-2025")
    assert (answer.finish_reasons, answer.service) == (("stop",), "priority")
    assert body == {**ANSWER, "id": handed_id(REQUEST_ID, "resp_1")}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}, "length"),
        (
            {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}},
            "content_filter",
        ),
        ({"output": [{"type": "function_call", "arguments": "{}"}]}, "tool_calls"),
        ({"status": "queued", "output": [], "usage": None}, "queued"),
    ],
)
def test_why_it_ended(change: dict[str, Any], reason: str) -> None:
    """Rows have the finish reasons of chat completions."""
    answer = NATIVE.answer(written(), json.dumps({**ANSWER, **change}).encode(), SEEN)
    assert answer.finish_reasons == (reason,)


def test_a_failed_answer_is_an_error() -> None:
    """It raises, with its usage if it has any: that much is billed."""
    failed = {
        **ANSWER,
        "status": "failed",
        "error": {"code": "rate_limit_exceeded", "message": "x"},
    }
    with pytest.raises(FailedAnswerError) as caught:
        NATIVE.answer(written(), json.dumps(failed).encode(), SEEN)
    assert caught.value.kind == "rate_limited"
    with pytest.raises(ProviderError) as free:
        NATIVE.answer(written(), json.dumps({**failed, "usage": None}).encode(), SEEN)
    assert free.value.billed == "no"


def test_a_stream() -> None:
    """Events pass with their names; the last one has the usage, and is kept until all is booked."""
    events = reader()
    created = events.read(event("response.created", response={**ANSWER, "status": "in_progress"}))
    delta = events.read(event("response.output_text.delta", delta="Grü", item_id="m"))
    last = events.read(event("response.completed", response=ANSWER))
    assert created is not None
    assert delta is not None
    assert last is not None

    assert created.data.startswith(b"event: response.created\ndata: {")
    assert handed_id(REQUEST_ID, "resp_1").encode() in created.data
    assert (created.content, delta.content, delta.output_bytes) == (False, True, 4)
    assert (last.closes, last.finish_reason, events.ended) == (True, "stop", True)
    assert last.usage is not None
    assert last.usage.output_tokens == 7


@pytest.mark.parametrize(
    "payload",
    [
        b"[DONE]",
        event("error", code="server_error", message="x"),
        event("error", error={"code": "server_error", "message": "x"}),
        event("response.failed", response={**ANSWER, "status": "failed", "error": {"code": "x"}}),
    ],
)
def test_a_stream_that_fails(payload: bytes) -> None:
    """An end without the whole answer is an error, however it is said."""
    events = reader()
    events.read(event("response.output_text.delta", delta="x"))
    with pytest.raises(ProviderError) as caught:
        events.read(payload)
    assert caught.value.billed == "unknown"
    assert not events.survives(caught.value)


def test_the_other_form_than_was_asked_for() -> None:
    """A stream that came unasked is the answer in its last event; an answer is one last event."""
    stream = b"".join(
        b"data: " + payload + b"\n\n"
        for payload in (
            event("response.output_text.delta", delta="x"),
            event("response.completed", response=ANSWER),
        )
    )
    answer = NATIVE.answer(written(), stream, SEEN)
    assert json.loads(answer.body)["output"] == ANSWER["output"]
    with pytest.raises(ProviderError):
        NATIVE.answer(written(), stream.split(b"\n\n", maxsplit=1)[0] + b"\n\n", SEEN)

    frame = NATIVE.frame(Call(SERVER, RESPONSES, {}, 60), answer)
    (payload,) = events_of(frame.data)
    assert json.loads(payload)["type"] == "response.completed"
    assert frame.closes


def test_the_id_of_an_earlier_answer_is_the_providers() -> None:
    """The provider gets its own id, and the caller gets theirs back."""
    handed = handed_id(REQUEST_ID, "resp_0")
    sent = written(read(previous_response_id=handed))
    body = json.dumps({**ANSWER, "previous_response_id": "resp_0"}).encode()

    assert json.loads(sent.body)["previous_response_id"] == "resp_0"
    assert json.loads(NATIVE.answer(sent, body, SEEN).body)["previous_response_id"] == handed


@pytest.mark.parametrize("provider_id", ["resp_1", "gen-17-a", "b6f0:x.1", "resp_a_b"])
def test_ids_round_trip(provider_id: str) -> None:
    """An id says which request it was and what the provider calls the answer."""
    assert answer_id(handed_id(REQUEST_ID, provider_id)) == AnswerId(REQUEST_ID, provider_id)


@pytest.mark.parametrize("odd", ["", "a/b", "a b", 'a"b', "x" * 300])
def test_odd_ids_stay(odd: str) -> None:
    """What could not be part of a path or an id is passed as it is."""
    assert handed_id(REQUEST_ID, odd) == odd
    assert answer_id(odd) is None


def test_an_error_event_is_raised_by_clients() -> None:
    """It has the fields where the reference has them, and where OpenAI's clients look."""
    problem = Problem("It broke.", "server", "stream_interrupted")
    (payload,) = events_of(RESPONSES.error_event(problem))
    data = json.loads(payload)
    assert (data["type"], data["code"], data["message"]) == (
        "error",
        "stream_interrupted",
        "It broke.",
    )
    assert data["error"]["code"] == "stream_interrupted"
    assert openai.types.responses.ResponseErrorEvent.model_validate(data).code == data["code"]


def test_what_was_said() -> None:
    """Input, tools and output in the schema of the conventions, whole, streamed and broken off."""
    items = [
        {"role": "user", "content": [{"type": "input_text", "text": "hi"}]},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": '{"a":1}'},
        {"type": "function_call_output", "call_id": "c", "output": "ok"},
    ]
    fields = read(input=items, instructions="Be brief.", tools=[TOOL]).fields
    whole = RESPONSES.content(fields, json.dumps(ANSWER).encode(), ())
    delta = b"data: " + event("response.output_text.delta", delta="Hal") + b"\n\n"
    ended = b"data: " + event("response.completed", response=ANSWER) + b"\n\n"
    streamed = RESPONSES.content(fields, b"", [delta, ended])
    broken = RESPONSES.content(fields, b"", [delta, delta])

    roles = [message["role"] for message in whole.input]  # type: ignore[index] # JSON
    assert roles == ["system", "user", "assistant", "tool"]
    assert whole.tools == [TOOL]
    assert whole.output == streamed.output
    message: Any = whole.output[0]
    assert [part["type"] for part in message["parts"]] == ["reasoning", "text"]
    assert message["finish_reason"] == "stop"
    cut: Any = broken.output[0]
    assert (cut["parts"][0]["content"], cut["finish_reason"]) == ("HalHal", "error")


@pytest.mark.parametrize("given", [None, 5, [1, {"type": 3}], [{"content": 7}], "x"])
def test_odd_content_never_fails(given: Any) -> None:
    """Whatever the input is, reading what was said and counting it do not raise."""
    fields = {"input": msgspec.Raw(json.dumps(given).encode()), "tools": msgspec.Raw(b"3")}
    RESPONSES.content(fields, b"[]", [b"data: {", b"data: 3\n\n"])
    assert RESPONSES.estimate(fields).input_tokens >= 0
    assert RESPONSES.attributes(fields) == {}


OURS = {
    "id": "rs_chat_1_0",
    "type": "reasoning",
    "summary": [{"type": "summary_text", "text": "hm"}],
}


@pytest.mark.parametrize("ours", [OURS, {"type": "item_reference", "id": "rs_chat_1_0"}])
def test_reasoning_that_came_over_a_chat_is_left_out(ours: dict[str, Any]) -> None:
    """No server of this API knows it, so it is neither sent nor held for, and named as changed."""
    said = {"role": "user", "content": "hi"}
    ask = read(input=[ours, said])
    sent = written(ask)
    assert json.loads(sent.body)["input"] == [said]
    assert sent.out.changed == ["input"]
    assert ask.demand.input_tokens < ANY_WINDOW_TOKENS


def test_a_prompt_that_names_our_reasoning_is_sent_as_it_is() -> None:
    """Only items are left out."""
    said = [{"role": "user", "content": "what is rs_chat_1_0?"}]
    sent = written(read(input=said))
    assert json.loads(sent.body)["input"] == said
    assert sent.out.changed == []


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (404, {"message": "Item with id 'rs_1' not found. Items are not persisted when"}),
        (400, {"code": "invalid_encrypted_content", "message": "no"}),
        (
            400,
            {"code": None, "message": "The encrypted content gAAA...wXBV could not be verified."},
        ),
    ],
)
def test_a_refusal_of_reasoning_of_another_account(status: int, error: dict[str, Any]) -> None:
    """The request is sent again without reasoning, and without ids that servers look up."""
    call = {"type": "function_call", "id": "fc_1", "call_id": "c", "name": "f", "arguments": "{}"}
    result = {"type": "function_call_output", "id": "fco_1", "call_id": "c", "output": "x"}
    thought = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA"}
    sent = written(read(input=[thought, call, result]))
    assert sent.eased
    again = sent.eased(sent.out, status, json.dumps({"error": error}).encode())
    assert again
    del call["id"]
    assert json.loads(bytes(again["input"])) == [call, result]
    assert sent.out.changed == ["input"]


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (404, "The model 'm' does not exist"),
        (400, "Invalid 'input'"),
        (500, "Item with id 'rs_1' not found"),
        (404, "Item with id 'rs_1' not found"),
    ],
)
def test_other_refusals_stand(status: int, message: str) -> None:
    """And so does one that nothing can be left out for."""
    sent = written(read(input=[{"role": "user", "content": "hi"}]))
    assert sent.eased
    assert (
        sent.eased(sent.out, status, json.dumps({"error": {"message": message}}).encode()) is None
    )
    assert sent.out.changed == []
