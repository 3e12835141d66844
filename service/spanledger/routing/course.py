"""The order of a request's tries: which deployment is next, after which wait, or none.

Within a group deployments not tried yet come first, in weighted random order. A deployment that
cools down is left for a fallback group with room; a request waits for one it has tried only
where nothing else is left. It makes no calls and keeps no time.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from spanledger.config import RouterSettings
from spanledger.errors import ProviderError
from spanledger.pricing.price import Price
from spanledger.providers.base import Deployment, Provider
from spanledger.routing.health import BlockedBy, DeploymentHealth, sensible_retry_after
from spanledger.routing.outcome import MISCONFIGURED

MAX_WAIT_S = 10.0
"""Longest wait for a further try at the same deployment."""
BACKOFF_S = 0.2
MAX_BACKOFF_S = 5.0


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """A deployment with everything a try there needs, looked up once."""

    deployment: Deployment
    provider: Provider
    price: Price | None
    health: DeploymentHealth


Groups = Mapping[str, Sequence[Target]]


@dataclass(slots=True)
class Pick:
    """The next try.

    Attributes:
        wait_s: how long to wait first.
        fallback_from: the route left behind, when the group changed; else empty.
        reason: `error.type` of what went before; empty for a first try.
    """

    target: Target
    wait_s: float = 0.0
    fallback_from: str = ""
    reason: str = ""

    def instead_of(self, refused: Pick) -> Pick:
        """This try in the place of one a budget refused. That one has no row to say which route
        was left and why, so this one's does."""
        if not refused.fallback_from:
            return self
        return replace(self, fallback_from=refused.fallback_from, reason=refused.reason)


class Course:
    """One request's way through groups of deployments."""

    __slots__ = (
        "_banned",
        "_context_fallbacks",
        "_failures",
        "_groups",
        "_queue",
        "_ready_at",
        "_rng",
        "_route",
        "_settings",
        "_tokens",
        "_tries",
        "group",
    )

    def __init__(
        self,
        route: str,
        groups: Groups,
        fallbacks: Sequence[str],
        context_fallbacks: Mapping[str, Sequence[str]],
        settings: RouterSettings,
        tokens: int,
        rng: random.Random,
    ) -> None:
        self.group = self._route = route
        self._groups = groups
        self._queue: Sequence[str] = fallbacks
        self._context_fallbacks = context_fallbacks
        self._settings = settings
        self._tokens = tokens
        self._rng = rng
        self._banned: set[str] = set()
        self._ready_at: dict[str, float] = {}
        self._tries: dict[str, int] = {}
        self._failures = 0

    def first(self, now: float) -> Pick | None:
        """The first try; None when nothing may be tried now."""
        target = self._fresh(now)
        if target is not None:
            return Pick(target)
        return self._moved_on(now, self._blocked_by(now))

    def after_failure(self, target: Target, error: ProviderError, now: float) -> None:
        """Note a failed try."""
        unique = target.deployment.id
        tries = self._tries[unique] = self._tries.get(unique, 0) + 1
        if error.kind in MISCONFIGURED or error.request_alone:
            return  # never ready again
        self._failures += 1
        wait = sensible_retry_after(error.retry_after_s)
        if wait is None:
            wait = min(BACKOFF_S * 2 ** (tries - 1), MAX_BACKOFF_S) * self._rng.uniform(0.5, 1.0)
        else:  # all that were told the same must not come back at the same moment
            wait *= self._rng.uniform(1.0, 1.1)
        self._ready_at[unique] = now + max(wait, self._settings.retry_after)

    def after_refusal(self, target: Target) -> None:
        """Note that a budget has no room for a try there."""
        self._banned.add(target.deployment.id)

    def turn_to_longer_context(self) -> bool:
        """Go on with the groups for longer prompts; whether there are any."""
        self._queue = self._context_fallbacks[self.group] or self._context_fallbacks[self._route]
        self._failures = self._settings.num_retries + 1  # nothing more in this group
        self._banned.update(t.deployment.id for t in self._groups[self.group])
        return bool(self._queue)

    def next(self, now: float, deadline: float, reason: str) -> Pick | None:
        """The next try after a failure or a refusal; None when the request has to end."""
        again: Pick | None = None
        if self._failures <= self._settings.num_retries:
            target = self._fresh(now)
            if target is not None:
                return Pick(target, reason=reason)
            again = self._again(now, deadline, reason)
            if again is not None and now >= again.target.health.cooling_until:
                return again
        return self._moved_on(now, reason) or again

    def may_ever_serve(self) -> bool:
        """Whether any deployment on the way is not off."""
        return any(self._groups[route] for route in (self.group, *self._queue))

    def blocked(self, now: float) -> tuple[float, BlockedBy]:
        """When the first of all the deployments may be tried, and what keeps it till then."""
        routes = (self.group, *self._queue)
        return min(
            target.health.blocked_until(now, self._tokens)
            for route in routes
            for target in self._groups[route]
        )

    def _fresh(self, now: float) -> Target | None:
        """A deployment of the group that was not tried and may be."""
        targets = self._groups[self.group]
        if len(targets) == 1:
            only = targets[0]
            return only if self._is_fresh(only, now) else None
        found = [target for target in targets if self._is_fresh(target, now)]
        if len(found) < 2:
            return found[0] if found else None
        point = self._rng.random() * sum(target.deployment.weight for target in found)
        for target in found:
            point -= target.deployment.weight
            if point < 0:
                return target
        return found[-1]

    def _is_fresh(self, target: Target, now: float) -> bool:
        unique = target.deployment.id
        return (
            unique not in self._tries
            and unique not in self._banned
            and target.health.available(now, self._tokens)
        )

    def _again(self, now: float, deadline: float, reason: str) -> Pick | None:
        """The tried deployment of the group that is ready first, one that serves before one
        that cools down."""
        best: Pick | None = None
        best_rank = (True, MAX_WAIT_S)
        for target in self._groups[self.group]:
            ready_at = self._ready_at.get(target.deployment.id)
            health = target.health
            if ready_at is None or target.deployment.id in self._banned:
                continue
            wait = max(0.0, ready_at - now, health.asked_until - now)
            rank = (now < health.cooling_until, wait)
            if (
                wait <= MAX_WAIT_S
                and now + wait < deadline
                and rank <= best_rank
                and health.has_room(now, self._tokens)
            ):
                best, best_rank = Pick(target, wait, reason=reason), rank
        return best

    def _moved_on(self, now: float, reason: str) -> Pick | None:
        """A try in the first fallback group that has one; the groups before it are left."""
        for index, route in enumerate(self._queue):
            left, self.group = self.group, route
            target = self._fresh(now)
            if target is not None:
                self._queue = self._queue[index + 1 :]
                self._failures = 0
                return Pick(target, fallback_from=left, reason=reason)
            self.group = left
        return None

    def _blocked_by(self, now: float) -> str:
        """Why a group cannot be tried; one whose deployments are all off lacks their keys."""
        targets = self._groups[self.group]
        if not targets:
            return "authentication_failed"
        return min(target.health.blocked_until(now, self._tokens) for target in targets)[1]
