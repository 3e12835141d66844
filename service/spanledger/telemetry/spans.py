"""Translates the ledger's rows into spans, straight to OTLP's bytes. No I/O.

Most of a span is the same for all rows that have the caller, the model and the ending in common, so
those attributes are encoded once and kept. What belongs to one row (ids, times, money, tokens) is
encoded for each. A row shipped twice has the same ids both times, so a trace store keeps one span.
Attributes follow the registry; those without a value are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from operator import itemgetter

import msgspec
from opentelemetry.sdk.resources import Resource

from spanledger import __version__
from spanledger.errors import RateExceededError
from spanledger.ledger.charges import charge_rule
from spanledger.ledger.model import UNSAMPLED
from spanledger.ledger.rows import AttemptRow, EndedRow, RequestRow
from spanledger.money import NANO_PER_USD
from spanledger.telemetry import otlp
from spanledger.telemetry.conventions import SCHEMA_URLS, Generation, new_attributes
from spanledger.telemetry.otlp import AttributeValue
from spanledger.telemetry.signals import SCOPE_NAME
from spanledger.wires import PASSED_ON, PATHS, operation_of

MAX_SHARED = 4096
"""Encoded parts kept for reuse."""
NS_PER_S = 1_000_000_000

Attributes = dict[str, AttributeValue]

_details = msgspec.json.Decoder(Attributes)
_tags = msgspec.json.Decoder(list[str])
_contents = msgspec.json.Decoder(dict[str, msgspec.Raw])


def _columns(row: type[EndedRow], names: str) -> Callable[[EndedRow], tuple[object, ...]]:
    """A function that picks these columns of a row."""
    return itemgetter(*[row._fields.index(name) for name in names.split()])


_CALLER = "customer team key_id"
_caller_of_attempt = _columns(AttemptRow, _CALLER)
_caller_of_request = _columns(RequestRow, _CALLER)
_key_of_attempt = _columns(
    AttemptRow,
    "operation route model number state deployment provider response_model price_id fallback_from"
    " reason decision error_type http_status stream estimated unpriced corrected",
)
"""What decides the shared part of a span: every column that `shared_of_attempt` reads."""
_key_of_request = _columns(
    RequestRow,
    "operation route outcome error_type http_status attempts decision refused_by refused_scope",
)
"""As above, for `shared_of_request`."""


class SpanEncoder:
    """Encodes rows as spans of one resource, in one form of the conventions."""

    def __init__(self, resource: Resource, form: Generation = Generation.OLD) -> None:
        self._export = otlp.export_of(resource, SCOPE_NAME, __version__, SCHEMA_URLS[form])
        self._new = form is Generation.NEW
        self._shared: dict[tuple[object, ...], bytes] = {}

    def encode(self, rows: Sequence[EndedRow], *, with_content: bool = True) -> bytes:
        """An `ExportTraceServiceRequest`; empty without rows.

        Raises ValueError or TypeError on a value OTLP cannot hold.
        """
        if not rows:
            return b""
        return self._export(
            [
                self._attempt(row, with_content=with_content)
                if isinstance(row, AttemptRow)
                else self._request(row)
                for row in rows
            ]
        )

    def _attempt(self, row: AttemptRow, *, with_content: bool) -> bytes:
        """The CLIENT span of an attempt."""
        key = _key_of_attempt(row)
        shared = self._shared.get(key) or self._keep(
            key,
            otlp.name(f"{operation_of(row.operation)} {row.model}")
            + otlp.CLIENT
            + otlp.status(row.error_type, failed=row.error_type != "" or row.http_status >= 400)
            + self._attributes(shared_of_attempt(row)),
        )
        return b"".join(
            (
                _identity(row, row.parent_span_id, remote=False),
                shared,
                self._caller(row, _caller_of_attempt(row)),
                self._attributes(own_of_attempt(row, with_content=with_content)),
            )
        )

    def _request(self, row: RequestRow) -> bytes:
        """The SERVER span of a request."""
        key = _key_of_request(row)
        # By the HTTP conventions, a caller's mistake is not an error of the server.
        failed = row.outcome in ("error", "abandoned") and not 400 <= row.http_status < 500
        shared = self._shared.get(key) or self._keep(
            key,
            otlp.name(f"{operation_of(row.operation)} {row.route}")
            + otlp.SERVER
            + otlp.status(row.error_type, failed=failed)
            + self._attributes(shared_of_request(row)),
        )
        return b"".join(
            (
                _identity(row, row.parent_span_id.removesuffix(UNSAMPLED), remote=True),
                shared,
                self._caller(row, _caller_of_request(row)),
                self._attributes(own_of_request(row)),
            )
        )

    def _caller(self, row: EndedRow, key: tuple[object, ...]) -> bytes:
        encoded = self._shared.get(key) or self._keep(key, self._attributes(caller(row)))
        if row.user_id or row.project or row.tags:  # not kept: there may be millions of users
            encoded += self._attributes(named(row))
        return encoded

    def _attributes(self, found: Attributes) -> bytes:
        return otlp.attributes(new_attributes(found) if self._new else found)

    def _keep(self, key: tuple[object, ...], encoded: bytes) -> bytes:
        if len(self._shared) >= MAX_SHARED:
            self._shared.clear()
        self._shared[key] = encoded
        return encoded


def _identity(row: EndedRow, parent_id: str, *, remote: bool) -> bytes:
    times_ns = row.started_ns, max(row.ended_ns, row.started_ns)
    return otlp.identity(
        row.trace_id, row.span_id, parent_id, times_ns, sampled=row.sampled, remote=remote
    )


def caller(row: EndedRow) -> Attributes:
    """Attributes of both spans that say who pays."""
    found: Attributes = {"spanledger.customer": row.customer}
    return _with(found, (("spanledger.team", row.team), ("spanledger.key.id", row.key_id)))


def named(row: EndedRow) -> Attributes:
    """Attributes of both spans that say whom it was for."""
    found: Attributes = {}
    if row.tags:
        with suppress(msgspec.DecodeError):  # as for the detail
            found["spanledger.tags"] = _tags.decode(row.tags)
    return _with(found, (("user.id", row.user_id), ("spanledger.project", row.project)))


def shared_of_request(row: RequestRow) -> Attributes:
    """Attributes of the SERVER span that other requests have as well."""
    found: Attributes = {
        "http.request.method": "_OTHER" if row.operation == PASSED_ON else "POST",
        "http.route": PATHS.get(row.operation, ""),
        "url.path": PATHS.get(row.operation, ""),
        "url.scheme": "http",
        "spanledger.route": row.route,
        "spanledger.outcome": row.outcome,
        "spanledger.attempts": row.attempts,
    }
    by_rate = row.error_type == RateExceededError.error_type
    who = "rate" if by_rate else "budget"
    optional = (
        ("http.response.status_code", row.http_status),
        ("error.type", row.error_type),
        ("spanledger.budget.decision", "" if by_rate else row.decision),
        (f"spanledger.{who}.refused_by", row.refused_by),
        (f"spanledger.{who}.scope", row.refused_scope),
    )
    return _with(found, optional)


def own_of_request(row: RequestRow) -> Attributes:
    """Attributes of the SERVER span that belong to this request."""
    return {
        "spanledger.request.id": row.request_id,
        "spanledger.request.cost.usd": row.cost_nano / NANO_PER_USD,
        "spanledger.request.cost.nano_usd": row.cost_nano,
    }


def shared_of_attempt(row: AttemptRow) -> Attributes:
    """Attributes of the CLIENT span that other attempts have as well; no row's detail has these."""
    found: Attributes = {
        "gen_ai.operation.name": operation_of(row.operation),
        "gen_ai.provider.name": row.provider,
        "spanledger.route": row.route,
        "spanledger.deployment": row.deployment,
        "spanledger.attempt.number": row.number,
        "spanledger.attempt.state": row.state,
    }
    optional = (
        ("gen_ai.response.model", row.response_model),
        ("spanledger.price.id", row.price_id),
        ("spanledger.fallback.from", row.fallback_from),
        ("spanledger.fallback.reason", row.reason),
        ("spanledger.budget.decision", row.decision),
        ("http.response.status_code", row.http_status),
        ("error.type", row.error_type),
        ("gen_ai.request.stream", bool(row.stream)),
        ("spanledger.estimated", bool(row.estimated)),
        ("spanledger.unpriced", bool(row.unpriced)),
        ("spanledger.corrected", bool(row.corrected)),
    )
    return _with(found, optional)


