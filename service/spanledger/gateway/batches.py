"""Batches that providers run for callers, in OpenAI's form: creating, reading, listing, cancelling.

A batch is held by its input when it is created, and charged by its output the first time that it is
seen to have ended. What its owner reads of it comes from the provider each time.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote

import msgspec

from spanledger.clock import Clock
from spanledger.errors import InvalidRequestError, LedgerUnavailableError, ProviderError
from spanledger.gateway.auth import Caller
from spanledger.gateway.files import (
    Files,
    id_of,
    is_owner,
    listing,
    page_of,
)
from spanledger.gateway.models import Models
from spanledger.ledger.model import Kept, Later
from spanledger.ledger.ports import Ledger
from spanledger.providers.base import Deployment
from spanledger.routing.batches import HOLD_S, About, about, detail_of, has_ended, mismatched
from spanledger.routing.course import Candidate
from spanledger.routing.request import Exchange
from spanledger.routing.stores import JSON, Object, decoded, is_gone
from spanledger.wires.batch import ENDPOINTS
from spanledger.wires.fields import Fields, decode
from spanledger.wires.kept_ids import handed_id, kept_id

if TYPE_CHECKING:
    from spanledger.routing.router import Router

REFRESHED_AT_ONCE = 8
"""Batches of a list that are read from their providers at the same time."""
LISTED_BATCHES, MAX_LISTED_BATCHES = 20, 100
"""As at OpenAI."""


class BatchRequest(msgspec.Struct):
    """What a request for a batch says, as far as the gateway acts on it."""

    input_file_id: str
    endpoint: str
    fields: Fields


def read_wanted(body: bytes) -> BatchRequest:
    """Read a request for a batch. Raises InvalidRequestError."""
    fields = decode(body)
    found = {}
    for name in ("input_file_id", "endpoint"):
        raw = fields.get(name)
        try:
            found[name] = msgspec.json.decode(raw or b"null", type=str)
        except msgspec.DecodeError:
            raise InvalidRequestError(
                f"the field {name!r} must be a string",
                code="missing_required_parameter" if raw is None else "invalid_value",
                param=name,
            ) from None
    if found["endpoint"] not in ENDPOINTS:
        raise InvalidRequestError(
            f"'endpoint' must be one of {', '.join(ENDPOINTS)}",
            code="invalid_value",
            param="endpoint",
        )
    return BatchRequest(found["input_file_id"], found["endpoint"], fields)


class KeptBatches:
    """What callers do with batches."""

    def __init__(
        self, ledger: Ledger, router: Router, files: Files, models: Models, clock: Clock
    ) -> None:
        self._ledger = ledger
        self._router = router
        self._files = files
        self._models = models
        self._clock = clock

    # creating -----------------------------------------------------------------------------

    async def place(self, wanted: BatchRequest, caller: Caller) -> tuple[Kept, Candidate]:
        """The input file of a batch, and the deployment that is to run it.

        Raises:
            InvalidRequestError: this caller has no such file, or it is not the input of a batch.
            PermissionDeniedError: the key may not use the route of the file.
        """
        file, _, deployment = await self._files.find(wanted.input_file_id, caller)
        known = about(file)
        if file.kind != "file" or known.purpose != "batch":
            raise InvalidRequestError(
                "the input of a batch must be uploaded with the purpose 'batch'",
                code="invalid_file_purpose",
                param="input_file_id",
            )
        self._models.check(known.asked or known.route, known.route, caller)
        if known.endpoint != wanted.endpoint:
            raise mismatched(known.endpoint)
        wire = ENDPOINTS[wanted.endpoint]
        target = self._router.stores.candidate(
            deployment.id, known.route, known.asked, wire, self._clock.now_ns()
        )
        if target is None:
            raise InvalidRequestError(
                f"the model of this file is not served at {wanted.endpoint} any more; upload it"
                " again",
                code="unsupported_endpoint",
                param="endpoint",
            )
        if caller.models is not None and not caller.models.allow(target.deployment):
            raise caller.models.refusal(known.asked or known.route)
        return file, target

    async def created(
        self, wanted: BatchRequest, file: Kept, target: Candidate, exchange: Exchange
    ) -> Object:
        """Create a batch.

        Raises:
            SpanledgerError: it was not; the request is booked.
        """
        deployment, known = target.deployment, about(file)
        wire = ENDPOINTS[wanted.endpoint]
        bound = await self._router.batches.bound(target, file.provider_id, wanted.endpoint, wire)
        hold = await self._router.single.hold(
            exchange,
            deployment,
            bound.full_nano,
            price_id="" if target.price is None else target.price.id,
            priced=bound.priced,
            unbounded=bound.unbounded,
        )
        start = exchange.start
        try:
            fields = {**wanted.fields, "input_file_id": file.provider_id}
            body = msgspec.json.encode(fields)
            raw, request_id = await self._router.stores.whole(
                deployment, "POST", "batches", JSON, body
            )
            batch = decoded(raw)
            unique = str(batch.get("id", ""))
            handed_id("batch", start.request_id, unique)
        except BaseException as error:
            await self._router.single.failed(exchange, deployment, error, bound.expected_nano)
            raise
        found = About(
            known.route,
            known.asked,
            input=wanted.input_file_id,
            endpoint=wanted.endpoint,
            bound_nano=hold.hold_nano,
            lines=bound.lines,
            body=msgspec.Raw(raw),
        )
        now_ns = self._clock.now_ns()
        kept = Kept(
            *(start.request_id, "batch", start.customer, start.team, deployment.id, unique),
            created_ns=now_ns,
            about=found.text(),
        )
        detail = detail_of(deployment, unique, bound.lines, request_id)
        later = Later(now_ns + HOLD_S * 1_000_000_000, bound.expected_nano, detail)
        try:
            await self._router.single.put_off(exchange, kept, later)
        except LedgerUnavailableError:
            # The caller does not learn its id, and will create another one.
            with suppress(ProviderError):
                path = f"batches/{quote(unique, safe='')}/cancel"
                await self._router.stores.json(deployment, "POST", path)
            raise
        return shown(kept, found, batch)

    # reading ------------------------------------------------------------------------------

    async def find(self, handed: str, caller: Caller) -> tuple[Kept, Deployment]:
        """A batch of this caller, and where it is. Raises InvalidRequestError."""
        known = kept_id(handed)
        kept = None
        if known is not None and known.kind == "batch":
            kept = await self._ledger.find_kept(known.request_id)
        if (
            known is None
            or kept is None
            or kept.kind != "batch"
            or known.provider_id != kept.provider_id
            or not is_owner(kept, caller)
        ):
            raise no_such_batch(handed)
        deployment = self._router.stores.find(kept.deployment)
        if deployment is None:
            self._router.kept.deployment(kept.deployment)  # logs it
            raise no_such_batch(
                handed, "; its deployment is not in the configuration of this gateway"
            )
        return kept, deployment

    async def read(self, handed: str, caller: Caller) -> Object:
        """A batch as it is now; it is charged if it has ended."""
        kept, deployment = await self.find(handed, caller)
        try:
            return await self._refreshed(kept, deployment)
        except ProviderError as error:
            if not is_gone(error):
                raise
            raise no_such_batch(handed) from None

    async def cancelled(self, handed: str, caller: Caller) -> Object:
        """Cancel a batch; what was answered by then is charged once it has ended."""
        kept, deployment = await self.find(handed, caller)
        return await self._refreshed(kept, deployment, "POST", "/cancel")

    async def listed(self, query: bytes, caller: Caller) -> Object:
        """A page of this caller's batches, the newest first, as they are now."""
        asked = dict(parse_qsl(query.decode("latin-1")))
        page = await page_of(
            self._ledger, "batch", asked, caller, usual=LISTED_BATCHES, most=MAX_LISTED_BATCHES
        )
        slots = asyncio.Semaphore(REFRESHED_AT_ONCE)

        async def one(kept: Kept) -> Object:
            known = about(kept)
            deployment = self._router.stores.find(kept.deployment)
            if known.settled or deployment is None:
                return shown(kept, known, decoded(bytes(known.body)))
            async with slots:
                try:
                    return await self._refreshed(kept, deployment)
                except ProviderError:
                    return shown(kept, known, decoded(bytes(known.body)))

        return listing(await asyncio.gather(*map(one, page.rows)), more=page.more)

    async def settled(self, kept: Kept, deployment: Deployment) -> None:
        """Charge the batch whose files are about to be read or deleted, unless it was.

        Raises:
            InvalidRequestError: it has not ended, or its model is not served any more.
            ProviderError, LedgerUnavailableError: it cannot be charged now.
        """
        if kept.kind != "batch" or about(kept).settled:
            return
        known, batch = await self._router.batches.refreshed(kept, deployment, must_settle=True)
        if known.settled:
            return
        if has_ended(batch):
            raise InvalidRequestError(
                f"the batch cannot be charged, so its files cannot be read: {known.route!r} does not have"
                f" its deployment for {known.endpoint} any more; put it back into the configuration",
                code="unsupported_endpoint",
            )
        raise InvalidRequestError(
            f"the batch has not ended (its status is {str(batch.get('status'))[:64]!r}); its files can"
            " be read and deleted once it has",
            code="batch_not_ended",
        )

    async def _refreshed(
        self, kept: Kept, deployment: Deployment, method: str = "GET", action: str = ""
    ) -> Object:
        known, batch = await self._router.batches.refreshed(kept, deployment, method, action)
        return shown(kept, known, batch)


def shown(kept: Kept, known: About, batch: Object) -> Object:
    """A batch with the ids that its owner knows."""
    found = {**batch, "id": id_of(kept), "input_file_id": known.input}
    for name in ("output_file_id", "error_file_id"):
        unique = batch.get(name)
        if isinstance(unique, str) and unique:
            found[name] = handed_id("file", kept.request_id, unique)
    return found


def no_such_batch(handed: str, more: str = "") -> InvalidRequestError:
    """The error for an id that the caller has no batch by."""
    return InvalidRequestError(
        f"Batch with id {handed[:128]!r} not found{more}.", status=404, code="batch_not_found"
    )
