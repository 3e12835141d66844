"""`spanledger top`: a snapshot of a ledger, as data and as a screen."""

from __future__ import annotations

import io
import json

import pytest
from msgspec.structs import replace
from rich.console import Console
from typer.testing import CliRunner

from spanledger.cli import app
from spanledger.errors import BudgetExceededError
from spanledger.ledger.model import Outcome, RequestEnd
from spanledger.top.figures import Picture, Window
from spanledger.top.view import draw

from .conftest import NOON, Book

SECOND = 10**9


async def play(book: Book) -> None:
    """An old request, a served one, a fallback, a refusal, and one in flight."""
    book.budget(limit_nano=1_000)
    book.budget("wide", scope="global", subject="")
    book.time.now = NOON - 3600 * SECOND
    await serve(book, 10, customer="long-ago")
    book.time.now = NOON
    await serve(book, 900)
    await serve(book, 300, customer="globex", fallback_from="d0", reason="rate_limited")
    refused = book.reservation(500)
    with pytest.raises(BudgetExceededError):
        await book.ledger.reserve(refused)
    await book.ledger.end_request(
        refused.request, RequestEnd("refused", "budget_exceeded", 429, NOON, "b", "customer")
    )
    await book.ledger.reserve(book.reservation(50, customer="globex"))


async def serve(book: Book, cost: int, customer: str = "acme", **changes: str) -> None:
    """A request answered after two seconds."""
    reservation = replace(book.reservation(cost, customer=customer), **changes)
    await book.ledger.reserve(reservation)
    end = replace(book.end(reservation, cost), ended_ns=reservation.now_ns + 2 * SECOND)
    done = RequestEnd("ok", "", 200, reservation.now_ns + 2 * SECOND)
    await book.ledger.finish(replace(end, request=done))


def look(book: Book) -> Picture:
    """The last minute, as seen five seconds later."""
    window = Window(book.store.reports())
    picture = window.look(NOON + 5 * SECOND, 60)
    window.close()
    return picture


async def test_a_look_counts_the_window_and_nothing_else(book: Book) -> None:
    """Requests older than the window are left out, except those still running."""
    await play(book)

    picture = look(book)

    assert (picture.requests, picture.running, picture.refused) == (4, 1, 1)
    assert (picture.failed, picture.fallbacks, picture.cost_nano) == (0, 1, 1_200)
    assert picture.seconds == (2.0, 2.0)
    assert [tuple(row) for row in picture.customers] == [
        ("acme", 2, 0, 1, 900),
        ("globex", 2, 0, 0, 300),
    ]
    assert [(d.deployment, d.served, d.failed) for d in picture.deployments] == [("d1", 2, 0)]
    assert [state.budget.name for state in picture.budgets] == ["b", "wide"]
    assert [(event.kind, event.customer) for event in picture.events] == [
        ("fallback", "globex"),
        ("refused", "acme"),
    ]


async def test_a_caller_who_leaves_is_no_failure_of_the_deployment(book: Book) -> None:
    """Only the provider's failures are counted for a deployment and shown as its last error."""
    for kind in ("server_error", "cancelled"):
        reservation = book.reservation(100)
        await book.ledger.reserve(reservation)
        outcome: Outcome = "cancelled" if kind == "cancelled" else "error"
        ended = RequestEnd(outcome, kind, 502, NOON)
        end = replace(book.end(reservation, 10), error_type=kind, request=ended)
        await book.ledger.finish(end)

    picture = look(book)

    (row,) = picture.deployments
    assert (row.served, row.failed, row.error_type) == (0, 1, "server_error")
    assert [(c.requests, c.failed, c.refused) for c in picture.customers] == [(2, 1, 0)]


async def test_a_picture_fits_its_terminal(book: Book) -> None:
    """Figures are not truncated at 60 columns, and rows without room are counted."""
    await play(book)
    screen = io.StringIO()

    Console(file=screen, width=60).print(draw(look(book), "sqlite:///ledger.db", rows=1))

    text = screen.getvalue()
    assert "$0.0000009" in text
    assert text.count("and 1 more") == 2
    assert max(map(len, text.splitlines())) <= 60


async def test_top_as_data(book: Book) -> None:
    """Money is text, times have a zone, and a ledger without traffic is not an error."""
    book.budget()

    done = CliRunner().invoke(app, ["top", "--json", "--ledger", book.store.url])

    found = json.loads(done.stdout)
    assert done.exit_code == 0
    assert (found["requests"], found["seconds"], found["cost_usd"]) == (0, None, "0.00")
    assert found["at"].endswith("Z")
    assert found["budgets"][0]["limit_usd"] == "1.00"


def test_top_into_a_pipe_is_one_picture(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A missing ledger gives one line and exit code 1, as for every command."""
    missing = tmp_path_factory.mktemp("none") / "ledger.db"
    done = CliRunner().invoke(app, ["top", "--ledger", f"sqlite:///{missing}"])
    assert (done.exit_code, done.stderr.count("\n")) == (1, 1)
