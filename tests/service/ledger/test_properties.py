"""Random lives of budgets against a model that is too simple to be wrong."""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from spanledger.errors import BudgetExceededError
from spanledger.ledger.records import Records
from spanledger.ledger.reports import Reports
from spanledger.ledger.sqlite import SqliteStore, Sweep
from spanledger.ledger.store import (
    AttemptEnd,
    Budget,
    Hold,
    HoldSizes,
    RequestEnd,
    RequestStart,
    Reservation,
)
from tests.service.ledger.conftest import NOON

LIMIT = 1_000
LEASE_NS = 30 * 10**9
BUDGETS = (
    Budget("each", "customer", "*", LIMIT, "day"),
    Budget("all", "global", "*", LIMIT * 3 // 2, "month"),
)


@dataclass
class Try:
    """A try the model knows: what it held, and what became of it."""

    reservation: Reservation
    owner: int
    hold: int
    state: str = "held"
    cost: int = 0


class LedgerMachine(RuleBasedStateMachine):
    """Two gateways on one file reserve, finish, repeat, die and sleep, in any order."""

    tries = Bundle("tries")

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "ledger.db"
        self.now = NOON
        records = Records.open(self.path)
        records.set_budgets(BUDGETS, self.now)
        records.close()
        self.stores = [
            SqliteStore(self.path, f"owner{n}", LEASE_NS, lambda: self.now) for n in range(2)
        ]
        self.model: list[Try] = []
        self.overrun = 0

    def teardown(self) -> None:
        """Close everything."""
        for store in self.stores:
            store.close()
        self.folder.cleanup()

    @rule(
        target=tries,
        owner=st.integers(0, 1),
        customer=st.sampled_from(["acme", "globex"]),
        full=st.integers(0, LIMIT),
        usual=st.integers(0, LIMIT),
    )
    def reserve(self, owner: int, customer: str, full: int, usual: int) -> int:
        """Ask for a hold; the answer must be the one the model's sums allow."""
        number = len(self.model)
        usual = min(full, usual)
        start = RequestStart(
            f"req_{number}", f"{number:032x}", f"{number:016x}", "", self.now, customer, "", "",
            "chat", "chat", False,
        )  # fmt: skip
        sizes = HoldSizes(full, usual, usual)
        reservation = Reservation(
            start, 1, f"{number:016x}", self.now, "d", "openai", "m", sizes, True, "p"
        )
        room = min(
            LIMIT - self.used(customer, _day),
            LIMIT * 3 // 2 - self.used(None, _month),
        )
        [result] = self.stores[owner].commit([reservation])
        if usual > room:
            assert isinstance(result, BudgetExceededError)
            self.model.append(Try(reservation, owner, 0, "refused"))
        else:
            assert isinstance(result, Hold)
            assert result.hold_nano in (full, usual)
            assert result.hold_nano <= room
            self.model.append(Try(reservation, owner, result.hold_nano))
        return number

    def used(self, customer: str | None, period: Callable[[int], str]) -> int:
        """Spent and held in the current period, from the model alone."""
        return sum(
            t.hold if t.state == "held" else t.cost
            for t in self.model
            if customer in (None, t.reservation.request.customer)
            and period(t.reservation.now_ns) == period(self.now)
        )

    @rule(number=tries, cost=st.none() | st.integers(0, LIMIT))
    def finish(self, number: int, cost: int | None) -> None:
        """End a try, perhaps one that has ended or expired before."""
        attempt = self.model[number]
        if attempt.state == "refused":
            return
        if cost is not None and cost > attempt.hold:
            cost = attempt.hold  # overruns are in a test of their own: they break the limit
        end = AttemptEnd(
            attempt.reservation.attempt_id,
            self.now,
            cost,
            request=RequestEnd("ok", "", 200, self.now),
        )
        self.stores[attempt.owner].commit([end, replace(end, cost_nano=0)])
        if attempt.state in ("held", "expired"):
            attempt.state = "ended"
            attempt.cost = cost or 0

    @rule(number=consumes(tries))
    def forget(self, number: int) -> None:
        """Never finish this one: only the sweep can end it."""

    @rule(seconds=st.sampled_from([1, 20, 40, 86_400]))
    def sleep(self, seconds: int) -> None:
        """Time passes."""
        self.now += seconds * 10**9

    @rule(by=st.integers(0, 1))
    def sweep(self, by: int) -> None:
        """One gateway renews its own lease and expires what the other left."""
        lapsed = self.lease_of(1 - by) < self.now
        self.stores[by].commit([Sweep(self.now, 10**18)])
        if lapsed:
            for attempt in self.model:
                if attempt.owner == 1 - by and attempt.state == "held":
                    attempt.state = "expired"
                    attempt.cost = attempt.hold

    def lease_of(self, owner: int) -> int:
        """What the file says, as the sweep sees it; a gateway itself may know less."""
        with contextlib.closing(sqlite3.connect(self.path)) as file:
            query = "SELECT coalesce(max(lease_ns), 0) FROM owners WHERE id = ?"
            return int(file.execute(query, (f"owner{owner}",)).fetchone()[0])

    @invariant()
    def adds_up(self) -> None:
        """The file verifies, and its sums are the model's."""
        reports = Reports(self.path)
        found = reports.verify()
        reports.close()
        assert found.problems == []
        assert found.spent_nano == sum(t.cost for t in self.model)
        assert found.held_nano == sum(t.hold for t in self.model if t.state == "held")


def _day(now_ns: int) -> str:
    return datetime.fromtimestamp(now_ns // 10**9, UTC).strftime("%Y-%m-%d")


def _month(now_ns: int) -> str:
    return _day(now_ns)[:7]


TestLedgerMachine = LedgerMachine.TestCase
TestLedgerMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
