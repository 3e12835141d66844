"""Allowances: what a process may spend while the ledger is unavailable, and what bounds it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanledger.budgets.allowances import MAX_CLOSED, Allowances, Granted
from spanledger.budgets.model import Budget, BudgetState, HoldSizes
from spanledger.budgets.periods import period_at
from spanledger.budgets.scopes import Dimensions
from spanledger.errors import LedgerUnavailableError, Refusal

NOON_S = 1_795_435_200
"""2026-11-23 12:00 UTC, a Monday."""
DAY_S = 86_400
ACME: Dimensions = ("acme", "key_1", "red", "m1", "openai")
OTHER: Dimensions = ("other", "key_2", "red", "m1", "openai")


def budget(name: str = "b", allowed: int = 100, **changes: object) -> Budget:
    """A budget of 1,000 a day for customer acme, unless overridden."""
    settings: dict[str, object] = {
        "scope": "customer",
        "subject": "acme",
        "limit_nano": 1_000,
        "period": "day",
        "allow_when_down_nano": allowed,
    }
    return Budget(name=name, **(settings | changes))  # type: ignore[arg-type]  # test shorthand


def allowances(*budgets: Budget) -> Allowances:
    """The allowances of these budgets, with nothing used."""
    made = Allowances()
    made.renew(budgets)
    return made


def exactly(nano: int) -> HoldSizes:
    """An attempt that holds this much or nothing."""
    return HoldSizes(nano, nano, nano)


def state(of: Budget, spent: int, held: int = 0, subject: str = "acme") -> BudgetState:
    """An account in today's period."""
    period = period_at(of.period, of.timezone, NOON_S)
    return BudgetState(of, subject, spent, held, 0, period.start_s, period.end_s)


def refusal(of: Budget) -> Refusal:
    """What the ledger says when a budget has no room."""
    return Refusal(of.name, of.scope, "acme", of.limit_nano, of.limit_nano, 0, 1, NOON_S + DAY_S)


def test_an_allowance_is_what_may_be_held_and_no_more() -> None:
    """Holds up to the allowance are granted, the next nano-dollar is not, and a settled attempt
    leaves what it did not cost."""
    made = allowances(budget(allowed=100))
    first = made.grant(ACME, NOON_S, exactly(60))
    second = made.grant(ACME, NOON_S, exactly(40))

    assert (first.remaining_nano, second.remaining_nano) == (40, 0)
    with pytest.raises(LedgerUnavailableError, match="too little is left"):
        made.grant(ACME, NOON_S, exactly(1))
    made.settle(first, 10)
    assert made.grant(ACME, NOON_S, exactly(50)).remaining_nano == 0


def test_every_budget_that_blocks_must_allow_it() -> None:
    """One blocking budget without an allowance refuses, whatever the others allow; one that warns
    does not."""
    everybody = budget("all", 0, scope="global", subject="*")
    with pytest.raises(LedgerUnavailableError, match="'all' allows nothing"):
        allowances(budget(), everybody).grant(ACME, NOON_S, exactly(1))

    warns = budget("all", 0, scope="global", subject="*", action="warn")
    assert allowances(budget(), warns).grant(ACME, NOON_S, exactly(1)).hold_nano == 1


def test_without_a_budget_nothing_is_allowed() -> None:
    """An attempt that no budget with an allowance counts is refused."""
    with pytest.raises(LedgerUnavailableError, match="no budget allows"):
        allowances(budget()).grant(OTHER, NOON_S, exactly(0))


def test_a_budget_that_warns_may_allow() -> None:
    """An allowance bounds what is spent also under a budget that only warns."""
    made = allowances(budget(allowed=5, action="warn"))

    assert made.grant(ACME, NOON_S, exactly(5)).hold_nano == 5
    with pytest.raises(LedgerUnavailableError):
        made.grant(ACME, NOON_S, exactly(1))


def test_each_subject_has_its_own_allowance() -> None:
    """A budget for each customer allows each of them the same."""
    made = allowances(budget(subject="*", allowed=5))

    assert made.grant(ACME, NOON_S, exactly(5)).remaining_nano == 0
    assert made.grant(OTHER, NOON_S, exactly(5)).remaining_nano == 0


def test_a_hold_follows_the_ladder() -> None:
    """A caller without a cap holds the usual size when the full one is more than a tenth of what is
    left, and a strict budget gives all that is left."""
    sizes = HoldSizes(full=80, usual=30, least=2)

    assert allowances(budget(allowed=100)).grant(ACME, NOON_S, sizes).hold_nano == 30
    assert allowances(budget(allowed=10, strict=True)).grant(ACME, NOON_S, sizes).hold_nano == 10


