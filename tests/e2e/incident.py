"""The demo's incident on its own stack, with the shipped rules at twenty times their speed.

Customers, storm, spike, budgets and the raised limit are the demo's. Each phase lasts until Prometheus has
seen it, so nothing here depends on how fast a machine is. The week that CostSpike compares with is written
into Prometheus' database beforehand, as its own rules would have recorded it.
"""

from __future__ import annotations

import asyncio
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from tools.replay_alerts import Row, store

from prometheus.src.recording import BASELINE_1H, SPEND_1H
from prometheus.src.thresholds import DAY
from spanledger.demo.crowd import Applications
from spanledger.demo.stage import (
    CUSTOMERS,
    LIMITS_USD,
    PRIMARY_DEPLOYMENTS,
    SIM_SPEED,
    SPIKING,
    STORM,
    configuration,
    control,
    quiet_timezone,
    raising,
)
from spanledger.stack.programs import find_programs
from spanledger.worker.traffic import Ask, Tally
from tests.e2e.stack import ROOT, Labels, NativeTarget, Stack
from tests.rules.harness import program
from tests.support.processes import poll, running
from tests.support.webhook_sink import WebhookSink

SPEED = 20
SETTINGS = ("spike_floor_usd=0.01", "fallback_min=3")
"""A window a twentieth as long has fewer fallbacks, and the demo's customers spend cents."""
MODELS = ("gpt-4o", "gpt-4o-mini", "claude-sonnet-4-5", "claude-haiku-4-5")
USUAL_USD = {
    **{("customer", name): float(limit) / 5 for name, limit in LIMITS_USD.items()},
    **{("model", name): 0.2 for name in MODELS},
}
"""The cost of a busy hour in the past: low for the customer that spikes; for the models, more
than the entire incident costs."""
PAST_S = 8 * DAY // SPEED
PAST_STEP_S = 60
PHASE_S = 240.0
"""If Prometheus has not seen a phase by then, the test fails."""
SPIKE_S = 50.0
"""A past spike has left its rule's window by then: three quarters of a minute at this speed."""
SPIKES = 4
"""Spikes to try until one is seen in time; more would exceed the raised limit."""
END_S = 300.0
"""From the recovery to the end of the last alert; a minute and a half by the rules."""
PAUSE_S = 0.2
SELDOM_S = 3.0
"""Between two ordinary requests of the customer that will spike: its usual spend is a third of its
past spend, however fast the machine is."""
ALERTS = ("FallbackStorm", "CostSpike", "BudgetExhausted")


@dataclass(slots=True)
class Incident:
    """The incident and what was observed."""

    seen: dict[tuple[str, str], list[dict[str, Any]]] = field(default_factory=dict)
    """Name and state of an alert, mapped to how it was shown each time."""
    samples: list[tuple[Labels, list[float]]] = field(default_factory=list)
    """Prometheus' own record of alerts: the times at which each was in a state."""
    left: list[str] = field(default_factory=list)
    """Names of alerts still pending or firing at the end."""
    tallies: dict[str, dict[str, Tally]] = field(default_factory=dict)
    """Phase and customer, mapped to the requests' outcomes."""
    limit_usd: Decimal = Decimal(LIMITS_USD[SPIKING])
    """Spend of the blocked customer at that time."""
    spent_usd: str = ""
    """Spend of the blocked customer at that time, according to the ledger."""
    notices: dict[str, list[Any]] = field(default_factory=dict)
    """Notifications received from `alertmanager` and `grafana`, if installed."""


@contextmanager
def open_stack(
    folder: Path, sim_url: str, alertmanager: str, env: Mapping[str, str]
) -> Iterator[Stack]:
    """A stack with the demo's configuration, faster rules, and a past."""
    rules = write_rules(folder)
    home = folder / "stack"
    targets = home / "prometheus" / "config" / "targets"
    targets.mkdir(parents=True)
    if alertmanager:
        (targets / "alertmanagers.yml").write_text(f"- targets: [{alertmanager!r}]\n", "utf-8")
    config = folder / "spanledger.yaml"
    # The stack sets the ledger and collector addresses in the environment.
    text = configuration(sim_url, "sqlite:///unused.db", "http://unused", timezone())
    config.write_text(text, "utf-8")
    store(past(time.time()), home / "prometheus")
    words = ("--rules", str(rules), "--config", str(config))
    target = NativeTarget(home, words, {"SPANLEDGER_TEMPO": "", **env})
    try:
        stack = Stack(target)
        with stack.http:
            yield stack
    finally:
        target.close()


