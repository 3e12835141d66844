"""The Alertmanager example: amtool accepts it, and it words and groups alerts as Grafana's files do."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from prometheus.src import names
from prometheus.src.notices import MESSAGE, TITLE
from tests.rules.harness import ALERTS, ROOT, program

FOLDER = ROOT / "prometheus"
EXAMPLE = FOLDER / "alertmanager.example.yml"
TEMPLATES = FOLDER / "alertmanager.tmpl"
ALERTING = ROOT / "grafana" / "provisioning" / "alerting"

ACME = {"scope": "customer", "subject": "acme", "budget": "acme"}
LINKS = {"dashboard_url": "http://g/d/cost", "runbook_url": "http://r/BudgetExhausted"}
WHEN = {"startsAt": "2026-11-25T03:07:09+02:00", "endsAt": "2026-11-25T01:30:00Z"}
USED_UP = {
    "status": "firing",
    **WHEN,
    "labels": {"alertname": "BudgetExhausted", "severity": "page", "threshold": "100", **ACME},
    "annotations": {
        "summary": "A budget is used up",
        "description": "It is.",
        "amount": "9.90 USD",
        "period": "since Monday",
        "trace_url": "http://g/d/find-traces",
        **LINKS,
    },
}
HALF = {
    **USED_UP,
    "labels": {
        **ACME,
        "alertname": "BudgetThresholdCrossed",
        "severity": "ticket",
        "threshold": "50",
    },
}
STORM = {
    "status": "firing",
    **WHEN,
    "labels": {"alertname": "FallbackStorm", "severity": "page", "spanledger_route": "chat"},
    "annotations": {"summary": "A storm", "description": "50% fell back.", **LINKS},
}


def amtool(*arguments: str) -> str:
    """The tool's output; skips if it is missing."""
    found = program("amtool")
    if found is None:
        pytest.skip("no amtool: `make toolchain` builds it")
    done = subprocess.run([str(found), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def rendered(folder: Path, text: str, *alerts: dict[str, Any]) -> str:
    """A message for some alerts, rendered by Alertmanager's own template engine."""
    data = folder / "alert.json"
    shared = set.intersection(*(set(alert["labels"].items()) for alert in alerts))
    status = "firing" if any(a["status"] == "firing" for a in alerts) else "resolved"
    common = {"status": status, "commonLabels": dict(shared), "alerts": alerts}
    data.write_text(json.dumps(common), encoding="utf-8")
    how = (f"--template.glob={TEMPLATES}", f"--template.text={text}", f"--template.data={data}")
    return amtool("template", "render", *how).strip()


def example() -> Any:
    """The configuration."""
    return yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))


def test_amtool_finds_no_fault() -> None:
    """Alertmanager accepts the example with its templates."""
    said = amtool("check-config", str(EXAMPLE))

    assert "1 receivers" in said
    assert "1 templates" in said


def test_a_message_is_whole(tmp_path: Path) -> None:
    """Title and message name customer, budget, amount, period and time, and have the three links."""
    assert rendered(tmp_path, TITLE, USED_UP) == "[FIRING 1] BudgetExhausted · acme · budget acme"
    assert rendered(tmp_path, MESSAGE, USED_UP).splitlines() == [
        "FIRING: A budget is used up",
        "It is.",
        "Who: customer acme",
        "Budget: acme",
        "Threshold: 100 %",
        "Amount: 9.90 USD",
        "Period: since Monday",
        "Began: 2026-11-25 01:07 UTC",
        "Dashboard: http://g/d/cost",
        "Traces: http://g/d/find-traces",
        "Runbook: http://r/BudgetExhausted",
    ]


def test_what_there_is_not_leaves_no_line(tmp_path: Path) -> None:
    """An alert without customer, amount or traces has no empty lines for them, but says what it is
    about."""
    assert rendered(tmp_path, TITLE, STORM) == "[FIRING 1] FallbackStorm · chat"
    assert rendered(tmp_path, MESSAGE, STORM).splitlines() == [
        "FIRING: A storm",
        "50% fell back.",
        "Route: chat",
        "Began: 2026-11-25 01:07 UTC",
        "Dashboard: http://g/d/cost",
        "Runbook: http://r/BudgetExhausted",
    ]


@pytest.mark.parametrize(
    ("labels", "title", "line"),
    [
        ({"scope": "global", "subject": "*"}, " · everybody", "Who: everybody"),
        ({"scope": "team", "subject": "a"}, " · a", "Who: team a"),
        ({names.ROUTE: "chat"}, " · chat", "Route: chat"),
        ({"route": "chat"}, " · chat", "Route: chat"),
        ({names.PROVIDER: "openai"}, " · openai", "Provider: openai"),
        ({names.MODEL: "m"}, " · m", "Model: m"),
        ({"signal": "up"}, "", "Signal: up"),
        ({"exporter": "otlp"}, "", "Exporter: otlp"),
        ({"instance": "gateway:4000"}, "", "Instance: gateway:4000"),
    ],
)
def test_a_message_says_whom_it_is_about(
    tmp_path: Path, labels: dict[str, str], title: str, line: str
) -> None:
    """The subject comes from the rule's label, also when resolved; a global budget's is everybody."""
    alert = {**STORM, "labels": {"alertname": "A", **labels}}

    assert rendered(tmp_path, TITLE, alert) == f"[FIRING 1] A{title}"
    assert line in rendered(tmp_path, MESSAGE, alert).splitlines()
    assert line in rendered(tmp_path, MESSAGE, {**alert, "status": "resolved"}).splitlines()


def test_the_title_is_of_what_pages(tmp_path: Path) -> None:
    """The reason for a page comes first, not that half of the budget was used earlier."""
    group = (HALF, USED_UP)

    assert rendered(tmp_path, TITLE, *group) == "[FIRING 2] BudgetExhausted · acme · budget acme"
    lines = rendered(tmp_path, MESSAGE, *group).splitlines()
    assert [line for line in lines if line.startswith("Threshold")] == [
        "Threshold: 100 %",
        "Threshold: 50 %",
    ]


def test_the_end_is_told_in_the_past(tmp_path: Path) -> None:
    """A resolved alert does not read as ongoing; after a restart Grafana would even send the templates
    of the texts."""
    ended = {**USED_UP, "status": "resolved"}

    assert rendered(tmp_path, TITLE, ended) == "[RESOLVED] BudgetExhausted · acme · budget acme"
    assert rendered(tmp_path, MESSAGE, ended).splitlines() == [
        "RESOLVED: A budget is used up",
        "Who: customer acme",
        "Budget: acme",
        "Threshold: 100 %",
        "Began: 2026-11-25 01:07 UTC",
        "Ended: 2026-11-25 01:30 UTC",
        "Runbook: http://r/BudgetExhausted",
    ]
    both = rendered(tmp_path, MESSAGE, ended, HALF).splitlines()
    assert [line for line in both if line.endswith("used up")] == [
        "FIRING: A budget is used up",
        "RESOLVED: A budget is used up",
    ]


def test_it_is_grafanas_policy() -> None:
    """Groups, waits, one-time alerts and wording match Grafana's files."""
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
    """Each alert says what it is about; only the threshold alerts are sent once."""
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
