"""A ledger whose files are deleted, replaced or emptied while it is open."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from spanledger.errors import LedgerUnavailableError
from tests.service.ledger.conftest import Book

CENT = 10**7


def beside(book: Book, suffix: str) -> Path:
    """The log, or its index."""
    return book.path.with_name(book.path.name + suffix)


def rows_on_disk(book: Book, folder: Path) -> int:
    """Number of attempts in a copy of only the database: what a restart would find."""
    copy = folder / "copy.db"
    copy.write_bytes(book.path.read_bytes())
    connection = sqlite3.connect(copy)
    count: int = connection.execute("SELECT count(*) FROM attempts").fetchone()[0]
    connection.close()
    return count


@pytest.mark.parametrize("suffix", ["-wal", "-shm"])
async def test_a_deleted_log_is_noticed_by_the_commit_that_meets_it(
    book: Book, tmp_path: Path, suffix: str
) -> None:
    """That commit and all before it are saved into the database; the next is refused with an error."""
    book.budget()
    await book.ledger.reserve(book.reservation(CENT))
    beside(book, suffix).unlink()

    await book.ledger.reserve(book.reservation(CENT))

    with pytest.raises(LedgerUnavailableError, match=rf"{suffix}' was deleted .* is safe"):
        await book.ledger.reserve(book.reservation(CENT))
    with pytest.raises(LedgerUnavailableError, match="was deleted or replaced"):
        await book.ledger.check()
    assert rows_on_disk(book, tmp_path) == 2


async def test_a_log_that_somebody_else_has_begun_is_left_alone(book: Book) -> None:
    """Two logs cannot be merged: the commit is refused, and the message says what may be lost."""
    await book.ledger.reserve(book.reservation(CENT))
    log = beside(book, "-wal")
    before = book.path.read_bytes()
    aside = log.rename(log.with_name("aside"))
    log.write_bytes(b"another process's log")

    with pytest.raises(LedgerUnavailableError, match="may be lost"):
        await book.ledger.reserve(book.reservation(CENT))

    assert book.path.read_bytes() == before
    aside.replace(log)  # after it is put back, commits continue
    await book.ledger.sweep()
    await book.ledger.check()


async def test_an_emptied_database_takes_nothing(book: Book) -> None:
    """`truncate -s 0` leaves the same file under its name; it is detected anyway."""
    await book.ledger.reserve(book.reservation(CENT))
    whole = book.path.read_bytes()
    os.truncate(book.path, 0)

    with pytest.raises(LedgerUnavailableError, match="was emptied"):
        await book.ledger.reserve(book.reservation(CENT))

    book.path.write_bytes(whole)
    await book.ledger.sweep()
