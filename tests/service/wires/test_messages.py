"""Anthropic's Messages API as callers speak it: what is read, bounded, sent and understood."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from spanledger.errors import InvalidRequestError, ProviderError
from spanledger.providers.base import Call, Deployment
from spanledger.wires import MESSAGES, OUTBOUND
from spanledger.wires.anthropic.events import collected, events_of_message
from spanledger.wires.base import Ask, Habits, Problem, Seen, Written
from spanledger.wires.fields import forwarded
from spanledger.wires.sse import events_of

NATIVE = OUTBOUND["messages", "messages"]
CLAUDE = Deployment("d", "r", "anthropic", "anthropic", "claude-haiku-4-5", "anthropic/x")
MESSAGE: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-haiku-4-5",
    "content": [
        {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"},
        {"type": "text", "text": "Grüße", "citations": [{"type": "char_location"}]},
        {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": [1, "ü"]}},
    ],
    "stop_reason": "tool_use",
    "stop_sequence": None,
    "usage": {
        "input_tokens": 5,
        "cache_read_input_tokens": 7,
        "cache_creation_input_tokens": 0,
        "output_tokens": 9,
    },
}


def read(**fields: Any) -> Ask:
    """A request with these fields, as the wire reads it."""
    body = {
        "model": "m",
        "max_tokens": 50,
        "messages": [{"role": "user", "content": "hi"}],
        **fields,
    }
    return MESSAGES.read(json.dumps(body).encode())


def sent(ask: Ask, cap: int | None = None, *, stream: bool = False) -> tuple[Any, list[str]]:
    """The body at Anthropic, and the names of what changed."""
    call = Call(CLAUDE, MESSAGES, ask.fields, 60, max_output_tokens=cap)
    return json.loads(NATIVE.request(call, stream, Habits()).body), call.changed


def written() -> Written:
    """A request that was sent."""
    return NATIVE.request(Call(CLAUDE, MESSAGES, read().fields, 60), False, Habits())


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools"),
        ({"tools": [{"type": "mcp_toolset", "mcp_server_name": "x"}]}, "tools"),
        ({"mcp_servers": [{"type": "url", "url": "https://x"}]}, "mcp_servers"),
        ({"container": "c_1"}, "container"),
        ({"context_management": {"edits": [{"type": "compact_20260112"}]}}, "context_management"),
        ({"fallbacks": [{"model": "claude-opus-4-5"}]}, "fallbacks"),
        (
            {"messages": [{"role": "system", "content": [{"type": "tool_addition"}]}]},
            "tool_addition",
        ),
    ],
)
def test_what_nothing_bounds_is_named(fields: dict[str, Any], field: str) -> None:
    """A blocking budget refuses these."""
    assert list(read(**fields).demand.unbounded) == [field]


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [{"name": "f", "input_schema": {"type": "object"}}]},
        {"tools": [{"type": "bash_20250124", "name": "bash"}]},
        {"mcp_servers": []},
        {"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}},
        {"thinking": {"type": "enabled", "budget_tokens": 1024}, "service_tier": "standard_only"},
    ],
)
def test_what_is_bounded(fields: dict[str, Any]) -> None:
    """The caller's own tools and a smaller context are served under any budget."""
    demand = read(**fields).demand

    assert demand.unbounded == {}
    assert demand.cap == 50
    assert demand.input_tokens >= 1024


def test_an_escaped_name_is_found() -> None:
    """JSON can spell a name in more than one way."""
    body = b'{"model":"m","max_tokens":5,"messages":[{"content":[{"type":"\\u0074ool_addition"}]}]}'

    assert "tool_addition" in MESSAGES.read(body).demand.unbounded


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"model": 3}, "model"),
        ({"stream": "yes"}, "stream"),
    ],
)
def test_mistakes_name_their_field(fields: dict[str, Any], param: str) -> None:
    """Nothing is sent."""
    with pytest.raises(InvalidRequestError) as caught:
        read(**fields)
    assert caught.value.param == param


