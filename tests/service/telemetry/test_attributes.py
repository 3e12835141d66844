"""Attributes and content that routing stores with an attempt."""

from __future__ import annotations

import json
from typing import Any

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given

from spanledger.providers.base import Deployment
from spanledger.telemetry.attributes import attempt_detail, captured_content
from spanledger.telemetry.signals import ATTRIBUTES
from spanledger.wires import CHAT, EMBEDDINGS
from spanledger.wires.base import Inbound

DEPLOYMENT = Deployment(
    "d",
    "smart",
    "openai",
    "openai",
    "gpt-4o",
    "openai/gpt-4o",
    "http://user:pass@localhost:4010/v1",
)


def detail(
    wire: Inbound = CHAT, deployment: Deployment = DEPLOYMENT, **body: Any
) -> dict[str, Any]:
    """The stored attributes of a call with this body."""
    fields = {name: msgspec.Raw(json.dumps(value).encode()) for name, value in body.items()}
    text = attempt_detail(
        request=wire.attributes(fields),
        deployment=deployment,
        response_id="",
        finish_reasons=(),
        provider_request_id="",
    )
    return dict(json.loads(text))


def test_parameters_are_named_by_the_conventions() -> None:
    """The caller's parameters are on the span under the GenAI conventions' names."""
    found = detail(
        messages=[{"role": "user", "content": "secret"}],
        temperature=1,
        top_p=0.5,
        max_completion_tokens=7,
        stop="END",
        n=2,
        seed=3,
        response_format={"type": "json_schema", "json_schema": {}},
        service_tier="flex",
    )

    assert found == {
        "gen_ai.request.temperature": 1.0,
        "gen_ai.request.top_p": 0.5,
        "gen_ai.request.max_tokens": 7,
        "gen_ai.request.stop_sequences": ["END"],
        "gen_ai.request.choice.count": 2,
        "gen_ai.request.seed": 3,
        "gen_ai.output.type": "json",
        "openai.request.service_tier": "flex",
        "server.address": "localhost",
        "server.port": 4010,
    }
    assert found.keys() <= ATTRIBUTES.keys()


@pytest.mark.parametrize(
    ("body", "level"),
    [
        ({"reasoning_effort": "minimal"}, "minimal"),
        ({"reasoning": {"effort": "xhigh", "exclude": True}}, "xhigh"),
        ({"reasoning_effort": "low", "reasoning": {"effort": "high"}}, "low"),
        ({"reasoning": {"max_tokens": 2000}}, None),
        ({"reasoning_effort": None}, None),
        ({"reasoning_effort": ""}, None),
    ],
)
def test_the_effort_of_reasoning_is_as_it_was_sent(body: dict[str, Any], level: str | None) -> None:
    """The effort is read from OpenAI's field or OpenRouter's."""
    assert detail(**body).get("gen_ai.request.reasoning.level") == level


@pytest.mark.parametrize(
    ("body", "conversation"),
    [
        ({"conversation": "conv_1"}, "conv_1"),
        ({"conversation": {"id": "conv_2"}}, "conv_2"),
        ({"session_id": "s1"}, "s1"),
        ({"litellm_session_id": "s2"}, "s2"),
        ({"metadata": {"session_id": "s3", "other": {"a": 1}}}, "s3"),
        ({"conversation": {}, "metadata": {"session_id": "s4"}}, "s4"),
        ({"metadata": {"user": "u"}}, None),
        ({"metadata": {"session_id": 7}}, None),
        ({"user": "u", "prompt_cache_key": "k"}, None),
    ],
)
def test_a_conversation_is_named_if_the_request_names_one(
    body: dict[str, Any], conversation: str | None
) -> None:
    """The conversation is read from any field of OpenAI, OpenRouter or LiteLLM; none is invented."""
    assert detail(**body).get("gen_ai.conversation.id") == conversation


def test_embeddings_have_their_own_parameters() -> None:
    """A parameter of the other operation is ignored."""
    found = detail(EMBEDDINGS, input="x", dimensions=256, encoding_format="float", temperature=1)

    assert found["gen_ai.embeddings.dimension.count"] == 256
    assert found["gen_ai.request.encoding_formats"] == ["float"]
    assert "gen_ai.request.temperature" not in found


