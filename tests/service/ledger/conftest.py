"""A real ledger of each kind, and helpers to use it."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from spanledger.budgets.model import Budget, HoldSizes
from spanledger.clock import Clock
from spanledger.ledger import open_ledger
from spanledger.ledger.group import GroupLedger
from spanledger.ledger.model import AttemptEnd, RequestEnd, RequestStart, Reservation
from spanledger.ledger.ports import Store
from spanledger.ledger.sqlite.store import SqliteStore
from tests.service.ledger.stores import KINDS, new_store

NOON = 1_795_435_200 * 1_000_000_000
"""2026-11-23 12:00 UTC, a Monday, in nanoseconds."""


class Time:
    """A wall clock that moves only when set."""

    def __init__(self) -> None:
        self.now = NOON

    def now_ns(self) -> int:
        """The time, Unix nanoseconds."""
        return self.now

    def clock(self) -> Clock:
        """A monotonic clock that stands still: a ledger sweeps only on request, however slow the machine."""
        return Clock(now_ns=self.now_ns, monotonic=lambda: 0.0)


class Book:
    """A ledger of some kind, opened for the request path."""

    def __init__(self, store: Store, time: Time, ledger: GroupLedger) -> None:
        self.store = store
        self.time = time
        self.ledger = ledger
        self._ids = itertools.count(1)

    @property
    def path(self) -> Path:
        """The ledger's file, for tests of SQLite alone."""
        assert isinstance(self.store, SqliteStore)
        return self.store.path

    def budget(self, name: str = "b", **changes: object) -> Budget:
        """Set a budget: a dollar a month for customer acme, unless overridden."""
        settings: dict[str, object] = {
            "scope": "customer",
            "subject": "acme",
            "limit_nano": 10**9,
            "period": "month",
        }
        budget = Budget(name=name, **(settings | changes))  # type: ignore[arg-type]  # test shorthand
        with self.store.records("create") as records:
            records.set_budgets([budget], self.time.now)
        return budget

    def reservation(
        self,
        hold: int | HoldSizes = 10**8,
        *,
        number: int = 1,
        request: RequestStart | None = None,
        customer: str = "acme",
        team: str = "",
        key_id: str = "",
        model: str = "gpt-4o",
        priced: bool = True,
        unbounded: str = "",
    ) -> Reservation:
        """An attempt of a new request, or a further attempt of `request`."""
        unique = next(self._ids)
        start = request or RequestStart(
            request_id=f"req_{unique:024x}",
            trace_id=f"{unique:032x}",
            span_id=f"{unique:016x}",
            parent_span_id="",
            started_ns=self.time.now,
            customer=customer,
            team=team,
            key_id=key_id,
            route="chat",
            operation="chat",
            stream=False,
        )
        return Reservation(
            request=start,
            number=number,
            span_id=f"{unique + 2**60:016x}",
            now_ns=self.time.now,
            deployment="d1",
            provider="openai",
            model=model,
            sizes=hold if isinstance(hold, HoldSizes) else HoldSizes(hold, hold, hold),
            priced=priced,
            price_id="p",
            unbounded=unbounded,
        )

    def end(self, reservation: Reservation, cost: int | None, last: bool = True) -> AttemptEnd:
        """The end of an attempt, and of its request unless overridden."""
        return AttemptEnd(
            attempt_id=reservation.attempt_id,
            ended_ns=self.time.now,
            cost_nano=cost,
            request=RequestEnd("ok", "", 200, self.time.now) if last else None,
        )

    def balance(self, name: str = "b") -> tuple[int, int, int]:
        """Spent, held and overrun of a budget's account now, nano-USD."""
        return next(iter(self.accounts(name).values()))

    def accounts(self, name: str) -> dict[str, tuple[int, int, int]]:
        """The same for all its accounts, by subject."""
        with self.store.reports() as reports:
            states = reports.budget_states(self.time.now // 10**9)
        return {
            state.subject: (state.spent_nano, state.held_nano, state.overrun_nano)
            for state in states
            if state.budget.name == name
        }

    def problems(self) -> list[str]:
        """What `ledger verify` finds."""
        with self.store.reports() as reports:
            return reports.verify().problems


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """A ledger of each kind that does not exist yet."""
    return new_store(request.param, tmp_path)


@pytest.fixture
async def book(store: Store) -> AsyncIterator[Book]:
    """A new ledger; after the test it must still add up."""
    time = Time()
    ledger = open_ledger(store, time.clock())
    await ledger.sweep()  # behind its own first one, which must not see a later time's holds
    book = Book(store, time, ledger)
    yield book
    await ledger.close()
    assert book.problems() == []
