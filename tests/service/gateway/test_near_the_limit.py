"""Budgets near their limit at a real gateway: other routes in every wire, and requests that wait."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx
import openai
import pytest

from spanledger.budgets.model import Budget, HoldSizes
from spanledger.clock import Clock
from spanledger.config import parse_config
from spanledger.ledger.model import AttemptEnd, RequestEnd, RequestStart, Reservation
from spanledger.sim.server import sim_in_thread
from tests.service.gateway.endpoints import Site
from tests.service.gateway.every_client import CAP, HELLO, PATIENCE_S
from tests.service.gateway.harness import wait_for
from tests.service.gateway.test_clients import Running
from tests.service.gateway.test_every_wire import MINI, WAYS, Way, entry, forms
from tests.support.ledgers import store_at

USD = 10**9
SPENT = USD // 2
CUSTOMERS = ("saving", "slow", "lenient", "lost")
MOVED = ("chat", "responses", "generate", "messages")
"""Wires whose requests another route may serve; all that are asked here, of whatever deployment."""


def kind_of(way: Way) -> str:
    return way.ask.__name__


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Customers who have spent half of a dollar, and what their budgets do then."""
    ledger = tmp_path_factory.mktemp("gateway") / "ledger.db"
    store = store_at(ledger)
    clock = Clock()
    with store.records("create") as records:
        keys = {name: records.create_key(name, "", [], 1)[0] for name in CUSTOMERS}
        records.set_budgets(
            [
                Budget("cheap", "customer", "saving", USD, "year", action="degrade",
                       degrade_to="cheap", degrade_at=50),
                Budget("gone", "customer", "lost", USD, "year", degrade_to="nowhere", degrade_at=50),
                Budget("pace", "customer", "slow", USD, "year", action="throttle", throttle_to=2,
                       throttle_at=50),
                Budget("late", "customer", "lenient", SPENT, "year", action="grace", grace_nano=USD),
            ],
            clock.now_ns(),
        )  # fmt: skip
    writer = store.writer("before", 10**9, clock.now_ns)
    for number, customer in enumerate(CUSTOMERS):
        spend(writer, customer, number, clock.now_ns())
    writer.close()
    with sim_in_thread() as sim:
        entries = [entry(way.name, way.model, sim.url, way.serves) for way in WAYS]
        config = parse_config(
            {
                "model_list": [*entries, entry("cheap", MINI, sim.url)],
                "router_settings": {"num_retries": 0, "cooldown_time": 0},
                "gateway": {"port": 0, "total_timeout_s": 20, "budget_exceeded_status": 402},
                "ledger": {"url": f"sqlite:///{ledger}"},
            },
            {},
            "test",
        )
        with Running(config) as url:
            yield Site(url, sim.url, ledger, keys)


def spend(writer: Any, customer: str, number: int, now_ns: int) -> None:
    """Half a dollar, from an attempt of its own."""
    start = RequestStart(
        f"req_{number:024x}", "0" * 32, f"{number + 1:016x}", "", now_ns, customer, "", "", "chat",
        "chat", False,
    )  # fmt: skip
    sizes = HoldSizes(SPENT, SPENT, SPENT, capped=True)
    asked = Reservation(
        start, 1, f"{number + 99:016x}", now_ns, "d", "openai", "m", sizes, True, "p"
    )
    writer.commit([asked])
    end = AttemptEnd(asked.attempt_id, now_ns, SPENT, request=RequestEnd("ok", "", 200, now_ns))
    writer.commit([end])


def newest(site: Site) -> dict[str, Any]:
    """The last attempt's row, once it has ended."""
    wait_for(lambda: site.rows("ended_ns")[-1][0] is not None)
    with contextlib.closing(sqlite3.connect(site.ledger)) as connection:
        connection.row_factory = sqlite3.Row
        query = "SELECT * FROM attempts WHERE request_id = ? ORDER BY number DESC LIMIT 1"
        return dict(connection.execute(query, (site.last_request(),)).fetchone())


@pytest.mark.parametrize(("way", "stream"), forms(w for w in WAYS if kind_of(w) in MOVED))
def test_a_request_near_the_limit_gets_the_cheaper_route(
    site: Site, way: Way, stream: bool
) -> None:
    """Whatever the wire and whatever serves its route, whole or streamed, the budget's route answers, and
    the row says why."""
    before, pieces = len(site.billed()), list[str]()

    assert way.ask(site, "saving", way.name, stream, pieces.append, PATIENCE_S) == way.end

    assert "".join(pieces)
    row = newest(site)
    assert [billed["model"] for billed in site.billed()[before:]] == ["gpt-4o-mini"]
    assert (row["number"], row["deployment"], row["decision"]) == (1, "d-cheap", "degrade")
    assert (row["fallback_from"], row["reason"]) == (way.name, "budget_degraded")
    assert json.loads(row["detail"])["spanledger.budget.degraded_by"] == "cheap"


