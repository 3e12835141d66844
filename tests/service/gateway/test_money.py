"""What the ledger has after a complete gateway relayed a provider's answer, byte by byte."""

from __future__ import annotations

import json
import socket
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from spanledger.budgets.model import Budget
from spanledger.config import parse_config
from tests.service.providers.samples import DONE, delta, event
from tests.service.providers.scripted import head
from tests.support.ledgers import store_at

from .harness import PATIENCE_S, chat, read_response, request, wait_for
from .test_clients import Running

PRICES = {
    "input_cost_per_token": 1e-6,
    "cache_read_input_token_cost": 1e-7,
    "cache_creation_input_token_cost": 1.25e-6,
    "output_cost_per_token": 1e-5,
}
LIMIT_NANO = 60_000_000
FLOOD = delta(content="=" * 64)


class Booked(NamedTuple):
    """An attempt's row."""

    cost_nano: int
    hold_nano: int
    estimated: int
    input_tokens: int
    output_tokens: int
    detail: str


class Provider:
    """Sends `answer` to each request, and hangs up."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.answer = b""
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            with client:
                asked = b""
                while not asked.endswith(b"}"):
                    asked += client.recv(65_536)
                client.sendall(self.answer)

    def whole(self, usage: dict[str, Any], text: str = "Hi") -> None:
        """A non-streamed answer with this usage."""
        choice = {"index": 0, "message": {"content": text}, "finish_reason": "stop"}
        body = json.dumps({"id": "x", "choices": [choice], "usage": usage}).encode()
        self.answer = head(b"application/json") + body

    def events(self, *pieces: bytes) -> None:
        """A stream, complete or broken."""
        self.answer = head(b"text/event-stream") + b"".join(pieces)

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()


class Site:
    """A gateway over that provider, on both wires, with a budget that each test sets."""

    def __init__(self, url: str, provider: Provider, ledger: Path) -> None:
        self.provider, self._ledger = provider, ledger
        self._port = int(url.rpartition(":")[2])

    def ask(self, route: str, **fields: Any) -> Booked:
        """The row that a request leaves."""
        before = self._count()
        with socket.create_connection(("127.0.0.1", self._port), timeout=PATIENCE_S) as sock:
            sock.sendall(request(chat(route, **fields)))
            read_response(sock)
        wait_for(lambda: self._count() > before)
        return self._rows()[-1]

    def _count(self) -> int:
        return len(self._rows())

    def _rows(self) -> list[Booked]:
        connection = sqlite3.connect(self._ledger)
        try:
            rows = connection.execute(
                "SELECT cost_nano, hold_nano, estimated, input_tokens, output_tokens, detail"
                " FROM attempts WHERE state = 'settled' ORDER BY seq"
            )
            return [Booked(*row) for row in rows]
        finally:
            connection.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Afterwards the ledger is consistent."""
    ledger = tmp_path_factory.mktemp("money") / "ledger.db"
    records = store_at(ledger).records("create")
    records.set_budgets([Budget("small", "model", "small", LIMIT_NANO, "day")], 1)
    records.set_budgets([Budget("prod", "model", "prod-eu-1", 10**10, "day")], 1)
    records.close()
    provider = Provider()
    models = {
        "openai": "openai/plain",
        "small": "openai/small",
        "anthropic": "anthropic/claude-haiku-4-5",
    }
    config = parse_config(
        {
            "model_list": [
                {
                    "model_name": route,
                    "litellm_params": {
                        "model": model,
                        "api_base": provider.url,
                        "api_key": "k",
                        **PRICES,
                    },
                }
                for route, model in models.items()
            ]
            + [
                {
                    "model_name": "named",
                    "litellm_params": {
                        "model": "openai/prod-eu-1",
                        "api_base": provider.url,
                        "api_key": "k",
                    },
                    "model_info": {"base_model": "azure/gpt-4o-2024-08-06"},
                }
            ],
            "router_settings": {"num_retries": 0, "cooldown_time": 0},
            "gateway": {"port": 0},
            "ledger": {"url": f"sqlite:///{ledger}"},
        },
        {},
        "test",
    )
    try:
        with Running(config) as url:
            yield Site(url, provider, ledger)
    finally:
        provider.close()
    reports = store_at(ledger).reports()
    found = reports.verify()
    reports.close()
    assert (found.problems, found.open_attempts) == ([], 0)


