"""The ledger's guarantees, on a real file."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from spanledger.budgets.model import HoldSizes
from spanledger.errors import (
    BudgetExceededError,
    LedgerUnavailableError,
    SpanledgerError,
    UnboundedCostError,
    UnpricedModelError,
)
from spanledger.ledger import open_ledger
from spanledger.ledger.model import RequestEnd
from spanledger.ledger.ports import Store
from tests.service.ledger.conftest import Book, Time

CENT = 10**7


async def test_reserve_holds_and_settle_spends(book: Book) -> None:
    """A hold counts against the limit until the real cost replaces it."""
    book.budget()
    reservation = book.reservation(30 * CENT)

    hold = await book.ledger.reserve(reservation)
    assert (hold.hold_nano, hold.remaining_nano) == (30 * CENT, 70 * CENT)
    assert book.balance() == (0, 30 * CENT, 0)

    settled = await book.ledger.finish(book.end(reservation, 12 * CENT))
    assert (settled.cost_nano, settled.remaining_nano) == (12 * CENT, 88 * CENT)
    assert book.balance() == (12 * CENT, 0, 0)


async def test_release_costs_nothing(book: Book) -> None:
    """An attempt that was not billed leaves no trace in the balance."""
    book.budget()
    reservation = book.reservation()
    await book.ledger.reserve(reservation)

    await book.ledger.finish(book.end(reservation, None))

    assert book.balance() == (0, 0, 0)


async def test_refusal_names_the_figures(book: Book) -> None:
    """A refusal names the budget, limit, spent, held and when it renews."""
    book.budget(limit_nano=50 * CENT)
    settled, held = book.reservation(20 * CENT), book.reservation(20 * CENT)
    for reservation in (settled, held):
        await book.ledger.reserve(reservation)
    await book.ledger.finish(book.end(settled, 20 * CENT))

    with pytest.raises(BudgetExceededError) as caught:
        await book.ledger.reserve(book.reservation(10 * CENT + 1))

    refusal = caught.value.refusal
    assert (refusal.budget, refusal.scope, refusal.subject) == ("b", "customer", "acme")
    assert (refusal.limit_nano, refusal.spent_nano, refusal.held_nano, refusal.needed_nano) == (
        50 * CENT,
        20 * CENT,
        20 * CENT,
        10 * CENT + 1,
    )
    assert refusal.renews_at_s == 1_796_083_200  # 2026-12-01 00:00 UTC
    await book.ledger.reserve(book.reservation(10 * CENT))


async def test_the_outbox_counts_rows(book: Book) -> None:
    """A repeated end adds no row, so it must not look like one waiting to be shipped."""
    reservation = book.reservation()
    await book.ledger.reserve(reservation)
    for _ in range(3):
        await book.ledger.finish(book.end(reservation, CENT))

    reports = book.store.reports()
    assert reports.health()["outbox_rows"] == 2
    reports.close()


async def test_all_budgets_or_none(book: Book) -> None:
    """A refusal by one budget holds nothing on the others."""
    book.budget("wide")
    book.budget("narrow", scope="model", subject="gpt-4o", limit_nano=CENT)

    with pytest.raises(BudgetExceededError):
        await book.ledger.reserve(book.reservation(2 * CENT))

    assert book.balance("wide") == (0, 0, 0)
    await book.ledger.reserve(book.reservation(2 * CENT, model="gpt-4o-mini"))
    assert book.balance("wide") == (0, 2 * CENT, 0)


async def test_repeats_change_nothing(book: Book) -> None:
    """Reserve and finish are idempotent by attempt id; the first end stands."""
    book.budget()
    reservation = book.reservation(10 * CENT)
    first = await book.ledger.reserve(reservation)
    again = await book.ledger.reserve(reservation)
    assert again.hold_nano == first.hold_nano
    assert book.balance() == (0, 10 * CENT, 0)

    await book.ledger.finish(book.end(reservation, CENT))
    settled = await book.ledger.finish(book.end(reservation, 9 * CENT))
    assert settled.cost_nano == CENT
    assert book.balance() == (CENT, 0, 0)


async def test_overrun_is_booked_in_full(book: Book) -> None:
    """A cost above its hold is spent and counted as overrun, never hidden."""
    book.budget()
    reservation = book.reservation(CENT)
    await book.ledger.reserve(reservation)

    settled = await book.ledger.finish(book.end(reservation, 3 * CENT))

    assert settled.overrun_nano == 2 * CENT
    assert book.balance() == (3 * CENT, 0, 2 * CENT)


async def test_warn_lets_through(book: Book) -> None:
    """A budget with action warn is counted, named and never blocks."""
    book.budget(action="warn", limit_nano=CENT)

    hold = await book.ledger.reserve(book.reservation(5 * CENT))

    assert (hold.decision, hold.warned, hold.remaining_nano) == ("warn", ("b",), None)


async def test_unpriced_is_refused_under_a_budget_only(book: Book) -> None:
    """A model without a price cannot be held against a budget; without a budget it is allowed."""
    await book.ledger.reserve(book.reservation(0, priced=False))
    book.budget()

    with pytest.raises(UnpricedModelError, match="input_cost_per_token"):
        await book.ledger.reserve(book.reservation(0, priced=False))


async def test_what_nothing_bounds_is_refused_under_a_budget_only(book: Book) -> None:
    """The error has the reservation's reason and the budget's name; without a budget it is allowed."""
    await book.ledger.reserve(book.reservation(unbounded="nothing bounds 'x'"))
    book.budget()
    before = book.balance()

    with pytest.raises(UnboundedCostError, match=r"^nothing bounds 'x'.*'b'"):
        await book.ledger.reserve(book.reservation(unbounded="nothing bounds 'x'"))
    assert book.balance() == before


async def test_a_period_ends_by_the_calendar(book: Book) -> None:
    """The next period starts at zero, and a late settle counts in the period of its hold."""
    book.budget(period="day", limit_nano=10 * CENT)
    late = book.reservation(10 * CENT)
    await book.ledger.reserve(late)

    book.time.now += 86_400 * 10**9
    await book.ledger.reserve(book.reservation(10 * CENT))
    await book.ledger.finish(book.end(late, 7 * CENT))

    assert book.balance() == (0, 10 * CENT, 0)
    book.time.now -= 86_400 * 10**9
    assert book.balance() == (7 * CENT, 0, 0)


async def test_budget_changes_reach_a_running_gateway(book: Book) -> None:
    """A limit lowered by another process applies to the very next attempt."""
    book.budget()
    await book.ledger.reserve(book.reservation(10 * CENT))

    book.budget(limit_nano=15 * CENT)

    with pytest.raises(BudgetExceededError):
        await book.ledger.reserve(book.reservation(10 * CENT))


async def test_a_dead_gateways_holds_expire_in_full(book: Book) -> None:
    """After its lease, an unknown outcome is charged as an estimate; a late real cost corrects it."""
    book.budget()
    dead = open_ledger(book.store, book.time.clock())
    reservation = book.reservation(20 * CENT)
    await dead.reserve(reservation)

    book.time.now += 29 * 10**9
    assert await book.ledger.sweep() == 0
    book.time.now += 2 * 10**9
    assert await book.ledger.sweep() == 1
    assert book.balance() == (20 * CENT, 0, 0)
    reports = book.store.reports()
    [(request, [attempt])] = reports.trace(reservation.request.trace_id)
    reports.close()
    assert (request["outcome"], attempt["state"], attempt["estimated"]) == (
        "abandoned",
        "expired",
        1,
    )

    await dead.finish(book.end(reservation, 5 * CENT))
    assert book.balance() == (5 * CENT, 0, 0)
    reports = book.store.reports()
    [(request, [corrected])] = reports.trace(reservation.request.trace_id)
    reports.close()
    assert (request["outcome"], request["cost_nano"]) == ("ok", 5 * CENT)
    assert (corrected["state"], corrected["corrected"]) == ("settled", 1)
    # It is shipped again; another gateway's lane has numbers of its own.
    assert (corrected.get("lane"), corrected["seq"]) != (attempt.get("lane"), attempt["seq"])
    await dead.close()


async def test_a_correction_after_the_request_ended(book: Book) -> None:
    """When only an attempt is corrected, its request's total follows."""
    dead = open_ledger(book.store, book.time.clock())
    reservation = book.reservation(20 * CENT)
    await dead.reserve(reservation)
    book.time.now += 31 * 10**9
    await book.ledger.sweep()

    await dead.finish(book.end(reservation, 5 * CENT, last=False))

    assert book.problems() == []
    await dead.close()