def timezone() -> str:
    """A time zone for the budgets whose month does not end during the test."""
    return quiet_timezone(datetime.now(UTC))


def write_rules(folder: Path) -> Path:
    """Write the rules with the same tool users have."""
    rules = folder / "rules"
    tool = [sys.executable, str(ROOT / "tools" / "generate_rules.py")]
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    how = ["--speed", str(SPEED), *settings, "--out", str(rules)]
    subprocess.run([*tool, *how], check=True, capture_output=True)
    return rules


def past(now: float) -> Iterator[Row]:
    """A week and a day of each customer's and model's busy-hour spend."""
    times = range(int(now) - PAST_S, int(now), PAST_STEP_S)
    for (scope, subject), usd in USUAL_USD.items():
        name = f'{SPEND_1H}{{scope="{scope}",subject="{subject}"}}'
        yield name, [(float(at), usd) for at in times]


@contextmanager
def open_alertmanager(folder: Path, sink: WebhookSink) -> Iterator[str]:
    """An Alertmanager with the example's configuration, with the address filled in; empty if it is not installed."""
    found = program("alertmanager")
    if found is None:
        yield ""
        return
    written = write_rules(folder) / "prometheus"
    config = yaml.safe_load((written / "alertmanager.example.yml").read_text("utf-8"))
    config["receivers"][0]["slack_configs"][0]["api_url"] = sink.url
    (written / "alertmanager.yml").write_text(yaml.safe_dump(config), "utf-8")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    flags = (
        f"--config.file={written / 'alertmanager.yml'}",
        f"--storage.path={folder / 'alertmanager'}",
        f"--web.listen-address={address}",
        "--cluster.listen-address=",
        "--log.level=warn",
    )
    log = folder / "alertmanager.log"
    with log.open("wb") as output:
        process = subprocess.Popen([str(found), *flags], stdout=output, stderr=output)
    try:
        assert poll(lambda: is_ready(f"http://{address}/-/ready")), log.read_text("utf-8")
        yield address
    finally:
        process.terminate()
        process.wait(20)


def with_grafana(webhook: str) -> dict[str, str]:
    """Variables that give the stack a Grafana with a webhook; empty if it is not installed."""
    found = find_programs().found.get("grafana")
    if found is None:
        return {}
    return {
        "SPANLEDGER_GRAFANA": str(found),
        "SPANLEDGER_ALERT_WEBHOOK_URL": webhook,
        "SPANLEDGER_ALERT_WEBHOOK_FOR": "page|ticket",
    }


