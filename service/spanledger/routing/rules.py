"""What an operator may say about retries, cooldowns and fallbacks, as routing takes it.

Plain data, made from `router_settings` by the plan; no state and no decision.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

POLICY_KINDS: Mapping[str, tuple[str, ...]] = {
    "AuthenticationError": ("authentication_failed",),
    "BadGatewayError": ("server_error",),
    "BadRequestError": ("invalid_request",),
    "ContentPolicyViolationError": ("content_filtered",),
    "InternalServerError": (
        "server_error",
        "connection_error",
        "stream_interrupted",
        "malformed_response",
    ),
    "NotFoundError": ("not_found",),
    "RateLimitError": ("rate_limited",),
    "ServiceUnavailableError": ("overloaded",),
    "TimeoutError": ("timeout",),
}
"""LiteLLM's names of errors in `retry_policy` (with `Retries`) and in `allowed_fails_policy` (with
`AllowedFails`), and our kinds. Source: `RetryPolicy` and `AllowedFailsPolicy` in its
`types/router.py`, and its page on exception mapping."""


@dataclass(frozen=True, slots=True)
class RetryRules:
    """How often a failed request is attempted again before the route is left.

    Attributes:
        num_retries: None = nobody said, see `course`.
        by_kind: retries after an error of a kind; they win over `num_retries`.
        retry_after_s: least seconds between two attempts at one deployment.
    """

    num_retries: int | None = None
    by_kind: Mapping[str, int] = field(default_factory=dict)
    retry_after_s: float = 0.0

    def after(self, kind: str, own: int | None) -> int | None:
        """Retries after an error of this kind; `own` is what the deployment itself says."""
        named = self.by_kind.get(kind)
        if named is not None:
            return named
        return self.num_retries if own is None else own


@dataclass(frozen=True, slots=True)
class CooldownRules:
    """When a deployment rests, and for how long.

    Attributes:
        allowed_fails: failures within a minute that are no reason yet.
        by_kind: the same, where the latest failure is of a kind.
        cooldown_s: how long it rests, unless the provider says.
    """

    allowed_fails: int = 3
    by_kind: Mapping[str, int] = field(default_factory=dict)
    cooldown_s: float = 5.0


@dataclass(frozen=True, slots=True)
class Onward:
    """Where a route's requests go once the route has failed.

    Attributes:
        fallbacks: routes to turn to, in order, after any error that another attempt can mend.
        context: for prompts that are too long.
        content: for content that the provider refused.
    """

    fallbacks: Sequence[str] = ()
    context: Sequence[str] = ()
    content: Sequence[str] = ()
