"""Ten thousand customers, fifty models and three providers in a real ledger, and their metrics.

For tests that count series and for the benchmark that weighs them.
"""

from __future__ import annotations

import itertools
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from spanledger.budgets.model import Budget, HoldSizes
from spanledger.config import TelemetrySettings
from spanledger.errors import PROVIDER_ERROR_KINDS
from spanledger.ledger.model import AttemptEnd, RequestEnd, RequestStart, Reservation
from spanledger.telemetry.shipper import run_shipper
from tests.support.ledgers import store_at

CUSTOMERS, MODELS = 10_000, 50
PROVIDERS = ("openai", "anthropic", "gcp.gemini")
DEPLOYMENTS = [(f"m{n:02d}", provider) for n in range(MODELS) for provider in PROVIDERS]
NAMED = TelemetrySettings().max_customers
THOROUGH = NAMED + 10
"""Customers that use every model of every provider. The rest are `other` and use one."""
SECOND = 1_000_000_000
BATCH = 1_000
SMALLEST_NANO = 1_000
HOLD_NANO = 10_000_000
LIMIT_NANO = 2 * BATCH * HOLD_NANO

Call = tuple[str, str, str, str]
"""Customer, model, provider, and how the attempt ended."""


def calls() -> Iterator[Call]:
    """Which customer uses what. Every deployment also fails in every possible way, to exceed the caps."""
    for number in range(CUSTOMERS):
        one = DEPLOYMENTS[number % len(DEPLOYMENTS)]
        for model, provider in DEPLOYMENTS if number < THOROUGH else [one]:
            yield f"customer-{number:05d}", model, provider, ""
    for (model, provider), kind in itertools.product(DEPLOYMENTS, PROVIDER_ERROR_KINDS):
        yield "customer-00000", model, provider, kind


class Crowd:
    """A ledger file with all of them, each with a budget."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.url = f"sqlite:///{path}"
        self.calls = list(calls())
        store = store_at(path).writer("crowd", 3600 * SECOND, time.time_ns)
        self.limit(LIMIT_NANO)
        for first in range(0, len(self.calls), BATCH):
            batch = list(enumerate(self.calls))[first : first + BATCH]
            held = [_held(number, call) for number, call in batch]
            store.commit(held)
            store.commit([_ended(h, n, call[3]) for h, (n, call) in zip(held, batch, strict=True)])
        store.close()

    def limit(self, limit_nano: int) -> None:
        """Set each customer's budget."""
        records = store_at(self.path).records("create")
        each = Budget("each", "customer", "*", limit_nano, "month")
        records.set_budgets([each], time.time_ns())
        records.close()

    @property
    def cost_nano(self) -> int:
        """The ledger's total spend."""
        connection = sqlite3.connect(self.path)
        try:
            return int(connection.execute("SELECT sum(cost_nano) FROM attempts").fetchone()[0])
        finally:
            connection.close()

    def ship(self, prometheus: str) -> bool:
        """Send its metrics to a Prometheus, as the shipper does; returns whether they were accepted."""
        settings = TelemetrySettings(endpoint=f"{prometheus}/api/v1/otlp")
        environ = {"OTEL_TRACES_EXPORTER": "none"}
        return run_shipper(
            store_at(self.path), settings, threading.Event(), once=True, environ=environ
        )


def _held(number: int, call: Call) -> Reservation:
    """An attempt of a streamed request, two seconds ago."""
    customer, model, provider, _ = call
    now_ns = time.time_ns() - 2 * SECOND
    start = RequestStart(
        request_id=f"req_{number:08x}",
        trace_id=f"{number + 1:032x}",
        span_id=f"{number + 1:016x}",
        parent_span_id="",
        started_ns=now_ns,
        customer=customer,
        team="",
        key_id="key_1",
        route=model,
        operation="chat",
        stream=True,
    )
    return Reservation(
        request=start,
        number=1,
        span_id=f"1{start.span_id[1:]}",
        now_ns=now_ns,
        deployment=f"{provider}-{model}",
        provider=provider,
        model=model,
        sizes=HoldSizes(HOLD_NANO, HOLD_NANO, HOLD_NANO),
        priced=True,
        price_id="2026-11-01/any",
    )


def _ended(held: Reservation, number: int, kind: str) -> AttemptEnd:
    """The attempt's end, with a different cost each time."""
    ended_ns = held.now_ns + SECOND
    if kind:
        end = RequestEnd("error", kind, 502, ended_ns)
        return AttemptEnd(held.attempt_id, ended_ns, None, error_type=kind, request=end)
    return AttemptEnd(
        attempt_id=held.attempt_id,
        ended_ns=ended_ns,
        cost_nano=SMALLEST_NANO + number,
        http_status=200,
        input_tokens=200,
        output_tokens=100,
        first_chunk_ns=held.now_ns + SECOND // 2,
        chunks=10,
        request=RequestEnd("ok", "", 200, ended_ns),
    )
