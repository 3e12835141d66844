"""The attempt loop with streams: when another deployment can take over, and what a broken one
costs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from spanledger.errors import ProviderError
from spanledger.pricing.usage import Usage
from spanledger.routing.hold import EXPECTED_TOKENS
from spanledger.routing.settle import MAX_CAPTURED_BYTES, Produced
from spanledger.wires.base import Frame
from tests.service.routing.rig import (
    FINISH,
    REPORT,
    ROLE,
    Attempted,
    Site,
    Step,
    StrictLedger,
    content,
    fails,
    until,
)

CHAIN = {"a": ["a1"], "b": ["b1"]}
A_TO_B: dict[str, Any] = {"fallbacks": [{"a": ["b"]}], "num_retries": 0}
GOOD = Step(frames=(ROLE, content("Hell"), content("o"), FINISH, REPORT))
ALL = [b"data: role\n\n", b"data: Hell\n\n", b"data: o\n\n", b"data: finish\n\n"]
PROMPT = 6
"""Estimated tokens of the rig's prompt."""


def breaks(*frames: Frame, kind: str = "stream_interrupted", billed: str = "unknown") -> Step:
    """A stream that ends with an error."""
    return Step(frames=frames, error=ProviderError(kind, "scripted", billed=billed))


async def test_a_stream_is_relayed_and_settled() -> None:
    """Events pass unchanged, the usage chunk stays inside, and usage, chunks and times are booked
    at the end."""
    site = Site(CHAIN, {"a1": [GOOD]})
    exchange = site.exchange(stream=True)

    events, error = await site.read(exchange)

    assert (events, error) == (ALL, None)
    end = site.last
    assert (end.input_tokens, end.output_tokens, end.estimated) == (10, 5, False)
    assert (end.cost_nano, end.chunks, end.response_model) == (20_000, 2, "m-1")
    assert end.first_chunk_ns == site.time.now_ns()
    assert '"gen_ai.response.finish_reasons":["stop"]' in end.detail
    assert exchange.cost_nano == 20_000
    assert site.outcome == ("ok", "", 200)


async def test_the_usage_chunk_reaches_those_who_asked() -> None:
    """The caller's `stream_options.include_usage` shows it."""
    site = Site(CHAIN, {"a1": [GOOD]})

    events, _ = await site.read(site.exchange(stream=True, include_usage=True))

    assert events == [*ALL, REPORT.data]


async def test_an_answer_without_content_is_an_answer() -> None:
    """Events buffered before the first content are relayed at the end."""
    site = Site(CHAIN, {"a1": [Step(frames=(ROLE, FINISH, REPORT))]})

    events, error = await site.read(site.exchange(stream=True))

    assert (events, error) == ([ROLE.data, FINISH.data], None)
    assert (site.last.chunks, site.last.first_chunk_ns) == (0, 0)


async def test_events_are_not_held_back_without_end() -> None:
    """After some events without content they are relayed, and no other deployment is tried."""
    site = Site(CHAIN, {"a1": [breaks(*[ROLE] * 40)]}, **A_TO_B)

    events, error = await site.read(site.exchange(stream=True))

    assert len(events) == 40
    assert isinstance(error, ProviderError)
    assert site.attempted == [Attempted("a1", "stream_interrupted")]


@dataclass(frozen=True)
class Case:
    """A stream that breaks.

    Attributes:
        billed: input and output tokens of its attempt; None = released.
    """

    name: str
    first: Step
    billed: tuple[int, int] | None
    replayed: bool


@pytest.mark.parametrize(
    "case",
    [
        Case("refused", fails("overloaded", status=529), None, replayed=True),
        Case("cut before anything", breaks(), (PROMPT, EXPECTED_TOKENS), replayed=True),
        Case("cut before content", breaks(ROLE), (PROMPT, EXPECTED_TOKENS), replayed=True),
        Case("late", breaks(ROLE, kind="timeout"), (PROMPT, EXPECTED_TOKENS), replayed=True),
        Case(
            "malformed",
            breaks(ROLE, kind="malformed_response"),
            (PROMPT, EXPECTED_TOKENS),
            replayed=True,
        ),
        Case("cut after content", breaks(ROLE, content("abcdefgh")), (PROMPT, 2), replayed=False),
        Case(
            "cut after content, said to be free",
            breaks(ROLE, content("a"), content("b"), billed="no"),
            (PROMPT, 2),
            replayed=False,
        ),
        Case(
            "cut after an early report",
            breaks(
                Frame(b"data: start\n\n", usage=Usage(100, 1, cache_read_input_tokens=90)),
                content("a"),
                content("b"),
                content("c"),
            ),
            (100, 3),
            replayed=False,
        ),
    ],
    ids=lambda case: case.name,
)
async def test_a_stream_is_served_elsewhere_until_it_had_content(case: Case) -> None:
    """Before content the fallback serves as if nothing had happened; after it nothing is
    replayed."""
    site = Site(CHAIN, {"a1": [case.first], "b1": [GOOD]}, **A_TO_B)

    events, error = await site.read(site.exchange(stream=True))

    first = next(iter(site.ledger.ended.values()))
    if case.billed is None:
        assert first.cost_nano is None
    else:
        assert (first.input_tokens, first.output_tokens) == case.billed
        assert first.estimated
        assert first.cost_nano is not None
    if case.replayed:
        assert (events, error) == (ALL, None)
        assert site.attempted[1] == Attempted("b1", "", "a", first.error_type)
        assert site.outcome == ("ok", "", 200)
    else:
        assert events == [frame.data for frame in case.first.frames]
        assert error is case.first.error
        assert len(site.attempted) == 1
        assert site.outcome[0] == "error"


