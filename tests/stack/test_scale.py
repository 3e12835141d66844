"""Ten thousand customers, fifty models of three providers: how many series a real Prometheus has.

A real ledger file, its real shipper into Prometheus's OTLP receiver, a real gateway that is scraped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import yaml
from tools.replay_alerts import ask, prometheus

from prometheus.src import long, recording
from prometheus.src.model import Recording
from prometheus.src.thresholds import DEFAULT
from spanledger.stack.parts import PROMETHEUS_FLAGS
from spanledger.telemetry import signals
from spanledger.telemetry.exposition import MAX_BUDGETS
from spanledger.telemetry.signals import (
    METRICS,
    OTHER_CUSTOMER,
    SCRAPED,
    label_name,
    most_series,
    prometheus_name,
    prometheus_series,
    series_a_point,
)
from tests.rules.harness import program
from tests.stack.boards import ROOT
from tests.support.crowd import CUSTOMERS, DEPLOYMENTS, NAMED, Crowd
from tests.support.processes import poll, running

HISTOGRAM = series_a_point(signals.OPERATION_DURATION)
SPENT_NANO = 12_000
"""A limit that most customers have used by over a third."""
RECORDED = [
    rule
    for group in (*recording.groups(DEFAULT), *long.groups())
    for rule in group.rules
    if isinstance(rule, Recording)
]

pytestmark = [
    pytest.mark.skipif(
        program("prometheus") is None, reason="no prometheus: `make toolchain` builds it"
    ),
    pytest.mark.timeout(300),  # the first of them writes the ledger
]


def gateway_config() -> str:
    """A gateway with all deployments, each with its own limits."""
    return yaml.safe_dump(
        {
            "model_list": [
                {
                    "model_name": model,
                    "litellm_params": {
                        "model": f"openai/{model}",
                        "api_base": "http://127.0.0.1:9/v1",
                        "api_key": "none",
                        "rpm": 100,
                        "tpm": 100_000,
                    },
                    "model_info": {"id": f"{provider}-{model}"},
                }
                for model, provider in DEPLOYMENTS
            ]
        }
    )


def prometheus_config(target: str) -> str:
    """The stack's Prometheus, without rules, scraping one gateway often."""
    config = yaml.safe_load((ROOT / "prometheus" / "prometheus.yml").read_text("utf-8"))
    config["global"] = {"scrape_interval": "5s", "scrape_timeout": "5s"}
    del config["rule_files"]
    (job,) = config["scrape_configs"]
    del job["file_sd_configs"]
    job["static_configs"] = [{"targets": [target], "labels": {"job": "gateway"}}]
    return yaml.safe_dump(config)


@dataclass(frozen=True, slots=True)
class Counted:
    """The series in Prometheus."""

    url: str
    crowd: Crowd

    def ask(self, expr: str) -> dict[str, float]:
        """An expression, by the value of its one label."""
        result = ask(self.url, "/api/v1/query", query=expr)["result"]
        return {"".join(one["metric"].values()): float(one["value"][1]) for one in result}

    def one(self, expr: str) -> float:
        """The value of an expression with a single result; 0 without one."""
        return next(iter(self.ask(expr).values()), 0.0)

    @property
    def series(self) -> dict[str, int]:
        """Series by name."""
        found = self.ask('count by (__name__) ({__name__!=""})')
        return {name: int(number) for name, number in found.items()}


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Counted]:
    """The ledger is written, shipped and scraped."""
    folder = tmp_path_factory.mktemp("scale")
    crowd = Crowd(folder / "ledger.db")
    crowd.limit(SPENT_NANO)
    (folder / "spanledger.yaml").write_text(gateway_config(), "utf-8")
    command = ("gateway", "--config", "spanledger.yaml", "--port", "0", "--no-ship")
    with running(*command, folder=folder, env={"SPANLEDGER_LEDGER_URL": crowd.url}) as gateway:
        settings = prometheus_config(gateway.url().removeprefix("http://"))
        with prometheus(folder, *PROMETHEUS_FLAGS, settings=settings) as url:
            counted = Counted(url, crowd)
            assert crowd.ship(url)
            assert poll(lambda: "spanledger_budgets_left_out" in counted.series)
            yield counted


def test_no_metric_has_more_series_than_its_cap(counted: Counted) -> None:
    """Each metric stays below the maximum in docs/telemetry.md, and so does their sum."""
    series = counted.series
    found = {m.name: sum(series.get(name, 0) for name in prometheus_series(m)) for m in METRICS}

    assert {m.name: found[m.name] for m in METRICS if found[m.name] > most_series(m)} == {}
    assert found[signals.COST.name] == (NAMED + 1) * len(DEPLOYMENTS)
    assert found[signals.REQUEST_COST.name] == (NAMED + 1) * HISTOGRAM
    assert found[signals.OPERATION_DURATION.name] == most_series(signals.OPERATION_DURATION)
    assert found[signals.TOKEN_USAGE.name] == 2 * len(DEPLOYMENTS) * HISTOGRAM


def test_a_gateway_shows_few_of_many_budgets(counted: Counted) -> None:
    """Of ten thousand accounts a scrape has the thousand nearest their limit, and the number left out."""
    series = counted.series
    of_budgets = [s.name for s in SCRAPED if s.labels == ("budget", "scope", "subject")]
    of_deployments = [s.name for s in SCRAPED if s.labels == ("deployment", "route")]

    assert {series[name] for name in of_budgets} == {MAX_BUDGETS}
    assert counted.one("spanledger_budgets_left_out") == CUSTOMERS - MAX_BUDGETS
    assert {series[name] for name in of_deployments} == {len(DEPLOYMENTS)}


def test_totals_are_exact_whatever_the_labels_are(counted: Counted) -> None:
    """All cost series add up to the ledger to the nano-dollar, and no request is missing."""
    cost = prometheus_name(signals.COST)
    by_customer = counted.ask(f"sum by ({label_name('spanledger.customer')}) ({cost})")
    everything = len(counted.crowd.calls)
    attempts = f"{prometheus_name(signals.OPERATION_DURATION)}_count"
    overflow = f'{attempts}{{{label_name(signals.OVERFLOW)}="true"}}'

    assert round(counted.one(f"sum ({cost})") * 1e9) == counted.crowd.cost_nano
    assert len(by_customer) == NAMED + 1
    assert by_customer[OTHER_CUSTOMER] > 0
    for metric in (signals.REQUEST_COST, signals.REQUEST_DURATION, signals.OPERATION_DURATION):
        assert counted.one(f"sum ({prometheus_name(metric)}_count)") == everything
    assert 0 < counted.one(overflow) < everything


def test_rules_record_few_series_of_their_own(counted: Counted) -> None:
    """Recorded series are bounded too: a copy of each copied series, and little else."""
    series = counted.series
    recorded = {rule.record: 0 for rule in RECORDED}
    for rule in RECORDED:
        recorded[rule.record] += int(counted.one(f"count ({rule.expr})"))
    copies = {long.copy_of(name): series.get(name, 0) for name in long.COPIED}

    assert {name: recorded.pop(name) for name in copies} == copies
    assert sum(copies.values()) > signals.COST.most
    assert sum(recorded.values()) < 20 * MAX_BUDGETS
