"""Journals that a dead process left: the next one on the machine records them."""

from __future__ import annotations

from pathlib import Path

import pytest

from spanledger.ledger import open_ledger
from spanledger.ledger.group import GroupLedger
from spanledger.ledger.journal import file as journal_file
from spanledger.ledger.journal.file import JOURNAL_SUFFIX
from spanledger.ledger.journal.journal import TAKE_OVER_EVERY_S
from spanledger.ledger.ports import Store
from tests.service.ledger.conftest import Book, Time
from tests.service.ledger.journal.conftest import allow, attempt, is_back, journal_of, until
from tests.service.ledger.stores import cut_off

CENT = 10_000_000
DEADLINE_S = 60.0


@pytest.mark.parametrize("ended", [True, False])
async def test_the_next_process_records_what_a_dead_one_left(
    store: Store, tmp_path: Path, ended: bool
) -> None:
    """A process that died in the outage: what ended is charged what it cost, what did not is charged
    in full once its lease has run out; and its file is gone."""
    folder, time = tmp_path / "journal", Time()
    dead = open_ledger(store, time.clock(), journal=folder)
    book = Book(store, time, dead)
    await allow(book, 10 * CENT)
    with cut_off(store):
        await dead.reserve(reservation := book.reservation(3 * CENT))
        if ended:
            await dead.finish(book.end(reservation, CENT))
        _die(dead)
    time.now += 60 * 10**9

    successor = open_ledger(store, time.clock(), journal=folder)
    await until(lambda: journal_of(successor).figures().waiting == 0)
    await successor.sweep()
    await successor.sweep()

    assert book.balance() == ((CENT if ended else 3 * CENT), 0, 0)
    state = "settled" if ended else "expired"
    assert attempt(store, reservation.request.request_id)[0] == state
    assert book.problems() == []
    await successor.close()
    assert list(folder.glob(f"*{JOURNAL_SUFFIX}")) == []


async def test_a_running_process_records_what_another_one_left(
    store: Store, tmp_path: Path
) -> None:
    """Nobody has to be started: the next look comes within a minute, and takes nothing twice."""
    folder, time = tmp_path / "journal", Time()
    dead = open_ledger(store, time.clock(), journal=folder)
    running = open_ledger(store, time.clock(), journal=folder)
    book = Book(store, time, dead)
    await allow(book, 10 * CENT)
    await running.sweep()
    with cut_off(store):
        await dead.reserve(reservation := book.reservation(3 * CENT))
        await dead.finish(book.end(reservation, CENT))
        _die(dead)
    await running.sweep()
    assert journal_of(running).figures().waiting == 0
    assert book.balance() == (0, 0, 0)

    time.now += TAKE_OVER_EVERY_S * 10**9
    await running.sweep()
    await until(lambda: book.balance() == (CENT, 0, 0))
    time.now += TAKE_OVER_EVERY_S * 10**9
    await running.sweep()
    await running.close()
    assert book.balance() == (CENT, 0, 0)
    assert list(folder.glob("*")) == []


async def test_a_file_of_a_running_process_is_its_own(store: Store, tmp_path: Path) -> None:
    """A second gateway leaves the journal of one that runs alone; both are recorded."""
    folder, time = tmp_path / "journal", Time()
    first = open_ledger(store, time.clock(), journal=folder)
    book = Book(store, time, first)
    await allow(book, 10 * CENT)
    with cut_off(store):
        await first.reserve(reservation := book.reservation(CENT))
        await first.finish(book.end(reservation, CENT))
        assert len(list(folder.glob(f"*{JOURNAL_SUFFIX}"))) == 1
    second = open_ledger(store, time.clock(), journal=folder)
    assert journal_of(second).figures().waiting == 0
    await second.sweep()
    await is_back(first)
    await second.close()
    await first.close()

    assert book.balance() == (CENT, 0, 0)
    assert list(folder.glob("*")) == []


async def test_a_journal_of_another_ledger_is_left(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Entries are recorded only in the ledger that they are for."""
    folder, time = tmp_path / "journal", Time()
    dead = open_ledger(store, time.clock(), journal=folder)
    book = Book(store, time, dead)
    await allow(book, 10 * CENT)
    with cut_off(store):
        await dead.reserve(reservation := book.reservation(CENT))
        await dead.finish(book.end(reservation, CENT))
        _die(dead)
    (path,) = folder.glob(f"*{JOURNAL_SUFFIX}")
    lines = path.read_bytes().splitlines(keepends=True)
    begun = journal_file._Begun(1, "another", "owner")
    path.write_bytes(journal_file._line(begun) + b"".join(lines[1:]))

    successor = open_ledger(store, time.clock(), journal=folder)
    await successor.sweep()
    await successor.close()

    assert "belongs to another ledger" in caplog.text
    assert path.exists()
    assert book.balance() == (0, 0, 0)


def _die(ledger: GroupLedger) -> None:
    """Release what a killed process would: its locks. Its threads do nothing more."""
    journal = journal_of(ledger)
    assert journal._file is not None
    journal._file.close()
    journal._entries.clear()
    journal.armed = False
    ledger._unwritten.clear()
    ledger._queue.put(None)
    ledger._thread.join(30)
