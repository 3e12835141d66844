"""Files that providers keep for callers, in OpenAI's form: uploads, lists, reading and deleting.

An uploaded file is bound to the account it went to. Its id names the request that uploaded it, whose
row says whose it is; for everybody but its customer's team it does not exist.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qsl, quote

import msgspec

from spanledger.clock import Clock
from spanledger.errors import InvalidRequestError, ProviderError
from spanledger.gateway.auth import Caller
from spanledger.gateway.bodies import FormUpload, Spool
from spanledger.gateway.crowd import Slot
from spanledger.gateway.models import Models
from spanledger.ledger.model import Kept, KeptKind
from spanledger.ledger.ports import Ledger
from spanledger.providers.base import Deployment
from spanledger.routing.batches import About, BatchFile, about
from spanledger.routing.course import Candidate
from spanledger.routing.request import Exchange
from spanledger.routing.stores import Object, decoded, is_gone
from spanledger.wires.batch import ENDPOINTS, read_line
from spanledger.wires.fields import DECODE_ERRORS
from spanledger.wires.form import ByteRange, Form, FormPart, Pieces
from spanledger.wires.kept_ids import handed_id, kept_id

if TYPE_CHECKING:
    from spanledger.routing.router import Router

PAGE, MAX_PAGE = 100, 1_000
"""Files or batches in a list: unless the caller says, and at most."""
MAX_LISTED = 10_000
"""Rows that one list looks at, if most of them have another purpose."""
LINE_BYTES = 4 * 2**20
"""Of a line of a batch."""
ResolvedLine = Callable[[bytes], Awaitable[bytes]]
_OURS = frozenset({"model", "target_model_names", "target_model_names[]"})
"""Fields of the form that are for the gateway."""


class FilePlace(NamedTuple):
    """Where a file goes: a deployment, and the route and model by which it was found."""

    deployment: Deployment
    route: str
    asked: str = ""
    target: Candidate | None = None


class Files:
    """What callers do with files."""

    def __init__(self, ledger: Ledger, router: Router, models: Models, clock: Clock) -> None:
        self._ledger = ledger
        self._router = router
        self._models = models
        self._clock = clock

    # finding ------------------------------------------------------------------------------

    async def find(self, handed: str, caller: Caller) -> tuple[Kept, str, Deployment]:
        """A file of this caller: what names it, the provider's id, and where it is.

        Raises:
            InvalidRequestError: this caller has no such file.
        """
        known = kept_id(handed)
        kept = None
        if known is not None and known.kind == "file":
            kept = await self._ledger.find_kept(known.request_id)
        if known is None or kept is None or not is_owner(kept, caller):
            raise no_such_file(handed)
        if known.provider_id not in files_of(kept):
            raise no_such_file(handed)
        deployment = self._router.stores.find(kept.deployment)
        if deployment is None:
            self._router.kept.deployment(kept.deployment)  # logs it
            raise no_such_file(
                handed, "; its deployment is not in the configuration of this gateway"
            )
        return kept, known.provider_id, deployment

    async def shown(self, handed: str, caller: Caller) -> Object:
        """A file, as its provider describes it."""
        kept, unique, deployment = await self.find(handed, caller)
        try:
            raw = await self._router.stores.json(
                deployment, "GET", f"files/{quote(unique, safe='')}"
            )
        except ProviderError as error:
            if not is_gone(error):
                raise
            if kept.kind == "file":
                await self._ledger.change_kept(kept.request_id, None)
            raise no_such_file(handed) from None
        return {**decoded(raw), "id": handed}

    async def deleted(self, handed: str, caller: Caller) -> Object:
        """Delete a file."""
        kept, unique, deployment = await self.find(handed, caller)
        try:
            raw = await self._router.stores.json(
                deployment, "DELETE", f"files/{quote(unique, safe='')}"
            )
        except ProviderError as error:
            if not is_gone(error):
                raise
            raise no_such_file(handed) from None
        if kept.kind == "file":
            await self._ledger.change_kept(kept.request_id, None)
        return {**decoded(raw), "id": handed}

    async def listed(self, query: bytes, caller: Caller) -> Object:
        """A page of this caller's files."""
        asked = dict(parse_qsl(query.decode("latin-1")))
        purpose = asked.get("purpose", "")

        def fits(kept: Kept) -> bool:
            return not purpose or about(kept).purpose == purpose

        page = await page_of(self._ledger, "file", asked, caller, fits)
        data = [{**decoded(bytes(about(k).body)), "id": id_of(k)} for k in page.rows]
        return listing(data, more=page.more)

    # uploading ----------------------------------------------------------------------------

    async def place(
        self, upload: FormUpload, headers: dict[bytes, bytes], caller: Caller
    ) -> FilePlace:
        """Where an upload goes: the route that it names, that of a batch's first line, or the only
        account that keeps files.

        Raises:
            InvalidRequestError: no such account, or more than one.
            PermissionDeniedError: the key may not use the route.
        """
        form = upload.form
        named = _named(form, headers)
        wires = list(ENDPOINTS.values())
        if purpose_of(form) == "batch":
            async with aclosing(lines_of(upload, file_of(form))) as lines:
                first = read_line(await anext(lines, b""), 1)
            named, wires = named or first.ask.route, [first.ask.wire]
        if not named:
            deployment = self._router.stores.only(caller.routes, caller.models)
            return FilePlace(deployment, deployment.route)
        route = self._models.route(named)
        serving = self._models.serving(route)
        self._models.check(route, serving, caller)
        asked = route if serving != route else ""
        target = self._router.stores.of_route(serving, asked, wires, caller.models)
        return FilePlace(target.deployment, serving, asked, target)

    async def uploaded(
        self,
        upload: FormUpload,
        place: FilePlace,
        exchange: Exchange,
        slot: Slot,
        resolved: ResolvedLine,
    ) -> Object:
        """Upload a file. `resolved` makes of a batch's line one that names files as the account does.

        Raises:
            SpanledgerError: it was not; the request is booked.
        """
        form, deployment, purpose = upload.form, place.deployment, purpose_of(upload.form)
        await self._router.single.hold(exchange, deployment, 0)
        spool: Spool | None = None
        endpoint = ""
        try:
            items: list[bytes | ByteRange | tuple[Spool, int]] = []
            for part in form.parts:
                if part.name in _OURS:
                    continue
                if purpose == "batch" and part.is_file and part.name == "file":
                    spool, size, endpoint = await self._rewritten(
                        upload, part, place, slot, resolved
                    )
                    items += [ByteRange(part.start, part.value_at), (spool, size), b"\r\n"]
                else:
                    items.append(ByteRange(part.start, part.end))
            items.append(ByteRange(form.end, form.size))
            size = sum(map(_size, items))
            headers = (
                (b"content-type", form.content_type.encode("latin-1")),
                (b"content-length", b"%d" % size),
            )
            body = _sent(upload, items)
            raw, provider_request_id = await self._router.stores.whole(
                deployment, "POST", "files", headers, body
            )
            said = decoded(raw)
            unique = str(said.get("id", ""))
            handed = handed_id("file", exchange.start.request_id, unique)
        except BaseException as error:
            await self._router.single.failed(exchange, deployment, error, 0)
            raise
        finally:
            if spool is not None:
                spool.close()
        start = exchange.start
        known = About(place.route, place.asked, purpose, endpoint=endpoint, body=msgspec.Raw(raw))
        kept = Kept(
            *(start.request_id, "file", start.customer, start.team, deployment.id, unique),
            created_ns=self._clock.now_ns(),
            about=known.text(),
        )
        ids = (unique, provider_request_id)
        await self._router.single.free(exchange, deployment, ids, kept)
        return {**said, "id": handed}

    async def _rewritten(
        self,
        upload: FormUpload,
        part: FormPart,
        place: FilePlace,
        slot: Slot,
        resolved: ResolvedLine,
    ) -> tuple[Spool, int, str]:
        """The lines of a batch as the account gets them, their bytes, and what they ask for."""
        if place.target is None:
            raise InvalidRequestError("a batch needs a model", param="file")
        lines = BatchFile(place.target, place.asked or place.route, self._models.route)
        spool, size = Spool(slot), 0
        try:
            async with aclosing(lines_of(upload, part)) as raw:
                async for line in raw:
                    written = lines.rewritten(await resolved(line))
                    size += len(written)
                    slot.take(len(written))
                    await spool.write(written)
        except BaseException:
            spool.close()
            raise
        return spool, size, lines.url


