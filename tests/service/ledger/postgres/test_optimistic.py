"""Batches that are decided before they are locked: the same decisions, and none that others forbid."""

from __future__ import annotations

import random
import time
from pathlib import Path

import msgspec
import pytest

from spanledger.budgets.model import Budget, HoldSizes
from spanledger.errors import BudgetExceededError
from spanledger.ledger.model import Hold, LedgerOperation, LedgerResult, Reservation
from spanledger.ledger.ports import Store
from spanledger.ledger.postgres.locking import LockingBatch
from spanledger.ledger.postgres.writer import PostgresWriter
from tests.service.ledger.postgres.rig import (
    balance,
    end,
    reservation,
    set_budget,
    states,
    writing,
)
from tests.service.ledger.stores import new_store, raw

BATCHES = 60


class Locks:
    """Counts the batches that lock and read first."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        begin = LockingBatch._begin

        def counted(batch: LockingBatch) -> None:
            self.count += 1
            begin(batch)

        monkeypatch.setattr(LockingBatch, "_begin", counted)

    def of(self, writer: PostgresWriter, *operations: LedgerOperation) -> int:
        """How many of them a commit needs."""
        before = self.count
        writer.commit(operations)
        return self.count - before


def test_only_a_batch_that_needs_them_takes_locks_first(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one reads; then none does until there is too little room, or an attempt is unknown."""
    set_budget(store, 90)
    locks = Locks(monkeypatch)
    with writing(store, "a") as a, writing(store, "b") as b:
        held = [reservation(30) for _ in range(4)]

        assert locks.of(a, held[0]) == 1
        assert locks.of(a, held[1]) == 0
        assert locks.of(a, end(held[0])) == 0
        assert locks.of(a, held[2]) == 0
        assert locks.of(a, held[3]) == 1
        assert locks.of(b, end(held[1])) == 1
    assert states(store) == {"held": 1, "settled": 2}


def test_what_another_gateway_has_taken_is_not_granted(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gateway that believes there is room learns from the guard that there is none."""
    set_budget(store, 100)
    locks = Locks(monkeypatch)
    with writing(store, "a") as a, writing(store, "b") as b:
        a.commit([reservation(10)])
        b.commit([reservation(85)])
        before = locks.count

        [refused] = a.commit([reservation(10)])

        assert isinstance(refused, BudgetExceededError)
        assert refused.refusal.held_nano == 95
        assert locks.count == before + 1
        assert isinstance(a.commit([reservation(5)])[0], Hold)
    assert balance(store) == (0, 100)


def test_a_full_hold_needs_room_that_is_still_there(store: Store) -> None:
    """An attempt without a cap gets its full hold only while that is a tenth of what others have left."""
    set_budget(store, 1_000)
    with writing(store, "a") as a, writing(store, "b") as b:
        a.commit([reservation(10)])
        b.commit([reservation(500)])
        uncapped = msgspec.structs.replace(reservation(), sizes=HoldSizes(90, 30, 30))

        [hold] = a.commit([uncapped])

        assert isinstance(hold, Hold)
        assert (hold.hold_nano, hold.remaining_nano) == (30, 460)


def test_a_budget_that_was_changed_meanwhile_applies(store: Store) -> None:
    """Also to a batch that was decided on the budget before."""
    set_budget(store, 100)
    with writing(store) as writer:
        writer.commit([reservation()])
        set_budget(store, 15)

        [refused] = writer.commit([reservation()])

        assert isinstance(refused, BudgetExceededError)
        assert refused.refusal.limit_nano == 15


def test_both_kinds_of_batches_decide_alike(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same random batches on two ledgers, one of which always locks first: the same answers and the
    same balances, with blocking and warning budgets, caps and ends."""
    chance = random.Random(7)
    other = new_store("postgres", tmp_path)
    for one in (store, other):
        with one.records("create") as records:
            budgets = [
                Budget("each", "customer", "*", 3_000, "month"),
                Budget("soft", "team", "*", 2_000, "month", "UTC", "warn"),
                Budget("all", "global", "*", 9_000, "month", strict=True),
            ]
            records.set_budgets(budgets, time.time_ns())
    locks = Locks(monkeypatch)
    with writing(store) as free, writing(other) as locking:
        locking._optimistic = locking._locking  # type: ignore[assignment]  # to compare with
        held: list[Reservation] = []
        for _ in range(BATCHES):
            batch: list[LedgerOperation] = [one_of(chance) for _ in range(chance.randint(1, 6))]
            ending = held[: chance.randint(0, len(held))]
            batch += [end(r, chance.randint(0, r.sizes.full)) for r in ending]
            before = locks.count

            results = [shown(result) for result in free.commit(batch)]

            optimistic = locks.count == before
            assert [shown(result) for result in locking.commit(batch)] == results, optimistic
            del held[: len(ending)]
            held += [
                operation
                for operation, result in zip(batch, results, strict=True)
                if isinstance(operation, Reservation) and "Hold(" in result
            ]
    assert BATCHES < locks.count < 2 * BATCHES  # both ways were taken
    query = (
        "SELECT budget, subject, spent_nano, held_nano, overrun_nano FROM balances"
        " WHERE spent_nano + held_nano > 0 ORDER BY 1, 2"
    )
    assert raw(store, query) == raw(other, query)
    with store.reports() as reports:
        assert reports.verify().problems == []


def one_of(chance: random.Random) -> Reservation:
    """An attempt of some customer and team, with a cap or without."""
    full = chance.choice([0, 5, 40, 90])
    sizes = HoldSizes(full, chance.choice([full, full // 3]), full // 5, chance.random() < 0.3)
    made = reservation(customer=chance.choice(["acme", "globex", "red"]))
    request = msgspec.structs.replace(made.request, team=chance.choice(["", "t1"]))
    return msgspec.structs.replace(made, sizes=sizes, request=request)


def shown(result: LedgerResult) -> str:
    """A result as text, so that errors can be compared."""
    return repr(result)
