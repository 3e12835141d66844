"""The same rules, sped up: every duration is a given number of times shorter.

This lets you see a rule fire within minutes. Windows, waits and hold times are shortened; names, labels,
texts and thresholds stay, and so do measured times such as a budget's period or a commit. Thresholds on
money and counts stay too, although less of both falls into a shorter window: change them with `--set`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import yaml

from prometheus.src.model import Alert, Group, Recording, duration

LEAST_SCRAPE_S = 1.0
"""Scraping more often would mostly measure the scrapes themselves."""
_SCRAPES = ("scrape_interval", "evaluation_interval")

_STEP = re.compile(r"(\d+)(ms|[smhdwy])")
_WORD = re.compile(rf"""(?P<string>"(?:[^"\\]|\\.)*")|(?<!\w)(?P<time>(?:{_STEP.pattern})+)\b""")
"""A string, which is left alone, or a duration; a name such as `rate5m` is neither."""
_SECONDS = {
    "ms": 0.001,
    "s": 1,
    "m": 60,
    "h": 3_600,
    "d": 86_400,
    "w": 604_800,
    "y": 31_536_000,
}


def seconds(text: str) -> float:
    """The seconds of a duration: `90s`, `5m`, `1h30m`."""
    return sum(int(count) * _SECONDS[unit] for count, unit in _STEP.findall(text))


def shorter(text: str, speed: float) -> str:
    """A duration, `speed` times shorter."""
    return duration(seconds(text) / speed)


def expression(expr: str, speed: float) -> str:
    """A PromQL expression with all its durations shortened: ranges, steps, offsets, numbers."""
    return _WORD.sub(lambda m: m["string"] or shorter(m["time"], speed), expr)


def rules(groups: Sequence[Group], speed: float) -> list[Group]:
    """Groups of rules that run `speed` times faster; 1 changes nothing."""
    if speed == 1:
        return list(groups)
    return [
        Group(group.name, group.interval_s / speed, [_rule(rule, speed) for rule in group.rules])
        for group in groups
    ]


def _rule(rule: Recording | Alert, speed: float) -> Recording | Alert:
    expr = expression(rule.expr, speed)
    if isinstance(rule, Recording):
        return replace(rule, expr=expr)
    waits, keeps = rule.for_s / speed, rule.keep_firing_s / speed
    return replace(rule, expr=expr, for_s=waits, keep_firing_s=keeps)


def configuration(text: str, speed: float) -> dict[str, Any]:
    """Prometheus' configuration with scrapes as frequent as such rules need."""
    data: dict[str, Any] = yaml.safe_load(text)
    given = data["global"]
    for name in _SCRAPES:
        given[name] = duration(max(LEAST_SCRAPE_S, seconds(given[name]) / speed))
    between = seconds(given["scrape_interval"])
    given["scrape_timeout"] = duration(min(seconds(given["scrape_timeout"]), between))
    return data
