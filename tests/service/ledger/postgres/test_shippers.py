"""Two shippers on one ledger: real processes, one of them active."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from spanledger.ledger.model import Sweep
from spanledger.ledger.ports import LedgerWriter, Store
from tests.service.ledger.conftest import Book, Time
from tests.service.ledger.stores import raw
from tests.support.otlp_sink import OtlpSink
from tests.support.processes import START_S, Child

LEASE = 30 * 10**9
CENT = 10**7
DROP_SESSION = """
SELECT pg_terminate_backend(pid) FROM pg_locks
WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"""


class Rows:
    """Writes served requests."""

    def __init__(self, store: Store) -> None:
        self._time = Time()
        self._time.now = time.time_ns()
        self.writers: list[LedgerWriter] = [
            store.writer(f"w{n}", LEASE, self._time.now_ns) for n in range(2)
        ]
        self._book = Book(store, self._time, None)  # type: ignore[arg-type]  # for its records of attempts alone
        for writer in self.writers:
            writer.commit([Sweep(self._time.now, 10**18)])
        self.requests = 0

    def serve(self, number: int) -> None:
        """Each with one attempt, by both writers in turn."""
        for _ in range(number):
            attempt = self._book.reservation(CENT)
            end = self._book.end(attempt, CENT)
            self.writers[self.requests % 2].commit([attempt, end])
            self.requests += 1


@pytest.fixture
def rows(store: Store) -> Iterator[Rows]:
    """A ledger with two writers."""
    rows = Rows(store)
    yield rows
    for writer in rows.writers:
        writer.close()


@pytest.fixture
def sink() -> Iterator[OtlpSink]:
    """A collector."""
    with OtlpSink() as sink:
        yield sink


@pytest.fixture
def start(store: Store, sink: OtlpSink, tmp_path: Path) -> Iterator[Callable[[], Child]]:
    """Starts shippers; those still running at the end are stopped."""
    children: list[Child] = []

    def run() -> Child:
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink.endpoint,
            "OTEL_METRIC_EXPORT_INTERVAL": "200",
        }
        children.append(Child(["ship", "--ledger", store.url], tmp_path, environment))
        return children[-1]

    yield run
    for child in children:
        if child.process.poll() is None:
            child.stop()
        assert "Traceback" not in child.output


def until(condition: Callable[[], object]) -> None:
    """Wait for a condition, with a deadline."""
    deadline = time.monotonic() + START_S
    while not condition():
        assert time.monotonic() < deadline, "the condition was not met in time"
        time.sleep(0.05)


def counted(store: Store) -> int:
    """Requests in the durable aggregates."""
    query = "SELECT point FROM ship_points WHERE metric = 'spanledger.request.duration'"
    return sum(int(json.loads(point).get("count", 0)) for (point,) in raw(store, query))


def test_another_shipper_takes_over_from_a_killed_one(
    store: Store, rows: Rows, sink: OtlpSink, start: Callable[[], Child]
) -> None:
    """The second waits while the first ships; when that is killed, it ships the rest, and every row is
    counted once."""
    first = start()
    rows.serve(20)
    until(lambda: counted(store) == 20)
    second = start()
    second.wait_for("another shipper is running")
    rows.serve(20)
    until(lambda: counted(store) == 40)

    first.process.send_signal(signal.SIGKILL)
    first.process.wait()
    rows.serve(20)

    until(lambda: counted(store) == 60)
    assert second.stop() == 0
    assert len(sink.by_id()) == 2 * rows.requests
    assert counted(store) == rows.requests


def test_a_shipper_that_lost_its_connection_stops(
    store: Store, rows: Rows, sink: OtlpSink, start: Callable[[], Child]
) -> None:
    """Its lock is lost with it: it says so and waits like any other, and the shipper that gets the lock
    ships each row once."""
    first = start()
    rows.serve(10)
    until(lambda: counted(store) == 10)
    second = start()
    second.wait_for("another shipper is running")

    assert raw(store, DROP_SESSION)
    rows.serve(10)
    first.wait_for("the right to ship")

    until(lambda: counted(store) == 20)
    raw(store, DROP_SESSION)
    rows.serve(10)
    until(lambda: counted(store) == 30)
    assert [first.stop(), second.stop()] == [0, 0]
    assert len(sink.by_id()) == 2 * rows.requests
    assert counted(store) == rows.requests
