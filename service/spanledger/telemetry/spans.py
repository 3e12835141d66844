"""Translates the ledger's rows into finished spans. No I/O, no state.

A row shipped twice has the same ids both times, so a trace store keeps one span. Attributes follow
the registry; those without a value are left out.
"""

from __future__ import annotations

import msgspec
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.status import Status, StatusCode

from spanledger import __version__
from spanledger.ledger.store import UNSAMPLED
from spanledger.money import NANO_PER_USD
from spanledger.telemetry.conventions import SCHEMA_URLS, Generation, new_attributes
from spanledger.telemetry.outbox import AttemptRow, EndedRow, RequestRow
from spanledger.telemetry.signals import SCOPE_NAME
from spanledger.wires import PASSED_ON, PATHS, operation_of

INSTRUMENTATION_SCOPES = {
    form: InstrumentationScope(SCOPE_NAME, __version__, url) for form, url in SCHEMA_URLS.items()
}
NS_PER_S = 1_000_000_000

AttributeValue = str | bool | int | float | list[str]
Attributes = dict[str, AttributeValue]

_SAMPLED, _UNSAMPLED = TraceFlags(TraceFlags.SAMPLED), TraceFlags(TraceFlags.DEFAULT)
_OK = Status(StatusCode.UNSET)
_details = msgspec.json.Decoder(dict[str, str | bool | int | float | list[str]])
_contents = msgspec.json.Decoder(dict[str, msgspec.Raw])


def span_of(
    row: EndedRow,
    resource: Resource,
    *,
    form: Generation = Generation.OLD,
    with_content: bool = True,
) -> ReadableSpan:
    """The span of an ended row."""
    if isinstance(row, AttemptRow):
        name, kind = f"{operation_of(row.operation)} {row.model}", SpanKind.CLIENT
        attributes = attempt_attributes(row, with_content=with_content)
        failed = row.error_type != "" or row.http_status >= 400
        parent_id, remote = row.parent_span_id, False
    else:
        name, kind = f"{operation_of(row.operation)} {row.route}", SpanKind.SERVER
        attributes = request_attributes(row)
        # By the HTTP conventions, a caller's mistake is not an error of the server.
        failed = row.outcome in ("error", "abandoned") and not 400 <= row.http_status < 500
        parent_id, remote = row.parent_span_id.removesuffix(UNSAMPLED), True
    trace_id = int(row.trace_id, 16)
    flags = _SAMPLED if row.sampled else _UNSAMPLED
    return ReadableSpan(
        name,
        SpanContext(trace_id, int(row.span_id, 16), False, flags),
        SpanContext(trace_id, int(parent_id, 16), remote, flags) if parent_id else None,
        resource,
        attributes if form is Generation.OLD else new_attributes(attributes),
        kind=kind,
        status=Status(StatusCode.ERROR, row.error_type) if failed else _OK,
        start_time=row.started_ns,
        end_time=max(row.ended_ns, row.started_ns),
        instrumentation_scope=INSTRUMENTATION_SCOPES[form],
    )


def request_attributes(row: RequestRow) -> Attributes:
    """Attributes of the SERVER span."""
    found: Attributes = {
        "http.request.method": "_OTHER" if row.operation == PASSED_ON else "POST",
        "http.route": PATHS.get(row.operation, ""),
        "url.path": PATHS.get(row.operation, ""),
        "url.scheme": "http",
        "spanledger.request.id": row.request_id,
        "spanledger.route": row.route,
        "spanledger.customer": row.customer,
        "spanledger.outcome": row.outcome,
        "spanledger.attempts": row.attempts,
        "spanledger.request.cost.usd": row.cost_nano / NANO_PER_USD,
        "spanledger.request.cost.nano_usd": row.cost_nano,
    }
    optional: tuple[tuple[str, str | int], ...] = (
        ("spanledger.team", row.team),
        ("spanledger.key.id", row.key_id),
        ("http.response.status_code", row.http_status),
        ("error.type", row.error_type),
        ("spanledger.budget.decision", row.decision),
        ("spanledger.budget.refused_by", row.refused_by),
        ("spanledger.budget.scope", row.refused_scope),
    )
    found.update((name, value) for name, value in optional if value)
    return found


def attempt_attributes(row: AttemptRow, *, with_content: bool = True) -> Attributes:
    """Attributes of the CLIENT span."""
    found: Attributes = {
        "gen_ai.operation.name": operation_of(row.operation),
        "gen_ai.provider.name": row.provider,
        "gen_ai.request.model": row.model,
        "spanledger.request.id": row.request_id,
        "spanledger.route": row.route,
        "spanledger.customer": row.customer,
        "spanledger.deployment": row.deployment,
        "spanledger.attempt.number": row.number,
        "spanledger.attempt.state": row.state,
        "spanledger.cost.usd": row.cost_nano / NANO_PER_USD,
        "spanledger.cost.nano_usd": row.cost_nano,
    }
    optional: tuple[tuple[str, str | int], ...] = (
        ("gen_ai.response.model", row.response_model),
        ("spanledger.team", row.team),
        ("spanledger.key.id", row.key_id),
        ("spanledger.price.id", row.price_id),
        ("spanledger.fallback.from", row.fallback_from),
        ("spanledger.fallback.reason", row.reason),
        ("spanledger.overrun.nano_usd", row.overrun_nano),
        ("spanledger.budget.decision", row.decision),
        ("http.response.status_code", row.http_status),
        ("error.type", row.error_type),
        ("gen_ai.usage.cache_creation.input_tokens", row.cache_write_tokens),
        ("gen_ai.usage.reasoning.output_tokens", row.reasoning_tokens),
    )
    found.update((name, value) for name, value in optional if value)
    flags = (
        ("gen_ai.request.stream", row.stream),
        ("spanledger.estimated", row.estimated),
        ("spanledger.unpriced", row.unpriced),
        ("spanledger.corrected", row.corrected),
    )
    found.update((name, True) for name, value in flags if value)
    if row.input_tokens or row.output_tokens:
        found["gen_ai.usage.input_tokens"] = row.input_tokens
        found["gen_ai.usage.output_tokens"] = row.output_tokens
        found["gen_ai.usage.cache_read.input_tokens"] = row.cache_read_tokens
    if row.stream and row.first_chunk_ns:
        wait_ns = max(0, row.first_chunk_ns - row.started_ns)
        found["gen_ai.response.time_to_first_chunk"] = wait_ns / NS_PER_S
    found.update(_detail(row.detail))
    if with_content and row.content:
        found.update(_content(row.content))
    return found


def _detail(text: str) -> Attributes:
    """The attributes that routing stored; even a corrupt row must never stop the shipper."""
    try:
        return _details.decode(text)
    except msgspec.DecodeError:
        return {}


def _content(text: str) -> Attributes:
    """Captured content: each value is exported as a JSON string."""
    try:
        return {name: bytes(raw).decode() for name, raw in _contents.decode(text).items()}
    except msgspec.DecodeError:
        return {}
