"""When a deployment cools down, for how long, and what its own limits allow."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanledger.clock import Clock
from spanledger.providers.base import Deployment
from spanledger.routing.health import (
    MAX_PAUSE_S,
    DeploymentHealth,
    DeploymentSnapshot,
    Health,
    MinuteWindow,
)
from spanledger.routing.rules import CooldownRules

NOW = 5_000.0


def deployment(**limits: Any) -> Deployment:
    """A deployment with the given limits."""
    return Deployment("d1", "r", "openai", "openai", "m", "openai/m", **limits)


def health_of(settings: dict[str, Any] | None = None, **limits: Any) -> DeploymentHealth:
    """A new deployment's health; two failures are allowed, and cooldowns last ten seconds."""
    given = {"allowed_fails": 2, "cooldown_s": 10.0} | (settings or {})
    return DeploymentHealth(deployment(**limits), CooldownRules(**given))


def fail(
    health: DeploymentHealth, kind: str, now: float, retry_after_s: float | None = None
) -> None:
    """One attempt that fails at once."""
    health.begin(now, 0)
    health.failed(kind, retry_after_s, now, now)


@pytest.mark.parametrize(
    ("kind", "retry_after_s", "rests_s"),
    [
        ("rate_limited", None, 10.0),
        ("rate_limited", 2.5, 2.5),
        ("rate_limited", 0.0, 10.0),
        ("rate_limited", -1.0, 10.0),
        ("rate_limited", float("nan"), 10.0),
        ("rate_limited", float("inf"), 10.0),
        ("rate_limited", 86_400.0, MAX_PAUSE_S),
        ("overloaded", 4.0, 4.0),
        ("overloaded", None, 0.0),
        ("authentication_failed", None, 10.0),
        ("not_found", None, 10.0),
        ("server_error", 4.0, 0.0),
        ("timeout", None, 0.0),
        ("connection_error", None, 0.0),
        ("invalid_request", None, 0.0),
        ("context_window_exceeded", None, 0.0),
        ("content_filtered", None, 0.0),
    ],
)
def test_a_first_failure(kind: str, retry_after_s: float | None, rests_s: float) -> None:
    """Rate limits and bad configuration cause a cooldown at once; a single other failure does
    not."""
    health = health_of()

    fail(health, kind, NOW, retry_after_s)

    assert health.available(NOW, 0) == (rests_s == 0)
    assert not health.available(NOW + rests_s - 0.001, 0) or rests_s == 0
    assert health.available(NOW + rests_s, 0)


@pytest.mark.parametrize(
    "kind",
    [
        "server_error",
        "overloaded",
        "timeout",
        "connection_error",
        "stream_interrupted",
        "malformed_response",
    ],
)
def test_failures_beyond_the_allowed_ones_cool(kind: str) -> None:
    """The third within a minute, with two allowed; then the count starts again."""
    health = health_of()
    fail(health, kind, NOW)
    fail(health, kind, NOW + 30)
    assert health.available(NOW + 30, 0)

    fail(health, kind, NOW + 59)

    assert not health.available(NOW + 59, 0)
    assert health.available(NOW + 69, 0)
    fail(health, kind, NOW + 70)
    assert health.available(NOW + 70, 0)


def test_failures_are_forgotten_after_a_minute() -> None:
    """Failures long ago do not cause a cooldown."""
    health = health_of()
    for minute in range(10):
        fail(health, "server_error", NOW + minute * 40)
        assert health.available(NOW + minute * 40, 0)


def test_the_callers_mistakes_count_for_nothing() -> None:
    """However many requests are invalid, the deployment is not at fault."""
    health = health_of()
    for _ in range(100):
        fail(health, "invalid_request", NOW)

    assert health.available(NOW, 0)


def test_a_busy_deployment_rests_only_when_it_fails_a_lot() -> None:
    """One failure in fifty does not, one in five does, and so do several in a row."""
    busy, bad, dead = health_of(), health_of(), health_of()
    for index in range(500):
        for health, every in ((busy, 50), (bad, 5)):
            if index % every == 0:
                fail(health, "server_error", NOW)
            else:
                health.begin(NOW, 0)
                health.succeeded(NOW)
        dead.begin(NOW, 0)
        dead.succeeded(NOW)
    for _ in range(3):
        fail(dead, "server_error", NOW)

    assert busy.available(NOW, 0)
    assert not bad.available(NOW, 0)
    assert not dead.available(NOW, 0)


