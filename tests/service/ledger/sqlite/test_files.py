"""A ledger whose files are deleted, replaced or emptied while it is open."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from spanledger.errors import LedgerUnavailableError
from spanledger.ledger.sqlite.files import SETTLED_NS, LedgerFiles
from tests.service.ledger.conftest import Book
from tests.support.ledgers import store_at
from tests.support.processes import poll

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


@pytest.fixture
def settled(book: Book) -> LedgerFiles:
    """The files of a ledger in a directory that nothing has changed in for a while, checked once."""
    files = LedgerFiles(book.path, lambda: time.time_ns() + 2 * SETTLED_NS)
    files.check()
    made = book.path.parent.stat().st_ctime_ns

    def clock_has_moved() -> bool:
        other = book.path.parent.with_name("clock")
        other.touch()
        return other.stat().st_ctime_ns > made

    assert poll(clock_has_moved)
    return files


def test_a_log_is_not_looked_at_while_its_directory_stays_as_it_is(
    settled: LedgerFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asking for its times would cost the next commit an inode to write."""
    looked: list[str] = []
    stat = os.stat

    def noted(name: Any, **options: Any) -> os.stat_result:
        looked.append(str(name))
        return stat(name, **options)

    monkeypatch.setattr(os, "stat", noted)

    settled.check()

    assert looked
    assert not [name for name in looked if name.endswith(("-wal", "-shm"))]


@pytest.mark.parametrize("suffix", ["-wal", "-shm"])
@pytest.mark.parametrize("replaced", [False, True], ids=["gone", "another"])
def test_a_log_that_goes_from_a_settled_directory_is_missed(
    book: Book, settled: LedgerFiles, suffix: str, replaced: bool
) -> None:
    """The directory shows that a name has changed, even if its own time was put back."""
    folder = book.path.parent
    before = folder.stat().st_mtime_ns
    log = beside(book, suffix)
    aside = log.rename(log.with_name("aside"))
    if replaced:
        log.touch()
    os.utime(folder, ns=(before, before))

    with pytest.raises(LedgerUnavailableError, match=rf"{suffix}' was deleted or replaced"):
        settled.check()

    aside.replace(log)
    settled.check()


def test_a_directory_in_which_much_happens_hides_no_deleted_log(book: Book) -> None:
    """Two changes of one moment could have one time: until it is over, every check looks at the log."""
    files = LedgerFiles(book.path)
    for number in range(3):
        book.path.with_name(f"other{number}").touch()
        files.check()
    log = beside(book, "-wal")
    aside = log.rename(log.with_name("aside"))

    with pytest.raises(LedgerUnavailableError, match="-wal' was deleted"):
        files.check()

    aside.replace(log)


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


async def test_the_file_is_its_owners_alone(book: Book) -> None:
    """A ledger may contain prompts: only its owner can read it and its log."""
    await book.ledger.reserve(book.reservation())

    modes = {path.name: path.stat().st_mode & 0o777 for path in book.path.parent.iterdir()}

    assert modes == {"ledger.db": 0o600, "ledger.db-wal": 0o600, "ledger.db-shm": 0o600}


@pytest.mark.parametrize("replaced", [False, True], ids=["gone", "another"])
async def test_a_file_that_is_not_under_its_name_takes_nothing(book: Book, replaced: bool) -> None:
    """Deleted or replaced while it is open, nothing is admitted; after it is put back, it continues."""
    book.budget()
    reservation = book.reservation(CENT)
    await book.ledger.reserve(reservation)
    aside = book.path.with_name("aside.db")
    book.path.rename(aside)
    if replaced:
        book.path.touch()

    with pytest.raises(LedgerUnavailableError, match="deleted or replaced"):
        await book.ledger.reserve(book.reservation(CENT))
    with pytest.raises(LedgerUnavailableError, match="deleted or replaced"):
        await book.ledger.check()
    with pytest.raises(LedgerUnavailableError):
        await book.ledger.finish(book.end(reservation, CENT // 2))

    aside.rename(book.path)
    await book.ledger.sweep()
    await book.ledger.check()
    assert book.balance() == (CENT // 2, 0, 0)


def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    """A typo in the URL must not put our tables into another program's database."""
    path = tmp_path / "app.db"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE keys (x)")

    with pytest.raises(LedgerUnavailableError, match="another program's"):
        store_at(path).records("create")

    assert other.execute("SELECT name FROM sqlite_master").fetchall() == [("keys",)]
    other.close()


async def test_a_damaged_file_is_found(book: Book) -> None:
    """`ledger verify` also checks the pages, not just the sums of what can still be read."""
    book.budget()
    await book.ledger.reserve(book.reservation(CENT))
    copy = book.path.with_name("copy.db")
    with sqlite3.connect(copy) as target:
        sqlite3.connect(book.path).backup(target)
        page = target.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'requests_started'"
        ).fetchone()[0]
    target.close()
    with copy.open("r+b") as file:
        file.seek((page - 1) * 4096 + 3)
        file.write(b"\0\0")  # the index says it has no rows

    reports = store_at(copy).reports()
    problems = reports.verify().problems
    reports.close()

    assert any("damaged" in problem for problem in problems)
