"""Adapters, one for each wire format of providers, created here as a configuration needs them.

Importing this package imports no adapter, so that the contract in `base.py` stays cheap to use.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from spanledger.clock import Clock

if TYPE_CHECKING:
    from spanledger.providers.base import Provider, ProviderKind
    from spanledger.providers.proxies import WayOut
    from spanledger.providers.transport import Limits


def create_providers(
    kinds: Iterable[ProviderKind],
    limits: Limits | None = None,
    clock: Clock | None = None,
    way_out: WayOut | None = None,
) -> dict[ProviderKind, Provider]:
    """One adapter per kind. None connects before a call; LiteLLM is imported in a thread.

    Raises:
        ConfigError: a deployment needs LiteLLM, which is not installed.
    """
    clock = clock or Clock()
    made: dict[ProviderKind, Provider] = {}
    for kind in sorted(set(kinds)):
        if kind != "litellm":
            from spanledger.providers.http import HttpProvider

            made[kind] = HttpProvider(limits, clock, way_out)
        else:
            from spanledger.providers.litellm import LiteLLMProvider

            litellm = LiteLLMProvider(clock)
            litellm.warm()
            made[kind] = litellm
    return made
