"""The alert rules, run by promtool: what fires, at which minute, with which text."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from prometheus.src import recording
from prometheus.src.model import GRAFANA, Alert, Recording, dashboard_url
from prometheus.src.names import known_series
from prometheus.src.recording import (
    ALWAYS,
    NEVER_MISSED,
    ONCE_SEEN,
    ONCE_SENT,
    WITH_BUDGETS,
    WITH_SPEND,
    WITH_TRAFFIC,
)
from tests.rules import (
    cases_budgets,
    cases_edges,
    cases_machinery,
    cases_odd,
    cases_providers,
    cases_spend,
)
from tests.rules.harness import (
    ALERTS,
    NAMES,
    RECORDINGS,
    ROOT,
    Case,
    Fires,
    as_string,
    fill,
    play,
    promtool,
    trace_link,
)
from tests.rules.promql import metrics_of

CASES: list[Case] = [
    *cases_budgets.CASES,
    *cases_spend.CASES,
    *cases_providers.CASES,
    *cases_machinery.CASES,
    *cases_odd.CASES,
    *cases_edges.CASES,
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.alert}-{case.title}")
def test_what_fires_and_when(case: Case, tmp_path: Path) -> None:
    """An alert fires at the stated minute with these labels and texts, and not before."""
    assert play([case], tmp_path) == ""


def test_a_wrong_expectation_is_seen(tmp_path: Path) -> None:
    """A case with missing, extra or wrong alerts or texts does not pass."""
    good = cases_budgets.CASES[1]
    wrong: tuple[dict[int, list[Fires]], ...] = (
        {minute: [] for minute in good.at},
        {9: list(good.at[10])},
        {10: [Fires("other words", *(getattr(good.at[10][0], k) for k in ("labels", "variant")))]},
    )

    for at in wrong:
        assert "FAILED" in play([Case(good.alert, "wrong", good.series, at)], tmp_path)


OF_OTHERS = {
    "FallbackStorm": "chat",
    "ProviderErrorBudgetBurn": "openai",
    "AllDeploymentsDown": "chat",
    "TimeToFirstTokenSlow": "gpt-4o",
    "CostSpike": "acme",
    "UnpricedUsage": "new-model",
    "BudgetOverrun": "acme",
}
"""Alerts other than budgets' whose labels contain names that people choose, and such a name."""


@pytest.mark.parametrize("alert", OF_OTHERS)
def test_any_name_is_told_as_it_is(alert: str, tmp_path: Path) -> None:
    """Quotes, backslashes, template braces, other alphabets and two hundred letters change nothing."""
    name = OF_OTHERS[alert]
    case = next(c for c in CASES if c.alert == alert and c.fires and name in str(c.series))
    for odd in (*cases_budgets.ODD_NAMES, "ab " * 66 + "ab"):
        assert play([called(case, name, odd)], tmp_path) == "", odd


def called(case: Case, name: str, other: str) -> Case:
    """The case with another name throughout."""
    series = {k.replace(f'"{name}"', as_string(other)): v for k, v in case.series.items()}
    at = {
        minute: [
            replace(
                fires,
                says=fires.says.replace(name, other),
                labels={k: other if v == name else v for k, v in fires.labels.items()},
            )
            for fires in all_fire
        ]
        for minute, all_fire in case.at.items()
    }
    return replace(case, series=series, at=at)


@pytest.mark.parametrize("alert", NAMES)
def test_links_lead_to_the_grafana_that_is_named(alert: str, tmp_path: Path) -> None:
    """An alert's links begin with the address of Prometheus' external label."""
    case = next(case for case in CASES if case.alert == alert and case.fires)

    assert play([case], tmp_path, grafana="https://grafana.example/sub") == ""


def test_every_alert_is_played_both_ways() -> None:
    """Each alert, and each rule of it, has a series that fires it, and one that does not."""
    fired = {(c.alert, f.variant) for c in CASES for all_fire in c.at.values() for f in all_fire}
    quiet = {case.alert for case in CASES if not case.fires}
    bounded = {case.alert for case in CASES if case.fires and not all(case.at.values())}

    assert fired == {(alert.name, alert.variant) for alert in ALERTS}
    assert quiet == set(NAMES)
    assert bounded == set(NAMES)


