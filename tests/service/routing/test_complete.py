"""The attempt loop without streaming: which tries a request makes, and what it ends with."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from spanledger.errors import (
    BudgetExceededError,
    InvalidRequestError,
    LedgerUnavailableError,
    ProviderError,
    SpanledgerError,
    UnpricedModelError,
)
from spanledger.ledger.store import Reservation
from spanledger.providers.base import Answer
from spanledger.routing.execute import MAX_ATTEMPTS
from spanledger.routing.outcome import http_status_of
from tests.service.routing.rig import OK, Site, Step, StrictLedger, Tried, fails, no_room

ONE = {"a": ["a1"]}
TWO = {"a": ["a1", "a2"]}
CHAIN = {"a": ["a1"], "b": ["b1"], "c": ["c1"]}
A_TO_B = {"fallbacks": [{"a": ["b"]}]}
A_TO_B_TO_C = {"fallbacks": [{"a": ["b"]}, {"b": ["c"]}]}
PATIENT = {"allowed_fails": 100}


@dataclass(frozen=True)
class Case:
    """A scripted situation and what must come of it.

    Attributes:
        status: None when the request is served.
        waits: what was slept, each within a tenth.
    """

    name: str
    tried: Sequence[Tried]
    scripts: Mapping[str, Sequence[Step]] = field(default_factory=dict)
    routes: Mapping[str, Sequence[str]] = field(default_factory=lambda: ONE)
    settings: Mapping[str, object] = field(default_factory=dict)
    status: int | None = None
    waits: Sequence[float] = ()
    deadline_s: float = 60.0


CASES = [
    Case("served at once", [Tried("a1")]),
    Case(
        "a 429 without Retry-After is retried after a back-off where nothing else is left",
        [Tried("a1", "rate_limited"), Tried("a1", reason="rate_limited")],
        {"a1": [fails("rate_limited", status=429), OK]},
        waits=[0.15],
    ),
    Case(
        "a Retry-After is kept",
        [Tried("a1", "rate_limited"), Tried("a1", reason="rate_limited")],
        {"a1": [fails("rate_limited", status=429, retry_after_s=3.0), OK]},
        waits=[3.15],
    ),
    Case(
        "a Retry-After beyond our patience ends the request",
        [Tried("a1", "rate_limited")],
        {"a1": [fails("rate_limited", status=429, retry_after_s=30.0), OK]},
        status=429,
    ),
    Case(
        "a wait beyond the deadline ends the request",
        [Tried("a1", "rate_limited")],
        {"a1": [fails("rate_limited", status=429, retry_after_s=3.0), OK]},
        status=429,
        deadline_s=2.0,
    ),
    Case(
        "the retry_after setting is the least wait",
        [Tried("a1", "server_error"), Tried("a1", reason="server_error")],
        {"a1": [fails("server_error", status=500), OK]},
        settings={"retry_after": 2.0},
        waits=[2.0],
    ),
    Case(
        "a deployment that cools is left for the fallback at once",
        [Tried("a1", "rate_limited"), Tried("b1", "", "a", "rate_limited")],
        {"a1": [fails("rate_limited", status=429, retry_after_s=1.0)]},
        CHAIN,
        A_TO_B,
    ),
    Case(
        "a server error is retried in the group before the fallback",
        [
            Tried("a1", "server_error"),
            Tried("a1", "server_error", reason="server_error"),
            Tried("b1", "", "a", "server_error"),
        ],
        {"a1": [fails("server_error", status=500)]},
        CHAIN,
        {**A_TO_B, "num_retries": 1},
        waits=[0.15],
    ),
    Case(
        "every group of the chain gets its retries, and the last error is the caller's",
        [
            Tried("a1", "server_error"),
            Tried("b1", "overloaded", "a", "server_error"),
            Tried("c1", "connection_error", "b", "overloaded"),
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
        [Tried("a1", "timeout"), Tried("c1", "", "a", "timeout")],
        {"a1": [fails("timeout", billed="unknown")]},
        CHAIN,
        {"default_fallbacks": ["c"], "num_retries": 0},
    ),
    Case(
        "fallbacks that lead back are not followed twice",
        [Tried("a1", "server_error"), Tried("b1", "server_error", "a", "server_error")],
        {"a1": [fails("server_error")], "b1": [fails("server_error")]},
        CHAIN,
        {"fallbacks": [{"a": ["b"]}, {"b": ["a"]}], "num_retries": 0},
        status=502,
    ),
    Case(
        "a deployment with a bad key is not tried again, nor does it cost a retry",
        [
            Tried("a1", "authentication_failed"),
            Tried("b1", "", "a", "authentication_failed"),
        ],
        {"a1": [fails("authentication_failed", status=401)]},
        CHAIN,
        {**A_TO_B, "num_retries": 0},
    ),
    Case(
        "a bad key without an alternative is our fault, not the caller's",
        [Tried("a1", "authentication_failed")],
        {"a1": [fails("authentication_failed", status=401)]},
        status=502,
    ),
    Case(
        "a model the provider does not know is our fault",
        [Tried("a1", "not_found")],
        {"a1": [fails("not_found", status=404)]},
        status=502,
    ),
    Case(
        "a bad request is the caller's at once",
        [Tried("a1", "invalid_request")],
        {"a1": [fails("invalid_request", status=422), OK]},
        CHAIN,
        A_TO_B,
        status=422,
    ),
    Case(
        "filtered content is the caller's at once",
        [Tried("a1", "content_filtered")],
        {"a1": [fails("content_filtered", status=400), OK]},
        CHAIN,
        A_TO_B,
        status=400,
    ),
    Case(
        "a prompt too long goes to the group for long prompts",
        [
            Tried("a1", "context_window_exceeded"),
            Tried("c1", "", "a", "context_window_exceeded"),
        ],
        {"a1": [fails("context_window_exceeded", status=400)]},
        CHAIN,
        {**A_TO_B, "context_window_fallbacks": [{"a": ["c"]}]},
    ),
    Case(
        "a prompt too long found in a fallback goes to the first route's group for long prompts",
        [
            Tried("a1", "server_error"),
            Tried("b1", "context_window_exceeded", "a", "server_error"),
            Tried("c1", "", "b", "context_window_exceeded"),
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
        [Tried("a1", "context_window_exceeded")],
        {"a1": [fails("context_window_exceeded", status=400)]},
        CHAIN,
        A_TO_B,
        status=400,
    ),
    Case(
        "a malformed answer is tried again",
        [Tried("a1", "malformed_response"), Tried("a1", reason="malformed_response")],
        {"a1": [fails("malformed_response", status=200, billed="unknown"), OK]},
        waits=[0.15],
    ),
    Case(
        "the back-off doubles",
        [
            Tried("a1", "server_error"),
            Tried("a1", "server_error", reason="server_error"),
            Tried("a1", "server_error", reason="server_error"),
            Tried("a1", "server_error", reason="server_error"),
        ],
        {"a1": [fails("server_error")]},
        settings={"num_retries": 3, **PATIENT},
        status=502,
        waits=[0.15, 0.3, 0.6],
    ),
    Case(
        "a try that used up the deadline is the last",
        [Tried("a1", "timeout")],
        {"a1": [fails("timeout", takes_s=61.0, billed="unknown"), OK]},
        CHAIN,
        A_TO_B,
        status=504,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_the_tries_of_a_request(case: Case) -> None:
    """Each situation leads to exactly these tries, waits and answer."""
    site = Site(case.routes, case.scripts, **case.settings)
    exchange = site.exchange(deadline_s=case.deadline_s)

    answer = await site.ask(exchange)

    assert site.tried == list(case.tried)
    assert exchange.attempts == len(case.tried)
    assert exchange.deployment == case.tried[-1].deployment
    assert len(site.time.slept) == len(case.waits)
    for slept, wanted in zip(site.time.slept, case.waits, strict=True):
        assert slept == pytest.approx(wanted, rel=0.34)  # the jitter's span
    if case.status is None:
        assert isinstance(answer, Answer)
        assert site.outcome == ("ok", "", 200)
    else:
        assert isinstance(answer, ProviderError)
        assert http_status_of(answer) == case.status
        assert site.outcome == ("error", answer.kind, case.status)


async def test_a_group_is_tried_through_before_one_is_tried_again() -> None:
    """The second try goes to the other one, the third to the one that rested longest."""
    bad = [fails("server_error", takes_s=1.0)]
    site = Site(TWO, {"a1": bad, "a2": bad}, **PATIENT)

    await site.ask()

    first, second, third = (tried.deployment for tried in site.tried)
    assert {first, second} == {"a1", "a2"}
    assert third == first
    assert [tried.fallback_from for tried in site.tried] == ["", "", ""]
    assert site.time.slept == []


async def test_weights_share_out_the_traffic() -> None:
    """A deployment with nine times the weight gets about nine times the requests."""
    site = Site({"a": [("a1", {"weight": 9}), ("a2", {"weight": 1})]}, {})

    for _ in range(400):
        await site.ask()

    share = sum(tried.deployment == "a1" for tried in site.tried) / 400
    assert 0.85 < share < 0.95


async def test_tries_are_bounded_whatever_the_settings_allow() -> None:
    """Twenty retries in each of three groups are still ten tries."""
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

    assert len(site.tried) == MAX_ATTEMPTS


async def test_a_single_deployment_cools_down_and_recovers() -> None:
    """After its failures the next request is refused without a try, and served once it is over."""
    site = Site(
        ONE, {"a1": [fails("server_error")] * 3 + [OK]}, allowed_fails=2, cooldown_time=30
    )
    await site.ask()

    refused = await site.ask()
    site.time.now += 30.5
    served = await site.ask()

    assert isinstance(refused, ProviderError)
    assert refused.kind == "cooldown"
    assert http_status_of(refused) == 503
    assert refused.retry_after_s == pytest.approx(30.0, abs=0.5)
    assert isinstance(served, Answer)
    assert len(site.provider.calls) == 4


async def test_a_request_skips_a_group_that_cools() -> None:
    """The first try is then a fallback, and says from where and why."""
    site = Site(
        CHAIN, {"a1": [fails("rate_limited", status=429, retry_after_s=60.0)]}, **A_TO_B
    )
    await site.ask()

    await site.ask()

    assert site.tried[-1] == Tried("b1", "", "a", "cooldown")
    assert len(site.provider.calls) == 3


@pytest.mark.parametrize(
    ("limits", "wait_s"),
    [({"rpm": 2}, 60.0), ({"tpm": 30}, 60.0)],
    ids=["requests", "tokens"],
)
async def test_a_deployments_own_limits_are_kept(
    limits: dict[str, object], wait_s: float
) -> None:
    """The request over rpm or tpm makes no try, names the reason and when to come back."""
    site = Site({"a": [("a1", limits)]}, {})
    for _ in range(2):  # the first of a minute passes whatever its size; 15 tokens were used
        await site.ask(site.exchange(max_tokens=1))
        site.time.now += 1

    refused = await site.ask(site.exchange(max_tokens=1))
    calls = len(site.provider.calls)
    assert isinstance(refused, ProviderError)
    site.time.now += (refused.retry_after_s or 0) + 0.001
    served = await site.ask(site.exchange(max_tokens=1))

    assert calls == len(site.ledger.held) - 1 <= 2
    assert refused.kind == "rate_limit_reached"
    assert http_status_of(refused) == 429
    assert wait_s - 5 <= (refused.retry_after_s or 0) <= wait_s + 5
    assert isinstance(served, Answer)


async def test_an_unknown_route_is_the_callers_mistake() -> None:
    """It is a 404 that names the nearest route, and is booked."""
    site = Site({"gpt-4o": ["a1"]}, {})

    error = await site.ask(site.exchange("gpt-4"))

    assert isinstance(error, InvalidRequestError)
    assert (error.status, error.code) == (404, "model_not_found")
    assert "did you mean 'gpt-4o'?" in str(error)
    assert site.outcome == ("error", "invalid_request", 404)


def refusing(*deployments: str, error: SpanledgerError | None = None) -> StrictLedger:
    """A ledger without room for tries at some deployments."""

    def decide(reservation: Reservation) -> int:
        if reservation.deployment in deployments:
            raise error or no_room()
        return reservation.sizes.full

    return StrictLedger(decide)


async def test_a_budget_stops_a_request_before_its_first_try() -> None:
    """A customer without money is refused at once; no fallback is asked."""
    site = Site(CHAIN, {}, ledger=refusing("a1"), **A_TO_B)

    error = await site.ask()

    assert isinstance(error, BudgetExceededError)
    assert len(site.ledger.asked) == 1
    assert site.provider.calls == []
    assert site.outcome == ("refused", "budget_exceeded", 429)
    (end,) = site.ledger.requests.values()
    assert (end.refused_by, end.refused_scope) == ("b", "customer")


async def test_a_model_without_budget_left_is_left_for_another() -> None:
    """A refusal that is about one model says nothing about the others."""
    site = Site(CHAIN, {}, ledger=refusing("a1", error=no_room("model")), **A_TO_B)

    assert isinstance(await site.ask(), Answer)

    assert site.tried == [Tried("b1", "", "a", "budget_exceeded")]
    assert site.ledger.held.keys() == {next(iter(site.ledger.requests)) + ".1"}


async def test_a_fallback_without_money_is_passed_over() -> None:
    """A refusal on a fallback's try moves on to the next one."""
    site = Site(
        CHAIN,
        {"a1": [fails("server_error")]},
        ledger=refusing("b1"),
        num_retries=0,
        **A_TO_B_TO_C,
    )

    assert isinstance(await site.ask(), Answer)

    assert site.tried == [
        Tried("a1", "server_error"),
        Tried("c1", "", "b", "budget_exceeded"),
    ]


