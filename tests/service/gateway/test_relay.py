"""In which order a stream's last events are sent."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from spanledger.gateway.streaming import relay
from spanledger.ledger.model import RequestStart
from spanledger.routing.request import Exchange
from spanledger.wires import RESPONSES
from spanledger.wires.base import Ask, Frame


async def test_the_event_that_lets_callers_leave_is_sent_once_all_is_booked() -> None:
    """The request is booked where the frames end, and only then its caller gets the last one."""
    start = RequestStart("req_1", "t", "s", "", 1, "c", "", "k", "r", "responses", stream=True)
    booked: list[bool] = []
    sent: list[tuple[bytes, bool]] = []

    async def frames() -> AsyncGenerator[Frame]:
        yield Frame(b"first")
        yield Frame(b"last", closes=True)
        booked.append(True)

    async def send(message: Any) -> None:
        if "body" in message:
            sent.append((message["body"], bool(booked)))

    await relay(frames(), Exchange(start, Ask(RESPONSES), 0.0), send, list)

    assert sent[0] == (b"first", False)
    (_, (end, was_booked)) = sent
    assert end.startswith(b": spanledger cost_usd=")
    assert end.endswith(b"last")
    assert was_booked
