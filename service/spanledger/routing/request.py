"""One caller's request while it passes through the gateway."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from spanledger.ledger.model import UNSAMPLED, RequestStart
from spanledger.routing.models import AllowedModels
from spanledger.wires.base import WRITES_TEXT, Ask

BINDING = frozenset({"compact"})
"""Wires whose answers can be read only by the account that gave them."""


class Exchange(msgspec.Struct):
    """A parsed request and its results so far; owned by one task.

    The gateway fills the first part, routing the second as attempts are made; the response headers
    come from it.

    Attributes:
        start: identity, as the ledger stores it.
        ask: the request as its wire read it.
        deadline: monotonic seconds by which the request must end.
        asked: the model that the caller named, if its route is a wildcard.
        kept_at: the deployment that keeps the answer which the request continues.
        files_at: the deployment whose account has the files that the request names.
        tracestate: the caller's, which belongs to the trace it continues.
        models: those that its key may use; None: all.
        pass_on: writes an event of a stream at once, behind those before it; returns whether it did.
            None where events can only take their turn.
        degraded: budgets near their limit that sent it to another route.
        changed: fields that the adapter of the last attempt changed or omitted.
        journaled: its last attempt is held in a journal, because the ledger is unavailable.
        provider_s: seconds that providers took for the attempts of a non-streamed answer.
    """

    start: RequestStart
    ask: Ask
    deadline: float
    asked: str = ""
    kept_at: str = ""
    files_at: str = ""
    tracestate: str = ""
    models: AllowedModels | None = None
    pass_on: Callable[[bytes], bool] | None = None

    attempts: int = 0
    provider_s: float = 0.0
    deployment: str = ""
    cost_nano: int = 0
    remaining_nano: int | None = None
    journaled: bool = False
    warned: tuple[str, ...] = ()
    degraded: tuple[str, ...] = ()
    changed: list[str] = msgspec.field(default_factory=list)

    @property
    def movable(self) -> bool:
        """Whether another route may serve it in its place: what it continues is not bound to an account,
        and text of another model is still an answer, unlike a vector or an image."""
        wire = self.ask.wire
        bound = self.kept_at or self.files_at or wire.name in BINDING
        return not bound and wire.operation in WRITES_TEXT

    def trace_headers(self, span_id: str) -> dict[str, str]:
        """The trace context of an attempt, as its provider is to continue it."""
        flags = "00" if self.start.parent_span_id.endswith(UNSAMPLED) else "01"
        headers = {"traceparent": f"00-{self.start.trace_id}-{span_id}-{flags}"}
        if self.tracestate:
            headers["tracestate"] = self.tracestate
        return headers
