"""A gateway whose budgets allow some spending while the ledger is unavailable: nothing is lost.

The ledger is made unavailable for real, and gateways are killed. At the end the ledger has what the
providers billed.
"""

from __future__ import annotations

import json
import resource
import signal
import sqlite3
import threading
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.conftest import Site
from tests.support.postgres import Server
from tests.support.processes import Child, poll

pytestmark = pytest.mark.timeout(300)

JOURNAL = "x-spanledger-ledger"
Fault = Callable[[Child, Path], Callable[[], object]]


def _full_disk(gateway: Child, ledger: Path) -> Callable[[], object]:
    """Stop the ledger's files from growing; smaller files still may."""
    pid, kind = gateway.process.pid, resource.RLIMIT_FSIZE
    before = resource.prlimit(pid, kind)
    size = max(path.stat().st_size for path in ledger.parent.iterdir() if path.is_file())
    resource.prlimit(pid, kind, (size, before[1]))
    return lambda: resource.prlimit(pid, kind, before)


def _moved_away(_gateway: Child, ledger: Path) -> Callable[[], object]:
    """Rename the file."""
    aside = ledger.with_name("aside.db")
    ledger.rename(aside)
    return lambda: aside.rename(ledger)


def _locked(_gateway: Child, ledger: Path) -> Callable[[], object]:
    """Hold the file's write lock, as another process would."""
    blocker = sqlite3.connect(ledger, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    return blocker.close


def _ask(url: str, words: str = "Hello", **fields: Any) -> httpx.Response:
    body: dict[str, Any] = {
        "model": "gpt-4o-mini",
        "messages": [{"role": "user", "content": words}],
        "max_tokens": 5,
    }
    headers = fields.pop("headers", {})
    return httpx.post(f"{url}/v1/chat/completions", json=body | fields, headers=headers, timeout=60)


def _metric(url: str, name: str) -> float:
    lines = httpx.get(f"{url}/metrics", timeout=20).text.splitlines()
    return float(next(line for line in lines if line.startswith(f"{name} ")).split()[1])


def _ready(url: str) -> tuple[int, str]:
    answer = httpx.get(f"{url}/readyz", timeout=20)
    return answer.status_code, answer.json()["status"]


def _billed(url: str) -> Decimal:
    with urllib.request.urlopen(f"{url}/sim/bill", timeout=10) as answer:
        return Decimal(json.load(answer)["total_usd"])


def _spent(site: Site) -> Decimal:
    """What the ledger has, once it adds up."""
    verified = site.command("ledger", "verify")
    assert verified["ok"], verified
    return Decimal(verified["spent_usd"])


def _left(site: Site) -> set[str]:
    folder = site.folder / ".spanledger" / "journal"
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def _journaled(answer: httpx.Response) -> bool:
    return answer.status_code == 200 and answer.headers.get(JOURNAL) == "journal"


@contextmanager
def _serving(site: Site) -> Iterator[tuple[Child, str]]:
    """A gateway, which is killed unless it has ended."""
    gateway = site.gateway()
    try:
        yield gateway, gateway.url()
    finally:
        gateway.kill()


def _configure(site: Site, **more: Any) -> None:
    site.configure(telemetry={"enabled": False}, ledger={"lease_s": 1}, **more)
    site.command("budget", "set", "all", "--limit", "10", "--on-ledger-down-allow", "5")


@pytest.mark.parametrize(
    "fault", [_full_disk, _moved_away, _locked], ids=["full-disk", "moved-away", "locked"]
)
def test_an_outage_with_an_allowance(site: Site, fault: Fault) -> None:
    """Requests are served from the journal, the gateway stays ready and reports it, and afterwards
    the ledger has the bill to the nano-dollar, without a restart."""
    _configure(site)
    before = _billed(site.sim_url)
    with _serving(site) as (gateway, url):
        assert not _journaled(_ask(url))
        end = fault(gateway, site.ledger)
        # The first requests may still find room in the file.
        assert poll(lambda: _journaled(_ask(url)))
        answers = [_ask(url, f"number {number}", stream=number % 3 == 0) for number in range(20)]
        assert all(map(_journaled, answers)), [a.text for a in answers]
        assert _ready(url) == (200, "degraded")
        assert _metric(url, "spanledger_ledger_up") == 0
        assert _metric(url, "spanledger_journal_attempts_total") >= 21
        assert _metric(url, "spanledger_journal_rows") >= 42
        left = answers[1].headers["x-spanledger-budget-remaining-usd"]
        assert Decimal(4) < Decimal(left) < Decimal(5)
        end()
        assert poll(lambda: _ready(url) == (200, "ready"))
        assert poll(lambda: _metric(url, "spanledger_journal_rows") == 0)
        assert not _journaled(_ask(url))
        assert gateway.stop() == 0
    if fault is not _full_disk:  # there, a small commit may succeed between others that fail
        assert gateway.output.count(" ERROR ") == 1, gateway.output
    assert _spent(site) == _billed(site.sim_url) - before
    assert site.command("budget", "list")[0]["held_usd"] == "0.00"
    assert not _left(site)


def test_only_what_budgets_allow(site: Site) -> None:
    """During an outage a customer without an allowance, an unknown key, a revoked one, and a request
    beyond the allowance get 503 with Retry-After; keys in use need no look-up."""
    site.configure(telemetry={"enabled": False}, ledger={"lease_s": 1})
    site.command(
        *("budget", "set", "acme", "--customer", "acme", "--limit", "10"),
        *("--on-ledger-down-allow", "0.001"),
    )
    site.command("budget", "set", "other", "--customer", "other", "--limit", "10")
    keys = {name: site.key(name) for name in ("acme", "other", "nobody", "unseen")}
    bearer = {name: {"authorization": f"Bearer {key}"} for name, key in keys.items()}
    before = _billed(site.sim_url)
    with _serving(site) as (gateway, url):
        for name in ("acme", "other", "nobody"):
            assert _ask(url, headers=bearer[name]).status_code == 200
        end = _moved_away(gateway, site.ledger)
        assert poll(lambda: _journaled(_ask(url, headers=bearer["acme"])))
        for name in ("other", "nobody"):
            answer = _ask(url, headers=bearer[name])
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        large = _ask(url, "word " * 20_000, headers=bearer["acme"])
        assert (large.status_code, large.json()["error"]["code"]) == (503, "ledger_unavailable")
        unknown = _ask(url, headers={"authorization": "Bearer slk_" + "x" * 43})
        assert unknown.status_code in (401, 503)
        end()
        assert poll(lambda: _ready(url) == (200, "ready"))
        assert gateway.stop() == 0
    assert _spent(site) == _billed(site.sim_url) - before


def test_killed_in_an_outage(site: Site) -> None:
    """Two gateways are killed with answered requests in their journals; one that starts when the
    ledger is back charges each what the provider billed."""
    _configure(site)
    before = _billed(site.sim_url)
    with _serving(site) as (first, one), _serving(site) as (second, two):
        assert _ask(one).status_code == _ask(two).status_code == 200
        end = _moved_away(first, site.ledger)
        assert poll(lambda: _journaled(_ask(one)))
        assert poll(lambda: _journaled(_ask(two)))
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda n: _ask((one, two)[n % 2], f"{n}"), range(40)))
        assert all(map(_journaled, answers))
        first.kill()
        second.kill()
    left = _left(site)
    assert len(left) == 2
    end()
    with _serving(site) as (successor, url):
        assert poll(lambda: not left & _left(site))
        assert not _journaled(_ask(url))
        assert successor.stop() == 0
    assert _spent(site) == _billed(site.sim_url) - before
    assert site.command("budget", "list")[0]["held_usd"] == "0.00"


