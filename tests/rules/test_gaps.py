"""Measurement problems are not incidents: failed scrapes, restarted processes, late data.

All rules at once, over a day and some hours of a healthy stack, or of one where everything is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from prometheus.src import render
from tests.rules.cases_budgets import budget
from tests.rules.cases_machinery import commits
from tests.rules.cases_providers import up
from tests.rules.harness import NAMES, START, promtool
from tests.rules.world import LOST, NONE, Series, anew, away, collectors, scraped, sent

GAPS = {60: 1, 80: 4, 100: 6, 130: 30}
"""The minute at which each begins, and how long it is."""
LONG = 130
"""Until then nothing is down for long enough to alert."""
END = 200
FIRING = 'ALERTS{alertstate="firing"'


@dataclass
class World:
    """The series of each scraped process, and those that are sent."""

    gateways: dict[str, Series] = field(default_factory=lambda: {"g1": scraped(END)})
    collector: Series = field(default_factory=lambda: collectors(END))
    sent: Series = field(default_factory=lambda: sent(END))

    def series(self) -> Series:
        """All of them."""
        return {
            k: v
            for part in (*self.gateways.values(), self.collector, self.sent)
            for k, v in part.items()
        }


def play(folder: Path, world: World, nothing: Mapping[int, str]) -> str:
    """All rules over a world, with expressions that must have no result at their minute; returns promtool's output."""
    rules = []
    for name in ("recording", "alerts"):
        path = folder / f"{name}.yml"
        path.write_text(render.files()[f"prometheus/rules/{name}.yml"], encoding="utf-8")
        rules.append(path)
    groups = [g["name"] for p in rules for g in yaml.safe_load(p.read_text("utf-8"))["groups"]]
    document = {
        "rule_files": [str(path) for path in rules],
        "evaluation_interval": "1m",
        "group_eval_order": groups,
        "tests": [
            {
                "start_timestamp": START,
                "interval": "1m",
                "input_series": [
                    {"series": name, "values": " ".join(v)} for name, v in world.series().items()
                ],
                "promql_expr_test": [
                    {"expr": expr, "eval_time": f"{minute}m"} for minute, expr in nothing.items()
                ],
            }
        ],
    }
    test = folder / "test.yml"
    test.write_text(yaml.safe_dump(document, width=10_000), encoding="utf-8")
    return promtool("test", "rules", str(test))


def quiet(folder: Path, world: World, *, told: bool) -> None:
    """Nothing fires if only the measurement fails; a long gap may alert as such."""
    absent = ',alertname!="SignalAbsent"' if told else ""
    nothing = {
        LONG: f"max_over_time({FIRING}}}[1d])",
        END - 1: f"max_over_time({FIRING}{absent}}}[1d])",
    }

    assert play(folder, world, nothing) == ""


def gapped(series: Series, mark: str) -> Series:
    """The series with all gaps."""
    for start, minutes in GAPS.items():
        series = away(series, start, minutes, mark)
    return series


def restarted(series: Series) -> Series:
    """The series of a process that restarts after each gap."""
    for start, minutes in GAPS.items():
        series = anew(series, start + minutes)
    return gapped(series, LOST)


def test_a_stack_that_is_well_is_quiet(tmp_path: Path) -> None:
    """Nothing fires."""
    quiet(tmp_path, World(), told=False)


def test_scrapes_that_fail(tmp_path: Path) -> None:
    """A gateway's gap alerts as such once it is long."""
    quiet(tmp_path, World({"g1": gapped(scraped(END), LOST)}), told=True)


def test_a_gateway_that_begins_again(tmp_path: Path) -> None:
    """So does that of one that comes back with counters at zero."""
    quiet(tmp_path, World({"g1": restarted(scraped(END))}), told=True)


def test_one_of_two_gateways_that_begins_again(tmp_path: Path) -> None:
    """With another gateway on the same ledger, only the target that does not answer alerts."""
    both = {"g1": scraped(END), "g2": restarted(scraped(END, "g2"))}

    quiet(tmp_path, World(both), told=True)


def test_a_gateway_that_is_renamed(tmp_path: Path) -> None:
    """Another instance that continues with the same ledger is nothing new."""
    first, second = scraped(LONG), scraped(END - LONG, "g2")
    both = {
        "g1": {name: [*v, LOST] for name, v in first.items()},
        "g2": {name: [*[NONE] * LONG, *v] for name, v in second.items()},
    }

    quiet(tmp_path, World(both), told=False)


def test_metrics_that_arrive_late(tmp_path: Path) -> None:
    """Data not sent for a while arrives at once, and is not a storm."""
    quiet(tmp_path, World(sent=gapped(sent(END), NONE)), told=True)


def test_a_collector_that_begins_again(tmp_path: Path) -> None:
    """Its old losses are not new ones."""
    quiet(tmp_path, World(collector=restarted(collectors(END))), told=True)


def test_a_prometheus_that_was_away(tmp_path: Path) -> None:
    """It continues where it was; for what it has not seen, it may alert that it was missing."""
    world = World(
        {"g1": gapped(scraped(END), NONE)}, gapped(collectors(END), NONE), gapped(sent(END), NONE)
    )

    quiet(tmp_path, world, told=True)


def ill() -> World:
    """Everything that can be wrong without history is: all alerts but CostSpike fire."""
    world = World()
    at = '{instance="g1",job="gateway"}'
    short = {
        **budget("acme", "9.95"),
        **budget("globex", "5", exhaustion="100000"),
        **up("a", "0", route="code"),
        f"spanledger_outbox_age_seconds{at}": "300",
        f"spanledger_oldest_hold_seconds{at}": "2000",
    }
    world.gateways["g1"] |= {name: [v.split("x")[0]] * END for name, v in short.items()}
    slow, _ = commits("", "").keys()
    world.gateways["g1"][slow] = [str(90 * n) for n in range(END)]
    for name in world.collector:
        if "queue_size" in name:
            world.collector[name] = ["90"] * END
    world.collector['up{instance="t1",job="tempo"}'] = ["0"] * END
    sometimes = ("error", "fallback", 'le="+Inf"', "_count", "unpriced", "overrun", "dropped")
    for name in world.sent:
        if any(word in name for word in sometimes):
            world.sent[name] = [str(300 * n) for n in range(END)]
    return world


def test_gaps_end_nothing(tmp_path: Path) -> None:
    """While everything is wrong, no alert resolves or goes pending again over gaps of a few minutes."""
    world = ill()
    world.gateways["g1"] = gapped(world.gateways["g1"], LOST)
    world.collector = gapped(world.collector, LOST)
    world.sent = gapped(world.sent, NONE)
    names = f'count(count by (alertname) ({FIRING},alertname!="CostSpike"}}))'
    nothing = {minute: f"{names} != {len(NAMES) - 1}" for minute in range(50, 100)}

    assert play(tmp_path, world, nothing) == ""
