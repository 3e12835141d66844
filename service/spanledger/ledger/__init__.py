"""The ledger: budgets as balances over the rows of attempts. `open_store` is the entry point."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path

from spanledger.clock import Clock
from spanledger.config.addresses import is_postgres, sqlite_file
from spanledger.errors import ConfigError
from spanledger.ledger.group import GroupLedger
from spanledger.ledger.journal.journal import Journal
from spanledger.ledger.ports import Store

DEFAULT_LEASE_S = 30.0
DEFAULT_MAX_HOLD_S = 3600.0


def open_store(url: str, direct_url: str = "") -> Store:
    """The ledger of a URL; nothing is opened before it is used.

    Args:
        url: `sqlite:///PATH`, a path, or `postgresql://HOST/DATABASE`.
        direct_url: the address of the database's server, where `url` is that of a pooler.

    Raises:
        ConfigError: the URL is of an unknown kind, or the driver of its database is not installed.
    """
    # Imported here, so that only the driver of this database is loaded.
    try:
        if is_postgres(url):
            return _postgres_store(url, direct_url)
        from spanledger.ledger.sqlite.store import SqliteStore

        if direct_url:
            raise ConfigError("ledger.direct_url is only for a ledger in Postgres; leave it out")
        return SqliteStore(url, sqlite_file(url))
    except ValueError as error:
        raise ConfigError(f"ledger URL {error}") from None


def _postgres_store(url: str, direct_url: str) -> Store:
    try:
        from spanledger.ledger.postgres.store import PostgresStore
    except ImportError as error:
        if error.name is not None and not error.name.startswith("psycopg"):
            raise
        raise ConfigError(
            "the driver for a ledger in Postgres is not installed: install spanledger with its extra, in a"
            " clone of it: uv tool install '.[postgres]'"
        ) from error
    return PostgresStore(url, direct_url)


def open_ledger(
    store: Store,
    clock: Clock | None = None,
    *,
    lease_s: float = DEFAULT_LEASE_S,
    max_hold_s: float = DEFAULT_MAX_HOLD_S,
    observe_commit: Callable[[float, int], None] = lambda _seconds, _operations: None,
    journal: Path | None = None,
) -> GroupLedger:
    """Open a ledger for the request path, creating it if needed; close it with `await ledger.close()`.

    Args:
        lease_s: seconds after this process's last lease renewal when others expire its holds.
        max_hold_s: no hold lives longer than this.
        observe_commit: receives the duration in seconds and the number of operations of each commit.
        journal: the folder for what budgets allow while the database is unavailable; without it,
            nothing is allowed.

    Raises:
        LedgerUnavailableError: the database cannot be opened.
    """
    clock = clock or Clock()
    owner = f"{os.getpid()}-{secrets.token_hex(6)}"
    writer = store.writer(owner, int(lease_s * 1e9), clock.now_ns)
    held = None if journal is None else Journal(journal, store, owner, clock.now_ns)
    if held is not None:
        held.take_over()
    return GroupLedger(
        writer,
        store.records("read"),
        now_ns=clock.now_ns,
        monotonic=clock.monotonic,
        lease_s=lease_s,
        max_hold_s=max_hold_s,
        observe_commit=observe_commit,
        journal=held,
    )
