"""Anthropic's own client against the whole gateway and the simulator."""

from __future__ import annotations

import contextlib
import json
import random
import sqlite3
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx
import pytest
from anthropic.types import MessageParam, ToolParam

from spanledger.budgets.model import Budget
from spanledger.config import Config, parse_config
from spanledger.sim.server import sim_in_thread
from tests.service.gateway.harness import wait_for
from tests.service.gateway.test_clients import Gateway, Running
from tests.support.ledgers import store_at

HELLO: list[MessageParam] = [{"role": "user", "content": "Say hello, please."}]
WEATHER: ToolParam = {
    "name": "get_weather",
    "description": "Weather of a city.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
}
CLEARING: Any = {"edits": [{"type": "clear_thinking_20251015"}]}
THINKING: Any = {"type": "enabled", "budget_tokens": 1024}
SEARCH: Any = {"type": "web_search_20250305", "name": "web_search"}
ROUTES = ("claude", "gpt")


class Site(Gateway):
    """The gateway, seen by Anthropic's client."""

    def messages(self, customer: str = "rich", **more: Any) -> anthropic.Anthropic:
        """The real client with a customer's key."""
        more.setdefault("max_retries", 0)
        return anthropic.Anthropic(base_url=self.url, api_key=self.keys[customer], **more)

    def attempts(self, request_id: str | None) -> list[tuple[Any, ...]]:
        """Cost, tokens and error of a request's attempts."""
        query = (
            "SELECT cost_nano, hold_nano, estimated, input_tokens, output_tokens, error_type"
            " FROM attempts WHERE request_id = ? ORDER BY number"
        )
        with contextlib.closing(sqlite3.connect(self.ledger)) as connection:
            return list(connection.execute(query, (request_id,)))

    def billed(self) -> list[dict[str, Any]]:
        """The calls on the provider's bill."""
        with urllib.request.urlopen(f"{self.sim_url}/sim/bill?entries=1") as answer:
            found: list[dict[str, Any]] = json.load(answer)["entries"]
            return found

    def check(self, request_id: str | None, before: int) -> None:
        """What the ledger has of this request is what the provider bills since, and was held."""
        wait_for(lambda: all(row[0] is not None or row[5] for row in self.attempts(request_id)))
        rows = self.attempts(request_id)
        calls = [entry for entry in self.billed()[before:] if entry["billed"]]
        assert [row[0] for row in rows if row[0]] == [entry["nano_usd"] for entry in calls]
        assert all(row[1] >= (row[0] or 0) for row in rows)
        assert not any(row[2] for row in rows)


