"""Errors as the caller sees them: statuses, headers, and the body in the shape of the caller's wire.

It only turns our errors into replies: no ledger, no provider, no decision. A provider's text is
relayed only if the caller's own request was at fault, so that neither a provider's key nor its
address can leak through an error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from spanledger.errors import (
    CALLER_CAUSED,
    AuthenticationError,
    BudgetExceededError,
    BudgetThrottledError,
    Category,
    InvalidRequestError,
    LedgerUnavailableError,
    OverloadedError,
    ProviderError,
    RateExceededError,
    SpanledgerError,
)
from spanledger.gateway.paths import SERVED
from spanledger.money import format_usd
from spanledger.routing.outcome import TRANSIENT, http_status_of
from spanledger.wires import DEFAULT
from spanledger.wires.base import Inbound, Problem

Headers = list[tuple[bytes, bytes]]

RETRY_AFTER_S = 1
"""How long a caller should wait when a limit or the ledger of this gateway refused its request."""
MAX_SENT_RETRY_AFTER_S = 3600

_RETRYABLE = TRANSIENT | {"cooldown", "rate_limit_reached"}
"""Kinds after which a client may retry, once our own attempts are used up."""

_CATEGORIES: dict[str, Category] = {
    "rate_limited": "rate_limit",
    "rate_limit_reached": "rate_limit",
    "overloaded": "overloaded",
    "cooldown": "overloaded",
    "context_window_exceeded": "invalid_request",
    "content_filtered": "invalid_request",
    "invalid_request": "invalid_request",
    "not_found": "invalid_request",
}
"""Of a provider's error, by its kind; every other is a fault of the server."""


@dataclass(frozen=True, slots=True)
class GatewayReply:
    """A complete error response, without the headers that every response has."""

    status: int
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()


def reply_to(error: SpanledgerError, attempts: int = 0, wire: Inbound = DEFAULT) -> GatewayReply:
    """The response for `error`, after this many attempts."""
    headers = []
    if (wait := _retry_after_s(error)) is not None:
        headers.append((b"retry-after", str(wait).encode()))
    headers.append((b"x-should-retry", b"true" if _retryable(error) else b"false"))
    if isinstance(error, AuthenticationError):
        headers.append((b"www-authenticate", b"Bearer"))
    problem = describe(error, attempts)
    if isinstance(error, ProviderError) and error.told and error.kind in CALLER_CAUSED:
        problem = replace(problem, told=error.told)
    return GatewayReply(http_status_of(error), wire.error(problem), tuple(headers))


def describe(error: SpanledgerError, attempts: int = 0) -> Problem:
    """What a caller learns about `error`, which is also sent at the end of a broken stream."""
    if isinstance(error, BudgetExceededError):
        return _budget(error)
    if isinstance(error, RateExceededError):
        return _rate(error)
    if isinstance(error, ProviderError):
        return _provider(error, attempts)
    if isinstance(error, InvalidRequestError):
        code = error.code or error.error_type
        return Problem(str(error), error.category, code, error.param)
    code = "invalid_api_key" if isinstance(error, AuthenticationError) else error.error_type
    if isinstance(error, LedgerUnavailableError):
        message = "the ledger is unavailable, so no provider can be called; retry shortly"
        return Problem(message, error.category, code)
    if error.error_type == SpanledgerError.error_type:
        return internal_error()
    return Problem(str(error), error.category, code)


def internal_error() -> Problem:
    """A bug of ours; the gateway's log has the details under the request id."""
    message = "internal error in the gateway; search its log for this request id"
    return Problem(message, "server", "internal_error")


def request_ids(request_id: str, wire: Inbound) -> Headers:
    """The request's id, also under the name by which clients of the wire know it."""
    value = request_id.encode()
    if wire.id_header == "x-request-id":
        return [(b"x-request-id", value)]
    return [(b"x-request-id", value), (wire.id_header.encode(), value)]


def no_such_path(path: str, wire: Inbound = DEFAULT) -> GatewayReply:
    """404 for a path that is not served."""
    message = f"unknown path {path[:200]!r}; this gateway serves {SERVED}"
    problem = Problem(message, "not_found", "unknown_url")
    return GatewayReply(404, wire.error(problem), ((b"x-should-retry", b"false"),))


def no_such_provider(name: str, wire: Inbound = DEFAULT) -> GatewayReply:
    """404 for a path of a provider that no deployment is of."""
    message = (
        f"no deployment is of the provider {name!r}, so nothing can be passed through to it; add one to"
        " model_list"
    )
    problem = Problem(message, "not_found", "unknown_url")
    return GatewayReply(404, wire.error(problem), ((b"x-should-retry", b"false"),))


