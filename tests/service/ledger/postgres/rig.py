"""Writers of one ledger in Postgres, and what they are asked to write."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from spanledger.budgets.model import HoldSizes
from spanledger.ledger.model import AttemptEnd, RequestEnd, RequestStart, Reservation
from spanledger.ledger.ports import Store
from spanledger.ledger.postgres.connection import ServerAddress
from spanledger.ledger.postgres.store import PostgresStore
from spanledger.ledger.postgres.writer import PostgresWriter
from tests.service.ledger.stores import raw

LEASE_NS = 30 * 10**9
_numbers = itertools.count(1)


def through(store: Store, port: int) -> PostgresStore:
    """The same ledger behind another port."""
    return PostgresStore(url_through(store, port))


def url_through(store: Store, port: int) -> str:
    """Its URL there."""
    return f"postgresql://127.0.0.1:{port}{urlsplit(store.url).path}"


def port_of(store: Store) -> int:
    """The port of a ledger's server."""
    port = urlsplit(store.url).port
    assert port is not None
    return port


@contextmanager
def writing(store: Store, owner: str = "me") -> Iterator[PostgresWriter]:
    """A writer that is closed with the block."""
    assert isinstance(store, PostgresStore)
    store.migrate()
    writer = PostgresWriter(ServerAddress(store.url), owner, LEASE_NS, time.time_ns)
    try:
        yield writer
    finally:
        writer.close()


def set_budget(store: Store, limit_nano: int, subject: str = "acme", name: str = "b") -> None:
    """Set a customer's budget for a month, whose period's spend so far is zero."""
    store.migrate()
    raw(store, "DELETE FROM budgets WHERE name = ?", name)
    raw(
        store,
        "INSERT INTO budgets VALUES (?, 'customer', ?, ?, 'month', 'UTC', 'block', '[]', 0)",
        *(name, subject, limit_nano),
    )
    raw(store, "UPDATE state SET value = value + 1 WHERE key = 'budgets_version'")


def reservation(hold: int = 10, customer: str = "acme", model: str = "m") -> Reservation:
    """An attempt of a new request."""
    now = time.time_ns()
    start = RequestStart(
        request_id=f"req_{now // 10**6:012x}{next(_numbers):012x}",
        trace_id="0" * 32,
        span_id="0" * 16,
        parent_span_id="",
        started_ns=now,
        customer=customer,
        team="",
        key_id="",
        route="chat",
        operation="chat",
        stream=False,
    )
    return Reservation(
        request=start,
        number=1,
        span_id="1" * 16,
        now_ns=now,
        deployment="d",
        provider="openai",
        model=model,
        sizes=HoldSizes(hold, hold, hold),
        priced=True,
        price_id="p",
    )


def end(reservation: Reservation, cost: int | None = 7, detail: str = "{}") -> AttemptEnd:
    """The end of an attempt and of its request."""
    now = time.time_ns()
    return AttemptEnd(
        attempt_id=reservation.attempt_id,
        ended_ns=now,
        cost_nano=cost,
        detail=detail,
        request=RequestEnd("ok", "", 200, now),
    )


def states(store: Store) -> dict[str, int]:
    """How many attempts are in each state."""
    return dict(raw(store, "SELECT state, count(*) FROM attempts GROUP BY state"))


def balance(store: Store) -> tuple[int, int]:
    """What all accounts have spent and what they hold."""
    [row] = raw(
        store,
        "SELECT coalesce(sum(spent_nano), 0)::bigint, coalesce(sum(held_nano), 0)::bigint"
        " FROM balances",
    )
    spent, held = row
    return spent, held