class Page(NamedTuple):
    """Some rows of a list, and whether there are more."""

    rows: list[Kept]
    more: bool


async def page_of(
    ledger: Ledger,
    kind: KeptKind,
    asked: dict[str, str],
    caller: Caller,
    fits: Callable[[Kept], bool] = lambda _kept: True,
    *,
    usual: int = PAGE,
    most: int = MAX_PAGE,
) -> Page:
    """The rows that a list asks for. Raises InvalidRequestError."""
    given = asked.get("limit", str(usual))
    if not (given.isascii() and given.isdigit() and 1 <= int(given[:6]) <= MAX_LISTED):
        raise InvalidRequestError(
            f"'limit' must be an integer from 1 to {MAX_LISTED}",
            code="invalid_value",
            param="limit",
        )
    limit, rising = min(int(given[:6]), most), asked.get("order", "desc") == "asc"
    after = ""
    if asked.get("after"):
        known = kept_id(asked["after"])
        if known is None or known.kind != kind:
            raise InvalidRequestError(
                "'after' must be an id from an earlier page", code="invalid_value", param="after"
            )
        after = known.request_id
    rows: list[Kept] = []
    owner, seen = (caller.customer, caller.team), 0
    while len(rows) <= limit and seen < MAX_LISTED:
        found = await ledger.list_kept(owner, kind, after=after, rising=rising, limit=limit + 1)
        seen += len(found)
        rows += [kept for kept in found if fits(kept)]
        if len(found) <= limit:
            break
        after = found[-1].request_id
    return Page(rows[:limit], len(rows) > limit)


