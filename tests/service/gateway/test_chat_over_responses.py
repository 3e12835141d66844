"""OpenAI's and Anthropic's clients in front of models that the Responses API alone serves."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from spanledger.budgets.model import Budget
from spanledger.config import Config, parse_config
from spanledger.sim.server import sim_in_thread
from tests.service.gateway.test_clients import Running
from tests.service.gateway.test_messages import Site, board
from tests.support.ledgers import store_at

HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Say hello, please."}]
PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
}
WEATHER: Any = {
    "type": "function",
    "function": {"name": "get_weather", "description": "Weather.", "parameters": PARAMETERS},
}


def configuration(sim_url: str, ledger: Path) -> Config:
    """Routes at the simulator, to models without chat completions and with them."""

    def entry(route: str, model: str) -> dict[str, Any]:
        params = {"model": model, "api_base": f"{sim_url}/v1", "api_key": "sk-sim"}
        return {"model_name": route, "litellm_params": params, "model_info": {"id": f"d-{route}"}}

    return parse_config(
        {
            "model_list": [
                entry("codex", "openai/gpt-5-codex"),
                entry("pro", "openai/gpt-5.4-pro"),
                entry("newest", "openai/gpt-5.6-terra"),
                entry("first", "openai/gpt-5.1-codex"),
                entry("second", "openai/gpt-4o"),
            ],
            "router_settings": {
                "num_retries": 0,
                "cooldown_time": 0,
                "fallbacks": [{"first": ["second"]}],
            },
            "gateway": {"port": 0, "total_timeout_s": 20},
            "ledger": {"url": f"sqlite:///{ledger}"},
        },
        {},
        "test",
    )


class ChatSite(Site):
    """The gateway, seen by OpenAI's client."""

    def client(self, customer: str = "rich", **more: Any) -> openai.OpenAI:
        """The real client with a customer's key."""
        more.setdefault("max_retries", 0)
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=self.keys[customer], **more)

    def ask(self, route: str, *, stream: bool, **fields: Any) -> tuple[str, str, Any]:
        """The text, the finish reason and the usage of an answer, checked against the bill."""
        before = len(self.billed())
        fields = {"model": route, "messages": HELLO, **fields}
        with self.client() as client:
            create = client.chat.completions.with_raw_response.create
            if not stream:
                raw = create(**fields)
                answer = raw.parse()
                text, reason = answer.choices[0].message.content, answer.choices[0].finish_reason
                usage = answer.usage
            else:
                raw = create(**fields, stream=True, stream_options={"include_usage": True})
                chunks = list(raw.parse())
                choices = [one for chunk in chunks for one in chunk.choices]
                text = "".join(one.delta.content or "" for one in choices)
                (reason,) = (one.finish_reason for one in choices if one.finish_reason)
                (usage,) = (chunk.usage for chunk in chunks if chunk.usage)
        self.check(raw.headers["x-request-id"], before)
        return text or "", reason, usage


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChatSite]:
    """A gateway with keys; customer `poor` has almost no money, `rich` has a blocking budget."""
    ledger = tmp_path_factory.mktemp("gateway") / "ledger.db"
    records = store_at(ledger).records("create")
    keys = {name: records.create_key(name, "", [], 1)[0] for name in ("poor", "rich")}
    records.set_budgets(
        [
            Budget("poor-daily", "customer", "poor", 1_000, "day"),
            Budget("rich-daily", "customer", "rich", 900_000_000_000, "day"),
        ],
        1,
    )
    records.close()
    with sim_in_thread() as sim, Running(configuration(sim.url, ledger)) as url:
        yield ChatSite(url, sim.url, ledger, keys)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("route", ["codex", "pro"])
