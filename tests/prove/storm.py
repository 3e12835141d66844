"""256 callers of four processes at once, on one budget that has room for some of them.

The seed decides how much is left, what a request holds, what follows the hold, whose budget it is
and what other budgets count. While the callers run, the balance is looked at from outside.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from spanledger.budgets.model import Budget
from spanledger.ledger.model import AttemptEnd, RequestEnd
from spanledger.ledger.ports import Store
from tests.prove.proof import Counts, Scenario, promise
from tests.prove.writer import Got, Order, reservation_of
from tests.prove.writers import Writers
from tests.service.ledger.stores import new_store, raw

PROCESSES = 4
CALLERS = 256
LOOK_EVERY_S = 0.005
NOON_NS = 1_795_435_200 * 10**9
"""2026-11-23 12:00 UTC: no period ends during a storm."""
SCOPES: tuple[str, ...] = ("customer", "customer", "key", "team", "model", "provider", "global")
PERIODS: tuple[str, ...] = ("day", "week", "month")
SUBJECTS = {"customer": "acme", "key": "key", "team": "team", "model": "m", "provider": "openai"}
THEN = ("keep", "keep", "settle", "settle", "cheaper", "release", "dearer")
EXACT = ("keep", "settle")
"""Money that was held does not become free again, so the number of admitted callers is known."""


class Plan(NamedTuple):
    """What a seed decides.

    Attributes:
        budgets: the first is the one with little room.
        before: what was spent on it before.
        room: how many holds fit.
        rest: what is left once they are held.
    """

    budgets: list[Budget]
    hold: int
    least: int
    then: str
    before: int
    room: int
    rest: int

    @classmethod
    def of(cls, seed: int) -> Plan:
        """The plan of a seed."""
        dice = random.Random(f"storm {seed}")
        hold = dice.choice((1, 2, 10, 999, dice.randrange(1, 10**6), dice.randrange(1, 10**9)))
        room = dice.choice((0, 1, 2, 255, 256, 300, *(dice.randrange(256) for _ in range(12))))
        rest, before = dice.randrange(hold), dice.choice((0, dice.randrange(1, 10**10)))
        strict = dice.random() < 0.2
        scope = dice.choice(SCOPES)
        subject = dice.choice(("*", SUBJECTS.get(scope, "*")))
        limit = before + room * hold + rest
        tight = Budget("tight", scope, subject, limit, dice.choice(PERIODS), strict=strict)
        others = [
            Budget(f"wide{n}", dice.choice(SCOPES), "*", 10**15, dice.choice(PERIODS))
            for n in range(dice.randrange(3))
        ]
        least = dice.randrange(1, hold + 1) if strict else hold
        return cls([tight, *others], hold, least, dice.choice(THEN), before, room, rest)

    @property
    def limit(self) -> int:
        """The limit of the budget with little room."""
        return self.budgets[0].limit_nano

    @property
    def admitted(self) -> int:
        """How many callers are admitted if held money never becomes free."""
        more = self.budgets[0].strict and self.rest >= self.least
        return min(CALLERS, self.room + more)


class Storm(Scenario):
    """The scenario."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._writers = Writers(PROCESSES)

    def close(self) -> None:
        """See `Scenario`."""
        self._writers.close()

    def run(self, seed: int, folder: Path) -> Counts:
        """See `Scenario`."""
        plan = Plan.of(seed)
        store = new_store(self.kind, folder)
        _prepare(store, seed, plan)
        self._writers.open(
            [
                Order(store.url, seed, process, CALLERS // PROCESSES, "acme", plan.hold, plan.least, plan.then, NOON_NS)
                for process in range(PROCESSES)
            ]
        )  # fmt: skip
        with looking(store, plan) as looks:
            got = [caller for process in self._writers.go() for caller in process]
        admitted = [caller for caller in got if caller.hold >= 0]
        check(plan, got, admitted)
        _check_ledger(store, plan, admitted)
        return Counter(
            {
                "requests": len(got),
                "admitted": len(admitted),
                "refused": len(got) - len(admitted),
                "asked again after 503": sum(caller.unavailable for caller in got),
                "looks": looks[0],
            }
        )


def _prepare(store: Store, seed: int, plan: Plan) -> None:
    now_ns = NOON_NS
    with store.records("create") as records:
        records.set_budgets(plan.budgets, now_ns)
    if plan.before:
        writer = store.writer("before", 30 * 10**9, lambda: now_ns)
        first = Order("", seed, PROCESSES, 1, "acme", plan.before, plan.before, "settle")
        reservation = reservation_of(first, 0, 0, now_ns)
        end = RequestEnd("ok", "", 200, now_ns)
        writer.commit([reservation])
        writer.commit([AttemptEnd(reservation.attempt_id, now_ns, plan.before, request=end)])
        writer.close()


@contextmanager
def looking(store: Store, plan: Plan) -> Iterator[list[int]]:
    """Look at the balance again and again; yields a list with how often, once the block has ended.

    Raises BrokenPromiseError if it was ever above the limit.
    """
    done = threading.Event()
    looks, highest = [0], [0]
    query = "SELECT coalesce(max(spent_nano - overrun_nano + held_nano), 0) FROM balances WHERE budget = 'tight'"

    def look() -> None:
        while not done.is_set():
            ((used,),) = raw(store, query)
            highest[0] = max(highest[0], int(used))
            looks[0] += 1
            done.wait(LOOK_EVERY_S)

    thread = threading.Thread(target=look, name="look")
    thread.start()
    try:
        yield looks
    finally:
        done.set()
        thread.join()
    promise(highest[0] <= plan.limit, f"{highest[0]} were used of {plan.limit}: {plan}")


def check(plan: Plan, got: list[Got], admitted: list[Got]) -> None:
    """What the callers got is what the money allowed."""
    errors = [caller.error for caller in got if caller.error]
    promise(not errors, f"{len(errors)} callers got an error: {errors[:3]}")
    if plan.then in EXACT:
        text = f"{len(admitted)} were admitted, not {plan.admitted}: {plan}"
        promise(len(admitted) == plan.admitted, text)
    elif plan.then != "dearer":
        text = f"{len(admitted)} were admitted, fewer than {plan.admitted}: {plan}"
        promise(len(admitted) >= plan.admitted, text)
    for refused in (caller for caller in got if caller.hold < 0):
        used = refused.spent + refused.held
        text = f"refused although there was room: {refused}: {plan}"
        promise(used + refused.needed > refused.limit == plan.limit, text)


def _check_ledger(store: Store, plan: Plan, admitted: list[Got]) -> None:
    """The ledger is what the callers got, and adds up."""
    reports = store.reports()
    try:
        found = reports.verify()
        states = reports.budget_states(NOON_NS // 10**9)
    finally:
        reports.close()
    promise(not found.problems, f"the ledger does not add up: {found.problems[:3]}: {plan}")
    kept = sum(caller.hold for caller in admitted if caller.cost < 0)
    charged = plan.before + sum(caller.cost for caller in admitted if caller.cost >= 0)
    overrun = sum(max(0, caller.cost - caller.hold) for caller in admitted)
    for state in states:
        figures = (state.spent_nano, state.held_nano, state.overrun_nano)
        text = f"{state.budget.name} has {figures}, not {(charged, kept, overrun)}: {plan}"
        promise(figures == (charged, kept, overrun), text)
    promise(charged - overrun + kept <= plan.limit, f"over the limit: {plan}")
