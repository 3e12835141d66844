"""What the applications in this directory share: providers that send OTLP, and marked text."""

from __future__ import annotations

from opentelemetry._logs import set_logger_provider
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import set_tracer_provider


def planted(where: str) -> str:
    """A text to search for; each place has its own."""
    return f"planted-{where}-here"


def traced() -> TracerProvider:
    """A tracer provider that sends each span as it ends."""
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter()))
    set_tracer_provider(provider)
    return provider


def measured() -> MeterProvider:
    """A meter provider that sends metrics when flushed."""
    reader = PeriodicExportingMetricReader(OTLPMetricExporter(), 3_600_000)
    return MeterProvider([reader])


def logged() -> LoggerProvider:
    """A logger provider that sends each record at once."""
    provider = LoggerProvider()
    provider.add_log_record_processor(SimpleLogRecordProcessor(OTLPLogExporter()))
    set_logger_provider(provider)
    return provider
