"""Budgets changed while money moves: each counts what its subject spent in its period."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from spanledger.budgets.model import Budget
from spanledger.errors import BudgetExceededError
from spanledger.ledger import open_ledger
from spanledger.ledger.keys import key_digest
from spanledger.ledger.model import Reservation
from spanledger.ledger.opening import Opening, OpeningRows
from spanledger.money import MAX_NANO
from tests.service.ledger.conftest import Book
from tests.service.ledger.stores import raw

CENT = 10**7
DAY_NS = 86_400 * 10**9


async def spend(book: Book, cost: int, **changes: str) -> None:
    """An attempt that ends."""
    reservation = book.reservation(cost, **changes)  # type: ignore[arg-type]  # test shorthand
    await book.ledger.reserve(reservation)
    await book.ledger.finish(book.end(reservation, cost))


async def hold(book: Book, size: int, **changes: str) -> Reservation:
    """An attempt still in flight."""
    reservation = book.reservation(size, **changes)  # type: ignore[arg-type]  # as above
    await book.ledger.reserve(reservation)
    return reservation


def remove(book: Book, name: str = "b") -> None:
    """Remove a budget."""
    records = book.store.records("create")
    records.remove_budget(name, book.time.now)
    records.close()


def at(book: Book, moment: str) -> None:
    """Set the clock, UTC."""
    book.time.now = int(datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp()) * 10**9


async def test_a_name_that_went_to_another_scope_brings_no_spend_along(book: Book) -> None:
    """A team and a customer may have the same name; the customer's budget is its own."""
    book.budget(scope="team", subject="red")
    await spend(book, 30 * CENT, team="red")

    book.budget(scope="customer", subject="red")

    assert book.balance() == (0, 0, 0)
    await spend(book, 2 * CENT, customer="red")
    assert book.balance() == (2 * CENT, 0, 0)
    book.budget(scope="team", subject="red")
    assert book.balance() == (30 * CENT, 0, 0)


async def test_a_day_that_becomes_a_month_counts_the_month(book: Book) -> None:
    """On the first of a month, both periods begin at the same time: the day's balance is not the
    month's, and neither is zero."""
    at(book, "2026-12-01T10:00")
    book.budget(period="day")
    await spend(book, 3 * CENT)
    at(book, "2026-12-02T10:00")
    await spend(book, 4 * CENT)
    assert book.balance() == (4 * CENT, 0, 0)

    book.budget(period="month")
    assert book.balance() == (7 * CENT, 0, 0)
    book.budget(period="week")  # it began on Monday, November 30th
    assert book.balance() == (7 * CENT, 0, 0)
    book.budget(period="day")
    assert book.balance() == (4 * CENT, 0, 0)


async def test_a_month_counts_what_was_spent_before_its_budget_was_set(book: Book) -> None:
    """The limit covers the period: spend equals `spend --since` the period's start."""
    at(book, "2026-10-31T23:59")
    await spend(book, 50 * CENT)
    at(book, "2026-11-01T00:00")
    await spend(book, 3 * CENT)
    await spend(book, 9 * CENT, customer="globex")

    book.budget("acme")
    book.budget("each", subject="*")
    book.budget("all", scope="global", subject="*")

    assert book.balance("acme") == (3 * CENT, 0, 0)
    assert book.balance("all") == (12 * CENT, 0, 0)
    assert book.accounts("each") == {"acme": (3 * CENT, 0, 0), "globex": (9 * CENT, 0, 0)}


async def test_open_holds_move_into_a_new_account(book: Book) -> None:
    """Attempts in flight when a budget is set are held on it and settle on it, in every process."""
    other = open_ledger(book.store, book.time.clock())
    mine, theirs = await hold(book, 10 * CENT), book.reservation(20 * CENT)
    await other.reserve(theirs)

    book.budget(limit_nano=35 * CENT)

    assert book.balance() == (0, 30 * CENT, 0)
    with pytest.raises(BudgetExceededError):
        await book.ledger.reserve(book.reservation(6 * CENT))
    settled = await book.ledger.finish(book.end(mine, 4 * CENT))
    assert settled.remaining_nano == 11 * CENT
    await other.finish(book.end(theirs, None))
    assert book.balance() == (4 * CENT, 0, 0)
    await other.close()


async def test_a_hold_under_the_old_budget_ends_under_the_new(book: Book) -> None:
    """A change of period loses no money: the old and the new account end with nothing held."""
    book.budget(period="day")
    flying = await hold(book, 10 * CENT)

    book.budget(period="month")
    assert book.balance() == (0, 10 * CENT, 0)
    await book.ledger.finish(book.end(flying, 30 * CENT))
    assert book.balance() == (30 * CENT, 0, 20 * CENT)

    book.budget(period="day")
    assert book.balance() == (30 * CENT, 0, 20 * CENT)


