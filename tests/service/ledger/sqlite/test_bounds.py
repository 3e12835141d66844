"""The database cost of a request and a scrape: the same with many rows as with few."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from spanledger.ledger.keys import key_digest
from spanledger.ledger.model import EndRequest, RequestEnd, Sweep
from spanledger.ledger.reports import COUNTED_ROWS
from tests.service.ledger.conftest import NOON, Book, Time
from tests.support.ledgers import sqlite_at, store_at

CENT = 10**7
FEW, MANY = 3 * COUNTED_ROWS, 12 * COUNTED_ROWS
DAY_S = 86_400
READY = {"reserve", "finish", "repeat", "refuse", "sweep", "key", "budgets", "health", "ship"}


class Steps:
    """Counts the instructions of SQLite's virtual machine on a connection: steadier than any clock."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def of(self, work: Callable[[], object]) -> int:
        """The number of instructions of some work."""
        steps = 0

        def count() -> int:
            nonlocal steps
            steps += 1
            return 0

        self._connection.set_progress_handler(count, 1)
        work()
        self._connection.set_progress_handler(None, 1)
        return steps


def fill(path: Path, rows: int, *, shipped: bool) -> None:
    """Ended requests of this month and before, and balances of past periods."""
    file = sqlite3.connect(path)
    ids = [
        (f"old_{number}", NOON - (rows + 1 - number) * 10**9, number)
        for number in range(1, rows + 1)
    ]
    file.executemany(
        "INSERT INTO requests (request_id, trace_id, span_id, parent_span_id, owner, started_ns,"
        " ended_ns, customer, team, key_id, route, operation, stream, outcome, seq)"
        " VALUES (?1, '', '', '', 'gone', ?2, ?2, 'acme', '', '', 'r', 'chat', 0, 'ok', 2 * ?3)",
        ids,
    )
    file.executemany(
        "INSERT INTO attempts (request_id, number, span_id, owner, state, started_ns, ended_ns,"
        " customer, team, key_id, deployment, provider, model, hold_nano, price_id, decision,"
        " accounts, seq) VALUES (?1, 1, '', 'gone', 'settled', ?2, ?2, 'acme', '', '', 'd',"
        " 'openai', 'gpt-4o', 1, 'p', '', '[]', 2 * ?3 - 1)",
        ids,
    )
    file.executemany(
        "INSERT INTO balances (budget, scope, period, timezone, period_start_s, subject,"
        " period_end_s) VALUES ('each', 'customer', 'day', 'UTC', ?1, ?2, ?1 + 86400)",
        [(NOON // 10**9 - DAY_S // 2 - number * DAY_S, "acme") for number in range(1, rows)],
    )
    file.execute("UPDATE state SET value = ? WHERE key = 'seq'", (2 * rows,))
    if shipped:
        file.execute("UPDATE ship_cursor SET seq = ?", (2 * rows - 4,))
    file.commit()
    file.close()


def measured(path: Path, rows: int, *, shipped: bool) -> dict[str, int]:
    """Instructions of each operation of requests, scrapes and the shipper."""
    records = store_at(path).records("create")
    secret, _ = records.create_key("acme", "", (), NOON)
    records.close()
    fill(path, rows, shipped=shipped)
    time = Time()
    book = Book(store_at(path), time, None)  # type: ignore[arg-type]  # for its records of attempts alone
    book.budget("all", scope="global", subject="*", limit_nano=10**12)
    book.budget("each", subject="*", period="day")
    store = sqlite_at(path).writer("owner", 30 * 10**9, time.now_ns)
    store.commit([Sweep(NOON, 10**18)])
    steps = Steps(store._connection)
    first, second = book.reservation(CENT), book.reservation(CENT)
    refused = EndRequest(book.reservation().request, RequestEnd("refused", "x", 429, NOON, "b"))
    found = {
        "reserve": steps.of(lambda: store.commit([first])),
        "finish": steps.of(lambda: store.commit([book.end(first, CENT)])),
        "repeat": steps.of(lambda: store.commit([book.end(first, CENT)])),
        "refuse": steps.of(lambda: store.commit([refused])),
    }
    store.commit([second])
    found["sweep"] = steps.of(lambda: store.commit([Sweep(NOON, 10**18)]))
    store.close()

    keys = sqlite_at(path).records("read")
    found["key"] = Steps(keys._connection).of(
        lambda: (keys.find_key(key_digest(secret)), keys.find_key("unknown"), keys.has_keys())
    )
    keys.close()
    reports = sqlite_at(path).reports()
    found["budgets"] = Steps(reports._connection).of(lambda: reports.budget_states(NOON // 10**9))
    found["health"] = Steps(reports._connection).of(reports.health)
    reports.close()
    outbox = sqlite_at(path).outbox()
    found["ship"] = Steps(outbox._connection).of(
        lambda: (outbox.changed(), outbox.read_after(outbox.cursor(), 50))
    )
    outbox.close()
    return found


@pytest.mark.parametrize("shipped", [False, True], ids=["nothing shipped", "shipped"])
def test_nothing_that_happens_often_grows_with_the_rows(tmp_path: Path, shipped: bool) -> None:
    """A request, a sweep, a scrape and a shipper's read take the same instructions with four
    times the rows, backlog and old periods."""
    few = measured(tmp_path / "few.db", FEW, shipped=shipped)
    many = measured(tmp_path / "many.db", MANY, shipped=shipped)

    assert few.keys() == READY
    assert many == few


def test_a_long_outbox_is_not_counted_to_its_end(tmp_path: Path) -> None:
    """Up to a limit, waiting rows are counted; above it, sequence numbers give the count."""
    for rows in (COUNTED_ROWS // 2, FEW):
        path = tmp_path / f"{rows}.db"
        store_at(path).records("create").close()
        fill(path, rows, shipped=False)
        reports = store_at(path).reports()
        health = reports.health()
        reports.close()

        assert health["outbox_rows"] == 2 * rows
        assert health["oldest_outbox_ns"] == NOON - rows * 10**9
