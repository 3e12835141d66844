"""What real applications send under third-party instrumentation, recorded as fixtures for tests."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf.json_format import ParseDict  # type: ignore[import-untyped]  # has no stubs
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

PAYLOADS = Path(__file__).with_name("payloads")
PLANTED = re.compile(r"planted-\w+-here")
MESSAGES: dict[str, Any] = {
    "traces": ExportTraceServiceRequest,
    "metrics": ExportMetricsServiceRequest,
    "logs": ExportLogsServiceRequest,
}
"""Requests of OTLP by signal."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """What one application sent."""

    name: str
    requests: tuple[tuple[str, Any], ...]
    """Signal and message."""
    planted: frozenset[str]
    """The texts in it that must not be exported."""

    def of(self, signal: str) -> list[Any]:
        """The messages of a signal."""
        return [message for one, message in self.requests if one == signal]


def recorded() -> dict[str, Recorded]:
    """All recordings, by name, with their original ids and times."""
    found = {}
    for file in sorted(PAYLOADS.glob("*.json")):
        text = file.read_text("utf-8")
        requests = tuple(
            (signal, ParseDict(body, MESSAGES[signal]()))
            for request in json.loads(text)
            for signal, body in request.items()
        )
        found[file.stem] = Recorded(file.stem, requests, frozenset(PLANTED.findall(text)))
    return found