async def test_a_hold_from_before_the_period_stays_out_of_it(book: Book) -> None:
    """An attempt counts in the period it was admitted in, even for a budget that is set later."""
    at(book, "2026-11-30T23:59")
    late = await hold(book, 10 * CENT)
    at(book, "2026-12-01T00:01")

    book.budget()

    assert book.balance() == (0, 0, 0)
    await book.ledger.finish(book.end(late, 10 * CENT))
    assert book.balance() == (0, 0, 0)


async def test_an_expired_try_is_corrected_in_a_new_account(book: Book) -> None:
    """A late real cost replaces the estimate wherever that was counted."""
    dead = open_ledger(book.store, book.time.clock())
    reservation = book.reservation(20 * CENT)
    await dead.reserve(reservation)
    book.time.now += 31 * 10**9
    await book.ledger.sweep()

    book.budget()
    assert book.balance() == (20 * CENT, 0, 0)
    await dead.finish(book.end(reservation, 5 * CENT))

    assert book.balance() == (5 * CENT, 0, 0)
    book.budget(period="week")
    assert book.balance() == (5 * CENT, 0, 0)
    await dead.close()


async def test_removing_a_budget_forgives_nothing(book: Book) -> None:
    """A budget set again counts the entire period, including the time without it."""
    book.budget()
    await spend(book, 3 * CENT)
    flying = await hold(book, 10 * CENT)
    remove(book)
    await spend(book, 4 * CENT)
    assert (await book.ledger.finish(book.end(flying, 1 * CENT))).remaining_nano is None

    book.budget()

    assert book.balance() == (8 * CENT, 0, 0)
    await spend(book, 1 * CENT)
    assert book.balance() == (9 * CENT, 0, 0)


async def test_renaming_a_budget_keeps_its_spend(book: Book) -> None:
    """One name is replaced by another in one step, as `apply --prune` does."""
    old = book.budget("old")
    await spend(book, 3 * CENT)
    flying = await hold(book, 10 * CENT)
    records = book.store.records("create")
    records.set_budgets([replace(old, name="new")], book.time.now, remove=["old"])
    records.close()

    assert book.balance("new") == (3 * CENT, 10 * CENT, 0)
    await book.ledger.finish(book.end(flying, 5 * CENT))
    assert book.balance("new") == (8 * CENT, 0, 0)


async def test_two_budgets_of_one_subject_count_alike(book: Book) -> None:
    """A warning and a limit on the same customer: both count every attempt once, and the lower
    blocking one decides."""
    book.budget("warn", action="warn", limit_nano=5 * CENT)
    book.budget("low", limit_nano=12 * CENT)
    book.budget("high", limit_nano=100 * CENT)
    book.budget("each", subject="*", limit_nano=100 * CENT)

    held = await book.ledger.reserve(book.reservation(10 * CENT))

    assert (held.remaining_nano, held.warned) == (2 * CENT, ("warn",))
    for name in ("warn", "low", "high", "each"):
        assert book.balance(name) == (0, 10 * CENT, 0)
    with pytest.raises(BudgetExceededError) as caught:
        await book.ledger.reserve(book.reservation(3 * CENT))
    assert caught.value.refusal.budget == "low"


async def test_a_star_that_becomes_a_name_keeps_that_ones_spend(book: Book) -> None:
    """Switched back, the others' spend counts again, including what they spent meanwhile."""
    book.budget(subject="*")
    await spend(book, 1 * CENT)
    await spend(book, 2 * CENT, customer="globex")

    book.budget(subject="acme")
    assert book.accounts("b") == {"acme": (1 * CENT, 0, 0)}
    await spend(book, 4 * CENT, customer="globex")
    await spend(book, 8 * CENT)
    book.budget(subject="*")

    assert book.accounts("b") == {"acme": (9 * CENT, 0, 0), "globex": (6 * CENT, 0, 0)}


async def test_another_time_zone_counts_its_own_day(book: Book) -> None:
    """Berlin's day began an hour before UTC's; what was spent in that hour is Berlin's today."""
    at(book, "2026-11-22T23:30")
    await spend(book, 3 * CENT)
    at(book, "2026-11-23T12:00")
    book.budget(period="day")
    assert book.balance() == (0, 0, 0)

    book.budget(period="day", timezone="Europe/Berlin")
    assert book.balance() == (3 * CENT, 0, 0)