def test_a_new_period_has_a_new_allowance() -> None:
    """What was used yesterday does not count today."""
    made = allowances(budget(allowed=5))
    made.grant(ACME, NOON_S, exactly(5))

    assert made.grant(ACME, NOON_S + DAY_S, exactly(5)).remaining_nano == 0


def test_what_is_over_the_limit_is_used_already() -> None:
    """After an outage, a budget allows only what it is not over its limit by; within its limit it
    allows everything again."""
    one = budget(allowed=100)
    made = allowances(one)
    made.grant(ACME, NOON_S, exactly(100))
    made.start_from([state(one, spent=1_000, held=30)])

    assert made.grant(ACME, NOON_S, exactly(70)).remaining_nano == 0
    made.start_from([state(one, spent=999)])
    assert made.grant(ACME, NOON_S, exactly(100)).remaining_nano == 0


def test_an_account_that_refused_stays_closed() -> None:
    """An account that had no room before the outage gets none in it, until the period ends, the limit is
    raised, or the ledger admits an attempt."""
    one = budget(allowed=100)
    made = allowances(one)
    made.refused(refusal(one), NOON_S)

    with pytest.raises(LedgerUnavailableError, match="had no room before"):
        made.grant(ACME, NOON_S, exactly(1))
    assert made.grant(ACME, NOON_S + DAY_S, exactly(1)).hold_nano == 1
    made.admitted(ACME)
    assert made.grant(ACME, NOON_S, exactly(1)).hold_nano == 1
    made.refused(refusal(one), NOON_S)
    made.renew([budget(allowed=100, limit_nano=2_000)])
    assert made.grant(ACME, NOON_S, exactly(1)).hold_nano == 1


def test_closed_accounts_are_bounded() -> None:
    """However many subjects are refused, only the latest are remembered."""
    each = budget(subject="*")
    made = allowances(each)
    for number in range(MAX_CLOSED + 10):
        of = Refusal("b", "customer", f"c{number}", 1_000, 1_000, 0, 1, NOON_S + DAY_S)
        made.refused(of, NOON_S)

    assert len(made.closed) == MAX_CLOSED
    assert ("b", "c0") not in made.closed


@pytest.mark.parametrize(
    ("budgets", "has"),
    [
        ([], False),
        ([budget(allowed=0)], False),
        ([budget(allowed=1)], True),
        ([budget(allowed=1), budget("all", 0, scope="global", subject="*")], False),
        ([budget(allowed=1), budget("all", 1, scope="global", subject="*")], True),
        ([budget(allowed=1, subject="*")], True),
    ],
)
def test_room_of_anybody(budgets: list[Budget], has: bool) -> None:
    """There is room if some attempt could be admitted."""
    assert allowances(*budgets).has_room(NOON_S) is has


def test_no_room_once_everything_is_used() -> None:
    """A named account with nothing left has no room."""
    made = allowances(budget(allowed=5))
    made.grant(ACME, NOON_S, exactly(5))

    assert not made.has_room(NOON_S)


LIMIT, ALLOWED = 20, 7
STEPS = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from(["ledger", "journal", "back"]), st.integers(1, 9)),
    max_size=40,
)


@given(steps=STEPS)
def test_a_budget_is_over_by_at_most_the_allowance_of_each_process(
    steps: list[tuple[int, str, int]],
) -> None:
    """Whatever three processes do, and however often each loses the ledger, alone or with others,
    what is spent is at most the limit and an allowance for each of them."""
    one = budget(allowed=ALLOWED, limit_nano=LIMIT)
    processes = [allowances(one) for _ in range(3)]
    journals: list[list[tuple[Granted, int]]] = [[], [], []]
    ledger = 0
    for which, what, nano in steps:
        if what == "ledger":
            ledger += nano if ledger + nano <= LIMIT else 0
        elif what == "journal":
            try:
                granted = processes[which].grant(ACME, NOON_S, exactly(nano))
            except LedgerUnavailableError:
                continue
            journals[which].append((granted, nano))
        elif what == "back":
            ledger += sum(nano for _, nano in journals[which])
            journals[which].clear()
            processes[which].start_from([state(one, ledger)])
        waiting = sum(nano for journal in journals for _, nano in journal)
        assert ledger + waiting <= LIMIT + 3 * ALLOWED
