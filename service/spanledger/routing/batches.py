"""Batches: what one can cost, its hold, and what it cost.

A batch is held by its input. Every line is a request that its wire bounds, at the price of tokens in
a batch; the sum is held when the batch is created, and until it is settled or two days have passed.
It is settled when its output is first read here, from the usage of each line, exactly once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from urllib.parse import quote

import msgspec
from msgspec.structs import replace as replaced

from spanledger.clock import Clock
from spanledger.errors import InvalidRequestError, LedgerUnavailableError, ProviderError
from spanledger.ledger.model import AttemptEnd, Kept
from spanledger.ledger.ports import Ledger
from spanledger.pricing.price import Price
from spanledger.pricing.reported import from_openai
from spanledger.pricing.usage import Usage
from spanledger.providers.base import Call, Deployment
from spanledger.routing.course import Candidate
from spanledger.routing.demand import terms_of, unbounded_by
from spanledger.routing.hold import DEFAULT_MAX_OUTPUT_TOKENS, EXPECTED_TOKENS, sizes_of
from spanledger.routing.stores import Object, Stores, decoded, is_gone
from spanledger.telemetry.attributes import attempt_detail
from spanledger.wires import BATCHES, dropped, outbound
from spanledger.wires.base import WRITES_TEXT, Habits, Inbound
from spanledger.wires.batch import (
    ENDPOINTS,
    MAX_LINES,
    Line,
    Result,
    is_free,
    read_line,
    read_result,
    wrong_line,
)

HOLD_S = 48 * 3600
"""How long a batch is held: a day that it may take, and a day to read its output."""
ENDED = frozenset({"completed", "expired", "cancelled", "failed"})
"""Statuses in which a batch bills nothing more."""
RUNNING = frozenset({"validating", "in_progress", "finalizing", "cancelling"})
"""Statuses in which a batch may still bill something."""

log = logging.getLogger(__name__)


class About(msgspec.Struct):
    """What the gateway has to know of a file or a batch.

    Attributes:
        route: whose deployment it is at.
        asked: the model, if the route is a wildcard.
        purpose: of a file.
        input: the caller's id of a batch's input file.
        endpoint: what the lines of a batch, or of its input, ask for.
        settled: a batch was charged.
        bound_nano: what is held for a batch.
        lines: of a batch's input.
        gone: files of a batch that were deleted.
        body: the provider's object, as it was last seen; ids are the provider's.
    """

    route: str
    asked: str = ""
    purpose: str = ""
    input: str = ""
    endpoint: str = ""
    settled: bool = False
    bound_nano: int = 0
    lines: int = 0
    gone: list[str] = []
    body: msgspec.Raw = msgspec.Raw(b"{}")

    def text(self) -> str:
        """As it is stored."""
        return msgspec.json.encode(self).decode()


_ABOUT = msgspec.json.Decoder(About)


def about(kept: Kept) -> About:
    """What the gateway knows of something kept."""
    return _ABOUT.decode(kept.about)


@dataclass(slots=True)
class Bound:
    """The most that a batch can cost, and what it may be expected to.

    Attributes:
        unbounded: why nothing bounds it; empty where the sum does.
        priced: all its lines have a price.
    """

    full_nano: int = 0
    expected_nano: int = 0
    lines: int = 0
    unbounded: str = ""
    priced: bool = True


def mismatched(url: str) -> InvalidRequestError:
    """The error for a batch at another endpoint than its lines."""
    return InvalidRequestError(
        f"the lines of the file are for {url}; create the batch with this endpoint",
        code="mismatched_endpoint",
        param="endpoint",
    )


class BatchFile:
    """The input of a batch on its way to an account: each line is read, and written for it.

    Attributes:
        lines: so far.
        url: what they ask for.
    """

    def __init__(self, target: Candidate, route: str, named: Callable[[str], str]) -> None:
        self.lines = 0
        self._target = target
        self._route = route
        self._named = named  # the route for a name, which may be an alias
        self.url = ""

    def rewritten(self, raw: bytes) -> bytes:
        """A line as the account gets it. Raises InvalidRequestError."""
        self.lines += 1
        if self.lines > MAX_LINES:
            raise wrong_line(self.lines, f"a batch has at most {MAX_LINES} lines")
        line = read_line(raw, self.lines)
        self.url = self.url or line.url
        if line.url != self.url:
            raise wrong_line(self.lines, f"all lines must have the same url, {self.url}")
        if self._named(line.ask.route) != self._route:
            raise wrong_line(
                self.lines, f"all lines must have the same model, {self._route!r}, as the file"
            )
        if line.ask.demand.services:
            names = " and ".join(line.ask.demand.services)
            raise wrong_line(self.lines, f"a batch has its own service tier; leave out {names}")
        return line.written(self._body(line))

    def _body(self, line: Line) -> bytes:
        target, ask = self._target, line.ask
        wire = ask.wire
        spoken = target.deployment.speaks_for(ask.fields)
        out = outbound(wire, spoken)
        if out is None or wire.name not in spoken:
            raise wrong_line(
                self.lines,
                f"{self._route!r} does not serve {line.url} itself, and answers in a batch are not"
                " translated; choose another model or endpoint",
            )
        cap = None
        price = target.price
        if ask.demand.cap is None and wire.operation in WRITES_TEXT:
            # Nothing else bounds the answer, and a hold cannot lower its cap afterwards.
            cap = (
                None if price is not None and price.max_output_tokens else DEFAULT_MAX_OUTPUT_TOKENS
            )
        fields = target.deployment.fields_for(ask.fields, wire.operation)
        call = Call(target.deployment, wire, fields, 0.0, max_output_tokens=cap)
        name = target.deployment.cap or "max_tokens"
        try:
            return out.request(call, False, Habits(name)).body
        except ProviderError as error:
            raise wrong_line(self.lines, str(error)) from None


class Batches:
    """What batches cost."""

    def __init__(self, stores: Stores, ledger: Ledger, clock: Clock) -> None:
        self.stores = stores
        self._ledger = ledger
        self._clock = clock
        self._left: set[tuple[str, str, str]] = set()  # what was logged

    async def bound(self, target: Candidate, file: str, endpoint: str, wire: Inbound) -> Bound:
        """The most that a batch of this file can cost, at prices of a batch.

        Raises:
            InvalidRequestError: the file is not the input of a batch for this endpoint.
            ProviderError: it cannot be read.
        """
        found = Bound()
        price = None if target.price is None else target.price.batched
        found.priced = price is not None or is_free(wire)
        async with aclosing(self.stores.lines(target.deployment, file)) as lines:
            async for raw in lines:
                found.lines += 1
                line = read_line(raw, found.lines)
                if line.url != endpoint:
                    raise mismatched(line.url)
                if line.ask.route != target.deployment.model:
                    raise InvalidRequestError(
                        f"the lines of the file are for {line.ask.route!r}, which its route has no"
                        " longer; upload it again",
                        code="mismatched_model",
                        param="input_file_id",
                    )
                _add(found, line, target.deployment, price)
        if not found.lines:
            raise InvalidRequestError(
                "the file has no lines", code="empty_file", param="input_file_id"
            )
        return found

    async def refreshed(
        self,
        kept: Kept,
        deployment: Deployment,
        method: str = "GET",
        action: str = "",
        *,
        must_settle: bool = False,
    ) -> tuple[About, Object]:
        """What is known of a batch, and the batch as its provider shows it now. It is charged if it has
        ended; unless it must be, a failure to do so is left to the next time.

        Raises:
            ProviderError: the provider cannot be asked, or what it must be charged by cannot be read.
            LedgerUnavailableError: nothing was remembered.
        """
        path = f"batches/{quote(kept.provider_id, safe='')}{action}"
        raw = await self.stores.json(deployment, method, path)
        known, batch = about(kept), decoded(raw)
        known.body = msgspec.Raw(raw)
        if has_ended(batch) and not known.settled:
            try:
                known.settled = await self._settle(kept, known, batch)
            except (ProviderError, LedgerUnavailableError):
                if must_settle:
                    raise
        await self._ledger.change_kept(kept.request_id, known.text())
        return known, batch

    async def _settle(self, kept: Kept, known: About, batch: Object) -> bool:
        """Charge a batch that has ended, and return whether that is done. Doing so again changes
        nothing.

        Raises:
            ProviderError: its output cannot be read now; it is still held.
            LedgerUnavailableError: the same.
        """
        wire = ENDPOINTS[known.endpoint]
        created = await self._ledger.find_answer(kept.request_id, BATCHES)
        began_ns = kept.created_ns if created is None else created.began_ns
        target = self.stores.candidate(kept.deployment, known.route, known.asked, wire, began_ns)
        if target is None:
            place = (kept.deployment, known.route, wire.path)
            if place not in self._left:
                self._left.add(place)
                log.warning(
                    "batches of deployment %r are not charged: the configuration does not have it as %r"
                    " for %s any more",
                    *place,
                )
            return False
        used = await self._used(target, known, batch)
        end = self._end(kept, known, target.deployment, batch, used)
        if created is not None and created.detail != "{}":
            end = replaced(end, detail=created.detail)
        await self._ledger.finish(end)
        return True

    async def _used(self, target: Candidate, known: About, batch: Object) -> _Used:
        price = None if target.price is None else target.price.batched
        used = _Used(price, known.bound_nano // max(1, known.lines))
        output = batch.get("output_file_id")
        if not isinstance(output, str) or not output:
            return used
        try:
            async with aclosing(self.stores.lines(target.deployment, output)) as lines:
                async for raw in lines:
                    used.add(read_result(raw))
        except ProviderError as error:
            told = from_openai(batch.get("usage"))
            if not is_gone(error) or told is None:
                raise
            used.add(Result(True, told))
            used.estimated = True
        return used

    def _end(
        self,
        kept: Kept,
        known: About,
        deployment: Deployment,
        batch: Object,
        used: _Used,
    ) -> AttemptEnd:
        status = str(batch.get("status", ""))
        failed = status == "failed"
        cost: int | None = used.nano
        if not used.answers and not used.pico:
            cost = None if failed else 0
        model = batch.get("model")
        return AttemptEnd(
            attempt_id=f"{kept.request_id}.1",
            ended_ns=self._clock.now_ns(),
            cost_nano=cost,
            list_nano=None if cost is None else used.list_nano,
            estimated=used.estimated,
            unpriced=used.price is None and bool(used.usage.input_tokens),
            error_type="invalid_request" if failed else "",
            http_status=200,
            input_tokens=used.usage.input_tokens,
            output_tokens=used.usage.output_tokens,
            cache_read_tokens=used.usage.cache_read_input_tokens,
            cache_write_tokens=used.usage.cache_write_input_tokens,
            reasoning_tokens=used.usage.reasoning_output_tokens,
            response_model=model[:256] if isinstance(model, str) else "",
            detail=detail_of(deployment, kept.provider_id, known.lines),
            late=True,
        )


def has_ended(batch: Object) -> bool:
    """Whether a batch bills nothing more. A server that names no status of a batch ends it with its
    output."""
    status = batch.get("status")
    return status in ENDED or (status not in RUNNING and bool(batch.get("output_file_id")))


def detail_of(deployment: Deployment, batch: str, lines: int, request_id: str = "") -> str:
    """What is known of a batch's attempt and has no column."""
    extra: dict[str, object] = {"spanledger.service_tier": "batch"}
    if lines:
        extra["spanledger.batch.requests"] = lines
    return attempt_detail(
        request={},
        deployment=deployment,
        response_id=batch,
        finish_reasons=(),
        provider_request_id=request_id,
        extra=extra,
    )


