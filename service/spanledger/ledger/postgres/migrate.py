"""The schema of a ledger in Postgres: upgraded by processes that write, checked by those that read.

Scripts in `migrations/` run once each, in order, all in one transaction: a process that dies
halfway leaves the database unchanged.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

from spanledger.clock import NANOS
from spanledger.errors import LedgerUnavailableError
from spanledger.ledger.postgres.connection import Link, Session, has_table
from spanledger.ledger.postgres.errors import translating
from spanledger.ledger.postgres.partitions import ensure, partitions_ahead

UPGRADE_TIMEOUT_S = 60
"""How long a process waits for another to migrate the ledger."""
_LOCK = "spanledger.migrate"
_LONGEST_LEASE_NS = 3_600 * NANOS
"""A lease that ends later than this dates from before a clock was set back."""


def migrate(session: Session, now_ns: Callable[[], int] = time.time_ns) -> None:
    """Create the ledger, or upgrade its schema, and make the coming months' partitions.

    Raises:
        LedgerUnavailableError: the ledger is newer than this program, or the user lacks a right.
    """
    with translating(f"the ledger {session.address.shown!r} cannot be set up"):
        version = schema_version(session.connection)
        _refuse_newer(version)
        if version < known_version():
            _upgrade(session, now_ns)
        with session.transaction() as connection:
            ensure(connection, partitions_ahead(now_ns()))


def _upgrade(session: Session, now_ns: Callable[[], int]) -> None:
    with session.transaction() as connection:
        timeout = f"{UPGRADE_TIMEOUT_S}s"
        connection.execute("SELECT set_config('lock_timeout', %s, true)", (timeout,))
        connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (_LOCK,))
        version = schema_version(connection)  # another process may have been faster
        _refuse_newer(version)
        if version == 0:
            _make_schema(connection)
        elif version < known_version():
            _refuse_in_use(connection, now_ns())
        for number, script in enumerate(_scripts()[version:], start=version + 1):
            connection.execute(script.read_text(encoding="utf-8"))
            connection.execute(
                "UPDATE spanledger.state SET value = %s WHERE key = 'schema_version'", (number,)
            )


def _make_schema(connection: Link) -> None:
    """An administrator may have made it; then the user needs no right on the database, which even
    `IF NOT EXISTS` asks for."""
    found = connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = 'spanledger'").fetchone()
    if found is None:
        connection.execute("CREATE SCHEMA spanledger")


def _refuse_in_use(connection: Link, now_ns: int) -> None:
    """A gateway of an earlier version would answer 503 from the moment of the upgrade."""
    connection.execute("LOCK TABLE spanledger.owners IN SHARE ROW EXCLUSIVE MODE")
    row = connection.execute(
        "SELECT max(lease_ns) FROM spanledger.owners"
        " WHERE id IS NOT NULL AND lease_ns BETWEEN %s AND %s",
        (now_ns, now_ns + _LONGEST_LEASE_NS),
    ).fetchone()
    assert row is not None
    if row[0] is not None:
        raise LedgerUnavailableError(
            "a gateway of an earlier version is using this ledger: stop all of them, then start again;"
            f" if one was killed, start again in {(row[0] - now_ns) // NANOS + 1} s"
        )


def known_version() -> int:
    """The schema version of this program."""
    return len(_scripts())


def schema_version(connection: Link) -> int:
    """A ledger's schema version; 0 if there is no ledger."""
    if not has_table(connection, "state"):
        return 0
    query = "SELECT value FROM spanledger.state WHERE key = 'schema_version'"
    row = connection.execute(query).fetchone()
    return int(row[0]) if row else 0


def check_version(connection: Link, shown: str) -> None:
    """Refuse a ledger that cannot be read without an upgrade; reading must not change it.

    Raises:
        LedgerUnavailableError: says whether the ledger or the program is too old, and what to do.
    """
    version = schema_version(connection)
    if version == 0:
        raise no_ledger(shown)
    _refuse_newer(version)
    if version < known_version():
        raise LedgerUnavailableError(
            f"the ledger {shown!r} has schema version {version}, but this program reads"
            f" {known_version()}: run `spanledger ledger migrate`"
        )


def no_ledger(shown: str) -> LedgerUnavailableError:
    """The error of a database without a ledger."""
    return LedgerUnavailableError(
        f"there is no ledger in {shown!r}; run `spanledger ledger migrate`, or start the gateway, to"
        " create it"
    )


def _refuse_newer(version: int) -> None:
    if version > known_version():
        raise LedgerUnavailableError(
            f"the ledger has schema version {version}, but this program only knows"
            f" {known_version()}: upgrade spanledger"
        )


@cache
def _scripts() -> list[Traversable]:
    folder = files("spanledger.ledger.postgres").joinpath("migrations")
    return sorted((f for f in folder.iterdir() if f.name.endswith(".sql")), key=lambda f: f.name)
