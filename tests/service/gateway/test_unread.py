"""Batches and answers in the background that nobody reads: a gateway reads them itself, once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
import sqlite3
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import openai
import pytest

from spanledger.budgets.model import Budget
from spanledger.clock import Clock
from spanledger.config import parse_config
from spanledger.errors import LedgerUnavailableError
from spanledger.ledger import group
from spanledger.ledger.ports import Lock
from spanledger.routing.attempt import LATE_ANSWER_S
from spanledger.routing.unread import FIRST_S
from spanledger.sim.host import RunningSim
from spanledger.sim.server import sim_in_thread
from tests.service.gateway.batch_calls import chat, jsonl, upload
from tests.service.gateway.endpoints import Site
from tests.service.gateway.harness import PATIENCE_S, wait_for
from tests.service.gateway.test_clients import Running
from tests.service.ledger.stores import KINDS, new_store, raw
from tests.support.ledgers import store_at

HOUR = 3_600.0
DAY = 24 * HOUR
ADDRESS = "http://127.0.0.1:9"
"""Where nobody listens."""


@dataclass
class Time:
    """A clock that can be set forward; `sleeps` says how long every wait of it takes."""

    ahead_s: float = 0.0
    sleeps: Callable[[float], Coroutine[Any, Any, None]] = asyncio.sleep

    def clock(self, seed: int = 1) -> Clock:
        """This time in the form that the code under test gets."""
        return Clock(
            lambda: time.time_ns() + int(self.ahead_s * 1e9),
            lambda: time.monotonic() + self.ahead_s,
            self.sleeps,
            random.Random(seed),
        )


@dataclass
class Open:
    """A running gateway whose reader a test calls itself."""

    running: Running
    time: Time
    site: Site

    def look(self) -> int:
        """What the gateway charges when it looks now."""
        loop, built = self.running.loop, self.running.built
        assert loop is not None
        assert built is not None
        future = asyncio.run_coroutine_threadsafe(built.router.unread.look(), loop)
        return future.result(PATIENCE_S)

    def later(self, seconds: float) -> int:
        """What it charges after this time, when whatever is due by then has been asked for."""
        self.look()  # it may see something for the first time, and spreads what it sees
        self.time.ahead_s += seconds
        return self.look()

    def client(self) -> openai.OpenAI:
        """The real client of a customer with a blocking budget."""
        return self.site.client("rich", max_retries=0)


@dataclass
class Place:
    """A simulator, and gateways at it that share a ledger."""

    sim: RunningSim
    ledger: Path
    key: str
    stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def open(self, time: Time | None = None, **params: Any) -> Open:
        """Another gateway; `params` changes its only deployment."""
        time = time or Time()
        running = Running(configuration(self.sim.url, self.ledger, **params), time.clock())
        url = self.stack.enter_context(running)
        return Open(running, time, Site(url, self.sim.url, self.ledger, {"rich": self.key}))

    def attempt(self, request_id: str) -> dict[str, Any]:
        """An attempt's row."""
        with contextlib.closing(sqlite3.connect(self.ledger)) as connection:
            connection.row_factory = sqlite3.Row
            query = "SELECT * FROM attempts WHERE request_id = ?"
            (found,) = connection.execute(query, (request_id,)).fetchall()
            return dict(found)

    def kept(self) -> list[str]:
        """The kinds of what is kept."""
        with contextlib.closing(sqlite3.connect(self.ledger)) as connection:
            return [kind for (kind,) in connection.execute("SELECT kind FROM kept")]