async def test_a_refusal_after_a_failure_is_what_the_caller_gets() -> None:
    """Where money stops a request that a provider failed, money is the reason."""
    site = Site(
        CHAIN, {"a1": [fails("server_error")]}, ledger=refusing("b1"), num_retries=0, **A_TO_B
    )

    error = await site.ask()

    assert isinstance(error, BudgetExceededError)
    assert site.tried == [Tried("a1", "server_error")]
    assert site.outcome == ("refused", "budget_exceeded", 429)


async def test_a_refused_try_does_not_use_up_the_deployments_limits() -> None:
    """What never left does not count as a request of the minute."""
    ledger = refusing("a1")
    site = Site({"a": [("a1", {"rpm": 1})]}, {}, ledger=ledger)
    await site.ask()
    ledger.decide = lambda reservation: reservation.sizes.full

    assert isinstance(await site.ask(), Answer)


async def test_an_unpriced_model_under_a_budget_is_left_for_a_priced_one() -> None:
    """Without an alternative the error says which prices to set."""
    unpriced = UnpricedModelError("no price")
    site = Site(CHAIN, {}, ledger=refusing("a1", error=unpriced), **A_TO_B)
    alone = Site(ONE, {}, ledger=refusing("a1", error=unpriced))

    assert isinstance(await site.ask(), Answer)
    assert await alone.ask() is unpriced
    assert alone.outcome == ("error", "unpriced_model", 400)


