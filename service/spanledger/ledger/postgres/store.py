"""A ledger in a Postgres database, which gateways on many machines share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from time import time_ns

from spanledger.errors import UsageError
from spanledger.ledger.model import Verification
from spanledger.ledger.ports import Access, Outbox, Progress
from spanledger.ledger.postgres.connection import REPORT_TIMEOUT_S, ServerAddress, Session
from spanledger.ledger.postgres.errors import translated
from spanledger.ledger.postgres.lock import AdvisoryLock
from spanledger.ledger.postgres.migrate import (
    check_version,
    migrate,
    no_ledger,
    schema_version,
)
from spanledger.ledger.postgres.writer import PostgresWriter
from spanledger.ledger.pruning import Pruning, check_prunable
from spanledger.ledger.records import Records
from spanledger.ledger.reports import Reports


@translated
class PostgresStore:
    """`Store` of one database.

    Attributes:
        url: without user, password and parameters, because it is shown.
    """

    def __init__(self, url: str) -> None:
        self._address = ServerAddress(url)
        self.url = self._address.shown

    def exists(self) -> bool:
        """See `Store`."""
        session = Session(self._address, read_only=True)
        try:
            return schema_version(session.connection) > 0
        finally:
            session.close()

    def require(self) -> None:
        """See `Store`."""
        if not self.exists():
            raise no_ledger(self.url)

    def migrate(self, now_ns: Callable[[], int] = time_ns) -> None:
        """See `Store`."""
        self._upgraded(now_ns).close()

    def writer(self, owner: str, lease_ns: int, now_ns: Callable[[], int]) -> PostgresWriter:
        """See `Store`."""
        self.migrate(now_ns)
        return PostgresWriter(self._address, owner, lease_ns, now_ns)

    def records(self, access: Access) -> Records:  # noqa: ARG002 - as the port has it
        """See `Store`."""
        raise UsageError("budgets and keys cannot be kept in Postgres yet")

    def reports(self) -> Reports:
        """See `Store`."""
        raise UsageError("reports cannot be read from Postgres yet")

    def outbox(self) -> Outbox:
        """See `Store`."""
        raise UsageError("the shipper does not know Postgres yet")

    def exclusive(self, name: str) -> AdvisoryLock:
        """See `Store`."""
        return AdvisoryLock(Session(self._address), name)

    def prune(self, before_ns: int, now_ns: int, *, unshipped: bool = False) -> Pruning:
        """See `Store`."""
        check_prunable(before_ns, now_ns)
        raise UsageError(f"requests cannot be removed from Postgres yet, {unshipped=}")

    def backup(self, destination: Path, progress: Progress) -> Verification:  # noqa: ARG002 - as the port has it
        """See `Store`."""
        raise UsageError(
            "a ledger in Postgres is backed up with `pg_dump` or a standby's tools: see"
            " docs/postgres.md"
        )

    def _upgraded(self, now_ns: Callable[[], int] = time_ns) -> Session:
        """A session that writes, on a ledger of this program's version."""
        session = Session(self._address)
        try:
            migrate(session, now_ns)
        except BaseException:
            session.close()
            raise
        return session

    def _changing(self) -> Session:
        """The same, on a ledger that must be there."""
        self.require()
        return self._upgraded()

    def _read(self) -> Session:
        """A session that only reads."""
        session = Session(self._address, read_only=True, statement_timeout_s=REPORT_TIMEOUT_S)
        try:
            check_version(session.connection, self.url)
        except BaseException:
            session.close()
            raise
        return session