class _Used:
    """What the answers of a batch add up to."""

    def __init__(self, price: Price | None, guess_nano: int) -> None:
        self.price = price
        self.usage = Usage()
        self.pico = 0
        self.list_pico = 0
        self.answers = 0
        self.estimated = False
        self._guess_nano = guess_nano
        self._guessed_nano = 0

    @property
    def nano(self) -> int:
        """The sum, rounded up once."""
        if self.price is None:
            return self._guessed_nano
        return self.price.billed_nano(self.pico) + self._guessed_nano

    @property
    def list_nano(self) -> int | None:
        """The same without any contract; None while there are no contracts."""
        if self.price is None or self.price.listed is None:
            return None
        return self.price.listed.billed_nano(self.list_pico) + self._guessed_nano

    def add(self, result: Result) -> None:
        """One answer. Without usage, it is charged what was held for a line on average."""
        if not result.answered:
            return
        self.answers += 1
        if result.usage is None:
            if self._guess_nano:
                self.estimated = True
                self._guessed_nano += self._guess_nano
            return
        self.usage = self.usage.plus(replaced(result.usage, told_nano=0))
        self.estimated = self.estimated or bool(result.usage.ambiguity)
        if self.price is not None:
            self.pico += self.price.cost_pico(result.usage)
            if self.price.listed is not None:
                self.list_pico += self.price.listed.cost_pico(result.usage)


def _add(found: Bound, line: Line, deployment: Deployment, price: Price | None) -> None:
    ask = line.ask
    demand, wire = ask.demand, ask.wire
    left_out = dropped(wire, deployment.speaks_for(ask.fields))
    terms = terms_of(demand, deployment, "", left_out)
    sizes = sizes_of(demand, price, terms)
    found.full_nano += sizes.holds.full
    found.unbounded = found.unbounded or unbounded_by(demand, deployment, price, left_out)
    if price is None:
        return
    read = wire.estimate(ask.fields)
    output = EXPECTED_TOKENS if demand.cap is None else min(demand.cap, EXPECTED_TOKENS)
    if wire.operation not in WRITES_TEXT:
        output = 0
    expected = replaced(read, output_tokens=output * demand.choices)
    found.expected_nano += min(price.cost_nano(expected), sizes.holds.full)