def configuration(sim_url: str, ledger: Path, **params: Any) -> Any:
    """One deployment at the simulator."""
    unique, route = params.pop("id", "d-gpt"), params.pop("route", "gpt")
    ledger_url = params.pop("ledger_url", f"sqlite:///{ledger}")
    told = {"model": "openai/gpt-4o-mini", "api_base": f"{sim_url}/v1", "api_key": "sk-sim"}
    return parse_config(
        {
            "model_list": [
                {
                    "model_name": route,
                    "litellm_params": {**told, **params},
                    "model_info": {"id": unique},
                }
            ],
            "router_settings": {"num_retries": 0, "cooldown_time": 0},
            "gateway": {"port": 0, "total_timeout_s": 20},
            "ledger": {"url": ledger_url, "lease_s": 1},
        },
        {},
        "test",
    )


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A simulator without gateways; at the end the ledger adds up."""
    # A clock that is set forward during a commit makes it look as if the disk had stalled.
    monkeypatch.setattr(group, "STALL_S", 10 * DAY)
    ledger = tmp_path / "ledger.db"
    records = store_at(ledger).records("create")
    key, _ = records.create_key("rich", "", [], 1)
    records.set_budgets([Budget("rich", "customer", "rich", 10**13, "month")], 1)
    records.close()
    with sim_in_thread() as sim:
        found = Place(sim, ledger, key)
        with found.stack:
            yield found
    reports = store_at(ledger).reports()
    assert reports.verify().problems == []
    reports.close()


def answered(gateway: Open, **more: Any) -> tuple[str, str]:
    """An answer in the background: the ids of its request and of the answer."""
    with gateway.client() as client:
        raw = client.responses.with_raw_response.create(
            model="gpt", input="Hello", background=True, max_output_tokens=400, **more
        )
        return raw.headers["x-request-id"], raw.parse().id


def batched(gateway: Open, **more: Any) -> tuple[str, str]:
    """A batch: the ids of its request and of the batch."""
    with gateway.client() as client:
        file = upload(client, jsonl(chat("one"), chat("two"), model="gpt"))
        raw = client.batches.with_raw_response.create(
            input_file_id=file.id,
            endpoint="/v1/chat/completions",
            completion_window="24h",
            **more,
        )
        return raw.headers["x-request-id"], raw.parse().id


def bill(place: Place) -> int:
    """What the provider has charged."""
    return place.sim.state.bill.total.nano


@pytest.mark.parametrize("make", [answered, batched])
def test_it_is_read_and_charged(place: Place, make: Callable[[Open], tuple[str, str]]) -> None:
    """Soon after a result is there, it costs what the provider bills, and the row names it."""
    gateway = place.open()
    request_id, handed = make(gateway)
    wait_for(lambda: bill(place) > 0)

    assert gateway.look() == 0
    assert place.attempt(request_id)["state"] == "held"
    assert gateway.later(FIRST_S["batch"] + 120) == 1

    found = place.attempt(request_id)
    assert (found["state"], found["cost_nano"], found["estimated"]) == ("settled", bill(place), 0)
    detail = json.loads(found["detail"])
    assert detail["gen_ai.response.id"] == handed.split("_", 2)[2]
    assert "answer" not in place.kept()
    assert gateway.later(HOUR) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_on_every_kind_of_ledger(place: Place, kind: str, tmp_path: Path) -> None:
    """Also in the other databases results are found, charged once and forgotten, and one of two gateways
    has the lock."""
    store = new_store(kind, tmp_path / "of-its-own")
    with store.records("create") as records:
        place.key, _ = records.create_key("rich", "", [], 1)
        records.set_budgets([Budget("rich", "customer", "rich", 10**13, "month")], 1)
    time = Time()
    gateways = [place.open(time, ledger_url=store.url) for _ in range(2)]
    made = [answered(gateways[0])[0], batched(gateways[0])[0]]
    wait_for(lambda: len(place.sim.state.bill.entries) == 2)
    for gateway in gateways:
        gateway.look()
    time.ahead_s += HOUR
    assert sum(gateway.look() for gateway in gateways) == 2
    assert sum(gateway.look() for gateway in gateways) == 0
    query = "SELECT state, estimated, cost_nano FROM attempts WHERE request_id IN (?, ?)"
    found = raw(store, query, *made)
    assert [row[:2] for row in found] == [("settled", 0)] * 2
    assert sum(row[2] for row in found) == bill(place)
    locks = [store.exclusive("unread") for _ in range(2)]
    assert [lock.acquire() for lock in locks] == [True, False]
    for lock in locks:
        lock.close()
    with contextlib.closing(store.reports()) as reports:
        assert reports.verify().problems == []


def test_what_the_provider_said_stays_on_the_row(place: Place) -> None:
    """An answer that was charged late has the request's attributes, the provider's id of the request,
    and why it ended, as if it had been waited for."""
    gateway = place.open()
    request_id, _ = answered(gateway, temperature=0.5)
    wait_for(lambda: bill(place) > 0)
    gateway.later(HOUR)
    detail = json.loads(place.attempt(request_id)["detail"])
    assert detail["gen_ai.request.temperature"] == 0.5
    assert detail["spanledger.provider.request.id"].startswith("req_")
    assert detail["gen_ai.response.finish_reasons"] == ["stop"]
    assert detail["server.address"] == "127.0.0.1"


def test_what_expires_has_its_ids_as_well(place: Place) -> None:
    """The estimate of an answer that was never seen names the answer."""
    gateway = place.open()
    request_id, handed = answered(gateway)
    gateway.time.ahead_s += LATE_ANSWER_S + 60
    wait_for(lambda: place.attempt(request_id)["state"] == "expired")
    detail = json.loads(place.attempt(request_id)["detail"])
    assert detail["gen_ai.response.id"] == handed.split("_", 2)[2]


def test_what_is_not_there_yet_is_asked_for_again(place: Place) -> None:
    """An answer in progress stays held, and is charged once it is complete."""
    place.sim.state.speed = 1.0
    gateway = place.open()
    request_id, _ = answered(gateway, metadata={"sim": "slow:1000"})
    assert gateway.later(HOUR) == 0
    assert place.attempt(request_id)["state"] == "held"
    batch_id, _ = batched(gateway, metadata={"sim": "stall"})
    assert gateway.later(HOUR) == 0
    assert place.attempt(batch_id)["state"] == "held"


def test_an_estimate_is_corrected(place: Place) -> None:
    """Where no gateway ran until the hold had expired, the next one replaces the estimate."""
    gateway = place.open()
    request_id, _ = answered(gateway)
    wait_for(lambda: bill(place) > 0)
    gateway.time.ahead_s += DAY + HOUR
    wait_for(lambda: place.attempt(request_id)["state"] == "expired")
    assert gateway.later(HOUR) == 1
    found = place.attempt(request_id)
    assert (found["cost_nano"], found["corrected"], found["estimated"]) == (bill(place), 1, 0)


def test_a_failure_leaves_the_hold(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """While the provider cannot be reached the hold stays as it was; later it is asked again, first
    by the gateway that can."""
    caplog.set_level(logging.INFO, "spanledger.routing.unread")
    time = Time()
    request_id, _ = answered(place.open(time))
    wait_for(lambda: bill(place) > 0)
    deaf = place.open(time, api_base=ADDRESS)
    assert deaf.later(HOUR) == 0
    assert place.attempt(request_id)["state"] == "held"
    assert deaf.look() == 0
    assert sum("could not be read" in record.message for record in caplog.records) == 1
    assert place.open(time).later(HOUR) == 1


@pytest.mark.parametrize("make", [answered, batched])
def test_what_is_gone_is_left_to_the_estimate(
    place: Place, make: Callable[[Open], tuple[str, str]], caplog: pytest.LogCaptureFixture
) -> None:
    """A provider that does not have a result is asked once; when the hold expires, what was expected is
    charged."""
    caplog.set_level(logging.INFO, "spanledger.routing.unread")
    gateway = place.open()
    request_id, _ = make(gateway)
    with sim_in_thread(seed=2) as other:
        stranger = place.open(gateway.time, api_base=f"{other.url}/v1")
        for _ in range(3):
            assert stranger.later(HOUR) == 0
    assert sum("not at its provider" in record.message for record in caplog.records) == 1
    expected = place.attempt(request_id)["expected_nano"]
    stranger.time.ahead_s += 2 * DAY
    wait_for(lambda: place.attempt(request_id)["state"] == "expired")
    assert place.attempt(request_id)["cost_nano"] == expected > 0


def test_a_deployment_that_is_not_there_any_more(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    """A gateway without it cannot ask: its caller is answered so, the log says so once with its name, and
    the hold stays."""
    time = Time()
    request_id, handed = answered(place.open(time))
    other = place.open(time, id="d-other")
    for _ in range(3):
        assert other.later(HOUR) == 0
    with other.client() as client, pytest.raises(openai.NotFoundError, match="of this gateway"):
        client.responses.retrieve(handed)
    assert sum("'d-gpt', which is not in" in record.message for record in caplog.records) == 1
    assert place.attempt(request_id)["state"] == "held"


def test_two_gateways_charge_once(place: Place) -> None:
    """Two that look at the same moment, and a caller that reads, charge a result once."""
    time = Time()
    first, second = place.open(time), place.open(time)
    request_id, handed = answered(first)
    wait_for(lambda: bill(place) > 0)
    for gateway in (first, second):
        gateway.look()
    time.ahead_s += HOUR
    with first.client() as client:
        futures = [
            asyncio.run_coroutine_threadsafe(g.running.built.router.unread.look(), g.running.loop)  # type: ignore[union-attr,arg-type]  # both run
            for g in (first, second)
        ]
        client.responses.retrieve(handed)
        for future in futures:
            future.result(PATIENCE_S)
    found = place.attempt(request_id)
    assert (found["state"], found["cost_nano"], found["corrected"]) == ("settled", bill(place), 0)


def test_one_gateway_of_a_ledger_reads(place: Place) -> None:
    """While a gateway reads, no other of its ledger does; when it stops, the next one may."""
    waited: list[float] = []

    async def soon(seconds: float) -> None:
        waited.append(seconds)
        await asyncio.sleep(0.01)

    def reads() -> bool:
        return sum(20 < seconds < 40 for seconds in waited) > 1  # others wait by this clock as well

    time = Time(sleeps=soon)
    gateway = place.open(time)
    other = store_at(place.ledger).exclusive("unread")
    wait_for(reads)
    assert not other.acquire()
    request_id, _ = answered(gateway)
    wait_for(lambda: bill(place) > 0)

    def settled() -> bool:
        time.ahead_s += 60
        return bool(place.attempt(request_id)["state"] == "settled")

    wait_for(settled)
    place.stack.close()
    assert other.acquire()
    other.close()


def test_a_lock_that_cannot_be_had(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """While the ledger has no lock to give, nothing is read; that is logged once, and a new one is tried
    each time until there is one."""

    async def soon(_: float) -> None:
        await asyncio.sleep(0.01)

    gateway, store, tried = place.open(Time(sleeps=soon)), store_at(place.ledger), []

    def exclusive() -> Lock:
        tried.append(1)
        if len(tried) < 5:
            raise LedgerUnavailableError("it is behind a pooler")
        return store.exclusive("another")

    loop, built = gateway.running.loop, gateway.running.built
    assert loop is not None
    assert built is not None
    running = asyncio.run_coroutine_threadsafe(built.router.unread.run(exclusive), loop)

    def is_free() -> bool:
        with contextlib.closing(store.exclusive("another")) as lock:
            return lock.acquire()

    wait_for(lambda: len(tried) == 5)
    wait_for(lambda: not is_free())
    assert sum("behind a pooler" in record.message for record in caplog.records) == 1
    running.cancel()
    wait_for(is_free)
    assert len(tried) == 5