async def test_an_unpriced_model_without_budgets_is_booked_as_such() -> None:
    """It costs nothing in the books, and says so loudly."""
    no_price = {"input_cost_per_token": None, "output_cost_per_token": None}
    site = Site({"a": [("nobody-knows-it", no_price)]}, {})

    assert isinstance(await site.ask(), Answer)

    assert (site.last.cost_nano, site.last.unpriced) == (0, True)
    assert (site.last.input_tokens, site.last.output_tokens) == (10, 5)
    assert site.ledger.asked[0].priced is False


async def test_nothing_leaves_without_the_ledger() -> None:
    """A reserve that fails fails the request; no provider is called."""
    down = LedgerUnavailableError("disk is gone")
    site = Site(CHAIN, {}, ledger=refusing("a1", error=down), **A_TO_B)

    assert await site.ask() is down
    assert site.provider.calls == []


async def test_an_answer_is_not_lost_with_the_ledger() -> None:
    """A finish that fails is logged; the caller gets the answer that was paid for."""
    site = Site(ONE, {}, ledger=StrictLedger(down=LedgerUnavailableError("disk is gone")))
    exchange = site.exchange()

    assert isinstance(await site.ask(exchange), Answer)
    assert exchange.cost_nano == 20_000


async def test_a_served_try_is_booked_with_what_it_used() -> None:
    """Cost, tokens and the span's details stand in the row and on the exchange."""
    site = Site(ONE, {})
    exchange = site.exchange(temperature=0.5)

    await site.ask(exchange)

    end = site.last
    assert (end.cost_nano, end.estimated, end.unpriced) == (20_000, False, False)
    assert (end.input_tokens, end.output_tokens, end.http_status) == (10, 5, 200)
    assert end.response_model == "m-1"
    assert '"gen_ai.request.temperature":0.5' in end.detail
    assert '"gen_ai.response.id":"resp_1"' in end.detail
    assert end.content is None
    assert (exchange.cost_nano, exchange.remaining_nano) == (20_000, 7)