@pytest.mark.parametrize(
    ("usage", "nano"),
    [
        (
            {
                "prompt_tokens": 12000,
                "completion_tokens": 19,
                "total_tokens": 22555,
                "cache_read_input_tokens": 10536,
                "cache_creation_input_tokens": 0,
            },
            13_243_600,
        ),
        (
            {
                "prompt_tokens": 10500,
                "completion_tokens": 100,
                "total_tokens": 12600,
                "cache_read_input_tokens": 10000,
                "cache_creation_input_tokens": 2000,
            },
            5_000_000,
        ),
    ],
    ids=["Portkey-AI/gateway#1211", "BerriAI/litellm#15270"],
)
def test_cached_input_beside_the_prompt_is_no_output(
    site: Site, usage: dict[str, int], nano: int
) -> None:
    """A total's surplus over prompt and answer is cache, if the cache counts say so."""
    site.provider.whole(usage)

    booked = site.ask("openai")

    assert (booked.cost_nano, booked.estimated) == (nano, 0)


def test_a_later_zero_undoes_nothing(site: Site) -> None:
    """Anthropic's wire: a `message_delta` without input keeps the counts of `message_start`
    (envoyproxy/ai-gateway#1631)."""
    start = {"id": "m", "model": "claude", "usage": {"input_tokens": 1000, "output_tokens": 1}}
    site.provider.events(
        event({"type": "message_start", "message": start}),
        event({"type": "content_block_start", "content_block": {"type": "text", "text": "Hi"}}),
        event(
            {
                "type": "message_delta",
                "delta": {"stop_reason": "end_turn"},
                "usage": {"input_tokens": 0, "output_tokens": 50},
            }
        ),
        event({"type": "message_stop"}),
    )

    booked = site.ask("anthropic", stream=True)

    assert (booked.cost_nano, booked.estimated) == (1_500_000, 0)


@pytest.mark.parametrize("told", [{"input_tokens": 0, "output_tokens": 0}, {"output_tokens": 1}])
def test_a_prompt_that_nobody_counted_is_estimated(site: Site, told: dict[str, int]) -> None:
    """Anthropic's wire without input, and real output at the end (MiXaiLL76/auto_ai_router#142)."""
    site.provider.events(
        event({"type": "message_start", "message": {"id": "m", "usage": told}}),
        event({"type": "content_block_start", "content_block": {"type": "text", "text": "Hi"}}),
        event(
            {
                "type": "message_delta",
                "delta": {"stop_reason": "end_turn"},
                "usage": {"output_tokens": 50},
            }
        ),
        event({"type": "message_stop"}),
    )

    booked = site.ask("anthropic", stream=True)

    assert (booked.input_tokens > 0, booked.output_tokens, booked.estimated) == (True, 50, 1)
    assert json.loads(booked.detail)["spanledger.usage.ambiguity"] == "prompt_missing"


def test_a_whole_answer_is_no_shorter_than_its_text(site: Site) -> None:
    """If a server counts no prompt, its count of the answer is not trusted to be lower than
    ours."""
    site.provider.whole({"prompt_tokens": 0, "completion_tokens": 0.5}, text="=" * 400)

    booked = site.ask("openai")

    assert (booked.input_tokens > 0, booked.output_tokens, booked.estimated) == (True, 100, 1)


def test_usage_in_no_known_form_is_dear_and_says_so(site: Site) -> None:
    """An unexplained surplus is charged as output, and marked as an estimate with a reason."""
    details = {"completion_tokens_details": {"reasoning_tokens": 300}}
    site.provider.whole(
        {"prompt_tokens": 1000, "completion_tokens": 50, "total_tokens": 1500, **details}
    )

    booked = site.ask("openai")

    assert (booked.cost_nano, booked.estimated) == (1000 * 1_000 + 500 * 10_000, 1)
    assert json.loads(booked.detail)["spanledger.usage.ambiguity"] == "total_mismatch"


