"""What only one process does on a ledger, of all machines: a lock that lives as long as its connection."""

from __future__ import annotations

from contextlib import suppress

import psycopg

from spanledger.errors import LedgerUnavailableError
from spanledger.ledger.postgres.connection import Link, Session
from spanledger.ledger.postgres.errors import translating


class AdvisoryLock:
    """`Lock` by a session's advisory lock, which a pooler in transaction mode cannot keep."""

    def __init__(self, session: Session, name: str) -> None:
        self._session = session
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
                raise LedgerUnavailableError(
                    "the ledger is reached through a pooler, which cannot keep a lock for one"
                    " process: give this process the address of the server itself"
                )
            row = connection.execute(
                "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", (self._name,)
            ).fetchone()
        self._holding = connection if row and row[0] else None
        return self._holding is not None

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
