"""The order of a request's attempts: which deployment is next, after how long a wait, or none.

A route's deployments form levels, by `order`; its fallback routes follow. Within a level,
deployments not attempted yet come first, in the order of the routing strategy.

How failures are retried, unless `num_retries` or a retry policy says otherwise:

- A deployment is not called twice: callers retry by themselves, which would multiply the calls.
  The exception is a connection that failed before the request was sent, which costs nothing.
- Up to three deployments of a level are called, then the next level and the fallback routes.
- A request is sent at most twice to providers that may bill it without having answered.

A deployment in cooldown is skipped while another one can serve. Before a request would be refused
it is called anyway, unless the provider itself demanded a pause (`Retry-After`). This module makes
no calls and reads no clock.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
from msgspec.structs import replace

from spanledger.errors import ProviderError
from spanledger.pricing.price import Price
from spanledger.providers.base import Deployment, Provider
from spanledger.routing.health import BlockedBy, DeploymentHealth, sensible_retry_after
from spanledger.routing.outcome import MISCONFIGURED
from spanledger.routing.rules import Onward, RetryRules

MAX_WAIT_S = 10.0
"""Longest wait for a further attempt at the same deployment."""
BACKOFF_S = 0.2
MAX_BACKOFF_S = 5.0
DEFAULT_RETRIES = 2
"""Further deployments of a level that are called if no setting says how many."""
MAX_BILLED_UNSEEN = 2
"""Attempts of a request that may be billed without an answer, if no setting allows more."""


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A deployment with everything that an attempt needs, looked up once."""

    deployment: Deployment
    provider: Provider
    price: Price | None
    health: DeploymentHealth


Levels = Sequence[Sequence[Candidate]]
"""A route's deployments, lowest `order` first."""
Groups = Mapping[str, Levels]


class Filtered(dict[str, Levels]):
    """Groups with some of their deployments, filtered when they are looked at."""

    def __init__(self, groups: Groups, allows: Callable[[Deployment], bool]) -> None:
        super().__init__()
        self._all = groups
        self._allows = allows

    def __missing__(self, route: str) -> Levels:
        levels = [
            [target for target in level if self._allows(target.deployment)]
            for level in self._all[route]
        ]
        found = self[route] = [level for level in levels if level] or [[]]
        return found


Choose = Callable[[Sequence[Candidate], float, random.Random, bool], Candidate]
"""Chooses one of several deployments at a given time; the last argument: is it for a stream."""


class Pick(msgspec.Struct):
    """The next attempt.

    Attributes:
        wait_s: how long to wait first.
        fallback_from: the previous route, if the route changed; else empty.
        reason: `error.type` of the failure before it; empty for a first attempt.
    """

    target: Candidate
    wait_s: float = 0.0
    fallback_from: str = ""
    reason: str = ""

    def instead_of(self, refused: Pick) -> Pick:
        """This attempt in place of one that a budget refused. The refused one has no row to record
        which route was left and why, so this one's row does."""
        if not refused.fallback_from:
            return self
        return replace(self, fallback_from=refused.fallback_from, reason=refused.reason)


