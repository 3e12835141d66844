"""Positions in the outbox, and accounts that were opened at one."""

from __future__ import annotations

import json
from typing import NamedTuple

import pytest

from spanledger.budgets.accounts import AccountKey, Balance
from spanledger.budgets.scopes import SCOPE_NAMES
from spanledger.ledger.lanes import START, Position, one_lane
from spanledger.ledger.model import Verification
from spanledger.ledger.verify import CountedAttempt, check_balances

KEY = AccountKey("b", "customer", "month", "UTC", 0, "acme")
OPENING = 7


class Row(NamedTuple):
    """An ended row, as far as a position cares."""

    lane: int
    seq: int


def test_each_lane_moves_on_its_own() -> None:
    """Behind some rows, each of their lanes is at its last row, and the others stay."""
    here = START.past([Row(0, 3), Row(2, 9)])
    there = here.past([Row(2, 10), Row(1, 1), Row(2, 12)])

    assert [there.of(lane) for lane in range(4)] == [3, 1, 12, 0]
    assert [here.of(lane) for lane in range(4)] == [3, 0, 9, 0]
    assert dict(there.lanes()) == {0: 3, 1: 1, 2: 12}
    assert there == Position({1: 1, 2: 12, 0: 3})
    assert here.past([]) == here
    assert Position({0: 0, 1: 4}).same_as(Position({1: 4}))
    assert not Position({1: 4}).same_as(Position({1: 4, 2: 1}))


def test_a_position_tells_whether_anything_is_before_it() -> None:
    """Only the start has nothing before it, whichever lanes are named."""
    assert not START
    assert not one_lane(0)
    assert one_lane(1)
    assert Position({0: 0, 5: 1})


def settled(lane: int, seq: int, cost: int, *, named: bool = False) -> CountedAttempt:
    """A settled attempt of acme's, which names its account or not."""
    accounts = json.dumps([KEY] if named else [])
    subjects = ("acme" if name == "customer" else "" for name in SCOPE_NAMES)
    return ("settled", cost, cost, 0, accounts, lane, seq, 5, *subjects)


@pytest.mark.parametrize(("spent", "problems"), [(1 + 10 + 1_000, 0), (1 + 10, 1), (1_111, 1)])
def test_an_account_counts_what_was_settled_before_its_position(spent: int, problems: int) -> None:
    """An account that was opened when lane 0 was at 2 and lane 1 at 9 counts by their subjects the
    rows up to there, in each lane, and later ones only if they name it."""
    attempts = [
        settled(0, 2, 1),
        settled(1, 9, 10),
        settled(0, 3, 100),
        settled(1, 10, 1_000, named=True),
    ]
    balance = Balance(KEY, 1, spent, opened_seq=OPENING)
    found = Verification()

    check_balances([balance], attempts, {OPENING: Position({0: 2, 1: 9})}.__getitem__, 0, found)

    assert len(found.problems) == problems
