"""Sending to the collector: the SDK's OTLP exporters, configured by `OTEL_*` and our settings.

Adds what the exporters do not report: whether the collector was unreachable, refused the content,
or accepted it. Leaves rows, cursor, and retries beyond the exporters' own to the pipeline.
"""

from __future__ import annotations

import gzip
import io
import logging
import time
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

import requests
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # has no stubs
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.sdk.metrics.export import MetricExportResult, MetricsData
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.util.re import parse_env_headers
from requests.structures import CaseInsensitiveDict

from spanledger import __version__
from spanledger.ledger.rows import EndedRow
from spanledger.providers.proxies import is_loopback
from spanledger.telemetry.conventions import Generation
from spanledger.telemetry.endpoints import Signal, variable_of
from spanledger.telemetry.spans import SpanEncoder

MAX_REQUEST_POINTS = 1000
"""Metric points per request."""
COMPRESSION_LEVEL = 1
"""The fastest: spans resemble each other so much that the slowest saves only 5 % of the bytes."""
MAX_RESPONSE_BYTES = 64 * 1024
MAX_RESPONSE_S = 10.0
"""How long to read an answer's body; the status, which matters, has arrived by then."""

_MAY_TAKE_IT_LATER = frozenset({408, 429})


class Delivery(NamedTuple):
    """The result of sending a batch to the collector.

    Attributes:
        verdict: `accepted`; `away`: nothing is wrong with the batch, send it again;
            `refused` and `too_large`: the collector answered and rejected this batch.
        reason: for people.
        rejected: spans of an accepted batch that the collector reports it did not keep.
    """

    verdict: Literal["accepted", "away", "refused", "too_large"]
    reason: str = ""
    rejected: int = 0


class _Session(requests.Session):
    """Sends our own bytes instead of the exporter's, if there are any, and remembers the last
    response: the exporters return only success or failure."""

    def __init__(self) -> None:
        super().__init__()
        self.payload: bytes | None = None
        self.forget()

    def forget(self) -> None:
        self.status: int | None = None
        self.body = b""
        self.error = ""

    def request(self, *args: Any, **kwargs: Any) -> requests.Response:
        self.forget()
        if self.payload is not None:
            kwargs["data"] = _compressed(self.payload, kwargs["headers"])
        try:
            response = _beginning(super().request(*args, **{**kwargs, "stream": True}))
        except requests.RequestException as error:
            self.error = type(error).__name__
            raise
        self.status, self.body = response.status_code, response.content
        return response

    def merge_environment_settings(self, url: Any, *args: Any, **kwargs: Any) -> Any:
        """Bypass proxies for a loopback collector: a proxy would look for it on its own machine, and
        requests uses one even for loopback unless `NO_PROXY` excludes it."""
        self.trust_env = not is_loopback(urlsplit(url).hostname or "")
        return super().merge_environment_settings(url, *args, **kwargs)

    def delivery(self) -> Delivery:
        """What the last response means. Redirects are not followed, so they are not a success."""
        match self.status:
            case None:
                return Delivery("away", self.error or "no answer")
            case code if 200 <= code < 300:
                return Delivery("accepted")
            case 413:
                return Delivery("too_large", "HTTP 413")
            case code if 400 <= code < 500 and code not in _MAY_TAKE_IT_LATER:
                return Delivery("refused", f"HTTP {code}")
            case code:
                return Delivery("away", f"HTTP {code}")


def _beginning(response: requests.Response) -> requests.Response:
    """The response with its body up to our limits; a longer or slower one is closed with its
    connection."""
    body = bytearray()
    deadline = time.monotonic() + MAX_RESPONSE_S
    for byte in response.iter_content(1):  # a larger read would block until it is full
        body += byte
        if len(body) >= MAX_RESPONSE_BYTES or time.monotonic() >= deadline:
            break
    response.close()
    short = requests.Response()
    short.status_code, short.reason = response.status_code, response.reason
    short.headers, short.url, short.request = response.headers, response.url, response.request
    short.raw = io.BytesIO(body)
    return short


