"""One caller's request on its way through the gateway."""

from __future__ import annotations

from dataclasses import dataclass, field

from spanledger.ledger.store import RequestStart
from spanledger.wires.base import Ask


@dataclass(slots=True)
class Exchange:
    """A parsed request and what became of it; owned by one task.

    The gateway fills the first part, routing the second as attempts go by; the response headers are
    read off it.

    Attributes:
        start: identity, as the ledger stores it.
        ask: the request as its wire read it.
        deadline: monotonic seconds at which the whole request must be over.
        asked: the model the caller named, where its route is a wildcard.
        changed: fields that the adapter of the last attempt changed or left out.
        provider_s: how long providers took for the attempts of a whole answer, seconds.
    """

    start: RequestStart
    ask: Ask
    deadline: float
    asked: str = ""

    attempts: int = 0
    provider_s: float = 0.0
    deployment: str = ""
    cost_nano: int = 0
    remaining_nano: int | None = None
    warned: tuple[str, ...] = field(default=())
    changed: list[str] = field(default_factory=list)
