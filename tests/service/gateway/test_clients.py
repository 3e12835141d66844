"""Real clients against the whole gateway: real router, SQLite ledger, adapter and simulator."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import httpx
import openai
import pytest
from langchain_openai import ChatOpenAI
from openai.types.chat import (
    ChatCompletionChunk,
    ChatCompletionMessageParam,
    ChatCompletionToolParam,
)
from pydantic import SecretStr

from spanledger import app
from spanledger.budgets.model import Budget
from spanledger.clock import Clock
from spanledger.config import Config, parse_config
from spanledger.gateway.server import GatewayServer, make_server
from spanledger.money import parse_usd
from spanledger.sim.server import sim_in_thread
from tests.support.ledgers import store_at

from .harness import PATIENCE_S, chat, wait_for

HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Say hello, please."}]
WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}


@dataclass
class Gateway:
    """A complete gateway on a free port."""

    url: str
    sim_url: str
    ledger: Path
    keys: dict[str, str]

    def client(self, customer: str = "acme", **more: Any) -> openai.OpenAI:
        """The real client with a customer's key."""
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=self.keys[customer], **more)

    def rows(self, columns: str, where: str = "1") -> list[tuple[Any, ...]]:
        """Request rows of the ledger, oldest first."""
        query = f"SELECT {columns} FROM requests WHERE {where} ORDER BY started_ns"
        with contextlib.closing(sqlite3.connect(self.ledger)) as connection:
            return list(connection.execute(query))

    def billed_nano(self) -> int:
        """What the simulated provider has charged so far."""
        with urllib.request.urlopen(f"{self.sim_url}/sim/bill") as answer:
            return parse_usd(json.load(answer)["total_usd"])


def configuration(sim_url: str, ledger: Path, **gateway: Any) -> Config:
    """Routes at the simulator."""

    def entry(route: str, model: str, **info: Any) -> dict[str, Any]:
        base = sim_url if model.startswith("anthropic/") else f"{sim_url}/v1"
        params = {"model": model, "api_base": base, "api_key": "sk-sim", **info}
        return {"model_name": route, "litellm_params": params, "model_info": {"id": f"d-{route}"}}

    return parse_config(
        {
            "model_list": [
                entry("chat", "openai/gpt-4o-mini"),
                entry("limited", "openai/gpt-4o-mini"),
                entry("claude", "anthropic/claude-haiku-4-5"),
                entry("embed", "openai/text-embedding-3-small"),
                entry("ungranted", "openai/gpt-4o"),
                entry("unpriced-tier", "openai/o3-mini"),
            ],
            "router_settings": {"num_retries": 1, "cooldown_time": 0},
            "gateway": {"port": 0, **gateway},
            "ledger": {"url": f"sqlite:///{ledger}"},
        },
        {},
        "test",
    )


class Running:
    """A gateway in a thread with its own event loop."""

    def __init__(self, config: Config, clock: Clock | None = None) -> None:
        self.config = config
        self.clock = clock
        self.loop: asyncio.AbstractEventLoop | None = None
        self.built: app.Gateway | None = None
        self.urls: list[str] = []
        self.server: GatewayServer | None = None
        self.thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    async def _serve(self) -> None:
        async with app.open_gateway(self.config, self.clock) as gateway:
            self.loop, self.built = asyncio.get_running_loop(), gateway
            self.server = make_server(gateway.app, self.config, on_ready=self.urls.append)
            await self.server.serve()

    def __enter__(self) -> str:
        self.thread.start()
        wait_for(lambda: bool(self.urls) or not self.thread.is_alive())
        return self.urls[0]

    def __exit__(self, *_: object) -> None:
        if self.server is not None:
            self.server.should_exit = True
        self.thread.join(PATIENCE_S)
        assert not self.thread.is_alive()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway with keys; customer `poor` has almost no money."""
    ledger = tmp_path_factory.mktemp("gateway") / "ledger.db"
    records = store_at(ledger).records("create")
    keys = {name: records.create_key(name, "", [], 1)[0] for name in ("acme", "poor", "rich")}
    records.set_budgets(
        [
            Budget("poor-daily", "customer", "poor", 1_000, "day"),
            Budget("rich-daily", "customer", "rich", 50_000_000_000, "day"),
        ],
        1,
    )
    records.close()
    with (
        sim_in_thread() as sim,
        Running(configuration(sim.url, ledger, total_timeout_s=20)) as url,
    ):
        yield Gateway(url, sim.url, ledger, keys)


def fault(name: str) -> dict[str, str]:
    """A body field that scripts the simulator."""
    return {"sim": name}


def test_chat(gateway: Gateway) -> None:
    """A plain chat returns the provider's answer, with its cost in the headers and the ledger."""
    with gateway.client("rich") as client:
        raw = client.chat.completions.with_raw_response.create(
            model="chat", messages=HELLO, max_tokens=30, response_format={"type": "json_object"}
        )
    answer = raw.parse()
    assert answer.choices[0].message.content
    assert answer.usage is not None
    assert raw.headers["x-spanledger-deployment"] == "d-chat"
    assert raw.headers["x-spanledger-attempts"] == "1"
    row = gateway.rows(
        "trace_id, cost_nano, customer, outcome", f"request_id = '{raw.request_id}'"
    )[0]
    assert row == (
        raw.headers["x-spanledger-trace-id"],
        answer.usage.prompt_tokens * 150 + answer.usage.completion_tokens * 600,
        "rich",
        "ok",
    )
    usd = f"{row[1] / 1e9:.9f}"
    assert raw.headers["x-spanledger-cost-usd"].ljust(len(usd), "0") == usd
    left = 50 - float(raw.headers["x-spanledger-budget-remaining-usd"])
    assert left == pytest.approx(row[1] / 1e9)


