"""The ledger's log or its index is deleted while a gateway is serving."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from tests.e2e.conftest import Site
from tests.support.processes import poll

BODY: dict[str, Any] = {
    "model": "gpt-4o-mini",
    "messages": [{"role": "user", "content": "Hello"}],
    "max_tokens": 5,
}


class Load:
    """Callers that send one request after another until stopped."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._stop = threading.Event()
        self.acknowledged: list[str] = []
        self.statuses: list[int] = []

    def _call(self) -> None:
        with httpx.Client(timeout=30) as client:
            while not self._stop.is_set():
                answer = client.post(f"{self._url}/v1/chat/completions", json=BODY)
                self.statuses.append(answer.status_code)
                if answer.status_code == 200:
                    self.acknowledged.append(answer.headers["x-request-id"])

    @contextmanager
    def running(self, callers: int = 4) -> Iterator[None]:
        """Keep sending while the block runs."""
        with ThreadPoolExecutor(callers) as pool:
            calls = [pool.submit(self._call) for _ in range(callers)]
            try:
                yield
            finally:
                self._stop.set()
            for call in calls:
                call.result()


def booked(site: Site) -> set[str]:
    """The charged requests. One answered while the ledger was unavailable had its end only in
    the memory of the killed gateway: its hold has expired and is charged in full."""
    connection = sqlite3.connect(f"file:{site.ledger}?mode=ro", uri=True)
    rows = connection.execute(
        "SELECT request_id FROM attempts WHERE state IN ('settled', 'expired') AND cost_nano > 0"
    ).fetchall()
    connection.close()
    return {row[0] for row in rows}


@pytest.mark.parametrize("deleted", [("-wal",), ("-shm",), ("-wal", "-shm")], ids="".join)
def test_a_deleted_log_loses_nothing_that_was_acknowledged(
    site: Site, deleted: tuple[str, ...]
) -> None:
    """The gateway answers 503, says why once and reports the ledger as down; after a kill and a
    restart every answered request is charged in the ledger, and its balances add up."""
    site.configure(telemetry={"enabled": False}, ledger={"lease_s": 1})
    site.command("budget", "set", "all", "--limit", "10")
    gateway = site.gateway()
    try:
        url = gateway.url()
        load = Load(url)
        with load.running():
            assert poll(lambda: len(load.acknowledged) >= 30)
            for suffix in deleted:
                site.ledger.with_name(site.ledger.name + suffix).unlink()
            assert poll(lambda: load.statuses[-8:] == [503] * 8)
        assert httpx.get(f"{url}/readyz").status_code == 503
        assert "spanledger_ledger_up 0.0" in httpx.get(f"{url}/metrics").text.splitlines()
        assert gateway.output.count(" ERROR ") == 1, gateway.output
        assert f"ledger.db{deleted[0]}' was deleted or replaced" in gateway.output
    finally:
        gateway.kill()

    gateway = site.gateway()
    try:
        url = gateway.url()
        answer = httpx.post(f"{url}/v1/chat/completions", json=BODY, timeout=20)
        assert answer.status_code == 200
        assert poll(lambda: set(load.acknowledged) <= booked(site))
    finally:
        assert gateway.stop() == 0
    assert site.command("ledger", "verify")["ok"]
