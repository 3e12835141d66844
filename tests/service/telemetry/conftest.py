"""A real ledger file with rows in it, a sink over loopback, and a shipper between them."""

from __future__ import annotations

import itertools
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from spanledger.budgets.model import Budget, HoldSizes
from spanledger.config import TelemetrySettings
from spanledger.ledger.model import (
    AttemptEnd,
    EndRequest,
    RequestEnd,
    RequestStart,
    Reservation,
    Sweep,
)
from spanledger.telemetry.pipeline import Pace
from spanledger.telemetry.shipper import run_shipper
from tests.support.ledgers import store_at
from tests.support.otlp_sink import OtlpSink

SECOND = 1_000_000_000
HOLD = 10_000_000
FAST = Pace(
    idle_s=0.01, backoff_s=0.02, max_backoff_s=0.05, metric_interval_s=0.05, full_interval_s=0.2
)


class Book:
    """A ledger file and helpers to write history into it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.store = store_at(path).writer("test", 3600 * SECOND, time.time_ns)
        self._ids = itertools.count(1)

    @property
    def url(self) -> str:
        """The ledger's URL."""
        return f"sqlite:///{self.path}"

    def start(self, **changes: Any) -> RequestStart:
        """A new request, two seconds ago."""
        unique = next(self._ids)
        start = RequestStart(
            request_id=f"req_{unique:08x}",
            trace_id=f"{unique:032x}",
            span_id=f"{unique:016x}",
            parent_span_id="",
            started_ns=time.time_ns() - 2 * SECOND,
            customer="acme",
            team="blue",
            key_id="key_1",
            route="smart",
            operation="chat",
            stream=False,
            user="ada",
            project="apollo",
            tags=("batch", "night"),
        )
        return structs.replace(start, **changes)

    def reserve(self, start: RequestStart, number: int = 1, **changes: Any) -> Reservation:
        """Hold money for an attempt of a request."""
        reservation = Reservation(
            request=start,
            number=number,
            span_id=f"{number}{start.span_id[1:]}",
            now_ns=start.started_ns,
            deployment="main",
            provider="openai",
            model="gpt-4o",
            sizes=HoldSizes(HOLD, HOLD, HOLD),
            priced=True,
            price_id="2026-11-01/gpt-4o",
        )
        reservation = structs.replace(reservation, **changes)
        self.store.commit([reservation])
        return reservation

    def finish(
        self,
        reservation: Reservation,
        cost: int | None = 1_234_567,
        *,
        request: RequestEnd | None = None,
        last: bool = True,
        **changes: Any,
    ) -> None:
        """End an attempt, and its request unless overridden."""
        ended_ns = reservation.now_ns + SECOND
        end = RequestEnd("ok", "", 200, ended_ns) if request is None and last else request
        attempt = AttemptEnd(
            attempt_id=reservation.attempt_id,
            ended_ns=ended_ns,
            cost_nano=cost,
            http_status=200,
            input_tokens=200,
            output_tokens=100,
            response_model="gpt-4o-2024",
            request=end,
        )
        self.store.commit([structs.replace(attempt, **changes)])

    def call(self, cost: int | None = 1_234_567, **changes: Any) -> RequestStart:
        """A complete request with one successful attempt."""
        start = self.start(**changes)
        self.finish(self.reserve(start), cost)
        return start

    def budget(self, name: str, limit_nano: int, **changes: Any) -> None:
        """Set a daily budget for customer acme."""
        records = store_at(self.path).records("create")
        budget = Budget(name, "customer", "acme", limit_nano, "day")
        records.set_budgets([replace(budget, **changes)], time.time_ns())
        records.close()

    def refuse(self, scope: str = "customer") -> RequestStart:
        """A request a budget refused before its first attempt."""
        start = self.start()
        end = RequestEnd("refused", "budget_exceeded", 429, start.started_ns + 5, "b", scope)
        self.store.commit([EndRequest(start, end)])
        return start

    def sweep(self) -> None:
        """Expire every hold, as after a gateway has died."""
        self.store.commit([Sweep(time.time_ns(), max_hold_ns=0)])

    def ask(self, sql: str) -> Any:
        """One value from the file."""
        connection = sqlite3.connect(self.path)
        try:
            return connection.execute(sql).fetchone()[0]
        finally:
            connection.close()

    @property
    def cursor(self) -> int:
        """The shipper's cursor."""
        return int(self.ask("SELECT seq FROM ship_cursor"))

    @property
    def last_seq(self) -> int:
        """The ledger's last sequence number."""
        return int(self.ask("SELECT value FROM state WHERE key = 'seq'"))

    @property
    def cost_nano(self) -> int:
        """The total spend in the ledger."""
        return int(
            self.ask("SELECT coalesce(sum(cost_nano), 0) FROM attempts WHERE state != 'held'")
        )

    @property
    def counted_nano(self) -> int:
        """A total from the durable aggregates."""
        return int(
            self.ask(
                "SELECT coalesce(sum(json_extract(point, '$.total')), 0) FROM ship_points"
                " WHERE metric = 'spanledger.cost.usd'"
            )
        )


class Running:
    """A shipper in a thread."""

    def __init__(self, book: Book, settings: TelemetrySettings, pace: Pace) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=run_shipper,
            args=(store_at(book.path), settings, self._stop),
            kwargs={"pace": pace},
        )
        self._thread.start()

    def stop(self) -> None:
        """Stop it, and wait until it has stopped."""
        self._stop.set()
        self._thread.join()


Ship = Callable[..., bool]


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the machine's environment from changing what is sent; make exporters give up at once."""
    for name in (
        *("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES"),
        "OTEL_SEMCONV_STABILITY_OPT_IN",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.5")


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Book]:
    """An empty ledger."""
    book = Book(tmp_path / "ledger.db")
    yield book
    book.store.close()


@pytest.fixture
def sink() -> Iterator[OtlpSink]:
    """A healthy collector."""
    with OtlpSink() as sink:
        yield sink


@pytest.fixture
def settings(sink: OtlpSink) -> TelemetrySettings:
    """Telemetry to the sink."""
    return TelemetrySettings(endpoint=sink.endpoint)


@pytest.fixture
def ship(book: Book, settings: TelemetrySettings) -> Ship:
    """Ship everything once; returns whether the collector accepted it."""

    def run(**changes: Any) -> bool:
        chosen = settings.model_copy(update=changes)
        return run_shipper(store_at(book.path), chosen, threading.Event(), once=True, pace=FAST)

    return run


@pytest.fixture
def running(book: Book, settings: TelemetrySettings) -> Iterator[Running]:
    """A running shipper."""
    running = Running(book, settings, FAST)
    yield running
    running.stop()


def until(condition: Callable[[], object], timeout_s: float = 60.0) -> None:
    """Wait for a condition, with a deadline."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition was not met in time"
        time.sleep(0.01)
