"""The schema of a ledger in Postgres: created, refused, resumed."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from urllib.parse import urlsplit

import psycopg
import pytest

from spanledger.errors import LedgerUnavailableError
from spanledger.ledger import open_store
from spanledger.ledger.ports import Store
from spanledger.ledger.postgres import migrate as module
from spanledger.ledger.postgres.partitions import ensure, partition_of, partitions_ahead
from spanledger.ledger.postgres.store import PostgresStore
from tests.service.ledger.conftest import NOON
from tests.service.ledger.postgres.rig import end, port_of, reservation, states, writing
from tests.service.ledger.stores import raw
from tests.support import postgres
from tests.support.processes import poll

DAY = 86_400 * 10**9
PARTITIONS = """
SELECT c.relname FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid
WHERE inhparent IN ('requests'::regclass, 'attempts'::regclass) ORDER BY 1"""


def test_a_ledger_is_made_once(store: Store) -> None:
    """There is none, then there is one with the partitions of three months, then nothing changes."""
    assert not store.exists()
    with pytest.raises(LedgerUnavailableError, match="there is no ledger in"):
        store.require()

    store.migrate(lambda: NOON)
    made = raw(store, PARTITIONS)
    store.migrate(lambda: NOON)

    assert store.exists()
    store.require()
    assert raw(store, PARTITIONS) == made
    assert [name for (name,) in made] == [
        *("attempts_2026_11", "attempts_2026_12", "attempts_2027_01"),
        *("requests_2026_11", "requests_2026_12", "requests_2027_01"),
    ]


def test_a_newer_ledger_is_refused(store: Store) -> None:
    """It says which version it has, and what to do; nothing is changed."""
    store.migrate()
    raw(store, "UPDATE state SET value = 99 WHERE key = 'schema_version'")

    with pytest.raises(LedgerUnavailableError, match=r"version 99, .* only knows .*: upgrade"):
        store.migrate()

    assert raw(store, "SELECT value FROM state WHERE key = 'schema_version'") == [(99,)]


def test_a_schema_that_is_there_needs_no_right_on_the_database(store: Store) -> None:
    """The administrator has made it for the gateway's role, which may make no other."""
    port, database = port_of(store), urlsplit(store.url).path
    postgres.require_password(port, "guarded")
    raw(store, "CREATE SCHEMA spanledger AUTHORIZATION guarded")

    PostgresStore(f"postgresql://guarded:secret@127.0.0.1:{port}{database}").migrate()

    assert store.exists()


@pytest.mark.parametrize("table", ["requests", "attempts"])
@pytest.mark.parametrize("way", ["DROP TABLE {0}", "ALTER TABLE {1} DETACH PARTITION {0}"])
def test_a_month_that_lost_one_table_gets_it_back(store: Store, table: str, way: str) -> None:
    """A gateway goes on with the first request that needs it."""
    with writing(store) as writer:
        held = reservation()
        month = partition_of(held.request.request_id).suffix
        raw(store, way.format(f"{table}_{month}", table))

        writer.commit([held, end(held)])

        assert states(store) == {"settled": 1}
        assert raw(store, "SELECT count(*) FROM requests") == [(1,)]


