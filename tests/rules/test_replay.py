"""Days of simulated traffic through the real rules in a real Prometheus: all found, nothing else.

Eight days with all ten incidents in every run, as thirty take minutes on a busy machine;
`SPANLEDGER_REPLAY_DAYS=30` runs the entire month.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from tools import replay_alerts
from tools.replay_alerts import Firing, firings, judge, of_csv, of_history, replay
from tools.replay_history import DAY, LIMITS, MONTHS_S, RENEWAL, START_S, STEPS, History

from prometheus.src.model import Alert
from prometheus.src.thresholds import DEFAULT
from tests.rules.harness import NAMES, ROOT, program
from tests.rules.world import collectors, scraped, sent

DAYS = int(os.environ.get("SPANLEDGER_REPLAY_DAYS", "8"))
MAX_FALSE = 1
"""False alerts in a run, of a month or of days."""

needs_prometheus = pytest.mark.skipif(
    program("prometheus") is None or program("promtool") is None,
    reason="no prometheus or promtool: `make toolchain` builds them",
)


def crossings(history: History) -> Counter[tuple[str, str, str, float]]:
    """Budget, period, step and minute of each crossing, from what was spent."""
    found: Counter[tuple[str, str, str, float]] = Counter()
    for customer, limit in LIMITS.items():
        spent = limit * 0.4
        for minute in range(history.minutes):
            before = spent
            spent = (0.0 if minute == RENEWAL else spent) + history.spent[customer][minute]
            for percent in STEPS:
                step = limit * percent / 100
                if (minute == RENEWAL or before < step) and spent >= step:
                    period = str(MONTHS_S[minute >= RENEWAL])
                    found[customer, period, str(percent), START_S + 60 * minute] += 1
    return found


@needs_prometheus
@pytest.mark.timeout(600)
def test_every_incident_is_found_and_little_else(tmp_path: Path) -> None:
    """Ten incidents are found in time, each threshold alerts once, and false alerts are few."""
    history = History(DAYS)
    span = (START_S, START_S + 60 * (DAYS * DAY - 1))

    found = replay(of_history(history), span, tmp_path, DEFAULT)
    late, false = judge(found, history.incidents)
    steps = Counter(
        (f.labels["budget"], f.labels["period_start"], f.labels["threshold"], f.start_s)
        for f in found
        if f.alert == "BudgetThresholdCrossed"
    )

    assert len(history.incidents) == 10
    assert late == []
    assert len(false) <= MAX_FALSE, [replay_alerts.line(firing) for firing in false]
    assert steps
    assert steps == crossings(history)


@needs_prometheus
def test_a_history_of_ones_own(tmp_path: Path) -> None:
    """A CSV is replayed unchanged: a budget at its limit from a given minute, and nothing before."""
    name = 'spanledger_budget_{}{{budget="b",scope="customer",subject="acme"{}}}'
    rows = ["time,series,value"]
    for minute in range(60):
        values = {"spent_usd": 4 if minute < 30 else 10, "limit_usd": 10}
        periods = {
            "period_start_seconds": START_S - 86_400,
            "period_end_seconds": START_S + 864_000,
        }
        steps = {f"threshold_ratio {step}": step / 100 for step in STEPS}
        for key, value in (values | periods | steps).items():
            gauge, _, step = key.partition(" ")
            extra = f',threshold="{step}"' if step else ""
            quoted = name.format(gauge, extra).replace('"', '""')
            rows.append(f'{START_S + 60 * minute},"{quoted}",{value}')
    path = tmp_path / "own.csv"
    path.write_text("\n".join(rows), encoding="utf-8")
    series, span = of_csv(path)

    found = replay(series, span, tmp_path, DEFAULT)
    budgets = [f for f in found if f.alert.startswith("Budget")]

    assert Counter((f.alert, (f.start_s - START_S) / 60) for f in budgets) == {
        ("BudgetThresholdCrossed", 30): 3,
        ("BudgetExhausted", 31): 1,
    }
    assert {f.alert for f in found} <= set(NAMES)


HEADER = "time,series,value\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no samples"),
        (HEADER, "has no samples"),
        ("at,name,v\n1794355200,up,1\n", r"own\.csv:1: .*'at,name,v'"),
        (HEADER + "1794355200,up,1\nnever,up,1\n", r"own\.csv:3: .*'never'"),
        (HEADER + "1794355200,up\n", r"own\.csv:2: a row"),
        (HEADER + "1794355200,up,1,2\n", r"own\.csv:2: a row"),
        (HEADER + "1794355200000,up,1\n", r"own\.csv:2: .*Unix seconds"),
        (HEADER + "nan,up,1\n", r"own\.csv:2: .*Unix seconds"),
        (HEADER + "1794355200,up,1\n1794355200,up,2\n", r"own\.csv:3: up has two values"),
        (HEADER + "1794355200,up{a=b},1\n", r"own\.csv:2: 'up\{a=b\}' is not a series"),
        (HEADER + '1794355200,"up\n# EOF",1\n', "is not a series"),
        (HEADER + "1000000000,up,1\n1794355200,up,1\n", "more than 400 days"),
        ("\x00\udcff", "cannot be read"),
    ],
)
def test_a_broken_csv_is_named(text: str, said: str, tmp_path: Path) -> None:
    """An invalid history fails with its file, its line and what is wrong."""
    path = tmp_path / "own.csv"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))

    with pytest.raises(replay_alerts.ReplayError, match=said):
        of_csv(path)


def test_a_csv_in_any_order(tmp_path: Path) -> None:
    """Rows may be in any order, the file may begin with a BOM, and a repeated row is one sample."""
    path = tmp_path / "own.csv"
    rows = "1794355260,up,2\r\n1794355200,up,1\r\n1794355260,up,2\r\n"
    path.write_text(f"time,series,value\r\n{rows}", encoding="utf-8-sig")

    series, span = of_csv(path)

    assert series == [("up", [(1_794_355_200, 1.0), (1_794_355_260, 2.0)])]
    assert span == (1_794_355_200, 1_794_355_260)


def command(*words: str) -> subprocess.CompletedProcess[str]:
    """The tool, as users run it."""
    tool = [sys.executable, str(ROOT / "tools" / "replay_alerts.py"), *words]
    return subprocess.run(tool, capture_output=True, text=True, check=False)


@needs_prometheus
def test_scripts_get_json(tmp_path: Path) -> None:
    """`--json` has each alert with its labels and times, and nothing else is printed."""
    path = tmp_path / "own.csv"
    rows = [
        f'{START_S + 60 * n},"spanledger_outbox_age_seconds{{job=""g""}}",300' for n in range(9)
    ]
    path.write_text("\n".join([HEADER.strip(), *rows]), encoding="utf-8")

    done = command("--csv", str(path), "--json")
    (backlog,) = [a for a in json.loads(done.stdout)["alerts"] if a["alert"].startswith("Tele")]

    assert (done.returncode, done.stderr) == (0, "")
    assert backlog == {
        "alert": "TelemetryBacklogGrowing",
        "labels": {"job": "g", "severity": "ticket", "about": "machinery"},
        "start_s": START_S + 300,
        "end_s": START_S + 480,
    }


@pytest.mark.parametrize(
    "words",
    [
        ("--csv", "nowhere.csv"),
        ("--csv", "nowhere.csv", "--days", "9"),
        ("--days", "5"),
        ("--set", "spike_floor_usd=much"),
        ("--set", "nothing=1"),
    ],
)
def test_what_cannot_be_played_ends_with_2(words: tuple[str, ...]) -> None:
    """The tool fails with the reason, in one line."""
    done = command(*words)

    assert done.returncode == 2
    assert "error: " in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


@needs_prometheus
def test_figures_that_nobody_can_read_fire_nothing(tmp_path: Path) -> None:
    """A stack whose every figure is NaN has no incident."""
    minutes = 60
    series = {**scraped(minutes), **sent(minutes), **collectors(minutes)}
    nan = [(START_S + 60.0 * minute, float("nan")) for minute in range(minutes)]

    found = replay([(n, nan) for n in series], (START_S, START_S + 3_540), tmp_path, DEFAULT)

    assert found == []


@pytest.mark.parametrize(
    ("for_minutes", "keep_minutes", "active", "expected"),
    [
        (0, 0, [1, 2, 3], [(1, 3)]),
        (2, 0, [1, 2], []),
        (2, 0, [1, 2, 3, 4], [(3, 4)]),
        (2, 0, [1, 2, 4, 5, 6], [(6, 6)]),
        (0, 5, [1, 2, 6, 7], [(1, 12)]),
        (0, 5, [1, 2, 8], [(1, 7), (8, 13)]),
    ],
)
def test_patience_is_that_of_prometheus(
    for_minutes: int, keep_minutes: int, active: list[int], expected: list[tuple[int, int]]
) -> None:
    """`for` restarts after a gap; `keep_firing_for` bridges a shorter one."""
    alert = Alert(
        "A", "x", "page", "", "", "", for_s=60 * for_minutes, keep_firing_s=60 * keep_minutes
    )

    found = list(firings(alert, [60.0 * minute for minute in active], {}))

    assert found == [Firing("A", {}, 60.0 * start, 60.0 * end) for start, end in expected]
