"""The errors that users can see, each with a low-cardinality `error_type` and an HTTP status.

`error_type` is the value of `error.type` on spans and metrics. It never contains a name, a number
or an external message. The message says what to change.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar, Literal

from spanledger.money import format_usd

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
    """Base class: what went wrong, in a sentence the reader can act on."""

    error_type: ClassVar[str] = "internal_error"
    http_status: ClassVar[int] = 500
    category: ClassVar[Category] = "server"
    """What sort of error a caller meets; each wire has its own word for it."""
    retryable: ClassVar[bool] = False
    """Whether it helps a client to retry; false sends `x-should-retry: false`."""


class ConfigError(SpanledgerError):
    """An invalid file, flag or variable; names the place and the nearest valid value."""

    error_type = "config_error"


class UsageError(SpanledgerError):
    """A command was called with invalid or contradictory values; exit code 2."""

    error_type = "usage_error"


class InvalidRequestError(SpanledgerError):
    """The caller's request is invalid; nothing was sent to a provider."""

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
    """A missing, unknown, revoked or expired key."""

    error_type = "authentication_failed"
    http_status = 401
    category = "authentication"


class PermissionDeniedError(SpanledgerError):
    """The key is valid but is not allowed to use this route or model."""

    error_type = "permission_denied"
    http_status = 403
    category = "permission"


class OverloadedError(SpanledgerError):
    """A limit of this gateway (concurrent requests) is reached; retry later."""

    error_type = "gateway_overloaded"
    http_status = 429
    category = "rate_limit"
    retryable = True