def test_served(site: ChatSite, route: str, *, stream: bool) -> None:
    """The ledger has what the provider bills."""
    text, reason, usage = site.ask(route, stream=stream, max_completion_tokens=2_000)

    assert text
    assert reason == "stop"
    assert usage.completion_tokens > 0
    (entry,) = site.billed()[-1:]
    assert usage.prompt_tokens == entry["usage"]["input_tokens"]
    assert usage.completion_tokens == entry["usage"]["output_tokens"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_low_cap_is_raised_and_held_for(site: ChatSite, *, stream: bool) -> None:
    """OpenAI takes none below 16."""
    _, reason, usage = site.ask("codex", stream=stream, max_tokens=1)

    assert reason == "length"
    assert usage.completion_tokens <= 16


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("route", ["codex", "newest"])
def test_tools(site: ChatSite, route: str, *, stream: bool) -> None:
    """A call and its result, also with the reasoning that led to it, and where chat refuses them."""
    fields: dict[str, Any] = {"model": route, "tools": [WEATHER], "reasoning_effort": "low"}
    with site.client() as client:
        create = client.chat.completions.create
        answer: Any
        if stream:
            pieces = client.chat.completions.stream(
                messages=HELLO, tool_choice="required", **fields
            )
            with pieces as events:
                answer = events.get_final_completion()
        else:
            answer = create(messages=HELLO, tool_choice="required", **fields)
        said = answer.choices[0].message
        assert answer.choices[0].finish_reason == "tool_calls"
        assert said.tool_calls
        call = said.tool_calls[0]
        assert "city" in json.loads(call.function.arguments)
        result: Any = {"role": "tool", "tool_call_id": call.id, "content": "Sunny."}
        turns: Any = [*HELLO, said.model_dump(exclude_none=True), result]
        final = create(messages=turns, **fields)
    assert final.choices[0].message.content


@pytest.mark.parametrize("stream", [False, True])
def test_structured_output(site: ChatSite, *, stream: bool) -> None:
    """It is what was asked for."""
    schema = {**PARAMETERS, "additionalProperties": False}
    shape = {
        "type": "json_schema",
        "json_schema": {"name": "x", "schema": schema, "strict": True},
    }
    text, _, _ = site.ask("codex", stream=stream, response_format=shape)

    assert "city" in json.loads(text)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", ["429;retry_after=0", "500", "503", "reset"])
def test_another_deployment_takes_over(site: ChatSite, fault: str, *, stream: bool) -> None:
    """A model with chat completions serves in its place."""
    board(site, fault, model="gpt-5.1-codex")
    try:
        text, _, _ = site.ask("first", stream=stream)
    finally:
        board(site)

    assert text
    assert site.billed()[-1]["model"].startswith("gpt-4o")


def test_a_broken_stream_is_an_error(site: ChatSite) -> None:
    """The client raises it."""
    board(site, "cut:5", model="gpt-5-codex")
    try:
        with site.client() as client:
            stream = client.chat.completions.create(model="codex", messages=HELLO, stream=True)
            with pytest.raises(openai.APIError):
                list(stream)
    finally:
        board(site)


@pytest.mark.parametrize("stream", [False, True])
def test_a_budget_refuses(site: ChatSite, *, stream: bool) -> None:
    """Before anything is sent."""
    before = len(site.billed())
    with site.client("poor") as client, pytest.raises(openai.RateLimitError) as caught:
        client.chat.completions.create(model="codex", messages=HELLO, stream=stream)

    assert caught.value.code == "budget_exceeded"
    assert site.billed()[before:] == []


def test_what_has_no_counterpart_is_refused(site: ChatSite) -> None:
    """By name."""
    with site.client() as client, pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="codex", messages=HELLO, stop=["x"])

    assert caught.value.param == "stop"


@pytest.mark.parametrize("stream", [False, True])
def test_anthropics_client(site: ChatSite, *, stream: bool) -> None:
    """Messages meet the Responses API in chat."""
    asked: Any = {"model": "codex", "max_tokens": 2_000, "messages": HELLO}
    before = len(site.billed())
    with site.messages() as client:
        if stream:
            with client.messages.stream(**asked) as events:
                answer = events.get_final_message()
                request_id = events.response.headers["request-id"]
        else:
            answer = client.messages.create(**asked)
            request_id = str(answer._request_id)

    assert answer.stop_reason == "end_turn"
    assert any(block.type == "text" and block.text for block in answer.content)
    site.check(request_id, before)


def test_holds_are_bounds(site: ChatSite) -> None:
    """However a request is asked, its hold covers what it costs."""
    draw = random.Random(11)
    for _ in range(12):
        fields: dict[str, Any] = {}
        if draw.random() < 0.7:
            fields["max_completion_tokens"] = draw.choice([1, 5, 16, 40, 300])
        if draw.random() < 0.5:
            fields["reasoning_effort"] = draw.choice(["low", "high"])
        site.ask(draw.choice(["codex", "pro"]), stream=draw.random() < 0.5, **fields)
