"""Errors as the caller sees them: statuses, headers, and what the caller's wire makes of each.

Turns an error of ours into a reply and nothing else: no ledger, no provider, no decision. Text that
came from a provider is relayed only where the caller's own request was at fault, so that neither
a provider's key nor its address can leave in an error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from spanledger.errors import (
    AuthenticationError,
    BudgetExceededError,
    Category,
    InvalidRequestError,
    LedgerUnavailableError,
    OverloadedError,
    ProviderError,
    Refusal,
    SpanledgerError,
)
from spanledger.gateway.paths import SERVED
from spanledger.money import format_usd
from spanledger.routing.outcome import CALLER_CAUSED, TRANSIENT, http_status_of
from spanledger.wires import DEFAULT
from spanledger.wires.base import Inbound, Problem

Headers = list[tuple[bytes, bytes]]

RETRY_AFTER_S = 1
"""What a caller is told to wait when a limit or the ledger of this gateway is in the way."""
MAX_RETRY_AFTER_S = 3600

_RETRYABLE = TRANSIENT | {"cooldown", "rate_limit_reached"}
"""Kinds a client may ask again for, after our own attempts are used up."""

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
class Reply:
    """A whole error answer, without the headers every answer has."""

    status: int
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()


def reply_to(error: SpanledgerError, attempts: int = 0, wire: Inbound = DEFAULT) -> Reply:
    """The answer that tells a caller about `error`, after so many attempts."""
    headers = []
    if (wait := _retry_after_s(error)) is not None:
        headers.append((b"retry-after", str(wait).encode()))
    headers.append((b"x-should-retry", b"true" if _retryable(error) else b"false"))
    if isinstance(error, AuthenticationError):
        headers.append((b"www-authenticate", b"Bearer"))
    problem = describe(error, attempts)
    if isinstance(error, ProviderError) and error.told and error.kind in CALLER_CAUSED:
        problem = replace(problem, told=error.told)
    return Reply(http_status_of(error), wire.error(problem), tuple(headers))


def describe(error: SpanledgerError, attempts: int = 0) -> Problem:
    """What a caller is told about `error`: also what a broken stream ends with."""
    if isinstance(error, BudgetExceededError):
        return _budget(error.refusal)
    if isinstance(error, ProviderError):
        return _provider(error, attempts)
    if isinstance(error, InvalidRequestError):
        code = error.code or error.error_type
        return Problem(str(error), error.category, code, error.param)
    code = "invalid_api_key" if isinstance(error, AuthenticationError) else error.error_type
    if isinstance(error, LedgerUnavailableError):
        message = "the ledger cannot commit, so nothing is sent to a provider; ask again shortly"
        return Problem(message, error.category, code)
    if error.error_type == SpanledgerError.error_type:
        return internal_error()
    return Problem(str(error), error.category, code)


def internal_error() -> Problem:
    """A fault of ours; what it was stands in the gateway's log, under the request id."""
    message = "the gateway failed on this request; its log has the reason under the request id"
    return Problem(message, "server", "internal_error")


def no_such_path(path: str) -> Reply:
    """404 for a path that is not served."""
    message = f"no such path: {path[:200]!r}; this gateway serves {SERVED}"
    problem = Problem(message, "not_found", "unknown_url")
    return Reply(404, DEFAULT.error(problem), ((b"x-should-retry", b"false"),))


def not_allowed(method: str, path: str, allowed: bytes, wire: Inbound = DEFAULT) -> Reply:
    """405 for a path that is served to another method."""
    message = f"not allowed to {method} on {path}; use {allowed.decode()}"
    problem = Problem(message, "invalid_request", "method_not_allowed")
    return Reply(405, wire.error(problem), ((b"allow", allowed), (b"x-should-retry", b"false")))


def draining(wire: Inbound) -> Reply:
    """503 while the gateway ends: another one, or the next, will serve the request."""
    body = wire.error(shutting_down("the gateway is shutting down; ask again"))
    wait = str(RETRY_AFTER_S).encode()
    headers = ((b"retry-after", wait), (b"x-should-retry", b"true"), (b"connection", b"close"))
    return Reply(503, body, headers)


def shutting_down(message: str = "the gateway is shutting down") -> Problem:
    """What ends the requests that the gateway leaves behind when it ends itself."""
    return Problem(message, "server", "shutting_down")


def _retryable(error: SpanledgerError) -> bool:
    if isinstance(error, ProviderError):
        return error.kind in _RETRYABLE and not error.request_alone
    return error.retryable


def _retry_after_s(error: SpanledgerError) -> int | None:
    if isinstance(error, ProviderError):
        wait = error.retry_after_s
        if wait is None or not _retryable(error) or not math.isfinite(wait):
            return None
        return max(1, min(math.ceil(wait), MAX_RETRY_AFTER_S))
    if isinstance(error, OverloadedError | LedgerUnavailableError):
        return RETRY_AFTER_S
    return None


def _budget(refusal: Refusal) -> Problem:
    limit, spent, held, needed = (
        format_usd(nano)
        for nano in (
            refusal.limit_nano,
            refusal.spent_nano,
            refusal.held_nano,
            refusal.needed_nano,
        )
    )
    renews = datetime.fromtimestamp(refusal.renews_at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    message = (
        f"budget {refusal.budget!r} ({refusal.scope} {refusal.subject!r}) has no room for this "
        f"request: limit ${limit}, spent ${spent}, held ${held}, needed ${needed}; "
        f"it renews at {renews}"
    )
    figures = {
        "budget": refusal.budget,
        "scope": refusal.scope,
        "subject": refusal.subject,
        "limit_usd": limit,
        "spent_usd": spent,
        "held_usd": held,
        "needed_usd": needed,
        "renews_at": renews,
    }
    kind = BudgetExceededError
    return Problem(message, kind.category, kind.error_type, figures=figures)


_PROVIDER_MESSAGES = {
    "rate_limited": "the provider limits the rate of requests",
    "overloaded": "the provider is overloaded",
    "server_error": "the provider failed",
    "timeout": "the provider did not answer in time",
    "connection_error": "the provider could not be reached",
    "stream_interrupted": "the provider's stream broke off",
    "malformed_response": "the provider's answer could not be read",
    "context_window_exceeded": "the prompt is longer than the model's context window",
    "content_filtered": "the provider refused the content",
    "invalid_request": "the provider refused the request",
    "authentication_failed": "the provider did not accept the gateway's key for it",
    "not_found": "the provider does not know this deployment's model, or its api_base is wrong",
    "cooldown": "every deployment of this route is cooling down after failures",
    "rate_limit_reached": "this route's own limit of requests or tokens a minute is used up",
}


def _provider(error: ProviderError, attempts: int) -> Problem:
    message = _PROVIDER_MESSAGES.get(error.kind, "the provider failed")
    if error.kind == "authentication_failed" and not attempts:
        message = "no deployment of this route has its key; `spanledger config check` names it"
    if error.request_alone:
        message = "this request alone is over a limit of the provider's; make it smaller"
    if attempts:
        message += f" (after {attempts} {'attempt' if attempts == 1 else 'attempts'})"
    return Problem(message, _CATEGORIES.get(error.kind, "server"), error.kind)
