"""Admits requests under rates, from this process's shares of them.

Nothing here is written at a request: a share is asked for when it runs out, and given back when much of it
is left over. How shares are divided is in `rates.shares`, what one account counts in `rates.meter`.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TypeVar

import msgspec

from spanledger.budgets.accounts import ROOMY
from spanledger.budgets.scopes import dimensions_of
from spanledger.clock import Clock
from spanledger.errors import LedgerUnavailableError, Overuse, RateExceededError
from spanledger.ledger.aside import Aside
from spanledger.ledger.model import AttemptEnd, Reservation
from spanledger.ledger.rating.ports import RateRows
from spanledger.rates.matching import RateIndex
from spanledger.rates.meter import Excess, RateMeter, Standing
from spanledger.rates.model import NO_AMOUNTS, Amounts, RateAccount
from spanledger.rates.shares import KEPT_NS, Claim, SharesNow

log = logging.getLogger(__name__)

EXCHANGE_TIMEOUT_S = 8
"""For the ledger's answer; longer than it waits for another's transaction."""
SHARES_EVERY_S = 1
"""How soon a changed rate applies, and how often shares are looked through."""
T = TypeVar("T")
_REQUESTS, _TOKENS, _NANO = (Amounts._fields.index(n) for n in ("requests", "tokens", "nano"))


Needs = tuple[tuple[RateMeter, Amounts], ...]


class Admission(msgspec.Struct, frozen=True):
    """An attempt that asks to be admitted.

    Attributes:
        wanted: what it needs on each account.
        first: the meters that count its request from this attempt on.
        whole: it may use all that it can; else no more output than is usual for it.
    """

    request_id: str
    attempt_id: str
    wanted: Needs
    first: tuple[RateMeter, ...]
    whole: bool


class Admitted(msgspec.Struct, frozen=True):
    """An attempt that was admitted, and when, monotonic seconds."""

    asked: Admission
    at: float


class _Open(msgspec.Struct):
    """A request in progress: the meters that count it, and its attempts that have not ended."""

    since: float
    meters: dict[RateAccount, RateMeter] = {}
    attempts: dict[str, Admitted] = {}


class Limiter:
    """The rates of one process.

    Attributes:
        on: whether there are any rates.
        open: requests in progress that some rate counts, by id.
        refused: how many requests each rate has refused, by rate, scope and measure.
        journaling: whether the ledger is unavailable and attempts are held in a journal.
    """

    def __init__(
        self, rows: RateRows, owner: str, clock: Clock, *, longest_request_s: float = math.inf
    ) -> None:
        self.on = False
        self.open: dict[str, _Open] = {}
        self.refused: Counter[tuple[str, str, str]] = Counter()
        self.journaling: Callable[[], bool] = lambda: False
        self._rows = rows
        self._owner = owner
        self._clock = clock
        self._longest_s = longest_request_s
        self._aside = Aside("ledger-rates", EXCHANGE_TIMEOUT_S)
        self._index = RateIndex(())
        self._version = -1
        self._meters: dict[RateAccount, RateMeter] = {}
        self._due: dict[RateAccount, tuple[RateMeter, Amounts]] = {}
        self._waiting: list[tuple[Admission, asyncio.Future[Admitted]]] = []
        self._asking: asyncio.Task[None] | None = None

    # rates --------------------------------------------------------------------------------

    def load(self) -> None:
        """Read the rates, before anybody is served."""
        self._change(self._rows.version(), RateIndex(self._rows.rates()))

    def _change(self, version: int, index: RateIndex) -> None:
        self._version, self._index = version, index
        for account, meter in self._meters.items():
            rate = index.by_name.get(account.rate)
            if rate is not None and rate.scope == account.scope and rate != meter.rate:
                meter.change(rate)
        self.on = bool(index.by_name)

    async def run(self) -> None:
        """Look for changed rates and through our shares, until cancelled."""
        while True:
            await self._clock.sleep(SHARES_EVERY_S)
            with suppress(LedgerUnavailableError):  # the ledger itself reports that
                await self.look()

    async def look(self) -> None:
        """Do both once."""
        version = await self._call(self._rows.version)
        if version != self._version:
            self._change(version, RateIndex(await self._call(self._rows.rates)))
        now = self._clock.monotonic()
        self._forget_lost(now)
        self._due = {m.account: (m, NO_AMOUNTS) for m in self._meters.values() if m.is_due(now)}
        if self._due:
            await asyncio.shield(self._begin_asking())
        for account in [a for a, meter in self._meters.items() if meter.is_idle(now)]:
            del self._meters[account]

    def _forget_lost(self, now: float) -> None:
        """Release requests whose end was never reported, which would be a bug of ours."""
        lost = [i for i, each in self.open.items() if now - each.since > self._longest_s]
        for request_id in lost:
            self.ended(request_id)

    async def close(self) -> None:
        """Give back what was not used."""
        if self._asking is not None:
            await asyncio.wait([self._asking])
        asks = [
            meter.ask(self._clock.monotonic())._replace(spare=False)
            for meter in self._meters.values()
        ]
        with suppress(LedgerUnavailableError):
            if asks:
                await self._call(lambda: self._exchanged(asks))
        with suppress(LedgerUnavailableError):
            await self._call(self._rows.close)
        self._aside.close()

    # requests -----------------------------------------------------------------------------

    async def admit(self, asked: Reservation) -> Admitted | None:
        """Count an attempt on all rates that apply to it; None if none does.

        A request counts once on each of them, its tokens and money with each attempt.

        Raises:
            RateExceededError: a rate has no room; nothing was counted.
            LedgerUnavailableError: our share has run out, and no other can be had.
        """
        matched = self._index.matched(dimensions_of(asked))
        if not matched:
            return None
        request_id = asked.request.request_id
        known = self.open.get(request_id)
        counted = known.meters if known is not None else {}
        meters = tuple([self._meter(account) for account, _ in matched])
        first = tuple([meter for meter in meters if meter.account not in counted])
        whole = self._may_use_all(asked, meters)
        sizes = asked.sizes
        tokens = sizes.full_tokens if whole else sizes.usual_tokens
        nano = sizes.full if whole else sizes.usual
        wanted = tuple(
            [
                (meter, Amounts(int(meter in first), tokens, nano, int(meter in first)))
                for meter in meters
            ]
        )
        attempt = Admission(request_id, asked.attempt_id, wanted, first, whole)
        return self._decided(attempt) or await self._wait(attempt)

    def _decided(self, asked: Admission, *, leased: bool = True) -> Admitted | None:
        """Count an attempt, or refuse it; None if the ledger has to be asked first."""
        now = self._clock.monotonic()
        for meter, needs in asked.wanted:
            if (excess := meter.excess(now, needs)) is not None:
                raise self._refusal(asked, meter, excess, needs, now)
        if not all(meter.fits(now, needs, leased=leased) for meter, needs in asked.wanted):
            return None
        for meter, needs in asked.wanted:
            meter.take(now, needs)
        admitted = Admitted(asked, now)
        current = self.open.get(asked.request_id)
        if current is None:
            current = self.open[asked.request_id] = _Open(now)
        current.meters.update({meter.account: meter for meter in asked.first})
        current.attempts[asked.attempt_id] = admitted
        return admitted

    async def _wait(self, asked: Admission) -> Admitted:
        """Wait for the ledger's answer, in the order in which attempts came."""
        future: asyncio.Future[Admitted] = asyncio.get_running_loop().create_future()
        self._waiting.append((asked, future))
        self._begin_asking()
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                self.withdraw(future.result())
            raise

    def _meter(self, account: RateAccount) -> RateMeter:
        meter = self._meters.get(account)
        if meter is None:
            meter = self._meters[account] = RateMeter(account, self._index.by_name[account.rate])
        meter.used_at = self._clock.monotonic()  # it must not be forgotten while somebody waits
        return meter

    def _may_use_all(self, asked: Reservation, meters: Sequence[RateMeter]) -> bool:
        """As budgets decide it: an attempt without a cap gets its full bound if that is little of what
        is left; else what is usual for it, and a cap."""
        sizes, now = asked.sizes, self._clock.monotonic()
        if sizes.capped or sizes.full_tokens == sizes.usual_tokens:
            return True
        for meter in meters:
            for place, most in ((_TOKENS, sizes.full_tokens), (_NANO, sizes.full)):
                room = meter.room(now, place)
                if room is not None and most * ROOMY > room:
                    return False
        return True

    def _refusal(
        self, asked: Admission, meter: RateMeter, excess: Excess, needs: Amounts, now: float
    ) -> RateExceededError:
        measure, limit, used, wait_s = excess
        rate, scope, subject = meter.account
        self.refused[rate, scope, measure] += 1
        wait = None if wait_s is None else max(1, math.ceil(wait_s))
        needed = getattr(needs, measure)
        overuse = Overuse(rate, scope, subject, measure, limit, used, needed, wait)
        return RateExceededError(overuse, self._standing(asked, now))

    def standing(self, admitted: Admitted) -> Standing:
        """What is left to the next request like this one."""
        return self._standing(admitted.asked, self._clock.monotonic())

    def _standing(self, asked: Admission, now: float) -> Standing:
        requests, tokens = (
            min(
                (left for meter, _ in asked.wanted if (left := meter.left(now, place)) is not None),
                key=lambda left: left.remaining,
                default=None,
            )
            for place in (_REQUESTS, _TOKENS)
        )
        return Standing(requests, tokens, self._clock.now_ns())

    # ends ---------------------------------------------------------------------------------

    def withdraw(self, admitted: Admitted) -> None:
        """Undo an admission whose attempt was not made."""
        asked = admitted.asked
        current = self.open.get(asked.request_id)
        if current is None or current.attempts.pop(asked.attempt_id, None) is None:
            return
        for meter, (requests, tokens, nano, in_flight) in asked.wanted:
            meter.correct(admitted.at, -requests, -tokens, -nano)
            meter.in_flight -= in_flight
            if in_flight:
                del current.meters[meter.account]
        if not current.meters:
            del self.open[asked.request_id]

    def settled(self, end: AttemptEnd) -> None:
        """Replace what an attempt was held with by what it used."""
        request_id = end.attempt_id.rpartition(".")[0]
        current = self.open.get(request_id)
        if current is None:
            return
        admitted = current.attempts.pop(end.attempt_id, None)
        if admitted is not None:
            tokens = 0 if end.cost_nano is None else end.input_tokens + end.output_tokens
            nano = end.cost_nano or 0
            for meter, needs in admitted.asked.wanted:
                meter.correct(admitted.at, 0, tokens - needs.tokens, nano - needs.nano)
        if end.request is not None:
            self.ended(request_id)

    def ended(self, request_id: str) -> None:
        """A request is not in flight any more. What an attempt of it still holds stays counted."""
        current = self.open.pop(request_id, None)
        if current is not None:
            for meter in current.meters.values():
                meter.in_flight -= 1

    # shares -------------------------------------------------------------------------------

    def _begin_asking(self) -> asyncio.Task[None]:
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask())
            self._asking.add_done_callback(self._has_asked)
        return self._asking

    def _has_asked(self, asking: asyncio.Task[None]) -> None:
        """Nobody waits for an answer that will not come, even if we have a bug."""
        if asking.cancelled() or (error := asking.exception()) is None:
            return
        log.error("shares of rates could not be leased", exc_info=error)
        waiting, self._waiting = self._waiting, []
        for _, future in waiting:
            if not future.done():
                future.set_exception(LedgerUnavailableError(f"no share of a rate: {error}"))

    async def _ask(self) -> None:
        """Claim for what is needed, with all that wait in one question, as long as anything is."""
        while self._waiting or self._due:
            needed, self._due = self._due, {}
            for asked, _ in self._waiting:
                for meter, needs in asked.wanted:
                    _, before = needed.get(meter.account, (meter, NO_AMOUNTS))
                    total = Amounts(*(a + b for a, b in zip(before, needs, strict=True)))
                    needed[meter.account] = (meter, total)
            failure: LedgerUnavailableError | None = None
            try:
                await self._exchange(needed)
            except LedgerUnavailableError as error:
                failure = error
            waiting, self._waiting = self._waiting, []
            for asked, future in waiting:
                if not future.done():  # else its caller has left
                    self._answer(asked, future, failure)

    def _answer(
        self,
        asked: Admission,
        future: asyncio.Future[Admitted],
        failure: LedgerUnavailableError | None,
    ) -> None:
        try:
            # What is ours stays ours while the ledger is unavailable: nobody else can get any of it.
            leased = failure is None or not self.journaling()
            admitted = self._decided(asked, leased=leased)
        except RateExceededError as refusal:
            future.set_exception(refusal)
            return
        if admitted is not None:
            future.set_result(admitted)
        elif failure is not None:
            future.set_exception(LedgerUnavailableError(str(failure)))
        else:
            self._waiting.append((asked, future))

    async def _exchange(self, needed: Mapping[RateAccount, tuple[RateMeter, Amounts]]) -> None:
        now = self._clock.monotonic()
        asks = [meter.ask(now, needs) for meter, needs in needed.values()]
        try:
            shares = await self._call(lambda: self._exchanged(asks))
        except BaseException:
            for meter, _ in needed.values():
                meter.got_none()
            raise
        for (meter, _), share in zip(needed.values(), shares, strict=True):
            meter.got(now, share)

    def _exchanged(self, asks: Sequence[Claim]) -> list[SharesNow]:
        now_ns = self._clock.now_ns()
        return self._rows.exchange(self._owner, asks, now_ns, now_ns + KEPT_NS)

    async def _call(self, work: Callable[[], T]) -> T:
        try:
            return await self._aside.call(work)
        except TimeoutError:
            raise LedgerUnavailableError(
                f"the ledger did not answer within {EXCHANGE_TIMEOUT_S:g} s when it was asked for rates"
            ) from None
