"""Servers that cannot be used, that are restarted, that have company, and that are behind a pooler."""

from __future__ import annotations

import threading
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from spanledger.errors import BudgetExceededError, LedgerUnavailableError
from spanledger.ledger.model import Hold
from spanledger.ledger.ports import Store
from spanledger.ledger.postgres.store import PostgresStore
from tests.service.ledger.postgres.rig import (
    balance,
    end,
    port_of,
    reservation,
    set_budget,
    states,
    through,
    writing,
)
from tests.service.ledger.stores import raw
from tests.support import postgres
from tests.support.pgbouncer import pgbouncer


def test_a_wrong_password_is_named_and_not_shown(store: Store) -> None:
    """So are a database, a server and a host that are not there."""
    port, database = port_of(store), urlsplit(store.url).path
    postgres.require_password(port, "guarded")
    wrong = {
        f"postgresql://guarded:canary@127.0.0.1:{port}{database}": "password authentication failed",
        f"postgresql://127.0.0.1:{port}/nowhere": 'database "nowhere" does not exist',
        f"postgresql://me:canary@127.0.0.1:{postgres.free_port()}/x": "refused",
        "postgresql://me:canary@db.invalid/x": "db.invalid",
        f"postgresql://127.0.0.1:{port}{database}?nonsense=canary": "parameter that libpq does not",
    }
    for url, problem in wrong.items():
        with pytest.raises((LedgerUnavailableError, ValueError)) as caught:
            PostgresStore(url).migrate()

        assert problem in str(caught.value), url
        assert "canary" not in str(caught.value).replace("nonsense=canary", "")
        assert "\n" not in str(caught.value)


def test_a_user_without_rights_is_told_what_it_needs(store: Store) -> None:
    """It may log in, and nothing else."""
    port, database = port_of(store), urlsplit(store.url).path
    postgres.require_password(port, "guarded")

    with pytest.raises(LedgerUnavailableError, match=r"permission denied for database .* must own"):
        PostgresStore(f"postgresql://guarded:secret@127.0.0.1:{port}{database}").migrate()


def test_a_pooler_that_splits_transactions_is_refused(store: Store) -> None:
    """PgBouncer in statement mode: the error says which mode to set."""
    with (
        pgbouncer(port_of(store), "statement") as port,
        pytest.raises(LedgerUnavailableError, match="set pool_mode = transaction"),
    ):
        through(store, port).migrate()


def test_a_restarted_server_is_found_again(tmp_path: Path) -> None:
    """While it is down, batches fail at once; afterwards the same writer goes on."""
    server = postgres.Server(postgres.QUICK)
    try:
        server.create()
        server.start()
        store = PostgresStore(server.new_database())
        with writing(store) as writer:
            held = reservation()
            writer.commit([held])
            server.stop()
            with pytest.raises(LedgerUnavailableError, match=r"cannot connect|could not commit"):
                writer.commit([reservation()])
            server.start()

            writer.commit([end(held)])

            assert states(store) == {"settled": 1}
    finally:
        server.remove()


def test_of_several_hosts_the_one_that_lives_is_used(store: Store) -> None:
    """A dead host at the front of the URL costs a moment, not the ledger."""
    dead = postgres.free_port()
    several = PostgresStore(
        f"postgresql://127.0.0.1:{dead},127.0.0.1:{port_of(store)}{urlsplit(store.url).path}"
    )

    with writing(several) as writer:
        assert isinstance(writer.commit([reservation()])[0], Hold)


def test_a_server_that_became_read_only_is_left(store: Store) -> None:
    """Like a primary that comes back as a standby: the error says what to do, and when the server can
    be written to again, the writer goes on."""
    with writing(store) as writer:
        writer.commit([reservation()])
        database = urlsplit(store.url).path.strip("/")
        raw(store, f"ALTER DATABASE {database} SET default_transaction_read_only = on")
        raw(
            store,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid != pg_backend_pid()",
        )
        with pytest.raises(LedgerUnavailableError, match=r"read-only .*URL of the primary"):
            writer.commit([reservation()])
        postgres.server().sql(f"ALTER DATABASE {database} RESET default_transaction_read_only")

        writer.commit([reservation()])

    assert states(store) == {"held": 2}


def test_many_writers_on_a_nearly_empty_budget_overshoot_by_nothing(store: Store) -> None:
    """Four writers, 240 holds at once: exactly as many are granted as there is room for."""
    set_budget(store, 375)
    granted: list[int] = []

    def gateway(name: str) -> None:
        with writing(store, name) as writer:
            for _ in range(10):
                results = writer.commit([reservation() for _ in range(6)])
                granted.extend(isinstance(result, Hold) for result in results)
                assert all(isinstance(r, Hold | BudgetExceededError) for r in results)

    store.migrate()
    threads = [threading.Thread(target=gateway, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(granted) == 240
    assert sum(granted) == 37
    assert balance(store) == (0, 370)


def test_a_pooler_in_transaction_mode_is_recognised(store: Store) -> None:
    """Two writers with fewer connections than transactions: no prepared statement is missed, the time
    limits apply in each transaction, and what needs a session is refused."""
    set_budget(store, 10**6)
    with pgbouncer(port_of(store)) as port:
        pooled = through(store, port)
        with writing(pooled, "a") as a, writing(pooled, "b") as b:
            for _ in range(8):
                for writer in (a, b):
                    held = [reservation() for _ in range(3)]
                    writer.commit(held)
                    writer.commit([end(r) for r in held])
            assert a._session.pooled
            with a._session.transaction() as connection:
                assert connection.execute("SHOW jit").fetchone() == ("off",)
                assert connection.execute("SHOW lock_timeout").fetchone() == ("5s",)
        with pytest.raises(LedgerUnavailableError, match="is a pooler, which cannot keep"):
            pooled.exclusive("ship").acquire()

    assert states(store) == {"settled": 48}
    assert balance(store) == (48 * 7, 0)


def test_a_direct_connection_is_not_taken_for_a_pooler(store: Store) -> None:
    """Its settings are made once and hold."""
    with writing(store) as writer:
        writer.commit([reservation()])

        assert not writer._session.pooled
        connection = writer._session.connection
        assert connection.execute("SHOW plan_cache_mode").fetchone() == ("force_generic_plan",)


def test_commits_are_durable_even_if_the_role_says_otherwise(store: Store) -> None:
    """A role with `synchronous_commit = off` would lose holds in a crash."""
    database = urlsplit(store.url).path.strip("/")
    raw(store, f"ALTER DATABASE {database} SET synchronous_commit = off")

    with writing(store) as writer:
        writer.commit([reservation()])

        connection = writer._session.connection
        assert connection.execute("SHOW synchronous_commit").fetchone() == ("on",)
