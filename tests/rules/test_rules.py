"""The alert rules, played by promtool: what fires, at which minute, and what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.rules import cases_budgets
from tests.rules.harness import Case, play

CASES: list[Case] = [*cases_budgets.CASES]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.alert}-{case.title}")
def test_what_fires_and_when(case: Case, tmp_path: Path) -> None:
    """An alert fires at the stated minute with these labels and texts, and not before."""
    assert play([case], tmp_path) == ""
