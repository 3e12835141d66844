"""A ledger that goes away while a shipped batch is being counted."""

from __future__ import annotations

import pytest

from spanledger.errors import LedgerUnavailableError
from spanledger.ledger.lanes import Position
from spanledger.ledger.ports import Outbox
from spanledger.ledger.rows import Advance, EndedRow, PointRow
from spanledger.telemetry.pipeline import Pipeline
from tests.service.telemetry.conftest import FAST, Book
from tests.support.ledgers import store_at


class Leaving:
    """An outbox that is unavailable from its first `advance` on, for a while."""

    def __init__(self, outbox: Outbox, *, committed: bool) -> None:
        self._outbox = outbox
        self._committed = committed
        self._left = True
        self._refusals = 0

    def _ask(self) -> Outbox:
        if self._refusals:
            self._refusals -= 1
            raise LedgerUnavailableError("the ledger is away")
        return self._outbox

    def cursor(self) -> Position:
        """As the outbox."""
        return self._ask().cursor()

    def points(self) -> list[PointRow]:
        """As the outbox."""
        return self._ask().points()

    def changed(self) -> bool:
        """As the outbox."""
        return self._ask().changed()

    def read_after(self, cursor: Position, limit: int) -> list[EndedRow]:
        """As the outbox."""
        return self._ask().read_after(cursor, limit)

    def ledger_id(self) -> str:
        """As the outbox."""
        return self._ask().ledger_id()

    def close(self) -> None:
        """As the outbox."""
        self._outbox.close()

    def advance(self, advance: Advance) -> None:
        """Commit or not; either way the answer is lost."""
        if not self._left:
            self._outbox.advance(advance)
            return
        if self._committed:
            self._outbox.advance(advance)
        self._left, self._refusals = False, 3
        raise LedgerUnavailableError("the answer was lost")


@pytest.mark.parametrize("committed", [False, True])
def test_a_batch_is_counted_once_however_its_commit_ended(book: Book, committed: bool) -> None:
    """The shipper goes on from what the ledger has, once it can read that."""
    for _ in range(3):
        book.finish(book.reserve(book.start()))
    outbox = Leaving(store_at(book.path).outbox(), committed=committed)
    pipeline = Pipeline(outbox, None, None, max_customers=10, pace=FAST)

    failures = 0
    while book.cursor < book.last_seq or failures < 4:
        try:
            pipeline.step()
        except LedgerUnavailableError:
            failures += 1
    book.finish(book.reserve(book.start()))
    assert pipeline.drain()

    assert failures == 4
    assert book.cursor == book.last_seq
    assert book.counted_nano == book.cost_nano
    outbox.close()