class SpanSender:
    """Sends rows as spans to the traces endpoint.

    The SDK's exporter knows address, headers, certificates, timeout and retries; the spans are ours.
    So the exporter is told to send none, and its session puts the encoded rows in their place.
    """

    def __init__(
        self,
        endpoint: str,
        resource: Resource,
        environ: Mapping[str, str],
        form: Generation = Generation.OLD,
    ) -> None:
        self._session = _Session()
        self._exporter = OTLPSpanExporter(
            endpoint=_endpoint("traces", endpoint, environ),
            compression=_compression("traces", environ),
            session=self._session,
            max_request_size=0,  # the collector decides what is too large (413)
        )
        self._encoder = SpanEncoder(resource, form)

    def send(self, rows: Sequence[EndedRow], *, with_content: bool = True) -> Delivery:
        """Send a batch, with the exporter's own retries within its timeout."""
        try:
            self._session.payload = self._encoder.encode(rows, with_content=with_content)
        except (TypeError, ValueError) as error:
            return Delivery("refused", f"cannot be encoded: {error}")
        self._session.forget()
        taken = self._exporter.export(()) is SpanExportResult.SUCCESS
        delivery = self._session.delivery()
        if delivery.verdict != "accepted":
            return delivery
        if not taken:
            return Delivery("away", "the exporter gave up")
        # An impossible count would stay in the counter for good, and could overflow it.
        rejected = min(max(0, _rejected(self._session.body)), len(rows))
        return delivery._replace(rejected=rejected)

    def takes_anything(self) -> bool:
        """Whether the collector accepts an empty request, as the protocol requires."""
        return self.send(()).verdict == "accepted"

    def shutdown(self) -> None:
        """Stop retrying; from any thread."""
        self._exporter.shutdown()  # type: ignore[no-untyped-call]  # it lacks annotations


class MetricSender:
    """Sends metric points to the metrics endpoint."""

    def __init__(self, endpoint: str, resource: Resource, environ: Mapping[str, str]) -> None:
        self.resource = resource
        self._session = _Session()
        self._exporter = OTLPMetricExporter(
            endpoint=_endpoint("metrics", endpoint, environ),
            compression=_compression("metrics", environ),
            session=self._session,
            max_export_batch_size=MAX_REQUEST_POINTS,
        )

    def send(self, data: MetricsData) -> Delivery:
        """Send points; they are cumulative, so a failure only delays them."""
        self._session.forget()
        if self._exporter.export(data) is MetricExportResult.SUCCESS:
            return self._session.delivery()
        delivery = self._session.delivery()
        return Delivery("away", "not sent") if delivery.verdict == "accepted" else delivery

    def shutdown(self) -> None:
        """Stop retrying; from any thread."""
        self._exporter.shutdown()


def resource_of(service_name: str, ledger_id: str) -> Resource:
    """The sender's identity, stable across restarts like the counters; `OTEL_*` variables win."""
    ours = {
        "service.name": service_name,
        "service.version": __version__,
        "service.instance.id": ledger_id,
    }
    return Resource.create({**ours, **OTELResourceDetector().detect().attributes})


def quiet_exporters() -> None:
    """Silence the SDK. The exporters log every failed attempt; the shipper logs changes of state
    instead. An unreadable header is logged with its value, often a key; we log only its name."""
    logging.getLogger("opentelemetry.exporter").setLevel(logging.CRITICAL)
    logging.getLogger("opentelemetry.util.re").setLevel(logging.CRITICAL)


def unreadable_headers(environ: Mapping[str, str]) -> list[str]:
    """Header variables that will not be sent in full, because a part is not `name=value`."""
    names = [f"OTEL_EXPORTER_OTLP_{part}HEADERS" for part in ("", "TRACES_", "METRICS_")]
    return [
        name
        for name in names
        if len(parse_env_headers(environ.get(name, ""), liberal=True))
        < len({item.partition("=")[0] for item in environ.get(name, "").split(",") if item.strip()})
    ]


def _endpoint(signal: Signal, base: str, environ: Mapping[str, str]) -> str | None:
    """The full URL from our settings, or None where the environment sets it."""
    if variable_of(signal, environ):
        return None
    return f"{base.rstrip('/')}/v1/{signal}"


def _compression(signal: Signal, environ: Mapping[str, str]) -> Compression | None:
    """gzip, or None where the environment sets it."""
    names = (f"OTEL_EXPORTER_OTLP_{signal.upper()}_COMPRESSION", "OTEL_EXPORTER_OTLP_COMPRESSION")
    return None if any(environ.get(name) for name in names) else Compression.Gzip


def _compressed(payload: bytes, headers: Mapping[str, str]) -> bytes:
    """What to send under these headers: the exporter has said there how it compresses."""
    match CaseInsensitiveDict(headers).get("content-encoding"):
        case "gzip":
            return gzip.compress(payload, COMPRESSION_LEVEL, mtime=0)
        case "deflate":
            return zlib.compress(payload, COMPRESSION_LEVEL)
        case _:
            return payload


def _rejected(body: bytes) -> int:
    """Spans the collector received but did not keep (a partial success)."""
    if not body:
        return 0
    try:
        answer = ExportTraceServiceResponse.FromString(body)
        return int(answer.partial_success.rejected_spans)
    except DecodeError:  # JSON or a banner; the status was a success
        return 0
