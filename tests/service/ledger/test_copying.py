"""A ledger copied into another database: everything comes along, to the nano-dollar."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from time import time_ns

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from spanledger.budgets.model import Budget
from spanledger.cli import app
from spanledger.config import TelemetrySettings
from spanledger.errors import LedgerUnavailableError, SpanledgerError, UsageError
from spanledger.ledger import copying, open_ledger
from spanledger.ledger.copying import InUseError, Numbering, copy_ledger
from spanledger.ledger.lanes import Position
from spanledger.ledger.model import EndRequest, Kept, Later, RequestEnd, Verification
from spanledger.ledger.ports import Store
from spanledger.ledger.rows import EndedRow, RawRow
from spanledger.telemetry.shipper import run_shipper
from tests.service.ledger.conftest import NOON, Book, Time
from tests.service.ledger.stores import KINDS, new_store, raw

CENT = 10**7
SECOND = 10**9
LEASE = 30 * SECOND
DAY = 86_400 * SECOND


@pytest.fixture(params=KINDS)
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """An empty database of each kind."""
    folder = tmp_path / "target"
    folder.mkdir()
    return new_store(request.param, folder)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes a few requests span several transactions."""
    monkeypatch.setattr(copying, "CHUNK", 3)


@pytest.fixture
async def source(store: Store) -> Book:
    """A ledger whose gateway can be stopped within a test."""
    time = Time()
    book = Book(store, time, open_ledger(store, time.clock()))
    await book.ledger.sweep()
    return book


def copied(book: Book, target: Store) -> Verification:
    """Copy it."""
    return copy_ledger(book.store, target, lambda _done, _total: None, book.time.now_ns)


async def serve(book: Book, cost: int = CENT, **changes: str) -> str:
    """A request with one attempt; returns its id."""
    reservation = book.reservation(2 * CENT, **changes)  # type: ignore[arg-type]  # texts only
    await book.ledger.reserve(reservation)
    await book.ledger.finish(book.end(reservation, cost))
    return reservation.request.request_id


def ship(store: Store) -> None:
    """Accept all rows."""
    environ = {"OTEL_SDK_DISABLED": "true"}
    assert run_shipper(store, TelemetrySettings(), threading.Event(), once=True, environ=environ)


def waiting(store: Store) -> list[EndedRow]:
    """The rows that a shipper would send next."""
    outbox = store.outbox()
    rows = outbox.read_after(outbox.cursor(), 1_000)
    outbox.close()
    return rows


def all_rows(store: Store) -> tuple[list[RawRow], list[RawRow]]:
    """Requests and attempts, without what depends on the database."""
    tables = store.tables()
    requests = tables.requests_after("", 10_000)
    attempts = tables.attempts_between("", "~")
    tables.close()
    for row in (*requests, *attempts):
        row["seq"] = row["seq"] is not None
        row["lane"] = row["accounts"] = None
    return requests, attempts


async def write_everything(book: Book) -> None:
    """One of each: keys, budgets, history, files applied, ends of all kinds, and what is open."""
    book.time.now = NOON - 2 * DAY
    await serve(book)
    book.time.now = NOON
    with book.store.records("create") as records:
        records.create_key("acme", "red", ("chat",), NOON, pass_through=True)
        _, key = records.create_key("globex", "", (), NOON)
        records.revoke_key(key.id, NOON + 1)
        records.apply_file("/etc/a.yaml", [Budget("f", "team", "red", 5, "week")], NOON)
        records.edit_budget("f", lambda _: Budget("f", "team", "red", 6, "week"), NOON)
    book.budget("each", subject="*", limit_nano=10**12)
    for cost in (CENT, 3 * CENT, 0):
        await serve(book, cost)
    refused = EndRequest(book.reservation().request, RequestEnd("refused", "x", 429, NOON, "b"))
    await book.ledger.end_request(refused.start, refused.end)
    released = book.reservation(CENT)
    await book.ledger.reserve(released)
    await book.ledger.finish(book.end(released, None))
    gone = book.store.writer("gone", LEASE, book.time.now_ns)
    expired = book.reservation(5 * CENT)
    gone.commit([expired])
    book.time.now += 60 * SECOND
    await book.ledger.sweep()
    gone.close()
    batch = book.reservation(7 * CENT)
    await book.ledger.reserve(batch)
    start = batch.request
    kept = Kept(start.request_id, "batch", "acme", "", "d1", "batch_1", NOON, '{"lines": 3}')
    later = Later(book.time.now + DAY, CENT)
    await book.ledger.end_request(
        start, RequestEnd("ok", "", 200, book.time.now), kept=kept, later=later
    )


