"""The ledger's record of a request that is not read by a wire."""

from __future__ import annotations

from spanledger.clock import Clock
from spanledger.config.sections import GatewaySettings
from spanledger.gateway import ids
from spanledger.gateway.auth import Caller, HeaderMap
from spanledger.gateway.names import NameSources
from spanledger.ledger.model import RequestStart
from spanledger.routing.request import Exchange
from spanledger.wires.base import Ask, Inbound
from spanledger.wires.fields import Fields


class Exchanges:
    """Begins such requests."""

    def __init__(self, clock: Clock, settings: GatewaySettings) -> None:
        self._clock = clock
        self._total_timeout_s = settings.total_timeout_s
        self._sources = NameSources(settings)

    def begin(
        self,
        request_id: str,
        caller: Caller,
        headers: HeaderMap,
        wire: Inbound,
        operation: str,
        route: str,
        fields: Fields | None = None,
    ) -> Exchange:
        """A request of a known caller. It continues the caller's trace, or begins one.

        Args:
            fields: its body, if it is JSON and was read.

        Raises:
            InvalidRequestError: what names whom it is for is not valid.
        """
        names = self._sources.names(caller.names, headers, fields)
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
            user=names.user,
            project=names.project,
            tags=names.tags,
        )
        deadline = self._clock.monotonic() + self._total_timeout_s
        exchange = Exchange(start, Ask(wire), deadline)
        if trace_id:
            exchange.tracestate = ids.tracestate_of(headers.get(b"tracestate"))
        return exchange
