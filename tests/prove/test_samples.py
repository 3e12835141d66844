"""A sample of `make prove`: the first seeds of each scenario, on each kind of store."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from tests.prove.__main__ import SCENARIOS
from tests.prove.kills import Kills
from tests.prove.proof import Report, Scenario, prove
from tests.service.ledger.stores import KINDS

OPENED: dict[str, Callable[[str], Scenario]] = {**SCENARIOS, "kills": partial(Kills, kills=4)}
SAMPLES = {"storm": 3, "crowd": 1, "kills": 1, "clocks": 10, "stateful": 1}
TIME_S = 60.0


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SAMPLES)
def test_the_first_seeds(name: str, kind: str) -> None:
    """No seed of the sample breaks a promise."""
    report = Report(name, kind, 1)

    prove(lambda: OPENED[name](kind), report, SAMPLES[name], seconds=TIME_S)

    assert [failure.text for failure in report.failures] == []
    assert report.seeds > 0
