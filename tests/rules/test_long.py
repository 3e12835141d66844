"""The copies for long time ranges, run by promtool: what they have of each original, and when."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from tools.replay_alerts import ask, prometheus, store

from prometheus.src import long, names, render
from prometheus.src.long import COPIED, copy_of
from prometheus.src.model import Group, Recording
from prometheus.src.names import known_series
from spanledger.telemetry import signals
from spanledger.telemetry.signals import METRICS, prometheus_series
from tests.rules.harness import ALERTS, RECORDINGS, ROOT, START, START_S, program, promtool
from tests.rules.promql import metrics_of

RULES = [r for group in long.groups() for r in group.rules if isinstance(r, Recording)]
COST = f'{names.COST}{{spanledger_customer="acme"}}'
OTHER = f'{names.COST}{{spanledger_customer="other"}}'
REQUESTS = names.REQUESTS
BRIEF = names.otlp(signals.TOKEN_USAGE, "_sum")
"""A metric that applications also send, perhaps only for minutes."""
AWAY = f'{names.COST}{{spanledger_customer="acme",instance="away"}}'
"""A series that shows a gateway's telemetry was present."""
MINUTES = long.EVERY_S // 60
DAY = 1440


@dataclass(frozen=True, slots=True)
class Case:
    """Series by the minute, and the copy of the first customer's cost at some minutes; None means absent."""

    title: str
    series: Mapping[str, str]
    copies: Mapping[int, float | None]
    of: str = COST
    rules: list[Group] = field(default_factory=long.groups)


CASES = [
    Case(
        "a new series begins at zero, however much it has by then",
        {REQUESTS: "1x100", OTHER: "1x100", COST: "_x19 0 7x80"},
        {15: None, 30: 0, 45: 7, 60: 7},
    ),
    Case(
        "the first series of its name begins at zero",
        {REQUESTS: "1x100", COST: "_x19 0 7x80"},
        {15: None, 30: 0, 45: 7},
    ),
    Case(
        "series present from the start of Prometheus are copied as they are",
        {REQUESTS: "1x100", COST: "5x20 6x80"},
        {0: 5, 15: 5, 30: 6},
    ),
    Case(
        "series an application sent only for minutes are copied",
        {REQUESTS: "1x100", BRIEF: "_x31 0 9 9 _x60"},
        {30: None, 45: 0, 60: 9, 75: None},
        BRIEF,
    ),
    Case(
        "a counter that falls after a restart is copied as it is",
        {REQUESTS: "1x100", OTHER: "1x100", COST: "0+1x40 0+1x60"},
        {30: 30, 45: 4, 60: 19},
    ),
    Case(
        "a gap in only this series makes nothing new",
        {REQUESTS: "1x2000", OTHER: "1x2000", COST: "50x40 _x1000 60x900"},
        {30: 50, 75: None, 1035: None, 1050: 60, 1065: 60},
    ),
    Case(
        "a gap in all telemetry makes nothing new, however long",
        {
            REQUESTS: f"1x40 _x{8 * DAY} 1x100",
            OTHER: f"1x40 _x{8 * DAY} 1x100",
            COST: f"50x40 _x{8 * DAY} 60x100",
        },
        {30: 50, 8 * DAY: None, 8 * DAY + 45: 60, 8 * DAY + 60: 60},
    ),
    Case(
        "series that began in a gap in all telemetry are copied as they are",
        {
            REQUESTS: f"1x40 _x{DAY} 1x100",
            OTHER: f"1x40 _x{DAY} 1x100",
            COST: f"_x41 _x{DAY} 7x100",
        },
        {DAY + 45: 7, DAY + 60: 7},
    ),
    Case(
        "one of two ledgers comes back after eight days, and none of it is new",
        {
            f'{REQUESTS}{{instance="there"}}': f"1x{8 * DAY + 200}",
            f'{REQUESTS}{{instance="away"}}': f"1x40 _x{8 * DAY} 1x100",
            AWAY: f"50x40 _x{8 * DAY} 60x100",
        },
        {30: 50, 8 * DAY: None, 8 * DAY + 45: 60, 8 * DAY + 60: 60},
        AWAY,
    ),
    Case(
        "without data there is no copy",
        {REQUESTS: "1x100"},
        {0: None, 15: None, 60: None},
    ),
]