@pytest.mark.parametrize("route", ["chat", "claude"])
@pytest.mark.parametrize("wanted", [True, False])
def test_stream(gateway: Gateway, route: str, wanted: bool) -> None:
    """A stream shows usage only to callers that requested it, and is booked with usage either
    way."""
    options: Any = {"stream_options": {"include_usage": True}} if wanted else {}
    with (
        gateway.client() as client,
        client.chat.completions.create(
            model=route, messages=HELLO, max_tokens=20, stream=True, **options
        ) as stream,
    ):
        chunks = list(stream)
        headers = stream.response.headers
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text
    assert [c.usage is not None for c in chunks[-1:]] == [wanted]
    assert headers["x-spanledger-deployment"] == f"d-{route}"
    request_id = headers["x-request-id"]
    (row,) = gateway.rows("outcome, cost_nano > 0, stream", f"request_id = '{request_id}'")
    assert row == ("ok", 1, 1)


async def test_async_chat_and_stream(gateway: Gateway) -> None:
    """The asynchronous client works the same way, many at a time."""
    async with openai.AsyncOpenAI(
        base_url=f"{gateway.url}/v1", api_key=gateway.keys["acme"]
    ) as client:

        async def once() -> str | None:
            answer = await client.chat.completions.create(model="chat", messages=HELLO)
            return answer.choices[0].message.content

        assert all(await asyncio.gather(*(once() for _ in range(10))))
        stream = await client.chat.completions.create(model="chat", messages=HELLO, stream=True)
        assert [chunk async for chunk in stream]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("route", ["chat", "claude"])
def test_tools(gateway: Gateway, route: str, *, stream: bool) -> None:
    """Tools are sent and tool calls come back, streamed or not."""
    choice: Literal["required"] = "required"
    with gateway.client() as client:
        if stream:
            with client.chat.completions.stream(
                model=route, messages=HELLO, tools=[WEATHER], tool_choice=choice
            ) as events:
                answer = events.get_final_completion().choices[0].message
        else:
            plain = client.chat.completions.create(
                model=route, messages=HELLO, tools=[WEATHER], tool_choice=choice
            )
            answer = plain.choices[0].message  # type: ignore[assignment]  # the parsed one is wider
    assert answer.tool_calls
    (call,) = answer.tool_calls
    assert call.type == "function"
    assert call.function.name == "get_weather"
    assert "city" in json.loads(call.function.arguments)


def test_embeddings_and_models(gateway: Gateway) -> None:
    """Embeddings come back as numbers, and routes as models."""
    with gateway.client() as client:
        answer = client.embeddings.create(model="embed", input=["one", "two"])
        assert len(answer.data) == 2
        assert isinstance(answer.data[0].embedding[0], float)
        assert [model.id for model in client.models.list()] == [
            "chat",
            "limited",
            "claude",
            "embed",
            "ungranted",
            "unpriced-tier",
        ]
        assert client.models.retrieve("chat").id == "chat"
        with pytest.raises(openai.NotFoundError) as caught:
            client.models.retrieve("gpt-9")
    assert caught.value.code == "model_not_found"


class Counting(httpx.HTTPTransport):
    """Counts the client's requests."""

    sent = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """As in the base class."""
        self.sent += 1
        return super().handle_request(request)


