"""A sample of `make prove-holds`: no hold is below its bill, and the ledger is the bill."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bounds.site import WIRES, running_trial

REQUESTS = 300
SEED = 7
FREE = ("moderations",)
CONTRACTS = {"": 875_000, "@dense": 1_200_000}
FEW = 60


@pytest.mark.parametrize("wire", WIRES)
def test_what_is_held_is_a_bound(wire: str, tmp_path: Path) -> None:
    """Random requests in this wire, at models that speak it and at others, cost what the providers bill and
    at most what was held; no budget is overrun and the ledger adds up."""
    with running_trial(tmp_path) as trial:
        result = trial.run(wire, REQUESTS, SEED)

        assert result.under == []
        assert result.differences == []
        assert result.overruns == []
        assert result.beyond == []
        assert trial.problems() == []
    assert result.served > REQUESTS * 0.6, result.text()
    assert result.nearest > 0.5 or wire in FREE, result.text()


@pytest.mark.parametrize("wire", WIRES)
def test_what_is_held_is_a_bound_by_contract(wire: str, tmp_path: Path) -> None:
    """The same with a discount at one provider and a mark-up at the other: each attempt costs the
    contract's share of what is billed at list prices, and at most what was held."""
    with running_trial(tmp_path, CONTRACTS) as trial:
        result = trial.run(wire, FEW, SEED)

        assert result.under == []
        assert result.differences == []
        assert result.overruns == []
        assert trial.problems() == []
    assert result.served > FEW * 0.4, result.text()
