"""Where an answer is kept: at an account, which is an address and a key.

Every deployment of that account can continue the answer, and none other can. So a request that
continues one has only these as candidates, also among its fallbacks.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from urllib.parse import quote

from spanledger.errors import ProviderError
from spanledger.providers.base import Call, Deployment, KeepsAnswers, Provider, ProviderKind
from spanledger.routing.course import Filtered, Groups
from spanledger.routing.plan import Plan
from spanledger.wires import RESPONSES

KEPT_TIMEOUT_S = 60.0
"""Longest wait for a kept answer; nothing is generated meanwhile."""
MAX_MISSING = 1_000
"""Deployments whose absence is logged, each once."""

log = logging.getLogger(__name__)

_Account = tuple[str, str | None, str | None]


class KeptCalls:
    """The accounts of deployments, and calls about the answers they keep."""

    def __init__(
        self, plan: Plan, providers: Mapping[ProviderKind, Provider], max_response_bytes: int
    ) -> None:
        self._deployments = {deployment.id: deployment for deployment in plan.deployments}
        self._providers = providers
        self._max_response_bytes = max_response_bytes
        self._missing: set[str] = set()

    def deployment(self, unique: str) -> Deployment | None:
        """A deployment that a row of the ledger names; None, and logged once, if this gateway's
        configuration does not have it."""
        found = self._deployments.get(unique)
        if found is None and unique not in self._missing and len(self._missing) < MAX_MISSING:
            self._missing.add(unique)
            log.warning(
                "the ledger has files, batches or answers at deployment %r, which is not in the"
                " configuration of this gateway, or off: they cannot be read here, and what nobody else"
                " reads is charged as estimated. Gateways of one ledger need the same deployments",
                unique,
            )
        return found

    def at(self, groups: Groups, deployment: str, speaks: str = "") -> Groups:
        """The groups without the deployments that do not have what this one keeps, or do not speak a
        wire."""
        found = self._deployments.get(deployment)
        account = None if found is None else _account(found)

        def has(other: Deployment) -> bool:
            return (not speaks or speaks in other.speaks) and _account(other) == account

        return Filtered(groups, has)

    def same_account(self, first: str, second: str) -> bool:
        """Whether two deployments have the same account."""
        one, other = self._deployments.get(first), self._deployments.get(second)
        return one is not None and other is not None and _account(one) == _account(other)

    async def ask(
        self, deployment: str, method: str, provider_id: str, action: str, query: str
    ) -> bytes | None:
        """What the provider answers about a kept answer; None where it is not there.

        Raises:
            ProviderError: the provider refuses, or cannot be reached.
        """
        found = self._deployments.get(deployment)
        provider = None if found is None else self._providers.get(found.kind)
        if found is None or not isinstance(provider, KeepsAnswers):
            return None
        timeout_s, most = min(KEPT_TIMEOUT_S, found.timeout_s), self._max_response_bytes
        call = Call(found, RESPONSES, {}, timeout_s, max_response_bytes=most)
        path = f"/{quote(provider_id, safe='')}{action}"
        try:
            return await provider.kept(call, method, path, query)
        except ProviderError as error:
            if error.status == 404:
                return None
            raise


def _account(deployment: Deployment) -> _Account:
    return deployment.provider, deployment.api_base, deployment.api_key
