"""The charge for an attempt whose answer nobody saw: bounded, and never close to nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from spanledger.ledger.model import AttemptEnd, Reservation
from spanledger.pricing.usage import Usage
from spanledger.routing.history import REMEMBERED, OutputHistory
from spanledger.routing.hold import EXPECTED_TOKENS, WINDOW_MARGIN_TOKENS
from spanledger.wires.base import Frame
from tests.service.routing.rig import (
    FINISH,
    REPORT,
    ROLE,
    Site,
    Step,
    StrictLedger,
    content,
    fails,
    until,
)

ONE = {"a": ["a1"]}
PROMPT = 6
"""Estimated tokens of the rig's prompt."""
LOST = fails("timeout", billed="unknown")
EARLY = Frame(b"data: start\n\n", usage=Usage(100, 1, cache_read_input_tokens=90))


def answers(*tokens: int) -> list[Step]:
    """Answers of these lengths."""
    return [Step(usage=Usage(10, count)) for count in tokens]


async def lost(site: Site, **fields: Any) -> AttemptEnd:
    """The end of an attempt that was sent and not answered."""
    await site.ask(site.exchange(**fields))
    return site.last


def within(hold: Callable[[Reservation], int]) -> StrictLedger:
    """A ledger that holds this much."""
    return StrictLedger(hold)


async def test_who_hangs_up_on_every_call_pays_for_answers_as_long_as_the_others() -> None:
    """A caller that leaves before an answer is charged as much as answers of the route have."""
    site = Site(ONE, {"a1": [*answers(100, 300), Step(hangs=True)]})
    for _ in range(2):
        await site.ask()
    task = asyncio.create_task(site.router.complete(site.exchange()))
    await until(lambda: len(site.provider.calls) == 3)

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    end = site.last
    assert (end.input_tokens, end.output_tokens, end.estimated) == (PROMPT, 200, True)
    assert end.cost_nano == PROMPT * 1_000 + 200 * 2_000
    assert end.error_type == "cancelled"


async def test_a_route_without_history_has_a_guess() -> None:
    """After a restart a lost answer is neither free nor as long as the model allows."""
    end = await lost(Site(ONE, {"a1": [LOST]}, num_retries=0))

    assert (end.input_tokens, end.output_tokens, end.estimated) == (PROMPT, EXPECTED_TOKENS, True)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, 200),
        ({"n": 3}, 600),
        ({"max_tokens": 50}, 50),
        ({"max_tokens": 50, "n": 3}, 150),
        ({"max_completion_tokens": 70}, 70),
        ({"max_tokens": 4_000}, 200),
    ],
    ids=str,
)
async def test_a_lost_answer_is_within_its_callers_cap(
    fields: dict[str, Any], expected: int
) -> None:
    """Each choice counts with the route's mean, but never above what the caller allowed."""
    site = Site(ONE, {"a1": [*answers(100, 300), LOST]}, num_retries=0)
    for _ in range(2):
        await site.ask()

    assert (await lost(site, **fields)).output_tokens == expected


HOLDS: dict[str, Callable[[Reservation], int]] = {
    "full": lambda r: r.sizes.full,
    "usual": lambda r: r.sizes.usual,
    "least": lambda r: r.sizes.least,
    "between": lambda r: (r.sizes.least + r.sizes.usual) // 2,
}


@pytest.mark.parametrize("hold", HOLDS.values(), ids=HOLDS)
@pytest.mark.parametrize("fields", [{}, {"n": 4}, {"max_tokens": 30}], ids=str)
async def test_a_lost_answer_is_within_its_hold(
    hold: Callable[[Reservation], int], fields: dict[str, Any]
) -> None:
    """Output that a provider was not allowed to generate is not charged: an estimate never
    overruns."""
    site = Site(ONE, {"a1": [*answers(5_000), LOST]}, ledger=within(hold), num_retries=0)
    await site.ask()

    end = await lost(site, **fields)

    (_, held) = site.ledger.held[end.attempt_id]
    assert 0 < (end.cost_nano or 0) <= held
    cap = site.provider.calls[-1].max_output_tokens
    if cap is not None:
        assert end.output_tokens <= cap * fields.get("n", 1)


