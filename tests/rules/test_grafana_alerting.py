"""Grafana's alerting files: the same rules, fixed uids, routing."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from grafana.src.links import TITLES
from prometheus.src.grafana import ITSELF, uid
from prometheus.src.model import annotations_of, labels_of
from tests.rules.harness import ALERTS, NAMES, ROOT
from tests.rules.test_rules import CASES

FOLDER = ROOT / "grafana" / "provisioning" / "alerting"


def read(name: str) -> Any:
    """A file of Grafana's alerting."""
    return yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))


RULES: list[dict[str, Any]] = [rule for group in read("rules")["groups"] for rule in group["rules"]]


def test_grafana_has_the_same_rules() -> None:
    """Expression, `for` and labels of each rule are those of Prometheus."""
    theirs = [(r["data"][0]["model"]["expr"], r["labels"]["severity"]) for r in RULES]

    assert theirs == [(alert.expr, alert.severity) for alert in ALERTS]


def test_uids_and_titles_are_unique_and_fixed() -> None:
    """A rule keeps its uid across upgrades; Grafana accepts at most 40 characters."""
    uids = [rule["uid"] for rule in RULES]

    assert len(set(uids)) == len({rule["title"] for rule in RULES}) == len(RULES)
    assert all(re.fullmatch(r"[a-z0-9-]{1,40}", name) for name in uids)
    assert uid(ALERTS[0]) == "sl-16ce5fd9084af746"


def test_rules_that_are_no_more_are_deleted() -> None:
    """An upgrade leaves no rule of an earlier version behind, and deletes none of today's."""
    deleted = {rule["uid"] for rule in read("rules")["deleteRules"]}

    assert "sl-10492e2185f3fc91" in deleted  # the step of 50 % in 0.1.0
    assert deleted & {rule["uid"] for rule in RULES} == set()


@pytest.mark.parametrize("name", NAMES)
def test_a_label_that_may_be_missing_is_asked_for_first(name: str) -> None:
    """Grafana writes `[no value]` where an alert has no such label; Prometheus writes nothing."""
    optional = re.compile(r"\{\{ with \$labels\.\w+ \}\}")
    for case in CASES:
        for fires in (f for all_fire in case.at.values() for f in all_fire if case.alert == name):
            rule = next(a for a in ALERTS if (a.name, a.variant) == (name, fires.variant))
            had = {**labels_of(rule), **fires.labels}
            for text in annotations_of(rule).values():
                used = set(re.findall(r"\$labels\.(\w+)", optional.sub("", text)))
                assert used <= had.keys(), (case.title, text)


def test_each_rule_asks_prometheus_and_fires_on_any_value() -> None:
    """A is an instant query, B is 1 for every series of it; errors do not count as incidents."""
    for rule in RULES:
        query, condition = rule["data"]
        assert (query["datasourceUid"], query["model"]["instant"]) == ("prometheus", True)
        assert (condition["refId"], condition["model"]["expression"]) == ("B", "is_number($A)")
        assert (rule["condition"], rule["execErrState"]) == ("B", "Error")
        assert rule["noDataState"] == "OK"
    assert [a.name for a in ALERTS if not a.no_data_reason] == []


def test_texts_use_what_grafana_has() -> None:
    """`$value` is a sentence in Grafana: texts use the number. Its files expand no variables in
    annotations: links use Grafana's own address, without the trailing slash."""
    for rule in RULES:
        texts = rule["annotations"]
        text = " ".join(texts.values())
        assert "$value " not in text
        assert "${" not in text
        assert "localhost" not in text
        for name in ("dashboard_url", "trace_url"):
            if name in texts:
                assert f"{ITSELF}/" in texts[name], texts[name]


def test_a_rule_without_an_answer_has_empty_texts() -> None:
    """Grafana also renders the texts of an empty answer, without labels or values, and would log an
    error for each."""
    for rule in RULES:
        for text in rule["annotations"].values():
            assert "{{" not in text or re.fullmatch(
                r"\{\{ if \$values\.A \}\}.+\{\{ end \}\}", text
            )


def test_links_lead_to_dashboards_that_exist() -> None:
    """The dashboard of an alert exists."""
    assert {alert.dashboard for alert in ALERTS} <= set(TITLES)


@pytest.mark.parametrize("kind", ["webhook", "slack", "email"])
def test_each_way_is_chosen_by_the_environment(kind: str) -> None:
    """A contact point reads its address from a variable; its policy selects its severities."""
    points = {
        point["name"]: point["receivers"][0] for point in read("contact-points")["contactPoints"]
    }
    policy = read("policies")["policies"][0]
    routes = {route["receiver"]: route for route in policy["routes"] if "continue" in route}
    point, route = points[f"spanledger {kind}"], routes[f"spanledger {kind}"]
    address = point["settings"]["addresses" if kind == "email" else "url"]

    assert re.fullmatch(rf"\$\{{SPANLEDGER_ALERT_{kind.upper()}_(URL|TO)\}}", address)
    assert route["object_matchers"] == [
        ["severity", "=~", f"${{SPANLEDGER_ALERT_{kind.upper()}_FOR}}"]
    ]
    assert route["continue"] is True
    assert {"scope", "subject", "budget"} <= set(policy["group_by"])


def test_what_nobody_asked_for_stays_in_grafana() -> None:
    """The last route matches all our alerts and is always muted, by an existing mute timing."""
    last = read("policies")["policies"][0]["routes"][-1]
    muted = {mute["name"] for mute in read("mute-times")["muteTimes"]}

    assert re.fullmatch(last["object_matchers"][0][2], "page")
    assert re.fullmatch(last["object_matchers"][0][2], "ticket")
    assert set(last["mute_time_intervals"]) == muted


def test_messages_name_what_people_ask_for() -> None:
    """The template has customer, budget, amount, period and the three links; contact points use it."""
    template = read("templates")["templates"][0]["template"]
    defined = set(re.findall(r'\{\{ define "([^"]+)"', template))
    used = set(
        re.findall(
            r'template "([^"]+)"', template + (FOLDER / "contact-points.yaml").read_text("utf-8")
        )
    )

    for name in ("amount", "period", "dashboard_url", "trace_url", "runbook_url"):
        assert f".Annotations.{name}" in template
    for name in ("subject", "scope", "budget"):
        assert f".Labels.{name}" in template
    assert used == defined
    opens = len(re.findall(r"\{\{-? *(?:if|with|range|define)\b", template))
    assert opens == len(re.findall(r"\{\{-? *end\b", template))
