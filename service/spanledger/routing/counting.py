"""Has the input of a request counted: by a deployment that can, else by us.

Nobody charges for it, so nothing is held and no row is written. It counts within the deployment's
rpm, and says nothing of its health: many servers speak a wire without its counting, and a request
must not fail because a count did.
"""

from __future__ import annotations

from typing import NamedTuple

from spanledger.clock import Clock
from spanledger.errors import ProviderError
from spanledger.providers.base import Call, CountsTokens
from spanledger.routing.course import Candidate, Choose, Levels
from spanledger.wires.base import Ask
from spanledger.wires.side import TokenCounter

COUNT_TIMEOUT_S = 10.0
"""Longest wait for a provider's count; an estimate at once is worth more than a late count."""
AGAIN_S = 600.0
"""How long a deployment is not called again that did not know the path."""
_REFUSES = frozenset({400, 413, 422})
"""Statuses for a request that is itself at fault."""
_UNKNOWN = frozenset({404, 405, 501})


class Counted(NamedTuple):
    """The answer, and the deployment that counted; it is empty for an estimate."""

    body: bytes
    deployment: str = ""


class Counting:
    """Counts requests. It remembers which deployments cannot."""

    def __init__(self, choose: Choose, clock: Clock) -> None:
        self._choose = choose
        self._clock = clock
        self._unable: dict[tuple[str, str], float] = {}

    async def count(self, counter: TokenCounter, ask: Ask, levels: Levels) -> Counted:
        """The count of a request's input.

        Raises:
            ProviderError: the provider refused the request itself.
        """
        target = self._target(counter, levels)
        if target is None:
            return Counted(counter.estimated(ask))
        deployment, provider, began = target.deployment, target.provider, self._clock.monotonic()
        assert isinstance(provider, CountsTokens)
        fields = {name: raw for name, raw in ask.fields.items() if name not in deployment.drops}
        timeout_s = min(COUNT_TIMEOUT_S, deployment.timeout_s)
        target.health.begin(began, 0)
        try:
            call = Call(deployment, ask.wire, fields, timeout_s, headers=ask.headers)
            return Counted(await provider.count(call, counter), deployment.id)
        except ProviderError as error:
            if error.status in _REFUSES:
                raise
            if error.status in _UNKNOWN:
                self._unable[deployment.id, counter.path] = self._clock.monotonic() + AGAIN_S
            return Counted(counter.estimated(ask))
        finally:
            target.health.ended(began, 0, 0)

    def _target(self, counter: TokenCounter, levels: Levels) -> Candidate | None:
        """A deployment that can count and may be called now."""
        now = self._clock.monotonic()
        for level in levels:
            found = [target for target in level if self._may_count(target, counter, now)]
            if found:
                return self._choose(found, now, self._clock.rng, False)
        return None

    def _may_count(self, target: Candidate, counter: TokenCounter, now: float) -> bool:
        deployment = target.deployment
        return (
            counter.wire.name in deployment.speaks
            and isinstance(target.provider, CountsTokens)
            and now >= self._unable.get((deployment.id, counter.path), now)
            and target.health.available(now, 0)
        )
