"""Containers are killed, the engine is restarted, the stack goes down and up: nothing is lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from tests.engine.installation import LONG_RUNNING, READY_S, VISIBLE_S, Installation, inside
from tests.support.processes import poll

PACE_S = 0.1


class Load:
    """One customer's requests, one after another, whether or not they succeed."""

    def __init__(self, stack: Installation, customer: str) -> None:
        self.answered = 0
        self.customer = customer
        self._stack = stack
        self.key = stack.key(customer)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stopping.wait(PACE_S):
            try:
                answer = self._stack.ask(self.key)
            except httpx.HTTPError:
                continue
            self.answered += answer.status_code == 200

    def goes_on(self) -> None:
        """Wait for more answers."""
        wanted = self.answered + 3
        assert poll(lambda: self.answered >= wanted, READY_S), "no answers"

    @contextmanager
    def running(self) -> Iterator[None]:
        """Send requests during the block."""
        self._thread.start()
        try:
            yield
        finally:
            self._stopping.set()
            self._thread.join()


def nothing_is_lost(stack: Installation, customer: str, answered: int) -> None:
    """The ledger's balances are correct, and it and Prometheus have every answered request."""
    assert stack.spanledger("ledger", "verify")["ok"] is True
    kept = stack.spanledger("requests", "--customer", customer, "--limit", "10000")
    assert len([one for one in kept if one["outcome"] == "ok"]) >= answered
    spent = sum(
        float(row["cost_usd"])
        for row in stack.spanledger("spend", "--by", "customer")["rows"]
        if row["customer"] == customer
    )
    assert spent > 0
    assert poll(lambda: abs(stack.spend(customer) - spent) < 1e-9, READY_S), (
        stack.spend(customer),
        spent,
    )


@pytest.mark.parametrize("service", LONG_RUNNING)
def test_a_killed_container_comes_back(stack: Installation, service: str) -> None:
    """A service killed under load is restarted, and no answered request is missing anywhere."""
    load = Load(stack, f"kill-{service}")
    before = stack.inspect(service)["RestartCount"]
    with load.running():
        load.goes_on()
        stack.kill(service)
        assert poll(lambda: stack.inspect(service)["RestartCount"] > before, READY_S)
        stack.comes_up()
        load.goes_on()

    nothing_is_lost(stack, load.customer, load.answered)


def test_a_restart_of_the_engine_brings_all_back(stack: Installation) -> None:
    """As after a reboot: the same containers, and nothing is missing."""
    load, ids = Load(stack, "reboot"), stack.ids()
    with load.running():
        load.goes_on()
        pid = inside("pidof", "dockerd").strip()
        inside("kill", "-TERM", pid)
        assert poll(lambda: pid not in inside("ps", "-A", "-o", "pid=").split(), READY_S)
        assert poll(lambda: stack.run("docker", "version").status == 0, READY_S)
        stack.comes_up()
        load.goes_on()

    assert stack.ids() == ids
    nothing_is_lost(stack, load.customer, load.answered)


def test_down_and_up_keep_everything(stack: Installation) -> None:
    """`make down` and `make up` keep ledger, keys, metrics and secrets."""
    key = stack.key("kept")
    assert stack.ask(key).status_code == 200
    assert poll(lambda: stack.spend("kept") > 0, VISIBLE_S)
    series = 'count_over_time(spanledger_cost_usd_total{spanledger_customer="kept"}[1h])'
    read = ("exec", "-T", "grafana", "cat", "/run/spanledger/secret-key")
    secret, samples = stack.compose(*read).well(), stack.query(series)

    stack.run("make", "down").well()
    assert stack.ids() == {}
    said = stack.run("make", "up").well()

    assert "http://localhost:3000" in said
    assert stack.compose(*read).well() == secret
    assert "every customer has a valid key" in stack.logs("init-keys")
    assert stack.ask(key).status_code == 200
    assert poll(lambda: stack.query(series) > samples, VISIBLE_S)
    nothing_is_lost(stack, "kept", 2)
