"""A ledger that becomes unavailable while budgets allow some spending: on each kind of database."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest
from msgspec.structs import replace

from spanledger.budgets.model import HoldSizes
from spanledger.clock import NANOS
from spanledger.errors import BudgetExceededError, LedgerUnavailableError
from spanledger.ledger import open_ledger
from spanledger.ledger.journal import journal as journal_module
from spanledger.ledger.journal.file import JOURNAL_SUFFIX
from spanledger.ledger.journal.journal import RETRY_S
from spanledger.ledger.model import Later, RequestEnd
from spanledger.ledger.ports import Store
from tests.service.ledger.conftest import Book, Time
from tests.service.ledger.journal.conftest import allow, attempt, is_back, journal_of, until
from tests.service.ledger.stores import cut_off, raw

CENT = 10_000_000
DEADLINE_S = 60.0


async def test_an_attempt_in_an_outage_is_charged_when_the_ledger_is_back(book: Book) -> None:
    """It is held in the journal, and later in the ledger as if it had been there: with its own
    times, its cost, and its request's end."""
    await allow(book, 10 * CENT)
    with cut_off(book.store):
        reservation = book.reservation(3 * CENT)
        hold = await book.ledger.reserve(reservation)
        book.time.now += 5
        settled = await book.ledger.finish(book.end(reservation, CENT))

        assert (hold.journaled, hold.hold_nano, hold.remaining_nano) == (True, 3 * CENT, 7 * CENT)
        assert (settled.cost_nano, settled.overrun_nano) == (CENT, 0)
        assert book.ledger.journaling
        began, ended = reservation.now_ns, book.time.now
        book.time.now += 10**9
    await is_back(book.ledger)

    assert not book.ledger.journaling
    assert book.balance() == (CENT, 0, 0)
    request_id = reservation.request.request_id
    assert attempt(book.store, request_id) == ("settled", 3 * CENT, CENT, began, ended)
    ended_request = raw(
        book.store,
        f"SELECT outcome, cost_nano, attempts, ended_ns FROM requests WHERE request_id = '{request_id}'",
    )
    assert [tuple(row) for row in ended_request] == [("ok", CENT, 1, ended)]


async def test_without_an_allowance_nothing_is_sent(book: Book, tmp_path: Path) -> None:
    """By default requests are refused, and nothing is written anywhere."""
    book.budget()
    await book.ledger.sweep()
    with cut_off(book.store):
        with pytest.raises(LedgerUnavailableError):
            await book.ledger.reserve(book.reservation(CENT))
        assert not book.ledger.journaling
        assert not (tmp_path / "journal").exists()


async def test_what_is_held_here_is_bounded(book: Book) -> None:
    """Beyond the allowance an attempt is refused, whatever the budget's limit has left."""
    await allow(book, 4 * CENT)
    with cut_off(book.store):
        reservation = book.reservation(4 * CENT)
        await book.ledger.reserve(reservation)
        with pytest.raises(LedgerUnavailableError, match="too little is left"):
            await book.ledger.reserve(book.reservation(CENT))
        assert not book.ledger.journaling
        await book.ledger.finish(book.end(reservation, None))
        assert book.ledger.journaling
        again = book.reservation(4 * CENT)
        await book.ledger.reserve(again)
        await book.ledger.finish(book.end(again, 4 * CENT))
    await is_back(book.ledger)

    assert book.balance() == (4 * CENT, 0, 0)


async def test_an_attempt_that_outlasts_the_outage(book: Book) -> None:
    """Held in the journal and still running when the ledger is back, it is held there, then ends
    there."""
    await allow(book, 10 * CENT)
    with cut_off(book.store):
        reservation = book.reservation(3 * CENT)
        await book.ledger.reserve(reservation)
    await is_back(book.ledger)
    assert book.balance() == (0, 3 * CENT, 0)

    settled = await book.ledger.finish(book.end(reservation, 2 * CENT))

    assert settled.remaining_nano == 10**9 - 2 * CENT
    assert book.balance() == (2 * CENT, 0, 0)


