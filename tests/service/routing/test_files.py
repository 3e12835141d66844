"""Real-world configurations, served: router, adapters, price book and ledger, over TLS."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from spanledger.clock import Clock
from spanledger.config import parse_config
from spanledger.config.budgets import budget_of
from spanledger.errors import BudgetExceededError, ConfigError, ProviderError, SpanledgerError
from spanledger.ledger import open_ledger
from spanledger.ledger.model import RequestStart
from spanledger.pricing.book import PriceBook
from spanledger.providers import create_providers
from spanledger.routing.plan import Plan
from spanledger.routing.request import Exchange
from spanledger.routing.router import Router
from spanledger.wires import CHAT
from spanledger.wires.base import Answer
from tests.support.everybody import Everybody, every_provider
from tests.support.ledgers import store_at

ENVIRON = {"OPENAI_API_KEY": "k-openai", "OPENROUTER_API_KEY": "k-or", "GROQ_API_KEY": "k-groq"}


class Served:
    """The router of a file, and its ledger."""

    def __init__(self, router: Router, path: Path) -> None:
        self.router, self._path = router, path
        self._ids = itertools.count(1)

    def exchange(self, route: str, asked: str = "", **fields: object) -> Exchange:
        """A parsed request."""
        unique = next(self._ids)
        body = {"model": asked or route, "messages": [{"role": "user", "content": "hi"}], **fields}
        clock = Clock()
        start = RequestStart(
            request_id=f"req_{unique:024x}",
            trace_id=f"{unique:032x}",
            span_id=f"{unique:016x}",
            parent_span_id="",
            started_ns=clock.now_ns(),
            customer="acme",
            team="",
            key_id="",
            route=route,
            operation="chat",
            stream=bool(fields.get("stream")),
        )
        deadline = clock.monotonic() + 30
        return Exchange(start, CHAT.read(msgspec.json.encode(body)), deadline, asked)

    async def ask(self, route: str, asked: str = "", **fields: object) -> Answer | SpanledgerError:
        """A complete answer, or the caller's error."""
        try:
            return await self.router.complete(self.exchange(route, asked, **fields))
        except SpanledgerError as error:
            return error

    def attempts(self) -> list[dict[str, Any]]:
        """All attempts in the ledger."""
        reports = store_at(self._path).reports()
        rows = [
            attempt
            for unique in range(1, next(self._ids))
            for _, attempts in reports.trace(f"req_{unique:024x}")
            for attempt in attempts
        ]
        reports.close()
        return rows


@pytest.fixture
async def everybody(monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Everybody]:
    """All providers."""
    async with every_provider(monkeypatch) as state:
        yield state


@asynccontextmanager
async def serving(
    data: dict[str, Any], tmp_path: Path, environ: Mapping[str, str] = ENVIRON
) -> AsyncGenerator[Served]:
    """The router of a file on real parts; afterwards the ledger is consistent."""
    path = tmp_path / "ledger.db"
    config = parse_config(data, environ, "file.yaml")
    clock = Clock()
    plan = Plan.from_config(config, environ)
    ledger = open_ledger(store_at(path), clock)
    records = store_at(path).records("create")
    records.set_budgets([budget_of(entry) for entry in config.budgets], clock.now_ns())
    records.close()
    providers = create_providers(plan.kinds)
    router = Router(config, plan, ledger, PriceBook.load(), providers, clock, "off")
    try:
        yield Served(router, path)
    finally:
        await router.close()
        for provider in providers.values():
            await provider.close()
        await ledger.close()
    reports = store_at(path).reports()
    found = reports.verify()
    reports.close()
    assert (found.problems, found.open_attempts) == ([], 0)


def entry(name: str, model: str, **params: Any) -> dict[str, Any]:
    """An entry of `model_list`."""
    return {"model_name": name, "litellm_params": {"model": model, **params}}


def told(cost: object, **more: object) -> tuple[str, bytes]:
    """An answer with OpenRouter's own figure in its usage."""
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15, "cost": cost, **more}
    choice = {"message": {"content": "hi"}, "finish_reason": "stop"}
    return "application/json", json.dumps({"id": "x", "choices": [choice], "usage": usage}).encode()


