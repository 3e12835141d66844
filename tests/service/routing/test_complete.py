"""The attempt loop without streaming: a request's attempts, and how it ends."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from spanledger.errors import InvalidRequestError, ProviderError
from spanledger.pricing.usage import Usage
from spanledger.providers.base import Answer
from spanledger.routing.attempt import MAX_ATTEMPTS
from spanledger.routing.course import Candidate, Course, levels_of
from spanledger.routing.outcome import http_status_of
from spanledger.routing.rules import Onward, RetryRules
from spanledger.routing.strategy import shuffled
from tests.service.routing.rig import OK, Attempted, Site, Step, fails

ONE = {"a": ["a1"]}
TWO = {"a": ["a1", "a2"]}
CHAIN = {"a": ["a1"], "b": ["b1"], "c": ["c1"]}
A_TO_B: dict[str, Any] = {"fallbacks": [{"a": ["b"]}]}
A_TO_B_TO_C: dict[str, Any] = {"fallbacks": [{"a": ["b"]}, {"b": ["c"]}]}
PATIENT: dict[str, Any] = {"allowed_fails": 100}
RETRIES: dict[str, Any] = {"num_retries": 2}


@dataclass(frozen=True)
class Case:
    """A scripted situation and its expected result.

    Attributes:
        status: None when the request is served.
        waits: what was slept, each within a tenth.
    """

    name: str
    attempted: Sequence[Attempted]
    scripts: Mapping[str, Sequence[Step]] = field(default_factory=dict)
    routes: Mapping[str, Any] = field(default_factory=lambda: ONE)
    settings: Mapping[str, Any] = field(default_factory=dict)
    status: int | None = None
    waits: Sequence[float] = ()
    deadline_s: float = 60.0


CASES = [
    Case("served at once", [Attempted("a1")]),
    Case(
        "a 429 without Retry-After is retried after a back-off if retries are configured",
        [Attempted("a1", "rate_limited"), Attempted("a1", reason="rate_limited")],
        {"a1": [fails("rate_limited", status=429), OK]},
        settings=RETRIES,
        waits=[0.15],
    ),
    Case(
        "a Retry-After is kept",
        [Attempted("a1", "rate_limited"), Attempted("a1", reason="rate_limited")],
        {"a1": [fails("rate_limited", status=429, retry_after_s=3.0), OK]},
        settings=RETRIES,
        waits=[3.15],
    ),
    Case(
        "a Retry-After beyond our patience ends the request",
        [Attempted("a1", "rate_limited")],
        {"a1": [fails("rate_limited", status=429, retry_after_s=30.0), OK]},
        settings=RETRIES,
        status=429,
    ),
    Case(
        "a wait beyond the deadline ends the request",
        [Attempted("a1", "rate_limited")],
        {"a1": [fails("rate_limited", status=429, retry_after_s=3.0), OK]},
        settings=RETRIES,
        status=429,
        deadline_s=2.0,
    ),
    Case(
        "the retry_after setting is the minimum wait",
        [Attempted("a1", "server_error"), Attempted("a1", reason="server_error")],
        {"a1": [fails("server_error", status=500), OK]},
        settings={"retry_after": 2.0, **RETRIES},
        waits=[2.0],
    ),
    Case(
        "a deployment in cooldown is skipped for the fallback at once",
        [Attempted("a1", "rate_limited"), Attempted("b1", "", "a", "rate_limited")],
        {"a1": [fails("rate_limited", status=429, retry_after_s=1.0)]},
        CHAIN,
        A_TO_B,
    ),
    Case(
        "a server error is retried in the group before the fallback",
        [
            Attempted("a1", "server_error"),
            Attempted("a1", "server_error", reason="server_error"),
            Attempted("b1", "", "a", "server_error"),
        ],
        {"a1": [fails("server_error", status=500)]},
        CHAIN,
        {**A_TO_B, "num_retries": 1},
        waits=[0.15],
    ),
    Case(
        "every group of the chain gets its retries, and the last error is the caller's",
        [
            Attempted("a1", "server_error"),
            Attempted("b1", "overloaded", "a", "server_error"),
            Attempted("c1", "connection_error", "b", "overloaded"),
        ],
        {
            "a1": [fails("server_error", status=500)],
            "b1": [fails("overloaded", status=529)],
            "c1": [fails("connection_error")],
        },
        CHAIN,
        {**A_TO_B_TO_C, "num_retries": 0},
        status=502,
    ),
    Case(
        "default fallbacks serve routes without their own",
        [Attempted("a1", "timeout"), Attempted("c1", "", "a", "timeout")],
        {"a1": [fails("timeout", billed="unknown")]},
        CHAIN,
        {"default_fallbacks": ["c"], "num_retries": 0},
    ),
    Case(
        "fallbacks that lead back are not followed twice",
        [Attempted("a1", "server_error"), Attempted("b1", "server_error", "a", "server_error")],
        {"a1": [fails("server_error")], "b1": [fails("server_error")]},
        CHAIN,
        {"fallbacks": [{"a": ["b"]}, {"b": ["a"]}], "num_retries": 0},
        status=502,
    ),
    Case(
        "a deployment with a bad key is not retried, and costs no retry",
        [
            Attempted("a1", "authentication_failed"),
            Attempted("b1", "", "a", "authentication_failed"),
        ],
        {"a1": [fails("authentication_failed", status=401)]},
        CHAIN,
        {**A_TO_B, "num_retries": 0},
    ),
    Case(
        "a bad key without an alternative is our fault, not the caller's",
        [Attempted("a1", "authentication_failed")],
        {"a1": [fails("authentication_failed", status=401)]},
        status=502,
    ),
    Case(
        "a model the provider does not know is our fault",
        [Attempted("a1", "not_found")],
        {"a1": [fails("not_found", status=404)]},
        status=502,
    ),
    Case(
        "a bad request is the caller's at once",
        [Attempted("a1", "invalid_request")],
        {"a1": [fails("invalid_request", status=422), OK]},
        CHAIN,
        A_TO_B,
        status=422,
    ),
    Case(
        "filtered content is the caller's at once",
        [Attempted("a1", "content_filtered")],
        {"a1": [fails("content_filtered", status=400), OK]},
        CHAIN,
        A_TO_B,
        status=400,
    ),
    Case(
        "a prompt too long goes to the group for long prompts",
        [
            Attempted("a1", "context_window_exceeded"),
            Attempted("c1", "", "a", "context_window_exceeded"),
        ],
        {"a1": [fails("context_window_exceeded", status=400)]},
        CHAIN,
        {**A_TO_B, "context_window_fallbacks": [{"a": ["c"]}]},
    ),
    Case(
        "a prompt too long found in a fallback goes to the first route's group for long prompts",
        [
            Attempted("a1", "server_error"),
            Attempted("b1", "context_window_exceeded", "a", "server_error"),
            Attempted("c1", "", "b", "context_window_exceeded"),
        ],
        {
            "a1": [fails("server_error")],
            "b1": [fails("context_window_exceeded", status=400)],
        },
        CHAIN,
        {**A_TO_B, "num_retries": 0, "context_window_fallbacks": [{"a": ["c"]}]},
    ),
    Case(
        "a prompt too long without such a group is the caller's",
        [Attempted("a1", "context_window_exceeded")],
        {"a1": [fails("context_window_exceeded", status=400)]},
        CHAIN,
        A_TO_B,
        status=400,
    ),
    Case(
        "groups for long prompts that lead back are not followed twice",
        [
            Attempted("a1", "context_window_exceeded"),
            Attempted("c1", "context_window_exceeded", "a", "context_window_exceeded"),
        ],
        {
            "a1": [fails("context_window_exceeded", status=400)],
            "c1": [fails("context_window_exceeded", status=400)],
        },
        CHAIN,
        {"context_window_fallbacks": [{"a": ["c"]}, {"c": ["a"]}]},
        status=400,
    ),
    Case(
        "a further attempt respects the deployment's own limits",
        [Attempted("a1", "server_error")],
        {"a1": [fails("server_error", status=500), OK]},
        {"a": [("a1", {"rpm": 1})]},
        RETRIES,
        status=500,
    ),
    Case(
        "a malformed answer is retried",
        [Attempted("a1", "malformed_response"), Attempted("a1", reason="malformed_response")],
        {"a1": [fails("malformed_response", status=200, billed="unknown"), OK]},
        settings=RETRIES,
        waits=[0.15],
    ),
    Case(
        "the back-off doubles",
        [
            Attempted("a1", "server_error"),
            Attempted("a1", "server_error", reason="server_error"),
            Attempted("a1", "server_error", reason="server_error"),
            Attempted("a1", "server_error", reason="server_error"),
        ],
        {"a1": [fails("server_error")]},
        settings={"num_retries": 3, **PATIENT},
        status=502,
        waits=[0.15, 0.3, 0.6],
    ),
    Case(
        "an attempt that used up the deadline is the last",
        [Attempted("a1", "timeout")],
        {"a1": [fails("timeout", takes_s=61.0, billed="unknown"), OK]},
        CHAIN,
        A_TO_B,
        status=504,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_the_tries_of_a_request(case: Case) -> None:
    """Each situation leads to exactly these attempts, waits and answer."""
    site = Site(case.routes, case.scripts, **case.settings)
    exchange = site.exchange(deadline_s=case.deadline_s)

    answer = await site.ask(exchange)

    assert site.attempted == list(case.attempted)
    assert exchange.attempts == len(case.attempted)
    assert exchange.deployment == case.attempted[-1].deployment
    assert len(site.time.slept) == len(case.waits)
    for slept, wanted in zip(site.time.slept, case.waits, strict=True):
        assert slept == pytest.approx(wanted, rel=0.34)  # the range of the jitter
    if case.status is None:
        assert isinstance(answer, Answer)
        assert site.outcome == ("ok", "", 200)
    else:
        assert isinstance(answer, ProviderError)
        assert http_status_of(answer) == case.status
        assert site.outcome == ("error", answer.kind, case.status)


async def test_time_at_providers_is_told_from_our_own() -> None:
    """Attempts add up, including failed ones; the pause before a retry is ours."""
    script = [fails("rate_limited", takes_s=2.0, retry_after_s=3.0), Step(takes_s=0.5)]
    site = Site(ONE, {"a1": script}, **RETRIES)
    exchange = site.exchange()

    await site.ask(exchange)

    assert exchange.provider_s == 2.5


async def test_a_group_is_tried_through_before_one_is_tried_again() -> None:
    """The second attempt goes to the other one, the third to the one that rested longest."""
    bad = [fails("server_error", takes_s=1.0)]
    site = Site(TWO, {"a1": bad, "a2": bad}, **PATIENT, **RETRIES)

    await site.ask()

    first, second, third = (tried.deployment for tried in site.attempted)
    assert {first, second} == {"a1", "a2"}
    assert third == first
    assert [tried.fallback_from for tried in site.attempted] == ["", "", ""]
    assert site.time.slept == []


async def test_weights_share_out_the_traffic() -> None:
    """A deployment with nine times the weight gets about nine times the requests."""
    site = Site({"a": [("a1", {"weight": 9}), ("a2", {"weight": 1})]}, {})

    for _ in range(400):
        await site.ask()

    share = sum(tried.deployment == "a1" for tried in site.attempted) / 400
    assert 0.85 < share < 0.95


async def test_tries_are_bounded_whatever_the_settings_allow() -> None:
    """Twenty retries in each of three groups are still ten attempts."""
    bad = [fails("server_error")]
    site = Site(
        CHAIN,
        {"a1": bad, "b1": bad, "c1": bad},
        num_retries=20,
        retry_after=0.1,
        **PATIENT,
        **A_TO_B_TO_C,
    )

    await site.ask(site.exchange(deadline_s=10_000.0))

    assert len(site.attempted) == MAX_ATTEMPTS


async def test_a_request_too_large_for_one_deployment_shuts_nothing() -> None:
    """It goes to the next one at once and never back; smaller ones are served where it was
    refused."""
    large = fails("rate_limited", status=429, retry_after_s=60.0, request_alone=True)
    site = Site({"a": ["a1"], "b": ["b1"]}, {"a1": [*[large] * 20, OK]}, **A_TO_B)

    for _ in range(20):
        assert isinstance(await site.ask(), Answer)
    assert isinstance(await site.ask(), Answer)

    assert site.attempted == [
        *[Attempted("a1", "rate_limited"), Attempted("b1", "", "a", "rate_limited")] * 20,
        Attempted("a1"),
    ]
    assert site.time.slept == []


async def test_a_request_skips_a_group_that_cools() -> None:
    """The first attempt is then a fallback, and records the route it left and why."""
    site = Site(CHAIN, {"a1": [fails("rate_limited", status=429, retry_after_s=60.0)]}, **A_TO_B)
    await site.ask()

    await site.ask()

    assert site.attempted[-1] == Attempted("b1", "", "a", "cooldown")
    assert len(site.provider.calls) == 3


@pytest.mark.parametrize("limits", [{"rpm": 2}, {"tpm": 1_300}], ids=["requests", "tokens"])
async def test_a_deployments_own_limits_are_kept(limits: dict[str, object]) -> None:
    """A request over rpm or tpm makes no attempt, and gets the reason and when to retry."""
    site = Site({"a": [("a1", limits)]}, {"a1": [Step(usage=Usage(100, 50))]})
    for _ in range(2):
        assert isinstance(await site.ask(site.exchange(max_tokens=1)), Answer)
        site.time.now += 1

    refused = await site.ask(site.exchange(max_tokens=1))
    calls = len(site.provider.calls)
    assert isinstance(refused, ProviderError)
    site.time.now += (refused.retry_after_s or 0) + 0.001
    served = await site.ask(site.exchange(max_tokens=1))

    assert calls == 2
    assert refused.kind == "rate_limit_reached"
    assert http_status_of(refused) == 429
    assert 55 <= (refused.retry_after_s or 0) <= 65
    assert isinstance(served, Answer)


async def test_tokens_a_minute_are_those_that_were_used() -> None:
    """The bound on a prompt is far above its real size; afterwards only the real size counts."""
    site = Site({"a": [("a1", {"tpm": 2_000})]}, {})

    for _ in range(20):
        assert isinstance(await site.ask(site.exchange(max_tokens=1)), Answer)


async def test_a_failure_now_and_then_shuts_nothing() -> None:
    """A busy deployment that always recovers stays in use, although it failed more than allowed."""
    now_and_then = [OK] * 60 + [fails("server_error"), OK] * 5
    site = Site(ONE, {"a1": now_and_then}, allowed_fails=2, num_retries=0)

    for _ in now_and_then:
        await site.ask()

    assert len(site.provider.calls) == len(now_and_then)


async def test_nobody_may_take_longer_than_the_request_has() -> None:
    """An attempt's own timeouts apply until the deadline is nearer."""
    site = Site({"a": [("a1", {"timeout": 20})]}, {})

    await site.ask(site.exchange(deadline_s=100.0))
    await site.ask(site.exchange(deadline_s=7.0))

    first, second = site.provider.calls
    assert (first.timeout_s, first.stream_idle_timeout_s) == (20, 60)
    assert (second.timeout_s, second.stream_idle_timeout_s) == (7, 7)


