"""Several processes on one ledger."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from spanledger.budgets.model import Budget
from spanledger.ledger.ports import Store

STORM = Path(__file__).with_name("storm.py")


@pytest.mark.parametrize(
    ("cost", "admitted"),
    [
        pytest.param(-1, 37, id="holds kept"),
        pytest.param(10, 37, id="settled at their hold"),
    ],
)
def test_four_processes_on_a_nearly_empty_budget(store: Store, cost: int, admitted: int) -> None:
    """Four processes, 200 callers: exactly as many are admitted as the money allows."""
    records = store.records("create")
    records.set_budgets([Budget("b", "customer", "acme", 375, "month")], time.time_ns())
    records.close()
    storms = [
        subprocess.Popen(
            [sys.executable, str(STORM), store.url, "50", "10", str(cost)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for storm in storms:
        assert storm.stdout is not None
        assert storm.stdout.readline() == "ready\n"

    outputs = [storm.communicate("go\n", timeout=60)[0] for storm in storms]

    assert sum(int(output) for output in outputs) == admitted
    reports = store.reports()
    [state] = reports.budget_states(int(time.time()))
    assert state.spent_nano + state.held_nano == admitted * 10
    assert reports.verify().problems == []
    reports.close()
