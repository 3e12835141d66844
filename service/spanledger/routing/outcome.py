"""What an error means: the caller's HTTP status, the request's outcome, and whether to retry.

Pure tables and functions; no ledger, no clock.
"""

from __future__ import annotations

import asyncio

from spanledger.errors import (
    CALLER_CAUSED,
    InvalidRequestError,
    ProviderError,
    RefusedError,
    SpanledgerError,
)
from spanledger.ledger.model import Outcome, RequestEnd

CANCELLED = "cancelled"
"""`error.type` of an attempt whose caller disconnected."""
CANCELLED_STATUS = 499
"""Recorded if the caller disconnected; nobody receives it."""
INTERNAL_ERROR = SpanledgerError.error_type

_STATUS = {
    "rate_limited": 429,
    "overloaded": 503,
    "server_error": 502,
    "timeout": 504,
    "connection_error": 502,
    "stream_interrupted": 502,
    "malformed_response": 502,
    "authentication_failed": 502,
    "not_found": 502,
    "cooldown": 503,
    "rate_limit_reached": 429,
}

_RELAYED = frozenset({429, 500, 502, 503, 504, 529})
"""A provider's statuses that mean the same from us; others are mapped by kind."""
_STATUS_TOLD = frozenset({"rate_limited", "overloaded", "server_error", "timeout"})

TRANSIENT = frozenset(
    {
        "rate_limited",
        "overloaded",
        "server_error",
        "timeout",
        "connection_error",
        "stream_interrupted",
        "malformed_response",
    }
)
"""A further attempt may succeed, even at the same deployment."""

MISCONFIGURED = frozenset({"authentication_failed", "not_found"})
"""The deployment is at fault until somebody fixes it: not retried for the same request."""


def http_status_of(error: SpanledgerError) -> int:
    """The HTTP status that the caller gets for an error."""
    if isinstance(error, ProviderError):
        if error.kind in CALLER_CAUSED:
            status = error.status
            return status if status is not None and 400 <= status < 500 else 400
        if error.status in _RELAYED and error.kind in _STATUS_TOLD:
            return error.status
        return _STATUS.get(error.kind, error.http_status)
    if isinstance(error, InvalidRequestError | RefusedError):
        return error.status
    return error.http_status


def error_type_of(error: SpanledgerError) -> str:
    """`error.type` of an error: its kind, if it comes from a provider or from routing."""
    return error.kind if isinstance(error, ProviderError) else error.error_type


def request_end(error: SpanledgerError, ended_ns: int) -> RequestEnd:
    """The end of a request that failed with this error."""
    refusal = error if isinstance(error, RefusedError) else None
    outcome: Outcome = "error" if refusal is None else "refused"
    return RequestEnd(
        outcome=outcome,
        error_type=error_type_of(error),
        http_status=http_status_of(error),
        ended_ns=ended_ns,
        refused_by="" if refusal is None else refusal.by,
        refused_scope="" if refusal is None else refusal.scope,
    )


def cancelled_end(ended_ns: int) -> RequestEnd:
    """The end of a request whose caller disconnected."""
    return RequestEnd("cancelled", CANCELLED, CANCELLED_STATUS, ended_ns)


def internal_error_end(ended_ns: int) -> RequestEnd:
    """The end of a request that failed on a bug of ours."""
    return RequestEnd("error", INTERNAL_ERROR, SpanledgerError.http_status, ended_ns)


def broken_end(error: BaseException, now_ns: int) -> RequestEnd:
    """The end of an aborted request: its caller disconnected, or we have a bug."""
    if isinstance(error, asyncio.CancelledError | GeneratorExit):
        return cancelled_end(now_ns)
    return internal_error_end(now_ns)
