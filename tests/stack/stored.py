"""A collector before a real Prometheus, and metrics made by hand for it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from tools.replay_alerts import ask, prometheus

from spanledger.stack.parts import PROMETHEUS_FLAGS
from spanledger.telemetry.signals import SCOPE_NAME
from tests.stack.boards import ROOT
from tests.stack.conftest import APPLICATION_SCOPE, _sign, put
from tests.support.collector import Collector

S = 1_000_000_000
CUMULATIVE, DELTA = 2, 1


class Message:
    """A builder for a metrics export; points have the current time by default."""

    def __init__(self, scope: str = APPLICATION_SCOPE, **resource: Any) -> None:
        self.export = ExportMetricsServiceRequest()
        group = self.export.resource_metrics.add()
        put(group.resource.attributes, {"service.name": "app", **resource})
        self.scoped = group.scope_metrics.add()
        _sign(group.resource, self.scoped, scope)
        self.now = time.time_ns()

    def counter(  # each is a way to be unhealthy
        self,
        name: str,
        value: float,
        *,
        labels: dict[str, Any] | None = None,
        ago_s: float = 0,
        time_ns: int | None = None,
        temporality: int = CUMULATIVE,
        started_ns: int | None = None,
        unit: str = "",
    ) -> Message:
        """Add a counter of one point."""
        metric = self.scoped.metrics.add(name=name, unit=unit)
        metric.sum.aggregation_temporality = temporality
        metric.sum.is_monotonic = True
        at = self.now - int(ago_s * S) if time_ns is None else time_ns
        point = metric.sum.data_points.add(
            as_double=value,
            time_unix_nano=at,
            start_time_unix_nano=self.now - 60 * S if started_ns is None else started_ns,
        )
        put(point.attributes, labels or {})
        return self

    def gauge(self, name: str, value: float, labels: dict[str, Any] | None = None) -> Message:
        """Add a gauge of one point."""
        metric = self.scoped.metrics.add(name=name)
        point = metric.gauge.data_points.add(as_double=value, time_unix_nano=self.now)
        put(point.attributes, labels or {})
        return self

    def histogram(
        self,
        name: str,
        total: float,
        *,
        temporality: int = CUMULATIVE,
        unit: str = "s",
        labels: dict[str, Any] | None = None,
    ) -> Message:
        """Add a histogram with one measurement."""
        metric = self.scoped.metrics.add(name=name, unit=unit)
        metric.histogram.aggregation_temporality = temporality
        point = metric.histogram.data_points.add(
            count=1,
            sum=total,
            bucket_counts=[0, 1],
            explicit_bounds=[5.0],
            start_time_unix_nano=self.now - 60 * S,
            time_unix_nano=self.now,
        )
        put(point.attributes, {"gen_ai.provider.name": "openai", **(labels or {})})
        return self


@dataclass(frozen=True, slots=True)
class Stack:
    """A collector before a real Prometheus."""

    collector: Collector
    url: str

    def values(self, expr: str) -> list[tuple[dict[str, str], float]]:
        """The result of a query."""
        result = ask(self.url, "/api/v1/query", query=expr)["result"]
        return [(one["metric"], float(one["value"][1])) for one in result]

    def samples(self, series: str) -> list[float]:
        """Every raw sample of a series of the last hour."""
        result = ask(self.url, "/api/v1/query", query=f"{series}[1h]")["result"]
        return [float(value) for one in result for _, value in one["values"]]

    def send(self, message: Message | bytes) -> None:
        """Send a message, which the collector accepts."""
        body = message if isinstance(message, bytes) else message.export.SerializeToString()
        assert self.collector.send_raw("metrics", body) == 200

    def gateway(self, number: int) -> None:
        """The gateway's next export: four samples of its money and tokens."""
        made = Message(
            SCOPE_NAME, **{"service.name": "spanledger", "service.instance.id": "ledger-1"}
        )
        for customer in ("acme", "globex"):
            labels = {"spanledger.customer": customer, "gen_ai.request.model": "gpt-4o"}
            made.counter("spanledger.cost.usd", number, labels=labels, unit="{USD}")
        made.counter("spanledger.retries", number, unit="{retry}")
        made.counter("spanledger.fallbacks", number, unit="{fallback}")
        self.send(made)

    def stored(self) -> int:
        """Samples of the gateway in Prometheus."""
        return len(self.samples('{__name__=~"spanledger_.*_total",job="spanledger"}'))


@contextmanager
def storing(folder: Path) -> Iterator[Stack]:
    """Prometheus with the stack's settings, without its rules and targets."""
    settings = yaml.safe_load((ROOT / "prometheus" / "prometheus.yml").read_text("utf-8"))
    for key in ("rule_files", "alerting", "scrape_configs"):
        del settings[key]
    with (
        prometheus(folder, *PROMETHEUS_FLAGS, settings=yaml.safe_dump(settings)) as url,
        Collector(folder, env={"PROMETHEUS_URL": url}) as collector,
    ):
        yield Stack(collector, url)
