"""`spanledger budget holds`: how much of what was held was used, on both stores."""

from __future__ import annotations

import json

from typer.testing import CliRunner

from spanledger.cli import app
from tests.service.ledger.conftest import NOON, Book


async def charge(book: Book, model: str, hold: int, cost: int | None) -> None:
    """An attempt that held and cost this much."""
    reservation = book.reservation(hold, model=model)
    await book.ledger.reserve(reservation)
    await book.ledger.finish(book.end(reservation, cost))


async def some(book: Book) -> None:
    """Attempts of two models; one is free, one overruns, one is still in flight."""
    for cost in (100, 101, 500, 1_000, 1_500):
        await charge(book, "gpt-4o", 1_000, cost)
    await charge(book, "gpt-4o", 1_000, None)
    await charge(book, "gpt-4o-mini", 10**9, 0)
    await book.ledger.reserve(book.reservation(1_000))


async def test_rows_of_each_group(book: Book) -> None:
    """Sums, shares to the percent, rounded up, and overruns; the largest sum first."""
    await some(book)

    with book.store.reports() as reports:
        mini, big = reports.holds(["model", "route"])
        assert reports.holds(["customer"], since_ns=NOON + 1) == []
        assert reports.holds(["customer"], 0, NOON) == []
        [everybody] = reports.holds([], NOON, NOON + 1)

    assert mini.group == ("gpt-4o-mini", "chat")
    assert (mini.attempts, mini.held_nano, mini.used) == (1, 10**9, {0: 1})
    assert (big.attempts, big.held_nano, big.cost_nano, big.overrun_nano) == (5, 5_000, 3_201, 500)
    assert big.used == {10: 1, 11: 1, 50: 1, 100: 1, 101: 1}
    assert (big.overruns, big.quantile(0.5), big.quantile(0.95)) == (1, 50, 101)
    assert everybody.attempts == 6


async def test_the_command(book: Book) -> None:
    """A table for people, JSON for programs, and errors that say what to change."""
    await some(book)
    run = CliRunner()
    at = ["--ledger", book.store.url]

    shown = run.invoke(app, ["budget", "holds", *at]).stdout
    read = json.loads(run.invoke(app, ["budget", "holds", "--json", *at]).stdout)
    wrong = run.invoke(app, ["budget", "holds", "--by", "modl", *at])
    nothing = run.invoke(app, ["budget", "holds", "--since", "2026-11-24", *at])

    line = next(line for line in shown.splitlines() if line.startswith("gpt-4o "))
    assert line.split() == ["gpt-4o", "5", "$0.000005", "$0.000003201", "64.0%", "50%", "over", "1",
                            "($0.0000005)"]  # fmt: skip
    row = read["rows"][1]
    assert row["attempts_up_to_percent"] == {
        "10": 1, "25": 2, "50": 3, "75": 3, "90": 3, "100": 4,
    }  # fmt: skip
    assert (row["model"], row["overruns"], row["used_percent"]) == ("gpt-4o", 1, 64.0)
    assert wrong.exit_code == 2
    assert "did you mean 'model'?" in wrong.output
    assert "no attempts with a hold were charged" in nothing.stdout