@pytest.mark.parametrize(
    ("params", "usage", "nano"),
    [
        ({"model": "openrouter/openai/gpt-4o-mini"}, {"cost": 0.00014}, 140_000),
        ({"model": "gpt-4o-mini", "base_url": "https://openrouter.ai/api/v1"}, {"cost": 1}, 10**9),
        (
            {"model": "openrouter/openai/gpt-4o-mini"},
            {"cost": 1e-5, "is_byok": True, "cost_details": {"upstream_inference_cost": 2e-4}},
            210_000,
        ),
        ({"model": "openrouter/openai/gpt-4o-mini"}, {"cost": "much"}, None),
        ({"model": "groq/llama-3.3-70b-versatile"}, {"cost": 0.5}, None),
    ],
)
async def test_openrouters_own_cost_is_kept_beside_ours(
    everybody: Everybody,
    tmp_path: Path,
    params: dict[str, Any],
    usage: dict[str, Any],
    nano: int | None,
) -> None:
    """What the provider says it charged is in the row; what we charge follows our prices."""
    everybody.answers.append(told(**usage))
    entries = [{"model_name": "r", "litellm_params": params}]
    async with serving({"model_list": entries}, tmp_path) as served:
        assert isinstance(await served.ask("r"), Answer)
        (row,) = served.attempts()

    detail = json.loads(row["detail"])
    assert detail.get("spanledger.provider.cost.nano_usd") == nano
    assert row["cost_nano"] != nano


async def test_openrouters_models_keep_their_slash(everybody: Everybody, tmp_path: Path) -> None:
    """Rows name the model with its publisher, as in OpenRouter's own list."""
    entries = [entry("r", "openrouter/openai/gpt-4o-mini")]
    async with serving({"model_list": entries}, tmp_path) as served:
        await served.ask("r")
        (row,) = served.attempts()

    assert (row["provider"], row["model"]) == ("openrouter", "openai/gpt-4o-mini")
    assert everybody.seen[0].key == "k-or"


async def test_openrouters_stream_with_comments_and_an_error_in_it(
    everybody: Everybody, tmp_path: Path
) -> None:
    """Comments are not chunks; after an error before content, another deployment takes over."""
    broken = (
        b": OPENROUTER PROCESSING\n\n"
        b'data: {"id":"x","error":{"code":502,"message":"Provider disconnected"},'
        b'"choices":[{"index":0,"delta":{"content":""},"finish_reason":"error"}]}\n\n'
        b"data: [DONE]\n\n"
    )
    whole = (
        b": OPENROUTER PROCESSING\n\n: OPENROUTER PROCESSING\n\n"
        b'data: {"choices":[{"delta":{"content":"hello"}}]}\n\n'
        b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n'
        b'data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":1,'
        b'"total_tokens":10,"cost":0.00002}}\n\n'
        b"data: [DONE]\n\n"
    )
    everybody.answers += [("text/event-stream", broken), ("text/event-stream", whole)]
    data = {
        "model_list": [
            entry("a", "openrouter/openai/gpt-4o-mini"),
            entry("b", "openrouter/anthropic/claude-haiku-4.5"),
        ],
        "router_settings": {"num_retries": 0, "fallbacks": [{"a": ["b"]}]},
    }
    async with serving(data, tmp_path) as served:
        frames = [f.data async for f in served.router.stream(served.exchange("a", stream=True))]
        first, second = served.attempts()

    assert b"hello" in b"".join(frames)
    assert b"PROCESSING" not in b"".join(frames)
    assert (first["error_type"], second["error_type"]) == ("server_error", "")
    assert json.loads(second["detail"])["spanledger.provider.cost.nano_usd"] == 20_000


async def test_defaults_of_a_deployment_are_sent_and_held_for(
    everybody: Everybody, tmp_path: Path
) -> None:
    """A caller's own value wins over the file's, `extra_body` over the caller's."""
    params = {"max_tokens": 50, "temperature": 0.1, "extra_body": {"seed": 7}, "top_k": 3}
    data = {"model_list": [entry("r", "groq/llama-3.3-70b-versatile", **params)]}
    async with serving(data, tmp_path) as served:
        await served.ask("r")
        await served.ask("r", temperature=0.9, max_completion_tokens=9, seed=1)
        rows = served.attempts()

    first, second = (seen.body for seen in everybody.seen)
    assert (first["max_tokens"], first["temperature"], first["seed"]) == (50, 0.1, 7)
    assert (second["max_completion_tokens"], second["temperature"], second["seed"]) == (9, 0.9, 7)
    assert "max_tokens" not in second
    assert first["top_k"] == second["top_k"] == 3
    tokens = [json.loads(row["detail"])["gen_ai.request.max_tokens"] for row in rows]
    assert tokens == [50, 9]


