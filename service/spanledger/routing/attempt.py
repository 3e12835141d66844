"""One request in progress, and each of its attempts from the hold to the booked end.

Before an attempt, budgets are checked and money is held; after it, the hold is settled or released,
and the last one also ends the request. `course` decides what may be attempted next, `settle` what
an attempt cost. No adapter, no HTTP and no clock here.

A budget that refuses ends the request with that, even after a provider's error: it is what stops it.
"""

from __future__ import annotations

from types import TracebackType
from typing import NoReturn, Self

from msgspec.structs import replace

from spanledger.errors import (
    CALLER_CAUSED,
    BudgetDegradesError,
    BudgetExceededError,
    BudgetThrottledError,
    LedgerUnavailableError,
    ProviderError,
    SpanledgerError,
    UnpricedModelError,
)
from spanledger.ledger.model import AttemptEnd, Hold, Kept, Later, RequestEnd, Reservation
from spanledger.pricing.demand import Demand
from spanledger.pricing.price import USUAL_SERVICES
from spanledger.pricing.usage import Usage
from spanledger.providers.base import Call
from spanledger.routing.attempting import Attempting
from spanledger.routing.charge import usage_of, usage_unfinished
from spanledger.routing.closer import Closer
from spanledger.routing.course import Candidate, Course, Pick
from spanledger.routing.demand import demand_at, terms_of, unbounded_by
from spanledger.routing.history import OutputHistory
from spanledger.routing.hold import Sizes, expected_output, output_bought, sizes_of
from spanledger.routing.outcome import broken_end, request_end
from spanledger.routing.request import Exchange
from spanledger.routing.room import PlaceInLine
from spanledger.routing.settle import NO_USAGE, Attempt, produced_of
from spanledger.routing.shared import Shared
from spanledger.wires import dropped, least_output
from spanledger.wires.base import WRITES_TEXT, Answer, Frame

MAX_ATTEMPTS = 10
"""Most attempts of one request, including refused ones, whatever the settings allow."""
LATE_ANSWER_S = 24 * 3600
"""How long an answer that is written in the background is held, if nobody reads it."""
MAX_PENDING_FRAMES = 16
"""Events buffered before the first content, while another deployment can still take over."""
_OF_DEPLOYMENTS = frozenset({"model", "provider"})
"""Scopes whose subject is another one at another deployment."""