def test_a_body_passes_but_for_model_and_cap() -> None:
    """Values are not read, and unknown fields stay."""
    ask = read(new={"deep": [1]}, max_tokens=100, thinking={"type": "adaptive"}, stream=True)
    body, changed = sent(ask, stream=True)

    assert body["model"] == "claude-haiku-4-5"
    assert (body["new"], body["thinking"]) == ({"deep": [1]}, {"type": "adaptive"})
    assert (body["max_tokens"], body["stream"], changed) == (100, True, [])


def test_a_lower_cap_lowers_the_budget_for_thinking() -> None:
    """Anthropic wants it below the cap."""
    thinking = {"type": "enabled", "budget_tokens": 10_000}
    asked = {"max_tokens": 20_000, "thinking": thinking}

    body, changed = sent(read(**asked), 4_000)
    assert (body["max_tokens"], body["thinking"]["budget_tokens"]) == (4_000, 2_000)
    assert changed == ["thinking"]
    body, changed = sent(read(**asked), 900)
    assert (body["max_tokens"], "thinking" in body, changed) == (900, False, ["thinking"])
    body, changed = sent(read(**asked), 30_000)
    assert (body["max_tokens"], body["thinking"], changed) == (20_000, thinking, [])


CLEAR: dict[str, Any] = {"type": "clear_thinking_20251015", "keep": "all"}
OTHER: dict[str, Any] = {"type": "clear_tool_uses_20250919"}


@pytest.mark.parametrize(
    ("management", "left"),
    [
        ({"edits": [CLEAR]}, None),
        ({"edits": [CLEAR, OTHER]}, {"edits": [OTHER]}),
        ({"edits": [CLEAR], "new": 1}, {"edits": [], "new": 1}),
        ({"edits": [OTHER]}, {"edits": [OTHER]}),
        ({"edits": CLEAR}, {"edits": CLEAR}),
        ({"edits": [CLEAR, "x"]}, {"edits": [CLEAR, "x"]}),
        ({"no_edits": CLEAR}, {"no_edits": CLEAR}),
        ([CLEAR], [CLEAR]),
        (None, None),
    ],
    ids=str,
)
def test_what_needs_thinking_goes_with_it(management: Any, left: Any) -> None:
    """Where a cap leaves no room for thinking, and where it is refused: nothing else is touched."""
    thinking = {"type": "enabled", "budget_tokens": 10_000}
    given = {} if management is None else {"context_management": management}
    ask = read(max_tokens=20_000, thinking=thinking, **given)
    call = Call(CLAUDE, MESSAGES, ask.fields, 60)
    refusal = (
        b"messages.1.content.0.type: Expected `thinking` or `redacted_thinking`, but found `text`."
    )

    body, _ = sent(ask, 900)
    easing = NATIVE.request(call, False, Habits()).eased
    assert easing is not None
    eased = easing(call, 400, refusal)

    assert body.get("context_management") == left
    assert eased is not None
    assert set(call.fields) - set(eased) - {"context_management"} == {"thinking"}
    raw = eased.get("context_management")
    assert (raw and json.loads(bytes(raw))) == left
    assert call.changed == ["thinking"]


def test_events_add_up_to_their_message() -> None:
    """Both ways, whatever the blocks."""
    events = events_of_message(json.loads(json.dumps(MESSAGE)))

    assert collected([events]) == MESSAGE


def test_a_stream_that_came_unasked_is_joined() -> None:
    """And a whole answer is a stream where one was asked for."""
    answer = NATIVE.answer(written(), json.dumps(MESSAGE).encode(), Seen("req", 1))
    frame = NATIVE.frame(written().out, answer)
    joined = NATIVE.answer(written(), frame.data, Seen("req", 1))

    assert json.loads(joined.body) == MESSAGE
    assert joined.usage == answer.usage == frame.usage
    assert answer.usage is not None
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (12, 9)
    assert answer.finish_reasons == ("tool_calls",)


def test_half_a_stream_is_no_answer() -> None:
    """What it reported is not lost, and neither is the error."""
    frame = NATIVE.frame(
        written().out, NATIVE.answer(written(), json.dumps(MESSAGE).encode(), Seen("", 1))
    )
    half = b"\n\n".join(frame.data.split(b"\n\n")[:4]) + b"\n\n"

    with pytest.raises(ProviderError, match="unfinished"):
        NATIVE.answer(written(), half, Seen("", 1))


