"""What all requests of a router share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from spanledger.clock import Clock
from spanledger.config import GatewaySettings
from spanledger.ledger.ports import Ledger
from spanledger.routing.booking import Booking
from spanledger.routing.charging import Charging
from spanledger.routing.closer import CloserCounts
from spanledger.routing.course import Course, Pick
from spanledger.routing.request import Exchange
from spanledger.routing.room import WaitingRoom
from spanledger.routing.settle import Recorder


@dataclass(frozen=True, slots=True)
class Shared:
    """What all requests of a router share.

    Attributes:
        degrade: the course of a request on another route; None if that cannot serve it now.
        room: where requests wait for what others hold.
        closer: what counts input where its bound does not fit.
        unasked: service tiers that deployments used although nobody requested one, by deployment.
    """

    ledger: Ledger
    clock: Clock
    booking: Booking
    recorder: Recorder
    limits: GatewaySettings
    charging: Charging
    degrade: Callable[[Exchange, str], tuple[Course, Pick] | None]
    room: WaitingRoom
    closer: CloserCounts = field(default_factory=CloserCounts)
    unasked: dict[str, str] = field(default_factory=dict)
