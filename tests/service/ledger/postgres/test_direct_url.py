"""Locks of a ledger behind a pooler: by the server's own address, or a clear error."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading

import pytest

from spanledger.app import _keep_shipping, _shipper_command
from spanledger.config import TelemetrySettings, parse_config
from spanledger.errors import ConfigError, NoLockError
from spanledger.ledger import open_store
from spanledger.ledger.ports import Store
from spanledger.telemetry.shipper import run_shipper
from tests.service.gateway.harness import wait_for
from tests.service.ledger.postgres.rig import port_of, url_through
from tests.support import postgres
from tests.support.pgbouncer import pgbouncer


def test_a_lock_by_the_servers_own_address(store: Store) -> None:
    """It keeps others out, whether they come through the pooler or not."""
    store.migrate()
    with pgbouncer(port_of(store)) as port:
        pooled = open_store(url_through(store, port), store_url(store))
        with (
            contextlib.closing(pooled.exclusive("ship")) as one,
            contextlib.closing(store.exclusive("ship")) as other,
        ):
            assert one.acquire()
            assert one.held()
            assert not other.acquire()


def test_the_address_of_another_ledger(store: Store) -> None:
    """A lock there would keep nobody out, so it is refused, also where there are no tables."""
    store.migrate()
    for migrated in (False, True):
        elsewhere = postgres.new_ledger_url(migrated=migrated)
        lock = open_store(store_url(store), elsewhere).exclusive("ship")
        with pytest.raises(NoLockError, match=r"ledger\.direct_url .* is not the ledger of"):
            lock.acquire()
        lock.close()


def test_a_direct_address_that_is_a_pooler(store: Store) -> None:
    """The error names the setting."""
    store.migrate()
    with pgbouncer(port_of(store)) as port:
        pooled = url_through(store, port)
        lock = open_store(pooled, pooled).exclusive("ship")
        with pytest.raises(NoLockError, match=r"is a pooler, .* set ledger\.direct_url"):
            lock.acquire()


def test_a_shipper_behind_a_pooler(store: Store) -> None:
    """With the server's address it ships."""
    store.migrate()
    stop = threading.Event()
    with pgbouncer(port_of(store)) as port:
        pooled = open_store(url_through(store, port), store_url(store))
        settings = TelemetrySettings(endpoint="http://127.0.0.1:9")
        done: list[bool] = []
        ship = threading.Thread(target=lambda: done.append(run_shipper(pooled, settings, stop)))
        ship.start()
        with contextlib.closing(store.exclusive("ship")) as lock:

            def is_taken() -> bool:
                free = lock.acquire()
                if free:
                    lock.close()
                return not free

            wait_for(is_taken)
        stop.set()
        ship.join()
    assert done == [True]


def test_a_gateways_shipper_that_cannot_run(
    store: Store, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Behind a pooler without the server's address it ends once, and each of both says why once."""
    store.migrate()
    with pgbouncer(port_of(store)) as port, caplog.at_level(logging.WARNING):
        environment = {"SPANLEDGER_LEDGER_URL": url_through(store, port)}
        command = _shipper_command(parse_config({}, {}, "f"), None) or []
        asyncio.run(_keep_shipping(command, environment))

    (said,) = [record.message for record in caplog.records if record.name == "spanledger.app"]
    assert "--no-ship" in said
    assert capfd.readouterr().err.count("set ledger.direct_url") == 1


def test_the_setting() -> None:
    """The environment wins over the file; what is not an address of Postgres is refused."""
    file = {"ledger": {"url": "postgresql://a/b", "direct_url": "postgresql://c/b"}}
    name = "SPANLEDGER_LEDGER_DIRECT_URL"

    assert parse_config(file, {}, "f").ledger.direct_url == "postgresql://c/b"
    found = parse_config(file, {name: "postgresql://d/b"}, "f").ledger
    assert (found.url, found.direct_url) == ("postgresql://a/b", "postgresql://d/b")
    with pytest.raises(ConfigError, match=name):
        parse_config({}, {name: "sqlite:///l.db"}, "f")
    with pytest.raises(ConfigError, match="only for a ledger in Postgres"):
        open_store("sqlite:///l.db", "postgresql://c/b")


def store_url(store: Store) -> str:
    """The URL of a test's ledger, which has no secrets."""
    return url_through(store, port_of(store))