async def test_content_is_captured_where_configured() -> None:
    """Prompt and answer stand in the row's content, not in its details."""
    site = Site(ONE, {}, content="full")

    await site.ask()

    assert "Hello there" in (site.last.content or "")
    assert "Hello there" not in site.last.detail


@pytest.mark.parametrize(
    ("step", "billed"),
    [
        (Step(usage=None), (8, 5)),  # 3 + 11 bytes of text; 18 bytes of output
        (fails("timeout", billed="unknown"), (6, 0)),
        (fails("connection_error", billed="unknown"), (6, 0)),
        (fails("server_error", status=500), None),
    ],
    ids=["no usage", "timeout", "reset", "error"],
)
async def test_what_is_not_reported_is_counted(
    step: Step, billed: tuple[int, int] | None
) -> None:
    """Unknown outcomes are charged by counted tokens, marked; certain failures cost nothing."""
    site = Site(ONE, {"a1": [step]}, num_retries=0)

    await site.ask()

    end = site.last
    if billed is None:
        assert (end.cost_nano, end.estimated) == (None, False)
    else:
        assert end.estimated
        assert (end.input_tokens, end.output_tokens) == (6, billed[1])
        assert end.cost_nano == 6_000 + 2_000 * billed[1]


async def test_a_caller_that_leaves_cancels_and_pays_for_its_prompt() -> None:
    """Cancelling a whole answer settles an estimate of the input as cancelled."""
    site = Site(ONE, {"a1": [Step(hangs=True)]})
    task = asyncio.create_task(site.router.complete(site.exchange()))
    async with asyncio.timeout(5):
        while not site.provider.calls:
            await asyncio.sleep(0)

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert (site.last.cost_nano, site.last.estimated) == (6_000, True)
    assert site.outcome == ("cancelled", "cancelled", 499)


