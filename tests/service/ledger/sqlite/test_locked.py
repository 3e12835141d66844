"""A ledger whose lock another process holds for too long."""

from __future__ import annotations

import asyncio
import sqlite3

import pytest

from spanledger.errors import LedgerUnavailableError
from spanledger.ledger import group
from spanledger.ledger.model import RequestEnd
from spanledger.ledger.sqlite import connection
from tests.service.ledger.conftest import Book

CENT = 10**7


async def test_an_end_that_could_not_be_written_is_written_later(
    book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While another process holds the lock, nothing is admitted and no end of an attempt is lost."""
    monkeypatch.setattr(connection.begin_immediate, "__defaults__", (0.05,))
    book.budget()
    reservation = book.reservation(CENT)
    await book.ledger.reserve(reservation)
    blocker = sqlite3.connect(book.path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")

    with pytest.raises(LedgerUnavailableError):
        await book.ledger.reserve(book.reservation(CENT))
    with pytest.raises(LedgerUnavailableError):
        await book.ledger.finish(book.end(reservation, CENT))
    blocker.execute("ROLLBACK")
    blocker.close()

    await book.ledger.sweep()
    assert book.balance() == (CENT, 0, 0)


async def test_money_is_kept_before_refusals(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the ledger is unavailable, any number of requests is refused; they must not push out the
    end of an attempt."""
    monkeypatch.setattr(connection.begin_immediate, "__defaults__", (0.01,))
    monkeypatch.setattr(group, "MAX_UNWRITTEN", 5)
    book.budget()
    attempts = [book.reservation(CENT) for _ in range(3)]
    for reservation in attempts:
        await book.ledger.reserve(reservation)
    blocker = sqlite3.connect(book.path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    refused = RequestEnd("error", "ledger_unavailable", 503, book.time.now)

    async def refuse() -> None:
        await book.ledger.end_request(book.reservation().request, refused)

    await asyncio.gather(*(refuse() for _ in range(20)), return_exceptions=True)
    ends = (book.ledger.finish(book.end(reservation, CENT)) for reservation in attempts)
    await asyncio.gather(*ends, return_exceptions=True)
    await asyncio.gather(*(refuse() for _ in range(20)), return_exceptions=True)
    blocker.execute("ROLLBACK")
    blocker.close()

    await book.ledger.sweep()
    assert book.balance() == (3 * CENT, 0, 0)
    reports = book.store.reports()
    outcomes = [request["outcome"] for request in reports.requests(100)]
    reports.close()
    assert sorted(outcomes) == ["error"] * 2 + ["ok"] * 3