async def test_time_zones_that_part_within_the_period(book: Book) -> None:
    """Two zones whose month begins at the same time but ends at different times are two
    accounts: March in London ends an hour before March in Abidjan."""
    book.budget(timezone="Africa/Abidjan")
    at(book, "2026-03-31T22:30")
    await spend(book, 3 * CENT)
    at(book, "2026-03-31T23:30")
    await spend(book, 4 * CENT)
    assert book.balance() == (7 * CENT, 0, 0)

    book.budget(timezone="Europe/London")  # it is April there
    assert book.balance() == (4 * CENT, 0, 0)
    at(book, "2026-03-31T22:30")
    book.budget(timezone="Africa/Abidjan")
    book.budget(timezone="Europe/London")
    assert book.balance() == (3 * CENT, 0, 0)


async def test_a_lowered_limit_lets_nothing_in(book: Book) -> None:
    """A limit below what is spent and held leaves no room, and the remainder is never negative."""
    book.budget()
    await spend(book, 30 * CENT)
    flying = await hold(book, 20 * CENT)

    book.budget(limit_nano=40 * CENT)
    for size in (1, 0):
        with pytest.raises(BudgetExceededError):
            await book.ledger.reserve(book.reservation(size))

    settled = await book.ledger.finish(book.end(flying, 20 * CENT))
    assert settled.remaining_nano == 0
    book.budget(limit_nano=51 * CENT)
    await book.ledger.reserve(book.reservation(CENT))


async def test_a_clock_set_back_over_a_periods_end(book: Book) -> None:
    """Each attempt counts in the period its gateway's clock showed, whichever way the clock moved."""
    book.budget(period="day")
    at(book, "2026-11-24T00:01")
    await spend(book, 3 * CENT)
    at(book, "2026-11-23T23:59")
    await spend(book, 4 * CENT)
    flying = await hold(book, 5 * CENT)
    at(book, "2026-11-24T00:02")
    await book.ledger.finish(book.end(flying, 5 * CENT))

    assert book.balance() == (3 * CENT, 0, 0)
    at(book, "2026-11-23T23:59")
    assert book.balance() == (9 * CENT, 0, 0)
    book.budget(period="week")
    assert book.balance() == (12 * CENT, 0, 0)


async def test_a_revoked_keys_requests_end_as_they_began(book: Book) -> None:
    """Revoking a key stops later requests; those in flight settle on the key's budget."""
    records = book.store.records("create")
    secret, key = records.create_key("acme", "", (), book.time.now)
    book.budget(scope="key", subject=key.id)
    reservation = book.reservation(10 * CENT, key_id=key.id)
    await book.ledger.reserve(reservation)

    records.revoke_key(key.id, book.time.now)
    records.close()
    await book.ledger.finish(book.end(reservation, 7 * CENT))

    assert book.balance() == (7 * CENT, 0, 0)
    found = await book.ledger.find_key(key_digest(secret))
    assert found is not None
    assert found.key.revoked_ns is not None