async def test_a_budget_holds_for_what_the_file_adds(everybody: Everybody, tmp_path: Path) -> None:
    """`max_tokens` of the file bounds the hold; a service tier or a tool of the file counts."""
    price = {"input_cost_per_token": 1e-9, "output_cost_per_token": 1e-5}
    data = {
        "model_list": [
            entry("capped", "openai/gpt-4o-mini", max_tokens=50, **price),
            entry("open", "openai/gpt-4o-mini", max_tokens=5000, **price),
            entry("tier", "openai/gpt-4o-mini", max_tokens=50, service_tier="priority", **price),
            entry("many", "openai/gpt-4o-mini", max_tokens=50, n=99, **price),
            entry("tool", "openai/gpt-4o-mini", tools=[{"type": "web_search"}], **price),
        ],
        "budgets": [{"name": "b", "limit": "0.01"}],
    }
    async with serving(data, tmp_path) as served:
        capped = await served.ask("capped")
        for name in ("tier", "tool"):
            assert getattr(await served.ask(name), "error_type", "") == "unbounded_cost"
        many = await served.ask("many")
        await served.ask("open")

    assert isinstance(capped, Answer)
    assert isinstance(many, BudgetExceededError | Answer)
    assert all(seen.body.get("max_tokens", 0) <= 1000 for seen in everybody.seen)


@pytest.mark.parametrize(
    ("asked", "host", "model", "label"),
    [
        ("openai/gpt-4o-mini", "api.openai.com", "gpt-4o-mini", "gpt-4o-mini"),
        ("openai/made-up", "api.openai.com", "made-up", "other"),
        ("groq/openai/gpt-oss-20b", "api.groq.com", "openai/gpt-oss-20b", "openai/gpt-oss-20b"),
        ("gpt-4o", "api.openai.com", "gpt-4o", "gpt-4o"),
        ("fast-2", "api.groq.com", "llama-3.1-8b-instant", "llama-3.1-8b-instant"),
    ],
)
async def test_wildcards(
    everybody: Everybody, tmp_path: Path, asked: str, host: str, model: str, label: str
) -> None:
    """The most specific one serves; rows name models of the price book, and `other`."""
    data = {
        "model_list": [
            entry("*", "*"),
            entry("openai/*", "openai/*"),
            entry("fast-*", "groq/llama-3.1-8b-instant"),
        ]
    }
    route = {"openai": "openai/*", "fast-2": "fast-*"}.get(asked.partition("/")[0], "*")
    async with serving(data, tmp_path) as served:
        answer = await served.ask(route, asked)
        assert isinstance(answer, Answer), answer
        (row,) = served.attempts()

    (seen,) = everybody.seen
    assert (seen.host, seen.body["model"]) == (host, model)
    assert row["model"] == label
    if label == "other":
        assert json.loads(row["detail"])["gen_ai.request.model"] == "made-up"


@pytest.mark.parametrize("asked", ["groq/x", "ollama/x", "hosted_vllm/x", "bedrock/x", "llama"])
@pytest.mark.parametrize(
    "secret",
    [{"api_key": "sk-openai"}, {"extra_headers": {"X-Key": "sk-openai"}}, {"organization": "o"}],
    ids=["key", "header", "organization"],
)
async def test_a_wildcards_key_is_for_one_company(
    everybody: Everybody, tmp_path: Path, asked: str, secret: dict[str, Any]
) -> None:
    """If callers name the provider, they cannot have the file's key sent elsewhere."""
    data = {"model_list": [entry("*", "*", **secret)]}
    async with serving(data, tmp_path) as served:
        answer = await served.ask("*", asked)

    assert getattr(answer, "status", 0) == 404
    assert everybody.seen == []


