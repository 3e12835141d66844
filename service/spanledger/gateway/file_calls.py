"""`/v1/files` and `/v1/batches`: from the request to the answer."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import aclosing, suppress
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec
from starlette.types import Receive, Scope, Send

from spanledger.clock import Clock
from spanledger.config import GatewaySettings
from spanledger.errors import (
    InvalidRequestError,
    LedgerUnavailableError,
    ProviderError,
    SpanledgerError,
    forget_frames,
)
from spanledger.gateway.auth import Caller
from spanledger.gateway.batches import BatchRequest, KeptBatches, read_wanted
from spanledger.gateway.bodies import upload_of, whole_body
from spanledger.gateway.crowd import Slot
from spanledger.gateway.exchanges import Exchanges
from spanledger.gateway.file_ids import FileIds
from spanledger.gateway.files import FilePlace, Files, no_such_file
from spanledger.gateway.models import Models
from spanledger.gateway.replies import GatewayReply, Headers, not_allowed
from spanledger.ledger.model import UNKNOWN_ROUTE
from spanledger.ledger.ports import Ledger
from spanledger.routing.request import Exchange
from spanledger.routing.stores import Object, is_gone
from spanledger.wires import BATCHES, FILES
from spanledger.wires.base import Inbound
from spanledger.wires.fields import Fields, check_head

if TYPE_CHECKING:
    from spanledger.routing.router import Router

_PATH = re.compile(r"/v1/(files|batches)(?:/([^/]+))?(|/content|/cancel)")
_METHODS: dict[tuple[str, bool, str], tuple[str, ...]] = {
    ("files", False, ""): ("GET", "POST"),
    ("files", True, ""): ("GET", "DELETE"),
    ("files", True, "/content"): ("GET",),
    ("batches", False, ""): ("GET", "POST"),
    ("batches", True, ""): ("GET",),
    ("batches", True, "/cancel"): ("POST",),
}
"""What may be asked, by the kind of thing, whether a path names one, and what follows."""
_CONTENT_HEADERS = frozenset({b"content-type", b"content-length", b"content-disposition"})


class FileCalls:
    """Serves these paths."""

    def __init__(
        self,
        ledger: Ledger,
        router: Router,
        models: Models,
        clock: Clock,
        limits: GatewaySettings,
    ) -> None:
        self._router = router
        self._exchanges = Exchanges(clock, limits)
        self._files = Files(ledger, router, models, clock)
        self._batches = KeptBatches(ledger, router, self._files, models, clock)
        self.ids = FileIds(ledger, router, self._files, self._batches, limits)

    async def serve(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        request: Request,
    ) -> GatewayReply | bool:
        """The answer, or whether it was sent completely.

        Raises:
            SpanledgerError: nothing was sent to the caller yet.
        """
        if request.wire.name == "messages":
            raise InvalidRequestError(
                "files and batches are served here in OpenAI's form; Anthropic's are passed through"
                " at /v1/anthropic/v1/files",
                code="files_unsupported",
            )
        found = _PATH.fullmatch(scope["path"])
        allowed = None
        if found is not None:
            kind, handed, action = found[1], found[2] or "", found[3]
            allowed = _METHODS.get((kind, bool(handed), action))
        if found is None or allowed is None:
            raise no_such_file(scope["path"].removeprefix("/v1/files/"))
        method, caller = scope["method"], request.caller
        if method not in allowed:
            names = ", ".join(allowed).encode()
            return not_allowed(method, scope["path"][:200], names, request.wire)
        if method == "POST" and not handed:
            create = self._upload if kind == "files" else self._create
            return _json(await create(scope, receive, request))
        if action == "/content":
            return await self._content(send, handed, request)
        query: bytes = scope["query_string"]
        if kind == "batches":
            if action:
                return _json(await self._batches.cancelled(handed, caller))
            if handed:
                return _json(await self._batches.read(handed, caller))
            return _json(await self._batches.listed(query, caller))
        if method == "DELETE":
            kept, _, deployment = await self._files.find(handed, caller)
            await self._batches.settled(kept, deployment)
            return _json(await self._files.deleted(handed, caller))
        if handed:
            return _json(await self._files.shown(handed, caller))
        return _json(await self._files.listed(query, caller))

    async def _upload(self, scope: Scope, receive: Receive, request: Request) -> Object:
        headers: dict[bytes, bytes] = dict(scope["headers"])
        upload = await upload_of(headers, receive, request.slot)
        try:
            exchange: Exchange | None = None
            place: FilePlace | None = None
            try:
                place = await self._files.place(upload, headers, request.caller)
            finally:
                route = UNKNOWN_ROUTE if place is None else place.route
                exchange = self._begin(request, headers, FILES, route)
            resolved = partial(self.ids.in_line, request.caller, place.deployment)
            return await self._files.uploaded(upload, place, exchange, request.slot, resolved)
        except SpanledgerError as error:
            await self._rejected(request, error)
            raise
        finally:
            upload.close()

    async def _create(self, scope: Scope, receive: Receive, request: Request) -> Object:
        headers: dict[bytes, bytes] = dict(scope["headers"])
        check_head(headers)
        body = await whole_body(receive, request.slot)
        wanted: BatchRequest | None = None
        route = UNKNOWN_ROUTE
        try:
            try:
                wanted = read_wanted(body)
                file, target = await self._batches.place(wanted, request.caller)
                route = target.deployment.route
            finally:
                exchange = self._begin(
                    request, headers, BATCHES, route, None if wanted is None else wanted.fields
                )
            return await self._batches.created(wanted, file, target, exchange)
        except SpanledgerError as error:
            await self._rejected(request, error)
            raise

    def _begin(
        self,
        request: Request,
        headers: dict[bytes, bytes],
        operation: str,
        route: str,
        fields: Fields | None = None,
    ) -> Exchange:
        exchange = self._exchanges.begin(
            request.request_id, request.caller, headers, request.wire, operation, route, fields
        )
        request.begun(exchange)
        return exchange

    async def _rejected(self, request: Request, error: SpanledgerError) -> None:
        """Book a request that made no attempt."""
        exchange = request.exchange
        if exchange is not None and not exchange.attempts:
            # The caller gets this error even if the ledger cannot record it.
            with suppress(LedgerUnavailableError):
                await self._router.reject(exchange, error)

    async def _content(self, send: Send, handed: str, request: Request) -> bool:
        """A file's bytes as they come. Those that a batch wrote are charged before they are read."""
        kept, unique, deployment = await self._files.find(handed, request.caller)
        await self._batches.settled(kept, deployment)
        stores, begun = self._router.stores, False
        path = f"files/{quote(unique, safe='')}/content"
        try:
            async with stores.opened(deployment, "GET", path) as answer:
                given = [header for header in answer.headers if header[0] in _CONTENT_HEADERS]
                headers = request.head(given)
                begun = True
                await send({"type": "http.response.start", "status": 200, "headers": headers})
                async with aclosing(answer.chunks(stores.ends_at())) as chunks:
                    async for chunk in chunks:
                        part = {"type": "http.response.body", "body": chunk, "more_body": True}
                        await send(part)
        except ProviderError as error:
            if begun:
                forget_frames(error)
                return False
            if is_gone(error):
                raise no_such_file(handed) from None
            raise
        await send({"type": "http.response.body", "body": b""})
        return True


class Request:
    """A request for a file or a batch, as far as it is known.

    Attributes:
        slot: its place in the crowd.
        exchange: what the ledger gets, once its route is known; reading makes none.
    """

    __slots__ = ("_begun", "_head", "caller", "exchange", "request_id", "slot", "wire")

    def __init__(
        self,
        request_id: str,
        caller: Caller,
        slot: Slot,
        wire: Inbound,
        begun: Callable[[Exchange], None],
        head: Callable[[Headers], Headers],
    ) -> None:
        self.request_id = request_id
        self.caller = caller
        self.slot = slot
        self.wire = wire
        self.exchange: Exchange | None = None
        self._begun = begun
        self._head = head

    def begun(self, exchange: Exchange) -> None:
        """Its route is known."""
        self.exchange = exchange
        self._begun(exchange)

    def head(self, given: Headers) -> Headers:
        """The headers of an answer that is sent in pieces."""
        return self._head(given)


def is_file_path(path: str) -> bool:
    """Whether a canonical path is one of these."""
    return path in ("/v1/files", "/v1/batches") or path.startswith(("/v1/files/", "/v1/batches/"))


def _json(found: Object) -> GatewayReply:
    return GatewayReply(200, msgspec.json.encode(found))
