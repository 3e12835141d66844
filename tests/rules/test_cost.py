"""The cost of evaluating all rules, with all signals at their caps.

Counted in samples read, which is the same on every machine; Prometheus reads tens of
millions per second.
"""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from tools.replay_alerts import Row, prometheus, store

from prometheus.src.model import Alert, Recording
from prometheus.src.recording import PRESENT, SPEND_1H, WITH_BUDGETS, WITH_SPEND
from spanledger.telemetry.signals import COST, DURATION_BUCKETS
from tests.rules.harness import ALERTS, RECORDINGS, START_S, program

CUSTOMERS = 101
MODELS = 150
"""Customers with their own series plus `other`, at enough models to reach a metric's cap."""
BUDGETS = 100
GATEWAYS = 2
MAX_SAMPLES = 3_000_000
DAY_S = 86_400


def rows() -> Iterator[Row]:
    """Seventy minutes of everything at the cap, and a week of recorded series."""
    recent = [(float(START_S - 15 * k), 1000.0 - k) for k in reversed(range(280))]
    week = [(float(START_S - 60 * k), 1.0) for k in reversed(range(8 * 1440))]
    day = week[-1500:]
    assert COST.most * 0.9 < CUSTOMERS * MODELS <= COST.most
    for customer in range(CUSTOMERS):
        for model in range(MODELS):
            labels = f'gen_ai_request_model="m{model}",spanledger_customer="c{customer}"'
            yield f'spanledger_cost_usd_total{{gen_ai_provider_name="p",{labels}}}', recent
        yield f'{SPEND_1H}{{scope="customer",subject="c{customer}"}}', week
    name = "gen_ai_client_operation_time_to_first_chunk_seconds"
    for model in range(MODELS):
        yield f'{SPEND_1H}{{scope="model",subject="m{model}"}}', week
        labels = f'gen_ai_provider_name="p{model % 3}",gen_ai_request_model="m{model}"'
        for kind in ("", "timeout", "rate_limited"):
            series = f'{{{labels},error_type="{kind}"}}'
            yield f"gen_ai_client_operation_duration_seconds_count{series}", recent
        for le in (*DURATION_BUCKETS, "+Inf"):
            yield f'{name}_bucket{{{labels},le="{le}"}}', recent
        yield f"{name}_count{{{labels}}}", recent
    for gateway in range(GATEWAYS):
        for budget in range(BUDGETS):
            labels = (
                f'instance="g{gateway}",budget="b{budget}",scope="customer",subject="b{budget}"'
            )
            for name in (*WITH_BUDGETS, *WITH_SPEND):
                yield f"{name}{{{labels}}}", recent[-20:]
            for step in (50, 80, 95):
                where = f'{labels},threshold="{step}"'
                yield f"spanledger_budget_threshold_ratio{{{where}}}", recent[-20:]
    for budget in range(BUDGETS):
        labels = f'spanledger_budget_decision="deny",spanledger_budget_refused_by="b{budget}"'
        yield f"spanledger_budget_decisions_total{{{labels}}}", recent
    for provider in range(3):
        for record in ("attempts", "failures"):
            labels = f'{{gen_ai_provider_name="p{provider}"}}'
            yield f"provider:spanledger_{record}:rate5m{labels}", week[-3 * 1440 :]
    for rule in RECORDINGS:
        if rule.record == PRESENT:
            yield f'{PRESENT}{{signal="{rule.labels["signal"]}"}}', day
    yield 'up{job="gateway",instance="g0"}', recent


@pytest.mark.skipif(program("prometheus") is None, reason="no prometheus: `make toolchain`")
@pytest.mark.timeout(300)
def test_an_evaluation_of_all_rules_is_cheap(tmp_path: Path) -> None:
    """All rules at once read few samples, whatever the number of customers behind the cap."""
    store(rows(), tmp_path)
    all_rules: list[Alert | Recording] = [*RECORDINGS, *ALERTS]
    read: dict[str, int] = {}
    with prometheus(tmp_path) as url:
        for number, expr in enumerate(rule.expr for rule in all_rules):
            form = {"query": expr, "time": START_S, "stats": "all"}
            address = f"{url}/api/v1/query?{urllib.parse.urlencode(form)}"
            with urllib.request.urlopen(address, timeout=60) as answer:
                stats = json.load(answer)["data"]["stats"]
            read[f"{number} {expr}"] = stats["samples"]["totalQueryableSamples"]

    assert sum(read.values()) > COST.most
    assert sum(read.values()) <= MAX_SAMPLES, sorted(read.items(), key=lambda item: -item[1])[:5]
