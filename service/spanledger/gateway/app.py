"""The gateway's HTTP application: OpenAI's API under `/v1`, plus health and metrics.

Order of a call: limits, key, body, parse, router, answer. It decides nothing about money or
providers; it turns the router's results into HTTP. `gateway.server` serves it, and its connections
report when a client disconnects.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from spanledger.clock import Clock
from spanledger.config import Config
from spanledger.errors import (
    InvalidRequestError,
    LedgerUnavailableError,
    OverloadedError,
    PermissionDeniedError,
    SpanledgerError,
    forget_frames,
)
from spanledger.gateway import ids, replies
from spanledger.gateway.access_log import EXCHANGE, AccessLog
from spanledger.gateway.auth import Authenticator, Caller
from spanledger.gateway.bodies import ClientGoneError, upload_of, whole_body
from spanledger.gateway.cors import with_cors
from spanledger.gateway.crowd import Crowd, Slot
from spanledger.gateway.file_calls import FileCalls, Request, is_file_path
from spanledger.gateway.kept_answers import KeptAnswers
from spanledger.gateway.models import Models
from spanledger.gateway.names import NameSources
from spanledger.gateway.pass_through import PassThrough
from spanledger.gateway.paths import (
    LIVE,
    METRICS_PATH,
    READY,
    AnswerPath,
    answer_path,
    is_model,
    is_realtime,
)
from spanledger.gateway.probes import Probes
from spanledger.gateway.replies import GatewayReply, Headers
from spanledger.gateway.sending import (
    JSON_BODY,
    OpenCall,
    answer_headers,
    end_early,
    fail,
    head_of,
    header_value,
    log_fault,
    send_reply,
)
from spanledger.gateway.streaming import STREAM_HEADERS, relay, relay_bare
from spanledger.gateway.turn import WHOLE
from spanledger.ledger.model import UNKNOWN_ROUTE, RequestStart
from spanledger.ledger.ports import Ledger
from spanledger.money import format_usd
from spanledger.routing.request import Exchange
from spanledger.wires import COUNTERS, FORMS, INBOUND, named_in_path, spoken_by
from spanledger.wires.base import Ask, Inbound
from spanledger.wires.fields import check_encoding, check_head, forwarded, is_json_head
from spanledger.wires.file_ids import names_files
from spanledger.wires.side import TokenCounter

if TYPE_CHECKING:
    from spanledger.routing.health import Health
    from spanledger.routing.router import Router

CONNECTION = "spanledger.connection"
"""Scope key of the connection: its `on_lost` is called when the client disconnects, its `pass_on` writes
an event of a stream at once, and `break_off` closes it in the middle of an answer."""

log = logging.getLogger("spanledger.gateway")


class Edge:
    """Everything under `/v1`, as a bare ASGI application."""

    def __init__(
        self,
        config: Config,
        router: Router,
        auth: Authenticator,
        answers: KeptAnswers,
        ledger: Ledger,
        clock: Clock,
        observe_overhead: Callable[[float], None],
    ) -> None:
        self.draining = False
        self.in_flight = 0
        self.clock = clock
        self._limits = config.gateway
        self._sources = NameSources(config.gateway)
        self._router = router
        self._auth = auth
        self._answers = answers
        self._observe_overhead = observe_overhead
        limits = config.gateway
        self.crowd = Crowd(
            limits.most_per_key,
            limits.most_body_bytes,
            limits.max_body_bytes,
            limits.most_upload_bytes,
            limits.max_upload_bytes,
        )
        self._through = PassThrough(router, clock, limits)
        self._models = Models(
            config,
            clock.now_ns() // 1_000_000_000,
            lambda route, models: router.may_serve(route, models),
        )
        self._files = FileCalls(ledger, router, self._models, clock, limits)

    def new_request_id(self) -> str:
        """An id for any answer, including those that belong to no call."""
        return ids.new_request_id(self.clock.rng, self.clock.now_ns())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        wire, counter = INBOUND.get(path), None
        if wire is None and (counter := COUNTERS.get(path)) is not None:
            wire = counter.wire
        if wire is None and (found := named_in_path(scope["raw_path"], scope["query_string"])):
            wire, counter = found
        if wire is not None and scope["method"] == "POST":
            await self._post(scope, receive, send, wire, counter)
            return
        if wire is None and (is_file_path(path) or self._through.is_for(path)):
            await self._post(scope, receive, send, None, None)
            return
        request_id = self.new_request_id()
        headers = dict(scope["headers"])
        spoken = spoken_by(path, headers)
        if wire is not None:
            reply = replies.not_allowed(scope["method"], path, b"POST", wire)
        elif (answer := answer_path(path)) is not None:
            reply = await self._kept(scope, headers, answer, spoken)
        elif is_realtime(path):
            reply = replies.no_realtime(spoken)
        elif not is_model(path):
            absent = self._through.absent(path)
            reply = (
                replies.no_such_provider(absent, spoken)
                if absent
                else replies.no_such_path(path, spoken)
            )
        elif scope["method"] != "GET":
            reply = replies.not_allowed(scope["method"], path, b"GET", spoken)
        else:
            try:
                caller = await self._auth.identify(headers)
                reply = GatewayReply(
                    200, self._models.shown(path, scope["query_string"], caller, spoken)
                )
            except SpanledgerError as error:
                reply = replies.reply_to(error, wire=spoken)
        await send_reply(send, reply, request_id, wire=spoken)

    async def _kept(
        self, scope: Scope, headers: dict[bytes, bytes], path: AnswerPath, wire: Inbound
    ) -> GatewayReply:
        """What a caller asks of an answer that a provider keeps. Nothing is booked."""
        place: Slot | None = None
        try:
            caller = await self._auth.identify(headers)
            place = self.crowd.enter(caller.key_id)
            return await self._answers.serve(scope["method"], path, scope["query_string"], caller)
        except SpanledgerError as error:
            return replies.reply_to(error, wire=wire)
        finally:
            if place is not None:
                place.leave()

    async def _post(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        inbound: Inbound | None,
        counter: TokenCounter | None,
    ) -> None:
        """One request with its place in the gateway; on no wire of ours, it is passed through."""
        wire = inbound or spoken_by(scope["path"], dict(scope["headers"]))
        call = OpenCall(self.new_request_id(), wire)
        if self.draining:
            await send_reply(send, replies.draining(wire), call.request_id, wire=wire)
            return
        if self.in_flight >= self._limits.max_concurrent_requests:
            error = OverloadedError(
                f"{self._limits.max_concurrent_requests} requests are already in flight "
                "(gateway.max_concurrent_requests); retry shortly"
            )
            await send_reply(send, replies.reply_to(error, wire=wire), call.request_id, wire=wire)
            return
        self.in_flight += 1
        try:
            if inbound is None:
                await self._unread(scope, receive, send, wire, call)
            elif counter is None:
                await self._serve(scope, receive, send, wire, call)
            else:
                await self._count(scope, receive, send, counter, call)
        except ClientGoneError:
            pass
        except SpanledgerError as error:
            exchange = call.exchange
            await send_reply(
                send,
                replies.reply_to(error, exchange.attempts if exchange else 0, wire),
                call.request_id,
                exchange,
                wire,
            )
            forget_frames(error)
        except asyncio.CancelledError as error:
            if not call.lost:
                await end_early(send, call)
            forget_frames(error)
        except Exception as error:  # noqa: BLE001  # every caller gets an answer
            log_fault(error, call.request_id)
            await fail(send, call)
            forget_frames(error)
        finally:
            self.in_flight -= 1
            if EXCHANGE in scope:
                scope[EXCHANGE] = call.exchange
            if call.upload is not None:
                call.upload.close()
            if call.place is not None:
                call.place.leave()

    async def _serve(
        self, scope: Scope, receive: Receive, send: Send, wire: Inbound, call: OpenCall
    ) -> None:
        headers: dict[bytes, bytes] = dict(scope["headers"])
        caller = await self._auth.identify(headers)
        call.place = place = self.crowd.enter(caller.key_id)
        exchange = await self._read(headers, receive, wire, caller, call, place)
        connection = scope.get(CONNECTION)
        call.task = asyncio.current_task()
        if connection is not None:
            connection.on_lost = call.on_lost
            exchange.pass_on = connection.pass_on
        try:
            if exchange.start.stream:

                def head(content_type: str = "") -> Headers:
                    call.started = "whole" if exchange.ask.bare else "stream"
                    kind = ((b"content-type", content_type.encode()),)
                    first = kind if content_type else STREAM_HEADERS
                    return answer_headers(call.request_id, exchange, first)

                frames = self._router.stream(exchange)
                if not exchange.ask.bare:
                    await relay(frames, exchange, send, head)
                elif not await relay_bare(frames, send, head) and connection is not None:
                    connection.break_off()
                return
            answer = await self._router.complete(exchange)
        finally:
            if connection is not None:
                connection.on_lost = None
        body = answer.body
        kind = (b"content-type", answer.content_type.encode()) if answer.content_type else JSON_BODY
        first = (kind, (b"content-length", b"%d" % len(body)))
        shown = answer_headers(call.request_id, exchange, first)
        shown.append((b"x-spanledger-cost-usd", format_usd(exchange.cost_nano).encode()))
        if exchange.remaining_nano is not None:
            left = format_usd(exchange.remaining_nano).encode()
            shown.append((b"x-spanledger-budget-remaining-usd", left))
        call.started = "whole"
        began = exchange.deadline - self._limits.total_timeout_s
        self._observe_overhead(self.clock.monotonic() - began - exchange.provider_s)
        await send({"type": "http.response.start", "status": 200, "headers": shown, WHOLE: body})

    async def _unread(
        self, scope: Scope, receive: Receive, send: Send, wire: Inbound, call: OpenCall
    ) -> None:
        """A request that no wire reads: for files and batches, or for a provider itself."""
        caller = await self._auth.identify(dict(scope["headers"]))
        call.place = place = self.crowd.enter(caller.key_id)
        connection = scope.get(CONNECTION)
        call.task = asyncio.current_task()
        if connection is not None:
            connection.on_lost = call.on_lost

        def head(given: Headers) -> Headers:
            call.started = "whole"
            return head_of(call.request_id, call.exchange, wire, tuple(given))

        def begun(exchange: Exchange) -> None:
            call.exchange = exchange

        try:
            if is_file_path(scope["path"]):
                request = Request(call.request_id, caller, place, wire, begun, head)
                result = await self._files.serve(scope, receive, send, request)
            else:
                exchange = self._through.exchange(call.request_id, caller, scope, wire)
                begun(exchange)
                result = await self._through.serve(
                    scope, receive, send, exchange, caller, place, head
                )
        finally:
            if connection is not None:
                connection.on_lost = None
        if isinstance(result, GatewayReply):
            await send_reply(send, result, call.request_id, call.exchange, wire)
        elif not result and connection is not None:
            connection.break_off()

    async def _count(
        self, scope: Scope, receive: Receive, send: Send, counter: TokenCounter, call: OpenCall
    ) -> None:
        """Count a request's input. It costs nothing, so the ledger has no row of it."""
        headers: dict[bytes, bytes] = dict(scope["headers"])
        caller = await self._auth.identify(headers)
        call.place = place = self.crowd.enter(caller.key_id)
        check_head(headers)
        body = await whole_body(receive, place)
        ask, files_at = counter.read(body), ""
        if names_files(body) or self._files.ids.checks_all:
            ask.fields, files_at = await self._files.ids.resolved(ask.fields, caller)
        ask.headers = forwarded(headers, counter.wire.passes)
        route = self._models.route(ask.route)
        serving = self._models.serving(route)
        self._models.check(route, serving, caller)
        kept_at = await self._answers.place_of(ask, caller)
        asked = route if route != serving else ""
        counted = await self._router.count(
            counter, ask, serving, asked, kept_at, files_at, caller.models
        )
        more = (b"x-spanledger-estimated", b"true")
        if counted.deployment:
            more = (b"x-spanledger-deployment", header_value(counted.deployment))
        await send_reply(
            send, GatewayReply(200, counted.body, (more,)), call.request_id, wire=counter.wire
        )

    async def _read(
        self,
        headers: dict[bytes, bytes],
        receive: Receive,
        wire: Inbound,
        caller: Caller,
        call: OpenCall,
        place: Slot,
    ) -> Exchange:
        """The parsed request of a known caller. An invalid request is recorded for that caller."""
        started_ns = self.clock.now_ns()
        deadline = self.clock.monotonic() + self._limits.total_timeout_s
        route, ask, kept_at, files_at = "", None, "", ""
        serving: str | None = None
        fault: SpanledgerError | None = None
        names = caller.names
        try:
            form_wire = FORMS.get(wire.path)
            if form_wire is not None and not is_json_head(headers):
                check_encoding(headers)
                call.upload = await upload_of(headers, receive, place)
                ask = form_wire.read_form(call.upload.form)
                ask.upload = call.upload
            else:
                check_head(headers)
                body = await whole_body(receive, place)
                ask = wire.read(body)
                if names_files(body) or self._files.ids.checks_all:
                    ask.fields, files_at = await self._files.ids.resolved(ask.fields, caller)
            names = self._sources.names(names, headers, ask.fields)
            if wire.passes:
                ask.headers = forwarded(headers, wire.passes)
            route = self._models.route(ask.route)
            serving = self._models.serving(route)
            self._models.check(route, serving, caller)
            if ask.follows or ask.bound_to:
                kept_at = await self._answers.place_of(ask, caller)
        except (InvalidRequestError, PermissionDeniedError) as error:
            fault = error
        ask = ask or Ask(wire)
        rng = self.clock.rng
        trace_id, parent = ids.parent_of(headers.get(b"traceparent"))
        start = RequestStart(
            request_id=call.request_id,
            trace_id=trace_id or ids.new_trace_id(rng),
            span_id=ids.new_span_id(rng),
            parent_span_id=parent,
            started_ns=started_ns,
            customer=caller.customer,
            team=caller.team,
            key_id=caller.key_id,
            route=serving or UNKNOWN_ROUTE,
            operation=wire.name,
            stream=ask.stream,
            user=names.user,
            project=names.project,
            tags=names.tags,
        )
        exchange = Exchange(start, ask, deadline, "", kept_at, files_at, "", caller.models)
        if serving != route:
            exchange.asked = route
        if trace_id:
            exchange.tracestate = ids.tracestate_of(headers.get(b"tracestate"))
        call.exchange = exchange
        if fault is not None:
            # The caller gets this error even if the ledger cannot record it.
            with contextlib.suppress(LedgerUnavailableError):
                await self._router.reject(exchange, fault)
            raise fault
        return exchange


