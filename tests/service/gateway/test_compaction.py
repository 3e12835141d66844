"""Compacting a conversation at the provider: held, charged, and bound to the account that can read it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from spanledger.budgets.model import Budget
from spanledger.config import parse_config
from spanledger.sim.server import sim_in_thread
from tests.service.gateway.endpoints import Site
from tests.service.gateway.test_clients import Running
from tests.support.ledgers import store_at

HELLO: Any = [
    {"role": "user", "content": "Say hello, please."},
    {"role": "assistant", "content": "Hello."},
    {"role": "user", "content": "And now?"},
]
MORE: Any = [{"role": "user", "content": "Go on."}]
TRIGGER: Any = [{"type": "compaction_trigger"}]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One route with two accounts, one for each account alone, and one that only chats."""
    ledger = tmp_path_factory.mktemp("gateway") / "ledger.db"
    records = store_at(ledger).records("create")
    keys = {name: records.create_key(name, "", [], 1)[0] for name in ("poor", "rich", "other")}
    records.set_budgets(
        [
            Budget("poor-daily", "customer", "poor", 1, "day"),
            Budget("rich-daily", "customer", "rich", 10**15, "day"),
        ],
        1,
    )
    records.close()
    with sim_in_thread() as sim:

        def entry(route: str, model: str, account: str, **info: Any) -> dict[str, Any]:
            params = {"model": model, "api_base": f"{sim.url}/v1", "api_key": f"sk-{account}"}
            named = {"id": f"d-{route}-{account}", **info}
            return {"model_name": route, "litellm_params": params, "model_info": named}

        config = parse_config(
            {
                "model_list": [
                    entry("both", "openai/gpt-5-codex", "east"),
                    entry("both", "openai/gpt-5-codex", "west"),
                    entry(
                        "east",
                        "openai/gpt-5-codex",
                        "east",
                    ),
                    entry("west", "openai/gpt-4.1", "west"),
                    entry("chat", "deepseek/deepseek-chat", "east"),
                ],
                "router_settings": {
                    "num_retries": 0,
                    "cooldown_time": 0,
                    "fallbacks": [{"east": ["west"]}],
                },
                "gateway": {"port": 0, "total_timeout_s": 20},
                "ledger": {"url": f"sqlite:///{ledger}"},
            },
            {},
            "test",
        )
        with Running(config) as url:
            yield Site(url, sim.url, ledger, keys)


@pytest.fixture(autouse=True)
def _no_faults(site: Site) -> Iterator[None]:
    yield
    site.fault("")


def items(raw: Any) -> list[Any]:
    """The items of an answer, as a client sends them on."""
    found: list[Any] = raw.http_response.json()["output"]
    return found


def test_a_conversation_is_compacted(site: Site) -> None:
    """What the user said stays, one item stands for the rest, and the ledger has what the provider bills."""
    before = len(site.billed())
    with site.client("rich") as client:
        raw = client.responses.with_raw_response.compact(
            model="both", input=HELLO, instructions="Be short."
        )
    answer = raw.parse()
    assert answer.object == "response.compaction"
    assert [item.type for item in answer.output[-1:]] == ["compaction"]
    assert answer.usage.output_tokens > 0
    (entry,) = site.check(raw.headers["x-request-id"], before)
    assert entry["operation"] == "compact"
    assert entry["usage"]["output_tokens"] == answer.usage.output_tokens
    assert site.rows("operation")[-1] == ("compact",)


def test_what_codex_sends(site: Site) -> None:
    """It names its tools and its reasoning, so that the beginning of the prompt is in the cache."""
    tool = {"type": "function", "name": "shell", "parameters": {"type": "object"}, "strict": False}
    body = {
        "model": "both",
        "input": HELLO,
        "instructions": "You are Codex.",
        "tools": [tool],
        "parallel_tool_calls": True,
        "reasoning": {"effort": "medium", "summary": "auto"},
        "prompt_cache_key": "0199",
        "text": {"verbosity": "low"},
    }
    with site.client("rich") as client:
        answer: Any = client.post("/responses/compact", body=body, cast_to=object)
    assert answer["output"][-1]["type"] == "compaction"


