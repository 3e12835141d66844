"""What the log says of an outage of the ledger."""

from __future__ import annotations

import logging
from contextlib import suppress

import pytest

from spanledger.errors import LedgerUnavailableError
from spanledger.ledger import open_ledger
from spanledger.ledger.outage import log_outage
from spanledger.ledger.ports import Store
from tests.service.ledger.conftest import Book, Time
from tests.service.ledger.stores import cut_off


def test_one_error_an_outage(caplog: pytest.LogCaptureFixture) -> None:
    """A new reason of the same outage is a warning, and a known one is not logged again."""
    log_outage("the server is gone", ("", ""), "nothing is sent")
    log_outage("the server is gone", ("the server is gone", ""), "nothing is sent")
    log_outage("the server is read-only", ("the server is gone", ""), "nothing is sent")
    log_outage("no answer", ("", "the server is gone"), "nothing is sent")

    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (logging.ERROR, "the server is gone; nothing is sent"),
        (logging.WARNING, "the server is read-only; nothing is sent"),
        (logging.WARNING, "no answer; nothing is sent"),
    ]


async def test_commits_and_reads_that_fail_are_one_outage(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever fails and for whichever reason, there is one error, and another at the next outage."""
    time = Time()
    ledger = open_ledger(store, time.clock())
    book = Book(store, time, ledger)
    for outage in (1, 2):
        with cut_off(store):
            with pytest.raises(LedgerUnavailableError):
                await ledger.reserve(book.reservation(1))
            with suppress(LedgerUnavailableError):  # an open file of SQLite's can still be read
                await ledger.find_key("unknown")
            with pytest.raises(LedgerUnavailableError):
                await ledger.reserve(book.reservation(1))
        await ledger.reserve(book.reservation(1))
        await ledger.find_key("unknown")
        errors = [r for r in caplog.records if r.levelno >= logging.ERROR]
        assert len(errors) == outage
    await ledger.close()
