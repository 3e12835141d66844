"""One collector for what needs no restart, and OTLP messages made by hand."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from spanledger.telemetry.signals import SCHEMA_URL, SCOPE_NAME
from tests.support.collector import BASE, Backends, Collector
from tests.support.processes import poll

_ids = itertools.count(1)
APPLICATION_SCOPE = "opentelemetry.instrumentation.openai.v1"


@pytest.fixture(scope="session")
def backends() -> Iterator[Backends]:
    """Tempo and Prometheus of the shared collector."""
    with Backends() as backends:
        yield backends


@pytest.fixture(scope="session")
def collector(backends: Backends, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    """A collector with the base configuration alone, where a statement that fails is logged."""
    folder = tmp_path_factory.mktemp("collector")
    loud = folder / "config.yaml"
    text = BASE.read_text(encoding="utf-8")
    loud.write_text(text.replace("error_mode: silent", "error_mode: ignore"), encoding="utf-8")
    with Collector(folder, env=backends.env, base=loud) as collector:
        yield collector
        failed = [line for line in collector.log.splitlines() if "failed to execute" in line]
        assert not failed, failed[0]


def _sign(resource: Any, scoped: Any, scope: str) -> None:
    """Name the scope; the gateway's has more than a name, which is what the collector knows it by."""
    scoped.scope.name = scope
    if scope == SCOPE_NAME:
        scoped.scope.version = "0.0.1"
        scoped.schema_url = SCHEMA_URL
        put(resource.attributes, {"service.instance.id": "0123456789abcdef"})


def any_value(value: Any) -> AnyValue:
    """A value as OTLP writes it."""
    match value:
        case bool():
            return AnyValue(bool_value=value)
        case int():
            return AnyValue(int_value=value)
        case float():
            return AnyValue(double_value=value)
        case str():
            return AnyValue(string_value=value)
        case list():
            made = AnyValue()
            made.array_value.values.extend(map(any_value, value))
            return made
        case dict():
            made = AnyValue()
            put(made.kvlist_value.values, value)
            return made
    raise TypeError(type(value))


def put(attributes: Any, values: Mapping[str, Any]) -> None:
    """Add attributes to a message."""
    for key, value in values.items():
        attributes.add(key=key, value=any_value(value))


class Traces:
    """A trace export in the making; every span gets an id of its own."""

    def __init__(
        self, *, scope: str = APPLICATION_SCOPE, resource: Mapping[str, Any] | None = None
    ) -> None:
        self.message = ExportTraceServiceRequest()
        group = self.message.resource_spans.add()
        self.scope = group.scope_spans.add()
        put(group.resource.attributes, {"service.name": "made", **(resource or {})})
        _sign(group.resource, self.scope, scope)
        self.ids: list[bytes] = []

    def add(
        self,
        attributes: Mapping[str, Any],
        *,
        name: str = "made",
        trace_id: bytes | None = None,
        seconds: float = 0.001,
    ) -> Span:
        """Add a span; the caller may go on filling it."""
        number = next(_ids)
        span: Span = self.scope.spans.add(
            trace_id=trace_id or (number << 64).to_bytes(16, "big"),
            span_id=number.to_bytes(8, "big"),
            name=name,
            start_time_unix_nano=10**18,
            end_time_unix_nano=10**18 + int(seconds * 1e9),
        )
        put(span.attributes, attributes)
        self.ids.append(span.span_id)
        return span


def made_metrics(
    points: Sequence[Mapping[str, Any]],
    *,
    name: str = "gen_ai.client.token.usage",
    unit: str = "token",
    scope: str = APPLICATION_SCOPE,
    resource: Mapping[str, Any] | None = None,
) -> ExportMetricsServiceRequest:
    """A counter-like histogram with one measurement of 10 a point, all at the same moment."""
    now = time.time_ns()
    message = ExportMetricsServiceRequest()
    group = message.resource_metrics.add()
    put(group.resource.attributes, {"service.name": "made", **(resource or {})})
    scoped = group.scope_metrics.add()
    _sign(group.resource, scoped, scope)
    metric = scoped.metrics.add(name=name, unit=unit)
    metric.histogram.aggregation_temporality = 2
    for attributes in points:
        point = metric.histogram.data_points.add(
            count=1,
            sum=10.0,
            bucket_counts=[0, 1],
            explicit_bounds=[5.0],
            start_time_unix_nano=now - 1,
            time_unix_nano=now,
        )
        put(point.attributes, attributes)
    return message


def arrived(sink: Any, ids: Sequence[bytes]) -> list[Span]:
    """The spans with these ids, in their order, once all are there."""

    def look() -> list[Span]:
        found = {span.span_id: span for span in sink.whole_spans()}
        return [found[one] for one in ids] if found.keys() >= set(ids) else []

    spans = poll(look)
    assert spans, f"{len(ids)} spans did not all arrive"
    return spans


def attributes_of(thing: Any) -> dict[str, Any]:
    """Attributes of a span, event or point as plain values."""
    return {pair.key: plain(pair.value) for pair in thing.attributes}


def plain(value: AnyValue) -> Any:
    """A value of OTLP as Python writes it."""
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [plain(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return {pair.key: plain(pair.value) for pair in value.kvlist_value.values}
    return getattr(value, kind) if kind else None
