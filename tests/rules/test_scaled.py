"""The sped-up rules: every duration is divided by one number, nothing else changes."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from prometheus.src import render, scaled
from prometheus.src.model import duration
from tests.rules.harness import NAMES, ROOT, play, promtool
from tests.rules.test_rules import CASES

SPEEDS = (7, 20, 60)
TIME = re.compile(r"\b(\d+)(ms|s|m|h|d|w)\b")
UNITS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
WAITS = {
    *("interval", "for", "keep_firing_for", "keepFiringFor"),
    *("group_wait", "group_interval", "repeat_interval"),
}
"""Keys of rules and policies whose value is a duration."""
OF_PROMETHEUS = {
    "a gateway that goes down alerts once, not for each of its signals",
    "OTLP that stops is one alert, with or without requests",
    "seen, then gone, while the rest arrives",
    "a collector's queue gone while the collector answers, and a collector that is down",
}
"""Cases with series that end: Prometheus keeps a sample for five minutes, at any speed."""


@cache
def files(speed: float = 1) -> dict[str, str]:
    """The generated files at a speed."""
    return render.files(speed=speed)


def leaves(node: Any, path: tuple[str | int, ...] = ()) -> dict[tuple[str | int, ...], Any]:
    """Every value of a document by its path."""
    if isinstance(node, dict):
        pairs = list(node.items())
    elif isinstance(node, list):
        pairs = list(enumerate(node))
    else:
        return {path: node}
    return {
        place: leaf for key, child in pairs for place, leaf in leaves(child, (*path, key)).items()
    }


def ms(text: str) -> list[int]:
    """The durations of a text, in milliseconds."""
    return [int(count) * UNITS[unit] for count, unit in TIME.findall(text)]


@pytest.mark.parametrize("speed", SPEEDS)
@pytest.mark.parametrize("name", sorted(files()))
def test_only_durations_are_others(name: str, speed: int) -> None:
    """In expressions and waits each duration is that many times shorter; the rest is unchanged."""
    read = yaml.safe_load if name.endswith(("yml", "yaml")) else lambda text: text.splitlines()[1:]
    usual = leaves(read(files()[name]))
    faster = leaves(read(files(speed)[name]))
    timed = {place for place in usual if place[-1] == "expr" or place[-1] in WAITS}
    # Grafana evaluates every ten seconds at most.
    rounded = {p for p in timed if name.startswith("grafana") and p[-1] == "interval"}

    assert faster.keys() == usual.keys()
    assert {p: v for p, v in faster.items() if p not in timed} == {
        p: v for p, v in usual.items() if p not in timed
    }
    for place in timed - rounded:
        assert TIME.sub("TIME", faster[place]) == TIME.sub("TIME", usual[place])
        wanted = [round(time / speed) for time in ms(usual[place])]
        assert ms(faster[place]) == wanted, place
    assert {ms(faster[place])[0] % 10_000 for place in rounded} <= {0}
    assert bool(timed) == ("rules" in name or "polic" in name or "example" in name)


@pytest.mark.parametrize(
    ("expr", "faster"),
    [
        ("rate(a[5m]) * 1m > 0.5", "rate(a[15s]) * 3s > 0.5"),
        ("a:b:rate5m offset 1w", "a:b:rate5m offset 504m"),
        ("quantile_over_time(0.9, x[7d:1h30m] offset 1h)", None),
        ('x{le="5m", why="a \\" 5m"} > 1200', 'x{le="5m", why="a \\" 5m"} > 1200'),
        ("x5m + y_1h", "x5m + y_1h"),
    ],
)
def test_what_is_a_duration(expr: str, faster: str | None) -> None:
    """Ranges, steps, offsets and times are scaled; names, strings and plain numbers are not."""
    expected = faster or "quantile_over_time(0.9, x[504m:270s] offset 3m)"

    assert scaled.expression(expr, 20) == expected


@pytest.mark.parametrize("speed", SPEEDS)
def test_promtool_finds_no_fault(speed: int, tmp_path: Path) -> None:
    """Sped-up rules are valid rules."""
    for name in ("recording", "alerts"):
        path = tmp_path / f"{name}.yml"
        text = files(speed)[f"prometheus/rules/{name}.yml"]
        path.write_text(text, encoding="utf-8")
        assert promtool("check", "rules", "--lint=all", "--lint-fatal", str(path)) == ""


@pytest.mark.parametrize("alert", NAMES)
def test_it_fires_at_the_second_of_its_minute(alert: str, tmp_path: Path) -> None:
    """At sixty times the speed, an alert fires and resolves with the same text, at the matching second."""
    cases = [c for c in CASES if c.alert == alert and c.title not in OF_PROMETHEUS]

    assert len(cases) > 1
    assert play(cases, tmp_path, 60) == ""


def test_exempt_cases_are_needed(tmp_path: Path) -> None:
    """Cases listed as depending on an unscaled time really do."""
    exempt = [case for case in CASES if case.title in OF_PROMETHEUS]

    assert {case.title for case in exempt} == OF_PROMETHEUS
    for case in exempt:
        assert "FAILED" in play([case], tmp_path, 60)


def generate(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the generator."""
    tool = [sys.executable, str(ROOT / "tools" / "generate_rules.py"), *arguments]
    return subprocess.run(tool, capture_output=True, text=True, check=False)


def test_a_folder_of_rules_for_a_try(tmp_path: Path) -> None:
    """The tool writes the rules with the given thresholds, and scrapes often enough for them."""
    done = generate("--speed", "20", "--set", "spike_floor_usd=0.25", "--out", str(tmp_path))
    shipped = yaml.safe_load((ROOT / "prometheus" / "prometheus.yml").read_text("utf-8"))
    written = yaml.safe_load((tmp_path / "prometheus" / "prometheus.yml").read_text("utf-8"))
    alerts = (tmp_path / "prometheus" / "rules" / "alerts.yml").read_text("utf-8")

    assert done.returncode == 0, done.stderr
    assert {k: v for k, v in written.items() if k != "global"} == {
        k: v for k, v in shipped.items() if k != "global"
    }
    assert written["global"]["scrape_interval"] == "1s"
    assert ms(written["global"]["scrape_timeout"]) <= ms(written["global"]["scrape_interval"])
    assert "increase15m > 0.25)" in alerts
    assert "--speed 20" in alerts.splitlines()[0]


def test_what_ships_is_never_made_faster() -> None:
    """Without a directory, or at a speed below 1, the tool writes nothing."""
    for arguments in (("--speed", "20"), ("--speed", "0.5", "--out", "/nowhere")):
        done = generate(*arguments)
        assert done.returncode == 1
        assert "--speed" in done.stderr


def test_a_duration_is_written_to_the_millisecond() -> None:
    """A wait that is not a whole number of seconds is not rounded."""
    assert [duration(s) for s in (1.5, 60 / 7, 0.0004, 90, 604_800)] == [
        *("1500ms", "8571ms", "0s", "90s", "1w")
    ]