async def test_opening_counts_what_ends_while_it_reads(
    book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows are read without a lock; what a gateway records meanwhile is counted once."""
    await spend(book, 3 * CENT)
    flying = await hold(book, 10 * CENT)
    records = book.store.records("create")
    ends = [book.end(flying, 4 * CENT)]

    read = Opening.read

    def meanwhile(opening: Opening, rows: OpeningRows) -> None:
        """The read is done, the lock is not held yet."""
        read(opening, rows)
        other = book.store.writer("other", 30 * 10**9, book.time.now_ns)
        late = book.reservation(2 * CENT)
        other.commit([ends.pop(), late, book.end(late, 1 * CENT)])
        other.close()

    monkeypatch.setattr(Opening, "read", meanwhile)
    records.set_budgets([Budget("b", "customer", "acme", 10**9, "month")], book.time.now)
    records.close()

    assert not ends
    assert book.balance() == (8 * CENT, 0, 0)


async def test_amounts_up_to_what_64_bits_hold(book: Book) -> None:
    """A limit of 4.6 billion dollars is kept to the nano-dollar."""
    book.budget(limit_nano=MAX_NANO)
    await spend(book, MAX_NANO // 2)
    flying = await hold(book, MAX_NANO // 2 - 1)
    with pytest.raises(BudgetExceededError):
        await book.ledger.reserve(book.reservation(2))
    await book.ledger.reserve(book.reservation(1))

    await book.ledger.finish(book.end(flying, MAX_NANO // 2 - 1))
    assert book.balance() == (MAX_NANO - 1, 1, 0)
    book.budget(limit_nano=MAX_NANO, period="week")
    assert book.balance() == (MAX_NANO - 1, 1, 0)


@pytest.mark.parametrize(
    "name",
    ["a" * 128, "Ünïcode ✓", "'; DROP TABLE balances; --", '"], ["b", "customer', "a/b", "%", "_"],
)
async def test_odd_names_are_names(book: Book, name: str) -> None:
    """Whatever its name, a customer has its own account, recounted on a change."""
    book.budget(subject="*")
    await spend(book, 3 * CENT, customer=name)
    flying = await hold(book, 2 * CENT, customer=name)
    await spend(book, 1 * CENT, customer="acme")

    book.budget(name, subject=name, period="week")
    await book.ledger.finish(book.end(flying, 2 * CENT))

    assert book.accounts("b") == {name: (5 * CENT, 0, 0), "acme": (CENT, 0, 0)}
    assert book.accounts(name) == {name: (5 * CENT, 0, 0)}


async def test_an_account_says_which_part_is_wrong(book: Book) -> None:
    """`ledger verify` also recomputes opened accounts and detects a nano-dollar."""
    await spend(book, 3 * CENT)
    book.budget()
    raw(book.store, "UPDATE balances SET spent_nano = spent_nano + 1")

    assert len(book.problems()) == 1

    raw(book.store, "UPDATE balances SET spent_nano = spent_nano - 1")


async def test_a_one_time_budget_limits_nothing_else(book: Book) -> None:
    """It counts from its beginning on, whenever it was set, and ends without another period."""
    at(book, "2026-11-30T23:59")
    book.budget(period="once@2026-12-01..2026-12-03", limit_nano=5 * CENT)
    early = await hold(book, 9 * CENT)
    assert book.balance() == (0, 0, 0)

    at(book, "2026-12-01T00:00")
    await book.ledger.finish(book.end(early, 9 * CENT))  # it was admitted before
    await spend(book, 3 * CENT)
    with pytest.raises(BudgetExceededError, match="it ends at 2026-12-03T00:00:00Z"):
        await hold(book, 3 * CENT)
    late = await hold(book, 2 * CENT)
    book.budget(period="once@2026-12-01..2026-12-04", limit_nano=5 * CENT)
    assert book.balance() == (3 * CENT, 2 * CENT, 0)

    at(book, "2026-12-04T00:00")
    await spend(book, 50 * CENT)
    await book.ledger.finish(book.end(late, 1 * CENT))
    assert book.balance() == (4 * CENT, 0, 0)
    book.budget(period="once@2026-12-01..2026-12-03", limit_nano=CENT)  # too late to count
    await spend(book, 50 * CENT)


async def test_a_budget_limits_only_while_it_is_valid(book: Book) -> None:
    """It counts from its first moment on, renews meanwhile, and ends with its last."""
    at(book, "2026-12-01T08:00")
    await spend(book, 9 * CENT)
    book.budget(period="day[2026-12-01T12:00..2026-12-02T18:00]", limit_nano=5 * CENT)
    await spend(book, 9 * CENT)

    at(book, "2026-12-01T12:00")
    assert book.balance() == (0, 0, 0)
    await spend(book, 5 * CENT)
    with pytest.raises(BudgetExceededError, match="it renews at 2026-12-02T00:00:00Z"):
        await hold(book, CENT)
    at(book, "2026-12-02T00:00")
    await spend(book, 5 * CENT)
    with pytest.raises(BudgetExceededError, match="it ends at 2026-12-02T18:00:00Z"):
        await hold(book, CENT)
    book.budget(period="day[2026-12-01T12:00..2026-12-02T19:00]", limit_nano=5 * CENT)
    assert book.balance() == (5 * CENT, 0, 0)  # a later end forgives nothing

    at(book, "2026-12-02T19:00")
    await spend(book, 9 * CENT)
    assert book.balance() == (5 * CENT, 0, 0)


async def test_a_budget_that_never_renews_says_so(book: Book) -> None:
    """It counts everything since its beginning, and refuses from then on."""
    await spend(book, 4 * CENT)
    book.budget(period="once@2020-01-01", limit_nano=5 * CENT)

    with pytest.raises(BudgetExceededError, match="it does not renew") as refused:
        await hold(book, 2 * CENT)

    assert refused.value.refusal.renews_at is None
    assert book.balance() == (4 * CENT, 0, 0)


async def test_a_billing_month_begins_on_its_day(book: Book) -> None:
    """Counted from the 31st, November's is over on its last day."""
    at(book, "2026-11-29T23:59")
    book.budget(period="month/31", limit_nano=5 * CENT)
    await spend(book, 4 * CENT)
    with pytest.raises(BudgetExceededError, match="it renews at 2026-11-30T00:00:00Z"):
        await hold(book, 2 * CENT)

    at(book, "2026-11-30T00:00")
    await spend(book, 2 * CENT)
    assert book.balance() == (2 * CENT, 0, 0)
    at(book, "2026-12-30T23:59")
    assert book.balance() == (2 * CENT, 0, 0)
    at(book, "2026-12-31T00:00")
    assert book.balance() == (0, 0, 0)