def test_a_broken_stream_is_charged_no_more_than_its_cap(site: Site) -> None:
    """A thousand chunks of 64 bytes under `max_tokens: 1000` are a thousand tokens, not 16,000."""
    site.provider.events(*[FLOOD] * 1000)

    booked = site.ask("openai", stream=True, max_tokens=1000)

    assert (booked.output_tokens, booked.estimated) == (1000, 1)
    assert booked.cost_nano <= booked.hold_nano


def test_no_guess_of_ours_overruns_a_budget(site: Site) -> None:
    """A stream that breaks without usage is charged within its hold, also if the caller set no
    cap."""
    site.provider.events(*[FLOOD] * 1000)

    booked = site.ask("small", stream=True)

    assert booked.estimated == 1
    assert 0 < booked.cost_nano <= booked.hold_nano <= LIMIT_NANO


def test_a_whole_stream_without_usage_is_charged_no_more_than_its_cap(site: Site) -> None:
    """A stream that ends properly without usage is an estimate as well."""
    site.provider.events(*[FLOOD] * 100, delta("stop"), DONE)

    booked = site.ask("openai", stream=True, max_tokens=50)

    assert (booked.output_tokens, booked.estimated) == (50, 1)


@pytest.mark.parametrize("streamed", [True, False], ids=["stream", "stream unasked"])
@pytest.mark.parametrize("said", [[], [delta(content="Hi")]], ids=["no text", "text"])
@pytest.mark.parametrize(
    "last",
    [event({"error": {"message": "engine died", "code": 500}}), event({"choices": "garbage"})],
    ids=["error", "garbage"],
)
def test_usage_reported_before_an_error_is_charged(
    site: Site, *, streamed: bool, said: list[bytes], last: bytes
) -> None:
    """A provider bills what it has counted, whatever follows; nothing is added to it."""
    usage = {"prompt_tokens": 1000, "completion_tokens": 50, "total_tokens": 1050}
    counted = event({"id": "x", "choices": [], "usage": usage})
    site.provider.events(*said, delta("stop"), counted, last)

    booked = site.ask("openai", stream=streamed)

    assert (booked.cost_nano, booked.estimated) == (1_500_000, 0)


def test_a_prompt_reported_before_an_error_is_charged_alone(site: Site) -> None:
    """Servers with running counts report the prompt first. An error shows that no answer
    followed."""
    usage = {"prompt_tokens": 1000, "completion_tokens": 0, "total_tokens": 1000}
    site.provider.events(
        event({"id": "x", "choices": [], "usage": usage}), event({"error": {"message": "died"}})
    )

    booked = site.ask("openai", stream=True)

    assert (booked.cost_nano, booked.output_tokens, booked.estimated) == (1_000_000, 0, 0)


def test_anthropic_usage_reported_before_an_error_is_charged(site: Site) -> None:
    """The same on Anthropic's wire, in an unrequested stream."""
    usage = {"input_tokens": 1000, "output_tokens": 50}
    site.provider.events(
        event({"type": "message_start", "message": {"id": "m", "usage": usage}}),
        event({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage}),
        event({"type": "error", "error": {"type": "api_error", "message": "died"}}),
    )

    booked = site.ask("anthropic")

    assert (booked.cost_nano, booked.estimated) == (1_500_000, 0)


def test_a_base_model_is_what_is_charged(site: Site) -> None:
    """A deployment with its own name has its base model's price, under a budget too
    (BerriAI/litellm#7004)."""
    site.provider.whole(
        {"prompt_tokens": 100_000, "completion_tokens": 1_000, "total_tokens": 101_000}
    )

    booked = site.ask("named")

    assert (booked.cost_nano, booked.estimated) == (260_000_000, 0)
