"""Aggregates as the SDK's metric data: cumulative points with exemplars, and zeros before them.

Pure translation of series; when and what to export is the pipeline's to say.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from opentelemetry.sdk.metrics import Exemplar as SdkExemplar
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    HistogramDataPoint,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.metrics.export import Histogram as SdkHistogram
from opentelemetry.sdk.metrics.export import Metric as SdkMetric
from opentelemetry.sdk.resources import Resource

from spanledger.telemetry.aggregates import Counter, Exemplar, Histogram, Series
from spanledger.telemetry.signals import METRICS, SCHEMA_URL, Metric
from spanledger.telemetry.spans import SCOPE

_CUMULATIVE = AggregationTemporality.CUMULATIVE


def metrics_data(
    series: Iterable[Series], resource: Resource, at_ns: int, *, zero: bool = False
) -> MetricsData:
    """The points of some series at a moment; `zero` gives what each was before its first value."""
    by_metric: dict[str, list[Series]] = {}
    for one in series:
        by_metric.setdefault(one.metric.name, []).append(one)
    metrics = [
        _metric(metric, by_metric[metric.name], at_ns, zero=zero)
        for metric in METRICS
        if metric.name in by_metric
    ]
    scope = ScopeMetrics(SCOPE, metrics, SCHEMA_URL)
    return MetricsData([ResourceMetrics(resource, [scope], resource.schema_url)])


def exemplar_ids(series: Series) -> frozenset[str]:
    """Span ids of the exemplars a series has now."""
    return frozenset(exemplar.span_id for exemplar in _all_exemplars(series))


def _metric(metric: Metric, series: Sequence[Series], at_ns: int, *, zero: bool) -> SdkMetric:
    data: Sum | SdkHistogram
    if metric.kind == "counter":
        data = Sum([_number(s, at_ns, zero=zero) for s in series], _CUMULATIVE, is_monotonic=True)
    else:
        data = SdkHistogram([_histogram(s, at_ns, zero=zero) for s in series], _CUMULATIVE)
    return SdkMetric(metric.name, metric.meaning, metric.unit, data)


def _scaled(value: int, metric: Metric) -> int | float:
    return value if metric.scale == 1 else value / metric.scale


def _number(series: Series, at_ns: int, *, zero: bool) -> NumberDataPoint:
    point = series.point
    assert isinstance(point, Counter)
    return NumberDataPoint(
        series.attributes,
        min(series.since_ns, at_ns),
        at_ns,
        _scaled(0 if zero else point.peak, series.metric),
        [] if zero else _exemplars(series),
    )


def _histogram(series: Series, at_ns: int, *, zero: bool) -> HistogramDataPoint:
    point, metric = series.point, series.metric
    assert isinstance(point, Histogram)
    shown = Histogram(counts=[0] * len(point.counts)) if zero else point
    return HistogramDataPoint(
        series.attributes,
        min(series.since_ns, at_ns),
        at_ns,
        shown.count,
        _scaled(shown.sum, metric),
        shown.counts,
        metric.buckets,
        _scaled(shown.min, metric),
        _scaled(shown.max, metric),
        [] if zero else _exemplars(series),
    )


def _exemplars(series: Series) -> list[SdkExemplar]:
    """Those that have not been exported yet: a store refuses the same one again."""
    return [
        SdkExemplar(
            {},
            float(_scaled(exemplar.value, series.metric)),
            exemplar.at_ns,
            int(exemplar.span_id, 16),
            int(exemplar.trace_id, 16),
        )
        for exemplar in _all_exemplars(series)
        if exemplar.span_id not in series.exemplars_sent
    ]


def _all_exemplars(series: Series) -> list[Exemplar]:
    point = series.point
    if isinstance(point, Histogram):
        return list(point.exemplars.values())
    return [point.exemplar] if point.exemplar else []