def listing(data: list[Object], *, more: bool) -> Object:
    """A list in OpenAI's form."""
    first, last = (data[0]["id"], data[-1]["id"]) if data else (None, None)
    return {"object": "list", "data": data, "first_id": first, "last_id": last, "has_more": more}


def id_of(kept: Kept) -> str:
    """The id that its owner knows a file or a batch by."""
    assert kept.kind != "answer"
    return handed_id(kept.kind, kept.request_id, kept.provider_id)


def files_of(kept: Kept) -> tuple[str, ...]:
    """The provider's ids of the files that a row vouches for: an upload, or what a batch wrote."""
    if kept.kind == "file":
        return (kept.provider_id,)
    if kept.kind == "answer":
        return ()
    batch = decoded(bytes(about(kept).body))
    found = (batch.get(name) for name in ("output_file_id", "error_file_id"))
    return tuple(unique for unique in found if isinstance(unique, str) and unique)


def is_owner(kept: Kept, caller: Caller) -> bool:
    """Whether something belongs to the caller's customer and team."""
    return (kept.customer, kept.team) == (caller.customer, caller.team)


def no_such_file(handed: str, more: str = "") -> InvalidRequestError:
    """The error for an id that the caller has no file by."""
    return InvalidRequestError(
        f"File with id {handed[:128]!r} not found{more}.", status=404, code="file_not_found"
    )


def purpose_of(form: Form) -> str:
    """What a file is for. Raises InvalidRequestError."""
    found = _text(form, "purpose")
    if found and _named_like(form, "purpose") != ["purpose"]:
        raise InvalidRequestError(
            "the form must have one field 'purpose', of that name",
            code="invalid_value",
            param="purpose",
        )
    if not found:
        raise InvalidRequestError(
            "the field 'purpose' is missing", code="missing_required_parameter", param="purpose"
        )
    return found


def file_of(form: Form) -> FormPart:
    """The file of a form. Raises InvalidRequestError."""
    found = form.files("file")
    # Of two with almost one name, the provider may read the one that was not checked.
    if len(found) != 1 or len(_named_like(form, "file")) > 1:
        raise InvalidRequestError(
            "the form must have one file, in the field 'file'",
            code="missing_required_parameter",
            param="file",
        )
    return found[0]


async def lines_of(upload: FormUpload, part: FormPart) -> AsyncGenerator[bytes]:
    """The lines of a file that are not empty. Raises InvalidRequestError for one too long."""
    whole = Pieces((ByteRange(part.value_at, part.value_at + part.size),), part.size, "")
    rest = b""
    async for chunk in upload.chunks(whole):
        *lines, rest = (rest + chunk).split(b"\n")
        if len(rest) > LINE_BYTES:
            raise InvalidRequestError(
                f"a line of the file has more than {LINE_BYTES} bytes", param="file"
            )
        for line in lines:
            if line.strip():
                yield line
    if rest.strip():
        yield rest


async def _sent(
    upload: FormUpload, items: list[bytes | ByteRange | tuple[Spool, int]]
) -> AsyncGenerator[bytes]:
    for item in items:
        if isinstance(item, bytes):
            yield item
        elif isinstance(item, ByteRange):
            async for chunk in upload.chunks(Pieces((item,), item.end - item.start, "")):
                yield chunk
        else:
            spool, size = item
            async for chunk in spool.chunks(ByteRange(0, size)):
                yield chunk


def _size(item: bytes | ByteRange | tuple[Spool, int]) -> int:
    if isinstance(item, bytes):
        return len(item)
    return item.end - item.start if isinstance(item, ByteRange) else item[1]


def _named(form: Form, headers: dict[bytes, bytes]) -> str:
    """The model that says where a file goes; empty where nothing does. Raises InvalidRequestError."""
    found = {headers.get(b"x-spanledger-route", b"").decode("latin-1"), _text(form, "model")}
    for name in ("target_model_names", "target_model_names[]"):
        found |= {word.strip() for word in _text(form, name).split(",")}
    found.discard("")
    if len(found) > 1:
        raise InvalidRequestError(
            "a file goes to one account: name one model",
            code="invalid_value",
            param="target_model_names",
        )
    return found.pop() if found else ""


def _named_like(form: Form, name: str) -> list[str]:
    """The names of the parts that some reader could take for the one of this name."""
    names = (part.name for part in form.parts)
    return [found for found in names if found.strip().lower().removesuffix("[]") == name]


def _text(form: Form, name: str) -> str:
    raw = form.fields.get(name)
    try:
        value = None if raw is None else msgspec.json.decode(raw)
    except DECODE_ERRORS:
        value = None
    values = value if isinstance(value, list) else [value]
    return ",".join(v.strip() for v in values if isinstance(v, str))
