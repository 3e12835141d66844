"""OpenAI's client for the Responses API against the whole gateway and the simulator."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai.types.responses import FunctionToolParam
from pydantic import BaseModel

from spanledger.budgets.model import Budget
from spanledger.config import Config, parse_config
from spanledger.sim.server import sim_in_thread
from tests.service.gateway.harness import wait_for
from tests.service.gateway.test_clients import Running
from tests.service.gateway.test_messages import Site, board
from tests.support.ledgers import store_at

HELLO = "Say hello, please."
SEARCH = {"type": "web_search"}
WEATHER: FunctionToolParam = {
    "type": "function",
    "name": "get_weather",
    "description": "Weather of a city.",
    "strict": False,
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
}


def configuration(sim_url: str, ledger: Path) -> Config:
    """Routes at the simulator, which is two accounts by two keys."""

    def entry(route: str, model: str, key: str = "sk-sim", **info: Any) -> dict[str, Any]:
        base = sim_url if model.startswith("anthropic/") else f"{sim_url}/v1"
        params = {"model": model, "api_base": base, "api_key": key, **info}
        return {"model_name": route, "litellm_params": params, "model_info": {"id": f"d-{route}"}}

    return parse_config(
        {
            "model_list": [
                entry("gpt", "openai/gpt-4o-mini"),
                entry("thinker", "openai/gpt-5-mini"),
                entry("first", "openai/gpt-4.1"),
                entry("second", "openai/gpt-4o", "sk-other"),
                entry("limited", "openai/gpt-4.1-mini"),
                entry("preset", "openai/gpt-5-mini", seed=7, max_tokens=64, reasoning_effort="low"),
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


class ResponsesSite(Site):
    """The gateway, seen by OpenAI's client."""

    def client(self, customer: str = "rich", **more: Any) -> openai.OpenAI:
        """The real client with a customer's key."""
        more.setdefault("max_retries", 0)
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=self.keys[customer], **more)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ResponsesSite]:
    """A gateway with keys; customer `poor` has almost no money, `rich` has a blocking budget."""
    ledger = tmp_path_factory.mktemp("gateway") / "ledger.db"
    records = store_at(ledger).records("create")
    keys = {name: records.create_key(name, "", [], 1)[0] for name in ("free", "poor", "rich")}
    keys["team"] = records.create_key("rich", "other-team", [], 1)[0]
    keys["twin"] = records.create_key("rich", "", [], 1)[0]
    records.set_budgets(
        [
            Budget("poor-daily", "customer", "poor", 1_000, "day"),
            Budget("rich-daily", "customer", "rich", 50_000_000_000, "day"),
        ],
        1,
    )
    records.close()
    with sim_in_thread() as sim, Running(configuration(sim.url, ledger)) as url:
        yield ResponsesSite(url, sim.url, ledger, keys)


def test_whole(site: ResponsesSite) -> None:
    """An answer, its cost in the headers and the ledger, and the wire in the row."""
    before = len(site.billed())
    with site.client() as client:
        raw = client.responses.with_raw_response.create(
            model="gpt", input=HELLO, instructions="Be brief.", max_output_tokens=300
        )
    answer = raw.parse()
    request_id = raw.headers["x-request-id"]

    assert answer.output_text
    assert answer.status == "completed"
    site.check(request_id, before)
    assert site.rows("operation, outcome, customer", f"request_id = '{request_id}'") == [
        ("responses", "ok", "rich")
    ]


@pytest.mark.parametrize("cap", [None, 16])
def test_streamed(site: ResponsesSite, cap: int | None) -> None:
    """The client puts the events together, and the request is booked before the last of them."""
    before = len(site.billed())
    with (
        site.client() as client,
        client.responses.stream(
            model="gpt", input=HELLO, max_output_tokens=cap or openai.omit
        ) as stream,
    ):
        events = []
        for event in stream:
            events.append(event)
            if event.type in ("response.completed", "response.incomplete"):
                request_id = stream._response.headers["x-request-id"]
                where = f"request_id = '{request_id}'"
                assert site.rows("outcome", where) == [("ok",)]
        answer = events[-1].response  # type: ignore[union-attr] # the last event has it

    text = "".join(e.delta for e in events if e.type == "response.output_text.delta")
    assert text == answer.output_text
    assert [e.sequence_number for e in events] == sorted({e.sequence_number for e in events})
    assert answer.status == ("completed" if cap is None else "incomplete")
    site.check(request_id, before)
    (entry,) = site.billed()[before:]
    assert answer.usage is not None
    assert answer.usage.output_tokens == entry["usage"]["output_tokens"]


