"""Estimates: what they add to reported usage, and what they never exceed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spanledger.ledger.model import AttemptEnd
from spanledger.pricing.usage import PROMPT_MISSING, TOTAL_ALONE, Usage
from spanledger.wires.base import Frame
from tests.service.routing.rig import FINISH, ROLE, Site, Step, StrictLedger, content, fails

ONE = {"a": ["a1"]}
PROMPT = 6
"""Estimated tokens of the rig's prompt."""
BROKEN = fails("stream_interrupted", billed="unknown").error
FLOOD = tuple(content("=" * 64) for _ in range(100))
"""1,600 tokens by our count."""


async def streamed(step: Step, ledger: StrictLedger | None = None, **fields: Any) -> AttemptEnd:
    """The end of a streamed attempt."""
    site = Site(ONE, {"a1": [step]}, ledger=ledger, num_retries=0)
    await site.read(site.exchange(stream=True, **fields))
    return site.last


def usage(told: Usage) -> Frame:
    """A chunk with usage."""
    return Frame(data=b"data: u\n\n", usage_only=True, usage=told)


@pytest.mark.parametrize("error", [None, BROKEN], ids=["ended", "broken"])
@pytest.mark.parametrize(
    ("fields", "output"),
    [
        ({}, 1_600),
        ({"max_tokens": 1_000}, 1_000),
        ({"max_completion_tokens": 1_000}, 1_000),
        ({"max_tokens": 500, "n": 2}, 1_000),
        ({"max_tokens": 10_000}, 1_600),
    ],
)
async def test_counted_output_keeps_to_the_cap(
    error: Any, fields: dict[str, Any], output: int
) -> None:
    """Our token count never exceeds what the caller allowed, over all choices."""
    end = await streamed(Step(frames=(ROLE, *FLOOD, FINISH), error=error), **fields)

    assert (end.input_tokens, end.output_tokens, end.estimated) == (PROMPT, output, True)


