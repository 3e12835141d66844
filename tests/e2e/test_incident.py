"""The demo's incident in real Prometheus: three alerts go pending, fire and end, with their notifications."""

from __future__ import annotations

import json
import os
import re
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from spanledger.demo.stage import LIMITS_USD, PRIMARY_DEPLOYMENTS, SPIKING
from spanledger.stack.programs import find_programs
from tests.e2e.incident import (
    ALERTS,
    Incident,
    amount,
    needs_a_stack_of_its_own,
    parts_of,
    play,
    told,
)
from tests.e2e.stack import ROOT, Labels, needs_programs

pytestmark = pytest.mark.timeout(900)

WAYS = ("alertmanager", "grafana")
OTHERS = [name for name in LIMITS_USD if name != SPIKING]
OF_THE_INCIDENT: dict[str, dict[str, set[str]]] = {
    "FallbackStorm": {"spanledger_route": set(PRIMARY_DEPLOYMENTS)},
    "CostSpike": {"scope": {"customer"}, "subject": {SPIKING}},
    "BudgetExhausted": {"budget": {SPIKING}, "subject": {SPIKING}},
    "BudgetThresholdCrossed": {"budget": {SPIKING}, "subject": {SPIKING}},
    "ProviderErrorBudgetBurn": {"gen_ai_provider_name": {"openai"}},
    "AllDeploymentsDown": {"route": set(PRIMARY_DEPLOYMENTS)},
}
"""Alerts that belong to the incident, and what they may be about."""
OF_THIS_MACHINE = {
    "LedgerSlowOrStuckHolds": "depends on the machine's disk, not on the incident",
    "TimeToFirstTokenSlow": "depends on the machine's CPU, not on the incident",
}


@pytest.fixture(scope="module")
def incident(tmp_path_factory: pytest.TempPathFactory) -> Incident:
    """The incident, run once."""
    needs_a_stack_of_its_own(os.environ.get("SPANLEDGER_E2E", "native"))
    needs_programs()
    return play(tmp_path_factory.mktemp("incident"))


def times(incident: Incident, name: str, state: str) -> list[float]:
    """When an alert was in a state."""
    return sorted(
        at
        for labels, found in incident.samples
        if (labels["alertname"], labels["alertstate"]) == (name, state)
        for at in found
    )


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_waits_fires_and_ends(incident: Incident, name: str) -> None:
    """In Prometheus' own record the alert is pending, then firing, and gone at the end."""
    pending, firing = (times(incident, name, state) for state in ("pending", "firing"))

    assert pending, name
    assert firing, name
    assert pending[0] < firing[0]
    assert name not in incident.left


def test_only_what_happened_is_told(incident: Incident) -> None:
    """Alerts fire only for the storm's provider and routes and the customer that spiked."""
    fired = [labels for labels, _ in incident.samples if labels["alertstate"] == "firing"]
    strange = [
        labels
        for labels in fired
        if labels["alertname"] not in OF_THIS_MACHINE
        and not belongs(labels, OF_THE_INCIDENT.get(labels["alertname"]))
    ]

    assert strange == []
    assert set(ALERTS) <= {labels["alertname"] for labels in fired}


def belongs(labels: Labels, who: dict[str, set[str]] | None) -> bool:
    """Whether an alert is about something it may be about."""
    return who is not None and all(labels.get(name, "") in allowed for name, allowed in who.items())


def test_the_budget_stops_exactly_that_customer(incident: Incident) -> None:
    """Other customers are served in every phase; the spiking one is refused once, then served again."""
    counts = {
        phase: {name: (tally.sent, tally.done, tally.refused) for name, tally in tallies.items()}
        for phase, tallies in incident.tallies.items()
    }

    for phase, by_customer in counts.items():
        for name in OTHERS:
            sent, done, _ = by_customer[name]
            assert sent == done > 0, (phase, name, counts)
    assert counts["spike"][SPIKING][2] > 0
    assert counts["recovery"][SPIKING][0] == counts["recovery"][SPIKING][1] > 0


def firing(incident: Incident, name: str) -> list[dict[str, Any]]:
    """How an alert was shown while it fired."""
    return incident.seen[name, "firing"]


