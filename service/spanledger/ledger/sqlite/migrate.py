"""The schema of a ledger file: upgraded by processes that write, checked by those that read.

Scripts in `migrations/` run once each, in order, all in one transaction: a process that dies
halfway leaves the file unchanged.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

from spanledger.clock import NANOS
from spanledger.errors import LedgerUnavailableError
from spanledger.ledger.budget_rows import budget_from_row, select_budgets
from spanledger.ledger.model import MAX_LEASE_NS
from spanledger.ledger.opening import Opening
from spanledger.ledger.sqlite.connection import begin_immediate, budget_columns
from spanledger.ledger.sqlite.errors import translating
from spanledger.ledger.sqlite.opening import SqliteOpeningRows

MIGRATION_TIMEOUT_S = 60
"""How long a process waits for another to migrate the file; a large file takes a while."""
ACCOUNTS_VERSION = 2
"""First schema version with today's balance keys."""
READABLE_VERSION = 2
"""Oldest schema version that can be read without an upgrade."""


def migrate(connection: sqlite3.Connection, now_ns: Callable[[], int] = time.time_ns) -> None:
    """Upgrade the schema; open holds stay.

    Raises:
        LedgerUnavailableError: the file is newer than this program, belongs to another program, is
            in use by a gateway of an earlier version, or cannot be written.
    """
    with translating("the ledger cannot be set up"):
        _migrate(connection, now_ns)


def check_version(connection: sqlite3.Connection, path: str) -> None:
    """Refuse a file that cannot be read without an upgrade; reading must not change it.

    Raises:
        LedgerUnavailableError: says whether the file or the program is too old, and what to do.
    """
    version, known = _version(connection), len(_scripts())
    if version == 0:
        raise LedgerUnavailableError(f"{path!r} is not a ledger")
    _refuse_newer(version, known)
    if version < READABLE_VERSION:
        raise LedgerUnavailableError(
            f"{path!r} has schema version {version}, but this program reads {READABLE_VERSION} and"
            " later: stop the processes that use it, then start the gateway or set a budget, which"
            " upgrades it"
        )


def _migrate(connection: sqlite3.Connection, now_ns: Callable[[], int]) -> None:
    scripts = _scripts()
    _refuse_newer(_version(connection), len(scripts))
    if _version(connection) == len(scripts):
        return
    begin_immediate(connection, MIGRATION_TIMEOUT_S)
    try:
        version = _version(connection)  # another process may have been faster
        _refuse_newer(version, len(scripts))
        if version == 0 and connection.execute("SELECT name FROM sqlite_master").fetchone():
            raise LedgerUnavailableError("the file is another program's database, not a ledger")
        if 0 < version < len(scripts):
            _refuse_in_use(connection, now_ns())
        for number, script in enumerate(scripts[version:], start=version + 1):
            for statement in _statements(script.read_text(encoding="utf-8")):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number}")
        if 0 < version < ACCOUNTS_VERSION:
            budgets = [
                budget_from_row(row)
                for row in connection.execute(select_budgets(budget_columns(connection)))
            ]
            Opening(budgets, now_ns() // NANOS).write(SqliteOpeningRows(connection))
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _refuse_newer(version: int, known: int) -> None:
    if version > known:
        raise LedgerUnavailableError(
            f"the ledger has schema version {version}, but this program only knows {known}:"
            " upgrade spanledger"
        )


def _refuse_in_use(connection: sqlite3.Connection, now_ns: int) -> None:
    """A gateway of an earlier version could not end its holds in an upgraded file."""
    until_ns = connection.execute(
        "SELECT max(lease_ns) FROM owners WHERE lease_ns BETWEEN ? AND ?",
        (now_ns, now_ns + MAX_LEASE_NS),
    ).fetchone()[0]
    if until_ns is not None:
        raise LedgerUnavailableError(
            "a gateway of an earlier version is using this ledger: stop it, then start again; if it"
            f" was killed, start again in {(until_ns - now_ns) // NANOS + 1} s"
        )


@cache
def _scripts() -> list[Traversable]:
    folder = files("spanledger.ledger.sqlite").joinpath("migrations")
    return sorted((f for f in folder.iterdir() if f.name.endswith(".sql")), key=lambda f: f.name)


def _statements(script: str) -> list[str]:
    found, current = [], ""
    for line in script.splitlines(keepends=True):
        current += line
        if sqlite3.complete_statement(current):
            found.append(current)
            current = ""
    return found
