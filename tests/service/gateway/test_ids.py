"""A caller's trace is taken over where the W3C's header allows it."""

from __future__ import annotations

import pytest

from spanledger.gateway.ids import parent_of

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.mark.parametrize(
    ("header", "taken"),
    [
        (f"00-{TRACE}-{SPAN}-01", True),
        (f"cc-{TRACE}-{SPAN}-01-what-the-future-will-bring", True),
        (f"00-{TRACE}-{SPAN}-01-extra", False),
        (f"ff-{TRACE}-{SPAN}-01", False),
        (f"00-{TRACE.upper()}-{SPAN}-01", False),
        (f"00-{'0' * 32}-{SPAN}-01", False),
        (f"00-{TRACE}-{'0' * 16}-01", False),
        (f"00-{TRACE}-{SPAN}-1", False),
        (f"00-{TRACE}-{SPAN}-01\n", False),
        ("", False),
    ],
)
def test_traceparent(header: str, taken: bool) -> None:
    """Only what the W3C allows is taken over."""
    assert parent_of(header.encode()) == ((TRACE, SPAN) if taken else ("", ""))


@pytest.mark.parametrize(
    ("flags", "parent"),
    [("00", f"{SPAN}-00"), ("02", f"{SPAN}-00"), ("03", SPAN), ("ff", SPAN)],
)
def test_a_caller_that_does_not_sample_is_remembered(flags: str, parent: str) -> None:
    """The sampled bit alone decides, whatever other flags there are."""
    assert parent_of(f"00-{TRACE}-{SPAN}-{flags}".encode()) == (TRACE, parent)