def test_killed_before_the_answer(site: Site) -> None:
    """An attempt whose hold is in the journal and whose answer never came is charged in full once
    its lease has run out."""
    _configure(site)
    with _serving(site) as (gateway, url):
        end = _moved_away(gateway, site.ledger)
        held = threading.Thread(target=_ask_in_vain, args=(url,), daemon=True)
        held.start()
        assert poll(lambda: _metric(url, "spanledger_journal_attempts_total") == 1)
        assert poll(lambda: _metric(url, "spanledger_journal_rows") == 1)
        gateway.kill()
    held.join(60)
    left = _left(site)
    end()
    with _serving(site) as (successor, _):
        assert poll(lambda: not left & _left(site))
        assert poll(lambda: _states(site) == ["expired"])
        assert successor.stop() == 0
    (hold,) = _rows(site, "SELECT hold_nano FROM attempts")
    assert _spent(site) == Decimal(hold[0]).scaleb(-9) > 0


def test_killed_while_recording(site: Site) -> None:
    """A gateway that is killed while it records its journal, again and again, neither loses nor
    doubles an entry."""
    _configure(site)
    before = _billed(site.sim_url)
    with _serving(site) as (gateway, url):
        assert _ask(url).status_code == 200
        end = _locked(gateway, site.ledger)
        assert poll(lambda: _journaled(_ask(url)))
        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(lambda n: _ask(url, f"{n}"), range(300)))
        assert all(map(_journaled, answers))
        end()
        gateway.wait_for("the ledger is committing again")
        gateway.kill()
    left = _left(site)
    for _ in range(3):
        with _serving(site) as (gateway, _):
            gateway.kill()
    with _serving(site) as (gateway, _):
        assert poll(lambda: not left & _left(site))
        assert poll(lambda: "held" not in _states(site))
        assert gateway.stop() == 0
    assert _spent(site) == _billed(site.sim_url) - before


