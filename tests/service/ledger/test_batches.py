"""Operations of one batch that meet each other: in whichever order they come, each attempt ends once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from spanledger.errors import SpanledgerError
from spanledger.ledger.model import EndRequest, Hold, Later, RequestEnd, Settled, Sweep
from spanledger.ledger.ports import LedgerWriter
from tests.service.ledger.conftest import Book

CENT = 10**7
HOUR = 3_600 * 10**9
LEASE_NS = 30 * 10**9


@pytest.fixture
def writer(book: Book) -> Iterator[LedgerWriter]:
    """A writer of its own on the book's ledger."""
    book.budget()
    writer = book.store.writer("test", LEASE_NS, book.time.now_ns)
    yield writer
    writer.close()


def states(book: Book) -> list[tuple[str, int]]:
    """State and cost of each attempt that has ended, oldest first."""
    with book.store.reports() as reports:
        return [(attempt.state, attempt.cost_nano) for attempt in reports.ended_attempts()]


def test_a_hold_and_its_end(book: Book, writer: LedgerWriter) -> None:
    """An attempt that is held and ended in one batch is charged once, also if the end is repeated."""
    attempt = book.reservation(3 * CENT)
    hold, end, again = writer.commit(
        [attempt, book.end(attempt, CENT), book.end(attempt, 2 * CENT)]
    )

    assert isinstance(hold, Hold)
    assert isinstance(end, Settled)
    assert isinstance(again, Settled)
    assert (end.cost_nano, again.cost_nano) == (CENT, CENT)
    assert book.balance() == (CENT, 0, 0)
    assert states(book) == [("settled", CENT)]


def test_the_room_that_an_end_makes(book: Book, writer: LedgerWriter) -> None:
    """A hold that fits only because an earlier operation of its batch ended another is granted."""
    large = book.reservation(90 * CENT)
    writer.commit([large])
    refused, _, granted = writer.commit(
        [book.reservation(20 * CENT), book.end(large, CENT), book.reservation(20 * CENT)]
    )

    assert isinstance(refused, SpanledgerError)
    assert isinstance(granted, Hold)
    assert book.balance() == (CENT, 20 * CENT, 0)


@pytest.mark.parametrize("first", ["end", "sweep"])
def test_an_end_and_the_sweep_that_expires_it(book: Book, writer: LedgerWriter, first: str) -> None:
    """An attempt of a process that is gone is charged its cost, whichever comes first."""
    gone = book.store.writer("gone", LEASE_NS, book.time.now_ns)
    attempt = book.reservation(5 * CENT)
    gone.commit([attempt])
    book.time.now += LEASE_NS + 1
    end, sweep = book.end(attempt, CENT), Sweep(book.time.now, HOUR)

    results = writer.commit([end, sweep] if first == "end" else [sweep, end])

    assert results[1 if first == "end" else 0] == (0 if first == "end" else 1)
    assert book.balance() == (CENT, 0, 0)
    assert states(book) == [("settled", CENT)]
    gone.close()


def test_a_hold_that_is_put_off_in_the_batch_of_a_sweep(book: Book, writer: LedgerWriter) -> None:
    """From then on it has a time of its own, even if its owner's lease is over."""
    gone = book.store.writer("gone", LEASE_NS, book.time.now_ns)
    attempt = book.reservation(5 * CENT)
    gone.commit([attempt])
    book.time.now += LEASE_NS + 1
    end = RequestEnd("ok", "", 200, book.time.now)
    later = EndRequest(attempt.request, end, later=Later(book.time.now + HOUR, CENT))

    assert writer.commit([later, Sweep(book.time.now, HOUR)]) == [None, 0]
    assert book.balance() == (0, 5 * CENT, 0)
    gone.close()


def test_a_request_that_ends_in_the_batch_of_a_sweep(book: Book, writer: LedgerWriter) -> None:
    """It keeps its own outcome."""
    gone = book.store.writer("gone", LEASE_NS, book.time.now_ns)
    attempt = book.reservation(5 * CENT)
    gone.commit([attempt, book.end(attempt, CENT, last=False)])
    book.time.now += LEASE_NS + 1
    end = EndRequest(attempt.request, RequestEnd("error", "timeout", 504, book.time.now))

    writer.commit([end, Sweep(book.time.now, HOUR)])

    with book.store.reports() as reports:
        assert [request.outcome for request in reports.ended_requests()] == ["error"]
    gone.close()


def test_an_attempt_that_another_process_has_ended(book: Book, writer: LedgerWriter) -> None:
    """What a writer remembers of its own attempts is not believed once another has ended one: the
    whole batch is decided again."""
    mine, other = book.reservation(5 * CENT), book.reservation(7 * CENT)
    writer.commit([mine, other])
    book.time.now += LEASE_NS + 1
    sweeper = book.store.writer("sweeper", LEASE_NS, book.time.now_ns)
    assert sweeper.commit([Sweep(book.time.now, HOUR)]) == [2]
    new = book.reservation(CENT)

    writer.commit([new, book.end(mine, CENT), book.end(other, 2 * CENT)])

    assert book.balance() == (3 * CENT, CENT, 0)
    assert states(book) == [("settled", CENT), ("settled", 2 * CENT)]
    sweeper.close()
