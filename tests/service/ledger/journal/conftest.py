"""A gateway with a journal on a ledger of each kind, and helpers to make that unavailable."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from spanledger.ledger import open_ledger
from spanledger.ledger.group import GroupLedger
from spanledger.ledger.journal.journal import Journal
from spanledger.ledger.ports import Store
from tests.service.ledger.conftest import Book, Time
from tests.service.ledger.stores import new_store, raw
from tests.support.processes import poll

CENT = 10_000_000
DEADLINE_S = 60.0


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """A ledger of each kind that does not exist yet."""
    return new_store(request.param, tmp_path)


@pytest.fixture
async def book(store: Store, tmp_path: Path) -> AsyncIterator[Book]:
    """A new ledger whose gateway has a journal; after the test it must add up, with no file left."""
    time = Time()
    folder = tmp_path / "journal"
    ledger = open_ledger(store, time.clock(), journal=folder)
    await ledger.sweep()
    book = Book(store, time, ledger)
    yield book
    await book.ledger.close()
    assert book.problems() == []
    assert list(folder.glob("*")) == []


async def until(condition: Callable[[], bool]) -> None:
    """Wait until it holds."""
    assert await asyncio.to_thread(poll, condition, DEADLINE_S)


async def allow(book: Book, nano: int, **changes: object) -> None:
    """Set a budget that allows this much, and wait until the gateway knows."""
    book.budget("b", allow_when_down_nano=nano, **changes)
    await book.ledger.sweep()
    journal = journal_of(book.ledger)
    await until(lambda: journal.armed and journal._allowances.any)


def journal_of(ledger: GroupLedger) -> Journal:
    """Its journal."""
    assert ledger.journal is not None
    return ledger.journal


async def is_back(ledger: GroupLedger) -> None:
    """Wait until the ledger commits again and has everything."""
    await until(lambda: not ledger.away and journal_of(ledger).figures().waiting == 0)
    journal = journal_of(ledger)
    await until(lambda: not journal.unrecorded)


def attempt(store: Store, request_id: str, number: int = 1) -> tuple[object, ...]:
    """State, hold, cost, start and end of an attempt's row."""
    query = (
        "SELECT state, hold_nano, cost_nano, started_ns, ended_ns FROM attempts"
        f" WHERE request_id = '{request_id}' AND number = {number}"
    )
    (row,) = raw(store, query)
    return tuple(row)