@pytest.mark.parametrize("error", [None, BROKEN], ids=["ended", "broken"])
async def test_a_cap_that_a_budget_sent_bounds_the_count_too(error: Any) -> None:
    """A hold smaller than the full one sends a cap, and the estimate costs no more than it."""
    ledger = StrictLedger(lambda reservation: reservation.sizes.usual // 4)
    site = Site(ONE, {"a1": [Step(frames=(ROLE, *FLOOD), error=error)]}, ledger=ledger)

    await site.read(site.exchange(stream=True))

    (_, hold_nano) = next(iter(ledger.held.values()))
    cap = site.provider.calls[0].max_output_tokens
    assert cap is not None
    assert 0 < site.last.output_tokens <= cap < 1_600
    assert site.last.cost_nano is not None
    assert site.last.cost_nano <= hold_nano


async def test_what_a_provider_tells_may_exceed_both() -> None:
    """Reported usage is charged in full: it is an overrun, and not ours to reduce."""
    told = Usage(10, 5_000)
    end = await streamed(
        Step(frames=(ROLE, *FLOOD, FINISH, usage(told))),
        StrictLedger(lambda reservation: min(1_000, reservation.sizes.full)),
        max_tokens=50,
    )

    assert (end.output_tokens, end.estimated) == (5_000, False)
    assert end.cost_nano == 10 * 1_000 + 5_000 * 2_000


@pytest.mark.parametrize("error", [None, BROKEN], ids=["ended", "broken"])
async def test_a_fault_in_counting_leaves_nothing_held(
    error: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The input is then charged as it was held: within the hold, and ended."""

    def faulty(_fields: object) -> Usage:
        raise TypeError("unhashable")

    ledger = StrictLedger()
    site = Site(ONE, {"a1": [Step(frames=(ROLE, *FLOOD, FINISH), error=error)]}, ledger=ledger)
    exchange = site.exchange(stream=True, max_tokens=100)
    monkeypatch.setattr(type(exchange.ask.wire), "estimate", staticmethod(faulty))
    await site.read(exchange)

    (_, hold_nano) = next(iter(ledger.held.values()))
    assert (site.last.output_tokens, site.last.estimated) == (100, True)
    assert site.last.input_tokens > PROMPT
    assert site.last.cost_nano is not None
    assert 0 < site.last.cost_nano <= hold_nano


async def test_what_came_after_the_last_count_keeps_to_the_cap() -> None:
    """A count in mid-stream is kept; what is added to it stays under the cap."""
    frames = (ROLE, *FLOOD[:10], usage(Usage(10, 160)), *FLOOD)
    end = await streamed(Step(frames=frames, error=BROKEN), max_tokens=200)

    assert (end.input_tokens, end.output_tokens, end.estimated) == (10, 200, True)


async def test_a_guess_from_a_total_keeps_to_the_cap() -> None:
    """Of an unexplained total, no more than the cap counts as output."""
    guess = Usage(10, 5_000, ambiguity="total_mismatch", guessed_output_tokens=4_990)
    end = await streamed(Step(frames=(ROLE, FINISH, usage(guess))), max_tokens=50)

    assert (end.input_tokens, end.output_tokens, end.estimated) == (10, 50, True)


@pytest.mark.parametrize(
    ("told", "tokens"),
    [
        (Usage(0, 700, ambiguity=PROMPT_MISSING), (PROMPT, 700)),
        (Usage(0, 1, ambiguity=PROMPT_MISSING), (PROMPT, 100)),
        (Usage(4, 7, ambiguity=PROMPT_MISSING), (4, 7)),
        (
            Usage(0, 500, ambiguity=TOTAL_ALONE, guessed_output_tokens=500),
            (PROMPT, 500 - PROMPT),
        ),
        (Usage(0, 3, ambiguity=TOTAL_ALONE, guessed_output_tokens=3), (PROMPT, 100)),
    ],
)
async def test_what_was_not_counted_is_counted_here(told: Usage, tokens: tuple[int, int]) -> None:
    """A prompt of zero is estimated; the answer is the larger of the reported and our count."""
    end = await streamed(Step(frames=(ROLE, content("=" * 400), FINISH, usage(told))))

    assert ((end.input_tokens, end.output_tokens), end.estimated) == (tokens, True)
    assert f'"spanledger.usage.ambiguity":"{told.ambiguity}"' in end.detail


@pytest.mark.parametrize(
    ("frames", "tokens", "estimated"),
    [
        ((content("=" * 40), usage(Usage(10, 7)), usage(Usage(10, 0))), (10, 7), False),
        ((usage(Usage(10, 1)), content("=" * 40), usage(Usage(10, 7))), (10, 7), False),
        ((content("=" * 40), usage(Usage(10, 7)), usage(Usage(10, 7))), (10, 7), False),
        ((content("=" * 40), usage(Usage(10, 7)), usage(Usage(10, 5))), (10, 7), True),
        # A zero is not a count: we estimate what arrived after the last real one.
        ((usage(Usage(10, 1)), content("=" * 40), usage(Usage(10, 0))), (10, 11), True),
    ],
)
async def test_counts_that_come_more_than_once(
    frames: tuple[Frame, ...], tokens: tuple[int, int], estimated: bool
) -> None:
    """The last count is used, a zero replaces nothing, and a decrease is an estimate."""
    end = await streamed(Step(frames=(ROLE, *frames, FINISH)))

    assert ((end.input_tokens, end.output_tokens), end.estimated) == (tokens, estimated)


counts = st.integers(0, 3_000)
frames = st.lists(
    st.one_of(
        st.builds(lambda size: content("=" * size), st.integers(1, 4_000)),
        st.builds(
            lambda sound: Frame(data=b"data: s\n\n", content=True, speech_bytes=sound),
            st.integers(1, 100_000),
        ),
    ),
    max_size=6,
)


@settings(max_examples=60, deadline=None)
@given(frames, st.none() | st.integers(1, 2_000), st.integers(0, 10**7), st.booleans())
async def test_no_estimate_exceeds_cap_or_hold(
    came: list[Frame], cap: int | None, hold_nano: int, broken: bool
) -> None:
    """Whatever arrived without usage, and whatever was held, our count costs no more than the
    hold."""
    step = Step(frames=(ROLE, *came), error=BROKEN if broken else None)
    fields = {} if cap is None else {"max_tokens": cap}
    ledger = StrictLedger(lambda reservation: min(hold_nano, reservation.sizes.full))
    end = await streamed(step, ledger, **fields)

    (_, held) = next(iter(ledger.held.values()))
    assert end.cost_nano is not None
    assert end.cost_nano <= held
    assert cap is None or end.output_tokens <= cap
