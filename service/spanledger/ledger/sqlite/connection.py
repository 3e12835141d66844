"""SQLite as the ledger uses it: opening, settings, the write lock, and decoding rows."""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path

from spanledger.errors import LedgerUnavailableError
from spanledger.ledger.budget_rows import ADDED, BUDGET_COLUMNS

BUSY_TIMEOUT_S = 5.0
"""How long a batch waits for another process's transaction before the ledger counts as unavailable."""
SCOPES_VERSION = 8
"""First schema version whose requests and keys have users, projects and tags."""
CHARGES_VERSION = 10
"""First schema version whose attempts have list prices and charges."""
CHECKPOINT_PAGES = 8_000
"""Pages in the write-ahead log (32 MB) before a commit copies them into the file."""


def require_ledger(path: Path) -> None:
    """Raises LedgerUnavailableError if there is none: only commands that write new rows create one."""
    if not path.exists():
        raise LedgerUnavailableError(
            f"there is no ledger at {str(path)!r}; start the gateway to create it, or name another with --ledger"
        )


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """Open the database file with our settings; creates it unless `read_only`.

    Raises:
        LedgerUnavailableError: it cannot be opened or is not a database.
    """
    try:
        if read_only:
            require_ledger(path)
            connection = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode=ro",
                uri=True,
                isolation_level=None,
                timeout=BUSY_TIMEOUT_S,
                check_same_thread=False,
            )
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            # It may contain prompts; SQLite gives its log and index the same mode.
            path.touch(mode=0o600)
            connection = sqlite3.connect(
                path, isolation_level=None, timeout=BUSY_TIMEOUT_S, check_same_thread=False
            )
            # Processes that open a new file at once get in each other's way here, and SQLite does not
            # wait: each would wait for the other.
            execute_when_free(connection, "PRAGMA journal_mode = WAL", BUSY_TIMEOUT_S)
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        connection.execute("PRAGMA cache_size = -16384")
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except (sqlite3.Error, OSError) as error:
        raise LedgerUnavailableError(f"cannot open the ledger {str(path)!r}: {error}") from error
    return connection


def begin_immediate(connection: sqlite3.Connection, timeout_s: float = BUSY_TIMEOUT_S) -> None:
    """Take the write lock, retrying often: SQLite's own waiting sleeps up to 100 ms at a time.

    Raises:
        LedgerUnavailableError: another process kept it longer than `timeout_s`.
    """
    connection.execute("PRAGMA busy_timeout = 0")
    execute_when_free(connection, "BEGIN IMMEDIATE", timeout_s)


def execute_when_free(connection: sqlite3.Connection, statement: str, timeout_s: float) -> None:
    """Execute a statement, and retry it while another process holds a lock.

    Raises:
        LedgerUnavailableError: the lock was held longer than `timeout_s`.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            connection.execute(statement)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise
            if time.monotonic() >= deadline:
                raise LedgerUnavailableError(
                    f"the ledger was locked by another process for {timeout_s:g} s"
                ) from error
            time.sleep(random.uniform(0.0002, 0.001))
        else:
            return


def has_scopes(connection: sqlite3.Connection) -> bool:
    """Whether requests and keys of the file have users, projects and tags."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return bool(version >= SCOPES_VERSION)


def has_charges(connection: sqlite3.Connection) -> bool:
    """Whether attempts of the file have list prices and charges."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return bool(version >= CHARGES_VERSION)


def has_notices(connection: sqlite3.Connection) -> bool:
    """Whether the file has notices."""
    query = "SELECT 1 FROM sqlite_master WHERE name = 'notices'"
    return connection.execute(query).fetchone() is not None


def budget_columns(connection: sqlite3.Connection) -> Sequence[str]:
    """The columns that the file has of budgets: one that is only read may lack the newest."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return [name for name in BUDGET_COLUMNS if version >= ADDED.get(name, 0)]


WRITE_BALANCE = "INSERT OR REPLACE INTO balances VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
"""Parameters are `Balance.row`; an upsert of single columns takes half as long again."""
