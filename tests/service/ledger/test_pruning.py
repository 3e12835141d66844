"""Pruning: which requests are removed, which stay, and that no figure changes."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any
from zoneinfo import available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from spanledger.budgets.periods import period_at
from spanledger.cli import app
from spanledger.config import TelemetrySettings
from spanledger.errors import UsageError
from spanledger.ledger.model import RequestStart
from spanledger.ledger.pruning import Keep, Pruned, prunable_until_ns
from spanledger.ledger.sql import pruning
from spanledger.telemetry.shipper import run_shipper
from tests.support.ledgers import store_at

from .conftest import NOON, Book

SECOND = 10**9
DAY = 86_400 * SECOND
OLD = NOON - 80 * DAY
BEFORE = NOON - 60 * DAY


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes a few requests span several batches."""
    monkeypatch.setattr(pruning, "BATCH", 20)


def ship(book: Book) -> None:
    """Skip the rows: nothing is sent, and the cursor moves to the end."""
    environ = {"OTEL_SDK_DISABLED": "true"}
    store = book.store
    assert run_shipper(store, TelemetrySettings(), threading.Event(), once=True, environ=environ)


async def serve(book: Book, at_ns: int, cost: int = 1_000, attempts: int = 1) -> RequestStart:
    """A request that ends a second after its start and whose last attempt has a cost."""
    book.time.now = at_ns
    first = reservation = book.reservation(10**7)
    for number in range(1, attempts + 1):
        if number > 1:
            reservation = book.reservation(10**7, number=number, request=first.request)
        await book.ledger.reserve(reservation)
        book.time.now += SECOND
        last = number == attempts
        await book.ledger.finish(book.end(reservation, cost if last else None, last))
    book.time.now = NOON
    return first.request


def prune(book: Book, before_ns: int = BEFORE, keep: Keep | None = None) -> Pruned:
    """Run a pruning to its end; returns what was removed."""
    with closing(book.store.prune(before_ns, NOON)) as removal:
        return [Pruned(), *removal.run(keep)][-1]


def requests(book: Book) -> set[str]:
    """The remaining ids."""
    reports = book.store.reports()
    rows = reports.requests(10_000)
    reports.close()
    return {row["request_id"] for row in rows}