async def test_everything_comes_along(source: Book, target: Store) -> None:
    """Rows, keys, budgets, history, what providers keep, balances, open holds and the shipper's place."""
    await write_everything(source)
    ship(source.store)
    await serve(source, 4 * CENT)
    held = source.reservation(9 * CENT)
    await source.ledger.reserve(held)
    await source.ledger.close()
    source.time.now += 60 * SECOND

    found = copied(source, target)

    assert found.problems == []
    with source.store.reports() as reports:
        original = reports.verify()
    for name in ("requests", "attempts", "balances", "spent_nano", "held_nano", "open_attempts"):
        assert getattr(found, name) == getattr(original, name), name
    assert all_rows(target) == all_rows(source.store)
    with source.store.records("read") as before, target.records("read") as after:
        assert after.keys() == before.keys()
        assert after.budgets() == before.budgets()
        assert after.history() == before.history()
        assert after.differences() == before.differences()
        page = {"after": "", "rising": True, "limit": 10}
        assert after.list_kept(("acme", ""), "batch", **page) == before.list_kept(  # type: ignore[arg-type]  # test shorthand
            ("acme", ""),
            "batch",
            **page,  # type: ignore[arg-type]  # as above
        )
    rows = waiting(source.store)
    assert len(rows) == 2
    assert [structs_of(row) for row in waiting(target)] == [structs_of(row) for row in rows]
    outboxes = source.store.outbox(), target.outbox()
    assert outboxes[0].ledger_id() == outboxes[1].ledger_id()
    key = ("metric", "attributes")
    assert sorted(outboxes[0].points(), key=str) == sorted(outboxes[1].points(), key=str), key
    for outbox in outboxes:
        outbox.close()


def structs_of(row: EndedRow) -> dict[str, object]:
    """A row without its number."""
    return {name: value for name, value in row._asdict().items() if name not in ("lane", "seq")}


async def test_the_copy_goes_on_where_the_source_stopped(source: Book, target: Store) -> None:
    """A hold that was open is swept in the copy, new requests count on the same balances, and each row
    is shipped once."""
    source.budget(limit_nano=100 * CENT)
    await serve(source, 4 * CENT)
    held = source.reservation(9 * CENT)
    await source.ledger.reserve(held)
    ship(source.store)
    await source.ledger.close()
    source.time.now += 60 * SECOND
    copied(source, target)

    book = Book(target, source.time, open_ledger(target, source.time.clock()))
    await book.ledger.sweep()
    assert book.balance() == (13 * CENT, 0, 2 * CENT)
    source_ids = source._ids
    book._ids = source_ids
    later = await serve(book, 2 * CENT)
    await book.ledger.close()

    assert book.balance() == (15 * CENT, 0, 2 * CENT)
    assert book.problems() == []
    assert {row.request_id for row in waiting(target)} == {held.request.request_id, later}


async def test_gateways_may_run_until_the_last_pass(source: Book, target: Store) -> None:
    """While one is running, what is final is copied; the same command later copies the rest, also
    corrections of what it had copied."""
    gone = source.store.writer("gone", LEASE, source.time.now_ns)
    expired = source.reservation(5 * CENT)
    gone.commit([expired])
    source.time.now += 60 * SECOND
    await source.ledger.sweep()
    for _ in range(7):
        await serve(source)
    ship(source.store)
    with pytest.raises(InUseError, match="stop all gateways"):
        copied(source, target)
    with pytest.raises(LedgerUnavailableError, match="not complete"):
        target.writer("early", LEASE, source.time.now_ns)

    gone.commit([source.end(expired, CENT)])
    gone.close()
    source.budget()
    await serve(source)
    ship(source.store)
    await serve(source)
    await source.ledger.close()
    source.time.now += 60 * SECOND
    found = copied(source, target)

    assert found.problems == []
    assert all_rows(target) == all_rows(source.store)
    assert len(waiting(target)) == 2
    target.writer("on time", LEASE, source.time.now_ns).close()


