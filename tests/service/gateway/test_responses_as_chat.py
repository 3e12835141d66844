"""OpenAI's client and its `responses`, against deployments that speak chat alone."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import urllib.request
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
from tests.service.gateway.test_clients import Gateway, Running
from tests.service.wires.codex_requests import LITE, USUAL
from tests.support.ledgers import store_at

HELLO = "Say hello, please."
WEATHER: FunctionToolParam = {
    "type": "function",
    "name": "get_weather",
    "description": "Weather of a city.",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
}


class City(BaseModel):
    """A structured answer."""

    name: str
    country: str


class Site(Gateway):
    """The gateway with a ledger that is compared with the simulator's bill."""

    def attempts(self, request_id: str | None) -> list[tuple[Any, ...]]:
        """Cost, hold, whether it is estimated, and error of a request's attempts."""
        query = (
            "SELECT cost_nano, hold_nano, estimated, error_type FROM attempts"
            " WHERE request_id = ? ORDER BY number"
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
        wait_for(lambda: all(row[0] is not None or row[3] for row in self.attempts(request_id)))
        rows = self.attempts(request_id)
        calls = [entry for entry in self.billed()[before:] if entry["billed"]]
        assert calls
        assert [row[0] for row in rows if row[0]] == [entry["nano_usd"] for entry in calls]
        assert all(row[1] >= (row[0] or 0) for row in rows)
        assert not any(row[2] for row in rows)


def configuration(sim_url: str, ledger: Path) -> Config:
    """Routes at the simulator."""

    def entry(route: str, model: str) -> dict[str, Any]:
        params = {"model": model, "api_base": f"{sim_url}/v1", "api_key": "sk-sim"}
        info = {"id": f"d-{route}", "supported_endpoints": ["/v1/chat/completions"]}
        return {"model_name": route, "litellm_params": params, "model_info": info}

    return parse_config(
        {
            "model_list": [
                entry("gpt", "openai/gpt-4o-mini"),
                entry("first", "openai/gpt-4.1-mini"),
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


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A gateway with keys; customer `poor` has almost no money, `rich` has a blocking budget."""
    ledger = tmp_path_factory.mktemp("gateway") / "ledger.db"
    records = store_at(ledger).records("create")
    keys = {name: records.create_key(name, "", [], 1)[0] for name in ("poor", "rich")}
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


@pytest.fixture
def client(site: Site) -> Iterator[openai.OpenAI]:
    """The real client, with money."""
    with site.client("rich", max_retries=0) as made:
        yield made


@contextlib.contextmanager
def board(site: Site, fault: str, **where: Any) -> Iterator[None]:
    """A fault of the simulator."""
    httpx.post(f"{site.sim_url}/sim/faults", json={"fault": fault, **where}).raise_for_status()
    try:
        yield
    finally:
        httpx.delete(f"{site.sim_url}/sim/faults").raise_for_status()


def test_whole(site: Site, client: openai.OpenAI) -> None:
    """An answer in the client's own types, with the bill's usage, and its wire in the row."""
    before = len(site.billed())
    raw = client.responses.with_raw_response.create(
        model="gpt", input=HELLO, instructions="Be brief.", max_output_tokens=500
    )
    answer = raw.parse()
    (entry,) = site.billed()[before:]

    assert answer.output_text
    assert answer.status == "completed"
    assert (answer.to_dict()["store"], answer.instructions) == (False, "Be brief.")
    assert answer.usage is not None
    assert answer.usage.input_tokens == entry["usage"]["input_tokens"]
    assert answer.usage.output_tokens == entry["usage"]["output_tokens"]
    request_id = raw.headers["x-request-id"]
    site.check(request_id, before)
    (row,) = site.rows("operation, outcome, customer", f"request_id = '{request_id}'")
    assert row == ("responses", "ok", "rich")


def test_streamed(site: Site, client: openai.OpenAI) -> None:
    """The client puts the events together to what the last one says."""
    before = len(site.billed())
    with client.responses.stream(model="gpt", input=HELLO) as stream:
        deltas = [e.delta for e in stream if e.type == "response.output_text.delta"]
        answer = stream.get_final_response()
        request_id = stream._response.headers["x-request-id"]

    assert deltas
    assert "".join(deltas) == answer.output_text
    assert answer.usage is not None
    site.check(request_id, before)


@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_loop(site: Site, client: openai.OpenAI, *, stream: bool) -> None:
    """A tool is called; the items go back as they came, with its result."""
    asked: dict[str, Any] = {"model": "gpt", "tools": [WEATHER]}
    before = len(site.billed())
    turns: list[Any] = [{"role": "user", "content": HELLO}]
    if stream:
        with client.responses.stream(input=turns, tool_choice="required", **asked) as events:
            answer: Any = events.get_final_response()
            request_id = events._response.headers["x-request-id"]
    else:
        answer = client.responses.create(input=turns, tool_choice="required", **asked)
        request_id = answer._request_id
    (call,) = (item for item in answer.output if item.type == "function_call")
    site.check(request_id, before)
    assert call.name == "get_weather"
    assert "city" in json.loads(call.arguments)

    turns += [item.to_dict() for item in answer.output]
    turns.append({"type": "function_call_output", "call_id": call.call_id, "output": "Sunny."})
    final = client.responses.create(input=turns, **asked)
    assert final.output_text


def test_structured_output(client: openai.OpenAI) -> None:
    """The client's own helper reads it."""
    answer = client.responses.parse(model="gpt", input=HELLO, text_format=City)

    assert isinstance(answer.output_parsed, City)


@pytest.mark.parametrize("body", [USUAL, LITE])
def test_codex(site: Site, body: dict[str, Any]) -> None:
    """What Codex sends is served under a budget, with its hosted search left out."""
    key = {"authorization": f"Bearer {site.keys['rich']}"}
    before = len(site.billed())
    answer = httpx.post(f"{site.url}/v1/responses", json={**body, "model": "gpt"}, headers=key)

    assert answer.status_code == 200, answer.text
    assert "event: response.completed\n" in answer.text
    site.check(answer.headers["x-request-id"], before)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", ["429;retry_after=0", "cut:0", "reset"])
def test_another_deployment_takes_over(
    site: Site, client: openai.OpenAI, fault: str, *, stream: bool
) -> None:
    """Where the first fails before content came."""
    before = len(site.billed())
    with board(site, fault, model="gpt-4.1-mini"):
        raw = client.responses.with_raw_response.create(model="first", input=HELLO, stream=stream)
    answer: Any = raw.parse()
    if stream:
        answer = list(answer)[-1].response

    assert answer.output_text
    assert raw.headers["x-spanledger-deployment"] == "d-second"
    paid = [entry for entry in site.billed()[before:] if entry["outcome"] == "answered"]
    request_id = raw.headers["x-request-id"]
    wait_for(lambda: site.attempts(request_id)[-1][0] is not None)
    assert [entry["nano_usd"] for entry in paid] == [site.attempts(request_id)[-1][0]]


def test_a_broken_stream_raises(site: Site, client: openai.OpenAI) -> None:
    """After content came; what came is charged."""
    seen: list[str] = []
    with board(site, "cut:5"):
        stream = client.responses.create(model="gpt", input=HELLO, stream=True)
        request_id = stream.response.headers["x-request-id"]
        with pytest.raises(openai.APIError):
            seen.extend(event.type for event in stream)

    assert seen.count("response.output_text.delta") == 5
    assert "response.completed" not in seen
    where = f"request_id = '{request_id}' AND outcome IS NOT NULL"
    wait_for(lambda: bool(site.rows("1", where)))
    assert site.rows("outcome, cost_nano > 0", where) == [("error", 1)]


def test_a_client_that_leaves_pays_for_what_came(site: Site, client: openai.OpenAI) -> None:
    """The provider's call is cancelled, and the output so far is booked."""
    with board(site, "stall:5"):
        stream = client.responses.create(model="gpt", input=HELLO, stream=True)
        request_id = stream.response.headers["x-request-id"]
        next(event for event in stream if event.type == "response.output_text.delta")
        stream.close()
        where = f"request_id = '{request_id}' AND outcome IS NOT NULL"
        wait_for(lambda: bool(site.rows("1", where)))
    assert site.rows("outcome, cost_nano > 0", where) == [("cancelled", 1)]


def test_a_client_that_leaves_after_the_last_event_has_had_all(
    site: Site, client: openai.OpenAI
) -> None:
    """Clients stop reading at `response.completed`; by then the request is booked."""
    stream = client.responses.create(model="gpt", input=HELLO, stream=True)
    next(event for event in stream if event.type == "response.completed")
    request_id = stream.response.headers["x-request-id"]
    stream.close()

    wait_for(lambda: bool(site.rows("1", f"request_id = '{request_id}' AND outcome IS NOT NULL")))
    assert site.rows("outcome", f"request_id = '{request_id}'") == [("ok",)]


def test_what_has_no_counterpart(client: openai.OpenAI) -> None:
    """A 400 that names all of it, and a header with what was left out."""
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(
            model="gpt",
            input=[{"type": "item_reference", "id": "msg_1"}],
            prompt={"id": "pmpt_1"},
        )
    message = str(caught.value)
    assert "send the item itself" in message
    assert "'instructions'" in message
    raw = client.responses.with_raw_response.create(
        model="gpt", input=HELLO, truncation="auto", metadata={"a": "b"}, store=True
    )
    left = set(raw.headers["x-spanledger-changed"].split(", "))
    assert left == {"truncation", "metadata", "store"}


def test_no_money(site: Site) -> None:
    """A 429, in the client's class for it."""
    with site.client("poor", max_retries=0) as poor, pytest.raises(openai.RateLimitError):
        poor.responses.create(model="gpt", input=HELLO)
