"""A ledger in a SQLite file, which several processes of one machine share."""

from __future__ import annotations

import contextlib
import fcntl
import sqlite3
from collections.abc import Callable
from pathlib import Path
from time import time_ns

from spanledger.errors import LedgerUnavailableError
from spanledger.ledger.model import Verification
from spanledger.ledger.ports import Access, Progress
from spanledger.ledger.pruning import check_prunable
from spanledger.ledger.sql.identity import ledger_uuid, refuse_incomplete
from spanledger.ledger.sqlite.backup import backup
from spanledger.ledger.sqlite.connection import connect, require_ledger
from spanledger.ledger.sqlite.errors import translated
from spanledger.ledger.sqlite.migrate import check_version, migrate
from spanledger.ledger.sqlite.notices import SqliteNotices
from spanledger.ledger.sqlite.outbox import SqliteOutbox
from spanledger.ledger.sqlite.pruning import SqlitePruning
from spanledger.ledger.sqlite.records import SqliteRecords
from spanledger.ledger.sqlite.reports import SqliteReports
from spanledger.ledger.sqlite.sql import SqliteSql
from spanledger.ledger.sqlite.tables import SqliteTables
from spanledger.ledger.sqlite.writer import SqliteWriter


@translated
class SqliteStore:
    """`Store` of one file."""

    def __init__(self, url: str, path: Path) -> None:
        self.url = url
        self.path = path

    def exists(self) -> bool:
        """See `Store`."""
        return self.path.exists()

    def require(self) -> None:
        """See `Store`."""
        require_ledger(self.path)

    def migrate(self, now_ns: Callable[[], int] = time_ns) -> None:
        """See `Store`."""
        self._upgraded(now_ns).close()

    def writer(self, owner: str, lease_ns: int, now_ns: Callable[[], int]) -> SqliteWriter:
        """See `Store`."""
        return SqliteWriter(self._whole(now_ns), self.path, owner, lease_ns)

    def records(self, access: Access) -> SqliteRecords:
        """See `Store`."""
        if access == "read":
            connection = self._read()
            _refuse_incomplete(connection)
            return SqliteRecords(connection)
        if access == "change":
            self.require()
        return SqliteRecords(self._whole())

    def reports(self, *, incomplete: bool = False) -> SqliteReports:
        """See `Store`."""
        connection = self._read()
        if not incomplete:
            _refuse_incomplete(connection)
        return SqliteReports(connection)

    def outbox(self) -> SqliteOutbox:
        """See `Store`."""
        return SqliteOutbox(self._whole(), self.path)

    def notices(self) -> SqliteNotices:
        """See `Store`."""
        return SqliteNotices(self._whole(), self.path)

    def exclusive(self, name: str) -> FileLock:
        """See `Store`."""
        return FileLock(self.path.with_name(f"{self.path.name}.{name}-lock"))

    def ledger_id(self) -> str:
        """See `Store`."""
        with contextlib.closing(self._upgraded()) as connection:
            return ledger_uuid(SqliteSql(connection))

    def prune(self, before_ns: int, now_ns: int, *, unshipped: bool = False) -> SqlitePruning:
        """See `Store`."""
        check_prunable(before_ns, now_ns)
        self.require()
        connection = connect(self.path)
        check_version(connection, str(self.path))
        _refuse_incomplete(connection)
        return SqlitePruning(connection, before_ns, unshipped=unshipped)

    def tables(self) -> SqliteTables:
        """See `Store`."""
        connection = connect(self.path)
        check_version(connection, str(self.path))
        return SqliteTables(connection)

    def backup(self, destination: Path, progress: Progress) -> Verification:
        """See `Store`."""
        source = self._read()
        try:
            return backup(source, destination, progress)
        finally:
            source.close()

    def _whole(self, now_ns: Callable[[], int] = time_ns) -> sqlite3.Connection:
        """A connection to a ledger that is up to date, and is not an incomplete copy."""
        connection = self._upgraded(now_ns)
        _refuse_incomplete(connection)
        return connection

    def _upgraded(self, now_ns: Callable[[], int] = time_ns) -> sqlite3.Connection:
        connection = connect(self.path)
        migrate(connection, now_ns)
        return connection

    def _read(self) -> sqlite3.Connection:
        connection = connect(self.path, read_only=True)
        check_version(connection, str(self.path))
        return connection


def _refuse_incomplete(connection: sqlite3.Connection) -> None:
    """Close it and raise LedgerUnavailableError if the ledger is an incomplete copy."""
    try:
        refuse_incomplete(SqliteSql(connection))
    except BaseException:
        connection.close()
        raise


class FileLock:
    """A kernel lock on a file next to the ledger, released when the process that holds it ends."""

    def __init__(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab")
        except OSError as error:
            raise LedgerUnavailableError(f"cannot open {str(path)!r}: {error}") from error

    def acquire(self) -> bool:
        """See `Lock`."""
        try:
            fcntl.flock(self._file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def held(self) -> bool:
        """See `Lock`."""
        return True

    def close(self) -> None:
        """See `Lock`."""
        self._file.close()
