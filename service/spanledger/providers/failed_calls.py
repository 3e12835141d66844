"""What went wrong between us and a provider, as the `ProviderError` that routing decides by.

Each error says whether the provider may bill the attempt: not if the request was surely never sent.
"""

from __future__ import annotations

import socket
import ssl

from spanledger.errors import ProviderError
from spanledger.providers.base import Call
from spanledger.providers.connection import MAX_INTERIM
from spanledger.providers.dialing import ProxyRefusedError, ProxyUnreachableError
from spanledger.providers.pool import ConnectTimeoutError, PoolFullError
from spanledger.providers.reply import (
    BadResponseError,
    FloodError,
    HungUpError,
    ResponseError,
    TooLargeError,
)

PROXY_AUTHENTICATION = 407
CONNECT_ERRORS = (
    OSError,
    ProxyRefusedError,
    ProxyUnreachableError,
    ConnectTimeoutError,
    PoolFullError,
)
"""What a pool raises when it has no connection to give."""


def name_of(call: Call) -> str:
    """Whom a call is for, for messages."""
    return f"deployment {call.deployment.id!r} ({call.deployment.provider})"


def too_late(call: Call, what: str, seconds: float) -> ProviderError:
    """The request was sent, and what was waited for did not come."""
    return ProviderError(
        "timeout", f"{name_of(call)}: {what} within {seconds:g} s", billed="unknown"
    )


def unconnected(call: Call, error: BaseException, most: int) -> ProviderError:
    """There was no connection, so nothing was sent; `most` is the limit of the pool."""
    if isinstance(error, ConnectTimeoutError):
        return ProviderError("timeout", f"{name_of(call)}: connecting took too long")
    if isinstance(error, PoolFullError):
        why = f"no connection was free within {call.timeout_s:g} s; all {most} are in use"
        return ProviderError("timeout", f"{name_of(call)}: {why}")
    if isinstance(error, ProxyRefusedError):
        return refused_by_proxy(call, error.status)
    if isinstance(error, ProxyUnreachableError):
        why = f"cannot connect to the proxy ({type(error.__cause__).__name__})"
    elif isinstance(error, socket.gaierror):
        why = "its host name does not resolve"
    elif isinstance(error, ssl.SSLError):
        why = "TLS failed"
    else:
        why = f"cannot connect ({type(error).__name__})"
    return ProviderError("connection_error", f"{name_of(call)}: {why}")


def closed_as_unused(call: Call) -> ProviderError:
    """The provider closed a kept connection when the request was on its way, so it did not see it."""
    why = "it closed a connection that was kept from an earlier request"
    return ProviderError("connection_error", f"{name_of(call)}: {why}", stale=True)


def unanswered(call: Call, error: ResponseError, status: int, *, at_once: bool) -> ProviderError:
    """The request was sent, and its response did not come as it should. `status` is 0 before its head;
    `at_once`: so soon that the provider had not begun."""
    if isinstance(error, HungUpError):
        return ProviderError(
            "connection_error",
            f"{name_of(call)}: it closed the connection without a response",
            billed="no" if at_once else "unknown",
        )
    if isinstance(error, FloodError):
        why = f"it sent more than {MAX_INTERIM} interim responses (1xx)"
    elif isinstance(error, TooLargeError):
        limit = f"{call.max_response_bytes} bytes (gateway.max_response_bytes)"
        why = f"its response is larger than {limit}"
    elif isinstance(error, BadResponseError):
        why = f"its response is not valid HTTP ({error})"
    else:
        why = "the connection broke during its response"
    return ProviderError(
        "malformed_response",
        f"{name_of(call)}: {why}",
        status=status or None,
        billed="unknown",
    )


def refused_by_proxy(call: Call, status: int) -> ProviderError:
    """The proxy refused the request, so nothing reached the provider."""
    why = "its user or password" if status == PROXY_AUTHENTICATION else "the provider's host"
    return ProviderError(
        "connection_error",
        f"{name_of(call)}: the proxy refused {why} (HTTP {status}); see HTTPS_PROXY and NO_PROXY",
    )