@pytest.mark.parametrize(("way", "stream"), forms(w for w in WAYS if kind_of(w) not in MOVED))
def test_what_cannot_move_stays(site: Site, way: Way, stream: bool) -> None:
    """Vectors, images, audio and the like of another model are another thing, and a wire that the route
    does not speak cannot go there: such requests are served as asked."""
    assert way.ask(site, "saving", way.name, stream, lambda _: None, PATIENCE_S) == way.end

    row = newest(site)
    assert (row["deployment"], row["fallback_from"]) == (f"d-{way.name}", "")


def test_a_route_that_is_not_there_moves_nobody(site: Site) -> None:
    """A budget may name a route that this gateway does not have: requests are served as asked."""
    answer = asked(site, "lost", "chat")

    assert answer.status_code == 200
    assert "x-spanledger-degraded" not in answer.headers
    assert newest(site)["deployment"] == "d-chat"


@pytest.mark.parametrize("stream", [False, True])
def test_the_caller_is_told_of_the_budget(site: Site, stream: bool) -> None:
    """A header names the budget that sent the request elsewhere; who asks for that route is not moved."""
    assert asked(site, "saving", "chat", stream=stream).headers["x-spanledger-degraded"] == "cheap"
    assert "x-spanledger-degraded" not in asked(site, "saving", "cheap", stream=stream).headers


def test_a_continued_answer_stays_where_it_is(site: Site) -> None:
    """An answer that continues one kept at an account is served there, also near the limit."""
    with site.client("lenient") as client:
        first = client.responses.create(model="responses", input="Say hello.")
    with contextlib.closing(sqlite3.connect(site.ledger)) as connection, connection:
        # As if the same customer's budget had come near its limit since.
        connection.execute("UPDATE attempts SET customer = 'saving' WHERE customer = 'lenient'")
        connection.execute("UPDATE requests SET customer = 'saving' WHERE customer = 'lenient'")
    with site.client("saving") as client:
        client.responses.create(
            model="responses", input="And again.", previous_response_id=first.id
        )

    assert newest(site)["deployment"] == "d-responses"


def test_grace_is_marked(site: Site) -> None:
    """Beyond the limit but within its grace, a budget marks requests and serves them."""
    assert asked(site, "lenient", "chat").status_code == 200
    assert newest(site)["decision"] == "warn"


def test_a_throttle_lets_so_many_through_and_says_when_to_come_back(site: Site) -> None:
    """Two requests a minute are served; the third gets 429, also where refusals have another status, in
    the shape of its wire, and with the time after which it may be sent again."""
    assert [asked(site, "slow", "chat").status_code for _ in range(2)] == [200, 200]

    refused = asked(site, "slow", "chat")
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert refused.headers["x-should-retry"] == "true"
    error = refused.json()["error"]
    assert (error["type"], error["code"]) == ("rate_limit_error", "budget_throttled")
    with (
        anthropic.Anthropic(base_url=site.url, api_key=site.keys["slow"], max_retries=0) as client,
        pytest.raises(anthropic.RateLimitError) as limited,
    ):
        client.messages.create(model="messages", messages=HELLO, max_tokens=CAP)
    body: Any = limited.value.body
    assert body["error"]["type"] == "rate_limit_error"
    with site.client("slow", max_retries=0) as client, pytest.raises(openai.RateLimitError):
        client.responses.create(model="responses", input="Hi")
    wait_for(lambda: site.rows("outcome")[-1][0] is not None)
    assert site.rows("outcome, refused_by, error_type, http_status")[-1] == (
        "refused", "pace", "budget_throttled", 429,
    )  # fmt: skip


def asked(site: Site, customer: str, route: str, *, stream: bool = False) -> httpx.Response:
    """A request of chat completions, without a client that would hide its headers."""
    return httpx.post(
        f"{site.url}/v1/chat/completions",
        json={"model": route, "messages": HELLO, "max_completion_tokens": CAP, "stream": stream},
        headers={"authorization": f"Bearer {site.keys[customer]}"},
        timeout=PATIENCE_S,
    )
