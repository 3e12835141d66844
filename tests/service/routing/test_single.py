"""Attempts of uploads and batches, whenever their caller leaves."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from spanledger.clock import Clock
from spanledger.config import PricingSettings
from spanledger.ledger.model import Kept, Later, RequestStart
from spanledger.ledger.ports import Ledger
from spanledger.pricing.charges import Charges
from spanledger.routing.booking import Booking
from spanledger.routing.charging import Charging
from spanledger.routing.request import Exchange
from spanledger.routing.room import WaitingRoom
from spanledger.routing.single import SingleAttempts
from spanledger.wires import CHAT
from tests.service.providers.scripted import deployment
from tests.service.routing.rig import StrictLedger, until

START = RequestStart(
    request_id="req_1",
    trace_id="1" * 32,
    span_id="1" * 16,
    parent_span_id="",
    started_ns=1,
    customer="acme",
    team="",
    key_id="",
    route="route",
    operation="files",
    stream=False,
)


@pytest.mark.parametrize("end", ["free", "put_off"])
@pytest.mark.parametrize("gated", [2, 3])
async def test_a_caller_that_leaves_at_the_end(end: str, gated: int) -> None:
    """What a provider has by then is kept for the customer, and the request ends, even if the caller
    leaves during the last writes."""
    ledger = StrictLedger(gated=gated)
    booking = Booking(cast("Ledger", ledger), Clock(), WaitingRoom(Clock(), 0))
    single = SingleAttempts(
        cast("Ledger", ledger), booking, Clock(), Charging(Charges(PricingSettings())), 402
    )
    target = deployment("http://localhost")
    body = b'{"model": "m", "messages": [{"role": "user", "content": "x"}]}'
    exchange = Exchange(START, CHAT.read(body), Clock().monotonic() + 30, "")
    kept = Kept("req_1", "file", "acme", "", target.id, "file-1", created_ns=1, about="{}")
    await single.hold(exchange, target, 5)

    if end == "free":
        work = asyncio.ensure_future(single.free(exchange, target, ("file-1", "req_1"), kept))
    else:
        work = asyncio.ensure_future(single.put_off(exchange, kept, Later(9, 5)))
    await until(lambda: ledger.writes == gated or work.done())
    work.cancel()
    ledger.gate.set()
    await asyncio.wait([work])
    await booking.drain()

    assert ledger.requests["req_1"].outcome == "ok"
    assert ledger.kept == [kept]
