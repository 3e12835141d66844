"""`/healthz`, `/readyz`, `/metrics`, and the answers for paths that are not served."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from spanledger.errors import LedgerUnavailableError, SpanledgerError
from spanledger.gateway import replies
from spanledger.gateway.auth import Authenticator, check_local
from spanledger.gateway.replies import GatewayReply
from spanledger.ledger.ports import Ledger
from spanledger.wires import DEFAULT, spoken_by
from spanledger.wires.base import Inbound

if TYPE_CHECKING:
    from spanledger.routing.health import Health

READY_TIMEOUT_S = 2.0
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Serving(Protocol):
    """The part of the edge that probes use."""

    draining: bool

    def new_request_id(self) -> str:
        """An id for a response."""
        ...


class Probes:
    """`/healthz`, `/readyz` and `/metrics`."""

    def __init__(
        self,
        edge: Serving,
        auth: Authenticator,
        ledger: Ledger,
        health: Health,
        metrics: Callable[[], Awaitable[bytes]],
    ) -> None:
        self._edge = edge
        self._auth = auth
        self._ledger = ledger
        self._health = health
        self._metrics = metrics

    async def healthz(self, _: Request) -> Response:
        """The process answers."""
        return self._respond(200, {"status": "ok"})

    async def readyz(self, _: Request) -> Response:
        """Requests can be served: the ledger accepts commits, or budgets allow some meanwhile, and we
        are not shutting down."""
        if self._edge.draining:
            return self._respond(503, {"status": "draining"})
        status = {"status": "ready"}
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                await self._ledger.check()
        except (LedgerUnavailableError, TimeoutError):
            if not self._ledger.journal_has_room:
                return self._respond(503, {"status": "ledger_unavailable"})
            status = {"status": "degraded", "ledger": "unavailable"}
        states = [deployment.state for deployment in self._health.snapshot()]
        counts = {state: states.count(state) for state in ("up", "cooling", "off")}
        return self._respond(200, {**status, "deployments": counts})

    async def metrics(self, request: Request) -> Response:
        """Metrics for Prometheus."""
        try:
            try:
                keyed = await self._auth.is_keyed()
            except LedgerUnavailableError:  # which is when the metrics are needed most
                keyed = self._auth.was_keyed
            if not keyed:
                check_local(dict(request.scope["headers"]))
            text = await self._metrics()
        except SpanledgerError as error:
            return response(replies.reply_to(error), self._edge.new_request_id())
        headers = {"x-request-id": self._edge.new_request_id()}
        return Response(text, headers=headers, media_type=METRICS_TYPE)

    async def lost(self, request: Request, _: Exception) -> Response:
        """404 for any other path."""
        wire = _spoken(request)
        reply = replies.no_such_path(request.url.path, wire)
        return response(reply, self._edge.new_request_id(), wire)

    async def wrong_method(self, request: Request, _: Exception) -> Response:
        """405 for these paths: they are read-only."""
        wire = _spoken(request)
        reply = replies.not_allowed(request.method, request.url.path, b"GET", wire)
        return response(reply, self._edge.new_request_id(), wire)

    def _respond(self, status: int, what: dict[str, object]) -> Response:
        return response(
            GatewayReply(status, msgspec.json.encode(what)), self._edge.new_request_id()
        )


def response(reply: GatewayReply, request_id: str, wire: Inbound = DEFAULT) -> Response:
    """A response to a path outside `/v1`."""
    named = (*reply.headers, *replies.request_ids(request_id, wire))
    headers = {name.decode(): value.decode() for name, value in named}
    return Response(reply.body, reply.status, headers, media_type="application/json")


def _spoken(request: Request) -> Inbound:
    return spoken_by(request.url.path, dict(request.scope["headers"]))
