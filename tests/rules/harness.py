"""The harness for rule tests: a case in Python, run by promtool on the real rules.

A case gives series, minutes, and the alerts firing then, with every label and every text. Links
come from the rule; everything else is written out in the case.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote_plus

import pytest
import yaml
from tools.toolchain import cache_folder

from prometheus.src import alerts, recording, render, scaled
from prometheus.src.model import GRAFANA, GRAFANA_URL, Alert, Group, Recording, annotations_of
from prometheus.src.thresholds import DEFAULT

ROOT = Path(__file__).resolve().parent.parent.parent
START = "2026-11-11T00:00:00Z"
START_S = 1_794_355_200
"""Minute 0 of every case, a Wednesday."""

ALERTS = [r for g in alerts.groups(DEFAULT) for r in g.rules if isinstance(r, Alert)]
RECORDINGS = [r for g in recording.groups(DEFAULT) for r in g.rules if isinstance(r, Recording)]
NAMES = sorted({alert.name for alert in ALERTS})
WATCHED = 'up{instance="gateway:4000",job="gateway"}'
"""Prometheus is up in every case, unless the case says otherwise."""
LINKS = ("dashboard_url", "trace_url", "runbook_url")
METRIC = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")


@dataclass(frozen=True, slots=True)
class Fires:
    """One alert that fires: its labels (name and severity are the rule's) and its text."""

    says: str
    labels: Mapping[str, str] = field(default_factory=dict)
    variant: str = ""
    amount: str = ""
    period: str = ""


@dataclass(frozen=True, slots=True)
class Case:
    """Series over minutes, and the alerts firing at given minutes; an empty list means none."""

    alert: str
    title: str
    series: Mapping[str, str]
    at: Mapping[int, Sequence[Fires]]
    step: str = "1m"

    @property
    def fires(self) -> bool:
        """Whether anything fires at any minute."""
        return any(self.at.values())


def needed(names: set[str]) -> list[Group]:
    """The rule groups that these alerts depend on, reduced to what is used."""
    wanted = [alert for alert in ALERTS if alert.name in names]
    text = " ".join(alert.expr for alert in wanted)
    used: set[str] = set()
    while found := {r.record for r in RECORDINGS if r.record in METRIC.findall(text)} - used:
        used |= found
        text += " ".join(r.expr for r in RECORDINGS if r.record in found)
    cut = [
        Group(g.name, g.interval_s, [r for r in g.rules if is_used(r, used, names)])
        for g in (*recording.groups(DEFAULT), *alerts.groups(DEFAULT))
    ]
    return [group for group in cut if group.rules]


def is_used(rule: Recording | Alert, records: set[str], names: set[str]) -> bool:
    """Whether a rule is one of these."""
    return rule.record in records if isinstance(rule, Recording) else rule.name in names


def expected(case: Case, fires: Fires, grafana: str) -> dict[str, object]:
    """The expectation in promtool's format."""
    rule = next(a for a in ALERTS if (a.name, a.variant) == (case.alert, fires.variant))
    labels = {"severity": rule.severity, **rule.labels, **fires.labels}
    links = {k: fill(v, labels) for k, v in annotations_of(rule, grafana).items() if k in LINKS}
    links |= {"trace_url": trace_link(rule, labels, grafana)} if "trace_url" in links else {}
    said = {"summary": rule.summary, "description": fires.says, **links}
    extra = {"amount": fires.amount, "period": fires.period}
    return {
        "exp_labels": labels,
        "exp_annotations": said | {name: text for name, text in extra.items() if text},
    }


def fill(template: str, labels: Mapping[str, str]) -> str:
    """A link with its labels filled in, as Go's templates do."""

    def value(match: re.Match[str]) -> str:
        text = labels.get(match[1], "")
        return quote_plus(text) if "urlquery" in match[0] else text

    return re.sub(r"\{\{ \$labels\.(\w+)(?: \| urlquery)? \}\}", value, template)


def searched(alert: Alert, labels: Mapping[str, str]) -> str:
    """The TraceQL of an alert's link, its labels as strings."""
    traceql = alert.traceql
    if not isinstance(traceql, str):
        traceql = traceql.get(labels["scope"], traceql[""])
    return re.sub(r"\$labels\.(\w+)", lambda match: as_string(labels[match[1]]), traceql)


def as_string(text: str) -> str:
    """A TraceQL string, which is quoted like a JSON string."""
    return json.dumps(text, ensure_ascii=False)


def trace_link(alert: Alert, labels: Mapping[str, str], grafana: str = GRAFANA) -> str:
    """The link to an alert's traces: the rule's template, and the filled-in link."""
    query = quote_plus(searched(alert, labels))
    return f"{grafana}/d/find-traces?from=now-1h&to=now&var-query={query}"


def play(cases: Sequence[Case], folder: Path, speed: float = 1, grafana: str = "") -> str:
    """Run cases through promtool, optionally sped up; returns its complaints, empty if it passes.

    Args:
        grafana: the Grafana address that Prometheus is given.
    """
    rules = folder / "rules.yml"
    groups = scaled.rules(needed({case.alert for case in cases}), speed)
    rules.write_text(render.rule_file(groups), encoding="utf-8")
    document = {
        "rule_files": [str(rules)],
        "evaluation_interval": scaled.shorter("1m", speed),
        "group_eval_order": [group.name for group in groups],
        "tests": [
            {
                "name": f"{case.alert}: {case.title}",
                "start_timestamp": START,
                "external_labels": {GRAFANA_URL: grafana} if grafana else {},
                "interval": scaled.shorter(case.step, speed),
                "input_series": [
                    {"series": name, "values": values}
                    for name, values in ({WATCHED: "1x10000"} | dict(case.series)).items()
                ],
                "alert_rule_test": [
                    {
                        "eval_time": scaled.shorter(f"{minute}m", speed),
                        "alertname": case.alert,
                        "exp_alerts": [
                            expected(case, fires, grafana or GRAFANA) for fires in all_fire
                        ],
                    }
                    for minute, all_fire in case.at.items()
                ],
            }
            for case in cases
        ],
    }
    test = folder / "test.yml"
    test.write_text(yaml.safe_dump(document, width=10_000, allow_unicode=True), encoding="utf-8")
    return promtool("test", "rules", str(test))


def promtool(*arguments: str) -> str:
    """promtool's output if it fails, else empty; skips if promtool is missing."""
    found = program("promtool")
    if found is None:
        pytest.skip("no promtool: `make toolchain` builds it")
    done = subprocess.run([str(found), *arguments], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def program(name: str) -> Path | None:
    """A program from the toolchain or from PATH."""
    built = cache_folder() / "bin" / name
    found = str(built) if built.exists() else shutil.which(name)
    return Path(found) if found else None
