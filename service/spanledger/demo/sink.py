"""A small OTLP/HTTP receiver that keeps what was really sent, by span id.

Used by the demo and by tests. A span that arrives twice is one span, as in any trace store; the
last arrival wins.
"""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

MAX_BODY_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class SinkSpan:
    """A span as it arrived; ids are lower-case hex."""

    trace_id: str
    span_id: str
    parent_span_id: str
    name: str
    kind: str
    """`SERVER`, `CLIENT`, `INTERNAL`, …"""
    service: str
    start_ns: int
    end_ns: int
    status: str
    attributes: dict[str, Any]


class Sink:
    """The receiver, on a free port of the loopback interface, in a thread of its own."""

    def __init__(self) -> None:
        self.spans: dict[str, SinkSpan] = {}
        self.arrivals = 0
        """Spans received, including duplicates."""
        self.metrics: set[str] = set()
        """Names of metrics received."""
        sink = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                sink._receive(self)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - inherited
                """Log nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._lock = threading.Lock()
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="otlp-sink", kwargs={"poll_interval": 0.05}
        )
        self._thread.start()

    @property
    def endpoint(self) -> str:
        """The value for OTEL_EXPORTER_OTLP_ENDPOINT."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def snapshot(self) -> list[SinkSpan]:
        """The spans so far."""
        with self._lock:
            return list(self.spans.values())

    def close(self) -> None:
        """Stop receiving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _receive(self, request: BaseHTTPRequestHandler) -> None:
        length = int(request.headers.get("content-length", 0))
        if length > MAX_BODY_BYTES:
            request.send_error(413)
            return
        body = request.rfile.read(length)
        if request.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        if request.path == "/v1/traces":
            self._add_spans(ExportTraceServiceRequest.FromString(body))
        elif request.path == "/v1/metrics":
            self._add_metrics(ExportMetricsServiceRequest.FromString(body))
        request.send_response(200)
        request.send_header("content-type", "application/x-protobuf")
        request.send_header("content-length", "0")
        request.end_headers()

    def _add_spans(self, message: ExportTraceServiceRequest) -> None:
        with self._lock:
            for group in message.resource_spans:
                service = _attributes(group.resource.attributes).get("service.name", "")
                for scope in group.scope_spans:
                    for span in scope.spans:
                        self.arrivals += 1
                        self.spans[span.span_id.hex()] = _span(span, str(service))

    def _add_metrics(self, message: ExportMetricsServiceRequest) -> None:
        with self._lock:
            for group in message.resource_metrics:
                for scope in group.scope_metrics:
                    self.metrics.update(metric.name for metric in scope.metrics)


def _span(span: Span, service: str) -> SinkSpan:
    return SinkSpan(
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_span_id=span.parent_span_id.hex(),
        name=span.name,
        kind=Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        service=service,
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        status=type(span.status).StatusCode.Name(span.status.code).removeprefix("STATUS_CODE_"),
        attributes=_attributes(span.attributes),
    )


def _attributes(pairs: Iterable[KeyValue]) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return _attributes(value.kvlist_value.values)
    return getattr(value, kind)
