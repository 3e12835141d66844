"""The ledger: budgets as balances over the rows of attempts. `open_ledger` is the entry point."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable

from spanledger.clock import Clock
from spanledger.ledger.group import GroupLedger
from spanledger.ledger.sqlite.connection import connect, sqlite_path
from spanledger.ledger.sqlite.records import Records
from spanledger.ledger.sqlite.writer import SqliteWriter

DEFAULT_LEASE_S = 30.0
DEFAULT_MAX_HOLD_S = 3600.0


def open_ledger(
    url: str,
    clock: Clock | None = None,
    *,
    lease_s: float = DEFAULT_LEASE_S,
    max_hold_s: float = DEFAULT_MAX_HOLD_S,
    observe_commit: Callable[[float, int], None] = lambda _seconds, _operations: None,
) -> GroupLedger:
    """Open a ledger for the request path, creating it if needed; close it with `await ledger.close()`.

    Args:
        url: `sqlite:///PATH`.
        lease_s: seconds after this process's last lease renewal when others expire its holds.
        max_hold_s: no hold lives longer than this.
        observe_commit: receives the duration in seconds and the number of operations of each commit.

    Raises:
        ConfigError: the URL is of an unknown kind.
        LedgerUnavailableError: the database cannot be opened.
    """
    clock = clock or Clock()
    path = sqlite_path(url)
    owner = f"{os.getpid()}-{secrets.token_hex(6)}"
    store = SqliteWriter(path, owner, int(lease_s * 1e9), clock.now_ns)
    return GroupLedger(
        store,
        Records(connect(path, read_only=True)),
        now_ns=clock.now_ns,
        monotonic=clock.monotonic,
        lease_s=lease_s,
        max_hold_s=max_hold_s,
        observe_commit=observe_commit,
    )
