"""Requests to a provider's own endpoints, `/v1/PROVIDER/…`: who may send them, and their way there
and back.

The body is passed on as it arrives, and so is the answer. A JSON body that is small is read first,
because its model has a price and may have a budget.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING

import msgspec
from starlette.types import Receive, Scope, Send

from spanledger.clock import Clock
from spanledger.config import GatewaySettings
from spanledger.errors import (
    InvalidRequestError,
    LedgerUnavailableError,
    PermissionDeniedError,
    SpanledgerError,
    forget_frames,
)
from spanledger.gateway.auth import Caller
from spanledger.gateway.bodies import ClientGoneError
from spanledger.gateway.crowd import SMALL_BODY_BYTES, Slot
from spanledger.gateway.exchanges import Exchanges
from spanledger.gateway.pass_paths import PassPath, pass_path, provider_in
from spanledger.gateway.replies import Headers
from spanledger.providers.base import Passage
from spanledger.providers.hosts import HOSTS
from spanledger.routing.pass_through import Passed
from spanledger.routing.request import Exchange
from spanledger.wires import PASSED_ON
from spanledger.wires.base import Inbound
from spanledger.wires.fields import DECODE_ERRORS, MAX_ROUTE_CHARS

if TYPE_CHECKING:
    from spanledger.routing.router import Router

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")


class _Named(msgspec.Struct):
    model: object = None


_NAMED = msgspec.json.Decoder(_Named)


class PassThrough:
    """What callers send to the providers' own endpoints."""

    def __init__(self, router: Router, clock: Clock, limits: GatewaySettings) -> None:
        self._router = router
        self._exchanges = Exchanges(clock, limits)
        self._limits = limits

    def is_for(self, path: str) -> bool:
        """Whether a path is that of a provider which a deployment is of."""
        provider = provider_in(path)
        return bool(provider) and self._router.passing.knows(provider)

    def absent(self, path: str) -> str:
        """The provider whose path it is, if no deployment is of it; else empty."""
        provider = provider_in(path)
        return provider if provider in HOSTS and not self.is_for(path) else ""

    def exchange(self, request_id: str, caller: Caller, scope: Scope, wire: Inbound) -> Exchange:
        """The request, as the ledger gets it."""
        headers = dict(scope["headers"])
        return self._exchanges.begin(request_id, caller, headers, wire, PASSED_ON, PASSED_ON)

    def check(self, caller: Caller, method: str, headers: dict[bytes, bytes]) -> None:
        """Refuse who may not, and what cannot be passed on.

        Raises:
            PermissionDeniedError: the settings, or the key, do not allow it.
            InvalidRequestError: it is not an ordinary HTTP request.
        """
        allowed = self._limits.pass_through
        if allowed == "off":
            raise PermissionDeniedError(
                "this gateway passes nothing through to providers (gateway.pass_through)"
            )
        if allowed == "keys" and caller.key_id and not caller.pass_through:
            raise PermissionDeniedError(
                "this key may not call providers' own endpoints: create one with `spanledger keys"
                " create --allow-pass-through`, or set gateway.pass_through to `all`"
            )
        if caller.models is not None:
            raise PermissionDeniedError(
                "this key may use some models only, and nobody knows which ones a provider's own"
                " endpoint uses: call an endpoint that this gateway serves itself"
            )
        if b"sec-websocket-key" in headers:
            raise InvalidRequestError(
                "WebSockets are not passed through; use the provider's HTTP endpoint",
                status=501,
                code="websocket_unsupported",
            )
        if method not in METHODS:
            raise InvalidRequestError(
                f"{method} is not passed through; use one of {', '.join(METHODS)}",
                status=405,
                code="method_not_allowed",
            )

    async def serve(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        exchange: Exchange,
        caller: Caller,
        place: Slot,
        started: Callable[[Headers], Headers],
    ) -> bool:
        """Pass one request on, and its answer back. `started` is called with the provider's
        headers when the answer begins, and returns those of the response. Returns whether the
        answer is complete: in whatever format it is, only a missing end says that it broke off.

        Raises:
            SpanledgerError: nothing was sent to the caller yet.
        """
        passed = await self._ready(scope, receive, exchange, caller, place)
        begun = False
        try:
            async with passed:
                head, body = passed.head()
                begun = True
                status = passed.status
                await send(
                    {"type": "http.response.start", "status": status, "headers": started(head)}
                )
                if body != b"":
                    async with aclosing(passed.chunks() if body is None else _once(body)) as chunks:
                        async for chunk in chunks:
                            part = {"type": "http.response.body", "body": chunk, "more_body": True}
                            await send(part)
        except SpanledgerError as error:
            if not begun:
                raise
            forget_frames(error)
            return False
        await send({"type": "http.response.body", "body": b""})
        return True

    async def _ready(
        self, scope: Scope, receive: Receive, exchange: Exchange, caller: Caller, place: Slot
    ) -> Passed:
        """The request, ready to be sent. Raises the error that ends it, which is booked."""
        passing = self._router.passing
        headers: dict[bytes, bytes] = dict(scope["headers"])
        try:
            self.check(caller, scope["method"], headers)
            path = pass_path(scope["raw_path"])
            wanted = headers.get(b"x-spanledger-deployment", b"").decode("latin-1")
            deployment = passing.choose(path.provider, wanted, caller.routes)
        except SpanledgerError as error:
            # The caller gets this error even if the ledger cannot record it.
            with suppress(LedgerUnavailableError):
                await self._router.reject(exchange, error)
            raise
        body, model = await _opening(receive, headers, place)
        return Passed(
            passing,
            exchange,
            deployment,
            _passage(scope, path, body),
            model=model,
            template=path.template,
            may_pass=caller.pass_through,
        )


async def _opening(
    receive: Receive, headers: dict[bytes, bytes], place: Slot
) -> tuple[bytes | AsyncGenerator[bytes], str]:
    """The body, whole if it came at once, and the model that it names if it is JSON and small."""
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientGoneError
    first: bytes = message["body"]
    if not message["more_body"]:
        place.take(len(first))
        return first, _model_in(first)
    place.start_sending()
    length = headers.get(b"content-length", b"")
    small = length.isdigit() and int(length) <= SMALL_BODY_BYTES
    if not (small and b"json" in headers.get(b"content-type", b"")):
        return _pieces(first, receive, place), ""
    parts = [first]
    async with aclosing(_pieces(b"", receive, place)) as pieces:
        parts += [piece async for piece in pieces]
    body = b"".join(parts)
    return body, _model_in(body)


async def _pieces(first: bytes, receive: Receive, place: Slot) -> AsyncGenerator[bytes]:
    if first:
        yield first
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        if message["body"]:
            yield message["body"]
        if not message["more_body"]:
            place.stop_sending()
            return


async def _once(body: bytes) -> AsyncGenerator[bytes]:
    yield body


def _model_in(body: bytes) -> str:
    if not body.lstrip().startswith(b"{"):
        return ""
    try:
        model = _NAMED.decode(body).model
    except DECODE_ERRORS:
        return ""
    return model if isinstance(model, str) and len(model) <= MAX_ROUTE_CHARS else ""


def _passage(scope: Scope, path: PassPath, body: bytes | AsyncGenerator[bytes]) -> Passage:
    return Passage(
        path.provider,
        scope["method"],
        path.rest,
        scope["query_string"].decode("latin-1"),
        scope["headers"],
        body,
    )
