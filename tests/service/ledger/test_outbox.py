"""The outbox: ended rows in order, and the rows that the shipper keeps for itself."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from msgspec import structs

from spanledger.ledger.lanes import START
from spanledger.ledger.model import Sweep
from spanledger.ledger.ports import Outbox, Store
from spanledger.ledger.rows import Advance, AttemptRow, CursorMovedError, PointRow, RequestRow
from tests.service.ledger.conftest import Book
from tests.support.processes import poll

CENT = 10**7
HOUR = 3_600 * 10**9


@pytest.fixture
def outbox(book: Book) -> Iterator[Outbox]:
    """The outbox of the book's ledger."""
    outbox = book.store.outbox()
    yield outbox
    outbox.close()


async def served(book: Book, cost: int = CENT) -> str:
    """A request with one attempt; returns its id."""
    reservation = book.reservation(CENT)
    await book.ledger.reserve(reservation)
    await book.ledger.finish(book.end(reservation, cost))
    return reservation.request.request_id


def ship(outbox: Outbox) -> None:
    """Accept everything that has ended."""
    at = outbox.cursor()
    outbox.advance(Advance(at, at.past(outbox.read_after(at, 1_000))))


async def test_rows_come_in_order_and_once(book: Book, outbox: Outbox) -> None:
    """Read in small batches, every ended row comes once, an attempt before its request; what is
    still open does not come."""
    ids = [await served(book) for _ in range(7)]
    await book.ledger.reserve(book.reservation(CENT))

    rows, cursor = [], outbox.cursor()
    while found := outbox.read_after(cursor, 3):
        assert len(found) <= 3
        rows += found
        cursor = cursor.past(found)

    assert [row.seq for row in rows] == sorted({row.seq for row in rows})
    assert [row.request_id for row in rows if isinstance(row, RequestRow)] == ids
    assert [row.request_id for row in rows if isinstance(row, AttemptRow)] == ids
    kinds = [type(row) for row in rows]
    assert kinds == [AttemptRow, RequestRow] * 7


async def test_the_cursor_is_kept(book: Book, outbox: Outbox) -> None:
    """Another shipper goes on where the last one stopped, with its series, on the same ledger."""
    await served(book)
    first, second = outbox.read_after(outbox.cursor(), 10)
    point = PointRow("m", "{}", 5, b'{"sum":1}')
    at = outbox.cursor()
    outbox.advance(Advance(at, at.past([first]), points=[point]))

    other = book.store.outbox()
    assert other.ledger_id() == outbox.ledger_id()
    assert other.points() == [point]
    assert other.read_after(other.cursor(), 10) == [second]
    other.close()


async def test_only_one_shipper_moves_the_cursor(book: Book, outbox: Outbox) -> None:
    """A batch that begins elsewhere than at the cursor changes nothing."""
    await served(book)
    start = outbox.cursor()
    rows = outbox.read_after(start, 10)
    first, both = start.past(rows[:1]), start.past(rows)
    outbox.advance(Advance(start, first))
    point = PointRow("m", "{}", 5, b"{}")

    for elsewhere in (start, both):
        with pytest.raises(CursorMovedError):
            outbox.advance(Advance(elsewhere, both, points=[point]))

    assert outbox.cursor() == first
    assert outbox.points() == []


async def test_commits_of_others_are_noticed(book: Book, outbox: Outbox) -> None:
    """A gateway's commit is, the shipper's own is not."""
    outbox.changed()
    assert not outbox.changed()
    await served(book)
    assert outbox.changed()
    ship(outbox)
    assert not outbox.changed()


async def test_a_corrected_row_comes_again(book: Book, outbox: Outbox) -> None:
    """With what was shipped before, so that only the difference is counted."""
    gone = book.store.writer("gone", 30 * 10**9, book.time.now_ns)
    attempt = book.reservation(5 * CENT)
    gone.commit([attempt])
    book.time.now += 60 * 10**9
    sweeper = book.store.writer("sweeper", 30 * 10**9, book.time.now_ns)
    assert sweeper.commit([Sweep(book.time.now, HOUR)]) == [1]
    at = outbox.cursor()
    rows = outbox.read_after(at, 10)
    assert [row.shipped_nano for row in rows] == [None, None]
    outbox.advance(Advance(at, at.past(rows), remembered=rows))

    gone.commit([book.end(attempt, CENT)])
    again = outbox.read_after(outbox.cursor(), 10)

    assert [(row.cost_nano, row.shipped_nano) for row in again] == [(CENT, 5 * CENT)] * 2
    gone.close()
    sweeper.close()


async def test_content_is_dropped_once_shipped(book: Book, outbox: Outbox) -> None:
    """Prompts stay in the ledger only until they have been sent."""
    reservation = book.reservation(CENT)
    end = book.end(reservation, CENT)
    await book.ledger.reserve(reservation)
    await book.ledger.finish(structs.replace(end, content='{"a":1}'))
    at = outbox.cursor()
    rows = outbox.read_after(at, 10)
    (attempt,) = (row for row in rows if isinstance(row, AttemptRow))
    assert attempt.content == '{"a":1}'

    outbox.advance(Advance(at, at.past(rows), with_content=[attempt]))

    (attempt,) = (row for row in outbox.read_after(START, 10) if isinstance(row, AttemptRow))
    assert attempt.content is None


def test_a_lock_is_one_process_alone(store: Store) -> None:
    """It is free for the next one soon after it is closed, and does not depend on a ledger being there."""
    first, second = store.exclusive("ship"), store.exclusive("ship")
    other = store.exclusive("other")
    assert [first.acquire(), second.acquire(), other.acquire()] == [True, False, True]

    first.close()
    assert poll(second.acquire)  # a server notices a little later
    second.close()
    other.close()
