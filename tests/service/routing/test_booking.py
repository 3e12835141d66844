"""A request's ledger calls, and the final rows, whenever a caller leaves."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from spanledger.errors import (
    BudgetExceededError,
    LedgerUnavailableError,
    SpanledgerError,
    UnpricedModelError,
)
from spanledger.ledger.model import Reservation
from spanledger.routing.hold import EXPECTED_TOKENS
from spanledger.wires.base import Answer
from tests.service.routing.rig import OK, Attempted, Site, Step, StrictLedger, fails, no_room, until

ONE = {"a": ["a1"]}
CHAIN = {"a": ["a1"], "b": ["b1"], "c": ["c1"]}
A_TO_B: dict[str, Any] = {"fallbacks": [{"a": ["b"]}]}
A_TO_B_TO_C: dict[str, Any] = {"fallbacks": [{"a": ["b"]}, {"b": ["c"]}]}


def refusing(*deployments: str, error: SpanledgerError | None = None) -> StrictLedger:
    """A ledger without room for attempts at some deployments."""

    def decide(reservation: Reservation) -> int:
        if reservation.deployment in deployments:
            raise error or no_room()
        return reservation.sizes.full

    return StrictLedger(decide)


async def test_a_budget_stops_a_request_before_its_first_try() -> None:
    """A customer without money is refused at once; no fallback is tried."""
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

    assert site.attempted == [Attempted("b1", "", "a", "budget_exceeded")]
    assert site.ledger.held.keys() == {next(iter(site.ledger.requests)) + ".1"}


async def test_a_fallback_without_money_is_passed_over() -> None:
    """A refused attempt at a fallback moves on to the next one, which records the route tried
    last."""
    site = Site(
        CHAIN,
        {"a1": [fails("server_error")]},
        ledger=refusing("b1"),
        num_retries=0,
        **A_TO_B_TO_C,
    )

    assert isinstance(await site.ask(), Answer)

    assert site.attempted == [
        Attempted("a1", "server_error"),
        Attempted("c1", "", "a", "server_error"),
    ]


async def test_a_fallback_stays_one_when_money_moves_it_within_its_route() -> None:
    """The row of the attempt that is made records which route was left, whatever was refused
    before."""
    site = Site(
        {"a": ["a1"], "b": ["b1", "b2"]},
        {"a1": [fails("server_error")]},
        ledger=refusing("b1"),
        num_retries=0,
        **A_TO_B,
    )

    for _ in range(8):
        assert isinstance(await site.ask(), Answer)

    served = [tried for tried in site.attempted if tried.deployment == "b2"]
    assert len(served) == 8
    assert {(tried.fallback_from, tried.reason) for tried in served} <= {
        ("a", "server_error"),
        ("a", "cooldown"),
    }
    assert "b1" in {asked.deployment for asked in site.ledger.asked}


async def test_a_refusal_after_a_failure_is_what_the_caller_gets() -> None:
    """If money stops a request that a provider failed, money is the reason."""
    site = Site(
        CHAIN, {"a1": [fails("server_error")]}, ledger=refusing("b1"), num_retries=0, **A_TO_B
    )

    error = await site.ask()

    assert isinstance(error, BudgetExceededError)
    assert site.attempted == [Attempted("a1", "server_error")]
    assert site.outcome == ("refused", "budget_exceeded", 429)


async def test_a_refused_try_does_not_use_up_the_deployments_limits() -> None:
    """An attempt that was never sent does not count towards the minute."""
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
    """It is booked at no cost, and is clearly marked."""
    no_price = {"input_cost_per_token": None, "output_cost_per_token": None}
    site = Site({"a": [("nobody-knows-it", no_price)]}, {})

    assert isinstance(await site.ask(), Answer)

    assert (site.last.cost_nano, site.last.unpriced) == (0, True)
    assert (site.last.input_tokens, site.last.output_tokens) == (10, 5)
    assert site.ledger.asked[0].priced is False


async def test_nothing_leaves_without_the_ledger() -> None:
    """If reserve fails, the request fails; no provider is called."""
    down = LedgerUnavailableError("disk is gone")
    site = Site(CHAIN, {}, ledger=refusing("a1", error=down), **A_TO_B)

    assert await site.ask() is down
    assert site.provider.calls == []


async def test_an_answer_is_not_lost_with_the_ledger(caplog: pytest.LogCaptureFixture) -> None:
    """A finish that fails adds no line to the log, which has the outage once already; the caller gets
    the answer that was paid for."""
    caplog.set_level(logging.INFO)
    site = Site(ONE, {}, ledger=StrictLedger(down=LedgerUnavailableError("disk is gone")))
    exchange = site.exchange()

    assert isinstance(await site.ask(exchange), Answer)
    assert exchange.cost_nano == 20_000
    assert caplog.records == []


async def test_a_served_try_is_booked_with_what_it_used() -> None:
    """Cost, tokens and the span's details are in the row and on the exchange."""
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
    """Prompt and answer are in the row's content, not in its details."""
    site = Site(ONE, {}, content="full")

    await site.ask()

    assert "Hello there" in (site.last.content or "")
    assert "Hello there" not in site.last.detail