@pytest.mark.parametrize("write", range(4), ids=["hold", "release", "second hold", "settle"])
async def test_a_caller_that_leaves_while_the_ledger_writes_leaves_nothing_open(
    write: int,
) -> None:
    """Whichever write a cancellation hits, each hold and the request end exactly once."""
    ledger = StrictLedger(gated=write)
    site = Site(ONE, {"a1": [fails("server_error"), OK]}, ledger=ledger)
    task = asyncio.create_task(site.router.complete(site.exchange()))
    async with asyncio.timeout(5):
        while ledger.writes <= write:
            await asyncio.sleep(0)

    for _ in range(3):  # as a server does that insists
        task.cancel()
        await asyncio.sleep(0)
    ledger.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    await site.router.close()

    assert ledger.held.keys() == ledger.ended.keys()
    assert site.outcome[0] == ("ok" if write == 3 else "cancelled")


async def test_a_fault_of_an_adapter_leaves_nothing_open() -> None:
    """An exception that is no ProviderError is raised as it is, with its try and request booked."""
    site = Site(ONE, {})

    async def broken(_: object) -> Answer:
        raise KeyError("a bug")

    site.provider.complete = broken  # type: ignore[method-assign]  # a bug in an adapter
    with pytest.raises(KeyError):
        await site.router.complete(site.exchange())

    assert site.last.error_type == "internal_error"
    assert site.outcome == ("error", "internal_error", 500)