async def test_what_is_old_and_over_leaves(book: Book) -> None:
    """Requests before the time are removed with all their attempts; later ones and balances stay."""
    book.time.now = OLD
    book.budget()
    for n in range(pruning.BATCH + 3):
        await serve(book, OLD + n, attempts=2)
    late = await serve(book, NOON - 5 * DAY, cost=77)
    edge = await serve(book, BEFORE - SECOND // 2)
    ship(book)

    done = prune(book)

    count = pruning.BATCH + 3
    assert (done.requests, done.attempts, done.cost_nano) == (count, 2 * count, 1_000 * count)
    assert requests(book) == {late.request_id, edge.request_id}
    assert book.balance() == (77, 0, 0)
    reports = book.store.reports()
    assert (reports.pruned_ns(), reports.verify().pruned_balances) == (BEFORE, 1)
    reports.close()


async def test_what_is_not_over_stays(book: Book) -> None:
    """Held attempts and unshipped rows are still needed."""
    book.time.now = OLD
    held = book.reservation(10**7)
    await book.ledger.reserve(held)
    shipped = await serve(book, OLD + 1)
    ship(book)
    unshipped = await serve(book, OLD + 2)

    removal = book.store.prune(BEFORE, NOON)
    found = removal.count()
    removal.close()
    done = prune(book)

    assert (found.requests, found.unshipped, done.requests) == (1, 1, 1)
    assert requests(book) == {held.request.request_id, unshipped.request_id}
    assert shipped.request_id not in requests(book)
    assert await book.ledger.finish(book.end(held, 5))


async def test_a_budget_set_afterwards_counts_all_of_its_period(book: Book) -> None:
    """No current period needs a prunable row: the latest time allowed removes none of its attempts."""
    await serve(book, NOON - 22 * DAY, cost=5)  # 1 November, 12:00
    await serve(book, NOON - 33 * DAY, cost=7)
    ship(book)

    assert prune(book, prunable_until_ns(NOON)).cost_nano == 7
    book.budget()

    assert book.balance() == (5, 0, 0)
    with pytest.raises(UsageError, match="2026-10-22"):
        prune(book, prunable_until_ns(NOON) + 1)


@given(
    now_s=st.integers(1_600_000_000, 2_200_000_000),
    kind=st.sampled_from(
        ["day", "week", "month", "week/friday", *(f"month/{day}" for day in range(2, 32))]
    ),
    zone=st.sampled_from(sorted(available_timezones())),
)
def test_no_present_period_began_before(now_s: int, kind: str, zone: str) -> None:
    """This is true in every time zone, at any time, of periods of up to a month."""
    assert prunable_until_ns(now_s * SECOND) <= period_at(kind, zone, now_s).start_s * SECOND
    assert prunable_until_ns(now_s * SECOND) >= (now_s - 33 * 86_400) * SECOND


async def test_what_is_not_kept_does_not_leave(book: Book) -> None:
    """Removed rows are passed to `keep` first; if it fails, the entire batch stays."""
    ids = {(await serve(book, OLD + n)).request_id for n in range(3)}
    ship(book)

    def fail(_: Sequence[Any]) -> None:
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        prune(book, keep=fail)
    assert requests(book) == ids

    given: list[str] = []
    prune(book, keep=lambda batch: given.extend(request["request_id"] for request, _ in batch))
    assert (set(given), requests(book)) == (ids, set())


async def test_gateways_serve_meanwhile(book: Book) -> None:
    """Requests are held and ended while thousands are removed, and nothing is lost."""
    book.time.now = NOON
    book.budget(limit_nano=10**12)
    starts = [serve(book, OLD + n) for n in range(5 * pruning.BATCH)]
    for start in starts:
        await start
    ship(book)
    removing = asyncio.create_task(asyncio.to_thread(prune, book))
    served = 0
    while not removing.done():
        await serve(book, NOON)
        served += 1

    assert (await removing).requests == 5 * pruning.BATCH
    assert served > 0
    assert book.balance() == (1_000 * served, 0, 0)


def command(book: Book, *arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout, stderr."""
    result = CliRunner().invoke(
        app, [*arguments, "--ledger", book.store.url], catch_exceptions=False
    )
    return result.exit_code, result.stdout, result.stderr


async def test_the_command_archives_what_leaves(book: Book, tmp_path: Path) -> None:
    """A line for each request, as `trace --json` has it; the file is new and only its owner can read it."""
    request = await serve(book, OLD, attempts=2)
    ship(book)
    (traced,) = json.loads(command(book, "trace", request.trace_id, "--json")[1])
    file = tmp_path / "old.jsonl"
    say = ("ledger", "prune", "--before", "2026-09-20", "--archive", str(file))

    dry = command(book, *say, "--dry-run")
    assert (dry[0], dry[1].startswith("would remove 1 requests, 2 attempts")) == (0, True)
    assert not file.exists()
    code, out, _ = command(book, *say, "--json")
    assert (code, json.loads(out)["requests"], json.loads(out)["cost_usd"]) == (0, 1, "0.000001")
    assert [json.loads(line) for line in file.read_text("utf-8").splitlines()] == [traced]
    assert file.stat().st_mode & 0o777 == 0o600

    code, _, problem = command(book, *say)
    assert (code, "cannot write a new file" in problem) == (2, True)
    nothing = ("ledger", "prune", "--before", "2026-09-20", "--archive", f"{tmp_path}/none.jsonl")
    assert [command(book, *nothing)[0] for _ in range(2)] == [0, 0]
    assert "were pruned" in command(book, "spend")[2]
    assert "were pruned" not in command(book, "spend", "--since", "2026-09-21")[2]
    assert command(book, "ledger", "verify")[0] == 0


async def test_the_command_says_what_stays(book: Book, tmp_path: Path) -> None:
    """Unshipped rows are not removed, and the command says why; too recent a day is refused."""
    await serve(book, OLD)

    code, out, problem = command(book, "ledger", "prune", "--before", "2026-09-20")
    assert (code, out.startswith("removed 0 requests")) == (0, True)
    assert "kept 1 requests of the same age" in problem
    code, _, problem = command(book, "ledger", "prune", "--before", "1d")
    assert (code, "33d" in problem) == (2, True)
    missing = Book(store_at(tmp_path / "none.db"), book.time, book.ledger)
    assert command(missing, "ledger", "prune", "--before", "90d")[0] == 1
    assert not missing.store.exists()


async def test_requests_of_a_long_period_need_a_word(book: Book) -> None:
    """The command names the budget that counts them; if told to, it removes them and the balance
    stays, but a budget that is set afterwards is said to lack them."""
    book.budget(period="once@2020-01-01")
    await serve(book, OLD, cost=7)
    ship(book)

    code, _, problem = command(book, "ledger", "prune", "--before", "2026-10-01")
    assert (code, "budget 'b' counts requests since 2020-01-01" in problem) == (2, True)
    code, _, _ = command(book, "ledger", "prune", "--before", "2026-10-01", "--counted")

    assert (code, requests(book)) == (0, set())
    assert book.balance() == (7, 0, 0)
    same = ("budget", "set", "b", "--limit", "2")
    assert "were pruned" not in command(book, *same)[2]
    code, _, said = command(book, *same, "--timezone", "Asia/Tokyo")
    assert (code, "those that ended before 2026-10-01 were pruned" in said) == (0, True)


@pytest.mark.parametrize("before", ["off", "on", "shipped"])
async def test_where_nothing_ships_everything_old_leaves(book: Book, before: str) -> None:
    """A gateway with telemetry off records that at its start: no row then waits for a shipper, even
    if one ran before."""
    records = book.store.records("create")
    if before != "off":
        records.set_ships(ships=True)
    await serve(book, OLD)
    if before == "shipped":
        ship(book)
    await serve(book, OLD)
    records.set_ships(ships=False)
    records.close()

    assert (prune(book).requests, requests(book)) == (2, set())


async def test_what_a_shipper_has_not_taken_stays(book: Book) -> None:
    """Rows wait for a shipper until a gateway has started, and after a shipper has run again, unless
    the command is told to remove them."""
    await serve(book, OLD)
    assert prune(book).requests == 0
    records = book.store.records("create")
    records.set_ships(ships=False)
    records.close()
    ship(book)  # by hand, or by another gateway
    await serve(book, OLD)
    assert prune(book).requests == 1

    removal = book.store.prune(BEFORE, NOON, unshipped=True)
    counted = removal.count()
    assert (counted.requests, counted.unshipped) == (1, 0)
    assert [done.requests for done in removal.run()][-1] == 1
    removal.close()
    assert requests(book) == set()
