"""What only one process does on a ledger, of all machines: a lock that lives as long as its connection."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import psycopg

from spanledger.errors import NoLockError
from spanledger.ledger.postgres.connection import Link, Session
from spanledger.ledger.postgres.errors import translating
from spanledger.ledger.postgres.sql import PostgresSql
from spanledger.ledger.sql.identity import ledger_uuid


class AdvisoryLock:
    """`Lock` by a session's advisory lock, which a pooler in transaction mode cannot keep.

    Args:
        ledger: asks which ledger is meant, where the session has another address than that.
    """

    def __init__(
        self, session: Session, name: str, ledger: Callable[[], str] | None = None
    ) -> None:
        self._session = session
        self._ledger = ledger
        self._holding: Link | None = None
        self._name = f"spanledger.{name}"

    def acquire(self) -> bool:
        """See `Lock`."""
        if self.held():
            return True
        with translating("the ledger cannot be locked"):
            connection = self._session.connection
            if self._session.pooled:
                self._session.close()
                raise NoLockError(
                    f"{self._session.address.shown!r} is a pooler, which cannot keep a lock for one"
                    " process: set ledger.direct_url, or SPANLEDGER_LEDGER_DIRECT_URL, to the address of"
                    " the server itself"
                )
            self._check_ledger()
            row = connection.execute(
                "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", (self._name,)
            ).fetchone()
        self._holding = connection if row and row[0] else None
        return self._holding is not None

    def _check_ledger(self) -> None:
        """A lock in another database would keep nobody out. Raises NoLockError."""
        if self._ledger is None:
            return
        wanted, found = self._ledger(), ""
        with suppress(psycopg.errors.UndefinedTable):
            found = ledger_uuid(PostgresSql(self._session))
        if found != wanted:
            self._session.close()
            raise NoLockError(
                f"ledger.direct_url ({self._session.address.shown!r}) is not the ledger of ledger.url:"
                " give it the same database, at the server itself"
            )
        self._ledger = None  # it stays so

    def held(self) -> bool:
        """See `Lock`. The server gives the lock back as soon as it notices that we are gone."""
        if self._holding is None or self._holding.closed:
            return False
        try:
            self._holding.execute("SELECT 1")
        except psycopg.Error:
            return False
        return True

    def close(self) -> None:
        """See `Lock`."""
        with suppress(psycopg.Error):
            self._session.close()