class Run:
    """One request in progress, as a context manager. Leaving it ends the request in the ledger
    unless an attempt has done so."""

    __slots__ = (
        "_asked",
        "_attempt",
        "_callers",
        "_closer",
        "_course",
        "_demand",
        "_ended",
        "_exchange",
        "_history",
        "_moved_by",
        "_pending",
        "_pick",
        "_place",
        "_shared",
    )

    def __init__(
        self,
        shared: Shared,
        exchange: Exchange,
        course: Course,
        demand: Demand,
        history: OutputHistory,
        pick: Pick,
    ) -> None:
        self._shared = shared
        self._exchange = exchange
        self._course = course
        self._callers = self._demand = (
            demand  # by the caller's own fields; `_demand` is the current attempt's
        )
        self._history = history
        self._pick = pick
        self._moved_by: tuple[str, ...] = ()  # budgets that wanted another route, and were asked
        self._closer: dict[str, Closer] | None = None  # counts, by deployment
        self._place: PlaceInLine | None = None  # in line for what others hold
        self._asked = 0  # attempts so far, including those that a budget refused
        self._ended = False  # whether the request's end was passed to the ledger
        self._attempt: Attempt | None = None  # the one whose events may be passed on out of turn
        self._pending: list[Frame] | None = []  # None once something was relayed

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None
    ) -> None:
        if error is None or self._ended:
            return
        self._ended = True
        end = broken_end(error, self._shared.clock.now_ns())
        booking = self._shared.booking
        await booking.detached(booking.end_request(self._exchange.start, end))

    def attempt(self) -> Attempting:
        """The next attempt, as a context manager. Entering holds its money or raises the error that
        ends the request; leaving books it, and suppresses an error if another attempt follows."""
        return Attempting(self)

    async def answer(self, attempt: Attempt) -> Answer:
        """A non-streamed answer; the provider's time is measured apart from the gateway's own."""
        clock = self._shared.clock
        sent = clock.monotonic()
        try:
            answer = await attempt.target.provider.complete(attempt.call)
        finally:
            self._exchange.provider_s += clock.monotonic() - sent
        attempt.produced.take(answer)
        if "content_filter" in answer.finish_reasons and self._course.turns_to("content_filtered"):
            raise ProviderError(
                "content_filtered", "the answer was filtered", status=200, billed="unknown"
            )
        return answer

    def relayed(self, attempt: Attempt, frame: Frame) -> list[Frame] | tuple[Frame, ...]:
        """Record an event of the attempt's stream. Returns the events to send to the caller now:
        none before the first content, as another deployment may still take over."""
        self._note(attempt, frame)
        if not frame.data or (frame.usage_only and not self._exchange.ask.include_usage):
            return ()
        pending = self._pending
        if pending is None:
            return (frame,)
        pending.append(frame)
        if frame.content:
            now = self._shared.clock.monotonic()
            attempt.target.health.measured(now, now - attempt.began, stream=True)
        elif len(pending) < MAX_PENDING_FRAMES:
            return ()
        return self.rest()

    def passed_on(self, frame: Frame) -> bool:
        """Relay a usual event of the stream out of turn, if nothing has to wait for it: as `relayed`
        does, once something was relayed."""
        attempt, write = self._attempt, self._exchange.pass_on
        if attempt is None or write is None or self._pending is not None:
            return False
        if self._shared.clock.monotonic() >= self._exchange.deadline or not write(frame.data):
            return False
        attempt.produced.note(frame, self._shared.clock.now_ns)
        if self._shared.recorder.content != "off":
            attempt.produced.keep(frame.data)
        return True

    def stop_passing_on(self) -> None:
        """The attempt is over."""
        self._attempt = None

    def rest(self) -> list[Frame] | tuple[Frame, ...]:
        """The events still buffered."""
        pending, self._pending = self._pending, None
        return pending or ()

    def _note(self, attempt: Attempt, frame: Frame) -> None:
        shared = self._shared
        attempt.produced.note(frame, shared.clock.now_ns)
        if shared.recorder.content != "off":
            attempt.produced.keep(frame.data)
        if shared.clock.monotonic() >= self._exchange.deadline:
            raise ProviderError(
                "timeout", "the request's deadline passed during the stream", billed="unknown"
            )

    # before an attempt --------------------------------------------------------------------

    async def reserve(self) -> Attempt:
        """The next attempt, with its money held. Raises the error that ends the request instead."""
        exchange, shared, tokens = self._exchange, self._shared, self._demand.tokens
        while True:
            pick = self._pick
            if pick.wait_s > 0:
                await shared.clock.sleep(pick.wait_s)
            now = shared.clock.monotonic()
            if now >= exchange.deadline:
                late = ProviderError("timeout", "the request's deadline passed before an attempt")
                await self._give_up(late)
            target = pick.target
            ask, spoken = exchange.ask, target.deployment.speaks_for(exchange.ask.fields)
            least = least_output(ask.wire, spoken)
            self._demand = demand_at(self._callers, ask, target.deployment, self._history, least)
            if self._closer and (closer := self._closer.get(target.deployment.id)):
                self._demand = closer.of(self._demand)
            tokens = self._demand.tokens
            unasked = shared.unasked.get(target.deployment.id, "")
            dropped_there = dropped(ask.wire, spoken)
            terms = terms_of(self._demand, target.deployment, unasked, dropped_there)
            sizes = sizes_of(self._demand, target.price, terms)
            reservation = self._reservation(pick, sizes, dropped_there)
            target.health.begin(now, tokens)
            self._asked += 1
            try:
                hold = await shared.ledger.reserve(reservation)
            except (BudgetExceededError, UnpricedModelError) as refusal:
                target.health.withdraw(now, tokens)
                following = await self._after_refusal(pick, refusal)
                if following is None:
                    await self._give_up(refusal)
                self._pick = following
            except BudgetDegradesError as turn:
                target.health.withdraw(now, tokens)
                self._degrade(turn)
            except LedgerUnavailableError as error:
                target.health.withdraw(now, tokens)
                await self._give_up(error)
            except BaseException:
                target.health.withdraw(now, tokens)
                self._ended = True
                await shared.booking.undo(exchange, reservation)
                raise
            else:
                exchange.attempts += 1
                exchange.remaining_nano = hold.remaining_nano
                exchange.journaled = hold.journaled
                if hold.warned:
                    exchange.warned = tuple(dict.fromkeys((*exchange.warned, *hold.warned)))
                call = self._call(target, sizes, hold, now)
                if target.deployment.forwards_trace:
                    call = replace(call, trace_headers=exchange.trace_headers(reservation.span_id))
                exchange.deployment, exchange.changed = target.deployment.id, call.changed
                self._pending = []
                attempt = Attempt(target, sizes, hold, call, now, self._demand)
                if call.pass_on is not None:
                    self._attempt = attempt
                return attempt

    def _reservation(self, pick: Pick, sizes: Sizes, dropped_there: frozenset[str]) -> Reservation:
        clock, charging, exchange = self._shared.clock, self._shared.charging, self._exchange
        deployment, price = pick.target.deployment, pick.target.price
        return Reservation(
            exchange.start,
            exchange.attempts + 1,
            (clock.rng.getrandbits(64) or 1).to_bytes(8).hex(),
            clock.now_ns(),  # these by position: of over fifteen names, Python makes a dict
            deployment=deployment.id,
            provider=deployment.provider,
            model=deployment.label or deployment.model,
            sizes=sizes.holds,
            priced=price is not None,
            price_id="" if price is None else price.id,
            fallback_from=pick.fallback_from,
            reason=pick.reason,
            unbounded=unbounded_by(self._demand, deployment, price, dropped_there),
            charge_rule="" if charging.off else charging.rule(exchange.start, deployment),
            route=self._course.group,
            movable=exchange.movable,
            moved_by=self._moved_by,
        )

    def _call(self, target: Candidate, sizes: Sizes, hold: Hold, now: float) -> Call:
        exchange, demand, limits = self._exchange, self._demand, self._shared.limits
        bought = None
        if target.price is not None:
            bought = output_bought(sizes, target.price, hold.hold_nano)
            guessed = demand.cap is None and target.price.max_output_tokens is None
            if bought is None and guessed and hold.remaining_nano is not None:
                # The full hold assumes a default length, so that length is sent as a limit.
                bought = sizes.full
        left = exchange.deadline - now
        timeout_s = target.deployment.timeout_s
        if exchange.start.stream and target.deployment.stream_timeout_s is not None:
            timeout_s = target.deployment.stream_timeout_s
        most = None if bought is None else max(1, (bought - demand.predicted) // demand.choices)
        return Call(
            deployment=target.deployment,
            wire=exchange.ask.wire,
            fields=target.deployment.fields_for(exchange.ask.fields, exchange.ask.wire.operation),
            timeout_s=min(timeout_s, left),
            max_output_tokens=most,
            stream_idle_timeout_s=min(limits.stream_idle_timeout_s, left),
            max_response_bytes=limits.max_response_bytes,
            total_s=left,
            headers=exchange.ask.headers,
            request_id=exchange.start.request_id,
            upload=exchange.ask.upload,
            pass_on=None if exchange.pass_on is None else self.passed_on,
        )

    def _degrade(self, turn: BudgetDegradesError) -> None:
        """Obey a budget near its limit, which wants another route; if that cannot serve the request, it
        goes where it was going."""
        self._moved_by += (turn.budget,)
        found = self._shared.degrade(self._exchange, turn.route)
        if found is None:
            self._pick = replace(self._pick, wait_s=0.0)
            return
        left, (self._course, pick) = self._course.group, found
        self._pick = replace(pick, fallback_from=left, reason=turn.error_type)
        self._exchange.degraded += (turn.budget,)

    async def _after_refusal(
        self, pick: Pick, refusal: BudgetExceededError | UnpricedModelError
    ) -> Pick | None:
        """The next attempt after a refusal: at the same deployment with a closer count, at another one,
        or at the same once others have given back what they held."""
        shared, exchange, again = self._shared, self._exchange, replace(pick, wait_s=0.0)
        if not isinstance(refusal, BudgetExceededError) or isinstance(
            refusal, BudgetThrottledError
        ):
            following = self._elsewhere(pick.target, refusal)
            return None if following is None else following.instead_of(pick)
        refusal.answer_with(shared.limits.budget_exceeded_status)
        deployment, strict = pick.target.deployment, refusal.refusal.strict
        if self._closer is None:
            self._closer = {}
        if deployment.id not in self._closer and (
            closer := await shared.closer.count(exchange, self._demand, deployment, strict=strict)
        ):
            self._closer[deployment.id] = closer
            self._asked -= 1
            return again
        if following := self._elsewhere(pick.target, refusal):
            return following.instead_of(pick)
        self._place = await shared.room.freed(refusal.refusal, self._place, exchange.deadline)
        if self._place is None:
            return None
        self._course.has_room(pick.target)
        self._asked -= 1
        return again

    def _elsewhere(
        self, target: Candidate, refusal: BudgetExceededError | UnpricedModelError
    ) -> Pick | None:
        """Another deployment, which may have room or a lower price. Before the first attempt, only a
        refusal specific to this deployment is a reason to look."""
        self._course.after_refusal(target)
        exchange = self._exchange
        only_there = isinstance(refusal, UnpricedModelError) or not _OF_DEPLOYMENTS.isdisjoint(
            refusal.refusal.scope.split(",")
        )
        first = exchange.attempts == 0 and self._course.group == exchange.start.route
        if (first and not only_there) or self._asked >= MAX_ATTEMPTS:
            return None
        now = self._shared.clock.monotonic()
        return self._course.next(now, exchange.deadline, refusal.error_type)

    async def _give_up(self, error: SpanledgerError) -> NoReturn:
        """End the request outside an attempt, and raise `error`."""
        self._ended = True
        end = request_end(error, self._shared.clock.now_ns())
        await self._shared.booking.end_request(self._exchange.start, end)
        raise error

    # after an attempt ---------------------------------------------------------------------

    async def served(self, attempt: Attempt) -> None:
        """Book a complete answer."""
        exchange, produced = self._exchange, attempt.produced
        if produced.pending:
            await self._put_off(attempt)
            return
        usage, estimated = usage_of(exchange, attempt)
        if exchange.ask.wire.operation in WRITES_TEXT:
            self._history.record(-(-usage.output_tokens // self._demand.choices))
        if produced.service not in USUAL_SERVICES and not attempt.sizes.terms.service:
            self._shared.unasked[attempt.target.deployment.id] = produced.service
        if attempt.hold.remaining_nano is not None and not estimated:
            self._shared.closer.learn(exchange, attempt, usage)
        health, output = attempt.target.health, usage.output_tokens
        health.succeeded(attempt.began)
        if not exchange.start.stream:
            now = self._shared.clock.monotonic()
            health.measured(now, (now - attempt.began) / (output or 1), stream=False)
        self._over(attempt, usage)
        now_ns = self._shared.clock.now_ns()
        request = RequestEnd("ok", "", 200, now_ns)
        end = self._end(attempt, (usage, estimated), "", 200, request)
        await self._shared.booking.finish(exchange, end)

    async def _put_off(self, attempt: Attempt) -> None:
        """End the request; the attempt stays held until its answer is read, or a day has passed."""
        exchange, price = self._exchange, attempt.target.price
        usage, _ = usage_of(exchange, attempt)
        service = attempt.produced.service_of(attempt)
        expected = 0 if price is None else price.cost_nano(usage, service)
        attempt.target.health.succeeded(attempt.began)
        self._over(attempt, None)
        self._ended = True
        now_ns = self._shared.clock.now_ns()
        detail = self._shared.recorder.detail(exchange, attempt, NO_USAGE, ())
        later = Later(now_ns + LATE_ANSWER_S * 1_000_000_000, expected, detail)
        start, unique = exchange.start, attempt.produced.response_id
        kept = Kept(
            *(start.request_id, "answer", start.customer, start.team),
            *(attempt.target.deployment.id, unique, now_ns, "{}"),
        )
        done = RequestEnd("ok", "", 200, now_ns)
        await self._shared.booking.end_request(start, done, later, kept)

    async def failed(self, attempt: Attempt, error: ProviderError) -> bool:
        """Book a failed attempt. Returns whether another one follows."""
        target, now = attempt.target, self._shared.clock.monotonic()
        attempt.produced = produced_of(error, attempt.produced)
        if not error.request_alone and not error.stale:
            target.health.failed(error.kind, error.retry_after_s, attempt.began, now)
        self._course.after_failure(target, error, now)
        following = None if self._pending is None else self._after_failure(error, now)
        status = error.status or (200 if attempt.produced.chunks else 0)
        charge = self._unfinished(attempt, billed=error.billed != "no")
        request = None
        if following is None:
            request = request_end(error, self._shared.clock.now_ns())
        else:
            self._pick = following
        end = self._end(attempt, charge, error.kind, status, request)
        await self._shared.booking.finish(self._exchange, end)
        return following is not None

    async def broke_off(self, attempt: Attempt, error: BaseException) -> None:
        """Book an attempt that we aborted: its caller disconnected, or we have a bug."""
        request = broken_end(error, self._shared.clock.now_ns())
        status = 200 if attempt.produced.chunks else 0
        charge = self._unfinished(attempt, billed=True)
        end = self._end(attempt, charge, request.error_type, status, request)
        booking = self._shared.booking
        await booking.detached(booking.finish(self._exchange, end))

    def _after_failure(self, error: ProviderError, now: float) -> Pick | None:
        if self._asked >= MAX_ATTEMPTS or now >= self._exchange.deadline:
            return None
        course, kind = self._course, error.kind
        if kind in CALLER_CAUSED and not (course.turn_to(kind) or course.may_repeat(kind)):
            return None
        return course.next(now, self._exchange.deadline, kind)

    def _unfinished(self, attempt: Attempt, *, billed: bool) -> tuple[Usage | None, bool]:
        """The usage to charge for an unfinished attempt. A provider that streamed content or
        reported usage bills it; one whose answer we never saw complete may."""
        produced, expected = attempt.produced, 0
        if billed:
            expected = expected_output(
                self._demand,
                attempt.sizes,
                attempt.target.price,
                attempt.hold.hold_nano,
                self._history,
            )
        elif not produced.chunks and produced.usage is None:
            self._over(attempt, None)
            return None, False
        usage, estimated = usage_unfinished(self._exchange, attempt, expected)
        self._over(attempt, usage)
        return usage, estimated

    def _over(self, attempt: Attempt, usage: Usage | None) -> None:
        tokens = 0 if usage is None else usage.input_tokens + usage.output_tokens
        attempt.target.health.ended(attempt.began, attempt.tokens, tokens)

    def _end(
        self,
        attempt: Attempt,
        charge: tuple[Usage | None, bool],
        error_type: str,
        http_status: int,
        request: RequestEnd | None,
    ) -> AttemptEnd:
        """The record that ends an attempt, and its request unless another attempt follows."""
        usage, estimated = charge
        end = self._shared.recorder.end(
            self._exchange,
            attempt,
            usage=usage,
            estimated=estimated,
            error_type=error_type,
            http_status=http_status,
            ended_ns=self._shared.clock.now_ns() if request is None else request.ended_ns,
            request=request,
        )
        self._ended = request is not None
        return end
