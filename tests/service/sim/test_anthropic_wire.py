"""The Anthropic client cannot tell the simulator from the real provider."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import anthropic
import httpx
import pytest
from anthropic.types import MessageParam, ToolParam

from spanledger.sim.tokens import tokens
from tests.service.sim.books import bill, only_entry

MODEL = "claude-haiku-4-5"
ASK: list[MessageParam] = [{"role": "user", "content": "How are you today?"}]
TOOL: ToolParam = {
    "name": "get_weather",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    },
}


def test_plain_answer(claude: anthropic.Anthropic, web: httpx.Client) -> None:
    """A plain message is counted as on the other wire and carries the request's id."""
    raw = claude.messages.with_raw_response.create(model=MODEL, max_tokens=2_000, messages=ASK)
    answer = raw.parse()
    assert answer.content[0].type == "text"

    assert answer.id.startswith("msg_01")
    assert (answer.stop_reason, answer.stop_sequence) == ("end_turn", None)
    assert answer.usage.input_tokens == 8
    assert answer.usage.output_tokens == tokens(answer.content[0].text)
    assert raw.headers["request-id"] == only_entry(web)["request_id"]


def test_stream_events_in_order(claude: anthropic.Anthropic) -> None:
    """A stream has the real one's events, in order, and ends at the cap."""
    with claude.messages.create(model=MODEL, max_tokens=3, messages=ASK, stream=True) as stream:
        kinds = [event.type for event in stream]
    with claude.messages.stream(model=MODEL, max_tokens=3, messages=ASK) as helper:
        message = helper.get_final_message()

    assert kinds == [
        "message_start",
        "content_block_start",
        *["content_block_delta"] * 3,
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert (message.stop_reason, message.usage.output_tokens) == ("max_tokens", 3)


def test_raw_stream_has_pings(web: httpx.Client) -> None:
    """The events are named twice, as on the real wire, and a ping is among them."""
    body = {"model": MODEL, "max_tokens": 1, "messages": ASK, "stream": True}
    headers = {"x-api-key": "k", "anthropic-version": "2023-06-01"}
    text = web.post("/v1/messages", json=body, headers=headers).text

    assert 'event: ping\ndata: {"type":"ping"}\n\n' in text
    assert text.endswith('event: message_stop\ndata: {"type":"message_stop"}\n\n')


def test_tools(claude: anthropic.Anthropic) -> None:
    """A forced tool is a `tool_use` block, whether streamed or not."""
    request: dict[str, Any] = {
        "model": MODEL,
        "max_tokens": 200,
        "messages": ASK,
        "tools": [TOOL],
        "tool_choice": {"type": "any"},
    }
    plain = claude.messages.create(**request)
    with claude.messages.stream(**request) as stream:
        streamed = stream.get_final_message()

    for answer in (plain, streamed):
        block: Any = answer.content[0]
        assert block.type == "tool_use"
        assert block.id.startswith("toolu_")
        assert isinstance(block.input, dict)
        assert set(block.input) == {"city", "days"}
        assert answer.stop_reason == "tool_use"


def test_thinking(claude: anthropic.Anthropic) -> None:
    """Thinking is a separate signed block and counts as output."""
    with claude.messages.stream(
        model=MODEL,
        max_tokens=4_000,
        thinking={"type": "enabled", "budget_tokens": 1_024},
        messages=ASK,
    ) as stream:
        answer = stream.get_final_message()
    thinking, text = answer.content
    assert thinking.type == "thinking"
    assert text.type == "text"

    assert thinking.signature
    assert answer.usage.output_tokens == tokens(thinking.thinking) + tokens(text.text)


def test_prompt_cache(claude: anthropic.Anthropic, web: httpx.Client) -> None:
    """A marked prefix is written once, then read; the input outside it is counted separately."""

    def ask(question: str) -> anthropic.types.Usage:
        return claude.messages.create(
            model=MODEL,
            max_tokens=10,
            system=[
                {
                    "type": "text",
                    "text": "Rules of this house. " * 100,
                    "cache_control": {"type": "ephemeral", "ttl": "1h"},
                }
            ],
            messages=[{"role": "user", "content": question}],
        ).usage

    prefix = 3 + tokens("Rules of this house. " * 100)
    first, second = ask("one"), ask("four")

    assert (first.input_tokens, first.cache_creation_input_tokens) == (3 + 1, prefix)
    assert first.cache_creation is not None
    assert first.cache_creation.ephemeral_1h_input_tokens == prefix
    assert (second.cache_creation_input_tokens, second.cache_read_input_tokens) == (0, prefix)
    assert bill(web)["entries"][-1]["nano_usd"] == 4 * 1_000 + prefix * 100 + 10 * 5_000


def test_unmarked_prompts_are_not_cached(claude: anthropic.Anthropic) -> None:
    """Without a breakpoint nothing is cached, however often it is sent."""
    long: list[MessageParam] = [{"role": "user", "content": "again " * 500}]
    usages = [
        claude.messages.create(model=MODEL, max_tokens=5, messages=long).usage for _ in range(2)
    ]

    assert [usage.cache_read_input_tokens for usage in usages] == [0, 0]


def test_counting_and_models(claude: anthropic.Anthropic) -> None:
    """Tokens are counted as they would be billed; only this provider's models are listed."""
    assert claude.messages.count_tokens(model=MODEL, messages=ASK).input_tokens == 8
    assert {model.id.split("-")[0] for model in claude.models.list()} == {"claude"}


def test_required_headers(web: httpx.Client) -> None:
    """A missing key or version is rejected in Anthropic's format."""
    body = {"model": MODEL, "max_tokens": 5, "messages": ASK}
    url = "/v1/messages"
    keyless = web.post(url, json=body, headers={"anthropic-version": "2023-06-01"})
    versionless = web.post(url, json=body, headers={"x-api-key": "k"})

    assert keyless.status_code == 401
    assert keyless.json()["error"]["type"] == "authentication_error"
    assert versionless.status_code == 400
    assert versionless.json()["request_id"] == versionless.headers["request-id"]


def test_cap_is_required(web: httpx.Client) -> None:
    """`max_tokens` is required on this wire."""
    headers = {"x-api-key": "k", "anthropic-version": "2023-06-01"}
    body = {"model": MODEL, "messages": ASK}
    answer = web.post("/v1/messages", json=body, headers=headers)

    assert answer.status_code == 400
    assert answer.json()["error"] == {
        "type": "invalid_request_error",
        "message": "max_tokens: Field required",
    }


def test_stop_sequence(claude: anthropic.Anthropic) -> None:
    """A stop sequence ends the answer and is reported."""
    answer = claude.messages.create(
        model=MODEL,
        max_tokens=50,
        messages=ASK,
        stop_sequences=["END"],
        extra_headers={"x-sim-answer": "before END after"},
    )
    assert answer.content[0].type == "text"

    assert answer.content[0].text == "before "
    assert (answer.stop_reason, answer.stop_sequence) == ("stop_sequence", "END")


@pytest.mark.parametrize("text", ["äöü€ and 漢字", "🦊" * 9, "plain"])
def test_text_beyond_ascii_survives_streaming(claude: anthropic.Anthropic, text: str) -> None:
    """Characters are not split, and the usage covers the entire text."""
    with claude.messages.stream(
        model=MODEL,
        max_tokens=100,
        messages=ASK,
        extra_headers={"x-sim-answer": quote(text)},
    ) as stream:
        pieces = list(stream.text_stream)
        usage = stream.get_final_message().usage

    assert "".join(pieces) == text
    assert all(len(piece.encode()) <= 4 for piece in pieces)
    assert usage.output_tokens == tokens(text)
