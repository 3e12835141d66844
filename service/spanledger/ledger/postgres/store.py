"""A ledger in a Postgres database, which gateways on many machines share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from time import time_ns

from spanledger.errors import UsageError
from spanledger.ledger.model import Verification
from spanledger.ledger.ports import Access, Progress
from spanledger.ledger.postgres.connection import (
    PLANNER,
    REPORT_TIMEOUT_S,
    STATEMENT_TIMEOUT_S,
    ServerAddress,
    Session,
)
from spanledger.ledger.postgres.errors import translated
from spanledger.ledger.postgres.lock import AdvisoryLock
from spanledger.ledger.postgres.migrate import (
    check_version,
    migrate,
    no_ledger,
    schema_version,
)
from spanledger.ledger.postgres.notices import PostgresNotices
from spanledger.ledger.postgres.outbox import PostgresOutbox
from spanledger.ledger.postgres.pruning import PostgresPruning
from spanledger.ledger.postgres.records import PostgresRecords
from spanledger.ledger.postgres.reports import PostgresReports
from spanledger.ledger.postgres.sql import PostgresSql
from spanledger.ledger.postgres.tables import PostgresTables
from spanledger.ledger.postgres.writer import PostgresWriter
from spanledger.ledger.pruning import check_prunable
from spanledger.ledger.sql.identity import ledger_uuid, refuse_incomplete

NOTICED = {
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "10000",
}
"""The server notices a machine that has vanished, and gives its lock to another, within about 10 s."""
PATIENT = {"idle_in_transaction_session_timeout": "0"}
"""A copy keeps everybody out while it works on the other database."""
BY_INDEX = {**PLANNER, "enable_bitmapscan": "off"}
"""The shipper reads a few rows in the order of an index; without statistics, all would be sorted."""


@translated
class PostgresStore:
    """`Store` of one database.

    Args:
        direct_url: where the server itself is, if `url` is a pooler; for what needs a connection of its own.

    Attributes:
        url: without user, password and parameters, because it is shown.
    """

    def __init__(self, url: str, direct_url: str = "") -> None:
        self._address = ServerAddress(url)
        self._direct = ServerAddress(direct_url) if direct_url else None
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
        self._whole(now_ns).close()
        return PostgresWriter(self._address, owner, lease_ns, now_ns)

    def records(self, access: Access) -> PostgresRecords:
        """See `Store`."""
        if access == "read":
            return PostgresRecords(PostgresSql(self._read(STATEMENT_TIMEOUT_S, whole=True)))
        if access == "change":
            self.require()
        return PostgresRecords(PostgresSql(self._whole()))

    def reports(self, *, incomplete: bool = False) -> PostgresReports:
        """See `Store`."""
        session = self._read(REPORT_TIMEOUT_S, whole=not incomplete)
        return PostgresReports(PostgresSql(session))

    def outbox(self) -> PostgresOutbox:
        """See `Store`."""
        self._whole().close()
        return PostgresOutbox(PostgresSql(Session(self._address, settings=BY_INDEX)))

    def notices(self) -> PostgresNotices:
        """See `Store`."""
        self._whole().close()
        return PostgresNotices(PostgresSql(Session(self._address, settings=BY_INDEX)))

    def exclusive(self, name: str) -> AdvisoryLock:
        """See `Store`."""
        session = Session(self._direct or self._address, settings=NOTICED)
        return AdvisoryLock(session, name, None if self._direct is None else self.ledger_id)

    def ledger_id(self) -> str:
        """See `Store`."""
        sql = PostgresSql(self._upgraded())
        try:
            return ledger_uuid(sql)
        finally:
            sql.close()

    def prune(self, before_ns: int, now_ns: int, *, unshipped: bool = False) -> PostgresPruning:
        """See `Store`."""
        check_prunable(before_ns, now_ns)
        self.require()
        session = Session(self._address, statement_timeout_s=REPORT_TIMEOUT_S)
        try:
            check_version(session.connection, self.url)
            refuse_incomplete(PostgresSql(session))
            return PostgresPruning(PostgresSql(session), before_ns, unshipped=unshipped)
        except BaseException:
            session.close()
            raise

    def tables(self) -> PostgresTables:
        """See `Store`."""
        return PostgresTables(
            PostgresSql(
                Session(self._address, statement_timeout_s=REPORT_TIMEOUT_S, settings=PATIENT)
            )
        )

    def backup(self, destination: Path, progress: Progress) -> Verification:  # noqa: ARG002 - as the port has it
        """See `Store`."""
        raise UsageError(
            "a ledger in Postgres is backed up with `pg_dump` or a standby's tools: see"
            " docs/postgres.md"
        )

    def _whole(self, now_ns: Callable[[], int] = time_ns) -> Session:
        """The same, if it is not an incomplete copy."""
        session = self._upgraded(now_ns)
        try:
            refuse_incomplete(PostgresSql(session))
        except BaseException:
            session.close()
            raise
        return session

    def _upgraded(self, now_ns: Callable[[], int] = time_ns) -> Session:
        """A session that writes, on a ledger of this program's version. It may read many rows: to
        upgrade them, or to open the accounts of a budget."""
        session = Session(self._address, statement_timeout_s=REPORT_TIMEOUT_S)
        try:
            migrate(session, now_ns)
        except BaseException:
            session.close()
            raise
        return session

    def _read(self, timeout_s: int, *, whole: bool = False) -> Session:
        """A session that only reads."""
        session = Session(self._address, read_only=True, statement_timeout_s=timeout_s)
        try:
            check_version(session.connection, self.url)
            if whole:
                refuse_incomplete(PostgresSql(session))
        except BaseException:
            session.close()
            raise
        return session