def own_of_attempt(row: AttemptRow, *, with_content: bool) -> Attributes:
    """Attributes of the CLIENT span that belong to this attempt."""
    found: Attributes = {
        "gen_ai.request.model": row.model,
        "spanledger.request.id": row.request_id,
        "spanledger.cost.usd": row.cost_nano / NANO_PER_USD,
        "spanledger.cost.nano_usd": row.cost_nano,
    }
    if row.list_nano is not None:
        found["spanledger.list_cost.usd"] = row.list_nano / NANO_PER_USD
        found["spanledger.list_cost.nano_usd"] = row.list_nano
    if row.charge_nano is not None:
        found["spanledger.charge.usd"] = row.charge_nano / NANO_PER_USD
        found["spanledger.charge.nano_usd"] = row.charge_nano
        if name := charge_rule(row.charge_rule).name:
            found["spanledger.charge.rule"] = name
    if row.overrun_nano:
        found["spanledger.overrun.nano_usd"] = row.overrun_nano
    if row.input_tokens or row.output_tokens:
        found["gen_ai.usage.input_tokens"] = row.input_tokens
        found["gen_ai.usage.output_tokens"] = row.output_tokens
        found["gen_ai.usage.cache_read.input_tokens"] = row.cache_read_tokens
    if row.cache_write_tokens:
        found["gen_ai.usage.cache_creation.input_tokens"] = row.cache_write_tokens
    if row.reasoning_tokens:
        found["gen_ai.usage.reasoning.output_tokens"] = row.reasoning_tokens
    if row.stream and row.first_chunk_ns:
        wait_ns = max(0, row.first_chunk_ns - row.started_ns)
        found["gen_ai.response.time_to_first_chunk"] = wait_ns / NS_PER_S
    found.update(_detail(row.detail))
    if with_content and row.content:
        found.update(_content(row.content))
    return found


def _with(found: Attributes, optional: Sequence[tuple[str, str | int]]) -> Attributes:
    """Attributes, and those of the optional ones that have a value."""
    found.update((name, value) for name, value in optional if value)
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
