"""The worker's own telemetry: OpenLLMetry, sent over OTLP and silent on the terminal.

Starts and stops `traceloop-sdk` and puts workflow and task spans around jobs. Without it
(`--no-telemetry`, `OTEL_SDK_DISABLED`) the same calls do nothing and import nothing. If telemetry
cannot be sent, that costs one warning and no time; the libraries' own logs are not shown.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import io
import logging
import os
import socket
import threading
import warnings
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

from spanledger.errors import UsageError
from spanledger.worker.jobs import Job

T = TypeVar("T")
Call = Callable[[Job], Awaitable[T]]

SERVICE_NAME = "spanledger-worker"
WORKFLOW = "worker_run"
TASK = "job"
DURATION_BUCKETS = tuple(0.01 * 2**n for n in range(14))
TOKEN_BUCKETS = tuple(4.0**n for n in range(14))
"""As the conventions recommend; the SDK's default buckets do not suit seconds and tokens."""

_PROBE_TIMEOUT_S = 0.5
_FLUSH_TIMEOUT_S = 5.0


class Part:
    """One workflow span and the context in which its jobs run."""

    def __init__(self, context: contextvars.Context) -> None:
        self.context = context

    async def close(self) -> None:
        """End the workflow span."""


class Tracing:
    """Telemetry switched off; the base class of the real one."""

    content = False
    """Whether prompts and answers are on the spans."""

    def traced(self, call: Call[T]) -> Call[T]:
        """Wrap each call in a task span."""
        return call

    async def open_part(self, name: str = WORKFLOW) -> Part:  # noqa: ARG002 - used when on
        """Start a workflow span for some of the jobs."""
        return Part(contextvars.copy_context())

    def stop(self) -> None:
        """Send what is left; never waits for an unreachable collector."""


def wanted(environ: Mapping[str, str]) -> bool:
    """Whether the environment allows telemetry."""

    def is_set(name: str, value: str) -> bool:
        return environ.get(name, "").strip().lower() == value

    return not (is_set("OTEL_SDK_DISABLED", "true") or is_set("TRACELOOP_TRACING_ENABLED", "false"))


def start_tracing(*, content: bool, warn: Callable[[str], None]) -> Tracing:
    """Start OpenLLMetry for the `openai` client, once per process.

    Prompts and answers are traced only if `content` is set. The standard `OTEL_EXPORTER_OTLP_*`
    variables set the destination; the protocol is OTLP over HTTP.
    """
    os.environ["TRACELOOP_TRACE_CONTENT"] = "true" if content else "false"
    lost = _Once(warn)
    _silence(lost)
    with warnings.catch_warnings():
        # The libraries emit warnings while they are imported.
        warnings.simplefilter("ignore")
        return _OpenLLMetry(lost, content=content)


class _OpenLLMetryPart(Part):
    """A workflow span, held open by a task that waits in its context."""

    def __init__(
        self, context: contextvars.Context, closing: asyncio.Event, span: asyncio.Task[None]
    ) -> None:
        super().__init__(context)
        self._closing = closing
        self._span = span

    async def close(self) -> None:
        self._closing.set()
        await self._span


