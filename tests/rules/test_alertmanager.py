"""Alertmanager's example: its own tool reads it, and it says and groups what Grafana's files do."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from prometheus.src.notices import MESSAGE, TITLE
from tests.rules.harness import ALERTS, ROOT, program

FOLDER = ROOT / "prometheus"
EXAMPLE = FOLDER / "alertmanager.example.yml"
TEMPLATES = FOLDER / "alertmanager.tmpl"
ALERTING = ROOT / "grafana" / "provisioning" / "alerting"

ACME = {"scope": "customer", "subject": "acme", "budget": "acme"}
LINKS = {"dashboard_url": "http://g/d/cost", "runbook_url": "http://r/BudgetExhausted"}
USED_UP = {
    "status": "firing",
    "labels": {"alertname": "BudgetExhausted", **ACME},
    "annotations": {
        "summary": "A budget is used up",
        "description": "It is.",
        "amount": "9.90 USD",
        "period": "since Monday",
        "trace_url": "http://g/explore",
        **LINKS,
    },
}
STORM = {
    "status": "resolved",
    "labels": {"alertname": "FallbackStorm", "spanledger_route": "chat"},
    "annotations": {"summary": "A storm", "description": "50% fell back.", **LINKS},
}


def amtool(*arguments: str) -> str:
    """What the tool prints; skips with its reason where there is none."""
    found = program("amtool")
    if found is None:
        pytest.skip("no amtool: `make toolchain` builds it")
    done = subprocess.run([str(found), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def rendered(folder: Path, text: str, alert: dict[str, Any]) -> str:
    """A message of one alert, by Alertmanager's own engine and functions."""
    data = folder / "alert.json"
    common = {"status": alert["status"], "commonLabels": alert["labels"], "alerts": [alert]}
    data.write_text(json.dumps(common), encoding="utf-8")
    how = (f"--template.glob={TEMPLATES}", f"--template.text={text}", f"--template.data={data}")
    return amtool("template", "render", *how)


def example() -> Any:
    """The configuration."""
    return yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))


def test_amtool_finds_no_fault() -> None:
    """Alertmanager reads the example with its templates."""
    said = amtool("check-config", str(EXAMPLE))

    assert "1 receivers" in said
    assert "1 templates" in said


def test_a_message_is_whole(tmp_path: Path) -> None:
    """Title and message name customer, budget, amount and period, and have the three links."""
    assert rendered(tmp_path, TITLE, USED_UP).strip() == (
        "[FIRING 1] BudgetExhausted · acme · budget acme"
    )
    assert rendered(tmp_path, MESSAGE, USED_UP).strip().splitlines() == [
        "FIRING: A budget is used up",
        "It is.",
        "Who: customer acme",
        "Budget: acme",
        "Amount: 9.90 USD",
        "Period: since Monday",
        "Dashboard: http://g/d/cost",
        "Traces: http://g/explore",
        "Runbook: http://r/BudgetExhausted",
    ]


def test_what_there_is_not_leaves_no_line(tmp_path: Path) -> None:
    """An alert of no customer, without amount or traces, has no empty line for them."""
    assert rendered(tmp_path, TITLE, STORM).strip() == "[RESOLVED] FallbackStorm"
    assert rendered(tmp_path, MESSAGE, STORM).strip().splitlines() == [
        "RESOLVED: A storm",
        "50% fell back.",
        "Dashboard: http://g/d/cost",
        "Runbook: http://r/BudgetExhausted",
    ]


def test_it_is_grafanas_policy() -> None:
    """Groups, waits, what is said once and the words are those of Grafana's files."""
    (theirs,) = yaml.safe_load((ALERTING / "policies.yaml").read_text("utf-8"))["policies"]
    points = yaml.safe_load((ALERTING / "contact-points.yaml").read_text("utf-8"))["contactPoints"]
    slack = next(p["receivers"][0]["settings"] for p in points if p["name"] == "spanledger slack")
    (words,) = yaml.safe_load((ALERTING / "templates.yaml").read_text("utf-8"))["templates"]
    ours = example()
    same = ("group_by", "group_wait", "group_interval", "repeat_interval")
    (once,) = ours["route"]["routes"]
    (receiver,) = ours["receivers"]

    assert {k: ours["route"][k] for k in same} == {k: theirs[k] for k in same}
    assert once["repeat_interval"] == theirs["routes"][0]["routes"][0]["repeat_interval"]
    assert {k: receiver["slack_configs"][0][k] for k in ("title", "text")} == {
        k: slack[k] for k in ("title", "text")
    }
    assert TEMPLATES.read_text("utf-8").endswith(words["template"])


def test_every_alert_has_what_it_is_grouped_by() -> None:
    """Each alert says what it is about; the steps of the ladder, and nothing else, are said once."""
    (once,) = example()["route"]["routes"]
    stepped = {
        alert.name
        for alert in ALERTS
        if "threshold" in alert.labels or "$labels.threshold" in alert.description
    }

    assert {alert.labels.get("about") for alert in ALERTS} == {
        "budgets",
        "spend",
        "providers",
        "machinery",
    }
    assert once["matchers"] == ['threshold=~".+"']
    assert stepped == {"BudgetThresholdCrossed", "BudgetExhausted"}
