"""A gateway that others took for dead, and that went on."""

from __future__ import annotations

from tests.service.ledger.conftest import Book
from tests.service.ledger.stores import raw

MINUTE = 60 * 10**9


async def test_a_request_that_goes_on_after_it_was_abandoned_has_all_its_attempts(
    book: Book,
) -> None:
    """Another gateway ends it between two attempts, and expires the second one later: the request has
    the number and the cost of both."""
    first = book.reservation(10)
    paused = book.store.writer("paused", MINUTE // 2, book.time.now_ns)
    paused.commit([first])
    paused.commit([book.end(first, 3, last=False)])
    book.time.now += MINUTE
    await book.ledger.sweep()
    paused.commit([book.reservation(20, number=2, request=first.request)])
    paused.close()
    book.time.now += MINUTE
    await book.ledger.sweep()

    query = "SELECT outcome, attempts, cost_nano FROM requests"
    assert raw(book.store, query) == [("abandoned", 2, 23)]
