"""An OpenAI request to an Anthropic route: it is served, and a header lists the changes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from spanledger.sim.server import sim_in_thread

from .harness import import_litellm
from .test_clients import HELLO, WEATHER, Running, configuration


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A gateway in front of the simulator, without keys."""
    ledger: Path = tmp_path_factory.mktemp("changed") / "ledger.db"
    with sim_in_thread() as sim, Running(configuration(sim.url, ledger)) as running:
        yield running


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("fields", "changed"),
    [
        ({"user": "ada@example.com"}, "user"),
        ({"temperature": 0.5, "top_p": 0.5}, "top_p"),
        (
            {"temperature": 0.5, "user": "ada@example.com", "reasoning_effort": "low"},
            "temperature, user",
        ),
        (
            {"tools": [WEATHER], "tool_choice": "required", "reasoning_effort": "low"},
            "reasoning_effort",
        ),
        ({"max_tokens": 50}, None),
    ],
    ids=str,
)
def test_openais_client_sees_what_was_changed(
    url: str, fields: dict[str, Any], changed: str | None, stream: bool
) -> None:
    """200 where Anthropic would refuse, with the changed fields by name, streamed or not."""
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        raw = client.chat.completions.with_raw_response.create(
            model="claude", messages=HELLO, stream=stream, **fields
        )
        assert raw.headers.get("x-spanledger-changed") == changed
        if stream:
            assert list(raw.parse())


def test_another_route_has_no_such_header(url: str) -> None:
    """A request that OpenAI's wire accepts unchanged is not reported as changed."""
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        raw = client.chat.completions.with_raw_response.create(
            model="chat", messages=HELLO, temperature=0.5, top_p=0.5, user="ada@example.com"
        )

    assert "x-spanledger-changed" not in raw.headers


@pytest.mark.filterwarnings("ignore::UserWarning:pydantic")
def test_litellms_client_gets_an_answer(url: str) -> None:
    """A tool round with white space next to the calls, as agents send it."""
    call = {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
    answer = import_litellm().completion(
        model="openai/claude",
        api_base=f"{url}/v1",
        api_key="none",
        max_retries=0,
        tools=[WEATHER],
        messages=[
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "content": "\n\n", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": "20 degrees"},
        ],
    )

    assert answer.choices[0].message.content