@pytest.mark.parametrize(
    "words", ["no data at all", "gap|restart|renewal", "two |at once"], ids=lambda words: words
)
def test_edges_are_played(words: str) -> None:
    """Every alert is tested without data; most with gaps or restarts, and on two subjects at once."""
    tried = {case.alert for case in CASES if any(word in case.title for word in words.split("|"))}
    of_the_ledger = {"TelemetryBacklogGrowing", "LedgerSlowOrStuckHolds", "SignalAbsent"}
    exempt = of_the_ledger if "at once" in words else set()

    assert set(NAMES) - tried - exempt == set()


@pytest.mark.parametrize("name", ["recording", "alerts"])
def test_promtool_finds_no_fault(name: str) -> None:
    """The committed rule files pass promtool's own check, warnings included."""
    path = ROOT / "prometheus" / "rules" / f"{name}.yml"

    assert promtool("check", "rules", "--lint=all", "--lint-fatal", str(path)) == ""


def test_rules_use_only_registered_names() -> None:
    """Every metric in a rule is in the signal registry, recorded by a rule, or allowed by name."""
    records = {rule.record for rule in RECORDINGS}
    expressions = [rule.expr for rule in ALERTS] + [rule.expr for rule in RECORDINGS]
    used = {name for expr in expressions for name in metrics_of(expr)}

    assert used - records - known_series() == set()
    assert records - used == set()


def test_every_signal_that_rules_rest_on_is_watched() -> None:
    """A rule's metric is watched by SignalAbsent, or is listed with a reason why its absence is normal."""
    records = {rule.record for rule in RECORDINGS}
    rules: list[Alert | Recording] = [*ALERTS, *RECORDINGS]
    others = [rule.expr for rule in rules if rule not in watchers()]
    used = {name for expr in others for name in metrics_of(expr)} - records
    groups = (ALWAYS, WITH_BUDGETS, WITH_SPEND, WITH_TRAFFIC, ONCE_SENT, ONCE_SEEN)
    watched = {name for group in groups for name in group}

    assert used - watched == set(NEVER_MISSED)
    assert watched - used == {
        "spanledger_budgets_left_out",
        "spanledger_budgets_shown",
        "spanledger_holds_open",
        "spanledger_outbox_rows",
        "spanledger_ledger_operations_total",
        "spanledger_request_cost_usd_count",
    }


def watchers() -> list[Alert | Recording]:
    """The rules that only check whether others have what they need."""
    return [
        *(rule for rule in RECORDINGS if rule.record == recording.PRESENT),
        *(alert for alert in ALERTS if alert.name == "SignalAbsent" and alert.variant != "target"),
    ]


def test_severities_and_texts() -> None:
    """An alert pages or opens a ticket; its summary has no values, so equal ones group."""
    assert {alert.severity for alert in ALERTS} == {"page", "ticket"}
    assert [alert.name for alert in ALERTS if "{{" in alert.summary] == []
    assert [alert.name for alert in ALERTS if "{{" not in alert.description] == []


def test_committed_rules_are_those_tested() -> None:
    """The alert file that ships has exactly the rules of the source, in its order."""
    text = (ROOT / "prometheus" / "rules" / "alerts.yml").read_text(encoding="utf-8")
    shipped = [r for group in yaml.safe_load(text)["groups"] for r in group["rules"]]

    assert [(r["alert"], r["expr"]) for r in shipped] == [(a.name, a.expr) for a in ALERTS]


@pytest.mark.parametrize("who", cases_budgets.ODD_NAMES)
def test_links_survive_odd_names(who: str) -> None:
    """A link has the same name in its address, as Grafana and Tempo read it."""
    exhausted = next(alert for alert in ALERTS if alert.name == "BudgetThresholdCrossed")
    link = urlsplit(trace_link(exhausted, {"scope": "customer", "subject": who}))
    whose = {"scope": "customer", "subject": who, "budget": who}
    dashboard = fill(dashboard_url(exhausted, GRAFANA), whose)

    assert parse_qs(urlsplit(dashboard).query) == {
        "var-customer": [who],
        "var-budget": [who],
        "var-subject": [who],
    }
    assert parse_qs(link.query)["var-query"] == [
        f"{{ span.spanledger.customer = {json.dumps(who, ensure_ascii=False)} }}"
    ]
