"""Rates in a whole gateway with real clients: refusals, headers, and requests that end in any way."""

from __future__ import annotations

import json
import re
import sqlite3
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from spanledger.rates.model import Rate, RateLimits
from spanledger.sim.server import sim_in_thread
from tests.service.gateway.harness import wait_for
from tests.service.gateway.test_clients import HELLO, Running, configuration, fault
from tests.support.ledgers import store_at

RATES = {
    "requests": RateLimits(requests=2),
    "tokens": RateLimits(tokens=2_000),
    "uncapped": RateLimits(tokens=10_000),
    "dollars": RateLimits(nano=1),
    "single": RateLimits(in_flight=1),
    "roomy": RateLimits(requests=1_000, tokens=100_000_000, in_flight=100),
    "claude": RateLimits(requests=1, tokens=100_000_000),
}
FAULTS = {"client gone": "stall:3", "cut": "cut:3", "failed": "context_window"}


@dataclass
class Rated:
    """A gateway whose customers have rates."""

    url: str
    ledger: Path
    keys: dict[str, str]

    def client(self, customer: str) -> openai.OpenAI:
        """OpenAI's client, which makes one attempt."""
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=self.keys[customer], max_retries=0)

    def chat(self, customer: str, **more: Any) -> Any:
        """A whole answer with its headers."""
        with self.client(customer) as client:
            return client.chat.completions.with_raw_response.create(
                model="chat", messages=HELLO, **{"max_tokens": 30, **more}
            )

    def rows(self, columns: str, customer: str) -> list[tuple[Any, ...]]:
        """Requests of a customer in the ledger."""
        query = f"SELECT {columns} FROM requests WHERE customer = ? ORDER BY started_ns"
        with closing(sqlite3.connect(self.ledger)) as connection:
            return connection.execute(query, (customer,)).fetchall()

    def metrics(self) -> str:
        """What Prometheus scrapes."""
        with urllib.request.urlopen(f"{self.url}/metrics") as answer:
            return str(answer.read(), "utf-8")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rated]:
    """One for the module; each test has a customer of its own."""
    ledger = tmp_path_factory.mktemp("rates") / "ledger.db"
    with store_at(ledger).records("create") as records:
        keys = {name: records.create_key(name, "", [], 1)[0] for name in (*RATES, "free")}
    rows = store_at(ledger).rates("create")
    for name, limits in RATES.items():
        rows.set_rate(Rate(f"{name}-rate", "customer", name, limits))
    rows.close()
    with sim_in_thread() as sim, Running(configuration(sim.url, ledger)) as url:
        yield Rated(url, ledger, keys)


def test_what_is_left_is_in_openais_headers(gateway: Rated) -> None:
    """RateLimits, what remains, and when all of it is free."""
    first, second = gateway.chat("roomy").headers, gateway.chat("roomy").headers

    assert first["x-ratelimit-limit-requests"] == "1000"
    assert first["x-ratelimit-limit-tokens"] == "100000000"
    assert first["x-ratelimit-remaining-requests"] == "999"
    assert second["x-ratelimit-remaining-requests"] == "998"
    assert int(second["x-ratelimit-remaining-tokens"]) < 100_000_000
    for what in ("requests", "tokens"):
        reset = second[f"x-ratelimit-reset-{what}"]
        assert re.fullmatch(r"(1m)?\d{1,2}(\.\d{1,3})?s", reset)


def test_the_same_on_a_stream(gateway: Rated) -> None:
    """They come with its beginning."""
    with gateway.client("roomy") as client:
        raw = client.chat.completions.with_raw_response.create(
            model="chat", messages=HELLO, max_tokens=5, stream=True
        )
        list(raw.parse())

    assert raw.headers["x-ratelimit-limit-requests"] == "1000"


def test_no_rate_no_headers(gateway: Rated) -> None:
    """A customer without a rate sees nothing of it."""
    assert not [name for name in gateway.chat("free").headers if "ratelimit" in name]


def test_a_refusal_on_openais_wire(gateway: Rated) -> None:
    """429 in OpenAI's form, with when to come back, in the ledger and in the metrics."""
    began = time.monotonic()
    gateway.chat("requests")
    gateway.chat("requests")

    with pytest.raises(openai.RateLimitError) as caught:
        gateway.chat("requests")

    error, headers = caught.value, caught.value.response.headers
    assert error.code == "rate_limit_exceeded"
    assert error.type == "rate_limit_error"
    wait = int(headers["retry-after"])
    assert 60 - (time.monotonic() - began) <= wait <= 62
    assert f"retry after {wait} s" in error.message
    body = error.body
    assert isinstance(body, dict)
    assert (body["rate"], body["measure"], body["limit"]) == ("requests-rate", "requests", 2)
    assert headers["x-should-retry"] == "true"
    assert headers.get_list("x-ratelimit-remaining-requests") == ["0"]
    rows = gateway.rows("outcome, error_type, refused_by, refused_scope, http_status", "requests")
    assert rows[-1] == ("refused", "rate_limit_exceeded", "requests-rate", "customer", 429)
    line = 'spanledger_rate_refusals_total{measure="requests",rate="requests-rate",scope="customer"} 1.0'
    assert line in gateway.metrics()


