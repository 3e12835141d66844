"""Attempts without any settings: a last deployment is still called, and calls do not multiply."""

from __future__ import annotations

import pytest

from spanledger.errors import ProviderError
from spanledger.routing.outcome import http_status_of
from spanledger.wires.base import Answer
from tests.service.routing import test_complete
from tests.service.routing.rig import OK, Attempted, Site, fails
from tests.service.routing.test_complete import (
    A_TO_B,
    A_TO_B_TO_C,
    CHAIN,
    ONE,
    RETRIES,
    Case,
)


async def test_the_only_deployment_is_asked_though_it_cools() -> None:
    """A cooldown of our own never makes a route refuse; a success ends the cooldown."""
    script = [*[fails("server_error", status=503)] * 5, OK, fails("server_error", status=503), OK]
    site = Site({"a": ["a1"], "b": ["b1"]}, {"a1": script}, allowed_fails=2, cooldown_time=30)
    errors = []
    for _ in range(5):
        errors.append(await site.ask())
        site.time.now += 1
    assert all(isinstance(e, ProviderError) and http_status_of(e) == 503 for e in errors)
    (state, _) = site.router.health.snapshot()
    assert state.state == "cooling"

    assert isinstance(await site.ask(), Answer)

    (state, _) = site.router.health.snapshot()
    assert state.state == "up"
    assert len(site.provider.calls) == 6


async def test_one_429_does_not_shut_a_route() -> None:
    """The only deployment answers 429 once and serves the very next request, and those after."""
    site = Site(ONE, {"a1": [fails("rate_limited", status=429), OK]})
    first = await site.ask()
    site.time.now += 0.01
    later = [await site.ask() for _ in range(4)]

    assert isinstance(first, ProviderError)
    assert http_status_of(first) == 429
    assert all(isinstance(answer, Answer) for answer in later)


async def test_a_retry_after_is_kept_and_relayed() -> None:
    """While a provider demands a pause, the route is refused with the rest of that pause; an answer
    that was in progress does not change it."""
    site = Site(ONE, {"a1": [fails("rate_limited", status=429, retry_after_s=30.0), OK]})
    first = await site.ask()
    assert isinstance(first, ProviderError)
    assert first.retry_after_s == 30.0
    site.time.now += 10
    site.router.health.states["a1"].succeeded(site.time.now - 15)

    refused = await site.ask()
    site.time.now += 20.1
    served = await site.ask()

    assert isinstance(refused, ProviderError)
    assert refused.kind == "cooldown"
    assert http_status_of(refused) == 503
    assert refused.retry_after_s == pytest.approx(20.0)
    assert isinstance(served, Answer)
    assert len(site.provider.calls) == 2


async def test_a_fallback_is_asked_though_it_cools() -> None:
    """If every deployment is in cooldown, the one whose cooldown ends first is called, in route
    order."""
    bad = [fails("rate_limited", status=429)]
    site = Site({"a": ["a1", "a2"], "b": ["b1"]}, {"a1": bad, "a2": bad, "b1": bad}, **A_TO_B)
    await site.ask()
    asked = [tried.deployment for tried in site.attempted]
    assert set(asked) == {"a1", "a2", "b1"}
    assert asked[2] == "b1"
    site.time.now += 1

    await site.ask()

    assert [tried.deployment for tried in site.attempted[3:]] == asked
    assert [tried.reason for tried in site.attempted[3:]] == ["", "rate_limited", "rate_limited"]


DEFAULTS = [
    Case(
        "by default a provider's error is the caller's to retry",
        [Attempted("a1", kind)],
        {"a1": [fails(kind, status=status, billed=billed), OK]},
        status=told,
    )
    for kind, status, billed, told in (
        ("rate_limited", 429, "no", 429),
        ("overloaded", 503, "no", 503),
        ("overloaded", 529, "no", 529),
        ("server_error", 500, "no", 500),
        ("server_error", 502, "no", 502),
        ("server_error", 520, "no", 502),
        ("timeout", 504, "unknown", 504),
        ("timeout", 408, "unknown", 504),
        ("timeout", None, "unknown", 504),
        ("malformed_response", 200, "unknown", 502),
        ("connection_error", None, "unknown", 502),
    )
] + [
    Case(
        "a connection that failed before the request was sent is retried once",
        [
            Attempted("a1", "connection_error"),
            Attempted("a1", "connection_error", reason="connection_error"),
        ],
        {"a1": [fails("connection_error")]},
        status=502,
        waits=[0.15],
    ),
    Case(
        "such a connection is not retried if a fallback can serve",
        [Attempted("a1", "connection_error"), Attempted("b1", "", "a", "connection_error")],
        {"a1": [fails("connection_error")]},
        CHAIN,
        A_TO_B,
    ),
    Case(
        "a fallback takes over from a provider's error at once",
        [Attempted("a1", "server_error"), Attempted("b1", "", "a", "server_error")],
        {"a1": [fails("server_error", status=500)]},
        CHAIN,
        A_TO_B,
    ),
    Case(
        "a request is billed unseen twice at most",
        [
            Attempted("a1", "timeout"),
            Attempted("b1", "timeout", "a", "timeout"),
        ],
        {r + "1": [fails("timeout", billed="unknown")] for r in "abc"},
        CHAIN,
        A_TO_B_TO_C,
        status=504,
    ),
    Case(
        "configured retries are made, billed or not",
        [
            Attempted("a1", "timeout"),
            Attempted("a1", "timeout", reason="timeout"),
            Attempted("a1", "timeout", reason="timeout"),
        ],
        {"a1": [fails("timeout", billed="unknown")]},
        settings=RETRIES,
        status=504,
        waits=[0.15, 0.3],
    ),
    Case(
        "no retries if none are configured",
        [Attempted("a1", "connection_error")],
        {"a1": [fails("connection_error")]},
        settings={"num_retries": 0},
        status=502,
    ),
]


@pytest.mark.parametrize(
    "case", DEFAULTS, ids=lambda case: f"{case.name} {case.attempted[0].error}"
)
async def test_what_is_attempted_when_nobody_says(case: Case) -> None:
    """Without `num_retries` no deployment is called twice, but others are."""
    await test_complete.test_the_tries_of_a_request(case)


async def test_three_deployments_of_a_group_are_asked() -> None:
    """One request does not go through all of a large group."""
    names = [f"a{n}" for n in range(6)]
    site = Site({"a": names}, {name: [fails("server_error", status=500)] for name in names})

    await site.ask()

    assert len({tried.deployment for tried in site.attempted}) == len(site.attempted) == 3
