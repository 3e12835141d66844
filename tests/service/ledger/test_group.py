"""A ledger that becomes unavailable while a batch is being written."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from spanledger.errors import LedgerUnavailableError
from spanledger.ledger.model import LedgerOperation, LedgerResult
from tests.service.ledger.conftest import Book

CENT = 10_000_000


async def test_an_end_is_kept_when_the_ledger_goes_away_within_a_batch(
    book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a batch written one by one, ends that failed because of the ledger are written later."""
    book.budget()
    reservation = book.reservation(CENT)
    await book.ledger.reserve(reservation)
    faults: list[Exception] = [ValueError("of the batch"), LedgerUnavailableError("of one")]
    writer = book.ledger._store
    commit = writer.commit

    def failing(operations: Sequence[LedgerOperation]) -> list[LedgerResult]:
        if faults:
            raise faults.pop(0)
        return commit(operations)

    monkeypatch.setattr(writer, "commit", failing)
    with pytest.raises(LedgerUnavailableError, match="of one"):
        await book.ledger.finish(book.end(reservation, CENT // 2))
    await book.ledger.sweep()

    assert book.balance() == (CENT // 2, 0, 0)
