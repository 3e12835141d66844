"""The operator's rules for retries, cooldowns and fallbacks, in the form that routing uses.

Plain data, which `plan` makes from `router_settings`; no state and no decisions.
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
"""LiteLLM's error names in `retry_policy` (followed by `Retries`) and in `allowed_fails_policy`
(followed by `AllowedFails`), and our kinds. Source: `RetryPolicy` and `AllowedFailsPolicy` in its
`types/router.py`, and its page on exception mapping."""


@dataclass(frozen=True, slots=True)
class RetryRules:
    """How often a failed request is retried before the route is left.

    Attributes:
        num_retries: None: not set, see `course`.
        by_kind: retries by kind of error; they win over `num_retries`.
        retry_after_s: minimum seconds between two attempts at one deployment.
    """

    num_retries: int | None = None
    by_kind: Mapping[str, int] = field(default_factory=dict)
    retry_after_s: float = 0.0

    def after(self, kind: str, own: int | None) -> int | None:
        """Retries after an error of this kind; `own` is the deployment's setting."""
        named = self.by_kind.get(kind)
        if named is not None:
            return named
        return self.num_retries if own is None else own


@dataclass(frozen=True, slots=True)
class CooldownRules:
    """When a deployment cools down, and for how long.

    Attributes:
        allowed_fails: failures within a minute that do not start a cooldown yet.
        by_kind: the same, by the kind of the latest failure.
        cooldown_s: length of a cooldown, unless the provider sets it.
    """

    allowed_fails: int = 3
    by_kind: Mapping[str, int] = field(default_factory=dict)
    cooldown_s: float = 5.0


@dataclass(frozen=True, slots=True)
class Onward:
    """Where a route's requests go after the route has failed.

    Attributes:
        fallbacks: fallback routes, in order, after any error for which a retry can help.
        context: fallback routes for prompts that are too long.
        content: fallback routes for content that the provider refused.
    """

    fallbacks: Sequence[str] = ()
    context: Sequence[str] = ()
    content: Sequence[str] = ()
