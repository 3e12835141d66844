"""A conversation whose thinking was lost to a fallback goes on: Anthropic's own client, `thinking` enabled.

Claude Code leaves out the thinking of a model that it did not ask for, and a model of another wire gives
none back; Anthropic refuses the turn after a tool call without it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anthropic
import pytest

from tests.support.raw_provider import Received, Sent, raw_provider

from .test_clients import Running
from .test_count_tokens import MESSAGE, error_of, odd
from .test_messages import CLEARING, HELLO, THINKING, WEATHER, Site, board
from .test_messages import site as site

BETA = "context-management-2025-06-27"
REFUSED = (
    "messages.1.content.0.type: Expected `thinking` or `redacted_thinking`, but found `tool_use`. When"
    " `thinking` is enabled, a final `assistant` message must start with a thinking block (preceeding the"
    " lastmost set of `tool_use` and `tool_result` blocks)."
)


def after(answer: Any) -> list[Any]:
    """The next turn: the answer without its thinking, and the result of its call."""
    kept = [block for block in answer.content if block.type != "thinking"]
    (call,) = (block for block in kept if block.type == "tool_use")
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "Sunny."}
    return [
        *HELLO,
        {"role": "assistant", "content": kept},
        {"role": "user", "content": [result]},
    ]


LOST: list[Any] = [
    *HELLO,
    {
        "role": "assistant",
        "content": [{"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {}}],
    },
    {
        "role": "user",
        "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "Sunny."}],
    },
]


@pytest.mark.parametrize("clearing", [False, True])
@pytest.mark.parametrize("stream", [False, True])
def test_the_turn_after_a_fallback(site: Site, *, stream: bool, clearing: bool) -> None:
    """It is answered without thinking, in one attempt that costs what the provider bills."""
    asked: dict[str, Any] = {"model": "first", "max_tokens": 2000, "tools": [WEATHER]}
    more: dict[str, Any] = {"context_management": CLEARING, "betas": [BETA]} if clearing else {}
    with site.messages() as client:
        board(site, "429;retry_after=0", model="claude-sonnet-4-5")
        try:
            answer = client.messages.create(messages=HELLO, tool_choice={"type": "any"}, **asked)
        finally:
            board(site)
        assert answer.content[0].type == "tool_use"
        before = len(site.billed())
        asked |= {"messages": after(answer), "thinking": THINKING, **more}
        if stream:
            with client.beta.messages.stream(**asked) as events:
                final = events.get_final_message()
                headers = events.response.headers
        else:
            raw = client.beta.messages.with_raw_response.create(**asked)
            final, headers = raw.parse(), raw.headers

    assert [block.type for block in final.content] == ["text"]
    assert headers["x-spanledger-changed"] == "thinking"
    assert headers["x-spanledger-attempts"] == "1"
    site.check(headers["request-id"], before)
    assert len(site.attempts(headers["request-id"])) == 1


def test_the_next_conversation_thinks(site: Site) -> None:
    """Nothing is learnt about the deployment: the request was at fault."""
    asked: dict[str, Any] = {"model": "claude", "max_tokens": 2000, "thinking": THINKING}
    with site.messages() as client:
        create = client.messages.with_raw_response.create
        changed = create(messages=LOST, tools=[WEATHER], **asked).headers
        raw = create(messages=HELLO, **asked)

    assert changed["x-spanledger-changed"] == "thinking"
    assert "x-spanledger-changed" not in raw.headers
    assert raw.parse().content[0].type == "thinking"


def test_it_is_counted_too(site: Site) -> None:
    """By the provider, as it will be sent."""
    with site.messages() as client:
        count = client.messages.count_tokens
        found = count(model="claude", messages=LOST, tools=[WEATHER], thinking=THINKING)
        plain = count(model="claude", messages=LOST, tools=[WEATHER])

    assert found == plain


@pytest.mark.parametrize("stream", [False, True])
def test_it_is_asked_again_once(tmp_path: Path, *, stream: bool) -> None:
    """With the same headers; a provider that goes on refusing is quoted."""

    def refuse(_: Received) -> Sent:
        return Sent(400, error_of("invalid_request_error", REFUSED))

    with raw_provider(refuse) as provider, Running(odd(provider, tmp_path / "l.db")) as url:
        with (
            anthropic.Anthropic(base_url=url, api_key="none", max_retries=0) as client,
            pytest.raises(anthropic.BadRequestError, match="redacted_thinking"),
        ):
            client.beta.messages.create(
                model="odd",
                messages=LOST,
                max_tokens=2000,
                thinking=THINKING,
                context_management=CLEARING,
                betas=[BETA],
                stream=stream,
            )
        first, second = provider.received

    assert first.json()["context_management"] == CLEARING
    assert set(first.json()) - set(second.json()) == {"thinking", "context_management"}
    assert first.headers["anthropic-beta"] == second.headers["anthropic-beta"] == BETA


@pytest.mark.parametrize(
    ("status", "message", "thinks"),
    [
        (400, "messages.0: no such role", True),
        (400, REFUSED, False),
        (422, REFUSED, True),
        (400, "`redacted_thinking` blocks cannot be modified", True),
    ],
)
def test_any_other_refusal_stands(
    tmp_path: Path, status: int, message: str, *, thinks: bool
) -> None:
    """After one request."""

    def refuse(_: Received) -> Sent:
        return Sent(status, error_of("invalid_request_error", message))

    more: dict[str, Any] = {"thinking": THINKING} if thinks else {}
    with raw_provider(refuse) as provider, Running(odd(provider, tmp_path / "l.db")) as url:
        with (
            anthropic.Anthropic(base_url=url, api_key="none", max_retries=0) as client,
            pytest.raises(anthropic.APIStatusError),
        ):
            client.messages.create(model="odd", messages=LOST, max_tokens=2000, **more)
        assert len(provider.received) == 1


def test_bedrocks_words(tmp_path: Path) -> None:
    """Which have no backticks."""

    def answer(request: Received) -> Sent:
        if "thinking" in request.json():
            told = "The model returned the following errors: " + REFUSED.replace("`", "")
            return Sent(400, error_of("invalid_request_error", told))
        return Sent(body=json.dumps(MESSAGE).encode())

    with (
        raw_provider(answer) as provider,
        Running(odd(provider, tmp_path / "l.db")) as url,
        anthropic.Anthropic(base_url=url, api_key="none", max_retries=0) as client,
    ):
        raw = client.messages.with_raw_response.create(
            model="odd", messages=LOST, max_tokens=2000, thinking=THINKING
        )

    assert raw.headers["x-spanledger-changed"] == "thinking"
