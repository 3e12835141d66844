"""Rows as the OpenTelemetry SDK's own spans, encoded by its exporter: what the shipper's bytes must mean.

Nothing here comes from `telemetry/spans.py` or `telemetry/otlp.py`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.status import Status, StatusCode

from spanledger import __version__
from spanledger.ledger.rows import AttemptRow, EndedRow, RequestRow
from spanledger.telemetry.conventions import SCHEMA_URLS, Generation, new_attributes
from spanledger.wires import PATHS, operation_of


def export_by_sdk(
    rows: Sequence[EndedRow], resource: Resource, form: Generation
) -> ExportTraceServiceRequest:
    """The rows' export request, with the W3C flags that the SDK leaves out."""
    spans = [_span(row, resource, form) for row in rows]
    found: ExportTraceServiceRequest = encode_spans(spans)
    for span, row in zip(found.resource_spans[0].scope_spans[0].spans, rows, strict=True):
        span.flags |= row.sampled
    return found


def _span(row: EndedRow, resource: Resource, form: Generation) -> ReadableSpan:
    if isinstance(row, AttemptRow):
        name, kind, attributes = row.model, SpanKind.CLIENT, _attempt(row)
        failed = bool(row.error_type) or row.http_status >= 400
        parent, remote = row.parent_span_id, False
    else:
        name, kind, attributes = row.route, SpanKind.SERVER, _request(row)
        failed = row.outcome in ("error", "abandoned") and not 400 <= row.http_status < 500
        parent, remote = row.parent_span_id.removesuffix("-00"), True
    trace_id = int(row.trace_id, 16)
    return ReadableSpan(
        f"{operation_of(row.operation)} {name}",
        SpanContext(trace_id, int(row.span_id, 16), False, TraceFlags(row.sampled)),
        SpanContext(trace_id, int(parent, 16), remote) if parent else None,
        resource,
        attributes if form is Generation.OLD else new_attributes(attributes),
        kind=kind,
        status=Status(StatusCode.ERROR, row.error_type) if failed else Status(StatusCode.UNSET),
        start_time=row.started_ns,
        end_time=max(row.ended_ns, row.started_ns),
        instrumentation_scope=InstrumentationScope("spanledger", __version__, SCHEMA_URLS[form]),
    )


def _request(row: RequestRow) -> dict[str, Any]:
    path = PATHS.get(row.operation, "")
    return {
        "http.request.method": "_OTHER" if row.operation == "pass_through" else "POST",
        "http.route": path,
        "url.path": path,
        "url.scheme": "http",
        "spanledger.request.id": row.request_id,
        "spanledger.route": row.route,
        "spanledger.customer": row.customer,
        "spanledger.outcome": row.outcome,
        "spanledger.attempts": row.attempts,
        "spanledger.request.cost.usd": row.cost_nano / 1_000_000_000,
        "spanledger.request.cost.nano_usd": row.cost_nano,
        **_with_value(
            {
                "spanledger.team": row.team,
                "spanledger.key.id": row.key_id,
                "user.id": row.user_id,
                "spanledger.project": row.project,
                "spanledger.tags": json.loads(row.tags or "[]"),
                "http.response.status_code": row.http_status,
                "error.type": row.error_type,
                "spanledger.budget.decision": row.decision,
                "spanledger.budget.refused_by": row.refused_by,
                "spanledger.budget.scope": row.refused_scope,
            }
        ),
    }


def _attempt(row: AttemptRow) -> dict[str, Any]:
    found: dict[str, Any] = {
        "gen_ai.operation.name": operation_of(row.operation),
        "gen_ai.provider.name": row.provider,
        "gen_ai.request.model": row.model,
        "spanledger.request.id": row.request_id,
        "spanledger.route": row.route,
        "spanledger.customer": row.customer,
        "spanledger.deployment": row.deployment,
        "spanledger.attempt.number": row.number,
        "spanledger.attempt.state": row.state,
        "spanledger.cost.usd": row.cost_nano / 1_000_000_000,
        "spanledger.cost.nano_usd": row.cost_nano,
        **_with_value(
            {
                "gen_ai.response.model": row.response_model,
                "spanledger.team": row.team,
                "spanledger.key.id": row.key_id,
                "user.id": row.user_id,
                "spanledger.project": row.project,
                "spanledger.tags": json.loads(row.tags or "[]"),
                "spanledger.price.id": row.price_id,
                "spanledger.fallback.from": row.fallback_from,
                "spanledger.fallback.reason": row.reason,
                "spanledger.overrun.nano_usd": row.overrun_nano,
                "spanledger.budget.decision": row.decision,
                "http.response.status_code": row.http_status,
                "error.type": row.error_type,
                "gen_ai.usage.cache_creation.input_tokens": row.cache_write_tokens,
                "gen_ai.usage.reasoning.output_tokens": row.reasoning_tokens,
                "gen_ai.request.stream": bool(row.stream),
                "spanledger.estimated": bool(row.estimated),
                "spanledger.unpriced": bool(row.unpriced),
                "spanledger.corrected": bool(row.corrected),
            }
        ),
    }
    for name, nano in (("list_cost", row.list_nano), ("charge", row.charge_nano)):
        if nano is not None:
            found[f"spanledger.{name}.usd"] = nano / 1_000_000_000
            found[f"spanledger.{name}.nano_usd"] = nano
    if row.charge_nano is not None and row.charge_rule.startswith('["acme"'):
        found["spanledger.charge.rule"] = "acme"
    if row.input_tokens or row.output_tokens:
        found["gen_ai.usage.input_tokens"] = row.input_tokens
        found["gen_ai.usage.output_tokens"] = row.output_tokens
        found["gen_ai.usage.cache_read.input_tokens"] = row.cache_read_tokens
    if row.stream and row.first_chunk_ns:
        waited_ns = max(0, row.first_chunk_ns - row.started_ns)
        found["gen_ai.response.time_to_first_chunk"] = waited_ns / 1_000_000_000
    found |= json.loads(row.detail)
    if row.content:
        content = json.loads(row.content)
        found |= {
            name: json.dumps(value, ensure_ascii=False, separators=(",", ":"))
            for name, value in content.items()
        }
    return found


def _with_value(found: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if value}
