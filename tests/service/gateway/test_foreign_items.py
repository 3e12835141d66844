"""A conversation that moves between accounts, with the items that clients send back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from spanledger.budgets.model import Budget
from spanledger.config import Config, parse_config
from spanledger.sim.server import sim_in_thread
from tests.service.gateway.test_clients import Running
from tests.service.gateway.test_messages import board
from tests.service.gateway.test_responses import HELLO, WEATHER, ResponsesSite
from tests.support.ledgers import store_at

ASK = "What is the weather in Lima? Use get_weather."
CHANGED = "x-spanledger-changed"


def configuration(sim_url: str, ledger: Path) -> Config:
    """Two accounts with a model that reasons."""

    def entry(route: str, model: str, key: str) -> dict[str, Any]:
        params = {"model": model, "api_base": f"{sim_url}/v1", "api_key": key}
        return {"model_name": route, "litellm_params": params, "model_info": {"id": f"d-{route}"}}

    return parse_config(
        {
            "model_list": [
                entry("first", "openai/gpt-5-mini", "sk-sim"),
                entry("second", "openai/gpt-5", "sk-other"),
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
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ResponsesSite]:
    """A gateway with a customer who has a blocking budget."""
    ledger = tmp_path_factory.mktemp("gateway") / "ledger.db"
    records = store_at(ledger).records("create")
    keys = {"rich": records.create_key("rich", "", [], 1)[0]}
    records.set_budgets([Budget("rich-daily", "customer", "rich", 50_000_000_000, "day")], 1)
    records.close()
    with sim_in_thread() as sim, Running(configuration(sim.url, ledger)) as url:
        yield ResponsesSite(url, sim.url, ledger, keys)


def turns(site: ResponsesSite, **more: Any) -> list[Any]:
    """A turn of the second account, which took over, with a call and its result."""
    board(site, "503", model="gpt-5-mini")
    try:
        with site.client() as client:
            raw = client.responses.with_raw_response.create(
                model="first", input=ASK, tools=[WEATHER], **more
            )
    finally:
        board(site)
    assert raw.headers["x-spanledger-deployment"] == "d-second"
    output = [item.to_dict() for item in raw.parse().output]
    (call,) = (item for item in output if item["type"] == "function_call")
    result = {"type": "function_call_output", "call_id": call["call_id"], "output": "Sunny."}
    assert any(item["type"] == "reasoning" for item in output)
    return [{"role": "user", "content": ASK}, *output, result]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "more",
    [{}, {"store": False, "include": ["reasoning.encrypted_content"]}],
    ids=["kept", "encrypted"],
)
def test_reasoning_of_another_account(
    site: ResponsesSite, more: dict[str, Any], *, stream: bool
) -> None:
    """After a fallback, the first account goes on without the other's reasoning, and the caller is told."""
    given = turns(site, **more)
    before = len(site.billed())
    with site.client() as client:
        raw = client.responses.with_raw_response.create(
            model="first", input=given, tools=[WEATHER], stream=stream, **more
        )
        answer: Any = raw.parse()
        if stream:
            answer = list(answer)[-1].response

    assert answer.output_text
    assert raw.headers["x-spanledger-deployment"] == "d-first"
    assert raw.headers["x-spanledger-attempts"] == "1"
    assert raw.headers[CHANGED] == "input"
    site.check(raw.headers["x-request-id"], before)


def test_reasoning_of_the_same_account(site: ResponsesSite) -> None:
    """It is sent as it is."""
    with site.client() as client:
        first = client.responses.create(model="first", input=ASK, tools=[WEATHER])
        (call,) = (item for item in first.output if item.type == "function_call")
        result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "Sunny."}
        said: Any = [{"role": "user", "content": ASK}, *first.output, result]
        raw = client.responses.with_raw_response.create(model="first", input=said, tools=[WEATHER])
    assert raw.parse().output_text
    assert CHANGED not in raw.headers


def test_references_to_reasoning_are_left_out(site: ResponsesSite) -> None:
    """Where the rest of the turn is in the request, nothing that was said is lost."""
    given: Any = [
        {"type": "item_reference", "id": item["id"]} if item.get("type") == "reasoning" else item
        for item in turns(site)
    ]
    with site.client() as client:
        raw = client.responses.with_raw_response.create(model="first", input=given, tools=[WEATHER])
    assert raw.parse().output_text
    assert raw.headers[CHANGED] == "input"


def test_a_reference_to_what_was_said_is_refused(site: ResponsesSite) -> None:
    """With what to send instead: without it, the model would answer something else."""
    given: Any = [
        {"type": "item_reference", "id": item["id"]}
        if item.get("type") == "function_call"
        else item
        for item in turns(site)
        if item.get("type") != "reasoning"
    ]
    with site.client() as client, pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model="first", input=given, tools=[WEATHER])
    assert caught.value.code == "item_not_here"
    assert "store: false" in str(caught.value)
    with site.client() as client:
        assert client.responses.create(model="first", input=HELLO).output_text
