"""The databases that every test of the ledger runs on; what only one of them has is tested in a
folder of its own."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from spanledger.ledger import open_store
from spanledger.ledger.ports import Store
from spanledger.ledger.sqlite.store import SqliteStore
from tests.support import postgres
from tests.support.ledgers import store_at

KINDS = ("sqlite", "postgres")


def new_store(kind: str, folder: Path) -> Store:
    """A ledger of its own that does not exist yet.

    Args:
        folder: an empty folder, for databases that are files.
    """
    if kind == "postgres":
        return open_store(postgres.new_ledger_url())
    assert kind == "sqlite"
    return store_at(folder / "ledger.db")


def remove_store(store: Store) -> None:
    """Delete a ledger that nobody uses any more, if it is not a file: tests delete their folders."""
    if not isinstance(store, SqliteStore):
        name = conninfo_to_dict(store.url)["dbname"]
        postgres.server().sql(f'DROP DATABASE "{name}" WITH (FORCE)')


@contextlib.contextmanager
def cut_off(store: Store) -> Iterator[None]:
    """Within it, nothing can be committed, and nothing new can be opened."""
    if isinstance(store, SqliteStore):
        aside = store.path.with_name("aside.db")
        store.path.rename(aside)
        try:
            yield
        finally:
            aside.rename(store.path)
        return
    name = conninfo_to_dict(store.url)["dbname"]
    server = make_conninfo(store.url, dbname="postgres")
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false'.encode())
        try:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,)
            )
            yield
        finally:
            connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true'.encode())


def raw(store: Store, statement: str, *parameters: object) -> list[Any]:
    """Run a statement of SQL behind the ledger's back; returns its rows.

    Args:
        statement: with `?` for parameters, in every database.
    """
    if isinstance(store, SqliteStore):
        with contextlib.closing(sqlite3.connect(store.path, isolation_level=None)) as connection:
            return connection.execute(statement, parameters).fetchall()
    with psycopg.connect(
        store.url, autocommit=True, options="-c search_path=spanledger"
    ) as connection:
        cursor = connection.execute(statement.replace("?", "%s").encode(), parameters)
        return cursor.fetchall() if cursor.description else []
