"""Whatever deployments, budgets and callers do, every hold and every request ends exactly once."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from spanledger.errors import (
    PROVIDER_ERROR_KINDS,
    LedgerUnavailableError,
    ProviderError,
    SpanledgerError,
    UnpricedModelError,
)
from spanledger.ledger.model import Reservation
from spanledger.pricing.usage import Usage
from spanledger.routing.attempt import MAX_ATTEMPTS
from spanledger.routing.strategy import STRATEGIES
from spanledger.wires.base import Frame
from tests.service.routing.rig import FINISH, REPORT, ROLE, Site, Step, StrictLedger, no_room

ROUTES: dict[str, Any] = {
    "a": ["a1", "a2"],
    "b": [("b1", {"order": 1}), ("b2", {"rpm": 3, "tpm": 9_000})],
    "c": ["c1"],
}
DEPLOYMENTS = ("a1", "a2", "b1", "b2", "c1")
MAX_TURNS = 400

errors = st.builds(
    lambda kind, wait, billed: ProviderError(kind, "x", retry_after_s=wait, billed=billed),
    st.sampled_from(PROVIDER_ERROR_KINDS[:-2]),
    st.sampled_from([None, None, 0.0, 1.0, 9.0, 40.0, float("nan"), -1.0]),
    st.sampled_from(["no", "unknown"]),
)
steps = st.builds(
    Step,
    error=st.one_of(st.none(), errors, errors),
    frames=st.sampled_from(
        [(), (ROLE,), (ROLE, "x", FINISH, REPORT), (ROLE, "x", "x"), (ROLE,) * 20, ("x", REPORT)]
    ),
    hangs=st.sampled_from([False] * 9 + [True]),
    takes_s=st.sampled_from([0.0, 0.0, 0.1, 20.0]),
    usage=st.sampled_from([None, Usage(5, 3), Usage(-1, 10**15)]),
)


@dataclass(frozen=True)
class Ask:
    """One request: how it is sent, and after how many turns of the loop its caller leaves."""

    stream: bool
    leaves_after: int | None
    insists: bool
    closes: bool
    deadline_s: float
    fields: dict[str, Any]


asks = st.builds(
    Ask,
    stream=st.booleans(),
    leaves_after=st.one_of(st.none(), st.integers(0, 60)),
    insists=st.booleans(),
    closes=st.booleans(),
    deadline_s=st.sampled_from([0.05, 15.0, 600.0]),
    fields=st.sampled_from([{}, {"max_tokens": 30}, {"n": 2}]),
)


def named(steps_of: dict[str, list[Step]]) -> dict[str, list[Step]]:
    """The scripts, with content that identifies its deployment and attempt."""
    found: dict[str, list[Step]] = {}
    for unique, script in steps_of.items():
        found[unique] = []
        for index, step in enumerate(script):
            frames = tuple(
                frame
                if isinstance(frame, Frame)
                else Frame(f"{unique}/{index}".encode(), content=True, output_bytes=3)
                for frame in step.frames
            )
            found[unique].append(Step(step.error, frames, step.hangs, step.takes_s, step.usage))
    return found


async def ask(site: Site, wanted: Ask) -> tuple[str, list[bytes]]:
    """Send the request; `ok`, the error's type, or `left`, and the content that arrived."""
    exchange = site.exchange(stream=wanted.stream, deadline_s=wanted.deadline_s, **wanted.fields)
    seen: list[bytes] = []
    stream = site.router.stream(exchange) if wanted.stream else None

    async def run() -> str:
        try:
            if stream is None:
                await site.router.complete(exchange)
            else:
                async for frame in stream:
                    if frame.content:
                        seen.append(frame.data)
                    if wanted.closes and len(seen) == 2:
                        await stream.aclose()
                        return "left"
        except SpanledgerError as error:
            return error.error_type
        return "ok"

    task = asyncio.create_task(run())
    for turn in range(MAX_TURNS):
        await asyncio.sleep(0)
        if task.done():
            break
        if wanted.leaves_after is not None and (
            turn == wanted.leaves_after or (turn > wanted.leaves_after and wanted.insists)
        ):
            task.cancel()
    task.cancel()  # a hanging call has no deadline of its own here: the adapter would have one
    try:
        outcome = await task
    except asyncio.CancelledError:
        outcome = "left"
    assert exchange.attempts <= MAX_ATTEMPTS
    return outcome, seen