@pytest.mark.parametrize("after", range(6))
async def test_a_killed_copy_continues(
    source: Book, target: Store, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """Whichever transaction was its last, the next run completes it."""
    source.budget()
    for _ in range(5):
        await serve(source)
    ship(source.store)
    await serve(source)
    await source.ledger.reserve(source.reservation(CENT))
    await source.ledger.close()
    source.time.now += 60 * SECOND
    kill = Killer(after)
    monkeypatch.setattr(copying.Copy, "_write", kill.around(copying.Copy._write))
    monkeypatch.setattr(copying.Copy, "_checked", kill.around(copying.Copy._checked))
    with pytest.raises(Killed):
        copied(source, target)

    assert copied(source, target).problems == []
    assert all_rows(target) == all_rows(source.store)


async def test_an_incomplete_copy_is_no_ledger(
    source: Book, target: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It cannot be reported on, listed, pruned or copied, because it lacks rows."""
    await serve(source)
    ship(source.store)
    await source.ledger.close()
    source.time.now += 60 * SECOND
    monkeypatch.setattr(copying.Copy, "_checked", Killer(0).around(copying.Copy._checked))
    with pytest.raises(Killed):
        copied(source, target)

    uses = (
        target.reports,
        lambda: target.records("read"),
        lambda: target.prune(NOON - 60 * DAY, NOON),
    )
    for use in uses:
        with pytest.raises(LedgerUnavailableError, match="copy that is not complete"):
            use()
    with pytest.raises(UsageError, match="the source is a copy that is not complete"):
        copied(Book(target, source.time, source.ledger), new_store("sqlite", tmp_path / "third"))


class Killed(BaseException):
    """The process ends."""


class Killer:
    """Ends the process at the start of some later call."""

    def __init__(self, after: int) -> None:
        self._left = after

    def around(self, work: object) -> object:
        """A function that counts its calls."""

        def run(*arguments: object) -> object:
            self._left -= 1
            if self._left == -1:
                raise Killed
            return work(*arguments)  # type: ignore[operator]  # a method

        return run


async def test_only_an_empty_target_is_filled(source: Book, target: Store, tmp_path: Path) -> None:
    """Another ledger, a copy of another one, and a whole copy are refused, and stay as they are."""
    await serve(source)
    await source.ledger.close()
    source.time.now += 60 * SECOND
    with target.records("create") as records:
        records.create_key("acme", "", (), NOON)
    with pytest.raises(UsageError, match="holds another ledger"):
        copied(source, target)
    with pytest.raises(UsageError, match="are the same"):
        copied(source, source.store)

    other = new_store("sqlite", tmp_path / "other")
    copied(source, other)
    with pytest.raises(UsageError, match="already is a whole copy"):
        copied(source, other)
    with target.records("read") as records:
        assert len(records.keys()) == 1


async def test_a_nano_dollar_that_differs_fails_the_copy(source: Book, target: Store) -> None:
    """A source that does not add up is not passed on as if it did."""
    source.budget()
    await serve(source)
    await source.ledger.close()
    source.time.now += 60 * SECOND
    raw(source.store, "UPDATE balances SET spent_nano = spent_nano + 1")

    with pytest.raises(SpanledgerError, match="does not add up"):
        copied(source, target)
    with pytest.raises(LedgerUnavailableError, match="not complete"):
        target.outbox()


@pytest.mark.parametrize("shipping", [True, False])
async def test_accounts_opened_from_rows_of_several_writers(
    source: Book, target: Store, shipping: bool
) -> None:
    """An account that counts rows of several writers by their subjects counts the same in the copy."""
    with source.store.records("create") as records:
        records.set_ships(ships=shipping)
    writers = [source.store.writer(f"w{n}", LEASE, source.time.now_ns) for n in range(3)]
    for number in range(9):
        reservation = source.reservation(CENT)
        writers[number % 3].commit([reservation, source.end(reservation, CENT)])
        if number in (3, 6):
            source.budget(f"b{number}")
    source.budget("late", period="week")
    for writer in writers:
        writer.close()
    await source.ledger.close()
    source.time.now += 60 * SECOND

    assert copied(source, target).problems == []
    copy = Book(target, source.time, source.ledger)
    assert [copy.balance(name) for name in ("b3", "b6", "late")] == [(9 * CENT, 0, 0)] * 3


async def test_the_command_copies_and_says_what_is_left(source: Book, target: Store) -> None:
    """Exit code 1 and what to do while a gateway runs; then the sums."""
    source.time.now = time_ns()
    await source.ledger.sweep()
    await serve(source)
    urls = (source.store.url, target.url)

    first = CliRunner().invoke(app, ["ledger", "copy", *urls])
    await source.ledger.close()
    second = CliRunner().invoke(app, ["ledger", "copy", *urls, "--json"])

    assert (first.exit_code, "stop all gateways" in first.stderr) == (1, True)
    assert second.exit_code == 0, second.stderr
    assert json.loads(second.stdout)["spent_usd"] == "0.01"
    assert json.loads(second.stdout)["requests"] == 1


LANES = st.dictionaries(st.integers(0, 4), st.integers(0, 6), max_size=4)


@given(steps=st.lists(LANES, min_size=1, max_size=4))
def test_numbers_keep_the_order(steps: list[dict[int, int]]) -> None:
    """Each row has a number of its own; it rises within a lane, and what is before a cut comes before
    what is not."""
    cuts, last = [], dict[int, int]()
    for step in steps:
        last = {lane: last.get(lane, 0) + step.get(lane, 0) for lane in {*last, *step}}
        cuts.append(Position(last))
    numbering = Numbering(*cuts)
    rows = [(lane, seq) for lane, end in last.items() for seq in range(1, end + 1)]
    numbers = {row: numbering.of(*row) for row in rows}

    assert len(set(numbers.values())) == len(rows)
    assert all(0 < number <= numbering.end for number in numbers.values())
    for lane, end in last.items():
        of_lane = [numbers[lane, seq] for seq in range(1, end + 1)]
        assert of_lane == sorted(of_lane)
    for place, cut in enumerate(cuts):
        for (lane, seq), number in numbers.items():
            assert (seq <= cut.of(lane)) == (number <= numbering.behind(place))
    if set(last) == {0}:
        assert all(number == seq for (_, seq), number in numbers.items())