async def test_a_request_refused_before_any_try_is_a_row(book: Book) -> None:
    """A refusal is recorded with the budget that refused."""
    start = book.reservation().request
    end = RequestEnd("refused", "budget_exceeded", 429, book.time.now, "b", "customer")

    await book.ledger.end_request(start, end)

    reports = book.store.reports()
    [(request, attempts)] = reports.trace(start.request_id)
    reports.close()
    assert attempts == []
    assert (request["outcome"], request["decision"], request["refused_by"]) == (
        "refused",
        "deny",
        "b",
    )


async def test_concurrent_callers_share_commits(book: Book) -> None:
    """Two hundred concurrent callers never exceed the limit, and use it to the last hold."""
    book.budget(limit_nano=50 * CENT)

    results = await asyncio.gather(
        *(book.ledger.reserve(book.reservation(CENT)) for _ in range(200)), return_exceptions=True
    )

    refused = [r for r in results if isinstance(r, BudgetExceededError)]
    assert len(refused) == 150
    assert book.balance() == (0, 50 * CENT, 0)


async def test_one_bad_operation_does_not_hurt_the_others(book: Book) -> None:
    """A value the database cannot store fails only its own caller."""
    book.budget()
    bad = replace(book.reservation(), now_ns=2**63)

    results = await asyncio.gather(
        book.ledger.reserve(bad),
        book.ledger.reserve(book.reservation(CENT)),
        return_exceptions=True,
    )

    assert isinstance(results[0], Exception)
    assert book.balance() == (0, CENT, 0)


