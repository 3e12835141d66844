"""The keys of LiteLLM's router: where a request goes, and what happens after an error.

Part of `router_settings`.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field

Retries = Annotated[int, Field(ge=0, le=20)]
Count = Annotated[int, Field(ge=0)]
Fallbacks = tuple[dict[str, tuple[str, ...]], ...]

_ERRORS = (
    "AuthenticationError",
    "BadRequestError",
    "ContentPolicyViolationError",
    "InternalServerError",
    "NotFoundError",
    "RateLimitError",
    "ServiceUnavailableError",
    "TimeoutError",
)
RETRY_KEYS = (*(f"{error}Retries" for error in _ERRORS), "DefaultRetries")
ALLOWED_FAILS_KEYS = tuple(
    f"{error}AllowedFails"
    for error in (*_ERRORS, "BadGatewayError")
    if error not in ("BadRequestError", "ContentPolicyViolationError")
)
"""A caller's own mistake never counts as a failure of the deployment, here or in LiteLLM."""


def _only(keys: tuple[str, ...]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """A validator that allows only these keys and drops those without a value."""

    def check(given: dict[str, Any]) -> dict[str, Any]:
        for key in given:
            if key not in keys:
                near = difflib.get_close_matches(key, keys, n=1, cutoff=0.5)
                hint = f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(keys)}"
                raise ValueError(f"unknown key {key!r}; {hint}")
        return {key: value for key, value in given.items() if value is not None}

    return check


def _written_out(given: Any) -> Any:
    """`{alias: route}` as `{alias: {model: route}}`, LiteLLM's longer form."""
    if not isinstance(given, dict):
        return {} if given is None else given
    return {a: {"model": route} if isinstance(route, str) else route for a, route in given.items()}


_NULL = BeforeValidator(lambda given: {} if given is None else given)
RetryPolicy = Annotated[dict[str, Retries | None], _NULL, AfterValidator(_only(RETRY_KEYS))]
AllowedFailsPolicy = Annotated[
    dict[str, Count | None], _NULL, AfterValidator(_only(ALLOWED_FAILS_KEYS))
]
StrategyArgs = Annotated[
    dict[str, Annotated[float, Field(ge=0)]],
    _NULL,
    AfterValidator(_only(("ttl", "lowest_latency_buffer"))),
]
Alias = Annotated[dict[str, str | bool], AfterValidator(_only(("model", "hidden")))]
Aliases = Annotated[dict[str, Alias], BeforeValidator(_written_out)]


class RoutingKeys(BaseModel):
    """The part of `router_settings` about strategies, aliases, policies and kinds of fallbacks."""

    routing_strategy: Literal[
        "simple-shuffle",
        "least-busy",
        "latency-based-routing",
        "cost-based-routing",
        "usage-based-routing",
        "usage-based-routing-v2",
    ] = Field("simple-shuffle", description="How the deployment for a request is chosen.")
    routing_strategy_args: StrategyArgs = Field(
        {}, description="`ttl` and `lowest_latency_buffer` of `latency-based-routing`."
    )
    model_group_alias: Aliases = Field(
        {}, description="Other names of routes: `{alias: route}` or `{alias: {model, hidden}}`."
    )
    retry_policy: RetryPolicy = Field(
        {}, description="Retries by kind of error, such as `RateLimitErrorRetries`."
    )
    model_group_retry_policy: dict[str, RetryPolicy] = Field(
        {}, description="The same for single routes; replaces `retry_policy`."
    )
    allowed_fails_policy: AllowedFailsPolicy = Field(
        {}, description="`allowed_fails` by kind of error, such as `TimeoutErrorAllowedFails`."
    )
    stream_timeout: Annotated[float, Field(gt=0)] | None = Field(
        None, description="Seconds until the first content of a stream; default: `timeout`."
    )
    content_policy_fallbacks: Fallbacks = Field(
        (), description="Routes to use when the provider refuses or filters the content."
    )

    @property
    def aliases(self) -> dict[str, str]:
        """Routes by alias."""
        return {
            alias: str(entry.get("model", "")) for alias, entry in self.model_group_alias.items()
        }

    @property
    def hidden_aliases(self) -> frozenset[str]:
        """Aliases that are served but not listed."""
        return frozenset(a for a, entry in self.model_group_alias.items() if entry.get("hidden"))