def test_a_stream_is_relayed_with_the_names_of_its_events() -> None:
    """Pings too; the end mark is sent by the gateway."""
    reader = NATIVE.reader(written(), Seen("", 1))
    ping = reader.read(b'{"type": "ping"}')

    assert ping is not None
    assert ping.data == b'event: ping\ndata: {"type": "ping"}\n\n'
    assert reader.read(b'{"type":"message_stop"}') is None
    assert reader.ended
    with pytest.raises(ProviderError, match="no answer"):
        reader.last()


def test_an_error_in_a_stream() -> None:
    """It raises as what it is."""
    reader = NATIVE.reader(written(), Seen("", 1))
    event = (
        b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"x"}}'
    )

    with pytest.raises(ProviderError) as caught:
        reader.read(events_of(event)[0])
    assert (caught.value.kind, caught.value.billed) == ("overloaded", "no")


def test_errors_have_anthropics_types() -> None:
    """Whatever a provider calls its own."""
    told = {"message": "m", "type": "BadRequestError", "param": None}
    ours = Problem("m", "invalid_request", "model_not_found")

    assert json.loads(MESSAGES.error(ours))["error"]["type"] == "not_found_error"
    theirs = json.loads(MESSAGES.error(Problem("x", "invalid_request", "c", told=told)))
    assert theirs == {"type": "error", "error": {"message": "m", "type": "invalid_request_error"}}


def test_content_is_in_the_schema_of_the_conventions() -> None:
    """System, blocks, tools and a streamed answer."""
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "a"}}
    result = {"type": "tool_result", "tool_use_id": "t", "content": "r"}
    ask = read(
        system=[{"type": "text", "text": "be"}],
        messages=[{"role": "user", "content": [image, result, {"type": "text", "text": "q"}]}],
        tools=[{"name": "f", "input_schema": {"type": "object"}}],
    )
    content = MESSAGES.content(ask.fields, b"", [events_of_message(dict(MESSAGE))])
    said: Any = content

    assert [one["role"] for one in said.input] == ["system", "user"]
    kinds = [part["type"] for part in said.input[1]["parts"]]
    assert kinds == ["blob", "tool_call_response", "text"]
    assert [part["type"] for part in said.output[0]["parts"]] == ["reasoning", "text", "tool_call"]
    assert said.output[0]["finish_reason"] == "tool_call"
    assert said.tools == [{"type": "function", "name": "f", "parameters": {"type": "object"}}]
    assert MESSAGES.content({"messages": msgspec.Raw(b"3")}, b"x", ()).output == []


def test_what_nobody_counted_is_estimated() -> None:
    """By the bytes of all that a model reads."""
    few = MESSAGES.estimate(read().fields).input_tokens
    image = {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}}
    many = MESSAGES.estimate(
        read(
            system="s" * 400,
            tools=[{"name": "f"}],
            messages=[{"role": "user", "content": [{"type": "text", "text": "t" * 400}, image]}],
        ).fields
    ).input_tokens

    assert few == 4
    assert many > 200 + 1_445


def test_attributes() -> None:
    """Parameters have the conventions' names, and nonsense is left out."""
    ask = read(
        temperature=0.5,
        top_k="x",
        stop_sequences=["a"],
        output_config={"effort": "low", "format": {"type": "json_schema", "schema": {}}},
    )

    assert MESSAGES.attributes(ask.fields) == {
        "gen_ai.request.max_tokens": 50,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.stop_sequences": ["a"],
        "gen_ai.request.reasoning.level": "low",
        "gen_ai.output.type": "json",
    }


def test_only_sound_headers_are_forwarded() -> None:
    """Long or strange ones are refused, others are left out."""
    given = {b"anthropic-beta": b"a,b", b"cookie": b"x"}

    assert forwarded(given, MESSAGES.passes) == {"anthropic-beta": "a,b"}
    for value in (b"x" * 1025, "ü".encode(), b"a\tb"):
        with pytest.raises(InvalidRequestError):
            forwarded({b"anthropic-beta": value}, MESSAGES.passes)
