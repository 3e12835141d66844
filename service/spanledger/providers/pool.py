"""Makes the adapters a configuration needs, each with its own pool of connections."""

from __future__ import annotations

from collections.abc import Iterable

from spanledger.clock import Clock
from spanledger.providers.base import Provider, ProviderKind
from spanledger.providers.transport import Limits


def create_providers(
    kinds: Iterable[ProviderKind], limits: Limits | None = None, clock: Clock | None = None
) -> dict[ProviderKind, Provider]:
    """One adapter for each kind; nothing connects, and LiteLLM is not imported, before a call.

    Raises:
        ConfigError: a deployment needs LiteLLM, and it is not installed.
    """
    limits = limits or Limits()
    clock = clock or Clock()
    made: dict[ProviderKind, Provider] = {}
    for kind in dict.fromkeys(kinds):
        if kind == "openai":
            from spanledger.providers.openai import OpenAIProvider

            made[kind] = OpenAIProvider(limits, clock)
        elif kind == "anthropic":
            from spanledger.providers.anthropic import AnthropicProvider

            made[kind] = AnthropicProvider(limits, clock)
        else:
            from spanledger.providers.litellm import LiteLLMProvider

            made[kind] = LiteLLMProvider(clock)
    return made