@pytest.mark.parametrize(
    ("step", "billed"),
    [
        (Step(usage=None), (8, 5)),  # 3 + 11 bytes of text; 18 bytes of output
        (fails("timeout", billed="unknown"), (6, EXPECTED_TOKENS)),
        (fails("connection_error", billed="unknown"), (6, EXPECTED_TOKENS)),
        (fails("server_error", status=500), None),
    ],
    ids=["no usage", "timeout", "reset", "error"],
)
async def test_what_is_not_reported_is_counted(step: Step, billed: tuple[int, int] | None) -> None:
    """Unknown outcomes are charged by estimated tokens, and marked; certain failures cost
    nothing."""
    site = Site(ONE, {"a1": [step]}, num_retries=0)

    await site.ask()

    end = site.last
    if billed is None:
        assert (end.cost_nano, end.estimated) == (None, False)
    else:
        assert end.estimated
        assert (end.input_tokens, end.output_tokens) == (6, billed[1])
        assert end.cost_nano == 6_000 + 2_000 * billed[1]


async def test_a_caller_that_leaves_cancels_and_pays_for_an_answer() -> None:
    """Cancelling a non-streamed answer settles an estimate of input and output as cancelled."""
    site = Site(ONE, {"a1": [Step(hangs=True)]})
    task = asyncio.create_task(site.router.complete(site.exchange()))
    await until(lambda: site.provider.calls)

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert site.last.cost_nano == 6_000 + 2_000 * EXPECTED_TOKENS
    assert site.last.estimated
    assert site.outcome == ("cancelled", "cancelled", 499)


@pytest.mark.parametrize("write", range(4), ids=["hold", "release", "second hold", "settle"])
async def test_a_caller_that_leaves_while_the_ledger_writes_leaves_nothing_open(
    write: int,
) -> None:
    """Whichever write is cancelled, each hold and the request end exactly once."""
    ledger = StrictLedger(gated=write)
    site = Site(ONE, {"a1": [fails("server_error"), OK]}, ledger=ledger, num_retries=1)
    task = asyncio.create_task(site.router.complete(site.exchange()))
    await until(lambda: ledger.writes > write)

    for _ in range(3):  # as an insistent server does
        task.cancel()
        await asyncio.sleep(0)
    ledger.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    await site.router.close()

    assert ledger.held.keys() == ledger.ended.keys()
    assert site.outcome[0] == ("ok" if write == 3 else "cancelled")


async def test_a_caller_that_leaves_before_its_try_uses_up_no_limit() -> None:
    """An attempt that was cancelled while its money was being held does not count as a request."""
    ledger = StrictLedger(gated=0)
    site = Site({"a": [("a1", {"rpm": 1})]}, {}, ledger=ledger)
    task = asyncio.create_task(site.router.complete(site.exchange()))
    await until(lambda: ledger.writes)

    task.cancel()
    ledger.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert site.last.cost_nano is None
    assert isinstance(await site.ask(), Answer)


async def test_a_fault_of_an_adapter_leaves_nothing_open() -> None:
    """Any other exception is raised unchanged, with its attempt and request booked."""
    site = Site(ONE, {})

    async def broken(_: object) -> Answer:
        raise KeyError("a bug")

    site.provider.complete = broken  # type: ignore[method-assign, assignment]  # a bug in an adapter
    with pytest.raises(KeyError):
        await site.router.complete(site.exchange())

    assert site.last.error_type == "internal_error"
    assert site.outcome == ("error", "internal_error", 500)
