"""A consistent copy of a ledger: SQLite's own backup of one snapshot, verified before it is named.

A copy of the file alone lacks the contents of the write-ahead log, and a copy made while a gateway
commits may mix two states.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from contextlib import suppress
from pathlib import Path

from spanledger.errors import SpanledgerError, UsageError
from spanledger.ledger.model import Verification
from spanledger.ledger.ports import Progress
from spanledger.ledger.sqlite.connection import connect
from spanledger.ledger.sqlite.reports import SqliteReports

PAGES = 2_000
"""Pages copied between two reports of progress, 8 MB."""
OWN_ENDINGS = ("-journal", "-wal", "-shm")
"""Endings of the files that SQLite keeps next to a database."""


def backup(source: sqlite3.Connection, destination: Path, progress: Progress) -> Verification:
    """Copy the ledger into a new file and verify the copy; gateways can run meanwhile.

    Raises:
        UsageError: the destination exists, cannot be written, or has a name that is SQLite's.
        SpanledgerError: the copy failed or does not add up; it is deleted.
    """
    if os.path.lexists(destination):
        raise _exists(destination)
    if destination.name.endswith(OWN_ENDINGS):
        raise UsageError(
            f"{str(destination)!r} is a name that SQLite gives to its own files next to a ledger, and it"
            " would read or delete the backup: choose a name that does not end in"
            f" {', '.join(OWN_ENDINGS[:-1])} or {OWN_ENDINGS[-1]}"
        )
    draft = destination.with_name(f".{destination.name}.{os.getpid()}.part")
    _create(draft)
    try:
        _copy(source, draft, progress)
        found = _verified(draft)
        _name(draft, destination)
        _sync(destination.parent)
    except (OSError, sqlite3.Error) as error:
        raise SpanledgerError(f"cannot write {str(destination)!r}: {error}") from error
    finally:
        for suffix in ("", *OWN_ENDINGS):
            with suppress(FileNotFoundError):
                draft.with_name(draft.name + suffix).unlink()
    return found


def _name(draft: Path, destination: Path) -> None:
    """Give the copy its final name, which must be free."""
    try:
        destination.hardlink_to(draft)  # unlike a rename, it never overwrites
    except FileExistsError:
        raise _exists(destination) from None
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        draft.rename(destination)  # a file system without hard links


def _exists(destination: Path) -> UsageError:
    return UsageError(
        f"{str(destination)!r} already exists, and a backup never overwrites: choose another name"
    )


def _create(draft: Path) -> None:
    try:
        # Readable only by its owner, like the ledger.
        os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except OSError as error:
        raise UsageError(f"cannot write into {str(draft.parent)!r}: {error.strerror}") from error


def _copy(source: sqlite3.Connection, draft: Path, progress: Progress) -> None:
    # One transaction: otherwise each commit of a gateway would restart the copy, forever.
    source.execute("BEGIN")
    source.execute("SELECT count(*) FROM sqlite_master").fetchone()
    copy = sqlite3.connect(draft, isolation_level=None)
    try:
        source.backup(
            copy, pages=PAGES, progress=lambda _, left, total: progress(total - left, total)
        )
        # A single file with no log next to it, so copying it further loses nothing.
        copy.execute("PRAGMA journal_mode = DELETE")
    finally:
        copy.close()
        source.execute("COMMIT")


def _verified(draft: Path) -> Verification:
    connection = sqlite3.connect(draft)
    try:
        (state,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    finally:
        connection.close()
    if state != "ok":
        raise SpanledgerError(f"the copy is damaged, and the ledger may be too: {state}")
    with SqliteReports(connect(draft, read_only=True)) as reports:
        found = reports.verify()
    if found.problems:
        raise SpanledgerError(
            "the copy does not add up, so the ledger does not either; run `spanledger ledger verify`"
            f" for all problems: {found.problems[0]}"
        )
    _sync(draft)
    return found


def _sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
