"""A gateway whose ledger cannot be written refuses requests, reports why, and loses nothing."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.conftest import Site
from tests.support.processes import Child, poll


def _full_disk(gateway: Child, ledger: Path) -> Callable[[], object]:
    """Stop the log, to which each commit appends, from growing; returns a function that lifts the
    limit. With more room, small commits would succeed between others that fail."""
    pid, kind = gateway.process.pid, resource.RLIMIT_FSIZE
    before = resource.prlimit(pid, kind)
    size = ledger.with_name(f"{ledger.name}-wal").stat().st_size
    resource.prlimit(pid, kind, (size, before[1]))
    return lambda: resource.prlimit(pid, kind, before)


def _moved_away(_gateway: Child, ledger: Path) -> Callable[[], object]:
    """Rename the file; returns a function that puts it back."""
    aside = ledger.with_name("aside.db")
    ledger.rename(aside)
    return lambda: aside.rename(ledger)


def _ask(url: str) -> int:
    body: dict[str, Any] = {
        "model": "gpt-4o-mini",
        "messages": [{"role": "user", "content": "Hello"}],
        "max_tokens": 5,
    }
    return httpx.post(f"{url}/v1/chat/completions", json=body, timeout=20).status_code


def _ledger_up(url: str) -> str:
    lines = httpx.get(f"{url}/metrics", timeout=20).text.splitlines()
    return next(line for line in lines if line.startswith("spanledger_ledger_up")).split()[1]


@pytest.mark.parametrize("fault", [_full_disk, _moved_away], ids=["full-disk", "moved-away"])
def test_a_ledger_that_cannot_be_written(
    site: Site, fault: Callable[[Child, Path], Callable[[], object]]
) -> None:
    """Requests and probes get 503, the log says why once, and afterwards everything adds up."""
    site.configure(telemetry={"enabled": False}, ledger={"lease_s": 1})
    site.command("budget", "set", "all", "--limit", "10")
    gateway = site.gateway()
    try:
        url = gateway.url()
        assert _ask(url) == 200
        mend = fault(gateway, site.ledger)
        # The first requests may still find room in the file.
        assert poll(lambda: _ask(url) == 503)
        assert [_ask(url) for _ in range(20)] == [503] * 20
        assert httpx.get(f"{url}/readyz").status_code == 503
        assert _ledger_up(url) == "0.0"
        mend()
        assert poll(lambda: httpx.get(f"{url}/readyz").status_code == 200)
        assert _ask(url) == 200
        assert _ledger_up(url) == "1.0"
    finally:
        assert gateway.stop() == 0
    assert gateway.output.count(" ERROR ") == 1, gateway.output
    assert site.command("ledger", "verify")["ok"]
    assert site.command("budget", "list")[0]["held_usd"] == "0.00"


def test_an_emptied_ledger_is_noticed(site: Site) -> None:
    """After `truncate -s 0` requests and probes get 503, one line of the log says so, and `/metrics`
    still answers, with the ledger down."""
    site.configure(telemetry={"enabled": False}, ledger={"lease_s": 1})
    gateway = site.gateway()
    try:
        url = gateway.url()
        assert _ask(url) == 200
        os.truncate(site.ledger, 0)
        assert poll(lambda: _ask(url) == 503)
        assert [_ask(url) for _ in range(20)] == [503] * 20
        assert httpx.get(f"{url}/readyz").status_code == 503
        assert poll(lambda: _ledger_up(url) == "0.0")
        assert "was emptied while it was open" in gateway.wait_for(" ERROR ")
    finally:
        gateway.kill()
    assert gateway.output.count(" ERROR ") == 1, gateway.output