def test_tries_under_way_when_it_cools_begin_no_second_rest() -> None:
    """Failures of one burst are one cooldown; only the provider's own Retry-After extends it."""
    health = health_of()
    fail(health, "rate_limited", NOW)
    for late in range(20):
        health.failed("rate_limited", None, NOW - 1, NOW + late)
        health.failed("server_error", None, NOW - 1, NOW + late)
    assert health.available(NOW + 20, 0)

    health.failed("rate_limited", 30.0, NOW - 1, NOW + 5)

    assert not health.available(NOW + 34, 0)
    assert health.available(NOW + 35, 0)


def test_requests_of_a_minute_are_limited() -> None:
    """A request over rpm waits until the first one has left the window."""
    health = health_of(rpm=2)
    health.begin(NOW, 0)
    health.begin(NOW + 20, 0)

    assert not health.available(NOW + 20, 0)
    until, by = health.blocked_until(NOW + 20, 0)
    assert (until, by) == (NOW + 65, "rate_limit_reached")
    assert not health.available(until - 0.001, 0)
    assert health.available(until, 0)


def test_tokens_of_a_minute_are_limited() -> None:
    """The bound counts until the attempt has ended, then its real use; any size fits into an unused
    minute."""
    health = health_of(tpm=100)
    assert health.available(NOW, 500)
    health.begin(NOW, 90)
    assert not health.available(NOW, 20)

    health.ended(NOW, 90, 30)

    assert health.available(NOW, 70)
    assert not health.available(NOW, 71)
    health.withdraw(NOW, 30)
    assert health.available(NOW, 500)


def test_the_later_of_two_reasons_is_told() -> None:
    """A deployment whose cooldown outlasts its limit counts as cooling, and the other way round."""
    health = health_of(rpm=1)
    health.begin(NOW, 0)
    fail(health, "rate_limited", NOW, 5.0)
    assert health.blocked_until(NOW, 0)[1] == "rate_limit_reached"

    fail(health, "rate_limited", NOW, 200.0)

    assert health.blocked_until(NOW, 0) == (NOW + 200, "cooldown")


def test_the_snapshot_shows_who_rests_and_until_when() -> None:
    """Cooling deployments have the Unix time at which they are available again."""
    clock = Clock(now_ns=lambda: 7_000 * 10**9, monotonic=lambda: NOW)
    health = Health([deployment()], CooldownRules(), clock)
    assert health.snapshot() == [DeploymentSnapshot("d1", "r", "up", 0.0)]

    health.states["d1"].failed("rate_limited", 30.0, NOW, NOW)

    assert health.snapshot() == [DeploymentSnapshot("d1", "r", "cooling", 7_030.0)]


def test_the_snapshot_shows_how_much_of_the_limits_is_used() -> None:
    """The share of the last minute, by the limit's name in the configuration; empty without
    limits."""
    clock = Clock(now_ns=lambda: 0, monotonic=lambda: NOW)
    health = Health([deployment(rpm=4, tpm=100)], CooldownRules(), clock)

    health.states["d1"].begin(NOW, 30)

    assert health.snapshot() == [
        DeploymentSnapshot("d1", "r", "up", 0.0, (("rpm", 0.25), ("tpm", 0.3)))
    ]


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(1, 50)), max_size=40))
def test_a_window_counts_at_least_the_last_minute(events: list[tuple[float, int]]) -> None:
    """Never less than what was added in the last 60 s, never more than in the last 65 s, and it
    drops when predicted."""
    window, seen = MinuteWindow(), deque[tuple[float, int]]()
    now = 0.0
    for gap, amount in events:
        now += gap
        window.add(now, amount)
        seen.append((now, amount))
        total = window.count(now)
        assert sum(a for at, a in seen if at > now - 59.999) <= total
        assert total <= sum(a for at, a in seen if at > now - 65.001)
        later = window.falls_to(now, total // 2)
        assert later <= now + 65
    if events:
        falls = window.falls_to(now, 0)
        assert window.count(falls - 0.001) > 0
        assert window.count(falls) == 0


@pytest.mark.parametrize("kind", ["authentication_failed", "not_found"])
def test_one_callers_request_does_not_shut_what_serves(kind: str) -> None:
    """A deployment that has served cools down after refusals in a row, not after a single one."""
    health = health_of()
    health.begin(NOW, 0)
    health.succeeded(NOW)

    fail(health, kind, NOW)
    assert health.available(NOW, 0)

    fail(health, kind, NOW)
    fail(health, kind, NOW)
    assert not health.available(NOW, 0)