class Application(Starlette):
    """Starlette for the probes.

    Attributes:
        calls: what the server asks for every path that is a call: the layers here would take a fifth
            of our time.
        state.edge: the edge, which the server drains.
    """

    calls: ASGIApp


def create_app(
    config: Config,
    router: Router,
    ledger: Ledger,
    health: Health,
    clock: Clock,
    metrics: Callable[[], Awaitable[bytes]],
    observe_overhead: Callable[[float], None] = lambda _seconds: None,
) -> Application:
    """The application, for `gateway.server` alone."""
    settings = config.gateway
    auth = Authenticator(
        ledger, clock, settings.host, settings.default_customer, settings.allow_origins
    )
    answers = KeptAnswers(ledger, router)
    edge = Edge(config, router, auth, answers, ledger, clock, observe_overhead)
    origins = settings.allow_origins
    probes = Probes(edge, auth, ledger, health, metrics)
    app = Application(
        routes=[
            *(Route(path, probes.healthz) for path in LIVE),
            *(Route(path, probes.readyz) for path in READY),
            Route(METRICS_PATH, probes.metrics),
        ],
        exception_handlers={404: probes.lost, 405: probes.wrong_method},
    )
    app.state.edge = edge
    calls: ASGIApp = AccessLog(edge, clock) if settings.access_log else edge
    app.calls = with_cors(calls, origins) if origins else calls
    # A redirect to the path without the slash would contain whatever host the caller sent.
    app.router.redirect_slashes = False
    return app