@pytest.mark.parametrize("secret", [{"api_key": "k"}, {"extra_headers": {"X-Key": "k"}}])
def test_a_key_for_any_provider_is_refused(secret: dict[str, Any]) -> None:
    """`*/*` lets the caller choose the provider, but never which one gets a key."""
    config = parse_config({"model_list": [entry("*/*", "*/*", **secret)]}, {}, "test")

    with pytest.raises(ConfigError, match=r"lets the caller choose the provider.*as in openai/\*"):
        Plan.from_config(config, {})


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("azure/../../other", "/openai/deployments/..%2F..%2Fother"),
        ("azure/%2e%2e/x", "/openai/deployments/%252e%252e%2Fx"),
        ("azure/..", None),
    ],
)
def test_a_caller_chooses_no_path(model: str, path: str | None) -> None:
    """At Azure the model is part of the address."""
    base = "https://acme.openai.azure.com"
    azure = entry("azure/*", "azure/*", api_key="k", api_base=base, api_version="2024-10-21")
    plan = Plan.from_config(parse_config({"model_list": [azure]}, {}, "test"), {})

    served = [deployment.api_base for deployment in plan.serve("azure/*", model)]

    assert served == ([] if path is None else [base + path])


async def test_a_model_that_no_adapter_serves_is_not_found(
    everybody: Everybody, tmp_path: Path
) -> None:
    """A caller's Claude at Azure needs LiteLLM. If that is not set up, the model is unknown."""
    base = "https://acme.services.ai.azure.com"
    data = {"model_list": [entry("azure_ai/*", "azure_ai/*", api_key="k", api_base=base)]}
    async with serving(data, tmp_path) as served:
        answer = await served.ask("azure_ai/*", "azure_ai/claude-sonnet-4-5")

    assert getattr(answer, "status", 0) == 404
    assert everybody.seen == []


async def test_wildcards_as_fallbacks_and_with_them(everybody: Everybody, tmp_path: Path) -> None:
    """A fallback may name a model that only a wildcard serves; `"*"` is for routes without their
    own."""
    everybody.answers += [("application/json", b"{")] * 2
    data = {
        "model_list": [entry("a", "groq/m"), entry("openai/*", "openai/*")],
        "litellm_settings": {"num_retries": 0, "fallbacks": [{"*": ["openai/gpt-4o-mini"]}]},
    }
    async with serving(data, tmp_path) as served:
        await served.ask("a")

    assert [seen.host for seen in everybody.seen] == ["api.groq.com", "api.openai.com"]


async def test_a_deployment_that_is_off_is_passed_over(
    everybody: Everybody, tmp_path: Path
) -> None:
    """The others of its route serve, then its fallbacks; a route with nothing left says so."""
    data = {
        "model_list": [
            entry("a", "openai/gpt-4o-mini", api_key="os.environ/UNSET"),
            entry("a", "groq/m"),
            entry("b", "anthropic/claude-haiku-4-5"),
            entry("c", "mistral/m"),
        ],
        "router_settings": {"fallbacks": [{"b": ["a"]}]},
    }
    async with serving(data, tmp_path) as served:
        answers = [await served.ask(route) for route in "abc"]
        states = {s.route: s.state for s in served.router.health.snapshot() if s.state == "off"}
        rows = served.attempts()

    assert isinstance(answers[0], Answer)
    assert isinstance(answers[1], Answer)
    assert isinstance(answers[2], ProviderError)
    assert "MISTRAL_API_KEY is not set" in str(answers[2])
    assert [seen.host for seen in everybody.seen] == ["api.groq.com"] * 2
    assert rows[1]["fallback_from"] == "b"
    assert states == {"a": "off", "b": "off", "c": "off"}


async def test_drop_params_leaves_out_what_is_refused(everybody: Everybody, tmp_path: Path) -> None:
    """By model, by provider, by the entry's own list, and on Anthropic's wire."""
    data = {
        "model_list": [
            entry("gpt-5", "openai/gpt-5"),
            entry("groq", "groq/m"),
            entry("claude", "anthropic/claude-haiku-4-5", api_key="k"),
            entry("own", "openai/gpt-4o", drop_params=False, additional_drop_params=["user"]),
        ],
        "litellm_settings": {"drop_params": True},
    }
    fields: dict[str, Any] = {"temperature": 0, "logprobs": True, "n": 2, "user": "u"}
    async with serving(data, tmp_path) as served:
        for route in ("gpt-5", "groq", "claude", "own"):
            assert isinstance(await served.ask(route, **fields), Answer), route

    gpt, groq, claude, own = (seen.body.keys() for seen in everybody.seen)
    assert not gpt & {"temperature", "logprobs"}
    assert "temperature" in groq
    assert "logprobs" not in groq
    assert "n" not in claude
    assert "user" not in own
    assert own >= {"temperature", "logprobs", "n"}
