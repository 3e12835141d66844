"""Every question has the same answer on both databases, directly and through a pooler."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spanledger.demo.figures import Figures
from spanledger.ledger import open_ledger
from spanledger.ledger.copying import copy_ledger
from spanledger.ledger.keys import FoundKey, key_digest
from spanledger.ledger.ports import Store
from spanledger.ledger.reports import Reports
from spanledger.ledger.rows import SPEND_BY
from spanledger.top.figures import Window
from tests.service.ledger.conftest import NOON, Book, Time
from tests.service.ledger.postgres.rig import port_of, through
from tests.service.ledger.stores import new_store
from tests.service.ledger.test_copying import write_everything
from tests.support.pgbouncer import pgbouncer

HOUR = 3_600 * 10**9
DAY = 24 * HOUR
ZONES = ("UTC", "America/New_York", "Pacific/Kiritimati")

QUESTIONS: dict[str, Callable[[Reports], Any]] = {
    "spend by two": lambda r: r.spend(("day", "customer"), NOON - 3 * DAY, NOON + DAY),
    "spend": lambda r: r.spend(()),
    "totals": lambda r: r.totals(NOON - HOUR),
    "open rows": lambda r: r.open_rows(),
    "customers": lambda r: r.by_customer(0),
    "events": lambda r: r.events(10),
    "requests ended": lambda r: sorted(r.ended_requests()),
    "attempts ended": lambda r: sorted(r.ended_attempts()),
    "budgets": lambda r: r.budget_states(NOON // 10**9),
    "health": lambda r: r.health(),
    "pruned": lambda r: r.pruned_ns(),
    "verify": lambda r: r.verify(),
    "refused": lambda r: [row["request_id"] for row in r.requests(outcome="refused")],
    "running": lambda r: [row["request_id"] for row in r.requests(outcome="running")],
    "of one": lambda r: len(r.requests(customer="acme", since_ns=NOON)),
    "traced": lambda r: [
        (request["trace_id"], [attempt["cost_nano"] for attempt in attempts])
        for request, attempts in r.trace("00000000000000000000000000000003")
    ],
    "top": lambda r: Window(r).look(NOON + HOUR, 7_200),
    "demo": lambda r: (
        Figures(r).totals(),
        sorted(Figures(r).fallbacks()),
        sorted(Figures(r).refusals()),
        Figures(r).open_rows(),
        Figures(r).latencies(),
    ),
}


def answers(store: Store) -> dict[str, Any]:
    """What a ledger says."""
    with store.reports() as reports:
        spend = {
            f"spend by {name} in {zone}": reports.spend((name,), 0, None, zone)
            for name in SPEND_BY
            for zone in ZONES
        }
        return spend | {name: ask(reports) for name, ask in QUESTIONS.items()}


async def written(store: Store) -> Book:
    """A ledger with one of each, whose gateway has ended."""
    time = Time()
    book = Book(store, time, open_ledger(store, time.clock()))
    await book.ledger.sweep()
    await write_everything(book)
    await book.ledger.close()
    time.now += 60 * 10**9
    return book


@pytest.mark.parametrize("pooled", [False, True], ids=["directly", "pooled"])
async def test_reports_answer_alike(store: Store, tmp_path: Path, pooled: bool) -> None:
    """Spend in every grouping and zone, requests, traces, figures of `top` and the demo, budgets."""
    book = await written(new_store("sqlite", tmp_path))
    copy_ledger(book.store, store, lambda _done, _total: None, book.time.now_ns)
    expected = answers(book.store)
    assert expected["spend by day in UTC"] != expected["spend by day in Pacific/Kiritimati"]
    assert expected["traced"]

    if pooled:
        with pgbouncer(port_of(store)) as port:
            actual = answers(through(store, port))
    else:
        actual = answers(store)

    for name, answer in expected.items():
        assert actual[name] == answer, name


async def test_budgets_keys_and_outbox_through_a_pooler(store: Store) -> None:
    """What gateways and commands ask besides reports works behind one, too."""
    book = await written(store)
    with pgbouncer(port_of(store)) as port:
        pooled = through(store, port)
        with pooled.records("change") as records:
            secret, key = records.create_key("acme", "", (), NOON)
            assert records.find_key(key_digest(secret)) == FoundKey(key)
            records.edit_budget("f", lambda budget: budget, NOON)  # type: ignore[arg-type,return-value]  # it is there
        outbox = pooled.outbox()
        assert outbox.read_after(outbox.cursor(), 100)
        assert outbox.changed()
        assert not outbox.changed()
        outbox.close()
    assert book.problems() == []
