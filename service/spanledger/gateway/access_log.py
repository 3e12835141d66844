"""One log line for each finished call (`gateway.access_log`).

It wraps the edge, so a gateway without it pays nothing.
"""

from __future__ import annotations

import logging
from urllib.parse import quote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from spanledger.clock import Clock
from spanledger.logs import FIELDS
from spanledger.money import format_usd
from spanledger.routing.outcome import CANCELLED_STATUS
from spanledger.routing.request import Exchange

EXCHANGE = "spanledger.exchange"
"""Scope key under which a middleware can receive the parsed request. It must remove the entry again:
a connection and its scope reference each other, and would keep the body in memory."""

log = logging.getLogger("spanledger.access")


class AccessLog:
    """The edge, with one line logged after each call."""

    def __init__(self, calls: ASGIApp, clock: Clock) -> None:
        self._calls = calls
        self._now = clock.monotonic

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = self._now()
        status, request_id = CANCELLED_STATUS, ""

        async def watched(message: Message) -> None:
            nonlocal status, request_id
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = dict(message["headers"])
                request_id = headers.get(b"x-request-id", b"").decode("latin-1")
            await send(message)

        scope[EXCHANGE] = None
        try:
            await self._calls(scope, receive, watched)
        finally:
            fields: dict[str, object] = {
                "status": status,
                "duration_ms": round(1000 * (self._now() - began), 1),
                "request_id": request_id,
            }
            exchange = scope.pop(EXCHANGE)
            if isinstance(exchange, Exchange):
                fields |= _of(exchange)
            # Quoted again: a line break in a decoded path would forge a log line.
            path = quote(scope["path"], safe="/:")
            log.info("%s %s", scope["method"], path, extra={FIELDS: fields})


def _of(exchange: Exchange) -> dict[str, object]:
    start = exchange.start
    found: dict[str, object] = {
        "request_id": start.request_id,
        "trace_id": start.trace_id,
        "customer": start.customer,
        "key_id": start.key_id,
        "route": start.route,
        "stream": start.stream,
        "deployment": exchange.deployment,
        "attempts": exchange.attempts,
        "cost_usd": format_usd(exchange.cost_nano),
    }
    return {name: value for name, value in found.items() if value != ""}
