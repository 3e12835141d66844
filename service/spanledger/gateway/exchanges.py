"""The ledger's record of a request that is not read by a wire."""

from __future__ import annotations

from spanledger.clock import Clock
from spanledger.gateway import ids
from spanledger.gateway.auth import Caller, HeaderMap
from spanledger.ledger.model import RequestStart
from spanledger.routing.request import Exchange
from spanledger.wires.base import Ask, Inbound


class Exchanges:
    """Begins such requests."""

    def __init__(self, clock: Clock, total_timeout_s: float) -> None:
        self._clock = clock
        self._total_timeout_s = total_timeout_s

    def begin(
        self,
        request_id: str,
        caller: Caller,
        headers: HeaderMap,
        wire: Inbound,
        operation: str,
        route: str,
    ) -> Exchange:
        """A request of a known caller. It continues the caller's trace, or begins one."""
        rng = self._clock.rng
        trace_id, parent = ids.parent_of(headers.get(b"traceparent"))
        start = RequestStart(
            request_id=request_id,
            trace_id=trace_id or ids.new_trace_id(rng),
            span_id=ids.new_span_id(rng),
            parent_span_id=parent,
            started_ns=self._clock.now_ns(),
            customer=caller.customer,
            team=caller.team,
            key_id=caller.key_id,
            route=route,
            operation=operation,
            stream=False,
        )
        deadline = self._clock.monotonic() + self._total_timeout_s
        exchange = Exchange(start, Ask(wire), deadline)
        if trace_id:
            exchange.tracestate = ids.tracestate_of(headers.get(b"tracestate"))
        return exchange
