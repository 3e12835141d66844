"""List price, cost and customer charge, from a request to span, metric and report."""

from __future__ import annotations

import json
import threading
import urllib.request
from fractions import Fraction
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from spanledger.cli import app
from spanledger.config import TelemetrySettings, parse_config
from spanledger.money import format_usd
from spanledger.sim.bill import Entry
from spanledger.sim.server import sim_in_thread
from spanledger.telemetry.shipper import run_shipper
from tests.service.gateway.test_clients import Running
from tests.service.telemetry.conftest import FAST, until
from tests.support.ledgers import store_at
from tests.support.otlp_sink import OtlpSink

PRICING: dict[str, Any] = {
    "contracts": [
        {"name": "ours", "provider": "openai", "discount": "12.5%"},
        {"name": "over", "provider": "openai", "discount": "90%", "to": "2026-01-01"},
    ],
    "charges": [
        {"name": "all", "markup": "20%"},
        {"name": "acme", "customer": "acme", "of": "list", "discount": "5%"},
    ],
}
CUSTOMERS = ("acme", "globex")


def _ask(url: str, key: str, *, stream: bool) -> None:
    body = {
        "model": "chat",
        "messages": [{"role": "user", "content": "Tell me something"}],
        "max_tokens": 90,
        "stream": stream,
    }
    request = urllib.request.Request(
        f"{url}/v1/chat/completions",
        data=json.dumps(body).encode(),
        headers={"authorization": f"Bearer {key}", "content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as reply:
        reply.read()


def _are_three(entries: list[Entry]) -> bool:
    return len(entries) == 3


def _spend(ledger: Path) -> dict[str, dict[str, str]]:
    command = ["spend", "--by", "customer", "--ledger", f"sqlite:///{ledger}", "--json"]
    rows = json.loads(CliRunner().invoke(app, command).output)["rows"]
    return {row["customer"]: row for row in rows}


@pytest.mark.parametrize("stream", [False, True])
def test_bill_cost_and_charge_agree_everywhere(
    stream: bool, tmp_path: Path, sink: OtlpSink, settings: TelemetrySettings
) -> None:
    """The provider bills at list prices; span, metric and report have that, the contract's cost and what
    each customer is charged, to the nano-dollar."""
    ledger = tmp_path / "ledger.db"
    with store_at(ledger).records("create") as records:
        keys = {name: records.create_key(name, "", [], 1)[0] for name in CUSTOMERS}
    bills: dict[str, list[Entry]] = {name: [] for name in CUSTOMERS}
    with sim_in_thread() as sim:
        entry = {
            "model_name": "chat",
            "litellm_params": {
                "model": "openai/gpt-4o",
                "api_base": f"{sim.url}/v1",
                "api_key": "sk-sim",
            },
        }
        config = parse_config(
            {
                "model_list": [entry],
                "gateway": {"port": 0},
                "ledger": {"url": f"sqlite:///{ledger}"},
                "pricing": PRICING,
            },
            {},
            "test",
        )
        with Running(config) as url:
            for customer in CUSTOMERS:
                sim.state.bill.on_entry = bills[customer].append
                for _ in range(3):
                    _ask(url, keys[customer], stream=stream)
                entries = bills[customer]
                until(partial(_are_three, entries))
    run_shipper(store_at(ledger), settings, threading.Event(), once=True, pace=FAST)

    report = _spend(ledger)
    spans = [span for span in sink.spans if span.kind == "CLIENT"]
    for customer in CUSTOMERS:
        listed = [each.nano_usd for each in bills[customer]]
        costs = [ceil(Fraction(nano) * Fraction(7, 8)) for nano in listed]
        # Prices of this model are multiples of a nano-dollar for the tokens here, or the bill is rounded.
        mine = [s.attributes for s in spans if s.attributes["spanledger.customer"] == customer]
        seen = [int(s["spanledger.cost.nano_usd"]) for s in mine]
        assert all(0 <= cost - own <= 1 for cost, own in zip(costs, seen, strict=True))
        share, base = (Fraction(95, 100), listed) if customer == "acme" else (Fraction(6, 5), seen)
        charges = [ceil(nano * share) for nano in base]

        assert [s["spanledger.list_cost.nano_usd"] for s in mine] == listed
        assert [s["spanledger.charge.nano_usd"] for s in mine] == charges
        rule = "acme" if customer == "acme" else "all"
        assert {s["spanledger.charge.rule"] for s in mine} == {rule}
        assert all(str(s["spanledger.price.id"]).endswith("/gpt-4o*0.875") for s in mine)
        row, sums = report[customer], (sum(listed), sum(seen), sum(charges))
        assert (row["list_usd"], row["cost_usd"], row["charged_usd"]) == tuple(
            map(format_usd, sums)
        )
        names = ("spanledger.list_cost.usd", "spanledger.cost.usd", "spanledger.charge.usd")
        told = [sink.total(name, **{"spanledger.customer": customer}) for name in names]
        assert told == [pytest.approx(nano / 10**9, abs=1e-12) for nano in sums]


def test_without_rules_there_is_one_amount(
    tmp_path: Path, sink: OtlpSink, settings: TelemetrySettings
) -> None:
    """No span and no metric has the other two, and the report shows the cost alone."""
    ledger = tmp_path / "ledger.db"
    with sim_in_thread() as sim:
        params = {"model": "openai/gpt-4o", "api_base": f"{sim.url}/v1", "api_key": "sk-sim"}
        config = parse_config(
            {
                "model_list": [{"model_name": "chat", "litellm_params": params}],
                "gateway": {"port": 0},
                "ledger": {"url": f"sqlite:///{ledger}"},
            },
            {},
            "test",
        )
        with Running(config) as url:
            _ask(url, "", stream=False)
    run_shipper(store_at(ledger), settings, threading.Event(), once=True, pace=FAST)

    names = {name for span in sink.spans for name in span.attributes}
    assert not [name for name in names if "charge" in name or "list_cost" in name]
    assert not {p.metric for p in sink.points} & {
        "spanledger.list_cost.usd",
        "spanledger.charge.usd",
    }
    printed = CliRunner().invoke(app, ["spend", "--ledger", f"sqlite:///{ledger}"]).output
    assert "charged" not in printed
    assert "list price" not in printed
