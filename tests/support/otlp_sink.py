"""A collector for tests: OTLP/HTTP over loopback, decoded, kept, and made to misbehave on demand."""

from __future__ import annotations

import gzip
import ssl
import sys
import threading
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span


@dataclass(frozen=True, slots=True)
class SinkSpan:
    """A span as it arrived; ids are lower-case hex."""

    trace_id: str
    span_id: str
    parent_span_id: str
    name: str
    kind: str
    """`SERVER`, `CLIENT`, `INTERNAL`, …"""
    start_ns: int
    end_ns: int
    status: str
    """`UNSET`, `OK` or `ERROR`."""
    attributes: dict[str, Any]
    resource: dict[str, Any]
    scope: str
    flags: int = 0
    """OTLP's: the lowest eight bits are the W3C trace flags."""
    schema_url: str = ""


@dataclass(frozen=True, slots=True)
class SinkPoint:
    """A metric point as it arrived. A histogram's `value` is its sum."""

    metric: str
    unit: str
    attributes: dict[str, Any]
    start_ns: int
    time_ns: int
    value: float
    count: int = 0
    buckets: tuple[int, ...] = ()
    bounds: tuple[float, ...] = ()
    exemplars: tuple[tuple[str, str, float], ...] = ()
    """Trace id, span id and value of each."""
    resource: dict[str, Any] = field(default_factory=dict)

    @property
    def series(self) -> tuple[object, ...]:
        """The identity of its series."""
        return (self.metric, *sorted(self.attributes.items()))


@dataclass(frozen=True, slots=True)
class SinkRequest:
    """One export request; `spans` or `points` has its content, accepted or not."""

    path: str
    headers: dict[str, str]
    spans: tuple[SinkSpan, ...]
    points: tuple[SinkPoint, ...]
    size: int


Answer = Callable[[SinkRequest], int]
"""The HTTP status for a request; its content is kept only if that is 2xx."""


class OtlpSink:
    """The sink, on a port of the loopback interface, in a thread of its own.

    `answer` may be replaced at any time, to simulate a failing collector. `keep_then` is called
    after a request was kept and before it is answered.
    """

    def __init__(
        self, port: int = 0, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
    ) -> None:
        self.requests: list[SinkRequest] = []
        self.spans: list[SinkSpan] = []
        """In order of arrival, including duplicates."""
        self.points: list[SinkPoint] = []
        self.answer: Answer = lambda _request: 200
        self.keep_then: Callable[[SinkRequest], None] = lambda _request: None
        self.response_body = b""
        self._lock = threading.Lock()
        self._server = _Server((host, port), _handler(self))
        self._server.daemon_threads = True
        self._scheme = "http"
        if tls is not None:
            self._scheme = "https"
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="otlp-sink", kwargs={"poll_interval": 0.01}
        )
        self._thread.start()

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._server.server_port

    @property
    def endpoint(self) -> str:
        """The base URL, as in OTEL_EXPORTER_OTLP_ENDPOINT."""
        return f"{self._scheme}://127.0.0.1:{self.port}"

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def by_id(self) -> dict[str, SinkSpan]:
        """The spans by id, as in a trace store; the last arrival wins."""
        with self._lock:
            return {span.span_id: span for span in self.spans}

    def latest(self) -> dict[tuple[object, ...], SinkPoint]:
        """The newest point of each series, as in a metric store."""
        with self._lock:
            return {point.series: point for point in self.points}

    def total(self, metric: str, **attributes: object) -> float:
        """The sum of a metric's newest points whose attributes include those given."""
        return sum(point.value for point in self._matching(metric, attributes))

    def count(self, metric: str, **attributes: object) -> int:
        """Like `total`, for a histogram's counts."""
        return sum(point.count for point in self._matching(metric, attributes))

    def _matching(self, metric: str, wanted: dict[str, object]) -> list[SinkPoint]:
        named = {name.replace("__", "."): value for name, value in wanted.items()}
        return [
            point
            for point in self.latest().values()
            if point.metric == metric and named.items() <= point.attributes.items()
        ]

    def take(self, path: str, headers: dict[str, str], body: bytes) -> int:
        """Receive one request; returns the status to answer with."""
        decompress = _CODINGS.get(headers.get("content-encoding", ""))
        if decompress is not None:
            body = decompress(body)
        spans: tuple[SinkSpan, ...] = ()
        points: tuple[SinkPoint, ...] = ()
        if path.endswith("/v1/traces"):
            spans = tuple(spans_in(ExportTraceServiceRequest.FromString(body)))
        elif path.endswith("/v1/metrics"):
            points = tuple(_points(ExportMetricsServiceRequest.FromString(body)))
        else:
            return 404
        request = SinkRequest(path, headers, spans, points, len(body))
        status = self.answer(request)
        with self._lock:
            self.requests.append(request)
            if 200 <= status < 300:
                self.spans += spans
                self.points += points
        self.keep_then(request)
        return status


_CODINGS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.decompress,
    "deflate": zlib.decompress,
}


class _Server(ThreadingHTTPServer):
    """A sender that is killed in the middle of a request is nothing to report."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Report any other error."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def _handler(sink: OtlpSink) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            status = sink.take(self.path, headers, body)
            try:
                self.send_response(status)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", str(len(sink.response_body)))
                self.end_headers()
                self.wfile.write(sink.response_body)
            except OSError:  # the sender was killed meanwhile
                self.close_connection = True

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # inherited name
            """Log nothing."""

    return Handler


def spans_in(message: ExportTraceServiceRequest) -> Iterable[SinkSpan]:
    """The spans of an export."""
    for group in message.resource_spans:
        resource = _attributes(group.resource.attributes)
        for scope in group.scope_spans:
            for span in scope.spans:
                yield SinkSpan(
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_span_id=span.parent_span_id.hex(),
                    name=span.name,
                    kind=Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
                    start_ns=span.start_time_unix_nano,
                    end_ns=span.end_time_unix_nano,
                    status=("UNSET", "OK", "ERROR")[span.status.code],
                    attributes=_attributes(span.attributes),
                    resource=resource,
                    scope=scope.scope.name,
                    flags=span.flags,
                    schema_url=scope.schema_url,
                )


def _points(message: ExportMetricsServiceRequest) -> Iterable[SinkPoint]:
    for group in message.resource_metrics:
        resource = _attributes(group.resource.attributes)
        for scope in group.scope_metrics:
            for metric in scope.metrics:
                yield from _metric_points(metric, resource)


def _metric_points(metric: Metric, resource: dict[str, Any]) -> Iterable[SinkPoint]:
    data = getattr(metric, metric.WhichOneof("data") or "gauge")
    histogram = metric.WhichOneof("data") == "histogram"
    for point in data.data_points:
        yield SinkPoint(
            metric=metric.name,
            unit=metric.unit,
            attributes=_attributes(point.attributes),
            start_ns=point.start_time_unix_nano,
            time_ns=point.time_unix_nano,
            value=point.sum if histogram else getattr(point, point.WhichOneof("value")),
            count=point.count if histogram else 0,
            buckets=tuple(point.bucket_counts) if histogram else (),
            bounds=tuple(point.explicit_bounds) if histogram else (),
            exemplars=tuple(
                (e.trace_id.hex(), e.span_id.hex(), e.as_double) for e in point.exemplars
            ),
            resource=resource,
        )


def _attributes(pairs: Iterable[KeyValue]) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    return getattr(value, kind)
