"""One caller's request on its way through the gateway."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from spanledger.ledger.store import RequestStart
from spanledger.wires.base import Operation


@dataclass(slots=True)
class Exchange:
    """A parsed request and what became of it; owned by one task.

    The gateway fills the first part, routing the second as attempts go by; the response headers are
    read off it.

    Attributes:
        start: identity, as the ledger stores it.
        operation: `chat` or `embeddings`.
        fields: the body's top level, values undecoded. Unknown fields pass through untouched.
        body_bytes: size of the whole body, the base of the input bound.
        include_usage: the caller itself asked for the usage chunk of a stream.
        deadline: monotonic seconds at which the whole request must be over.
        asked: the model the caller named, where its route is a wildcard.
        changed: fields that the adapter of the last attempt changed or left out.
        provider_s: how long providers took for the attempts of a whole answer, seconds.
    """

    start: RequestStart
    operation: Operation
    fields: dict[str, msgspec.Raw]
    body_bytes: int
    include_usage: bool
    deadline: float
    asked: str = ""

    attempts: int = 0
    provider_s: float = 0.0
    deployment: str = ""
    cost_nano: int = 0
    remaining_nano: int | None = None
    warned: tuple[str, ...] = field(default=())
    changed: list[str] = field(default_factory=list)