def test_client_asks_again_after_a_failure_but_not_for_money(gateway: Gateway) -> None:
    """The client's retries: a 5xx is retried, a budget refusal is not."""
    transport = Counting()
    with (
        httpx.Client(transport=transport) as http,
        gateway.client(http_client=http, max_retries=1) as client,
    ):
        with pytest.raises(openai.InternalServerError) as failed:
            client.chat.completions.create(model="chat", messages=HELLO, metadata=fault("500"))
        assert (failed.value.status_code, transport.sent) == (500, 2)
        assert failed.value.code == "server_error"
        assert failed.value.response.headers["x-spanledger-attempts"] == "2"
    poor_transport = Counting()
    with (
        httpx.Client(transport=poor_transport) as http,
        gateway.client("poor", http_client=http, max_retries=5) as client,
        pytest.raises(openai.RateLimitError) as refused,
    ):
        client.chat.completions.create(model="chat", messages=HELLO)
    assert poor_transport.sent == 1
    error = refused.value
    assert (error.status_code, error.code, error.type) == (
        429, "budget_exceeded", "insufficient_quota",
    )  # fmt: skip
    body: Any = error.body
    assert (body["budget"], body["limit_usd"]) == ("poor-daily", "0.000001")
    assert gateway.rows("outcome, refused_by", "customer = 'poor'") == [("refused", "poor-daily")]


def test_a_refusal_for_money_may_have_another_status(tmp_path: Path) -> None:
    """`gateway.budget_exceeded_status` is what callers get and what the ledger records."""
    ledger = tmp_path / "ledger.db"
    records = store_at(ledger).records("create")
    records.set_budgets([Budget("none", "global", "*", 0, "day")], 1)
    records.close()
    with (
        sim_in_thread() as sim,
        Running(configuration(sim.url, ledger, budget_exceeded_status=402)) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="any") as client,
    ):
        with pytest.raises(openai.APIStatusError) as refused:
            client.chat.completions.create(model="chat", messages=HELLO)
        assert (refused.value.status_code, refused.value.code) == (402, "budget_exceeded")
        rows = Gateway(url, sim.url, ledger, {}).rows("outcome, http_status")
        assert rows == [("refused", 402)]


def test_errors_have_their_classes(gateway: Gateway) -> None:
    """Each refusal raises the client's exception class for its kind."""
    with gateway.client(max_retries=0) as client:
        with pytest.raises(openai.NotFoundError):
            client.chat.completions.create(model="gpt-9", messages=HELLO)
        with pytest.raises(openai.BadRequestError) as caught:
            client.chat.completions.create(model="chat", messages=[])
        assert caught.value.param == "messages"
        with pytest.raises(openai.BadRequestError) as caught:
            client.chat.completions.create(
                model="chat", messages=HELLO, metadata=fault("context_window")
            )
        assert caught.value.code == "context_length_exceeded"
        with pytest.raises(openai.RateLimitError) as limited:
            client.chat.completions.create(
                model="limited", messages=HELLO, metadata=fault("429;retry_after=30")
            )
        assert limited.value.code == "rate_limit_exceeded"
        assert int(limited.value.response.headers["retry-after"]) >= 29
    with (
        openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="slk_wrong") as stranger,
        pytest.raises(openai.AuthenticationError),
    ):
        stranger.models.list()


def test_broken_stream_raises(gateway: Gateway) -> None:
    """A stream that the provider breaks raises in the client, after the received content, and is
    charged."""
    with gateway.client(max_retries=0) as client:
        stream = client.chat.completions.create(
            model="chat", messages=HELLO, stream=True, metadata=fault("cut:5")
        )
        seen: list[ChatCompletionChunk] = []
        with pytest.raises(openai.APIError) as caught:
            seen.extend(stream)
    assert len(seen) >= 5
    assert caught.value.code == "stream_interrupted"
    request_id = stream.response.headers["x-request-id"]
    (row,) = gateway.rows("outcome, cost_nano > 0", f"request_id = '{request_id}'")
    assert row == ("error", 1)


def test_leaving_a_stream_is_charged_for_what_came(gateway: Gateway) -> None:
    """A client that disconnects mid-stream cancels the provider; the output so far is booked."""
    with gateway.client(max_retries=0) as client:
        stream = client.chat.completions.create(
            model="chat", messages=HELLO, stream=True, metadata=fault("stall:5")
        )
        request_id = stream.response.headers["x-request-id"]
        for chunk in stream:
            if chunk.choices and chunk.choices[0].delta.content:
                break
        stream.close()
    where = f"request_id = '{request_id}' AND outcome IS NOT NULL"
    wait_for(lambda: bool(gateway.rows("1", where)))
    assert gateway.rows("outcome, cost_nano > 0", where) == [("cancelled", 1)]