@pytest.mark.parametrize(
    ("usage", "billed", "estimated"),
    [
        (None, (PROMPT, 3), True),
        (Usage(50, 40), (50, 40), False),
        (Usage(10**12, 5), (PROMPT, 3), True),
    ],
    ids=["missing", "reported", "absurd"],
)
async def test_usage_of_a_stream_is_taken_or_counted(
    usage: Usage | None, billed: tuple[int, int], estimated: bool
) -> None:
    """A stream without usage, or with impossible usage, is charged by its chunks."""
    report = Frame(b"data: usage\n\n", usage_only=True, usage=usage)
    chunks = (content("a"), content("b"), content("c"))
    site = Site(CHAIN, {"a1": [Step(frames=(ROLE, *chunks, FINISH, report))]})

    await site.read(site.exchange(stream=True))

    end = site.last
    assert ((end.input_tokens, end.output_tokens), end.estimated) == (billed, estimated)


@pytest.mark.parametrize("taken", [1, 2, 5])
@pytest.mark.parametrize("how", ["close", "cancel"])
async def test_a_caller_that_leaves_pays_for_what_was_produced(taken: int, how: str) -> None:
    """After chunk k, k tokens and the prompt are settled, and the call to the provider is
    cancelled."""
    chunks = [content("abc") for _ in range(taken)]
    tail = [content("abc")] * 3 if how == "close" else []
    site = Site(CHAIN, {"a1": [Step(frames=(ROLE, *chunks, *tail), hangs=True)]})
    stream = site.router.stream(site.exchange(stream=True))
    seen: list[bytes] = []

    async def read() -> None:
        async for frame in stream:
            seen.append(frame.data)
            if how == "close" and len(seen) == taken + 1:
                return

    task = asyncio.create_task(read())
    await until(lambda: len(seen) > taken)
    if how == "cancel":
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    else:
        await task
        await stream.aclose()

    end = site.last
    assert (end.input_tokens, end.output_tokens, end.chunks) == (PROMPT, taken, taken)
    assert (end.estimated, end.error_type) == (True, "cancelled")
    assert site.outcome == ("cancelled", "cancelled", 499)
    assert site.provider.closed == ["a1"]
    assert site.ledger.held.keys() == site.ledger.ended.keys()


async def test_usage_reported_before_the_caller_left_counts() -> None:
    """A caller that leaves after the usage chunk pays what the provider reported."""
    site = Site(CHAIN, {"a1": [Step(frames=(ROLE, content(), FINISH, REPORT), hangs=True)]})
    stream = site.router.stream(site.exchange(stream=True, include_usage=True))
    async for frame in stream:
        if frame.usage is not None:
            break

    await stream.aclose()

    assert (site.last.cost_nano, site.last.estimated) == (20_000, False)


async def test_a_caller_that_insists_on_leaving_is_settled_all_the_same() -> None:
    """Cancelled again and again while the ledger writes, the attempt is settled by `close`."""
    ledger = StrictLedger(gated=1)
    site = Site(CHAIN, {"a1": [Step(frames=(ROLE, content()), hangs=True)]}, ledger=ledger)
    seen: list[Frame] = []

    async def read() -> None:
        seen.extend([frame async for frame in site.router.stream(site.exchange(stream=True))])

    task = asyncio.create_task(read())
    for _ in range(50):
        await asyncio.sleep(0)
    for _ in range(5):
        task.cancel()
        await asyncio.sleep(0)
    ledger.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    await site.router.close()

    assert (site.last.output_tokens, site.last.error_type) == (1, "cancelled")


async def test_a_stream_ends_with_the_deadline() -> None:
    """An endless stream is aborted and charged when the request's deadline passes."""

    async def drip(events: Sequence[Frame]) -> None:
        for _ in events:
            site.time.now += 1.0

    frames = tuple(content("abcd") for _ in range(100))
    site = Site(CHAIN, {"a1": [Step(frames=frames)]}, **A_TO_B)
    seen = []
    error: ProviderError | None = None
    try:
        async for frame in site.router.stream(site.exchange(stream=True, deadline_s=9.5)):
            seen.append(frame)
            await drip([frame])
    except ProviderError as raised:
        error = raised

    assert len(seen) == 10
    assert error is not None
    assert error.kind == "timeout"
    assert site.provider.closed == ["a1"]
    assert (site.last.output_tokens, site.last.estimated) == (11, True)
    assert site.outcome == ("error", "timeout", 504)


async def test_relayed_events_are_captured_where_configured() -> None:
    """The answer's text is joined from the events, up to a limit."""
    chunk = b'data: {"choices":[{"index":0,"delta":{"content":"Hi"}}]}\n\n'
    frame = Frame(chunk, content=True, output_bytes=2)
    site = Site(CHAIN, {"a1": [Step(frames=(frame, frame))]}, content="full")

    await site.read(site.exchange(stream=True))

    assert '"content":"HiHi"' in (site.last.content or "")


def test_captured_events_are_bounded() -> None:
    """A stream larger than the limit is kept in part."""
    produced = Produced()
    for _ in range(40):
        produced.keep(b"x" * (MAX_CAPTURED_BYTES // 32))

    assert sum(map(len, produced.events)) == MAX_CAPTURED_BYTES
