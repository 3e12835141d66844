"""A sample of `python -m tests.bounds.spend`: what a budget gets for its money before it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from spanledger.ledger.ports import Store
from tests.bounds.spend import USD, WANTED, spend
from tests.service.ledger.stores import KINDS, new_store

CHEAP = ("gpt-4o-mini", "gpt-4.1-mini")
LIMIT = USD * 6 // 10


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """A ledger of each kind."""
    return new_store(request.param, tmp_path)


@pytest.mark.timeout(300)
def test_agents_spend_a_budget_to_its_end(store: Store) -> None:
    """Agents whose most expensive request is a hundredth of the limit spend 97% of it before the first refusal,
    and nothing beyond it."""
    spent = spend(store, LIMIT, 11, models=CHEAP)

    assert spent.share >= WANTED, spent.text()
    assert (spent.overshoot_nano, spent.overrun_nano, spent.problems) == (0, 0, [])


@pytest.mark.timeout(300)
def test_strict_agents_never_pass_the_limit(store: Store) -> None:
    """Under a strict budget only bounds are held, and the rest buys shorter answers."""
    spent = spend(store, LIMIT, 12, models=CHEAP, strict=True)

    assert (spent.overshoot_nano, spent.overrun_nano, spent.problems) == (0, 0, [])
    assert spent.share >= 0.9, spent.text()