async def test_a_long_prompt_that_got_lost_is_within_its_hold() -> None:
    """The hold is for the model's window at most, and the estimate of the prompt is no larger."""
    site = Site({"a": ["gpt-4o-mini"]}, {"gpt-4o-mini": [LOST]}, num_retries=0)

    end = await lost(site, messages=[{"role": "user", "content": "x" * 4_000_000}])

    (_, held) = site.ledger.held[end.attempt_id]
    assert end.input_tokens == 128_000 + WINDOW_MARGIN_TOKENS
    assert 0 < (end.cost_nano or 0) <= held


async def test_a_provider_that_times_out_again_and_again_costs_little_of_its_holds() -> None:
    """Each retry is charged as a usual answer, not as the longest possible one."""
    site = Site(
        ONE, {"a1": [*answers(100), LOST]}, num_retries=4, allowed_fails=100, retry_after=0.1
    )
    await site.ask()
    before = set(site.ledger.held)

    await site.ask()

    attempts = [unique for unique in site.ledger.held if unique not in before]
    assert len(attempts) == 5
    spent = sum(site.ledger.ended[unique].cost_nano or 0 for unique in attempts)
    assert spent == 5 * (PROMPT * 1_000 + 100 * 2_000)
    assert spent * 50 < sum(site.ledger.held[unique][1] for unique in attempts)


async def test_what_was_not_sent_is_free() -> None:
    """A provider that could not be reached bills nothing, however often it is tried."""
    script = [*answers(100), fails("connection_error")]
    site = Site(ONE, {"a1": script}, allowed_fails=100, num_retries=2)
    await site.ask()
    await site.ask()

    assert [end.cost_nano for end in list(site.ledger.ended.values())[1:]] == [None] * 3


async def test_a_lost_embedding_is_its_input() -> None:
    """Embeddings have no output."""
    site = Site(ONE, {"a1": [LOST]}, num_retries=0)
    await site.ask(site.exchange(operation="embeddings", input="Hello there"))

    assert (site.last.input_tokens, site.last.output_tokens) == (3, 0)


async def test_a_lost_answer_without_a_price_has_tokens() -> None:
    """It is booked at no cost, and marked; its tokens are an estimate like any other."""
    no_price = {"input_cost_per_token": None, "output_cost_per_token": None}
    site = Site({"a": [("nobody-knows-it", no_price)]}, {"nobody-knows-it": [LOST]}, num_retries=0)

    end = await lost(site, max_tokens=20)

    assert (end.cost_nano, end.unpriced, end.output_tokens) == (0, True, 20)


@pytest.mark.parametrize(
    ("frames", "billed", "estimated"),
    [
        pytest.param((), (PROMPT, 200), True, id="nothing came"),
        pytest.param((ROLE,), (PROMPT, 200), True, id="no content"),
        pytest.param((EARLY,), (100, 200), True, id="an early report"),
        pytest.param((ROLE, content("abcdefgh")), (PROMPT, 2), True, id="content"),
        pytest.param((EARLY, content("abcdefgh")), (100, 2), True, id="a report, then content"),
        pytest.param((ROLE, FINISH, REPORT), (10, 5), False, id="an answer without content"),
        pytest.param((ROLE, FINISH), (PROMPT, 0), True, id="an empty answer, not reported"),
    ],
)
@pytest.mark.parametrize("leaves", [False, True], ids=["breaks", "caller leaves"])
async def test_a_stream_is_charged_what_came_once_content_did(
    frames: tuple[Frame, ...], billed: tuple[int, int], *, estimated: bool, leaves: bool
) -> None:
    """Before its first content a model may think for long; nobody knows the cost of that."""
    step = Step(frames=frames, hangs=True) if leaves else Step(LOST.error, frames)
    site = Site(ONE, {"a1": [*answers(100, 300), step]}, num_retries=0)
    for _ in range(2):
        await site.ask()
    task = asyncio.create_task(site.read(site.exchange(stream=True)))
    if leaves:
        await until(lambda: len(site.provider.calls) == 3)
        for _ in range(20):
            await asyncio.sleep(0)
        task.cancel()
    await asyncio.wait([task])

    end = site.last
    assert (end.input_tokens, end.output_tokens) == billed
    assert end.estimated is estimated
    assert end.error_type == ("cancelled" if leaves else "timeout")