async def test_operations_are_those_of_requests(store: Store) -> None:
    """Commits that only sweep lapsed holds count no operation: an idle gateway has no traffic."""
    seen: list[int] = []
    ledger = open_ledger(
        store,
        observe_commit=lambda _seconds, operations: seen.append(operations),
    )
    for _ in range(3):
        await ledger.sweep()
    idle = sum(seen)
    book = Book(store, Time(), ledger)
    reservation = book.reservation()
    await ledger.reserve(reservation)
    await ledger.finish(book.end(reservation, CENT))
    await ledger.close()

    assert (idle, sum(seen)) == (0, 2)
    assert len(seen) >= 5


async def test_no_hold_lives_for_ever(book: Book) -> None:
    """A hold forgotten by its running owner expires after the maximum hold time."""
    book.budget()
    await book.ledger.reserve(book.reservation(HoldSizes(CENT, CENT, CENT)))

    book.time.now += 3601 * 10**9
    assert await book.ledger.sweep() == 1

    assert book.balance("b")[1] == 0


async def test_a_row_that_breaks_a_rule_does_not_stop_the_ledger(book: Book) -> None:
    """An error that waiting cannot fix fails its own caller and is not retried forever."""
    book.budget()
    reservation, twice = book.reservation(CENT), book.reservation(CENT)
    await book.ledger.reserve(reservation)
    other = open_ledger(book.store, book.time.clock())
    await other.reserve(twice)
    await other.close()

    results = await asyncio.gather(
        book.ledger.reserve(twice),  # its row exists already, unknown to this ledger
        book.ledger.finish(book.end(reservation, CENT)),
        return_exceptions=True,
    )

    assert isinstance(results[0], SpanledgerError)
    assert not isinstance(results[0], LedgerUnavailableError)
    assert book.balance() == (CENT, CENT, 0)
    await book.ledger.reserve(book.reservation(CENT))


async def test_a_repeat_is_answered_from_the_row(book: Book) -> None:
    """A caller that lost the answer to a reservation can ask again, even if nothing was stored."""
    book.budget()
    reservation = book.reservation(CENT)
    other = open_ledger(book.store, book.time.clock())
    await other.reserve(reservation)
    await other.close()

    hold = await book.ledger.reserve(replace(reservation, repeat=True))

    assert hold.hold_nano == CENT
    assert book.balance() == (0, CENT, 0)


async def test_holds_end_when_the_clock_was_set_back(book: Book) -> None:
    """A gateway that died while its clock was years ahead does not keep its holds for years, and one
    that survives the change keeps its holds."""
    book.budget()
    years = 5 * 365 * 86_400 * 10**9
    book.time.now += years
    dead = open_ledger(book.store, book.time.clock())
    await dead.reserve(book.reservation(2 * CENT))
    alive = book.reservation(CENT)
    await book.ledger.reserve(alive)

    book.time.now -= years
    assert await book.ledger.sweep() == 1

    book.time.now += years
    assert book.balance() == (2 * CENT, CENT, 0)
    await book.ledger.finish(book.end(alive, CENT))
    assert book.balance() == (3 * CENT, 0, 0)
    await dead.close()


@pytest.mark.parametrize("jump_s", [40, 2 * 3_600])
async def test_a_clock_that_jumps_ahead_and_back_takes_nobodys_hold(
    book: Book, jump_s: int
) -> None:
    """Meanwhile another gateway believes this one dead; its next holds are alive again."""
    book.budget()
    other = open_ledger(book.store, book.time.clock())
    await book.ledger.reserve(book.reservation(CENT))
    book.time.now += jump_s * 10**9
    assert await other.sweep() == 1

    book.time.now -= (jump_s - 15) * 10**9
    await book.ledger.reserve(book.reservation(2 * CENT))

    assert await book.ledger.sweep() == 0
    assert await other.sweep() == 0
    assert book.balance() == (CENT, 2 * CENT, 0)
    await other.close()