def no_realtime(wire: Inbound = DEFAULT) -> GatewayReply:
    """501 for OpenAI's realtime API."""
    message = (
        "the realtime API is not served: this gateway has no WebSockets and no WebRTC; use POST"
        " /v1/audio/transcriptions, /v1/responses and /v1/audio/speech"
    )
    problem = Problem(message, "not_found", "realtime_unsupported")
    return GatewayReply(501, wire.error(problem), ((b"x-should-retry", b"false"),))


def not_allowed(method: str, path: str, allowed: bytes, wire: Inbound = DEFAULT) -> GatewayReply:
    """405 for a path that is served for another method only."""
    message = f"{method} is not allowed for {path}; use {allowed.decode()}"
    problem = Problem(message, "invalid_request", "method_not_allowed")
    return GatewayReply(
        405, wire.error(problem), ((b"allow", allowed), (b"x-should-retry", b"false"))
    )


def draining(wire: Inbound) -> GatewayReply:
    """503 during shutdown: another gateway, or the next start of this one, serves a retry."""
    body = wire.error(shutting_down("the gateway is shutting down; retry"))
    wait = str(RETRY_AFTER_S).encode()
    headers = ((b"retry-after", wait), (b"x-should-retry", b"true"), (b"connection", b"close"))
    return GatewayReply(503, body, headers)


def shutting_down(message: str = "the gateway is shutting down") -> Problem:
    """What ends the requests that the gateway leaves behind when it ends itself."""
    return Problem(message, "server", "shutting_down")


def _retryable(error: SpanledgerError) -> bool:
    if isinstance(error, ProviderError):
        return error.kind in _RETRYABLE and not error.request_alone
    if isinstance(error, RateExceededError):
        return error.overuse.retry_after_s is not None
    return error.retryable


def _retry_after_s(error: SpanledgerError) -> int | None:
    if isinstance(error, ProviderError):
        wait = error.retry_after_s
        if wait is None or not _retryable(error) or not math.isfinite(wait):
            return None
        return max(1, min(math.ceil(wait), MAX_SENT_RETRY_AFTER_S))
    if isinstance(error, BudgetThrottledError):
        return error.retry_after_s
    if isinstance(error, RateExceededError):
        return error.overuse.retry_after_s
    if isinstance(error, OverloadedError | LedgerUnavailableError):
        return RETRY_AFTER_S
    return None


def _budget(error: BudgetExceededError) -> Problem:
    refusal = error.refusal
    figures = {
        "budget": refusal.budget,
        "scope": refusal.scope,
        "subject": refusal.subject,
        "limit_usd": format_usd(refusal.limit_nano),
        "spent_usd": format_usd(refusal.spent_nano),
        "held_usd": format_usd(refusal.held_nano),
        "needed_usd": format_usd(refusal.needed_nano),
        "renews_at": refusal.renews_at,
    }
    if refusal.grace_nano:
        figures["grace_usd"] = format_usd(refusal.grace_nano)
    return Problem(str(error), error.category, error.error_type, figures=figures)


def _rate(error: RateExceededError) -> Problem:
    overuse = error.overuse
    money = overuse.measure == "nano"
    figures = {
        "rate": overuse.rate,
        "scope": overuse.scope,
        "subject": overuse.subject,
        "measure": "usd" if money else overuse.measure,
        "limit": format_usd(overuse.limit) if money else overuse.limit,
        "used": format_usd(overuse.used) if money else overuse.used,
        "needed": format_usd(overuse.needed) if money else overuse.needed,
    }
    return Problem(str(error), error.category, error.error_type, figures=figures)


_PROVIDER_MESSAGES = {
    "rate_limited": "the provider's rate limit was reached",
    "overloaded": "the provider is overloaded",
    "server_error": "the provider failed",
    "timeout": "the provider did not answer in time",
    "connection_error": "the provider could not be reached",
    "stream_interrupted": "the provider's stream ended early",
    "malformed_response": "the provider's response could not be read",
    "context_window_exceeded": "the prompt is longer than the model's context window",
    "content_filtered": "the provider refused the content",
    "invalid_request": "the provider rejected the request",
    "authentication_failed": "the provider did not accept the gateway's key",
    "not_found": "the provider does not know this deployment's model, or its api_base is wrong",
    "cooldown": "every deployment of this route is cooling down after failures",
    "rate_limit_reached": "this route's own limit of requests or tokens per minute is used up",
}


def _provider(error: ProviderError, attempts: int) -> Problem:
    message = _PROVIDER_MESSAGES.get(error.kind, "the provider failed")
    if error.kind == "authentication_failed" and not attempts:
        message = (
            "no deployment of this route has its API key; `spanledger config check` shows what is "
            "missing"
        )
    if error.request_alone:
        message = "this request by itself exceeds a limit of the provider; make it smaller"
    if attempts:
        message += f" (after {attempts} {'attempt' if attempts == 1 else 'attempts'})"
    return Problem(message, _CATEGORIES.get(error.kind, "server"), error.kind)
