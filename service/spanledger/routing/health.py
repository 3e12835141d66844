"""Which deployments may be called now: cooldowns after failures, and their own rpm and tpm.

The state of one process, in memory and of fixed size. The time is an argument of each call
(monotonic seconds); nothing here waits or knows about requests.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from typing import Literal, NamedTuple

from spanledger.clock import Clock
from spanledger.providers.base import Deployment
from spanledger.routing.entries import Off
from spanledger.routing.outcome import MISCONFIGURED, TRANSIENT
from spanledger.routing.rules import CooldownRules

MAX_PAUSE_S = 300.0
"""Longest `Retry-After` that we respect, so that a deployment recovers without an operator."""
MIN_FAILURE_SHARE = 10
"""A deployment that still serves cools down only if at least one in this many of its attempts in the
last minute failed. Otherwise occasional failures would keep a busy one in cooldown."""

REMEMBERED_LATENCIES = 10
TIMEOUT_LATENCY_S = 1000.0
"""Latency counted for an attempt that timed out, so that a silent deployment ranks slowest."""

_BUCKET_S = 5.0
_BUCKETS = 13
"""Twelve make a minute; the thirteenth is being filled, so that a count always covers at least
a full minute."""

_AT_ONCE = MISCONFIGURED | {"rate_limited"}
"""Kinds of failure that start a cooldown at once."""

BlockedBy = Literal["cooldown", "rate_limit_reached"]
_COOLDOWN: BlockedBy = "cooldown"
_RATE_LIMIT: BlockedBy = "rate_limit_reached"


class MinuteWindow:
    """A sliding count over the last minute (and up to five seconds more), in thirteen integers."""

    __slots__ = ("_buckets", "_epoch", "total")

    def __init__(self) -> None:
        self._buckets = [0] * _BUCKETS
        self._epoch = 0
        self.total = 0
        """As of the last call."""

    def count(self, now: float) -> int:
        """The sum of what was added in the last minute."""
        epoch = int(now / _BUCKET_S)
        if epoch > self._epoch:
            for passed in range(max(self._epoch + 1, epoch - _BUCKETS + 1), epoch + 1):
                self.total -= self._buckets[passed % _BUCKETS]
                self._buckets[passed % _BUCKETS] = 0
            self._epoch = epoch
        return self.total

    def add(self, now: float, amount: int) -> None:
        """Add to the count."""
        self.count(now)
        self._buckets[self._epoch % _BUCKETS] += amount
        self.total += amount

    def correct(self, at: float, amount: int) -> None:
        """Adjust what was counted at an earlier time, if that is still in the window."""
        epoch = int(at / _BUCKET_S)
        if self._epoch - _BUCKETS < epoch <= self._epoch:
            self._buckets[epoch % _BUCKETS] += amount
            self.total += amount

    def clear(self) -> None:
        """Forget everything."""
        self._buckets = [0] * _BUCKETS
        self.total = 0

    def falls_to(self, now: float, most: int) -> float:
        """When the count drops to `most`, if nothing is added."""
        left = self.count(now)
        for epoch in range(self._epoch - _BUCKETS + 1, self._epoch + 1):
            if left <= most:
                break
            left -= self._buckets[epoch % _BUCKETS]
            now = (epoch + _BUCKETS) * _BUCKET_S
        return now


class Latency:
    """The mean of the last few measurements, while they are recent."""

    __slots__ = ("_measured_at", "_recent", "_sum")

    def __init__(self) -> None:
        self._recent: deque[float] = deque(maxlen=REMEMBERED_LATENCIES)
        self._sum = 0.0
        self._measured_at = -math.inf

    def add(self, now: float, seconds: float) -> None:
        """Add a measurement."""
        if len(self._recent) == REMEMBERED_LATENCIES:
            self._sum -= self._recent[0]
        self._recent.append(seconds)
        self._sum += seconds
        self._measured_at = now

    def mean(self, now: float, ttl_s: float) -> float:
        """Seconds; 0 without a recent measurement, so that the deployment is called and measured."""
        if not self._recent or now - self._measured_at > ttl_s:
            return 0.0
        return self._sum / len(self._recent)


class DeploymentSnapshot(NamedTuple):
    """A deployment as `/metrics` shows it."""

    deployment: str
    route: str
    state: Literal["up", "cooling", "off"]
    until_s: float
    """Unix seconds at which the cooldown ends; 0 when there is none."""
    limits: tuple[tuple[str, float], ...] = ()
    """`rpm` and `tpm`, if set, and the share of each that is used."""


class DeploymentHealth:
    """The health of one deployment."""

    __slots__ = (
        "_failures",
        "_latencies",
        "_requests",
        "_rules",
        "_served",
        "_streak",
        "_tokens",
        "_tries",
        "asked_until",
        "cooled_at",
        "cooling_until",
        "deployment",
        "in_flight",
    )

    def __init__(
        self,
        deployment: Deployment,
        rules: CooldownRules,
        *,
        measures_latency: bool = False,
        counts_tokens: bool = False,
    ) -> None:
        self.deployment = deployment
        self._rules = rules
        self.in_flight = 0
        """Attempts in progress."""
        self._latencies = (Latency(), Latency()) if measures_latency else None
        self._tries = MinuteWindow()
        self._failures = MinuteWindow()
        self._streak = 0
        self._served = False
        self._requests = MinuteWindow() if deployment.rpm is not None else None
        counted = counts_tokens or deployment.tpm is not None
        self._tokens = MinuteWindow() if counted else None
        self.cooling_until = -math.inf
        self.asked_until = -math.inf
        """When the pause ends that the provider itself demanded (`Retry-After`)."""
        self.cooled_at = -math.inf
        """When the last cooldown began. Attempts that began earlier do not start another."""

    def available(self, now: float, tokens: int) -> bool:
        """Whether an attempt of this many tokens may be sent now."""
        return now >= self.cooling_until and self.has_room(now, tokens)

    def may_be_asked(self, now: float, tokens: int) -> bool:
        """Whether at most a cooldown of ours blocks an attempt."""
        return now >= self.asked_until and self.has_room(now, tokens)

    def has_room(self, now: float, tokens: int) -> bool:
        """Whether rpm and tpm allow the attempt. After an unused minute any size is allowed."""
        deployment = self.deployment
        if self._requests is not None and self._requests.count(now) >= (deployment.rpm or 0):
            return False
        if self._tokens is not None and deployment.tpm is not None:
            used = self._tokens.count(now)
            return used == 0 or used + tokens <= deployment.tpm
        return True

    def tokens_used(self, now: float) -> int:
        """Tokens of the last minute; 0 if they are not counted."""
        return 0 if self._tokens is None else self._tokens.count(now)

    def latency_s(self, now: float, ttl_s: float, *, stream: bool) -> float:
        """Recent latency: time to first content of a stream, or time per token of other answers."""
        return 0.0 if self._latencies is None else self._latencies[stream].mean(now, ttl_s)

    def limits(self, now: float) -> tuple[tuple[str, float], ...]:
        """The share of rpm and tpm used in the last minute, if they are set."""
        windows = (
            ("rpm", self._requests, self.deployment.rpm),
            ("tpm", self._tokens, self.deployment.tpm),
        )
        return tuple(
            (name, window.count(now) / most) for name, window, most in windows if window and most
        )

    def blocked_until(self, now: float, tokens: int) -> tuple[float, BlockedBy]:
        """When a blocked deployment may be called again, and what blocks it."""
        until, by = self.asked_until, _COOLDOWN
        rpm, tpm = self.deployment.rpm, self.deployment.tpm
        windows = (
            (self._requests, None if rpm is None else rpm - 1),
            (self._tokens, None if tpm is None else max(0, tpm - tokens)),
        )
        for window, most in windows:
            if window is not None and most is not None:
                free_at = window.falls_to(now, most)
                if free_at > max(now, until):
                    until, by = free_at, _RATE_LIMIT
        return until, by

    def begin(self, now: float, tokens: int) -> None:
        """Count an attempt that is about to be sent."""
        self.in_flight += 1
        self._tries.add(now, 1)
        if self._requests is not None:
            self._requests.add(now, 1)
        if self._tokens is not None:
            self._tokens.add(now, tokens)

    def withdraw(self, began: float, tokens: int) -> None:
        """Undo `begin` for an attempt that was not sent."""
        self.in_flight -= 1
        self._tries.correct(began, -1)
        if self._requests is not None:
            self._requests.correct(began, -1)
        if self._tokens is not None:
            self._tokens.correct(began, -tokens)

    def ended(self, began: float, assumed: int, tokens: int) -> None:
        """Record that an attempt ended, and replace its assumed tokens by those it used."""
        self.in_flight -= 1
        if self._tokens is not None:
            self._tokens.correct(began, tokens - assumed)

    def failed(self, kind: str, retry_after_s: float | None, began: float, now: float) -> None:
        """Count a failed attempt, which may start a cooldown."""
        rules = self._rules
        if kind == "timeout" and self._latencies is not None:
            for latency in self._latencies:
                latency.add(now, TIMEOUT_LATENCY_S)
        asked = sensible_retry_after(retry_after_s)
        if asked is not None and kind in ("rate_limited", "overloaded"):
            self.asked_until = max(self.asked_until, now + asked)
            self._cool(now, asked)
        elif began < self.cooled_at:
            return
        elif kind in _AT_ONCE and kind not in rules.by_kind and not self._has_served(kind):
            self._cool(now, rules.cooldown_s)
        elif kind in TRANSIENT or kind in MISCONFIGURED:
            # A deployment that has served is configured correctly. A caller may request something
            # it lacks, such as embeddings from a chat model, and must not block it for others.
            self._failures.add(now, 1)
            self._streak += 1
            allowed = rules.by_kind.get(kind, rules.allowed_fails)
            failures = self._failures.total
            serves = self._streak <= allowed
            if failures <= allowed or (
                serves and failures * MIN_FAILURE_SHARE < self._tries.count(now)
            ):
                return
            self._cool(now, rules.cooldown_s)

    def succeeded(self, began: float) -> None:
        """Record an answer. If its attempt was made after a cooldown began, the cooldown ends, but
        not a pause that the provider demanded."""
        self._served = True
        self._streak = 0
        if began > self.cooled_at:
            self.cooling_until = min(self.cooling_until, self.asked_until)

    def measured(self, now: float, seconds: float, *, stream: bool) -> None:
        """Record how fast an answer was, in the terms of `latency_s`."""
        if self._latencies is not None:
            self._latencies[stream].add(now, seconds)

    def _has_served(self, kind: str) -> bool:
        return self._served and kind in MISCONFIGURED

    def _cool(self, now: float, seconds: float) -> None:
        if seconds <= 0:
            return
        if now >= self.cooling_until:
            self.cooled_at = now
        self.cooling_until = max(self.cooling_until, now + seconds)
        self._failures.clear()
        self._streak = 0


class Health:
    """The health of all deployments."""

    def __init__(
        self,
        deployments: Iterable[Deployment],
        rules: CooldownRules,
        clock: Clock,
        off: Iterable[Off] = (),
        *,
        measures_latency: bool = False,
        counts_tokens: bool = False,
    ) -> None:
        self._clock = clock
        self._off = tuple(off)
        self.states = {
            d.id: DeploymentHealth(
                d, rules, measures_latency=measures_latency, counts_tokens=counts_tokens
            )
            for d in deployments
        }

    def snapshot(self) -> list[DeploymentSnapshot]:
        """Every deployment's state, in the order of the configuration; those that are off last."""
        now = self._clock.monotonic()
        unix_s = self._clock.now_ns() / 1e9
        found = []
        for state in self.states.values():
            left = state.cooling_until - now
            id_, route, limits = state.deployment.id, state.deployment.route, state.limits(now)
            found.append(
                DeploymentSnapshot(id_, route, "cooling", unix_s + left, limits)
                if left > 0
                else DeploymentSnapshot(id_, route, "up", 0.0, limits)
            )
        found += [DeploymentSnapshot(off.id, off.route, "off", 0.0, ()) for off in self._off]
        return found


def sensible_retry_after(seconds: float | None) -> float | None:
    """A provider's Retry-After, limited to our maximum; None if it is absent or not usable.

    Zero is not usable: LiteLLM reads it as permission to call the same deployment at once.
    """
    if seconds is None or not math.isfinite(seconds) or seconds <= 0:
        return None
    return min(seconds, MAX_PAUSE_S)
