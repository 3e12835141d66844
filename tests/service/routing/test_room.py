"""Requests that wait for what others hold, through the router on a real ledger and the simulator."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from spanledger.budgets.model import Budget
from spanledger.clock import Clock
from spanledger.errors import BudgetExceededError, Refusal
from spanledger.ledger.model import RequestStart
from spanledger.routing.room import MAX_ASKING, WaitingRoom
from spanledger.sim.host import RunningSim
from spanledger.sim.server import sim_in_thread
from spanledger.wires.base import Answer
from tests.service.routing.test_end_to_end import Stack, opened
from tests.support.ledgers import store_at
from tests.support.processes import poll

WAIT_S = 1.0
CAP = 100
ONE_HOLD = 300_000
"""Room for one hold of a short request with this cap, and for the costs of two such requests."""
START = RequestStart(
    "req_1", "0" * 32, "0" * 16, "", 1, "acme", "web", "key_1", "chat", "chat", False, "ada",
    "apollo", ("blue", "nightly"),
)  # fmt: skip


@pytest.fixture(scope="module")
def sim() -> Iterator[RunningSim]:
    """A simulator whose answers take some tens of milliseconds."""
    with sim_in_thread(seed=1, speed=20) as running:
        yield running


@pytest.fixture
async def stack(sim: RunningSim, tmp_path: Path) -> AsyncIterator[Stack]:
    """A router whose requests wait a second."""
    async with opened(sim, tmp_path / "ledger.db", wait_for_holds_s=WAIT_S) as stack:
        yield stack


def limit(stack: Stack, nano: int) -> None:
    """Limit what everybody may spend."""
    with store_at(stack.path).records("create") as records:
        records.set_budgets([Budget("b", "customer", "acme", nano, "month")], Clock().now_ns())


async def until_one_is_held(stack: Stack) -> None:
    """Return once an attempt is in flight."""
    await asyncio.to_thread(poll, lambda: any(r["state"] == "held" for r in stack.attempts()))


async def test_a_request_waits_until_another_has_given_back_its_hold(stack: Stack) -> None:
    """A limit that has room for two answers, but not for two holds, serves both, one after the other."""
    limit(stack, ONE_HOLD)

    answers = await asyncio.gather(*(stack.ask("plain", max_tokens=CAP) for _ in range(2)))

    assert all(isinstance(answer, Answer) for answer in answers)
    one, other = sorted(stack.attempts(), key=lambda row: int(row["started_ns"]))
    assert other["started_ns"] >= one["ended_ns"]


async def test_without_a_wait_it_is_refused(sim: RunningSim, tmp_path: Path) -> None:
    """`wait_for_holds_s: 0` refuses what does not fit at once."""
    async with opened(sim, tmp_path / "ledger.db", wait_for_holds_s=0) as stack:
        limit(stack, ONE_HOLD)

        answers = await asyncio.gather(*(stack.ask("plain", max_tokens=CAP) for _ in range(2)))

    assert sorted(type(answer).__name__ for answer in answers) == ["Answer", "BudgetExceededError"]


async def test_nobody_waits_for_what_is_spent(stack: Stack) -> None:
    """If there would be no room even if nothing were held, the request is refused at once."""
    limit(stack, ONE_HOLD)
    await stack.ask("plain", max_tokens=CAP)
    await stack.ask("plain", max_tokens=CAP)

    began = time.monotonic()
    refused = await stack.ask("plain", max_tokens=CAP)

    assert isinstance(refused, BudgetExceededError)
    assert refused.refusal.held_nano == 0
    assert time.monotonic() - began < WAIT_S


async def test_what_never_moves_is_waited_for_once(stack: Stack) -> None:
    """Behind a hold that stays, such as that of a batch, one request waits in vain; those after it are
    refused at once, until something moves."""
    limit(stack, ONE_HOLD)
    hanging = asyncio.create_task(stack.ask("hangs", max_tokens=CAP))
    await until_one_is_held(stack)
    took = []
    for _ in range(3):
        began = time.monotonic()
        assert isinstance(await stack.ask("plain", max_tokens=CAP), BudgetExceededError)
        took.append(time.monotonic() - began)

    assert took[0] >= WAIT_S
    assert max(took[1:]) < WAIT_S
    hanging.cancel()


async def test_a_caller_that_leaves_the_line_holds_nothing(stack: Stack) -> None:
    """A caller that hangs up while it waits has made no attempt, and nobody waits behind it."""
    limit(stack, ONE_HOLD)
    hanging = asyncio.create_task(stack.ask("hangs", max_tokens=CAP))
    await until_one_is_held(stack)
    waiting = asyncio.create_task(stack.ask("plain", max_tokens=CAP))
    room = stack.router.room
    await asyncio.to_thread(poll, lambda: room.waiting)

    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting

    assert room.waiting == 0
    hanging.cancel()
    await asyncio.wait((hanging,))
    await stack.router.close()
    with store_at(stack.path).reports() as reports:
        rows = [(row["route"], row["outcome"], row["attempts"]) for row in reports.requests()]
    assert sorted(rows) == [("hangs", "cancelled", 1), ("plain", "cancelled", 0)]


def refusal(budget: str = "b", scope: str = "customer", subject: str = "acme") -> Refusal:
    """One that only a hold is the reason for."""
    return Refusal(budget, scope, subject, 100, 10, 60, 50, 0)


async def test_those_who_came_first_ask_first() -> None:
    """When something is given back, the first few of a line ask again, in the order in which they came,
    also those that have asked before in vain."""
    room, order = WaitingRoom(Clock(), 60), list[int]()

    async def wait(number: int) -> None:
        place = await room.freed(refusal(), None, 1e12)
        assert place is not None
        order.append(number)
        await room.freed(refusal(), place, 1e12)
        order.append(number)

    async with asyncio.TaskGroup() as group:
        for number in range(MAX_ASKING + 2):
            group.create_task(wait(number))
            await asyncio.sleep(0)
        for seen in (MAX_ASKING, 2 * MAX_ASKING):
            room.given_back(START)
            await asyncio.sleep(0.01)
            assert order == [*range(MAX_ASKING)] * (seen // MAX_ASKING)
        room.given_back(START)
        await asyncio.sleep(0.01)
        room.given_back(START)
    assert order[2 * MAX_ASKING :] == [MAX_ASKING, MAX_ASKING + 1, MAX_ASKING, MAX_ASKING + 1]
    assert room.waiting == 0


@pytest.mark.parametrize(
    ("scope", "subject", "concerned"),
    [
        ("global", "*", True),
        ("customer", "acme", True),
        ("customer", "beta", False),
        ("customer,user", "acme,ada", True),
        ("customer,user", "acme,bob", False),
        ("tag", "nightly", True),
        ("tag", "night", False),
        ("route,model", "chat,gpt-4o", True),
        ("key", "key_2", False),
    ],
)
async def test_only_ends_under_the_same_budget_count(
    scope: str, subject: str, concerned: bool
) -> None:
    """An attempt that ended wakes those whose budget counts it, as far as its request says so."""
    room = WaitingRoom(Clock(), 60)
    waiting = asyncio.create_task(room.freed(refusal("b", scope, subject), None, 1e12))
    await asyncio.sleep(0)

    room.given_back(START)
    await asyncio.sleep(0.01)

    assert waiting.done() is concerned
    waiting.cancel()


async def test_a_deadline_ends_the_wait() -> None:
    """A request waits no longer than it may take."""
    room, clock = WaitingRoom(Clock(), 60), Clock()
    place = await room.freed(refusal(), None, clock.monotonic() + 0.05)

    assert place is not None
    assert await room.freed(refusal(), place, clock.monotonic()) is None


async def test_with_grace_there_is_more_room() -> None:
    """What a budget allows beyond its limit counts as room."""
    tight = Refusal("b", "customer", "acme", 100, 70, 20, 50, 0)
    room = WaitingRoom(Clock(), 60)

    assert await room.freed(tight, None, 1e12) is None
    waiting = asyncio.create_task(
        room.freed(Refusal("b", "customer", "acme", 100, 70, 20, 50, 0, grace_nano=20), None, 1e12)
    )
    await asyncio.sleep(0)
    assert room.waiting == 1
    waiting.cancel()