def test_a_wait_lasts_as_long_as_the_provider_asked_anybody() -> None:
    """A Retry-After that another request got applies to this one's next attempt, too."""
    site = Site(ONE, {})
    course = course_of(site, RetryRules(2))
    pick = course.first(site.time.now)
    assert pick is not None
    pick.target.health.failed("rate_limited", 4.0, site.time.now, site.time.now)
    error = ProviderError("server_error", "x")

    course.after_failure(pick.target, error, site.time.now)
    following = course.next(site.time.now, site.time.now + 60, error.kind)

    assert following is not None
    assert following.wait_s == 4.0


def course_of(site: Site, rules: RetryRules) -> Course:
    """A request's course through a site's routes, without fallbacks."""
    groups = {
        route: levels_of(
            [
                Candidate(d, site.provider, None, site.router.health.states[d.id])
                for d in deployments
            ]
        )
        for route, deployments in site.plan.routes.items()
    }
    onward = dict.fromkeys(groups, Onward())
    return Course("a", groups, onward, rules, shuffled, random.Random(1))


async def test_an_unknown_route_is_the_callers_mistake() -> None:
    """It is a 404 that names the nearest route, and is booked."""
    site = Site({"gpt-4o": ["a1"]}, {})

    error = await site.ask(site.exchange("gpt-4"))

    assert isinstance(error, InvalidRequestError)
    assert (error.status, error.code) == (404, "model_not_found")
    assert "did you mean 'gpt-4o'?" in str(error)
    assert site.outcome == ("error", "invalid_request", 404)
