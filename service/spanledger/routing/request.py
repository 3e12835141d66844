"""One caller's request while it passes through the gateway."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from spanledger.ledger.store import RequestStart
from spanledger.providers.base import Operation


@dataclass(slots=True)
class Exchange:
    """A parsed request and its results so far; owned by one task.

    The gateway fills the first part, routing the second as attempts are made; the response headers
    come from it.

    Attributes:
        start: identity, as the ledger stores it.
        operation: `chat` or `embeddings`.
        fields: the body's top level, values undecoded. Unknown fields pass through unchanged.
        body_bytes: size of the complete body, the base of the bound on the input.
        include_usage: the caller itself requested the usage chunk of a stream.
        deadline: monotonic seconds by which the request must end.
        asked: the model that the caller named, if its route is a wildcard.
        changed: fields that the adapter of the last attempt changed or omitted.
        provider_s: seconds that providers took for the attempts of a non-streamed answer.
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
