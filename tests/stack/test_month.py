"""The month of `bench/dashboards.py`, in small: it has what dashboards and rules ask for, and what they
ask beyond a day is little."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from bench.dashboards import Store, Timed, measure, read_beyond_a_day
from bench.month import DAY_S, Month, Size
from bench.month_store import FLAGS, Stored, looked_back_at, stored
from tools.replay_alerts import prometheus

from prometheus.src import long, recording
from prometheus.src.model import Recording
from prometheus.src.thresholds import DEFAULT
from spanledger.telemetry.signals import METRICS, SCRAPED, prometheus_series
from tests.e2e.test_dashboards import NO_VALUE_YET
from tests.rules.harness import program
from tests.stack.boards import EMPTY_BY_DESIGN

DAYS = 2
SMALL = Size(
    customers=6,
    named=4,
    models=3,
    deployments=4,
    routes=2,
    requests_per_s=1,
    apart_s=60,
    days=DAYS,
    whole=read_beyond_a_day(),
)
RULES = [r for g in recording.groups(DEFAULT) for r in g.rules if isinstance(r, Recording)]

pytestmark = pytest.mark.timeout(300)


@dataclass(frozen=True, slots=True)
class Measured:
    """A store, and the answers to every query of it."""

    month: Stored
    queries: list[Timed]
    rules: list[Timed]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """Built as by the benchmark, and queried once."""
    if program("prometheus") is None or program("promtool") is None:
        pytest.skip("no prometheus: `make toolchain` builds it")
    month = stored(tmp_path_factory.mktemp("month") / "store", SMALL)
    with prometheus(month.folder, *FLAGS) as url:
        queries, rules = measure(Store(url, month.end_s), DAYS, rounds=1)
    return Measured(month, queries, rules)


def test_every_query_finds_something(measured: Measured) -> None:
    """A query that finds nothing would be timed as fast."""
    silent = {f"{place} {ref}" for _, place, ref in EMPTY_BY_DESIGN}
    silent |= {f"{name} variable" for name in NO_VALUE_YET}
    empty = [one.name for one in measured.queries if one.shown == f"{DAYS} days" and not one.series]

    assert [name for name in empty if name.partition(": ")[2] not in silent] == []


def test_every_rule_reads_something(measured: Measured) -> None:
    """The same goes for a rule; only signals that are never sent while all is well are empty."""
    assert [one.params["query"] for one in measured.rules if not one.samples] == []


def test_a_store_is_kept(measured: Measured) -> None:
    """An existing store is reused, but not one of a different size."""
    folder = measured.month.folder
    assert stored(folder, SMALL) == measured.month
    with pytest.raises(SystemExit, match="another month"):
        stored(folder, Size())


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    """Nothing is written into a folder with other content."""
    (tmp_path / "data").mkdir()
    with pytest.raises(SystemExit, match="is not empty"):
        stored(tmp_path, SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_every_signal_is_in_the_month() -> None:
    """A new signal is in the benchmark from the start."""
    month = Month(int(time.time()) - DAYS * DAY_S, SMALL)
    made = {one.name.partition("{")[0] for one in month.series()}
    registered = {name for metric in METRICS for name in prometheus_series(metric)}
    registered |= {name for scraped in SCRAPED for name in prometheus_series(scraped)}

    assert registered - made == set()
    assert {long.copy_of(name) for name in long.COPIED} - made == set()


def test_beyond_a_day_copies_are_read() -> None:
    """No query reads the original of a series of which there are many for as long as the time shown."""
    assert read_beyond_a_day() & set(long.COPIED) == set()


def test_rules_look_back_at_what_rules_recorded() -> None:
    """Only recorded series, and few of them, are kept in the store for a week."""
    looked_back = looked_back_at(RULES)
    assert recording.SPEND_1H in looked_back
    assert recording.USED not in looked_back
