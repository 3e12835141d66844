"""The databases that every test of the ledger runs on; what only one of them has is tested in a
folder of its own."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

from spanledger.ledger.ports import Store
from spanledger.ledger.sqlite.store import SqliteStore
from tests.support.ledgers import store_at

KINDS = ("sqlite",)


def new_store(kind: str, folder: Path) -> Store:
    """A ledger of its own that does not exist yet.

    Args:
        folder: an empty folder, for databases that are files.
    """
    assert kind in KINDS
    return store_at(folder / "ledger.db")


def raw(store: Store, statement: str, *parameters: object) -> list[Any]:
    """Run a statement of SQL behind the ledger's back; returns its rows."""
    assert isinstance(store, SqliteStore)
    with contextlib.closing(sqlite3.connect(store.path, isolation_level=None)) as connection:
        return connection.execute(statement, parameters).fetchall()