def test_the_answer_and_what_routing_adds_are_kept() -> None:
    """Id, finish reasons and the provider's request id are stored; `extra` wins."""
    text = attempt_detail(
        request={},
        deployment=Deployment("d", "r", "anthropic", "anthropic", "m", "anthropic/m"),
        response_id="chatcmpl-1",
        finish_reasons=("stop", "tool_calls"),
        provider_request_id="req_9",
        extra={"server.address": "elsewhere"},
    )

    assert json.loads(text) == {
        "gen_ai.response.id": "chatcmpl-1",
        "gen_ai.response.finish_reasons": ["stop", "tool_call"],
        "spanledger.provider.request.id": "req_9",
        "server.address": "elsewhere",
        "server.port": 443,
    }


NAMES = [
    *("temperature", "max_tokens", "stop", "n", "seed", "response_format", "service_tier"),
    *("top_k", "reasoning_effort", "reasoning", "conversation", "session_id", "metadata"),
]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**80), 2**80) | st.floats() | st.text(max_size=400),
    lambda inner: st.lists(inner, max_size=40) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(NAMES), VALUES))
def test_odd_parameters_harm_nobody(body: dict[str, Any]) -> None:
    """Values of any type and size give attributes that OTLP can carry, or none."""
    types = {"int": int, "double": float, "string": str, "string[]": list}
    for name, value in detail(**body).items():
        assert type(value) is types[ATTRIBUTES[name].type]
        if isinstance(value, int):
            assert -(2**63) <= value < 2**63
        assert len(str(value)) < 20_000


@pytest.mark.parametrize("base", ["http://[::1", "nonsense", "http://h:99999999/v1"])
def test_an_odd_address_is_left_out(base: str) -> None:
    """An unreadable address loses the attribute, not the request."""
    deployment = Deployment("d", "r", "openai", "openai", "m", "openai/m", api_base=base)

    assert detail(deployment=deployment) == {}


def test_nothing_is_captured_when_it_is_off() -> None:
    """Off means no content, not empty content."""
    raw = {"messages": msgspec.Raw(b'[{"role":"user","content":"x"}]')}

    assert captured_content("off", 60_000, CHAT.content(raw, b"{}", ())) is None


def test_a_stream_is_put_together_again() -> None:
    """Deltas of text and of tool calls become one message; an unfinished choice says `error`."""

    def event(index: int, finish: str | None = None, **delta: Any) -> bytes:
        choice = {"index": index, "delta": delta, "finish_reason": finish}
        return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"

    def call(index: int, arguments: str, **more: Any) -> dict[str, Any]:
        name = more.pop("name", None)
        return {"index": index, "function": {"name": name, "arguments": arguments}, **more}

    events = [
        event(0, role="assistant", content="he"),
        event(1, content="other"),
        event(0, content="llo"),
        event(0, tool_calls=[call(0, '{"a"', id="c1", name="f")]),
        event(0, tool_calls=[call(0, ": 1}")]),
        event(0, "tool_calls"),
        b": a comment\n\n",
        b"data: {broken\n\n",
        b"data: [DONE]\n\n",
    ]
    text = captured_content("full", 60_000, CHAT.content({}, b"", events))

    assert json.loads(text or "")["gen_ai.output.messages"] == [
        {
            "role": "assistant",
            "parts": [
                {"type": "text", "content": "hello"},
                {"type": "tool_call", "name": "f", "id": "c1", "arguments": {"a": 1}},
            ],
            "finish_reason": "tool_call",
        },
        {
            "role": "assistant",
            "parts": [{"type": "text", "content": "other"}],
            "finish_reason": "error",
        },
    ]


@pytest.mark.parametrize(
    "raw",
    [b"[" * 5000 + b"]" * 5000, b'"text"', b"[1, null]", b'[{"role": 1, "content": 2}]', b"\xff"],
    ids=["deep", "text", "numbers", "types", "bytes"],
)
def test_odd_messages_harm_nobody(raw: bytes) -> None:
    """Whatever `messages` and the answer contain, nothing is raised."""
    captured_content("redacted", 500, CHAT.content({"messages": msgspec.Raw(raw)}, raw, ()))
    said = EMBEDDINGS.content({"input": msgspec.Raw(raw)}, b"", [b"data: " + raw])
    captured_content("full", 500, said)