def test_langchain(gateway: Gateway) -> None:
    """LangChain's client, one chat and one stream."""
    model = ChatOpenAI(
        model="chat",
        base_url=f"{gateway.url}/v1",
        api_key=SecretStr(gateway.keys["acme"]),
        max_retries=0,
    )
    assert model.invoke("hello").content
    chunks = list(model.stream("hello", stream_usage=True))
    assert "".join(str(chunk.content) for chunk in chunks)
    assert any(chunk.usage_metadata for chunk in chunks)


def test_unknown_fields_reach_the_provider(gateway: Gateway) -> None:
    """Images and unknown fields pass through."""
    pixel = "data:image/png;base64,iVBORw0KGgo="
    content: Any = [
        {"type": "text", "text": "what is this?"},
        {"type": "image_url", "image_url": {"url": pixel}},
    ]
    with gateway.client() as client:
        answer = client.chat.completions.create(
            model="chat",
            messages=[{"role": "user", "content": content}],
            extra_body={"x_unknown": {"deep": [1, 2]}, "metadata": fault("tokens:7")},
        )
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 7


@pytest.mark.parametrize("stream", [False, True])
def test_total_deadline(gateway: Gateway, tmp_path: Path, *, stream: bool) -> None:
    """A request that exceeds its deadline ends with 504, whatever its attempts are doing."""
    config = configuration(gateway.sim_url, tmp_path / "ledger.db", total_timeout_s=0.4)
    with Running(config) as url, httpx.Client() as client:
        answer = client.post(
            f"{url}/v1/chat/completions",
            json=chat("chat", stream=stream, metadata=fault("timeout")),
        )
    assert answer.status_code == 504
    assert answer.json()["error"]["code"] == "timeout"


@pytest.mark.parametrize("stream", [False, True])
def test_a_service_tier_is_charged_as_the_answer_says(gateway: Gateway, *, stream: bool) -> None:
    """Priority price if it was granted, the usual price if not, under a budget, and to the
    nano-dollar what the provider charges."""
    before = gateway.billed_nano()
    said, booked = [], len(gateway.rows("cost_nano"))
    with gateway.client("rich") as client:
        for route in ("chat", "ungranted"):
            answer = client.chat.completions.create(
                model=route, messages=HELLO, service_tier="priority", max_tokens=30, stream=stream
            )
            chunks = list(answer) if isinstance(answer, openai.Stream) else [answer]
            said.append(chunks[-1].service_tier)

    assert said == ["priority", "default"]
    wait_for(lambda: len(gateway.rows("cost_nano", "outcome != ''")) == booked + 2)
    costs = [cost for (cost,) in gateway.rows("cost_nano")[booked:]]
    assert sum(costs) == gateway.billed_nano() - before
    assert all(costs)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"web_search_options": {}}, "'web_search_options'"),
        ({"tools": [{"type": "web_search_preview"}]}, "'tools'"),
        ({"extra_body": {"best_of": 20}}, "'best_of'"),
        ({"service_tier": "fast", "model": "unpriced-tier"}, "input_cost_per_token_priority"),
    ],
    ids=str,
)
def test_what_nothing_bounds_is_refused_under_a_budget(
    gateway: Gateway, fields: dict[str, Any], says: str
) -> None:
    """The client gets the reason and the fix at once; without a budget the request is served."""
    request = {"model": "chat", "messages": HELLO, "max_tokens": 30, **fields}
    with gateway.client("rich") as client, pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**request)
    assert caught.value.code == "unbounded_cost"
    assert says in caught.value.message
    with gateway.client("acme") as client:
        assert client.chat.completions.create(**request).choices[0].message


@pytest.mark.parametrize("name", ["MAX_TOKENS", "maxTokens", "N"])
def test_a_field_in_another_spelling_is_refused(gateway: Gateway, name: str) -> None:
    """A server that ignores case would generate more than was held for."""
    with gateway.client() as client, pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(
            model="chat", messages=HELLO, max_tokens=5, extra_body={name: 5_000}
        )
    assert caught.value.code == "invalid_value"


def test_ledger_agrees_with_the_bill(gateway: Gateway) -> None:
    """A request's cost here is what the provider charges, to the nano-dollar."""
    before = gateway.billed_nano()
    with gateway.client() as client:
        raws = [
            client.chat.completions.with_raw_response.create(model=route, messages=HELLO)
            for route in ("chat", "claude")
        ]
    costs = [parse_usd(raw.headers["x-spanledger-cost-usd"]) for raw in raws]
    assert sum(costs) == gateway.billed_nano() - before
    assert all(costs)
    reports = store_at(gateway.ledger).reports()
    assert reports.verify().problems == []
    reports.close()