def test_a_fallback_in_an_outage(site: Site) -> None:
    """A provider that fails during the outage is followed by the fallback, and both attempts are
    recorded in their request."""
    _configure(site)
    before = _billed(site.sim_url)
    with _serving(site) as (gateway, url):
        assert _ask(url).status_code == 200
        end = _moved_away(gateway, site.ledger)
        assert poll(lambda: _journaled(_ask(url)))
        answer = _ask(url, model="gpt-4o", metadata={"sim": "500"})
        assert _journaled(answer)
        assert answer.headers["x-spanledger-attempts"] == "3"
        end()
        assert poll(lambda: _ready(url) == (200, "ready"))
        assert gateway.stop() == 0
    found = _rows(site, "SELECT attempts, outcome FROM requests WHERE route = 'gpt-4o'")
    assert found == [(3, "ok")]
    assert _spent(site) == _billed(site.sim_url) - before


@pytest.fixture
def server() -> Iterator[Server]:
    """A Postgres server of its own, which may be stopped."""
    server = Server()
    try:
        server.create()
        server.start()
        yield server
    finally:
        server.remove()


def test_a_postgres_server_that_crashes(site: Site, server: Server) -> None:
    """The same with Postgres: served while its server is down, and again after a gateway was killed
    meanwhile, the ledger has the bill in the end."""
    ledger = server.url("postgres")
    at = ("--ledger", ledger)
    site.configure(telemetry={"enabled": False}, ledger={"lease_s": 1, "url": ledger})
    site.command("budget", "set", "all", "--limit", "10", "--on-ledger-down-allow", "5", *at)
    before = _billed(site.sim_url)
    with _serving(site) as (gateway, url):
        assert not _journaled(_ask(url))
        server.stop(signal.SIGQUIT)
        assert poll(lambda: _journaled(_ask(url)))
        answers = [_ask(url, f"number {number}", stream=number % 3 == 0) for number in range(20)]
        assert all(map(_journaled, answers)), [a.text for a in answers]
        assert _ready(url) == (200, "degraded")
        server.start()
        assert poll(lambda: _ready(url) == (200, "ready"))
        assert poll(lambda: _metric(url, "spanledger_journal_rows") == 0)
        assert not _journaled(_ask(url))
        server.stop(signal.SIGQUIT)
        assert poll(lambda: _journaled(_ask(url)))
        gateway.kill()
    left = _left(site)
    assert left
    server.start()
    with _serving(site) as (gateway, _):
        assert poll(lambda: not left & _left(site))
        assert gateway.stop() == 0
    verified = site.command("ledger", "verify", *at)
    assert verified["ok"], verified
    assert Decimal(verified["spent_usd"]) == _billed(site.sim_url) - before


def _ask_in_vain(url: str) -> None:
    """A request whose provider never answers; the gateway is killed meanwhile."""
    with suppress(httpx.HTTPError):
        _ask(url, metadata={"sim": "timeout"})


def _states(site: Site) -> list[str]:
    return [state for (state,) in _rows(site, "SELECT DISTINCT state FROM attempts ORDER BY state")]


def _rows(site: Site, query: str) -> list[Any]:
    connection = sqlite3.connect(site.ledger)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()