class Course:
    """One request's way through groups of deployments."""

    __slots__ = (
        "_allowed",
        "_attempts",
        "_banned",
        "_billed_unseen",
        "_choose",
        "_failures",
        "_groups",
        "_level",
        "_onward",
        "_queue",
        "_ready_at",
        "_repeat",
        "_rng",
        "_route",
        "_rules",
        "_stream",
        "_tokens",
        "_unserved",
        "group",
    )

    def __init__(
        self,
        route: str,
        groups: Groups,
        onward: Mapping[str, Onward],
        rules: RetryRules,
        choose: Choose,
        rng: random.Random,
        *,
        tokens: int = 0,
        stream: bool = False,
        unserved: str = "authentication_failed",
    ) -> None:
        """`unserved` says why the route has no deployment, where it has none."""
        self.group = self._route = route
        self._level = 0
        self._groups = groups
        self._onward = onward
        self._queue: Sequence[str] = onward[route].fallbacks
        self._rules = rules
        self._allowed = rules.num_retries
        self._choose = choose
        self._tokens = tokens
        self._stream = stream
        self._unserved = unserved
        self._rng = rng
        self._banned: set[str] = set()
        self._ready_at: dict[str, float] = {}
        self._attempts: dict[str, int] = {}
        self._failures = 0
        self._billed_unseen = 0
        self._repeat: Candidate | None = None

    def first(self, now: float) -> Pick | None:
        """The first attempt; None if no deployment may be called now."""
        target = self._fresh(self._here(), now)
        if target is not None:
            return Pick(target)
        reason = self._blocked_by(now)
        found = self._elsewhere(self._fresh, now, reason) or self._last_resort(now, reason)
        if found is not None and not found.fallback_from:
            found.reason = ""
        return found

    def after_failure(self, target: Candidate, error: ProviderError, now: float) -> None:
        """Record a failed attempt."""
        unique = target.deployment.id
        attempts = self._attempts[unique] = self._attempts.get(unique, 0) + 1
        self._allowed = self._rules.after(error.kind, target.deployment.num_retries)
        self._billed_unseen += error.billed != "no"
        if error.request_alone or (
            error.kind in MISCONFIGURED and error.kind not in self._rules.by_kind
        ):
            return  # never ready again
        if error.stale and attempts == 1:
            self._repeat, self._ready_at[unique] = target, now
            return
        self._failures += 1
        unsent = error.kind == "connection_error" and error.billed == "no"
        if self._allowed is None and not (unsent and attempts == 1):
            self._ready_at.pop(unique, None)
            return
        wait = sensible_retry_after(error.retry_after_s)
        if wait is None:
            wait = min(BACKOFF_S * 2 ** (attempts - 1), MAX_BACKOFF_S)
            wait *= self._rng.uniform(0.5, 1.0)
        else:  # requests that got the same Retry-After must not all return at the same moment
            wait *= self._rng.uniform(1.0, 1.1)
        self._ready_at[unique] = now + max(wait, self._rules.retry_after_s)

    def after_refusal(self, target: Candidate) -> None:
        """Record that a budget has no room for an attempt there."""
        self._banned.add(target.deployment.id)

    def has_room(self, target: Candidate) -> None:
        """Take that back: it may have room now."""
        self._banned.discard(target.deployment.id)

    def turn_to(self, kind: str) -> bool:
        """Continue with the routes for prompts that are too long (`context_window_exceeded`) or for
        refused content (`content_filtered`). Returns whether there are any."""
        routes = self.turns_to(kind)
        if not routes:
            return False
        self._queue = routes
        self._banned.update(t.deployment.id for level in self._groups[self.group] for t in level)
        return True

    def turns_to(self, kind: str) -> Sequence[str]:
        """Those routes: the current route's own, else the requested route's. Without those that
        have no deployment for this request, so that nothing is given up for their sake."""
        here, first = self._onward[self.group], self._onward[self._route]
        routes: Sequence[str] = ()
        if kind == "context_window_exceeded":
            routes = here.context or first.context
        elif kind == "content_filtered":
            routes = here.content or first.content
        return [route for route in routes if any(self._groups[route])]

    def may_repeat(self, kind: str) -> bool:
        """Whether a retry policy names this error, which is not retried otherwise, and has retries
        left."""
        return self._failures <= self._rules.by_kind.get(kind, -1)

    def next(self, now: float, deadline: float, reason: str) -> Pick | None:
        """The next attempt after a failure or a refusal; None if the request has to end."""
        repeat, self._repeat = self._repeat, None
        if repeat is not None and repeat.health.available(now, self._tokens):
            return Pick(repeat, reason=reason)  # on a new connection, whatever `num_retries` says
        said = self._allowed is not None
        if not said and self._billed_unseen >= MAX_BILLED_UNSEEN:
            return None
        again: Pick | None = None
        here = self._failures <= (DEFAULT_RETRIES if self._allowed is None else self._allowed)
        if here:
            target = self._fresh(self._here(), now)
            if target is not None:
                return Pick(target, reason=reason)
            again = self._again(now, deadline, reason)
            if again is not None and said and now >= again.target.health.cooling_until:
                return again
        found = self._elsewhere(self._fresh, now, reason)
        if found is None and not said:
            found = again
        return found or self._last_resort(now, reason, here=here) or again

    def may_ever_serve(self) -> bool:
        """Whether the route or its fallbacks have any deployment for this request."""
        routes = (self.group, *self._queue)
        return any(level for route in routes for level in self._groups[route])

    def blocked(self, now: float) -> tuple[float, BlockedBy]:
        """When the first of all deployments may be called, and what blocks it until then."""
        routes = (self.group, *self._queue)
        return min(
            target.health.blocked_until(now, self._tokens)
            for route in routes
            for level in self._groups[route]
            for target in level
        )

    def _here(self) -> Sequence[Candidate]:
        return self._groups[self.group][self._level]

    def _fresh(self, targets: Sequence[Candidate], now: float) -> Candidate | None:
        """One of these deployments that was not attempted yet and is available."""
        if len(targets) == 1:
            only = targets[0]
            return only if self._is_fresh(only, now) else None
        found = [target for target in targets if self._is_fresh(target, now)]
        if len(found) < 2:
            return found[0] if found else None
        return self._choose(found, now, self._rng, self._stream)

    def _is_fresh(self, target: Candidate, now: float) -> bool:
        return self._is_new(target) and target.health.available(now, self._tokens)

    def _is_new(self, target: Candidate) -> bool:
        unique = target.deployment.id
        return unique not in self._attempts and unique not in self._banned

    def _again(self, now: float, deadline: float, reason: str) -> Pick | None:
        """The attempted deployment of the level that is ready first; those in cooldown come last."""
        best: Pick | None = None
        best_rank = (True, MAX_WAIT_S)
        for target in self._here():
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

    def _elsewhere(
        self,
        find: Callable[[Sequence[Candidate], float], Candidate | None],
        now: float,
        reason: str,
    ) -> Pick | None:
        """An attempt in the first later level or route that has one. The request moves there."""
        levels = self._groups[self.group]
        for level in range(self._level + 1, len(levels)):
            target = find(levels[level], now)
            if target is not None:
                self._level, self._failures = level, 0
                return Pick(target, reason=reason)
        for index, route in enumerate(self._queue):
            for level, targets in enumerate(self._groups[route]):
                target = find(targets, now)
                if target is not None:
                    left, self.group, self._level = self.group, route, level
                    self._queue = self._queue[index + 1 :]
                    self._failures = 0
                    return Pick(target, fallback_from=left, reason=reason)
        return None

    def _last_resort(self, now: float, reason: str, *, here: bool = True) -> Pick | None:
        """An attempt at a deployment that only a cooldown of ours blocks."""
        target = self._rested(self._here(), now) if here else None
        if target is not None:
            return Pick(target, reason=reason)
        return self._elsewhere(self._rested, now, reason)

    def _rested(self, targets: Sequence[Candidate], now: float) -> Candidate | None:
        """Of those deployments not attempted yet, the one whose cooldown ends first."""
        found = [t for t in targets if self._is_new(t) and t.health.may_be_asked(now, self._tokens)]
        return min(found, key=lambda t: t.health.cooling_until) if found else None

    def _blocked_by(self, now: float) -> str:
        """Why a level cannot serve."""
        targets = self._here()
        if not targets:
            return self._unserved
        cooling = any(now < target.health.cooling_until for target in targets)
        return "cooldown" if cooling else "rate_limit_reached"


def levels_of(targets: Sequence[Candidate]) -> Levels:
    """A route's targets by `order`; those without one come last. If all are off, there is a single
    empty level."""
    orders = sorted(
        {t.deployment.order for t in targets}, key=lambda o: math.inf if o is None else o
    )
    return [[t for t in targets if t.deployment.order == order] for order in orders] or [[]]