Renewal = Literal["renews", "ends", "never"]
"""What follows the period of a budget: another, no limit, or nothing, because it does not end."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a budget refused: the figures at the time of the decision, in nano-USD."""

    budget: str
    scope: str
    subject: str
    limit_nano: int
    spent_nano: int
    held_nano: int
    needed_nano: int
    renews_at_s: int
    """Unix seconds at which the budget's period ends."""
    renewal: Renewal = "renews"
    grace_nano: int = 0
    """What the budget allows beyond its limit."""
    strict: bool = False
    """A strict budget applies, this or another: only a bound can be held."""

    @property
    def renews_at(self) -> str | None:
        """The end of the period, in UTC; None if it has none."""
        if self.renewal == "never":
            return None
        return datetime.fromtimestamp(self.renews_at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def __str__(self) -> str:
        amounts = (self.limit_nano, self.spent_nano, self.held_nano, self.needed_nano)
        limit, spent, held, needed = (format_usd(nano) for nano in amounts)
        end = self.renews_at
        grace = f", grace ${format_usd(self.grace_nano)}" if self.grace_nano else ""
        return (
            f"budget {self.budget!r} ({self.scope} {self.subject!r}) has no room for this request:"
            f" limit ${limit}{grace}, spent ${spent}, held ${held}, needed ${needed};"
            f" {'it does not renew' if end is None else f'it {self.renewal} at {end}'}"
        )


class BudgetExceededError(SpanledgerError):
    """A blocking budget has no room for this attempt.

    Attributes:
        refusal: the figures.
        status: HTTP status of the answer, set by `gateway.budget_exceeded_status`.
    """

    error_type = "budget_exceeded"
    http_status = 429
    category: ClassVar[Category] = "quota"

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(str(refusal))
        self.refusal = refusal
        self.status = self.http_status

    def answer_with(self, status: int) -> None:
        """Use the status that the configuration has for it."""
        self.status = status


class BudgetThrottledError(BudgetExceededError):
    """A budget near its limit has let as many requests through in the last minute as it does then.

    Attributes:
        retry_after_s: until it lets another one through.
    """

    error_type = "budget_throttled"
    category = "rate_limit"
    retryable = True

    def __init__(self, refusal: Refusal, most: int, retry_after_s: int) -> None:
        super().__init__(refusal)
        self.most = most
        self.retry_after_s = retry_after_s

    def answer_with(self, status: int) -> None:
        """Stay at 429: the caller may retry soon."""

    def __str__(self) -> str:
        refusal, spent = self.refusal, format_usd(self.refusal.spent_nano)
        return (
            f"budget {refusal.budget!r} ({refusal.scope} {refusal.subject!r}) is near its limit and lets"
            f" {self.most} requests a minute through: spent ${spent} of"
            f" ${format_usd(refusal.limit_nano)}; retry after {self.retry_after_s} s"
        )


class BudgetDegradesError(SpanledgerError):
    """A budget near its limit sends a request to another route. Routing obeys; no caller sees it.

    Attributes:
        budget: its name.
        route: where the request is sent.
    """

    error_type = "budget_degraded"

    def __init__(self, budget: str, route: str) -> None:
        super().__init__(f"budget {budget!r} is near its limit: use the route {route!r}")
        self.budget = budget
        self.route = route


class UnpricedModelError(SpanledgerError):
    """A blocking budget applies and the model has no price, so no hold can be computed."""

    error_type = "unpriced_model"
    http_status = 400
    category = "invalid_request"


class UnboundedCostError(UnpricedModelError):
    """A blocking budget applies and the maximum cost of this request cannot be computed."""

    error_type = "unbounded_cost"


class LedgerUnavailableError(SpanledgerError):
    """The ledger could not commit; no request is sent without a durable hold."""

    error_type = "ledger_unavailable"
    http_status = 503
    retryable = True


class NoLockError(LedgerUnavailableError):
    """The ledger's address rules out a lock. Waiting does not help; only a setting does."""


class CommitInDoubtError(LedgerUnavailableError):
    """The database was lost while a commit was under way: it may have been made or not."""


class ProviderError(SpanledgerError):
    """An attempt at a provider failed.

    Attributes:
        kind: the low-cardinality reason, one of `PROVIDER_ERROR_KINDS`; it is `error.type` of
            the attempt's span and the reason of a fallback.
        status: the provider's HTTP status; None if there was no answer.
        retry_after_s: the wait that the provider requested, in seconds.
        told: what the provider says about it (`message`, `type`, `param`, `code` and any more), for
            the caller; None if the caller must not see it.
        billed: `no` when the provider certainly bills nothing, `unknown` when it may (the request
            was fully sent and no answer came, or a stream broke).
        request_alone: it rejects only this request, for its size, and would serve others.
        stale: the provider closed a connection that was kept from an earlier request, as idle ones are
            closed, before it saw this one; it is well, and a new connection would have served.
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
        stale: bool = False,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.status = status
        self.retry_after_s = retry_after_s
        self.told = told
        self.billed = billed
        self.request_alone = request_alone
        self.stale = stale


PROVIDER_ERROR_KINDS = (
    "rate_limited",  # 429
    "overloaded",  # 529, 503
    "server_error",  # other 5xx
    "timeout",  # no answer, or no next chunk, in time
    "connection_error",  # refused, reset, TLS, DNS: no byte of an answer
    "stream_interrupted",  # the stream broke after it began
    "malformed_response",  # an answer that does not follow the provider's API
    "context_window_exceeded",
    "content_filtered",
    "invalid_request",  # any other 4xx: the request itself is at fault
    "authentication_failed",  # 401 or 403 from the provider: our key is not valid there
    "not_found",  # 404: the deployment's model or path does not exist
    "cooldown",  # no attempt was made: every deployment of the group is cooling down
    "rate_limit_reached",  # no attempt was made: our own rpm or tpm for the deployment is used up
)

CALLER_CAUSED = frozenset({"context_window_exceeded", "content_filtered", "invalid_request"})
"""The request itself is at fault: the caller gets the provider's status and body, and no other
attempt would help."""


def forget_frames(error: BaseException) -> None:
    """Release the frames an error passed through, once it has been reported.

    They keep the request's body alive, and a frame that refers to its own error is a cycle: it
    would stay until the next garbage collection, which may be hundreds of requests later.
    """
    passed: BaseException | None = error
    while passed is not None:
        passed.__traceback__ = None
        passed = passed.__context__
