"""LiteLLM's routing settings: which deployment of a route is called, and what follows which
error."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanledger.config import RouterSettings
from spanledger.errors import ConfigError, ProviderError
from spanledger.pricing.usage import Usage
from spanledger.routing.health import Latency
from spanledger.routing.outcome import http_status_of
from spanledger.routing.strategy import STRATEGIES
from spanledger.wires.base import Answer
from tests.service.routing.rig import ROLE, Attempted, Site, Step, content, fails, until

TWO: dict[str, Any] = {"a": ["a1", "a2"]}


async def shares(site: Site, requests: int = 200) -> Counter[str]:
    """How many of these requests each deployment got."""
    for _ in range(requests):
        await site.ask()
        site.time.now += 0.001
    return Counter(tried.deployment for tried in site.attempted)


def test_every_strategy_of_the_config_is_there() -> None:
    """The settings accept exactly the names that routing knows."""
    accepted = get_args(RouterSettings.model_fields["routing_strategy"].annotation)

    assert sorted(accepted) == sorted(STRATEGIES)


def test_a_strategy_we_do_not_have_is_refused() -> None:
    """It decides where requests go, so it is not ignored; the message lists the valid names."""
    with pytest.raises(ConfigError, match=r"router_settings\.routing_strategy: .*'least-busy'"):
        Site(TWO, {}, routing_strategy="provider-budget-routing")


@pytest.mark.parametrize("key", ["weight", "rpm", "tpm"])
async def test_shares_are_by_weight_then_rpm_then_tpm(key: str) -> None:
    """A deployment with three times the figure gets about three times the requests, and one without
    it gets none."""
    routes: dict[str, Any] = {"a": [("a1", {key: 900_000}), ("a2", {key: 300_000}), "a3"]}

    seen = await shares(Site(routes, {}))

    assert seen["a3"] == 0
    assert 2.2 < seen["a1"] / seen["a2"] < 4.5


async def test_a_weight_of_zero_is_never_first() -> None:
    """It gets a request only if the others cannot serve it."""
    site = Site({"a": [("a1", {"weight": 0}), ("a2", {"weight": 1})]}, {})
    assert await shares(site) == {"a2": 200}

    site = Site(
        {"a": [("a1", {"weight": 0}), ("a2", {"weight": 1})]}, {"a2": [fails("server_error")]}
    )
    assert isinstance(await site.ask(), Answer)
    assert [t.deployment for t in site.attempted] == ["a2", "a1"]


async def test_weights_of_zero_alone_are_even() -> None:
    """A group whose weights are all 0 is served, each deployment getting about half."""
    seen = await shares(Site({"a": [("a1", {"weight": 0}), ("a2", {"weight": 0})]}, {}))

    assert 60 < seen["a1"] < 140


async def test_the_lowest_order_comes_first() -> None:
    """Then the next one, even without retries; those without an order last; then the fallback."""
    bad = [fails("server_error", status=500)]
    site = Site(
        {"a": ["a3", ("a2", {"order": 2}), ("a1", {"order": 1})], "b": ["b1"]},
        dict.fromkeys(("a1", "a2", "a3"), bad),
        num_retries=0,
        fallbacks=[{"a": ["b"]}],
    )

    await site.ask()

    assert site.attempted == [
        Attempted("a1", "server_error"),
        Attempted("a2", "server_error", reason="server_error"),
        Attempted("a3", "server_error", reason="server_error"),
        Attempted("b1", "", "a", "server_error"),
    ]


async def test_retries_are_made_within_an_order() -> None:
    """The next order follows when the retries of the one before are used up."""
    bad = [fails("server_error", status=500)]
    site = Site({"a": [("a1", {"order": 1}), ("a2", {"order": 2})]}, {"a1": bad}, num_retries=1)

    await site.ask()

    assert [t.deployment for t in site.attempted] == ["a1", "a1", "a2"]


async def test_an_order_that_cools_is_passed_over() -> None:
    """While its deployments are in cooldown, the next order serves, and that is not a fallback."""
    site = Site(
        {"a": [("a1", {"order": 1}), ("a2", {"order": 2})]},
        {"a1": [fails("rate_limited", status=429, retry_after_s=60.0)]},
    )
    await site.ask()

    await site.ask()

    assert site.attempted[-1] == Attempted("a2")


async def test_least_busy_spreads_what_is_in_flight() -> None:
    """Of thirty concurrent requests over three deployments, each gets ten."""
    hangs = {name: [Step(hangs=True)] for name in ("a1", "a2", "a3")}
    site = Site({"a": ["a1", "a2", "a3"]}, hangs, routing_strategy="least-busy")
    tasks = [asyncio.create_task(site.router.complete(site.exchange())) for _ in range(30)]

    await until(lambda: len(site.provider.calls) == 30)

    assert set(Counter(c.deployment.id for c in site.provider.calls).values()) == {10}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert {state.in_flight for state in site.router.health.states.values()} == {0}


async def test_lowest_latency_serves_whole_answers() -> None:
    """Each is measured once, then the one with the lowest time per token gets the rest, although
    its answers are longer."""
    site = Site(
        TWO,
        {
            "a1": [Step(takes_s=2.0, usage=Usage(10, 1_000))],
            "a2": [Step(takes_s=1.0, usage=Usage(10, 10))],
        },
        routing_strategy="latency-based-routing",
    )

    assert await shares(site, 50) == {"a1": 49, "a2": 1}


async def test_lowest_latency_serves_streams_by_their_first_content() -> None:
    """A stream is measured separately."""
    slow = Step(takes_s=1.0, frames=(ROLE, content()))
    quick = Step(takes_s=0.1, frames=(ROLE, content()))
    site = Site(TWO, {"a1": [slow], "a2": [quick]}, routing_strategy="latency-based-routing")

    for _ in range(20):
        await site.read(site.exchange(stream=True))

    assert Counter(t.deployment for t in site.attempted) == {"a2": 19, "a1": 1}


async def test_what_times_out_is_the_slowest() -> None:
    """A silent deployment is not called again while another one serves."""
    site = Site(
        TWO,
        {"a1": [fails("timeout", billed="unknown")], "a2": [Step(takes_s=50.0)]},
        routing_strategy="latency-based-routing",
        allowed_fails=100,
    )

    seen = await shares(site, 20)

    assert seen["a1"] == 1


async def test_a_buffer_shares_among_the_nearly_fastest() -> None:
    """Those within it of the lowest latency share the traffic; old measurements are repeated."""
    site = Site(
        {"a": ["a1", "a2", "a3"]},
        {"a1": [Step(takes_s=1.0)], "a2": [Step(takes_s=1.2)], "a3": [Step(takes_s=3.0)]},
        routing_strategy="latency-based-routing",
        routing_strategy_args={"lowest_latency_buffer": 0.5, "ttl": 3600},
    )
    seen = await shares(site, 60)
    assert seen["a3"] == 1
    assert min(seen["a1"], seen["a2"]) > 15

    site.time.now += 4_000
    await shares(site, 6)

    assert Counter(t.deployment for t in site.attempted)["a3"] == 2


async def test_cheapest_is_by_the_prices_of_deployments() -> None:
    """The lowest sum of input and output; one without a price comes last."""
    cheap = {"input_cost_per_token": "0.000002", "output_cost_per_token": "0.0000005"}
    none = {"input_cost_per_token": None, "output_cost_per_token": None}
    site = Site(
        {"a": [("unknown-1", none), "a2", ("a3", cheap)]}, {}, routing_strategy="cost-based-routing"
    )
    assert await shares(site, 20) == {"a3": 20}

    site = Site({"a": [("unknown-1", none), "a2"]}, {}, routing_strategy="cost-based-routing")
    assert await shares(site, 20) == {"a2": 20}


@pytest.mark.parametrize("name", ["usage-based-routing", "usage-based-routing-v2"])
async def test_least_used_is_by_the_tokens_of_the_minute(name: str) -> None:
    """One whose answers use nine times the tokens gets about a tenth of the requests."""
    site = Site(
        TWO,
        {"a1": [Step(usage=Usage(100, 800))], "a2": [Step(usage=Usage(50, 50))]},
        routing_strategy=name,
    )

    seen = await shares(site, 100)

    assert 8 <= seen["a1"] <= 12


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_no_strategy_asks_who_cools_down(strategy: str) -> None:
    """Only available ones are considered, whichever would be first otherwise."""
    site = Site(
        TWO,
        {"a1": [fails("rate_limited", status=429, retry_after_s=60.0)]},
        routing_strategy=strategy,
    )

    seen = await shares(site, 30)

    assert seen["a1"] == 1


@given(st.lists(st.floats(0.001, 1000), min_size=1, max_size=40))
def test_a_latency_is_the_mean_of_the_last_ten(seconds: list[float]) -> None:
    """However many there were."""
    latency = Latency()
    for value in seconds:
        latency.add(5.0, value)

    last = seconds[-10:]
    assert latency.mean(5.0, 1.0) == pytest.approx(sum(last) / len(last), rel=1e-6, abs=1e-6)
    assert latency.mean(7.0, 1.0) == 0.0


# what follows which error ----------------------------------------------------------------------


async def test_refused_content_goes_to_its_fallback() -> None:
    """And not to the fallback for other errors."""
    site = Site(
        {"a": ["a1"], "b": ["b1"], "c": ["c1"]},
        {"a1": [fails("content_filtered", status=400)]},
        fallbacks=[{"a": ["b"]}],
        content_policy_fallbacks=[{"a": ["c"]}],
    )

    assert isinstance(await site.ask(), Answer)

    assert site.attempted == [
        Attempted("a1", "content_filtered"),
        Attempted("c1", "", "a", "content_filtered"),
    ]


async def test_filtered_answers_go_to_the_fallback_too() -> None:
    """An answer that ended with `content_filter` is paid for, and another one is requested; without
    such a fallback it is the answer."""
    for fallbacks, asked in (([{"a": ["c"]}], ["a1", "c1"]), ([], ["a1"])):
        site = Site({"a": ["a1"], "c": ["c1"]}, {}, content_policy_fallbacks=fallbacks)
        complete = site.provider.complete

        async def filtered(call: Any, complete: Any = complete) -> Answer:
            answer: Answer = await complete(call)
            if call.deployment.id == "c1":
                return answer
            return Answer(answer.body, answer.usage, finish_reasons=("content_filter",))

        site.provider.complete = filtered  # type: ignore[method-assign]  # a provider's filter

        assert isinstance(await site.ask(), Answer)

        assert [t.deployment for t in site.attempted] == asked
        first = next(iter(site.ledger.ended.values()))
        assert first.cost_nano == 20_000
        assert not first.estimated


POLICIES = [
    ("TimeoutErrorRetries", "timeout"),
    ("RateLimitErrorRetries", "rate_limited"),
    ("InternalServerErrorRetries", "server_error"),
    ("InternalServerErrorRetries", "malformed_response"),
    ("ServiceUnavailableErrorRetries", "overloaded"),
    ("ContentPolicyViolationErrorRetries", "content_filtered"),
    ("BadRequestErrorRetries", "invalid_request"),
    ("AuthenticationErrorRetries", "authentication_failed"),
    ("NotFoundErrorRetries", "not_found"),
]


@pytest.mark.parametrize(("key", "kind"), POLICIES, ids=[f"{k}-{v}" for k, v in POLICIES])
async def test_a_retry_policy_counts_by_error(key: str, kind: str) -> None:
    """An error that it names is retried that often, whatever `num_retries` says; others by that."""
    policy = {key: 2}
    site = Site({"a": ["a1"]}, {"a1": [fails(kind)]}, retry_policy=policy, num_retries=0)
    await site.ask()
    assert [t.error for t in site.attempted] == [kind] * 3

    site = Site({"a": ["a1"]}, {"a1": [fails("connection_error")]}, retry_policy={key: 0})
    await site.ask()
    named = "InternalServer" in key
    assert len(site.attempted) == (1 if named else 2)


async def test_a_routes_own_policy_wins() -> None:
    """`model_group_retry_policy` replaces the general one for its route, also under an alias."""
    for name in ("a", "other"):
        site = Site(
            {"a": ["a1"]},
            {"a1": [fails("rate_limited")]},
            retry_policy={"RateLimitErrorRetries": 3},
            model_group_retry_policy={name: {"RateLimitErrorRetries": 1}},
            model_group_alias={"other": "a"},
        )
        await site.ask()
        assert len(site.attempted) == 2


async def test_a_deployments_own_retries_win_over_the_routers() -> None:
    """`num_retries` of an entry counts for its failures."""
    routes = {"a": [("a1", {"num_retries": 1})]}
    site = Site(routes, {"a1": [fails("server_error")]}, num_retries=4)

    await site.ask()

    assert len(site.attempted) == 2


async def test_a_policy_of_allowed_fails_counts_by_error() -> None:
    """A 429 causes a cooldown at once, unless the policy allows some; then the one beyond them
    does."""
    for policy, calls in ((None, 1), ({"RateLimitErrorAllowedFails": 2}, 3)):
        site = Site(
            {"a": ["a1"], "b": ["b1"]},
            {"a1": [fails("rate_limited", status=429)]},
            fallbacks=[{"a": ["b"]}],
            allowed_fails_policy=policy,
        )
        for _ in range(6):
            await site.ask()
        assert sum(t.deployment == "a1" for t in site.attempted) == calls


def test_a_policys_slip_of_the_pen_is_an_error() -> None:
    """It suggests the nearest key."""
    with pytest.raises(ConfigError, match="did you mean 'TimeoutErrorRetries'"):
        Site(TWO, {}, retry_policy={"TimeoutErrorRetry": 1})


async def test_a_stream_has_a_timeout_of_its_own() -> None:
    """An entry's `stream_timeout` wins over the router's, and neither applies to other answers."""
    site = Site({"a": [("a1", {"stream_timeout": 3})], "b": ["b1"]}, {}, stream_timeout=5)
    await site.read(site.exchange(stream=True))
    await site.read(site.exchange("b", stream=True))
    await site.ask()

    assert [call.timeout_s for call in site.provider.calls] == [3, 5, 60]


@pytest.mark.parametrize(
    ("routes", "settings", "timeout_s"),
    [
        ({"a": ["a1"]}, {}, 600),
        ({"a": ["a1", "a2"]}, {}, 300),
        ({"a": ["a1"], "b": ["b1"]}, {"fallbacks": [{"a": ["b"]}]}, 300),
        ({"a": ["a1"]}, {"timeout": 40}, 40),
        ({"a": [("a1", {"timeout": 7})]}, {"timeout": 40}, 7),
    ],
)
async def test_a_long_answer_is_served(
    routes: dict[str, Any], settings: dict[str, Any], timeout_s: float
) -> None:
    """By default an attempt may take all the time of its request, or half of it if another
    deployment can take over."""
    site = Site(routes, {}, **settings)

    await site.ask(site.exchange(deadline_s=600.0))

    assert [call.timeout_s for call in site.provider.calls] == [timeout_s]


async def test_an_answer_of_150_seconds_is_one_attempt() -> None:
    """It is served, and only one request is sent."""
    site = Site({"a": ["a1"]}, {"a1": [Step(takes_s=150.0)]})

    assert isinstance(await site.ask(site.exchange(deadline_s=600.0)), Answer)

    assert site.attempted == [Attempted("a1")]


def test_fallbacks_may_use_aliases() -> None:
    """Both of LiteLLM's forms, on either side; an alias to an unknown route is an error."""
    site = Site(
        {"a": ["a1"], "b": ["b1"]},
        {},
        model_group_alias={"x": "a", "y": {"model": "b", "hidden": True}, "b": "a"},
        fallbacks=[{"x": ["y"]}],
    )
    assert site.plan.onward["a"].fallbacks == ("b",)

    with pytest.raises(
        ConfigError, match=r"model_group_alias\.z: no deployment has model_name 'q'"
    ):
        Site({"a": ["a1"]}, {}, model_group_alias={"z": "q"})


async def test_a_provider_that_is_only_busy_is_relayed() -> None:
    """The last error of several deployments is the caller's, with its Retry-After."""
    busy = [fails("rate_limited", status=429, retry_after_s=12.0)]
    site = Site(TWO, {"a1": busy, "a2": busy})

    error = await site.ask()

    assert isinstance(error, ProviderError)
    assert (http_status_of(error), error.retry_after_s) == (429, 12.0)
    assert len(site.attempted) == 2
