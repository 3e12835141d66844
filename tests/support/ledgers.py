"""Ledgers of tests, by their file."""

from __future__ import annotations

from pathlib import Path

from spanledger.ledger import open_store
from spanledger.ledger.ports import Store
from spanledger.ledger.sqlite.store import SqliteStore


def store_at(path: Path) -> Store:
    """The ledger in a file."""
    return open_store(f"sqlite:///{path}")


def sqlite_at(path: Path) -> SqliteStore:
    """The same, for tests that look behind its ports."""
    return SqliteStore(f"sqlite:///{path}", path)