def is_ready(url: str) -> bool:
    """Whether a URL answers."""
    try:
        return httpx.get(url, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def play(folder: Path) -> Incident:
    """Start everything, run the incident, stop everything."""
    incident = Incident()
    with ExitStack() as parts:
        sinks = {name: parts.enter_context(WebhookSink()) for name in ("alertmanager", "grafana")}
        alertmanager = parts.enter_context(open_alertmanager(folder, sinks["alertmanager"]))
        grafana = with_grafana(sinks["grafana"].url)
        sim = parts.enter_context(
            running("sim", "--port", "0", "--speed", str(SIM_SPEED), folder=folder)
        )
        sim_url = sim.url()
        stack = parts.enter_context(open_stack(folder, sim_url, alertmanager, grafana))
        there = [n for n, has in (("alertmanager", alertmanager), ("grafana", grafana)) if has]
        heard = [sinks[name] for name in there]
        started = time.monotonic()
        asyncio.run(Director(stack, sim_url, heard, incident).play())
        window = f"{time.monotonic() - started + 60:.0f}s"
        incident.samples = stack.samples("ALERTS", window)
        poll(lambda: all(told(s.bodies(), n, "RESOLVED") for s in heard for n in ALERTS), END_S)
        incident.notices = {name: sinks[name].bodies() for name in there}
    return incident


def amount(usd: str) -> str:
    """Money of less than a dollar as an alert shows it."""
    return f"{float(usd):.3g} USD"


def told(notices: Sequence[Any], name: str, status: str) -> list[str]:
    """The parts of messages about an alert's start (`FIRING`) or end (`RESOLVED`)."""
    texts = [text for notice in notices for _, text in parts_of(notice)]
    parts = [part.strip() for text in texts for part in re.split(r"\n(?=FIRING:|RESOLVED:)", text)]
    return [part for part in parts if part.startswith(f"{status}:") and f"/{name}.md" in part]


def parts_of(notice: Any) -> list[tuple[str, str]]:
    """Titles and messages of notifications, in the format of Grafana's webhook or Slack's."""
    if "attachments" in notice:
        return [(one["title"], one["text"]) for one in notice["attachments"]]
    return [(notice["title"], notice["message"])]


class Director:
    """Runs the phases with the demo's callers, each until Prometheus has seen its effect."""

    def __init__(
        self, stack: Stack, sim_url: str, sinks: Sequence[WebhookSink], incident: Incident
    ) -> None:
        self._stack = stack
        self._sim_url = sim_url
        self._sinks = sinks
        self._incident = incident
        keys = {name: stack.key(name) for name in CUSTOMERS}
        self._crowd = Applications(stack.urls["gateway"], keys, seed=1)
        self._asked_at = 0.0

    async def play(self) -> None:
        """Run all phases."""
        try:
            await self._until("ordinary", self._ordinary, self._knows_everybody)
            await self._storm()
            await self._spike()
            await self._until("spike", self._long, self._is_stopped)
            await self._until("spike", self._long, self._shows_the_ledgers_amount)
            await self._recovery()
        finally:
            await self._crowd.close()

    async def _storm(self) -> None:
        for fault in STORM:
            await asyncio.to_thread(control, "POST", f"{self._sim_url}/sim/faults", fault)
        await self._until("storm", self._chats, lambda: self._fires("FallbackStorm"))
        await asyncio.to_thread(control, "DELETE", f"{self._sim_url}/sim/faults")
        for route, deployment in PRIMARY_DEPLOYMENTS.items():
            deadline = time.monotonic() + PHASE_S
            while await self._crowd.deployment_of("acme", route) != deployment:
                assert time.monotonic() < deadline, f"{deployment} did not recover"
                await asyncio.sleep(PAUSE_S)

    async def _spike(self) -> None:
        """Spend until the alert appears, which soon exceeds the budget: if the machine
        is too busy to see the spike within its window, raise the limit by as much again."""
        for tried in range(SPIKES):
            if tried:
                await self._raise_by(Decimal(LIMITS_USD[SPIKING]))
            if await self._is_seen("spike", self._long, lambda: self._fires("CostSpike"), SPIKE_S):
                return
        raise AssertionError(("spike", self._stack.alerts()))

    async def _raise_by(self, usd: Decimal) -> None:
        self._incident.limit_usd += usd
        words = ("budget", "limit", SPIKING, f"{self._incident.limit_usd}")
        await asyncio.to_thread(self._stack.target.command, *words)

    async def _recovery(self) -> None:
        await asyncio.to_thread(self._stack.target.command, *raising(timezone()))
        await self._until("recovery", self._ordinary, self._is_over, END_S)
        self._incident.left = [alert["labels"]["alertname"] for alert in self._stack.alerts()]

    async def _until(
        self,
        phase: str,
        asks: Callable[[], Mapping[str, Sequence[Ask]]],
        seen: Callable[[], bool],
        within_s: float = PHASE_S,
    ) -> None:
        """Send rounds of requests until something is seen; fails if it never is."""
        if not await self._is_seen(phase, asks, seen, within_s):
            raise AssertionError((phase, self._stack.alerts()))

    async def _is_seen(
        self,
        phase: str,
        asks: Callable[[], Mapping[str, Sequence[Ask]]],
        seen: Callable[[], bool],
        within_s: float,
    ) -> bool:
        """Send rounds of requests until something is seen or time is up; returns whether it was."""
        tallies = self._incident.tallies.setdefault(phase, {name: Tally() for name in CUSTOMERS})
        deadline = time.monotonic() + within_s
        while not await asyncio.to_thread(seen):
            if time.monotonic() > deadline:
                return False
            for name, tally in (await self._crowd.play(asks())).items():
                for count in ("sent", "done", "refused", "failed"):
                    total = getattr(tallies[name], count) + getattr(tally, count)
                    setattr(tallies[name], count, total)
            await asyncio.sleep(PAUSE_S)
        return True

    # requests ------------------------------------------------------------------------------

    def _ordinary(self) -> Mapping[str, Sequence[Ask]]:
        counts = {"acme": 2, "globex": 1}
        if time.monotonic() - self._asked_at > SELDOM_S:
            self._asked_at = time.monotonic()
            counts[SPIKING] = 1
        return {name: self._crowd.ordinary(name, count) for name, count in counts.items()}

    def _chats(self) -> Mapping[str, Sequence[Ask]]:
        """Excludes embeddings, which have no second provider."""
        counts = {"acme": 2, "globex": 2}
        return {n: self._crowd.ordinary(n, count, embeddings=False) for n, count in counts.items()}

    def _long(self) -> Mapping[str, Sequence[Ask]]:
        others = {name: self._crowd.ordinary(name, 1) for name in CUSTOMERS if name != SPIKING}
        return {**others, SPIKING: self._crowd.long(3)}

    # observations --------------------------------------------------------------------------

    def _look(self) -> set[tuple[str, str]]:
        """Names and states of current alerts; recorded with their texts."""
        found = set()
        for alert in self._stack.alerts():
            key = (alert["labels"]["alertname"], alert["state"])
            self._incident.seen.setdefault(key, []).append(alert)
            found.add(key)
        return found

    def _fires(self, *names: str) -> bool:
        """Whether alerts have fired and all receivers have been notified."""
        self._look()
        seen = all((name, "firing") in self._incident.seen for name in names)
        return seen and all(told(s.bodies(), n, "FIRING") for s in self._sinks for n in names)

    def _is_stopped(self) -> bool:
        refused = self._incident.tallies["spike"][SPIKING].refused
        return self._fires("BudgetExhausted", "CostSpike") and refused > 0

    def _shows_the_ledgers_amount(self) -> bool:
        """Whether the alert has caught up with the ledger's spend."""
        states = {s["name"]: s for s in self._stack.target.command("budget", "list")}
        self._incident.spent_usd = states[SPIKING]["spent_usd"]
        self._look()
        newest = self._incident.seen["BudgetExhausted", "firing"][-1]
        return bool(amount(self._incident.spent_usd) == newest["annotations"]["amount"])

    def _knows_everybody(self) -> bool:
        """Whether Prometheus has every customer's figures, past and current."""
        self._look()
        subjects = [
            {labels["subject"] for labels, _ in self._stack.query(f'{name}{{scope="customer"}}')}
            for name in (BASELINE_1H, SPEND_1H)
        ]
        spends = self._stack.query("sum by (spanledger_customer) (spanledger_cost_usd_total) > 0")
        return all(found == set(CUSTOMERS) for found in subjects) and len(spends) == len(CUSTOMERS)

    def _is_over(self) -> bool:
        names = {name for name, _ in self._look()}
        served = self._incident.tallies["recovery"][SPIKING].done
        return served > 0 and not names & set(ALERTS)


def needs_a_stack_of_its_own(which: str) -> None:
    """Skip if a stack is already running, with its own rules."""
    if which == "compose":
        pytest.skip("the incident needs faster rules than a running stack has")
    if program("promtool") is None:
        pytest.skip("no promtool: `make toolchain` builds it")
