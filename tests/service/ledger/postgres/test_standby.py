"""A synchronous standby that is not there: commits wait for it, and are not acknowledged without it."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import psycopg
import pytest

from spanledger.errors import CommitInDoubtError
from spanledger.ledger.model import Hold
from spanledger.ledger.postgres import batch as batch_module
from spanledger.ledger.postgres import writer as writer_module
from spanledger.ledger.postgres.store import PostgresStore
from tests.service.ledger.postgres.rig import reservation, set_budget, states, writing
from tests.service.ledger.stores import raw
from tests.support import postgres
from tests.support.processes import poll


@pytest.fixture
def server() -> Iterator[postgres.Server]:
    """A server of its own, whose settings a test changes."""
    server = postgres.Server(postgres.QUICK)
    server.create()
    server.start()
    yield server
    server.remove()


CANCEL = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"


def wait_for_standby(server: postgres.Server, name: str) -> None:
    """Let commits wait for a standby; an empty name is none. Returns once they do."""
    server.sql(f"ALTER SYSTEM SET synchronous_standby_names = '{name}'")
    server.sql("SELECT pg_reload_conf()")
    if not name:
        return
    waiting = threading.Event()

    def commit() -> None:
        with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
            while not waiting.is_set():  # the server takes a moment to read its settings
                connection.execute("CREATE TABLE IF NOT EXISTS probe (); DROP TABLE probe")

    thread = threading.Thread(target=commit)
    thread.start()
    with psycopg.connect(server.url("postgres"), autocommit=True) as watcher:
        try:
            seen = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
            assert poll(lambda: watcher.execute(seen).fetchall())
        finally:
            waiting.set()
            watcher.execute(CANCEL)
            thread.join()


def test_a_cancelled_wait_for_a_standby_is_not_a_commit(server: postgres.Server) -> None:
    """Postgres reports success with a warning; the caller gets an error all the same."""
    store = PostgresStore(server.new_database())
    set_budget(store, 100)
    with writing(store) as writer:
        writer.commit([reservation()])
        wait_for_standby(server, "ghost")
        failures: list[Exception] = []

        def commit() -> None:
            try:
                writer.commit([reservation()])
            except CommitInDoubtError as error:
                failures.append(error)

        thread = threading.Thread(target=commit)
        thread.start()
        assert poll(lambda: raw(store, CANCEL))
        thread.join()
        wait_for_standby(server, "")

        [failure] = failures
        assert "stopped waiting for its standby, so a commit may be lost" in str(failure)
        assert isinstance(writer.commit([reservation()])[0], Hold)
    assert states(store) == {"held": 3}


def test_a_missing_standby_does_not_hang_a_gateway(
    server: postgres.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit is given up at our own deadline, and its callers get an error; when commits no longer
    wait, the same writer goes on, and nothing was held twice."""
    monkeypatch.setattr(writer_module, "ANSWER_TIMEOUT_S", 0.5)
    monkeypatch.setattr(batch_module, "SETTLE_S", 0.5)
    store = PostgresStore(server.new_database())
    set_budget(store, 100)
    with writing(store) as writer:
        writer.commit([reservation()])
        wait_for_standby(server, "ghost")
        with pytest.raises(CommitInDoubtError, match="while a commit was under way"):
            writer.commit([reservation()])
        wait_for_standby(server, "")

        assert isinstance(writer.commit([reservation()])[0], Hold)
    assert states(store) == {"held": 3}
