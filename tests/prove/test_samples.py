"""A sample of `make prove`: the first seeds of those scenarios that take seconds."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from tests.prove.__main__ import SCENARIOS
from tests.prove.kills import Kills
from tests.prove.proof import Report, Scenario, prove
from tests.prove.stateful import Stateful

OPENED: dict[str, Callable[[str], Scenario]] = {
    **SCENARIOS,
    "kills": partial(Kills, kills=4),
    "stateful": partial(Stateful, examples=6),
}
SAMPLES = [
    *(("sqlite", name, seeds) for name, seeds in {"storm": 3, "crowd": 1, "kills": 1}.items()),
    *(("sqlite", name, seeds) for name, seeds in {"clocks": 10, "stateful": 1}.items()),
    *(("postgres", name, seeds) for name, seeds in {"storm": 2, "crowd": 1, "clocks": 5}.items()),
    *(("postgres", name, 1) for name in ("stateful", "hours")),
    ("sqlite", "hours", 3),
]
TIME_S = 60.0


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("kind", "name", "seeds"), SAMPLES)
def test_the_first_seeds(kind: str, name: str, seeds: int) -> None:
    """No seed of the sample breaks a promise."""
    report = Report(name, kind, 1)

    prove(lambda: OPENED[name](kind), report, seeds, seconds=TIME_S)

    assert [failure.text for failure in report.failures] == []
    assert report.seeds > 0
