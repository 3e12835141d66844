"""Impossible usage, and what is charged instead."""

from __future__ import annotations

import pytest

from spanledger.pricing.reported import from_anthropic, from_openai
from spanledger.pricing.usage import Usage
from spanledger.routing.settle import Produced
from spanledger.wires.base import Frame

TEXT = Frame(data=b"data: x\n\n", content=True, output_bytes=400)
COUNTED = Frame(data=b"data: u\n\n", usage=Usage(input_tokens=10, output_tokens=7))
NO_OUTPUT = Frame(data=b"data: u\n\n", usage=Usage(input_tokens=10))


@pytest.mark.parametrize(
    ("frames", "uncounted"),
    [
        ((TEXT, COUNTED), 0),
        ((COUNTED, TEXT), 100),
        ((TEXT, COUNTED, TEXT, TEXT), 200),
        ((TEXT, COUNTED, TEXT, COUNTED), 0),
        ((TEXT, NO_OUTPUT), 100),
        ((NO_OUTPUT,), 0),
        ((TEXT,), 100),
    ],
)
def test_output_after_the_last_count_is_charged(frames: tuple[Frame, ...], uncounted: int) -> None:
    """We count output that the provider's usage cannot include."""
    produced = Produced()
    for frame in frames:
        produced.note(frame, lambda: 1)

    assert produced.uncounted_tokens == uncounted


def test_usage_of_nothing_is_no_usage() -> None:
    """Zeros instead of counts do not make a request free."""
    assert from_openai({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}) is None
    assert from_anthropic({"input_tokens": 0, "output_tokens": 0}) is None
