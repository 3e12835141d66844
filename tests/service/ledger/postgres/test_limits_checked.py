"""Batches decided before they are locked, under budgets whose limit depends on more than their row: what
another gateway has done meanwhile counts all the same."""

from __future__ import annotations

import time

import msgspec
import pytest

from spanledger.budgets.model import Budget, HoldSizes, Noted, Raise
from spanledger.errors import BudgetExceededError, BudgetThrottledError
from spanledger.ledger.model import Hold, Reservation
from spanledger.ledger.ports import Store
from spanledger.ledger.postgres.writer import PostgresWriter
from tests.service.ledger.postgres.rig import end, reservation, writing
from tests.service.ledger.postgres.test_optimistic import Locks

DAY_NS = 86_400 * 10**9


def set_budgets(store: Store, *budgets: Budget, now_ns: int = 0) -> None:
    """Set them, with what they have noted."""
    store.migrate()
    with store.records("create") as records:
        records.set_budgets(budgets, now_ns or time.time_ns(), noted=True)


def acme(limit: int = 100, **changes: object) -> Budget:
    return Budget("b", "customer", "acme", limit, "day", **changes)  # type: ignore[arg-type]  # test shorthand


def spend(writer: PostgresWriter, nano: int, *, now_ns: int = 0) -> None:
    """An attempt that costs all it holds."""
    asked = earlier(reservation(nano), now_ns) if now_ns else reservation(nano)
    writer.commit([asked])
    writer.commit([end(asked, nano)])


def earlier(asked: Reservation, now_ns: int) -> Reservation:
    """The same at another time."""
    return msgspec.structs.replace(asked, now_ns=now_ns)


def test_requests_are_counted_once_another_gateway_has_come_near_the_limit(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gateway that believes the account to be far from its limit still lets only one request through."""
    set_budgets(store, acme(throttle_to=1, throttle_at=50))
    locks = Locks(monkeypatch)
    with writing(store, "a") as a, writing(store, "b") as b:
        spend(a, 1)
        assert locks.of(a, reservation(1)) == 0  # far from it, nothing is locked
        spend(b, 60)

        results = [a.commit([reservation(1)])[0] for _ in range(2)]

    assert isinstance(results[0], Hold)
    assert isinstance(results[1], BudgetThrottledError)


def test_what_another_gateway_spent_of_the_day_before_does_not_roll_over(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gateway that believes more to be left of the day before does not spend it."""
    now_ns = time.time_ns()
    yesterday_ns = now_ns - DAY_NS
    since_s = yesterday_ns // DAY_NS * 86_400
    set_budgets(store, acme(rollover_percent=100, noted=Noted(rollover_since_s=since_s)))
    locks = Locks(monkeypatch)
    with writing(store, "a") as a, writing(store, "b") as b:
        open_ = earlier(reservation(10), yesterday_ns)
        b.commit([open_])
        spend(a, 1)
        [first] = a.commit([reservation(50)])
        assert isinstance(first, Hold)
        assert first.remaining_nano == 100 + 90 - 1 - 50
        assert locks.of(a, reservation(1)) == 0
        b.commit([end(open_, 80)])  # it costs more than it held

        [refused] = a.commit([reservation(100)])

    assert isinstance(refused, BudgetExceededError)
    assert refused.refusal.limit_nano == 120


def test_a_raise_is_room_without_a_lock(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a raise, batches are decided as below a plain limit, and what another gateway took of it is
    not granted again."""
    now_s = time.time_ns() // 10**9
    lifted = acme(noted=Noted(raises=(Raise(100, now_s - 9, now_s + 999),)))
    set_budgets(store, lifted)
    locks = Locks(monkeypatch)
    with writing(store, "a") as a, writing(store, "b") as b:
        spend(a, 90)
        assert locks.of(a, reservation(20)) == 0
        spend(b, 85)

        [refused] = a.commit([reservation(6)])
        [granted] = a.commit([reservation(5)])

    assert isinstance(refused, BudgetExceededError)
    assert isinstance(granted, Hold)


def test_grace_is_marked_though_another_gateway_used_the_limit_up(store: Store) -> None:
    """A gateway that believes there to be room below the limit marks what is in grace."""
    set_budgets(store, acme(action="grace", grace_nano=50))
    with writing(store, "a") as a, writing(store, "b") as b:
        spend(a, 1)
        spend(b, 95)

        [marked] = a.commit([reservation(10)])
        [refused] = a.commit([reservation(50)])

    assert isinstance(marked, Hold)
    assert (marked.decision, marked.warned) == ("warn", ("b",))
    assert isinstance(refused, BudgetExceededError)
    assert refused.refusal.grace_nano == 50


def test_uncapped_attempts_leave_nine_tenths_of_the_effective_room(store: Store) -> None:
    """An attempt without a cap holds in full only if that is a tenth of the room that is really left."""
    now_s = time.time_ns() // 10**9
    set_budgets(store, acme(noted=Noted(raises=(Raise(100, now_s - 9, now_s + 999),))))
    wide = msgspec.structs.replace(reservation(), sizes=HoldSizes(15, 5, 1))
    with writing(store, "a") as a, writing(store, "b") as b:
        spend(a, 1)
        spend(b, 60)

        [hold] = a.commit([wide])

    assert isinstance(hold, Hold)
    assert hold.hold_nano == 5
