"""Limits that change over time, on a real ledger of each kind, compared with a model of its own: one
budget of a day, whose figures the model keeps for each day in plain dictionaries."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from spanledger.budgets.limits import When, raised, without_raises
from spanledger.budgets.model import Budget, HoldSizes
from spanledger.errors import BudgetExceededError, BudgetThrottledError
from spanledger.ledger.model import AttemptEnd, Hold, RequestEnd, RequestStart, Reservation, Settled
from tests.service.ledger.stores import KINDS, new_store

EXAMPLES = {"sqlite": 60, "postgres": 15}
STEPS = 40
DAY_S = 86_400
BEGIN_S = 20_780 * DAY_S + 43_200
NANOS = 10**9
AMOUNTS = st.integers(0, 40)
LIMITS = st.sampled_from([0, 30, 60, 100])


class Limits(RuleBasedStateMachine):
    """Two gateways, people who change the budget, and a clock that goes on."""

    kind = KINDS[0]
    held = Bundle("held")

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.store = new_store(self.kind, Path(self.folder.name))
        self.now_ns = BEGIN_S * NANOS
        self.records = self.store.records("create")
        self.budget = Budget("b", "customer", "acme", 100, "day")
        self.records.set_budgets([self.budget], self.now_ns)
        self.gateways = [
            self.store.writer(f"owner{n}", 10**15, lambda: self.now_ns) for n in range(2)
        ]
        self.number = 0
        # the model
        self.spent: dict[int, int] = defaultdict(int)
        self.holding: dict[int, int] = defaultdict(int)
        self.past: dict[int, int] = {}
        self.present = 100
        self.coming: int | None = None
        self.grace = 0
        self.cap: tuple[int, int] | None = None
        self.rolls_since = 0
        self.raises: list[tuple[int, int, int]] = []
        self.pace: tuple[int, int] | None = None
        self.admitted: list[int] = []

    def teardown(self) -> None:
        """The ledger adds up."""
        with self.store.reports() as reports:
            assert reports.verify().problems == []
        for gateway in self.gateways:
            gateway.close()
        self.records.close()
        self.folder.cleanup()

    # the model ----------------------------------------------------------------------------

    @property
    def day(self) -> int:
        return self.now_ns // NANOS // DAY_S

    def limit(self) -> int:
        """What may be spent today, as of now, without grace."""
        rolled = 0
        before = self.day - 1
        if self.cap is not None and self.rolls_since <= before:
            rest = self.past[before] - self.spent[before] - self.holding[before]
            most, percent = self.cap
            rolled = max(0, min(rest, most or self.past[before] * percent // 100))
        now_s = self.now_ns // NANOS
        return self.present + rolled + sum(n for n, a, z in self.raises if a <= now_s < z)

    def room(self) -> int:
        """What may still be held."""
        return self.limit() + self.grace - self.spent[self.day] - self.holding[self.day]

    def throttles(self) -> bool:
        """Whether a request has to wait."""
        if self.pace is None:
            return False
        most, percent = self.pace
        if self.spent[self.day] * 100 < self.limit() * percent:
            return False
        last = [at for at in self.admitted if at > self.now_ns - 60 * NANOS]
        return len(last) >= most

    # what happens -------------------------------------------------------------------------

    @rule(target=held, by=st.integers(0, 1), amounts=st.lists(AMOUNTS, min_size=1, max_size=4))
    def reserve(self, by: int, amounts: list[int]) -> object:
        """A transaction with some attempts: each is admitted exactly if there is room for it."""
        asked = [self._reservation(amount) for amount in amounts]
        results = self.gateways[by].commit(asked)
        made = []
        for reservation, amount, result in zip(asked, amounts, results, strict=True):
            if amount > self.room():
                assert isinstance(result, BudgetExceededError)
                assert not isinstance(result, BudgetThrottledError)
                assert result.refusal.limit_nano == self.limit()
                continue
            if self.throttles():
                assert isinstance(result, BudgetThrottledError)
                continue
            assert isinstance(result, Hold), result
            in_grace = amount > self.room() - self.grace
            assert result.warned == (("b",) if in_grace and self.grace else ())
            if self.pace and self.spent[self.day] * 100 >= self.limit() * self.pace[1]:
                self.admitted.append(self.now_ns)
            self.holding[self.day] += amount
            made.append((reservation.attempt_id, self.day, amount))
        return multiple(*made)

    def _reservation(self, amount: int) -> Reservation:
        self.number += 1
        start = RequestStart(
            f"req_{self.number:024x}", "0" * 32, f"{self.number:016x}", "", self.now_ns, "acme", "",
            "", "chat", "chat", False,
        )  # fmt: skip
        sizes = HoldSizes(amount, amount, amount, capped=True)
        return Reservation(
            *(start, 1, f"{self.number + 2**40:016x}", self.now_ns, "d1", "openai", "m"),
            *(sizes, True, "p"),
        )

    @rule(attempt=consumes(held), by=st.integers(0, 1), share=st.sampled_from([0, 30, 100, None]))
    def finish(self, attempt: tuple[str, int, int], by: int, share: int | None) -> None:
        """An attempt ends, perhaps after its day."""
        unique, day, amount = attempt
        cost = None if share is None else amount * share // 100
        request = RequestEnd("ok", "", 200, self.now_ns)
        [settled] = self.gateways[by].commit(
            [AttemptEnd(unique, self.now_ns, cost, request=request)]
        )
        self.holding[day] -= amount
        self.spent[day] += cost or 0
        assert isinstance(settled, Settled)
        if day == self.day:
            assert settled.remaining_nano == max(0, self.room())

    @initialize(
        cap=st.sampled_from([None, (0, 100), (0, 25), (20, 0)]),
        pace=st.sampled_from([None, (1, 50), (2, 1)]),
    )
    def begin(self, cap: tuple[int, int] | None, pace: tuple[int, int] | None) -> None:
        """Most courses have something from the start, because few steps are about it."""
        if cap is not None:
            self.set_rollover(cap)
        if pace is not None:
            self.set_pace(pace)

    @rule(days=st.sampled_from([1, 1, 1, 3]))
    def next_day(self, days: int) -> None:
        """Another day begins, or more pass without anything."""
        self.wait(days * DAY_S)

    @rule(seconds=st.sampled_from([1, 7, 20, 40, 3_600, 43_200]))
    def wait(self, seconds: int) -> None:
        """Time passes."""
        first = self.day
        self.now_ns += seconds * NANOS
        for day in range(first, self.day):
            self.past[day] = self.present
            if self.coming is not None:
                self.present, self.coming = self.coming, None

    @rule(limit=LIMITS)
    def change_now(self, limit: int) -> None:
        """The limit changes at once."""
        self._set("now", limit_nano=limit)
        self.present, self.coming = limit, None

    @rule(limit=LIMITS)
    def change_later(self, limit: int) -> None:
        """The limit changes with the next day."""
        before = self.present if self.coming is None else self.coming
        self._set("next-period", limit_nano=limit)
        if limit != before:
            self.coming = limit

    @rule(grace=st.sampled_from([0, 5, 50]))
    def set_grace(self, grace: int) -> None:
        """The budget gets grace, or loses it; its limit stays as it is to come."""
        self._set("", grace_nano=grace)
        self.grace = grace

    @rule(cap=st.sampled_from([None, (0, 100), (0, 25), (20, 0), (500, 0)]))
    def set_rollover(self, cap: tuple[int, int] | None) -> None:
        """What is left rolls over, up to a cap, or no more."""
        most, percent = cap or (0, 0)
        self._set("", rollover_nano=most, rollover_percent=percent)
        if self.cap is None:
            self.rolls_since = self.day
        self.cap = cap

    @rule(pace=st.sampled_from([None, (1, 50), (2, 1), (3, 80)]))
    def set_pace(self, pace: tuple[int, int] | None) -> None:
        """The budget throttles, or no more."""
        most, percent = pace or (0, 80)
        self._set("", throttle_to=most, throttle_at=percent)
        self.pace = pace

    @rule(nano=st.sampled_from([1, 25, 80]), after=st.integers(0, 2), hours=st.integers(1, 30))
    def lift(self, nano: int, after: int, hours: int) -> None:
        """A raise, which may overlap with others and with the end of a day."""
        from_s = self.now_ns // NANOS + after * 3_600
        until_s = from_s + hours * 3_600
        if len([r for r in self.raises if r[2] > self.now_ns // NANOS]) >= 30:
            return
        self._note(lambda budget: raised(budget, nano, self.now_ns // NANOS, from_s, until_s))
        self.raises.append((nano, from_s, until_s))

    @rule()
    def end_raises(self) -> None:
        """All raises end."""
        self._note(without_raises)
        self.raises.clear()

    def _set(self, when: When, **changes: Any) -> None:
        self.records.edit_budget(
            "b", lambda budget: replace(budget or self.budget, **changes), self.now_ns, when=when
        )

    def _note(self, edit: Callable[[Budget], Budget]) -> None:
        self.records.edit_budget(
            "b", lambda budget: edit(budget or self.budget), self.now_ns, noted=True
        )

    # what must hold -----------------------------------------------------------------------

    @invariant()
    def reports_say_so(self) -> None:
        """What people see is what is decided by."""
        with self.store.reports() as reports:
            [state] = reports.budget_states(self.now_ns // NANOS)
        assert state.limit_nano == self.limit()
        assert (state.spent_nano, state.held_nano) == (
            self.spent[self.day],
            self.holding[self.day],
        )


@pytest.mark.parametrize("kind", KINDS)
def test_limits_are_those_of_a_simple_model(kind: str) -> None:
    """Roll-over, grace, raises, throttles and changes from the next period on, in any order: each attempt
    is admitted, marked or refused as a model says that only adds and subtracts."""
    machine = type("Machine", (Limits,), {"kind": kind})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES[kind], stateful_step_count=STEPS, deadline=None, database=None
        ),
    )
