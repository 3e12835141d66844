"""`spanledger ledger backup`: a consistent copy that never overwrites anything."""

from __future__ import annotations

import json
import resource
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from spanledger.cli import app
from spanledger.errors import LedgerUnavailableError, SpanledgerError, UsageError
from spanledger.ledger.sqlite import backup as module
from tests.service.ledger.conftest import Book
from tests.support.ledgers import store_at

CENT = 10**7


def quiet(_done: int, _total: int) -> None:
    """No progress bar."""


def copies(folder: Path) -> list[str]:
    """The files of a backup, including partial files and logs."""
    return [path.name for path in folder.glob("*copy*")]


def back_up_on_a_full_disk(book: Book, copy: Path) -> subprocess.CompletedProcess[str]:
    """The command, in a process with a small file size limit."""
    limit = 16_384
    command = ["-m", "spanledger", "ledger", "backup", str(copy), "--ledger"]
    return subprocess.run(
        [sys.executable, *command, f"sqlite:///{book.path}"],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        capture_output=True,
        text=True,
        check=False,
    )


async def fill(book: Book, requests: int) -> None:
    """Requests that have ended."""
    for _ in range(requests):
        reservation = book.reservation(CENT)
        await book.ledger.reserve(reservation)
        await book.ledger.finish(book.end(reservation, CENT // 2))


async def test_a_backup_has_all_that_was_committed(book: Book, tmp_path: Path) -> None:
    """A backup includes commits only in the log, which a copy of the file lacks; it is one file, only
    its owner can read it, and it adds up."""
    book.budget(limit_nano=10**12)
    await fill(book, 20)
    plain, copy = tmp_path / "plain.db", tmp_path / "copy.db"
    plain.write_bytes(book.path.read_bytes())

    found = book.store.backup(copy, quiet)

    assert (found.requests, found.problems) == (20, [])
    assert copies(tmp_path) == ["copy.db"]
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    reports = store_at(copy).reports()
    assert (reports.verify().requests, reports.verify().problems) == (20, [])
    reports.close()
    with pytest.raises(LedgerUnavailableError):  # the problem a backup avoids
        store_at(plain).reports()


async def test_a_backup_beside_gateways_is_of_one_moment(
    book: Book, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commits during the copy never restart it, and are never copied partially."""
    monkeypatch.setattr(module, "PAGES", 1)
    book.budget(limit_nano=10**12)
    await fill(book, 20)
    told: list[tuple[int, int]] = []
    writer = sqlite3.connect(book.path, isolation_level=None)

    def progress(done: int, total: int) -> None:
        told.append((done, total))
        writer.execute("UPDATE state SET value = value + 1 WHERE key = 'keys_version'")

    found = book.store.backup(tmp_path / "copy.db", progress)
    writer.close()

    assert found.problems == []
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert len(told) > 10


async def test_a_backup_replaces_nothing(book: Book, tmp_path: Path) -> None:
    """An existing file, directory or link of that name is left alone."""
    for name in ("file", "folder", "link"):
        there = tmp_path / name
        match name:
            case "file":
                there.write_text("mine")
            case "folder":
                there.mkdir()
            case _:
                there.symlink_to(tmp_path / "nowhere")
        with pytest.raises(UsageError, match="exists"):
            book.store.backup(there, quiet)
    assert (tmp_path / "file").read_text() == "mine"
    assert not (tmp_path / "nowhere").exists()
    with pytest.raises(UsageError, match="cannot write into"):
        book.store.backup(tmp_path / "missing" / "copy.db", quiet)
    with pytest.raises(UsageError, match="already exists"):
        book.store.backup(Path(), quiet)
    with pytest.raises(UsageError, match="File name too long"):
        book.store.backup(tmp_path / ("long" * 100), quiet)


@pytest.mark.parametrize("ending", ["-journal", "-wal", "-shm"])
async def test_a_backup_is_not_named_like_a_file_of_sqlite(book: Book, ending: str) -> None:
    """SQLite would take it for the ledger's own journal, and refuse to open the ledger."""
    for name in (book.path.name, "another.db"):
        there = book.path.with_name(name + ending)
        existed = there.exists()
        with pytest.raises(UsageError, match="already exists" if existed else "SQLite gives"):
            book.store.backup(there, quiet)
        assert there.exists() == existed


async def test_a_ledger_that_does_not_add_up_is_not_backed_up(book: Book, tmp_path: Path) -> None:
    """The copy is verified before it gets its name, and a failed one is deleted."""
    book.budget()
    await fill(book, 1)
    connection = sqlite3.connect(book.path)
    with connection:
        connection.execute("UPDATE balances SET spent_nano = spent_nano + 1")

    with pytest.raises(SpanledgerError, match="does not add up"):
        book.store.backup(tmp_path / "copy.db", quiet)

    with connection:
        connection.execute("UPDATE balances SET spent_nano = spent_nano - 1")
    connection.close()
    assert copies(tmp_path) == []


async def test_a_full_disk_leaves_no_part_of_a_backup(book: Book, tmp_path: Path) -> None:
    """The command fails with a one-line error."""
    await fill(book, 20)
    copy = tmp_path / "copy.db"

    done = back_up_on_a_full_disk(book, copy)

    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert copies(tmp_path) == []


async def test_the_command_says_what_was_backed_up(book: Book, tmp_path: Path) -> None:
    """As text and as JSON."""
    await fill(book, 2)
    url = f"sqlite:///{book.path}"

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(app, ["ledger", "backup", *arguments, "--ledger", url])
        assert result.exit_code == 0, result.stderr
        return result.stdout

    assert run(str(tmp_path / "a.db")).startswith("backed up and verified: 2 requests, 2 attempts")
    report = json.loads(run(str(tmp_path / "b.db"), "--json"))
    assert (report["requests"], report["spent_usd"]) == (2, "0.01")
