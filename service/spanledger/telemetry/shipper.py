"""The shipper as a process: one per ledger, started by the gateway or by `spanledger ship`.

Owns the lock, watches the parent and limits how long shutdown takes; the pipeline does the work.
The OpenTelemetry SDK is imported only once the lock is held, so a second shipper waits cheaply.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING

from spanledger.config import TelemetrySettings
from spanledger.errors import ConfigError, LedgerUnavailableError
from spanledger.ledger.alone import LOCK_POLL_S, alone, orphaned
from spanledger.ledger.ports import Lock, Store
from spanledger.telemetry.conventions import LATEST, OPT_IN, form_of, unknown_opt_ins
from spanledger.telemetry.endpoints import exports

if TYPE_CHECKING:
    from spanledger.telemetry.pipeline import Pace, Pipeline

LOCK = "ship"
"""What only one process does on a ledger."""
_BUSY = "another shipper is running on this ledger; waiting until it ends"
SETTINGS_AT_FAULT = 2
"""The exit status of a gateway's shipper that no restart helps."""
PARENT_POLL_S = 0.5
STOP_GRACE_S = 5.0
"""How long the final drain may take after the stop signal."""

log = logging.getLogger("spanledger.shipper")


def run_shipper(
    store: Store,
    settings: TelemetrySettings,
    stop: threading.Event,
    *,
    once: bool = False,
    parent_pid: int | None = None,
    environ: Mapping[str, str] = os.environ,
    pace: Pace | None = None,
) -> bool:
    """Ship a ledger's rows until `stop` is set; with `once`, until none is left.

    `OTEL_*` variables are also read by the SDK itself, from the process's environment.

    Args:
        parent_pid: stop when this process is no longer the parent.
        pace: replaces the default sizes and times.

    Returns:
        Whether everything went well; with `once`, whether the collector accepted every row.

    Raises:
        ConfigError: the SDK rejects a variable.
        LedgerUnavailableError: the ledger cannot be opened.
    """
    lost = False
    while True:
        try:
            with alone(store, LOCK, stop, parent_pid, _BUSY, log) as lock:
                if lock is None:
                    return not once
                done = _run_locked(lock, store, settings, stop, once, parent_pid, environ, pace)
        except LedgerUnavailableError as error:
            if not lost:
                raise
            log.warning("%s; retrying", error)
            done = None
        if done is not None:
            return done
        lost = True
        if stop.wait(LOCK_POLL_S) or orphaned(parent_pid):
            return not once


def _run_locked(
    lock: Lock,
    store: Store,
    settings: TelemetrySettings,
    stop: threading.Event,
    once: bool,
    parent_pid: int | None,
    environ: Mapping[str, str],
    pace: Pace | None,
) -> bool | None:
    """See `run_shipper`; None if the lock was lost."""
    try:
        from spanledger.telemetry.delivery import (
            MetricSender,
            SpanSender,
            quiet_exporters,
            resource_of,
            unreadable_headers,
        )
    except ValueError as error:  # the SDK reads its limits at import
        raise ConfigError(f"invalid OpenTelemetry setting in the environment: {error}") from error
    from spanledger.telemetry.pipeline import Pipeline

    quiet_exporters()
    _warn_of_ignored(environ)
    for name in unreadable_headers(environ):
        log.warning("%s has a part that is not of the form name=value; that part is not sent", name)
    outbox = store.outbox()
    resource = resource_of(settings.service_name, outbox.ledger_id())
    form = form_of(environ)
    spans = metrics = None
    if exports("traces", environ):
        spans = SpanSender(settings.endpoint, resource, environ, form)
    if exports("metrics", environ):
        metrics = MetricSender(settings.endpoint, resource, environ)
    pipeline = Pipeline(
        outbox,
        spans,
        metrics,
        max_customers=settings.max_customers,
        pace=pace or _pace(settings, environ),
        form=form,
    )
    worker = _Worker(pipeline, stop, once=once)
    worker.start()
    held = _watch(worker, lock, stop, once, parent_pid)
    if not held:
        pipeline.dismiss()
    worker.join(STOP_GRACE_S)
    for sender in (spans, metrics):
        if sender is not None:
            sender.shutdown()
    worker.join(STOP_GRACE_S / 5)
    if worker.is_alive():  # a daemon thread: it and an open transaction end with the process
        if not held:
            raise LedgerUnavailableError("a batch is still being sent")
        log.warning("stopped before everything was shipped; the rest is sent after a restart")
        return not once
    outbox.close()
    return worker.done if held else None


def _watch(
    worker: _Worker, lock: Lock, stop: threading.Event, once: bool, parent_pid: int | None
) -> bool:
    """Wait until the worker has ended or is to stop; returns whether the lock is still held."""
    while worker.is_alive() and not stop.wait(PARENT_POLL_S if not once else 0.02):
        if orphaned(parent_pid):
            log.info("the parent process has ended; shipping the remaining rows")
            stop.set()
        elif not once and not lock.held():
            log.warning("the connection to the ledger was lost, and with it the right to ship")
            return False
    return True


def _warn_of_ignored(environ: Mapping[str, str]) -> None:
    protocol = environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
    if protocol != "http/protobuf":
        log.warning(
            "OTEL_EXPORTER_OTLP_PROTOCOL=%s is ignored: only http/protobuf is supported", protocol
        )
    for item in unknown_opt_ins(environ):
        log.warning("%s=%s has no effect; to export the new names, use %s", OPT_IN, item, LATEST)


class _Worker(threading.Thread):
    """Runs the pipeline in its own thread, so signals are handled while it waits.

    An unexpected exception ends the thread with a traceback on stderr and leaves `done` false.
    """

    def __init__(self, pipeline: Pipeline, stop: threading.Event, *, once: bool) -> None:
        super().__init__(name="shipper", daemon=True)
        self._pipeline = pipeline
        self._stopping = stop
        self._once = once
        self.done = False

    def run(self) -> None:
        """Run the pipeline."""
        if self._once:
            self.done = self._pipeline.drain()
        else:
            self._pipeline.run(self._stopping)
            self.done = True


def _pace(settings: TelemetrySettings, environ: Mapping[str, str]) -> Pace:
    """The metric interval: from the environment (in milliseconds), or from our settings."""
    from spanledger.telemetry.pipeline import Pace

    interval_s = settings.export_interval_s
    text = environ.get("OTEL_METRIC_EXPORT_INTERVAL", "")
    if text:
        try:
            interval_s = max(0.1, int(text) / 1000)
        except ValueError:
            log.warning(
                "OTEL_METRIC_EXPORT_INTERVAL=%r is ignored: it is not a whole number of milliseconds",
                text,
            )
    return Pace(metric_interval_s=interval_s)