def test_processes_that_start_at_once_make_one_ledger(store: Store) -> None:
    """All of them succeed."""
    failures: list[Exception] = []

    def start() -> None:
        try:
            open_store(store.url).migrate()
        except LedgerUnavailableError as error:
            failures.append(error)

    threads = [threading.Thread(target=start) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    assert raw(store, "SELECT count(*) FROM state WHERE key = 'schema_version'") == [(1,)]


def test_two_that_need_the_same_month_at_once_get_it(store: Store) -> None:
    """One makes it; the other has found none, waits, and then finds it."""
    store.migrate(lambda: NOON)
    later = partitions_ahead(NOON + 400 * DAY)

    with psycopg.connect(store.url) as first, psycopg.connect(store.url) as second:
        ensure(first, later)
        other = threading.Thread(target=ensure, args=(second, later))
        other.start()
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        assert poll(lambda: raw(store, waiting) == [(1,)], 10)
        first.commit()
        other.join()

        assert second.execute("SELECT 1").fetchone() == (1,)


def test_a_migration_that_dies_leaves_nothing_behind(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connection is cut halfway; the next one starts from nothing and succeeds."""
    scripts = module._scripts()
    cut = "SELECT pg_terminate_backend(pg_backend_pid())"

    class Broken:
        """The last script, which is cut off at its end."""

        name = "m999.sql"

        def read_text(self, encoding: str) -> str:
            return f"{scripts[-1].read_text(encoding=encoding)};{cut}"

    with monkeypatch.context() as patch:
        patch.setattr(module, "_scripts", lambda: [*scripts[:-1], Broken()])
        with pytest.raises(LedgerUnavailableError, match="terminating connection"):
            store.migrate()
    assert not store.exists()

    store.migrate()

    assert store.exists()


def test_a_ledger_in_use_by_an_earlier_version_is_not_upgraded(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its gateways would stop serving: the error says to stop them, and afterwards it is upgraded."""
    scripts = module._scripts()
    with writing(store) as writer:
        held = reservation()
        writer.commit([held])
        with monkeypatch.context() as patch:
            patch.setattr(module, "_scripts", lambda: [*scripts, Harmless()])
            with pytest.raises(LedgerUnavailableError, match=r"earlier version .* killed, start"):
                store.migrate()
        writer.commit([end(held)])
    monkeypatch.setattr(module, "_scripts", lambda: [*scripts, Harmless()])

    store.migrate()

    version = raw(store, "SELECT value FROM state WHERE key = 'schema_version'")
    assert version == [(len(scripts) + 1,)]


class Harmless:
    """A script of a later version."""

    name = "m999.sql"

    def read_text(self, encoding: str) -> str:
        """It changes nothing."""
        return f"SELECT '{encoding}'"


def test_a_running_gateway_notices_that_the_ledger_was_upgraded(store: Store) -> None:
    """It writes nothing into a schema that it does not know, and says what to do."""
    with writing(store) as writer:
        writer.commit([reservation()])
        raw(store, "UPDATE state SET value = 99 WHERE key = 'schema_version'")

        for _ in range(2):
            with pytest.raises(LedgerUnavailableError, match="upgraded to schema version 99"):
                writer.commit([reservation()])

    assert states(store) == {"held": 1}


def test_another_programs_schema_is_left_alone(store: Store) -> None:
    """Tables of other programs in the same database stay, whatever their names."""
    with psycopg.connect(store.url, autocommit=True) as connection:
        connection.execute("CREATE TABLE public.requests (mine int)")

    store.migrate()

    with psycopg.connect(store.url) as connection:
        assert connection.execute("SELECT * FROM public.requests").fetchall() == []


def test_an_id_belongs_to_the_month_of_its_time() -> None:
    """Also at both ends of a month, and for ids that no gateway has made."""

    def id_at(*moment: int) -> str:
        ms = int(datetime(*moment, tzinfo=UTC).timestamp() * 1000)  # type: ignore[misc,arg-type]  # its parts
        return f"req_{ms:012x}{'0' * 12}"

    november = partition_of(id_at(2026, 11, 1))

    assert november.suffix == "2026_11"
    assert november == partition_of(id_at(2026, 11, 30, 23, 59, 59, 999_000))
    assert november.start.strip("'") <= id_at(2026, 11, 1) < november.end.strip("'")
    assert november.end == partition_of(id_at(2026, 12, 1)).start
    assert partition_of(id_at(2028, 2, 29)).suffix == "2028_02"
    assert partition_of("1234-5").suffix == "early"
    assert partition_of("req_0").suffix == "early"
    assert partition_of("reqz").suffix == "late"
    for odd in ("req_01", "req_019Z", "req_019z", "req_01a2/", "req_01a2_", "req_09f_0"):
        partition = partition_of(odd)
        assert partition.start.strip("'") <= odd < partition.end.strip("'"), odd
    assert partition_of("req_ffffffffffff" + "0" * 12).suffix == "9999_12"
    assert [p.suffix for p in partitions_ahead(NOON)] == ["2026_11", "2026_12", "2027_01"]


def test_the_password_is_in_no_message() -> None:
    """Neither in the ledger's name nor in the error of a server that does not answer."""
    store = PostgresStore("postgresql://me:canary%40@127.0.0.1:9/x?connect_timeout=2")

    with pytest.raises(LedgerUnavailableError) as caught:
        store.migrate()

    assert "canary" not in f"{store.url} {caught.value} {caught.value.__cause__!r}"
    assert "cannot connect to the ledger 'postgresql://127.0.0.1:9/x'" in str(caught.value)
