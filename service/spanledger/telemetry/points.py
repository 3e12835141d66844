"""Aggregates as the SDK's metric data: cumulative points with exemplars, and zeros before them.

Pure translation of series; the pipeline decides when and what to export.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

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
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from spanledger import __version__
from spanledger.telemetry.aggregates import Counter, Exemplar, Histogram, Series
from spanledger.telemetry.conventions import SCHEMA_URLS, Generation, attributes_of, changes_of
from spanledger.telemetry.signals import METRICS, SCOPE_NAME, Metric

_SCOPES = {
    form: InstrumentationScope(SCOPE_NAME, __version__, url) for form, url in SCHEMA_URLS.items()
}
_CUMULATIVE = AggregationTemporality.CUMULATIVE
_ORDER = {metric.name: place for place, metric in enumerate(METRICS)}


class _Shown(NamedTuple):
    """A series with its exported name and attributes."""

    series: Series
    name: str
    kind: str
    attributes: dict[str, str | bool]


def metrics_data(
    series: Iterable[Series],
    resource: Resource,
    at_ns: int,
    *,
    zero: bool = False,
    form: Generation = Generation.OLD,
) -> MetricsData:
    """The points of some series at one time; `zero` gives the zero before each one's first value."""
    by_name: dict[str, list[_Shown]] = {}
    for one in sorted(series, key=lambda one: _ORDER[one.metric.name]):
        for shown in _shown(one, form):
            by_name.setdefault(shown.name, []).append(shown)
    metrics = [_metric(shown, at_ns, zero=zero) for shown in by_name.values()]
    scope = ScopeMetrics(_SCOPES[form], metrics, SCHEMA_URLS[form])
    return MetricsData([ResourceMetrics(resource, [scope], resource.schema_url)])


def _shown(series: Series, form: Generation) -> list[_Shown]:
    """The exported series: one in the old form, one or more in the new form."""
    metric, attributes = series.metric, series.attributes
    changes = [] if form is Generation.OLD else changes_of(metric.name, attributes)
    return [
        _Shown(series, change.new, change.kind, attributes_of(change, attributes))
        for change in changes
    ] or [_Shown(series, metric.name, metric.kind, attributes)]


def exemplar_ids(series: Series) -> frozenset[str]:
    """Span ids of the exemplars a series has now."""
    return frozenset(exemplar.span_id for exemplar in _all_exemplars(series))


def _metric(shown: Sequence[_Shown], at_ns: int, *, zero: bool) -> SdkMetric:
    name, kind, metric = shown[0].name, shown[0].kind, shown[0].series.metric
    data: Sum | SdkHistogram
    if kind == "counter":
        data = Sum([_number(s, at_ns, zero=zero) for s in shown], _CUMULATIVE, is_monotonic=True)
    else:
        data = SdkHistogram([_histogram(s, at_ns, zero=zero) for s in shown], _CUMULATIVE)
    return SdkMetric(name, metric.meaning, metric.unit, data)


def _scaled(value: int, metric: Metric) -> int | float:
    return value if metric.scale == 1 else value / metric.scale


def _number(shown: _Shown, at_ns: int, *, zero: bool) -> NumberDataPoint:
    """A counter, or a histogram's sum as one; its exemplars stay with the histogram."""
    series, point = shown.series, shown.series.point
    counter = isinstance(point, Counter)
    value = point.peak if isinstance(point, Counter) else point.sum
    return NumberDataPoint(
        shown.attributes,
        min(series.since_ns, at_ns),
        at_ns,
        _scaled(0 if zero else value, series.metric),
        _exemplars(series) if counter and not zero else [],
    )


def _histogram(shown_as: _Shown, at_ns: int, *, zero: bool) -> HistogramDataPoint:
    series = shown_as.series
    point, metric = series.point, series.metric
    assert isinstance(point, Histogram)
    shown = Histogram(counts=[0] * len(point.counts)) if zero else point
    return HistogramDataPoint(
        shown_as.attributes,
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
    """Exemplars not exported yet: a store rejects the same one a second time."""
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
