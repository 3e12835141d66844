"""OTLP exporters that track whether their data arrived.

Imported only if telemetry is on, because it loads the SDK. What to do about a loss is up to the
caller.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics.export import MetricExportResult, MetricsData
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from requests.utils import get_environ_proxies, select_proxy


class SpanExporter(OTLPSpanExporter):
    """Sends spans. A batch still not accepted after the exporter's own retries is lost."""

    def __init__(self, lost: Callable[[], None]) -> None:
        super().__init__()
        self._lost = lost

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send a batch and report its loss."""
        result = SpanExportResult.FAILURE
        try:
            result = super().export(spans)
        finally:
            if result is not SpanExportResult.SUCCESS:
                self._lost()
        return result


class MetricExporter(OTLPMetricExporter):
    """Sends points. They are cumulative, so only the last export counts."""

    def __init__(self) -> None:
        super().__init__()
        self.behind = False

    def export(
        self, metrics_data: MetricsData, timeout_millis: float | None = 10_000, **kwargs: Any
    ) -> MetricExportResult:
        """Send points and remember whether they were accepted."""
        self.behind = True
        result = super().export(metrics_data, timeout_millis=timeout_millis, **kwargs)
        self.behind = result is not MetricExportResult.SUCCESS
        return result


def by_proxy(endpoint: str) -> bool:
    """Whether the exporters use a proxy: then the collector may be unreachable directly from here."""
    return select_proxy(endpoint, get_environ_proxies(endpoint)) is not None