async def test_an_attempt_that_began_before_the_outage(book: Book) -> None:
    """Held in the ledger, its end is durable in the journal until the ledger is back."""
    await allow(book, CENT)
    reservation = book.reservation(3 * CENT)
    await book.ledger.reserve(reservation)
    with cut_off(book.store):
        await book.ledger.reserve(first := book.reservation(1))
        await book.ledger.finish(book.end(first, None))
        settled = await book.ledger.finish(book.end(reservation, 2 * CENT))
        assert settled.cost_nano == 2 * CENT
    await is_back(book.ledger)

    assert book.balance() == (2 * CENT, 0, 0)


async def test_the_end_that_finds_the_ledger_gone(book: Book) -> None:
    """The first operation that fails is an end: its caller gets an error, and nothing is lost."""
    await allow(book, CENT)
    reservation = book.reservation(3 * CENT)
    await book.ledger.reserve(reservation)
    with cut_off(book.store), pytest.raises(LedgerUnavailableError):
        await book.ledger.finish(book.end(reservation, 2 * CENT))
    await is_back(book.ledger)

    assert book.balance() == (2 * CENT, 0, 0)


async def test_a_fallback_in_an_outage(book: Book) -> None:
    """A request whose first attempt is in the ledger and whose second is in the journal ends with
    both."""
    await allow(book, 10 * CENT)
    first = book.reservation(CENT)
    await book.ledger.reserve(first)
    with cut_off(book.store):
        with pytest.raises(LedgerUnavailableError):
            await book.ledger.finish(book.end(first, CENT, last=False))
        second = book.reservation(CENT, number=2, request=first.request)
        await book.ledger.reserve(second)
        await book.ledger.finish(book.end(second, CENT // 2))
    await is_back(book.ledger)

    assert book.balance() == (CENT + CENT // 2, 0, 0)
    rows = raw(book.store, "SELECT attempts, cost_nano, outcome FROM requests")
    assert [tuple(row) for row in rows] == [(2, CENT + CENT // 2, "ok")]


async def test_an_answer_that_is_still_to_be_written(book: Book) -> None:
    """A hold that outlives its request does so from the journal as well."""
    await allow(book, 10 * CENT)
    with cut_off(book.store):
        reservation = book.reservation(3 * CENT)
        await book.ledger.reserve(reservation)
        later = Later(book.time.now + 10**12, CENT)
        done = RequestEnd("ok", "", 200, book.time.now)
        await book.ledger.end_request(reservation.request, done, later=later)
    await is_back(book.ledger)
    assert book.balance() == (0, 3 * CENT, 0)
    book.time.now += 10**12 + 1
    await book.ledger.sweep()

    assert book.balance() == (CENT, 0, 0)


async def test_a_repeat_returns_the_first_hold(book: Book) -> None:
    """A caller that left while its hold was written gets that hold again, and it can be released."""
    await allow(book, 10 * CENT)
    with cut_off(book.store):
        reservation = book.reservation(3 * CENT)
        first = await book.ledger.reserve(reservation)
        again = await book.ledger.reserve(replace(reservation, repeat=True))
        assert again == first
        await book.ledger.finish(book.end(reservation, None))
        with pytest.raises(LedgerUnavailableError):
            await book.ledger.reserve(replace(book.reservation(CENT), repeat=True))
    await is_back(book.ledger)

    assert book.balance() == (0, 0, 0)


@pytest.mark.parametrize(
    "changes", [{"only_ledger": True}, {"priced": False}, {"unbounded": "'tools' may search"}]
)
async def test_what_nothing_bounds_is_not_held_here(book: Book, changes: dict[str, object]) -> None:
    """Requests that are passed through, files, and what has no price or bound wait for the ledger."""
    await allow(book, 10 * CENT)
    with cut_off(book.store), pytest.raises(LedgerUnavailableError, match="nothing bounds"):
        await book.ledger.reserve(replace(book.reservation(CENT), **changes))


async def test_an_account_without_room_gets_none(book: Book) -> None:
    """A customer whom the ledger refused before the outage is refused in it."""
    await allow(book, 10 * CENT, limit_nano=CENT)
    with pytest.raises(BudgetExceededError):
        await book.ledger.reserve(book.reservation(2 * CENT))
    with cut_off(book.store), pytest.raises(LedgerUnavailableError, match="had no room before"):
        await book.ledger.reserve(book.reservation(CENT))
    await until(lambda: not book.ledger.away)
    reservation = book.reservation(CENT)
    await book.ledger.reserve(reservation)  # has room again
    await book.ledger.finish(book.end(reservation, None))
    with cut_off(book.store):
        hold = await book.ledger.reserve(second := book.reservation(CENT))
        assert hold.journaled
        await book.ledger.finish(book.end(second, None))
    await is_back(book.ledger)


async def test_a_budget_over_its_limit_allows_what_is_left_of_the_allowance(book: Book) -> None:
    """In a second outage, a budget that the first one left over its limit allows only the rest."""
    await allow(book, 10 * CENT, limit_nano=20 * CENT)
    await book.ledger.reserve(first := book.reservation(18 * CENT))
    await book.ledger.finish(book.end(first, 18 * CENT))
    with cut_off(book.store):
        await book.ledger.reserve(second := book.reservation(8 * CENT))
        await book.ledger.finish(book.end(second, 8 * CENT))
    await is_back(book.ledger)
    assert book.balance() == (26 * CENT, 0, 0)
    journal = journal_of(book.ledger)
    await until(lambda: bool(journal._file and journal._file.empty and not journal._queue.qsize()))
    await until(
        lambda: [b.spent_nano for b in journal._allowances._balances.values()] == [6 * CENT]
    )
    with cut_off(book.store):
        with pytest.raises(LedgerUnavailableError, match="too little is left"):
            await book.ledger.reserve(book.reservation(5 * CENT))
        await book.ledger.reserve(third := book.reservation(4 * CENT))
        await book.ledger.finish(book.end(third, 4 * CENT))
    await is_back(book.ledger)

    assert book.balance() == (30 * CENT, 0, 0)


async def test_the_ladder_of_holds_applies(book: Book) -> None:
    """Without a cap, the usual size is held where the full one would be most of the allowance."""
    await allow(book, 10 * CENT)
    with cut_off(book.store):
        reservation = book.reservation(HoldSizes(9 * CENT, 2 * CENT, CENT))
        assert (await book.ledger.reserve(reservation)).hold_nano == 2 * CENT
        await book.ledger.finish(book.end(reservation, CENT))
    await is_back(book.ledger)


async def test_a_full_journal_refuses_holds_and_accepts_ends(
    book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At its largest size, the journal refuses new attempts; those that are open still end."""
    await allow(book, 100 * CENT)
    with cut_off(book.store):
        reservation = book.reservation(CENT)
        await book.ledger.reserve(reservation)
        monkeypatch.setattr(journal_module, "MAX_JOURNAL_BYTES", 1)
        with pytest.raises(LedgerUnavailableError, match="journal is full"):
            await book.ledger.reserve(book.reservation(CENT))
        assert not book.ledger.journaling
        await book.ledger.finish(book.end(reservation, CENT))
        monkeypatch.undo()
    await is_back(book.ledger)

    assert book.balance() == (CENT, 0, 0)


async def test_a_disk_that_fails_refuses_holds_and_loses_no_end(
    book: Book, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """If the journal cannot be written, nothing is sent; an end is kept in memory; and what was
    refused is never charged."""
    await allow(book, 100 * CENT)
    with cut_off(book.store):
        reservation = book.reservation(CENT)
        await book.ledger.reserve(reservation)

        def full(_file: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("os.fsync", full)
        with pytest.raises(LedgerUnavailableError, match="so is its journal"):
            await book.ledger.reserve(refused := book.reservation(CENT))
        assert not book.ledger.journaling  # so the gateway is not ready
        for _ in range(3):
            with pytest.raises(LedgerUnavailableError, match="so is its journal"):
                await book.ledger.reserve(book.reservation(CENT))
        await book.ledger.finish(book.end(reservation, CENT))
        monkeypatch.undo()
        book.time.now += RETRY_S * NANOS
        assert book.ledger.journaling
        await book.ledger.reserve(after := book.reservation(CENT))
        await book.ledger.finish(book.end(after, CENT))
    await is_back(book.ledger)

    assert caplog.text.count("No space left") == 1
    assert journal_of(book.ledger).figures().attempts == 2, "those that were refused count"
    assert book.balance() == (2 * CENT, 0, 0)
    unsent = refused.request.request_id
    assert raw(book.store, f"SELECT 1 FROM attempts WHERE request_id = '{unsent}'") == []


async def test_there_is_room_before_a_commit_has_failed(book: Book) -> None:
    """The gateway asks when a read has failed, and lets a hold find out the rest."""
    await allow(book, 10 * CENT)
    with cut_off(book.store):
        assert (book.ledger.journaling, book.ledger.journal_has_room) == (False, True)
        reservation = book.reservation(10 * CENT)
        assert (await book.ledger.reserve(reservation)).journaled
        assert (book.ledger.journaling, book.ledger.journal_has_room) == (False, False)
        await book.ledger.finish(book.end(reservation, CENT))
        assert (book.ledger.journaling, book.ledger.journal_has_room) == (True, True)
    await is_back(book.ledger)

    assert (book.ledger.journaling, book.ledger.journal_has_room) == (False, True)
    assert book.balance() == (CENT, 0, 0)


async def test_a_folder_that_cannot_be_used_is_reported(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A journal that cannot be created is an error in the log at once, and requests are refused
    while the ledger is unavailable."""
    folder = tmp_path / "file"
    folder.write_text("not a folder")
    time = Time()
    ledger = open_ledger(store, time.clock(), journal=folder)
    book = Book(store, time, ledger)
    book.budget(allow_when_down_nano=CENT)
    await ledger.sweep()
    await until(lambda: "set ledger.journal to a folder" in caplog.text)
    with cut_off(store), pytest.raises(LedgerUnavailableError):
        await ledger.reserve(book.reservation(CENT))
    assert not ledger.journaling
    folder.unlink()
    await ledger.sweep()
    await until(lambda: bool(list(folder.glob(f"*{JOURNAL_SUFFIX}"))))
    await ledger.close()


async def test_an_idle_gateway_finds_the_ledger_again(
    book: Book, caplog: pytest.LogCaptureFixture
) -> None:
    """After an outage nobody has to ask: readiness and the journal return by themselves."""
    await allow(book, CENT)
    with cut_off(book.store):
        await book.ledger.reserve(reservation := book.reservation(CENT))
        await book.ledger.finish(book.end(reservation, CENT))
        await asyncio.sleep(0)
    await is_back(book.ledger)

    await book.ledger.check()
    errors = [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR]
    assert len(errors) == 1
    assert "only what budgets allow meanwhile" in errors[0]


async def test_a_lot_at_once(book: Book) -> None:
    """Many callers share the journal's writes, and the ledger gets all of them in several
    transactions."""
    await allow(book, 10**9, limit_nano=10**12)
    spent = 0

    async def call(number: int) -> None:
        reservation = book.reservation(CENT // 100)
        await book.ledger.reserve(reservation)
        await book.ledger.finish(book.end(reservation, number))

    with cut_off(book.store):
        await asyncio.gather(*(call(number) for number in range(700)))
        assert journal_of(book.ledger).figures().attempts == 700
    spent = sum(range(700))
    await is_back(book.ledger)

    assert book.balance() == (spent, 0, 0)


async def test_budgets_change_while_attempts_are_in_the_journal(book: Book) -> None:
    """A budget set right after the outage counts what the journal still has."""
    await allow(book, 10 * CENT)
    with cut_off(book.store):
        await book.ledger.reserve(reservation := book.reservation(CENT))
        await book.ledger.finish(book.end(reservation, CENT))
    book.budget("new", scope="team", subject="*")
    book.budget("all", scope="global", subject="*", period="day")
    await is_back(book.ledger)

    assert book.balance("all") == (CENT, 0, 0)