@pytest.mark.parametrize("way", ["compact", "trigger", "stream"])
def test_the_account_that_made_it_goes_on(site: Site, way: str) -> None:
    """However often: with another account's key, the provider could not read it."""
    for _ in range(6):
        with site.client("rich") as client:
            if way == "compact":
                raw: Any = client.responses.with_raw_response.compact(model="both", input=HELLO)
                made = items(raw)
                account = raw.headers["x-spanledger-deployment"]
            elif way == "trigger":
                raw = client.responses.with_raw_response.create(model="both", input=HELLO + TRIGGER)
                made, account = items(raw), raw.headers["x-spanledger-deployment"]
            else:
                with client.responses.stream(model="both", input=HELLO + TRIGGER) as events:
                    account = events._raw_stream.response.headers["x-spanledger-deployment"]
                    done = [e.item for e in events if e.type == "response.output_item.done"]
                    last = events.get_final_response()
                made = [item.to_dict() for item in last.output]
                assert [item.to_dict() for item in done] == made
            for _ in range(2):
                raw = client.responses.with_raw_response.create(model="both", input=made + MORE)
                assert raw.headers["x-spanledger-deployment"] == account
            raw = client.responses.with_raw_response.compact(model="both", input=made + MORE)
            assert raw.headers["x-spanledger-deployment"] == account
            count = client.responses.input_tokens.count(model="both", input=made + MORE)
            assert count.input_tokens > 0


def test_no_fallback_loses_what_was_compacted(site: Site) -> None:
    """A failing provider's error is the answer, and a route of another account says what to do."""
    with site.client("rich", max_retries=0) as client:
        made = items(client.responses.with_raw_response.compact(model="east", input=HELLO))
        site.fault("503", model="gpt-5-codex")
        with pytest.raises(openai.InternalServerError) as failed:
            client.responses.create(model="east", input=made + MORE)
        site.fault("")
        with pytest.raises(openai.BadRequestError, match="send the items") as refused:
            client.responses.create(model="west", input=made + MORE)
    assert failed.value.response.headers["x-spanledger-attempts"] == "1"
    assert refused.value.code == "compaction_not_here"


def test_a_fallback_compacts(site: Site) -> None:
    """What nothing binds can be compacted by any account."""
    site.fault("503", model="gpt-5-codex")
    with site.client("rich") as client:
        raw = client.responses.with_raw_response.compact(model="east", input=HELLO)
    assert raw.headers["x-spanledger-attempts"] == "2"


def test_an_earlier_answer_is_compacted_where_it_is(site: Site) -> None:
    """Its account alone knows it."""
    with site.client("rich") as client:
        for _ in range(4):
            first = client.responses.with_raw_response.create(model="both", input=HELLO)
            raw = client.responses.with_raw_response.compact(
                model="both", previous_response_id=first.parse().id
            )
            account = first.headers["x-spanledger-deployment"]
            assert raw.headers["x-spanledger-deployment"] == account


def test_a_model_that_compacts_nothing(site: Site) -> None:
    """The error names where the model can be called."""
    with site.client("rich") as client, pytest.raises(openai.BadRequestError) as caught:
        client.responses.compact(model="chat", input=HELLO)
    assert caught.value.code == "unsupported_endpoint"
    assert "/v1/responses" in caught.value.message


@pytest.mark.parametrize("field", ["stream", "background"])
def test_it_is_answered_whole_and_at_once(site: Site, field: str) -> None:
    """Any other way is refused before anything is held."""
    with site.client("rich") as client, pytest.raises(openai.BadRequestError, match=field):
        client.post(
            "/responses/compact",
            body={"model": "both", "input": HELLO, field: True},
            cast_to=object,
        )


def test_a_budget_refuses(site: Site) -> None:
    """Nothing bounds the answer but the model's limit, so that much must be left."""
    before = len(site.billed())
    with site.client("poor", max_retries=0) as client, pytest.raises(openai.RateLimitError):
        client.responses.compact(model="both", input=HELLO)
    assert len(site.billed()) == before


def test_a_mark_in_a_text_is_a_text(site: Site) -> None:
    """What a user writes is sent as it is, whatever it looks like."""
    said = json.dumps({"encrypted_content": f"spanledger_{'0' * 24}_x"})
    with site.client("rich") as client:
        message: Any = [{"role": "user", "content": said}]
        raw = client.responses.with_raw_response.compact(model="both", input=message)
    assert items(raw)[0]["content"] == said