def test_amounts_are_the_ledgers(incident: Incident) -> None:
    """BudgetExhausted names the ledger's spend, which is under the limit; CostSpike
    the spend of its window, which is about that."""
    limit = incident.limit_usd
    shown = {a["annotations"]["amount"] for a in firing(incident, "BudgetExhausted")}
    spikes = {a["annotations"]["amount"] for a in firing(incident, "CostSpike")}

    assert amount(incident.spent_usd) in shown
    assert limit * Decimal("0.75") < Decimal(incident.spent_usd) <= limit
    # `increase` extrapolates to the entire window.
    assert all(Decimal(text.removesuffix(" USD")) <= limit * 2 for text in spikes), spikes


@pytest.mark.parametrize(
    ("name", "dashboard", "shows"),
    [
        ("FallbackStorm", "providers-and-fallbacks", {"var-route": "fast"}),
        ("CostSpike", "cost-and-budgets", {"var-customer": SPIKING}),
        ("BudgetExhausted", "cost-and-budgets", {"var-customer": SPIKING, "var-budget": SPIKING}),
    ],
)
def test_links_lead_to_what_it_is_about(
    incident: Incident, name: str, dashboard: str, shows: dict[str, str]
) -> None:
    """The dashboard link is a shipped one with its variables set; the runbook is one of our pages."""
    texts = [alert["annotations"] for alert in firing(incident, name)]
    links = [urlsplit(text["dashboard_url"]) for text in texts]
    shipped = {
        json.loads(path.read_text("utf-8"))["uid"]
        for path in (ROOT / "grafana" / "dashboards").glob("*.json")
    }

    assert {link.path for link in links} == {f"/d/{dashboard}"}
    assert any(shows.items() <= dict(parse_qsl(link.query)).items() for link in links), links
    assert dashboard in shipped
    assert {text["runbook_url"].partition("/docs/")[2] for text in texts} == {f"runbooks/{name}.md"}
    assert (ROOT / "docs" / "runbooks" / f"{name}.md").is_file()


def notices(incident: Incident, way: str) -> list[Any]:
    """The notifications, or a skip that says what is missing."""
    if way not in incident.notices:
        lacking = {"alertmanager": "not found; run `make toolchain`", **find_programs().missing}
        pytest.skip(f"no {way}: {lacking[way]}")
    return incident.notices[way]


@pytest.mark.parametrize("name", ALERTS)
@pytest.mark.parametrize("way", WAYS)
def test_a_webhook_is_told_of_begin_and_end(incident: Incident, way: str, name: str) -> None:
    """The template's message arrives through Alertmanager with the example's configuration and through
    Grafana's contact point: who, how much, since when, and where to look."""
    arrived = notices(incident, way)
    shown = firing(incident, name)[0]["annotations"]
    begins, ends = (told(arrived, name, status) for status in ("FIRING", "RESOLVED"))
    assert begins, name
    assert ends, name
    lines = begins[0].splitlines()

    assert lines[0] == f"FIRING: {shown['summary']}"
    assert ends[0].splitlines()[0] == f"RESOLVED: {shown['summary']}"
    assert f"Runbook: {shown['runbook_url']}" in lines
    assert f"Period: {shown['period']}" in lines
    assert (f"Budget: {SPIKING}" in lines) == (name == "BudgetExhausted")
    if name != "FallbackStorm":
        assert f"Who: customer {SPIKING}" in lines
        assert re.search(r"^Amount: 0\.\d+ USD$", begins[0], re.MULTILINE)
        # Grafana's own links lead to its own address.
        page = shown["dashboard_url"].partition("/d/")[2]
        assert re.search(
            rf"^Dashboard: http://\S+:\d+/d/{re.escape(page)}$", begins[0], re.MULTILINE
        )


@pytest.mark.parametrize("way", WAYS)
def test_a_message_is_of_one_customer(incident: Incident, way: str) -> None:
    """A group of alerts has one title, which names customer and budget."""
    titles = {title for one in notices(incident, way) for title, _ in parts_of(one)}
    of_budgets = {title for title in titles if re.match(r"\[[^\]]+\] Budget", title)}

    assert {title.partition(" · ")[2] for title in of_budgets} == {f"{SPIKING} · budget {SPIKING}"}
    assert f"[FIRING 1] CostSpike · {SPIKING}" in titles