async def run_all(
    scripts: dict[str, list[Step]], wanted: list[Ask], seed: int, options: dict[str, Any]
) -> None:
    chance = random.Random(seed)

    def decide(reservation: Reservation) -> int:
        holds = reservation.sizes
        match chance.randrange(8):
            case 0:
                raise no_room(chance.choice(["customer", "model"]))
            case 1:
                raise UnpricedModelError("x")
            case 2:
                return chance.randint(holds.least, holds.usual)
            case 3:
                return holds.usual
            case _:
                if chance.random() < 0.03:
                    raise LedgerUnavailableError("x")
                return holds.full

    ledger = StrictLedger(decide)
    site = Site(
        ROUTES, named(scripts), ledger=ledger, seed=seed,
        fallbacks=[{"a": ["b"]}, {"b": ["c", "a"]}], context_window_fallbacks=[{"a": ["c"]}],
        **options,
    )  # fmt: skip
    results = [await ask(site, one) for one in wanted]
    await site.router.close()

    assert all(state.in_flight == 0 for state in site.router.health.states.values())
    assert ledger.held.keys() == ledger.ended.keys()
    for (request_id, end), (outcome, seen) in zip(
        sorted(ledger.requests.items()), results, strict=True
    ):
        attempts = [u for u in ledger.held if u.startswith(f"{request_id}.")]
        assert attempts == [f"{request_id}.{number}" for number in range(1, len(attempts) + 1)]
        assert len(attempts) <= MAX_ATTEMPTS
        assert len(set(seen)) <= 1, "content of two attempts in one stream"
        if outcome == "ok":
            assert end.outcome == "ok"
        elif outcome != "left":  # a leaving caller may have been served
            assert end.outcome == ("refused" if outcome == "budget_exceeded" else "error")
    check_holds(site)


def check_holds(site: Site) -> None:
    """A hold below the full one was sent with a cap that it can pay for."""
    calls = [c for c in site.provider.calls if c.max_output_tokens is not None]
    assert all((c.max_output_tokens or 0) >= 1 for c in calls)
    for unique, (reservation, hold) in site.ledger.held.items():
        end = site.ledger.ended[unique]
        assert (end.cost_nano is None) or end.cost_nano >= 0
        if end.estimated and not end.chunks and end.error_type:  # nobody saw the output
            assert (end.cost_nano or 0) <= hold, "an estimate that overruns its hold"
        if hold < reservation.sizes.full and end.error_type != "cancelled":
            assert "gen_ai.request.max_tokens" in end.detail


@settings(max_examples=150)
@given(
    st.fixed_dictionaries(
        {unique: st.lists(steps, min_size=1, max_size=4) for unique in DEPLOYMENTS}
    ),
    st.lists(asks, min_size=1, max_size=5),
    st.integers(0, 10**6),
    st.fixed_dictionaries(
        {
            "num_retries": st.one_of(st.none(), st.integers(0, 20)),
            "allowed_fails": st.integers(0, 4),
            "cooldown_time": st.sampled_from([0, 5]),
            "retry_after": st.sampled_from([0, 1]),
            "routing_strategy": st.sampled_from(STRATEGIES),
            "retry_policy": st.sampled_from([None, {"ContentPolicyViolationErrorRetries": 2}]),
            "content_policy_fallbacks": st.sampled_from([[], [{"a": ["c"]}]]),
        }
    ),
)
def test_every_hold_and_every_request_ends_once(
    scripts: dict[str, list[Step]], wanted: list[Ask], seed: int, options: dict[str, Any]
) -> None:
    """Random faults, refusals, waits and callers that leave at any moment leave nothing open, and
    no stream ever mixes two attempts."""
    asyncio.run(run_all(scripts, wanted, seed, options))