def test_a_refusal_on_anthropics_wire(gateway: Rated) -> None:
    """The same in Anthropic's form, with a moment as RFC 3339 has it."""
    client = anthropic.Anthropic(
        base_url=gateway.url, api_key=gateway.keys["claude"], max_retries=0
    )
    messages: Any = [{"role": "user", "content": "Hello"}]
    raw = client.messages.with_raw_response.create(model="claude", max_tokens=9, messages=messages)

    with pytest.raises(anthropic.RateLimitError) as caught:
        client.messages.create(model="claude", max_tokens=9, messages=messages)
    client.close()

    body = caught.value.body
    assert isinstance(body, dict)
    assert body["error"]["type"] == "rate_limit_error"
    assert 58 <= int(caught.value.response.headers["retry-after"]) <= 62
    for headers in (raw.headers, caught.value.response.headers):
        assert headers["anthropic-ratelimit-requests-limit"] == "1"
        assert headers["anthropic-ratelimit-requests-remaining"] == "0"
        assert headers["anthropic-ratelimit-tokens-limit"] == "100000000"
        reset = datetime.fromisoformat(headers["anthropic-ratelimit-requests-reset"])
        assert 55 <= (reset - datetime.now(UTC)).total_seconds() <= 62
        assert not [name for name in headers if name.startswith("x-ratelimit")]


def test_tokens_are_settled_at_what_was_used(gateway: Rated) -> None:
    """Held at the bound; a request that is too large by itself is not to be sent again."""
    first = gateway.chat("tokens", max_tokens=30)
    used = json.loads(first.text)["usage"]["total_tokens"]

    second = gateway.chat("tokens", max_tokens=1)

    left = int(second.headers["x-ratelimit-remaining-tokens"])
    held = 2_000 - used - left
    assert used < 100 < 1_000 < held  # else the second one would not have fit
    with pytest.raises(openai.RateLimitError, match="this request alone may use") as caught:
        gateway.chat("tokens", max_tokens=2_000)
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert "retry-after" not in caught.value.response.headers


def test_an_uncapped_request_gets_a_cap(gateway: Rated) -> None:
    """Its bound is the model's longest answer, which the rate has no room for; what is usual fits."""
    answer = gateway.chat("uncapped", max_tokens=openai.NOT_GIVEN)

    query = "SELECT detail FROM attempts WHERE customer = 'uncapped'"
    with closing(sqlite3.connect(gateway.ledger)) as connection:
        [(detail,)] = connection.execute(query).fetchall()
    assert json.loads(detail)["gen_ai.request.max_tokens"] < 10_000
    assert int(answer.headers["x-ratelimit-remaining-tokens"]) < 9_000


def test_dollars_a_minute(gateway: Rated) -> None:
    """A request that may cost more than a minute allows is refused."""
    with pytest.raises(openai.RateLimitError, match=r"allows \$0\.000000001 a minute"):
        gateway.chat("dollars")


@pytest.mark.parametrize(
    "end",
    ["read", "client gone", "cut", "failed"],
)
def test_one_request_at_once(gateway: Rated, end: str) -> None:
    """While a stream is open a second request is refused; however the first one ends, it is free again."""
    more: dict[str, Any] = {"max_tokens": 400}
    if end != "read":
        more["metadata"] = fault(FAULTS[end])
    if end != "failed":
        more["stream"] = True
    with gateway.client("single") as client:
        if end == "failed":
            with pytest.raises(openai.APIStatusError) as caught:
                client.chat.completions.create(model="chat", messages=HELLO, **more)
            assert caught.value.status_code == 400
        else:
            stream = client.chat.completions.create(model="chat", messages=HELLO, **more)
            next(iter(stream))
            if end == "client gone":
                with pytest.raises(openai.RateLimitError, match="so many are in flight") as caught:
                    gateway.chat("single")
                assert caught.value.response.headers["retry-after"] == "1"
                stream.close()
            elif end == "cut":
                with pytest.raises(openai.APIError):
                    list(stream)
            else:
                list(stream)

    def is_free() -> bool:
        try:
            gateway.chat("single", max_tokens=1)
        except openai.RateLimitError:
            return False
        return True

    wait_for(is_free)