@pytest.mark.parametrize("stream", [False, True])
def test_tools_and_reasoning(site: ResponsesSite, *, stream: bool) -> None:
    """A tool is called after reasoning, which comes back with the tool's output."""
    asked: dict[str, Any] = {"model": "thinker", "tools": [WEATHER], "store": False}
    asked["include"] = ["reasoning.encrypted_content"]
    asked["reasoning"] = {"effort": "low", "summary": "auto"}
    before = len(site.billed())
    with site.client() as client:
        if stream:
            with client.responses.stream(input=HELLO, tool_choice="required", **asked) as events:
                answer: Any = events.get_final_response()
                request_id = events._response.headers["x-request-id"]
        else:
            answer = client.responses.create(input=HELLO, tool_choice="required", **asked)
            request_id = answer._request_id
        site.check(request_id, before)
        thought, call = answer.output
        assert thought.encrypted_content
        assert call.name == "get_weather"
        history: Any = [{"role": "user", "content": HELLO}, thought.to_dict(), call.to_dict()]
        history.append(
            {"type": "function_call_output", "call_id": call.call_id, "output": "Sunny."}
        )
        final = client.responses.create(input=history, **asked)
    assert final.output_text


def test_structured_output(site: ResponsesSite) -> None:
    """A schema's answer parses into the client's own class."""

    class City(BaseModel):
        name: str

    with site.client() as client:
        answer = client.responses.parse(model="gpt", input=HELLO, text_format=City)
    assert isinstance(answer.output_parsed, City)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", ["429;retry_after=0", "503", "cut:0", "failed:0", "reset"])
def test_fallback(site: ResponsesSite, fault: str, *, stream: bool) -> None:
    """Where a provider fails before content came, another one answers."""
    before = len(site.billed())
    board(site, fault, model="gpt-4.1")
    try:
        with site.client() as client:
            raw = client.responses.with_raw_response.create(
                model="first", input=HELLO, stream=stream
            )
            answer: Any = raw.parse()
            if stream:
                answer = list(answer)[-1].response
    finally:
        board(site)

    assert raw.headers["x-spanledger-deployment"] == "d-second"
    # A kept connection that is reset may have been closed as unused, so it is asked once more.
    allowed = {"2", "3"} if fault == "reset" else {"2"}
    assert raw.headers["x-spanledger-attempts"] in allowed
    assert answer.output_text
    paid = [entry for entry in site.billed()[before:] if entry["outcome"] == "answered"]
    attempts = site.attempts(raw.headers["x-request-id"])
    assert [entry["model"] for entry in paid] == ["gpt-4o"]
    assert attempts[-1][0] == paid[0]["nano_usd"]


@pytest.mark.parametrize("fault", ["cut:5", "failed:5", "malformed:5"])
def test_a_broken_stream_raises(site: ResponsesSite, fault: str) -> None:
    """After content came, the client gets an error event; what came is charged."""
    seen: list[str] = []
    board(site, fault)
    try:
        with site.client() as client:
            stream = client.responses.create(model="gpt", input=HELLO, stream=True)
            request_id = stream.response.headers["x-request-id"]
            with pytest.raises(openai.APIError) as caught:
                seen.extend(event.type for event in stream)
    finally:
        board(site)
    assert seen.count("response.output_text.delta") == 5
    assert "response.completed" not in seen
    assert caught.value.message
    where = f"request_id = '{request_id}' AND outcome IS NOT NULL"
    wait_for(lambda: bool(site.rows("1", where)))
    assert site.rows("outcome, cost_nano > 0", where) == [("error", 1)]


def test_a_client_that_leaves_pays_for_what_came(site: ResponsesSite) -> None:
    """The provider's call is cancelled, and the output so far is booked."""
    board(site, "stall:5")
    try:
        with site.client() as client:
            stream = client.responses.create(model="gpt", input=HELLO, stream=True)
            request_id = stream.response.headers["x-request-id"]
            for event in stream:
                if event.type == "response.output_text.delta":
                    break
            stream.close()
        where = f"request_id = '{request_id}' AND outcome IS NOT NULL"
        wait_for(lambda: bool(site.rows("1", where)))
    finally:
        board(site)
    assert site.rows("outcome, cost_nano > 0", where) == [("cancelled", 1)]


@pytest.mark.parametrize("stream", [False, True])
def test_budgets(site: ResponsesSite, *, stream: bool) -> None:
    """No money is a 429 that is not retried."""
    with (
        site.client("poor", max_retries=3) as client,
        pytest.raises(openai.RateLimitError) as refused,
    ):
        client.responses.create(model="gpt", input=HELLO, stream=stream)
    error: Any = refused.value.body
    assert (error["code"], error["budget"]) == ("budget_exceeded", "poor-daily")


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ({"tools": [SEARCH]}, 'Codex: web_search = \\"disabled\\"'),
        ({"tools": [{"type": "web_search"}], "max_tool_calls": 1}, "max_tool_calls"),
        (
            {"tools": [{"type": "mcp", "server_label": "x", "server_url": "https://x.example"}]},
            "mcp",
        ),
        (
            {"input": [{"type": "additional_tools", "role": "developer", "tools": [SEARCH]}]},
            "web_search",
        ),
        ({"background": True, "stream": True}, "background"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
    ],
)
def test_what_nothing_bounds_is_refused(
    site: ResponsesSite, body: dict[str, Any], what: str
) -> None:
    """Where a budget blocks, a request must be bounded; the error says what to leave out."""
    with site.client() as client, pytest.raises(openai.BadRequestError, match=what) as caught:
        client.post("/responses", body={"model": "gpt", "input": HELLO, **body}, cast_to=object)
    assert caught.value.code == "unbounded_cost"


