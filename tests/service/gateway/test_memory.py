"""What a request leaves in memory: nothing, however it ended, as bodies may have 20 megabytes."""

from __future__ import annotations

import contextlib
import gc
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from spanledger.budgets.model import Budget
from spanledger.config import parse_config
from spanledger.routing.request import Exchange
from tests.service.providers.scripted import head
from tests.support.ledgers import store_at

from .harness import PATIENCE_S, chat, read_response, request, wait_for
from .test_clients import Running

DELTA = b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
ANSWERS = {
    "served": (200, b'{"choices":[{"message":{"content":"a"}}]}'),
    "broken": (500, b"{}"),
    "refusing": (400, b'{"error":{"message":"no"}}'),
    "garbage": (200, b"<html>"),
    "cut": (200, DELTA),
}
ROUTES = (*ANSWERS, "silent", "absent", "unpriced")


class Provider:
    """Answers by the model's name; hangs up after each answer."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._open: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._socket.accept()
                self._answer(client)

    def _answer(self, client: socket.socket) -> None:
        asked = client.recv(65_536)
        while b"\r\n\r\n" not in asked or b"}" not in asked:
            asked += client.recv(65_536)
        model = json.loads(asked.partition(b"\r\n\r\n")[2])["model"]
        if model == "silent":
            self._open.append(client)
            return
        status, body = ANSWERS[model]
        kind = b"text/event-stream" if model == "cut" else b"application/json"
        client.sendall(head(kind).replace(b"200", b"%d" % status) + body)
        client.close()

    def close(self) -> None:
        """Stop listening."""
        for held in (self._socket, *self._open):
            held.close()


@dataclass
class Site:
    """The address of a complete gateway."""

    port: int

    def connect(self) -> socket.socket:
        """A raw connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A gateway over a provider that fails in every way."""
    ledger = tmp_path_factory.mktemp("memory") / "ledger.db"
    records = store_at(ledger).records("create")
    records.set_budgets([Budget("all", "global", "*", 10**12, "day")], 1)
    records.set_budgets([Budget("served", "model", "gone", 0, "day")], 1)
    records.close()
    provider = Provider()
    price = {"input_cost_per_token": 1e-6, "output_cost_per_token": 1e-6}

    def entry(route: str) -> dict[str, object]:
        base = "http://127.0.0.1:1" if route in ("absent", "gone") else provider.url
        params = {"model": f"openai/{route}", "api_base": base, "api_key": "k", "timeout": 0.5}
        return {
            "model_name": route,
            "litellm_params": params if route == "unpriced" else params | price,
        }

    config = parse_config(
        {
            "model_list": [entry(route) for route in (*ROUTES, "gone")],
            "router_settings": {"num_retries": 1, "cooldown_time": 0},
            "gateway": {"port": 0},
            "ledger": {"url": f"sqlite:///{ledger}"},
        },
        {},
        "test",
    )
    try:
        with Running(config) as url:
            yield Site(int(url.rpartition(":")[2]))
    finally:
        provider.close()


@contextlib.contextmanager
def no_collector() -> Iterator[int]:
    """Reference counts free these objects; requests of other tests are subtracted."""
    gc.collect()
    gc.disable()
    try:
        yield exchanges()
    finally:
        gc.enable()


def exchanges() -> int:
    """Requests whose bodies are in memory."""
    return sum(isinstance(thing, Exchange) for thing in gc.get_objects())


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("route", [*ROUTES, "gone", "unknown"])
def test_nothing_stays_of_a_request(site: Site, route: str, stream: bool) -> None:
    """A request that was served, failed or refused is freed once its connection is."""
    with no_collector() as others:
        for _ in range(2):
            with site.connect() as sock:
                sock.sendall(request(chat(route, stream=stream)))
                assert read_response(sock).status > 0
        wait_for(lambda: exchanges() <= others)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_nothing_stays_of_a_caller_that_left(site: Site, stream: bool) -> None:
    """A request whose caller disconnected is freed, too."""
    with no_collector() as others:
        for _ in range(2):
            with site.connect() as sock:
                sock.sendall(request(chat("silent", stream=stream)))
                wait_for(lambda: exchanges() > others)
            wait_for(lambda: exchanges() <= others)
