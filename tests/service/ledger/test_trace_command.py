"""`spanledger trace --json`: the format that scripts read."""

from __future__ import annotations

import json

from typer.testing import CliRunner

from spanledger.cli import app

from .conftest import Book


async def test_a_trace_as_data_has_real_booleans_and_nulls(book: Book) -> None:
    """Flags are true or false, absent values are null, and an attempt names its key as its request does."""
    reservation = book.reservation(10**6)
    await book.ledger.reserve(reservation)
    await book.ledger.finish(book.end(reservation, 250))

    result = CliRunner().invoke(
        app, ["trace", reservation.request.trace_id, "--json", "--ledger", book.store.url]
    )

    (request,) = json.loads(result.stdout)
    (attempt,) = request["attempts"]
    for name in ("estimated", "unpriced", "corrected"):
        assert attempt[name] is False
    for name in ("team", "key", "error_type", "fallback_from", "reason"):
        assert attempt[name] is None
    assert (request["team"], request["key"]) == (None, None)
    assert (attempt["cost_usd"], attempt["hold_usd"]) == ("0.00000025", "0.001")
