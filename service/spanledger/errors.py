"""The errors people can meet, each with a low-cardinality `error_type` and an HTTP status.

`error_type` is the value of `error.type` on spans and metrics and never carries a name, a
number or a message from outside. The message says what to change.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

Category = Literal[
    "invalid_request",
    "authentication",
    "permission",
    "not_found",
    "rate_limit",
    "quota",
    "overloaded",
    "server",
]


class SpanledgerError(Exception):
    """Base of all: what went wrong, in a sentence the reader can act on."""

    error_type: ClassVar[str] = "internal_error"
    http_status: ClassVar[int] = 500
    category: ClassVar[Category] = "server"
    """What sort of error a caller meets; each wire has its own word for it."""
    retryable: ClassVar[bool] = False
    """Whether a client gains by asking again; false sends `x-should-retry: false`."""


class ConfigError(SpanledgerError):
    """A file, flag or variable that cannot be used; says where and the nearest valid value."""

    error_type = "config_error"


class UsageError(SpanledgerError):
    """A command was called with values that make no sense together; exit code 2."""

    error_type = "usage_error"


class InvalidRequestError(SpanledgerError):
    """The caller's request cannot be served as it stands; nothing was sent upstream."""

    error_type = "invalid_request"
    http_status = 400
    category = "invalid_request"

    def __init__(
        self, message: str, *, status: int = 400, code: str | None = None, param: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param


class AuthenticationError(SpanledgerError):
    """No key, an unknown key or a revoked one."""

    error_type = "authentication_failed"
    http_status = 401
    category = "authentication"


class PermissionDeniedError(SpanledgerError):
    """The key is good but may not use this route."""

    error_type = "permission_denied"
    http_status = 403
    category = "permission"


class OverloadedError(SpanledgerError):
    """A limit of this gateway (concurrent requests) is reached; ask again."""

    error_type = "gateway_overloaded"
    http_status = 429
    category = "rate_limit"
    retryable = True


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a budget said no: the figures at the moment of the decision, in nano-USD."""

    budget: str
    scope: str
    subject: str
    limit_nano: int
    spent_nano: int
    held_nano: int
    needed_nano: int
    renews_at_s: int
    """Unix seconds at which the budget's period ends."""


class BudgetExceededError(SpanledgerError):
    """A blocking budget has no room for this attempt.

    Attributes:
        refusal: the figures.
        status: of the answer; `gateway.budget_exceeded_status` says which.
    """

    error_type = "budget_exceeded"
    http_status = 429
    category = "quota"

    def __init__(self, message: str, refusal: Refusal) -> None:
        super().__init__(message)
        self.refusal = refusal
        self.status = self.http_status


class UnpricedModelError(SpanledgerError):
    """A budget blocks, and the model has no price: it cannot be held against the budget."""

    error_type = "unpriced_model"
    http_status = 400
    category = "invalid_request"


class UnboundedCostError(UnpricedModelError):
    """A budget blocks, and the model's price does not say what this request can cost at most."""

    error_type = "unbounded_cost"


class LedgerUnavailableError(SpanledgerError):
    """The ledger could not commit; nothing leaves without a durable hold."""

    error_type = "ledger_unavailable"
    http_status = 503
    retryable = True


class ProviderError(SpanledgerError):
    """An attempt at a provider failed.

    Attributes:
        kind: the low-cardinality reason, one of `PROVIDER_ERROR_KINDS`; it is `error.type` of
            the attempt's span and the reason of a fallback.
        status: the provider's HTTP status, None when no answer came.
        retry_after_s: what the provider asked for, seconds.
        told: what the provider says of it (`message`, `type`, `param`, `code` and what else it has),
            for the caller; None where that is not the caller's to read.
        billed: `no` when the provider surely bills nothing, `unknown` when it may (the request
            was sent whole and no answer came, or a stream broke).
        request_alone: that it refuses this one request for its size, and would serve others.
    """

    error_type = "provider_error"
    http_status = 502

    def __init__(
        self,
        kind: str,
        message: str,
        *,
        status: int | None = None,
        retry_after_s: float | None = None,
        told: dict[str, Any] | None = None,
        billed: str = "no",
        request_alone: bool = False,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.status = status
        self.retry_after_s = retry_after_s
        self.told = told
        self.billed = billed
        self.request_alone = request_alone


PROVIDER_ERROR_KINDS = (
    "rate_limited",  # 429
    "overloaded",  # 529, 503
    "server_error",  # other 5xx
    "timeout",  # no answer, or no next chunk, in time
    "connection_error",  # refused, reset, TLS, DNS: no answer byte
    "stream_interrupted",  # the stream broke after it began
    "malformed_response",  # an answer that is not the wire it should be
    "context_window_exceeded",
    "content_filtered",
    "invalid_request",  # any other 4xx: the request itself is at fault
    "authentication_failed",  # 401, 403 of the provider: our key there is bad
    "not_found",  # 404: the deployment's model or path does not exist
    "cooldown",  # no attempt was made: every deployment of the group is cooling down
    "rate_limit_reached",  # no attempt was made: our own rpm or tpm for the deployment is used up
)


def forget_frames(error: BaseException) -> None:
    """Let go of the frames an error passed through, once it is told.

    They hold the request's body, and a frame that names its own error is a cycle: it would stay
    until the garbage collector comes by, which may be hundreds of requests later.
    """
    passed: BaseException | None = error
    while passed is not None:
        passed.__traceback__ = None
        passed = passed.__context__
