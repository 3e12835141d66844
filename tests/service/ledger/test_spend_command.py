"""`spanledger spend`: what its text says about the figures."""

from __future__ import annotations

from msgspec.structs import replace
from typer.testing import CliRunner

from spanledger.cli import app

from .conftest import Book


async def test_an_estimate_is_explained_for_callers_that_left_too(book: Book) -> None:
    """An estimated cost may also come from a response that was not read to the end."""
    reservation = book.reservation(10**6)
    await book.ledger.reserve(reservation)
    end = replace(book.end(reservation, 250), error_type="cancelled", estimated=True)
    await book.ledger.finish(end)

    result = CliRunner().invoke(app, ["spend", "--ledger", book.store.url])

    assert (
        "$0.00000025 of this is estimated, because the provider reported no usage, or its response"
        " was not read to the end"
    ) in " ".join(result.stdout.split())
