"""A real ledger file and helpers to use it."""

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
from tests.support.ledgers import store_at

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
    """A ledger file and an open ledger on it."""

    def __init__(self, path: Path, time: Time, ledger: GroupLedger) -> None:
        self.path = path
        self.store = store_at(path)
        self.time = time
        self.ledger = ledger
        self._ids = itertools.count(1)

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


@pytest.fixture
async def book(tmp_path: Path) -> AsyncIterator[Book]:
    """A ledger in a new file; after the test it must still add up."""
    time = Time()
    path = tmp_path / "ledger.db"
    ledger = open_ledger(store_at(path), time.clock())
    book = Book(path, time, ledger)
    yield book
    await ledger.close()
    assert book.problems() == []