def test_the_mean_is_that_of_the_last_answers() -> None:
    """Old answers are forgotten; a fraction of a token counts as a token."""
    history = OutputHistory()
    assert history.mean() is None
    history.record(10_000)
    for _ in range(REMEMBERED - 1):
        history.record(10)
    history.record(11)

    assert history.mean() == 11
    assert history.p99() is not None


SOUND = {"type": "input_audio", "input_audio": {"data": "A" * 51_200, "format": "mp3"}}
FILE = {"type": "file", "file": {"file_data": "A" * 40_000}}
SPOKEN = {
    "input_cost_per_audio_token": "0.00001",
    "output_cost_per_audio_token": "0.00002",
    "input_cost_per_token_priority": "0.000003",
    "output_cost_per_token_priority": "0.000006",
}
"""Audio at ten times the price of text, and a service tier at three times."""


@pytest.mark.parametrize(("part", "tokens"), [(SOUND, 100), (FILE, 10_000)], ids=["sound", "file"])
async def test_a_lost_answer_to_a_file_pays_for_the_file(part: dict[str, Any], tokens: int) -> None:
    """Hanging up does not make a request free, whatever it was."""
    site = Site({"a": [("a1", SPOKEN)]}, {"a1": [LOST]}, num_retries=0)

    end = await lost(site, messages=[{"role": "user", "content": [part]}], max_tokens=10)

    (_, held) = site.ledger.held[end.attempt_id]
    price = 10_000 if part is SOUND else 1_000
    assert end.input_tokens == 3 + tokens
    assert end.cost_nano == 3 * 1_000 + tokens * price + 10 * 2_000 <= held


@pytest.mark.parametrize(
    "fields",
    [
        {"service_tier": "priority"},
        {"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"}},
        {"prediction": {"type": "content", "content": "x" * 500}},
        {"messages": [{"role": "user", "content": [SOUND, FILE]}], "service_tier": "priority"},
    ],
    ids=str,
)
@pytest.mark.parametrize("hold", HOLDS.values(), ids=HOLDS)
async def test_a_dear_lost_answer_is_within_its_hold(
    hold: Callable[[Reservation], int], fields: dict[str, Any]
) -> None:
    """The estimate uses the same terms as the hold: a higher-priced request is charged at its
    price."""
    site = Site({"a": [("a1", SPOKEN)]}, {"a1": [LOST]}, ledger=within(hold), num_retries=0)

    end = await lost(site, **fields)

    (_, held) = site.ledger.held[end.attempt_id]
    plain = end.input_tokens * 1_000 + end.output_tokens * 2_000
    assert end.cost_nano is not None
    assert plain <= end.cost_nano <= held
    assert (end.cost_nano == plain) is ("prediction" in fields)


async def test_input_counted_by_the_provider_is_charged_to_the_token() -> None:
    """A stream that breaks after its first event has exact input, and estimated output."""
    read = Usage(500, cache_read_input_tokens=400)
    begun = Frame(b"data: start\n\n", input_usage=read)
    broken = Step(
        frames=(begun, content("x" * 40)), error=fails("stream_interrupted", billed="unknown").error
    )
    cached = {"cache_read_input_token_cost": "0.0000001"}
    site = Site({"a": [("a1", cached)]}, {"a1": [broken]})

    await site.read(site.exchange(stream=True))

    end = site.last
    assert (end.input_tokens, end.cache_read_tokens, end.output_tokens) == (500, 400, 10)
    assert end.cost_nano == 100 * 1_000 + 400 * 100 + 10 * 2_000
    assert end.estimated


async def test_speech_that_came_is_charged_as_speech() -> None:
    """Output of a broken stream is charged at the price of audio, at 50 ms per token."""
    spoken = Frame(b"data: sound\n\n", content=True, speech_bytes=32_000)
    broken = Step(frames=(ROLE, spoken), error=fails("timeout", billed="unknown").error)
    site = Site({"a": [("a1", SPOKEN)]}, {"a1": [broken]})

    await site.read(site.exchange(stream=True, modalities=["audio", "text"], audio={}))

    end = site.last
    assert end.output_tokens == 10
    assert end.cost_nano == PROMPT * 1_000 + 10 * 20_000