def configuration(sim_url: str, ledger: Path) -> Config:
    """Routes at the simulator, on both wires."""

    def entry(route: str, model: str, **info: Any) -> dict[str, Any]:
        base = sim_url if model.startswith("anthropic/") else f"{sim_url}/v1"
        params = {"model": model, "api_base": base, "api_key": "sk-sim", **info}
        return {"model_name": route, "litellm_params": params, "model_info": {"id": f"d-{route}"}}

    return parse_config(
        {
            "model_list": [
                entry("claude", "anthropic/claude-haiku-4-5"),
                entry("gpt", "openai/gpt-4o-mini"),
                entry("first", "anthropic/claude-sonnet-4-5"),
                entry("second", "openai/gpt-4o"),
                entry("limited", "anthropic/claude-haiku-4-5"),
                entry("preset", "anthropic/claude-haiku-4-5", seed=7, temperature=0.5),
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


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A gateway with keys; customer `poor` has almost no money, `rich` has a blocking budget."""
    ledger = tmp_path_factory.mktemp("gateway") / "ledger.db"
    records = store_at(ledger).records("create")
    names = ("free", "poor", "rich")
    keys = {name: records.create_key(name, "", [], 1)[0] for name in names}
    records.set_budgets(
        [
            Budget("poor-daily", "customer", "poor", 1_000, "day"),
            Budget("rich-daily", "customer", "rich", 50_000_000_000, "day"),
        ],
        1,
    )
    records.close()
    with sim_in_thread() as sim, Running(configuration(sim.url, ledger)) as url:
        yield Site(url, sim.url, ledger, keys)


@pytest.mark.parametrize("route", ROUTES)
def test_whole(site: Site, route: str) -> None:
    """An answer, its id, its cost in the headers and the ledger, and the wire in the row."""
    before = len(site.billed())
    with site.messages() as client:
        raw = client.messages.with_raw_response.create(
            model=route, messages=HELLO, max_tokens=30, system="Be brief."
        )
    answer = raw.parse()

    assert answer.content[0].type == "text"
    assert answer.content[0].text
    assert answer.usage.output_tokens > 0
    assert answer._request_id == raw.headers["x-request-id"]
    site.check(answer._request_id, before)
    (row,) = site.rows("operation, outcome, customer", f"request_id = '{answer._request_id}'")
    assert row == ("messages", "ok", "rich")


@pytest.mark.parametrize("route", ROUTES)
def test_streamed(site: Site, route: str) -> None:
    """The client puts the events together, and usage is the bill's."""
    before = len(site.billed())
    with (
        site.messages() as client,
        client.messages.stream(model=route, messages=HELLO, max_tokens=40) as stream,
    ):
        text = "".join(stream.text_stream)
        answer = stream.get_final_message()
        request_id = stream.response.headers["request-id"]

    assert text
    assert text == "".join(block.text for block in answer.content if block.type == "text")
    assert answer.stop_reason in ("end_turn", "max_tokens")
    site.check(request_id, before)
    (entry,) = site.billed()[before:]
    shown = answer.usage
    whole = shown.input_tokens + (shown.cache_read_input_tokens or 0)
    assert whole + (shown.cache_creation_input_tokens or 0) == entry["usage"]["input_tokens"]
    assert shown.output_tokens == entry["usage"]["output_tokens"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("route", ROUTES)
def test_tools(site: Site, route: str, *, stream: bool) -> None:
    """A tool is called, and its result answered."""
    asked: dict[str, Any] = {"model": route, "max_tokens": 300, "tools": [WEATHER]}
    with site.messages() as client:
        before = len(site.billed())
        forced: Any = {"type": "any"}
        if stream:
            with client.messages.stream(messages=HELLO, tool_choice=forced, **asked) as events:
                answer = events.get_final_message()
                request_id = events.response.headers["request-id"]
        else:
            answer = client.messages.create(messages=HELLO, tool_choice=forced, **asked)
            request_id = str(answer._request_id)
        assert answer.stop_reason == "tool_use"
        (call,) = (block for block in answer.content if block.type == "tool_use")
        assert call.name == "get_weather"
        assert isinstance(call.input, dict)
        assert "city" in call.input
        site.check(request_id, before)
        result: Any = [{"type": "tool_result", "tool_use_id": call.id, "content": "Sunny."}]
        turns: Any = [
            *HELLO,
            {"role": "assistant", "content": answer.content},
            {"role": "user", "content": result},
        ]
        final = client.messages.create(messages=turns, **asked)
    assert final.stop_reason == "end_turn"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", ["429;retry_after=0", "529", "cut:0", "reset"])
def test_another_wire_takes_over(site: Site, fault: str, *, stream: bool) -> None:
    """Where Anthropic fails before content came, a chat model answers in Anthropic's shape."""
    before = len(site.billed())
    board(site, fault, model="claude-sonnet-4-5")
    asked: dict[str, Any] = {"messages": HELLO, "max_tokens": 60, "tools": [WEATHER]}
    try:
        with site.messages() as client:
            if stream:
                with client.messages.stream(model="first", **asked) as events:
                    answer = events.get_final_message()
                    headers = events.response.headers
            else:
                raw = client.messages.with_raw_response.create(model="first", **asked)
                answer, headers = raw.parse(), raw.headers
    finally:
        board(site)

    assert headers["x-spanledger-deployment"] == "d-second"
    assert headers["x-spanledger-attempts"] == "2"
    assert answer.content
    paid = [entry for entry in site.billed()[before:] if entry["outcome"] == "answered"]
    attempts = site.attempts(headers["request-id"])
    assert [entry["model"] for entry in paid] == ["gpt-4o"]
    assert attempts[-1][0] == paid[0]["nano_usd"]
    assert (attempts[-1][2], attempts[-1][5]) == (0, "")


def test_what_has_no_counterpart_is_refused(site: Site) -> None:
    """With a 400 that names it; what is left out is named in a header."""
    with site.messages("free") as client:
        with pytest.raises(anthropic.BadRequestError, match="web_search") as caught:
            client.messages.create(model="gpt", messages=HELLO, max_tokens=9, tools=[SEARCH])
        error: Any = caught.value.body
        assert error["error"]["type"] == "invalid_request_error"
        raw = client.messages.with_raw_response.create(
            model="gpt", messages=HELLO, max_tokens=2000, thinking=THINKING, extra_body={"top_k": 3}
        )
    assert raw.headers["x-spanledger-changed"] == "top_k, thinking"


def test_bodies_pass_untouched(site: Site) -> None:
    """Fields and blocks that we do not know reach the provider, and `?beta=true` is accepted."""
    marked: Any = [
        {"type": "text", "text": "long " * 600, "cache_control": {"type": "ephemeral"}},
    ]
    before = len(site.billed())
    with site.messages() as client:
        answer = client.beta.messages.create(
            model="claude",
            messages=[{"role": "user", "content": "Say hello, please."}],
            system=marked,
            max_tokens=2000,
            thinking=THINKING,
            betas=["context-management-2025-06-27"],
            context_management=CLEARING,
        )
    assert answer.usage.cache_creation_input_tokens
    assert answer.content[0].type == "thinking"
    site.check(answer._request_id, before)


def test_settings_for_chat_are_left_out(site: Site) -> None:
    """A deployment's own fields that this API refuses are not sent, and the answer says so."""
    with site.messages() as client:
        raw = client.messages.with_raw_response.create(
            model="preset", messages=HELLO, max_tokens=30
        )
    assert raw.headers["x-spanledger-changed"] == "seed"


def test_errors_have_their_classes(site: Site) -> None:
    """Each refusal raises the client's exception class for its kind, in Anthropic's shape."""
    with site.messages() as client:
        with pytest.raises(anthropic.NotFoundError) as unknown:
            client.messages.create(model="claude-9", messages=HELLO, max_tokens=9)
        with pytest.raises(anthropic.BadRequestError) as invalid:
            client.messages.create(model="claude", messages=[], max_tokens=9)
        with pytest.raises(anthropic.BadRequestError) as theirs:
            client.messages.create(
                model="claude",
                messages=HELLO,
                max_tokens=9,
                extra_body={"temperature": 0.5, "top_p": 0.5},
            )
        with pytest.raises(anthropic.RateLimitError) as limited:
            faulty(client, "limited", "429;retry_after=30")
        with pytest.raises(anthropic.BadRequestError) as endless:
            client.messages.create(model="claude", messages=HELLO, max_tokens=9, tools=[SEARCH])
    with (
        anthropic.Anthropic(base_url=site.url, api_key="slk_wrong") as stranger,
        pytest.raises(anthropic.AuthenticationError) as wrong,
    ):
        stranger.messages.create(model="claude", messages=HELLO, max_tokens=9)
    told = [
        caught.value.body["error"]["type"]  # type: ignore[index]  # decoded JSON
        for caught in (unknown, invalid, theirs, limited, endless, wrong)
    ]
    assert told == [
        "not_found_error",
        "invalid_request_error",
        "invalid_request_error",
        "rate_limit_error",
        "invalid_request_error",
        "authentication_error",
    ]
    assert "top_p" in theirs.value.message
    assert "web_search" in endless.value.message
    assert unknown.value.request_id
    assert int(limited.value.response.headers["retry-after"]) >= 29


def faulty(client: anthropic.Anthropic, route: str, fault: str) -> anthropic.types.Message:
    """A request with a scripted fault."""
    return client.messages.create(
        model=route, messages=HELLO, max_tokens=40, extra_body={"metadata": {"sim": fault}}
    )


def test_missing_cap(site: Site) -> None:
    """`max_tokens` is required, as at Anthropic."""
    body = {"model": "claude", "messages": HELLO}
    key = {"x-api-key": site.keys["rich"]}
    answer = httpx.post(f"{site.url}/v1/messages", json=body, headers=key)

    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", "max_tokens")


def test_budgets(site: Site) -> None:
    """No money is a 429 that is not retried."""
    with site.messages("poor", max_retries=3) as client:
        with pytest.raises(anthropic.RateLimitError) as refused:
            client.messages.create(model="claude", messages=HELLO, max_tokens=9)
        error: Any = refused.value.body
        assert error["error"]["type"] == "billing_error"
        assert error["error"]["code"] == "budget_exceeded"
        assert error["error"]["budget"] == "poor-daily"
    assert site.rows("outcome", "customer = 'poor'") == [("refused",)]


@pytest.mark.parametrize("route", ROUTES)
def test_a_broken_stream_raises(site: Site, route: str) -> None:
    """After content came, the client gets an error event; what came is charged."""
    seen: list[str] = []
    board(site, "cut:5")
    try:
        with site.messages() as client:
            stream = client.messages.create(
                model=route, messages=HELLO, max_tokens=200, stream=True
            )
            with pytest.raises(anthropic.APIStatusError) as caught:
                seen.extend(event.type for event in stream)
    finally:
        board(site)
    assert seen.count("content_block_delta") == 5
    assert "message_stop" not in seen
    error: Any = caught.value.body
    assert error["error"]["code"] == "stream_interrupted"
    request_id = caught.value.response.headers["request-id"]
    wait_for(lambda: bool(site.rows("1", f"request_id = '{request_id}' AND outcome IS NOT NULL")))
    assert site.rows("outcome, cost_nano > 0", f"request_id = '{request_id}'") == [("error", 1)]


@pytest.mark.parametrize("route", ROUTES)
def test_a_client_that_leaves_pays_for_what_came(site: Site, route: str) -> None:
    """The provider's call is cancelled, and the output so far is booked."""
    board(site, "stall:5")
    try:
        with site.messages() as client:
            stream = client.messages.create(
                model=route, messages=HELLO, max_tokens=200, stream=True
            )
            request_id = stream.response.headers["request-id"]
            for event in stream:
                if event.type == "content_block_delta":
                    break
            stream.close()
        where = f"request_id = '{request_id}' AND outcome IS NOT NULL"
        wait_for(lambda: bool(site.rows("1", where)))
    finally:
        board(site)
    assert site.rows("outcome, cost_nano > 0", where) == [("cancelled", 1)]


def board(site: Site, fault: str | None = None, **where: Any) -> None:
    """Switch a fault of the simulator on, or all of them off."""
    if fault is None:
        httpx.delete(f"{site.sim_url}/sim/faults").raise_for_status()
    else:
        rule = {"fault": fault, **where}
        httpx.post(f"{site.sim_url}/sim/faults", json=rule).raise_for_status()


@pytest.mark.parametrize("route", ROUTES)
def test_what_is_held_is_a_bound(site: Site, route: str) -> None:
    """Random requests, with media, tools, caches and thinking: no bill is above its hold."""
    dice = random.Random(11)
    held = 0
    with httpx.Client(headers={"x-api-key": site.keys["free"]}, timeout=30) as client:
        for _ in range(60):
            before = len(site.billed())
            body = random_request(dice, route)
            answer = client.post(f"{site.url}/v1/messages?beta=true", json=body)
            assert answer.status_code == 200, answer.text
            site.check(answer.headers["request-id"], before)
            held += 1
    assert held == 60


def random_request(dice: random.Random, route: str) -> dict[str, Any]:
    """A valid request of some kind."""

    def text() -> str:
        letters = dice.choice(["word ", "ß€漢", '"\\\n', "x"])
        return "a" + letters * dice.randrange(1, 400)

    def marked(block: dict[str, Any]) -> dict[str, Any]:
        ttl = {"type": "ephemeral", "ttl": dice.choice(["5m", "1h"])}
        return {**block, "cache_control": ttl} if dice.random() < 0.15 else block

    pixel = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
    blocks = [marked({"type": "text", "text": text()})]
    if dice.random() < 0.3:
        blocks.append({"type": "image", "source": pixel})
    turns: list[dict[str, Any]] = [{"role": "user", "content": blocks}]
    tools = [marked(dict(WEATHER))] if dice.random() < 0.5 else []
    thinks = dice.random() < 0.3
    if tools and not thinks and dice.random() < 0.5:
        call = {
            "type": "tool_use",
            "id": "toolu_1",
            "name": "get_weather",
            "input": {"city": text()},
        }
        result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": text()}
        turns += [{"role": "assistant", "content": [call]}, {"role": "user", "content": [result]}]
    body: dict[str, Any] = {
        "model": route,
        "messages": turns,
        "max_tokens": dice.randrange(1_100, 3_000) if thinks else dice.randrange(1, 400),
        "stream": dice.random() < 0.5,
    }
    if dice.random() < 0.5:
        body["system"] = [marked({"type": "text", "text": text()})]
    if tools:
        body["tools"] = tools
        if not thinks and dice.random() < 0.3:
            body["tool_choice"] = {"type": "any"}
    if thinks:
        body["thinking"] = {"type": "enabled", "budget_tokens": 1024}
    return body