def test_tools_that_the_caller_runs_are_bounded(site: ResponsesSite) -> None:
    """Codex's tools run at the caller, and pass a blocking budget."""
    grammar = {"type": "grammar", "syntax": "lark", "definition": 'start: "x"'}
    tools: Any = [
        WEATHER,
        {"type": "custom", "name": "apply_patch", "format": grammar},
        {"type": "local_shell"},
        {"type": "namespace", "name": "mcp__files", "description": "Files.", "tools": [WEATHER]},
    ]
    before = len(site.billed())
    with site.client() as client:
        raw = client.responses.with_raw_response.create(model="gpt", input=HELLO, tools=tools)
    site.check(raw.headers["x-request-id"], before)


def test_errors_have_their_classes(site: ResponsesSite) -> None:
    """Each refusal raises the client's exception class for its kind, in OpenAI's shape."""
    with site.client() as client:
        with pytest.raises(openai.NotFoundError):
            client.responses.create(model="gpt-9", input=HELLO)
        with pytest.raises(openai.BadRequestError, match="max_output_tokens") as moved:
            client.responses.create(model="gpt", input=HELLO, extra_body={"max_tokens": 5})
        with pytest.raises(openai.BadRequestError, match="previous_response_id"):
            client.responses.create(model="gpt", input=HELLO, conversation="conv_1")
        with pytest.raises(openai.BadRequestError, match="input"):
            client.responses.create(model="gpt", input=[])
        with pytest.raises(openai.BadRequestError, match="not supported with this model"):
            client.responses.create(model="thinker", input=HELLO, temperature=0.5)
        with pytest.raises(openai.RateLimitError):
            client.responses.create(
                model="limited", input=HELLO, metadata={"sim": "429;retry_after=30"}
            )
    assert moved.value.param == "max_tokens"


def test_settings_of_chat_are_translated(site: ResponsesSite) -> None:
    """A deployment's cap and effort apply under this API's names; what it has no name for is left out."""
    before = len(site.billed())
    with site.client() as client:
        raw = client.responses.with_raw_response.create(model="preset", input=HELLO)
    answer = raw.parse()
    assert raw.headers["x-spanledger-changed"] == "seed"
    assert answer.max_output_tokens == 64
    assert answer.reasoning is not None
    assert answer.reasoning.effort == "low"
    site.check(raw.headers["x-request-id"], before)


def random_request(dice: random.Random, stored: list[str]) -> dict[str, Any]:
    """A valid request of some kind."""

    def text() -> str:
        letters = dice.choice(["word ", "ß€漢", '"\\\n', "x"])
        return "a" + letters * dice.randrange(1, 400)

    body: dict[str, Any] = {
        "model": dice.choice(["gpt", "thinker", "preset"]),
        "stream": dice.random() < 0.5,
        "input": text(),
    }
    if dice.random() < 0.5:
        parts: list[dict[str, Any]] = [{"type": "input_text", "text": text()}]
        if dice.random() < 0.4:
            image = "data:image/png;base64,iVBORw0KGgo="
            parts.append({"type": "input_image", "image_url": image, "detail": "auto"})
        items: list[dict[str, Any]] = [{"role": "user", "content": parts}]
        if dice.random() < 0.5:
            call = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}
            output = {"type": "function_call_output", "call_id": "c1", "output": text()}
            items += [call, output]
        body["input"] = items
    if dice.random() < 0.5:
        body["max_output_tokens"] = dice.randrange(16, 400)
    if dice.random() < 0.4:
        body["instructions"] = text()
    if dice.random() < 0.4:
        body["tools"] = [WEATHER]
        body["tool_choice"] = dice.choice(["auto", "required"])
    if stored and dice.random() < 0.5:
        body["previous_response_id"] = dice.choice(stored)
    return body


def test_what_is_held_is_a_bound(site: ResponsesSite) -> None:
    """Random requests, with media, tools and earlier answers: no bill is above its hold."""
    dice = random.Random(7)
    stored: list[str] = []
    key = {"authorization": f"Bearer {site.keys['rich']}"}
    with httpx.Client(headers=key, timeout=30) as client:
        for _ in range(80):
            before = len(site.billed())
            body = random_request(dice, stored)
            answer = client.post(f"{site.url}/v1/responses", json=body)
            assert answer.status_code == 200, answer.text
            site.check(answer.headers["x-request-id"], before)
            if not body["stream"] and answer.json()["output"][-1]["type"] == "message":
                stored.append(answer.json()["id"])
    assert stored
