"""What a gateway remembers of its ledger between two commits."""

from __future__ import annotations

from spanledger.ledger.model import Hold
from tests.service.ledger.conftest import Book
from tests.support.ledgers import sqlite_at

CENT = 10**7


async def test_balances_are_read_again_only_after_others_wrote(book: Book) -> None:
    """A gateway alone on its ledger does not read what it wrote itself."""
    book.budget()
    store = sqlite_at(book.path).writer("other", 30 * 10**9, book.time.now_ns)
    asked: list[str] = []
    store._connection.set_trace_callback(asked.append)

    def reads() -> int:
        """Balances read by one more commit."""
        asked.clear()
        (hold,) = store.commit([book.reservation(CENT)])
        assert isinstance(hold, Hold)
        return sum("FROM balances" in statement for statement in asked)

    assert [reads(), reads(), reads()] == [1, 0, 0]
    await book.ledger.reserve(book.reservation(20 * CENT))
    assert [reads(), reads()] == [1, 0]
    assert book.balance() == (0, 25 * CENT, 0)
    store._connection.set_trace_callback(None)
    store.close()