class _OpenLLMetry(Tracing):
    """Telemetry through `traceloop-sdk`."""

    def __init__(self, lost: Callable[[], None], *, content: bool) -> None:
        from opentelemetry import metrics, trace
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
        from opentelemetry.sdk.metrics.view import ExplicitBucketHistogramAggregation, View
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from traceloop.sdk import Traceloop
        from traceloop.sdk.decorators import task, workflow
        from traceloop.sdk.instruments import Instruments

        from spanledger.worker.exporters import MetricExporter, SpanExporter, by_proxy

        self._lost = lost
        self.content = content
        self._task, self._workflow = task, workflow
        self._current_span = trace.get_current_span
        name = os.environ.get("OTEL_SERVICE_NAME") or SERVICE_NAME
        self._spans = SpanExporter(lost)
        self._metrics = MetricExporter()
        endpoint = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or os.environ.get(
            "OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318"
        )
        self._address = _address(endpoint)
        self._by_proxy = by_proxy(endpoint)
        # Our own, because Traceloop would give durations buckets meant for milliseconds.
        self._meters = MeterProvider(
            metric_readers=[PeriodicExportingMetricReader(self._metrics)],
            resource=Resource.create({"service.name": name}),
            views=[
                View(
                    instrument_name=instrument,
                    aggregation=ExplicitBucketHistogramAggregation(buckets),
                )
                for instrument, buckets in (
                    ("gen_ai.client.operation.duration", DURATION_BUCKETS),
                    ("gen_ai.client.token.usage", TOKEN_BUCKETS),
                )
            ],
        )
        metrics.set_meter_provider(self._meters)
        # It prints to the terminal, and uploads images of prompts unless given another uploader.
        with contextlib.redirect_stdout(io.StringIO()):
            Traceloop.init(
                app_name=name,
                api_endpoint=endpoint,
                exporter=self._spans,
                resource_attributes={},
                instruments={Instruments.OPENAI},
                image_uploader=cast("Any", _NoUpload()),
            )
        self._tracers = cast("TracerProvider", trace.get_tracer_provider())

    def traced(self, call: Call[T]) -> Call[T]:
        async def run(job: Job) -> T:
            span = self._current_span()
            span.set_attribute("spanledger.job.custom_id", job.custom_id)
            span.set_attribute("spanledger.job.line", job.line)
            return await call(job)

        return cast("Call[T]", self._task(name=TASK)(run))

    async def open_part(self, name: str = WORKFLOW) -> Part:
        opened: asyncio.Future[contextvars.Context] = asyncio.get_running_loop().create_future()
        closing = asyncio.Event()

        # No arguments: they would be recorded as the workflow's input.
        @self._workflow(name=name)
        async def hold_open() -> None:
            opened.set_result(contextvars.copy_context())
            await closing.wait()

        span = asyncio.ensure_future(hold_open())
        return _OpenLLMetryPart(await opened, closing, span)

    def stop(self) -> None:
        flushed = False
        if self._by_proxy or _reachable(self._address):
            ending = threading.Thread(target=self._flush, name="telemetry-flush", daemon=True)
            ending.start()
            ending.join(_FLUSH_TIMEOUT_S)
            flushed = not ending.is_alive()
        if not flushed or self._metrics.behind:
            self._lost()
        # Both interrupt an export that is still retrying. Nothing is sent after this, so errors from
        # the SDK's own shutdown say nothing about what has arrived.
        cast("Any", self._spans).shutdown()
        self._metrics.shutdown()
        self._tracers.shutdown()
        with contextlib.suppress(Exception):  # it raises if its exporter is already shut down
            self._meters.shutdown()

    def _flush(self) -> None:
        self._tracers.force_flush()
        self._meters.force_flush()


class _NoUpload:
    """Keeps Traceloop from uploading images in prompts to its own service."""

    async def aupload_base64_image(self, *_: str) -> str:
        return "omitted"


class _Once:
    """Warns once that telemetry was lost."""

    def __init__(self, warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._said = False

    def __call__(self) -> None:
        if not self._said:
            self._said = True
            self._warn(
                "telemetry could not be sent; the jobs are not affected"
                " (use --no-telemetry to turn it off)"
            )


class _Overflow(logging.Handler):
    """Detects a full span queue: spans that do not fit never reach an exporter."""

    def __init__(self, lost: Callable[[], None]) -> None:
        super().__init__(logging.WARNING)
        self._lost = lost

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage().startswith("Queue full"):
            self._lost()


def _silence(lost: Callable[[], None]) -> None:
    """Hide the libraries' logs: they report retries and shutdown errors, which are not losses."""
    queue = logging.getLogger("opentelemetry.sdk._shared_internal")
    queue.handlers = [_Overflow(lost)]
    queue.propagate = False
    for name in ("opentelemetry", "traceloop"):
        quiet = logging.getLogger(name)
        quiet.handlers = [logging.NullHandler()]
        quiet.propagate = False


def _address(endpoint: str) -> tuple[str, int]:
    parts = urlsplit(endpoint if "//" in endpoint else f"//{endpoint}")
    try:
        port = parts.port
    except ValueError:
        raise UsageError(
            "the port of the OTLP endpoint is not a number; correct OTEL_EXPORTER_OTLP_ENDPOINT, or"
            " use --no-telemetry"
        ) from None
    return parts.hostname or "localhost", port or (443 if parts.scheme == "https" else 80)


def _reachable(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, timeout=_PROBE_TIMEOUT_S).close()
    except OSError:
        return False
    return True
