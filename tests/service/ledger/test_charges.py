"""What customers are charged: computed with the end of an attempt, by the rule of its hold."""

from __future__ import annotations

from fractions import Fraction
from math import ceil

import pytest
from msgspec.structs import replace

from spanledger.ledger import open_ledger
from spanledger.ledger.charges import ChargeRule
from spanledger.ledger.model import Later, RequestEnd, Reservation
from spanledger.money import WHOLE_SHARE
from tests.service.ledger.conftest import Book
from tests.service.ledger.stores import raw

CENT = 10**7
HOUR = 3_600 * 10**9
OF_COST = ChargeRule("acme", 1_200_000)
OF_LIST = ChargeRule("listed", 950_000, "list")


def rows(book: Book) -> list[tuple[object, ...]]:
    """State, cost, list price and charge of each attempt."""
    return raw(
        book.store,
        "SELECT state, cost_nano, list_nano, charge_nano FROM attempts ORDER BY request_id, number",
    )


def held(book: Book, rule: ChargeRule) -> Reservation:
    """An attempt whose customer is charged by a rule."""
    return replace(book.reservation(), charge_rule=rule.text)


@pytest.mark.parametrize("share", [0, 1, 950_000, WHOLE_SHARE, 1_000_001, 11 * WHOLE_SHARE])
async def test_a_charge_is_a_share_of_the_cost_rounded_up(book: Book, share: int) -> None:
    """To the nano-dollar, as fractions say; the balance has the cost."""
    book.budget()
    costs = [0, 1, 3, 999_999, 1_234_567]
    for cost in costs:
        reservation = held(book, ChargeRule("r", share))
        await book.ledger.reserve(reservation)
        await book.ledger.finish(book.end(reservation, cost))

    exact = [ceil(Fraction(cost) * Fraction(share, WHOLE_SHARE)) for cost in costs]
    assert [row[3] for row in rows(book)] == exact
    assert book.balance() == (sum(costs), 0, 0)


async def test_a_charge_may_be_of_the_list_price(book: Book) -> None:
    """Which comes with the end; without one, it is the cost."""
    for listed in (2 * CENT, None):
        reservation = held(book, OF_LIST)
        await book.ledger.reserve(reservation)
        await book.ledger.finish(replace(book.end(reservation, CENT), list_nano=listed))

    assert rows(book) == [
        ("settled", CENT, 2 * CENT, 2 * CENT * 95 // 100),
        ("settled", CENT, None, CENT * 95 // 100),
    ]


async def test_without_a_rule_the_charge_is_the_cost(book: Book) -> None:
    """Nothing is stored, and the report has the cost in all three columns."""
    reservation = book.reservation()
    await book.ledger.reserve(reservation)
    await book.ledger.finish(book.end(reservation, CENT))

    assert rows(book) == [("settled", CENT, None, None)]
    with book.store.reports() as reports:
        (row,) = reports.spend(("customer",))
    assert (row.list_nano, row.cost_nano, row.charge_nano) == (CENT, CENT, CENT)


async def test_reports_sum_list_price_cost_and_charge(book: Book) -> None:
    """By customer, with attempts that have no rule counted at their cost."""
    for rule, customer in ((OF_COST, "acme"), (None, "acme"), (OF_LIST, "globex")):
        reservation = book.reservation(customer=customer)
        reservation = replace(reservation, charge_rule=rule.text if rule else "")
        await book.ledger.reserve(reservation)
        await book.ledger.finish(replace(book.end(reservation, CENT), list_nano=2 * CENT))

    with book.store.reports() as reports:
        found = {row.group[0]: row for row in reports.spend(("customer",))}
    sums = {name: (row.list_nano, row.cost_nano, row.charge_nano) for name, row in found.items()}
    assert sums == {
        "acme": (4 * CENT, 2 * CENT, CENT * 12 // 10 + CENT),
        "globex": (2 * CENT, CENT, 2 * CENT * 95 // 100),
    }


async def test_nothing_is_charged_for_a_hold_that_is_released(book: Book) -> None:
    """The row says so."""
    reservation = held(book, OF_COST)
    await book.ledger.reserve(reservation)
    await book.ledger.finish(book.end(reservation, None))

    assert rows(book) == [("released", 0, None, 0)]


async def test_an_expired_hold_is_charged_and_corrected_by_its_rule(book: Book) -> None:
    """Another process, which has no configuration, charges the rule's share of the hold; the cost that
    comes late replaces it."""
    reservation = held(book, OF_LIST)
    await book.ledger.reserve(reservation)
    book.time.now += 2 * HOUR
    other = open_ledger(book.store, book.time.clock())
    await other.sweep()
    expired = rows(book)

    await other.finish(replace(book.end(reservation, CENT), list_nano=2 * CENT))
    await other.close()

    assert expired == [("expired", 10 * CENT, None, 10 * CENT * 95 // 100)]
    assert rows(book) == [("settled", CENT, 2 * CENT, 2 * CENT * 95 // 100)]


async def test_an_attempt_that_is_settled_later_has_the_rule_of_its_hold(book: Book) -> None:
    """By a process that did not hold it."""
    reservation = held(book, OF_COST)
    await book.ledger.reserve(reservation)
    done = RequestEnd("ok", "", 200, book.time.now)
    later = Later(book.time.now + 24 * HOUR, CENT)
    await book.ledger.end_request(reservation.request, done, later=later)

    other = open_ledger(book.store, book.time.clock())
    await other.finish(replace(book.end(reservation, CENT, last=False), late=True))
    await other.close()

    assert rows(book) == [("settled", CENT, None, CENT * 12 // 10)]


async def test_verify_finds_a_charge_without_a_rule(book: Book) -> None:
    """And a rule without a charge."""
    reservation = held(book, OF_COST)
    await book.ledger.reserve(reservation)
    await book.ledger.finish(book.end(reservation, CENT))
    assert book.problems() == []

    raw(book.store, "UPDATE attempts SET charge_rule = ''")
    (without_rule,) = book.problems()
    raw(book.store, "UPDATE attempts SET charge_nano = NULL")

    assert "charge" in without_rule
    assert book.problems() == []