def play(case: Case, folder: Path) -> str:
    """promtool's complaints about a case."""
    rules = folder / "rules.yml"
    rules.write_text(render.rule_file(case.rules), encoding="utf-8")
    asked = f"last_over_time({long.PREFIX}{case.of}[{MINUTES - 1}m])"
    document = {
        "rule_files": [str(rules)],
        # promtool evaluates every group this often, whatever its own interval is.
        "evaluation_interval": f"{MINUTES}m",
        "tests": [
            {
                "name": case.title,
                "start_timestamp": START,
                "interval": "1m",
                "input_series": [
                    {"series": name, "values": values} for name, values in case.series.items()
                ],
                "promql_expr_test": [
                    {"expr": asked, "eval_time": f"{minute}m", "exp_samples": samples(case, value)}
                    for minute, value in case.copies.items()
                ],
            }
        ],
    }
    test = folder / "test.yml"
    test.write_text(yaml.safe_dump(document, width=10_000), encoding="utf-8")
    return promtool("test", "rules", str(test))


def samples(case: Case, value: float | None) -> list[dict[str, object]]:
    """One sample, or none."""
    return [] if value is None else [{"labels": f"{long.PREFIX}{case.of}", "value": value}]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
def test_what_is_copied_when(case: Case, tmp_path: Path) -> None:
    """A copy has exactly the original's growth."""
    assert play(case, tmp_path) == ""


def test_a_wrong_expectation_is_seen(tmp_path: Path) -> None:
    """A case that expects another value, or a value that is absent, does not pass."""
    good = CASES[0]
    for wrong in ({30: 7.0}, {15: 0.0}, {45: None}):
        assert "FAILED" in play(Case("wrong", good.series, wrong), tmp_path)


def test_rules_that_come_later_make_nothing_new(tmp_path: Path) -> None:
    """If counters exist at installation, the first copies have their values."""
    late = Case("late", {REQUESTS: "1x100", COST: "5x100"}, {})
    (rule,) = [rule for rule in RULES if rule.record == copy_of(names.COST)]
    document = {
        "rule_files": [],
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": s, "values": v} for s, v in late.series.items()],
                "promql_expr_test": [
                    {
                        "expr": rule.expr,
                        "eval_time": "60m",
                        "exp_samples": [{"labels": COST, "value": 5}],
                    }
                ],
            }
        ],
    }
    test = tmp_path / "test.yml"
    test.write_text(yaml.safe_dump(document, width=10_000), encoding="utf-8")

    assert promtool("test", "rules", str(test)) == ""


def test_promtool_finds_no_fault() -> None:
    """The committed file passes promtool's own check, warnings included."""
    path = ROOT / "prometheus" / "rules" / "long.yml"

    assert promtool("check", "rules", "--lint=all", "--lint-fatal", str(path)) == ""


def test_copies_are_of_counters_that_are_sent() -> None:
    """Every copied name is in the registry, and is a counter."""
    sent = {name for metric in METRICS for name in prometheus_series(metric)}
    used = {name for rule in RULES for name in metrics_of(rule.expr)}

    assert set(COPIED) <= sent
    assert used == {*COPIED, *map(copy_of, COPIED), names.REQUESTS}
    assert used - set(map(copy_of, COPIED)) <= known_series()


def test_no_alert_rests_on_a_copy() -> None:
    """Copies are late and coarse: alert rules must not use them."""
    expressions = [alert.expr for alert in ALERTS] + [rule.expr for rule in RECORDINGS]

    assert [expr for expr in expressions if long.PREFIX in expr] == []


@pytest.mark.skipif(program("prometheus") is None, reason="no prometheus: `make toolchain`")
def test_an_evaluation_of_the_copies_is_cheap(tmp_path: Path) -> None:
    """An evaluation reads only each series' newest samples and the last day of its copy."""
    series = [f'{names.COST}{{spanledger_customer="c{number}"}}' for number in range(20)]
    half_hour = [(float(START_S - 5 * k), 1000.0 - k) for k in reversed(range(720))]
    week = [(float(START_S - long.EVERY_S * k), 1.0) for k in reversed(range(7 * 96 + 1))]
    rows = [(name, half_hour) for name in series]
    rows += [(f"{long.PREFIX}{name}", week) for name in series]
    store([*rows, (REQUESTS, half_hour)], tmp_path)
    (rule,) = [rule for rule in RULES if rule.record == copy_of(names.COST)]

    with prometheus(tmp_path) as url:
        data = ask(url, "/api/v1/query", query=rule.expr, time=START_S, stats="all")

    assert len(data["result"]) == len(series)
    assert data["stats"]["samples"]["totalQueryableSamples"] <= len(series) * (96 + 6)
