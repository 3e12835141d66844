"""The attempt loop: a request goes to one deployment after the other until one has served it.

Before each try a budget is asked and money is held; after each try the hold is settled or
released, with the request's end on the last one. What may be tried next is `course`'s to say,
what a try cost `settle`'s. No adapter, no HTTP and no clock of its own here.

A refusal by a budget on the way ends the request with that refusal, also after a provider's
error: it is what stops the request.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import NoReturn

from spanledger.clock import Clock
from spanledger.config import Config, nearest
from spanledger.errors import (
    BudgetExceededError,
    ConfigError,
    InvalidRequestError,
    LedgerUnavailableError,
    ProviderError,
    SpanledgerError,
    UnpricedModelError,
)
from spanledger.ledger.store import Hold, Ledger, RequestEnd, Reservation
from spanledger.pricing.book import PriceBook
from spanledger.pricing.price import USUAL_SERVICES
from spanledger.pricing.usage import Usage
from spanledger.providers.base import Answer, Call, Deployment, Frame, Provider, ProviderKind
from spanledger.routing.booking import Booking
from spanledger.routing.course import Course, Pick, Target
from spanledger.routing.demand import Demand, demand_of, terms_of, unbounded_by
from spanledger.routing.health import Health
from spanledger.routing.history import OutputHistory
from spanledger.routing.hold import Sizes, expected_output, output_bought, sizes_of
from spanledger.routing.outcome import (
    CALLER_CAUSED,
    CANCELLED,
    INTERNAL_ERROR,
    cancelled_end,
    internal_error_end,
    request_end,
)
from spanledger.routing.plan import Plan
from spanledger.routing.request import Exchange
from spanledger.routing.settle import (
    Attempt,
    Produced,
    Recorder,
    produced_of,
    usage_of,
    usage_unfinished,
)
from spanledger.telemetry.attributes import ContentMode

MAX_ATTEMPTS = 10
"""Tries of one request, refused ones included, whatever the settings allow."""
MAX_PENDING_FRAMES = 16
"""Events before the first content that are held back, so that another deployment may be tried."""


@dataclass(slots=True)
class _Run:
    """One request on its way.

    Attributes:
        pick: where the next try goes.
        asked: tries so far, those a budget refused included.
        ended: whether the request's end was handed to the ledger.
    """

    exchange: Exchange
    course: Course
    demand: Demand
    history: OutputHistory
    pick: Pick
    asked: int = 0
    ended: bool = False


class Router:
    """Serves requests from deployments; everything it does is in the ledger when it returns.

    Whatever `complete` and `stream` raise is booked already; `reject` is for requests that
    reach neither.
    """

    def __init__(
        self,
        config: Config,
        plan: Plan,
        ledger: Ledger,
        book: PriceBook,
        providers: Mapping[ProviderKind, Provider],
        clock: Clock,
        content: ContentMode,
    ) -> None:
        self._config = config
        self._settings = config.router_settings
        self._plan = plan
        self._ledger = ledger
        self._clock = clock
        self.health = Health(plan.deployments, config.router_settings, clock)
        self._booking = Booking(ledger, clock)
        self._recorder = Recorder(content, config.telemetry.max_attribute_bytes)
        self._groups = {
            route: [self._target(d, book, providers) for d in deployments]
            for route, deployments in plan.routes.items()
        }
        self._histories = {route: OutputHistory() for route in plan.routes}
        self._unasked: dict[str, str] = {}
        """Service tiers that deployments answered at without being asked, by deployment."""

    def _target(
        self, deployment: Deployment, book: PriceBook, providers: Mapping[ProviderKind, Provider]
    ) -> Target:
        if deployment.kind not in providers:
            raise ConfigError(
                f"deployment {deployment.id!r} needs the {deployment.kind!r} adapter, which is"
                " not set up"
            )
        price = book.find(
            deployment.provider,
            deployment.model,
            deployment.litellm_model,
            deployment.prices,
            deployment.id,
        )
        health = self.health.states[deployment.id]
        return Target(deployment, providers[deployment.kind], price, health)

    async def close(self) -> None:
        """Wait for the bookings of callers that left; the ledger must outlive this."""
        await self._booking.drain()

    async def reject(self, exchange: Exchange, error: SpanledgerError) -> None:
        """Book a request that makes no try."""
        await self._booking.end_request(exchange.start, request_end(error, self._clock.now_ns()))

    async def complete(self, exchange: Exchange) -> Answer:
        """Get a whole answer.

        Raises:
            SpanledgerError: nothing could serve the request; it is booked.
        """
        run = await self._started(exchange)
        try:
            while True:
                attempt = await self._reserved(run)
                try:
                    answer = await self._answer(exchange, attempt)
                except ProviderError as error:
                    await self._failed(run, attempt, produced_of(error), error, replayable=True)
                except BaseException as error:
                    await self._broke_off(run, attempt, Produced(), error)
                    raise
                else:
                    await self._served(run, attempt, Produced.whole(answer))
                    return answer
        except BaseException as error:
            await self._left_open(run, error)
            raise

    async def _answer(self, exchange: Exchange, attempt: Attempt) -> Answer:
        """One try; how long the provider took is told from what the gateway itself takes."""
        sent = self._clock.monotonic()
        try:
            return await attempt.target.provider.complete(attempt.call)
        finally:
            exchange.provider_s += self._clock.monotonic() - sent

    async def stream(self, exchange: Exchange) -> AsyncGenerator[Frame]:
        """Get an answer event by event; closing the generator cancels the provider.

        Raises:
            SpanledgerError: nothing could serve the request, or what served it broke; booked.
        """
        run = await self._started(exchange)
        try:
            while True:
                attempt = await self._reserved(run)
                produced = Produced()
                upstream = attempt.target.provider.stream(attempt.call)
                pending: list[Frame] | None = []
                try:
                    async with aclosing(upstream):
                        async for frame in upstream:
                            self._note(exchange, produced, frame)
                            if frame.usage_only and not exchange.include_usage:
                                continue
                            if pending is None:
                                yield frame
                                continue
                            pending.append(frame)
                            if frame.content or len(pending) >= MAX_PENDING_FRAMES:
                                held, pending = pending, None
                                for earlier in held:
                                    yield earlier
                    for frame in pending or ():  # an answer without content
                        yield frame
                except ProviderError as error:
                    produced, unsent = produced_of(error, produced), pending is not None
                    await self._failed(run, attempt, produced, error, replayable=unsent)
                except BaseException as error:
                    await self._broke_off(run, attempt, produced, error)
                    raise
                else:
                    await self._served(run, attempt, produced)
                    return
        except BaseException as error:
            await self._left_open(run, error)
            raise

    # before a try -------------------------------------------------------------------------

    async def _started(self, exchange: Exchange) -> _Run:
        """The request with its first pick. Raises what ends it before a try."""
        route = exchange.start.route
        if route not in self._groups:
            unknown = InvalidRequestError(
                f"no deployment serves {route!r}{nearest(route, list(self._groups))}",
                status=404,
                code="model_not_found",
                param="model",
            )
            await self.reject(exchange, unknown)
            raise unknown
        history = self._histories[route]
        demand = demand_of(exchange, history)
        course = Course(
            route,
            self._groups,
            self._plan.fallbacks[route],
            self._plan.context_fallbacks,
            self._settings,
            demand.tokens,
            self._clock.rng,
        )
        now = self._clock.monotonic()
        pick = course.first(now)
        if pick is None:
            until, reason = course.blocked(now)
            wait = max(0.0, until - now)
            blocked = ProviderError(
                reason,
                f"no deployment of {route!r} may be tried for {wait:.1f} s"
                f" ({reason.replace('_', ' ')})",
                retry_after_s=wait,
            )
            await self.reject(exchange, blocked)
            raise blocked
        return _Run(exchange, course, demand, history, pick)

    async def _reserved(self, run: _Run) -> Attempt:
        """The next try, its money held. Raises what ends the request instead."""
        exchange = run.exchange
        while True:
            pick = run.pick
            if pick.wait_s > 0:
                await self._clock.sleep(pick.wait_s)
            now = self._clock.monotonic()
            if now >= exchange.deadline:
                late = ProviderError("timeout", "the request's deadline passed before a try")
                await self._give_up(run, late)
            target = pick.target
            unasked = self._unasked.get(target.deployment.id, "")
            terms = terms_of(run.demand, target.deployment, unasked)
            sizes = sizes_of(run.demand, target.price, terms)
            reservation = self._reservation(run, pick, sizes)
            target.health.begin(now, run.demand.tokens)
            run.asked += 1
            try:
                hold = await self._ledger.reserve(reservation)
            except (BudgetExceededError, UnpricedModelError) as refusal:
                target.health.withdraw(now, run.demand.tokens)
                following = self._after_refusal(run, target, refusal)
                if following is None:
                    await self._give_up(run, refusal)
                else:
                    run.pick = following.instead_of(pick)
            except LedgerUnavailableError as error:
                target.health.withdraw(now, run.demand.tokens)
                await self._give_up(run, error)
            except BaseException:
                target.health.withdraw(now, run.demand.tokens)
                run.ended = True
                await self._booking.undo(exchange, reservation)
                raise
            else:
                exchange.attempts += 1
                exchange.remaining_nano = hold.remaining_nano
                if hold.warned:
                    exchange.warned = tuple(dict.fromkeys((*exchange.warned, *hold.warned)))
                call = self._call(exchange, target, run.demand, sizes, hold, now)
                exchange.deployment, exchange.changed = target.deployment.id, call.changed
                return Attempt(target, reservation, sizes, hold, call, now, run.demand.tokens)

    def _reservation(self, run: _Run, pick: Pick, sizes: Sizes) -> Reservation:
        exchange, deployment, price = run.exchange, pick.target.deployment, pick.target.price
        return Reservation(
            request=exchange.start,
            number=exchange.attempts + 1,
            span_id=f"{self._clock.rng.getrandbits(64) or 1:016x}",
            now_ns=self._clock.now_ns(),
            deployment=deployment.id,
            provider=deployment.provider,
            model=deployment.model,
            sizes=sizes.holds,
            priced=price is not None,
            price_id="" if price is None else price.id,
            fallback_from=pick.fallback_from,
            reason=pick.reason,
            unbounded=unbounded_by(run.demand, deployment, price),
        )

    def _call(
        self,
        exchange: Exchange,
        target: Target,
        demand: Demand,
        sizes: Sizes,
        hold: Hold,
        now: float,
    ) -> Call:
        bought = None
        if target.price is not None:
            bought = output_bought(sizes, target.price, hold.hold_nano)
            guessed = demand.cap is None and target.price.max_output_tokens is None
            if bought is None and guessed and hold.remaining_nano is not None:
                # The full hold is for a length we made up, so the provider has to be told it.
                bought = sizes.full
        limits = self._config.gateway
        left = exchange.deadline - now
        most = None if bought is None else max(1, (bought - demand.predicted) // demand.choices)
        return Call(
            deployment=target.deployment,
            operation=exchange.operation,
            fields=exchange.fields,
            timeout_s=min(target.deployment.timeout_s, left),
            max_output_tokens=most,
            stream_idle_timeout_s=min(limits.stream_idle_timeout_s, left),
            max_response_bytes=limits.max_response_bytes,
            total_s=left,
        )

    def _after_refusal(
        self, run: _Run, target: Target, refusal: BudgetExceededError | UnpricedModelError
    ) -> Pick | None:
        """Another deployment may have room, or a lower price. On the route's own first try only
        a refusal that is about that very deployment is a reason to look for one."""
        run.course.after_refusal(target)
        exchange = run.exchange
        only_there = isinstance(refusal, UnpricedModelError) or refusal.refusal.scope in (
            "model",
            "provider",
        )
        first = exchange.attempts == 0 and run.course.group == exchange.start.route
        if (first and not only_there) or run.asked >= MAX_ATTEMPTS:
            return None
        now = self._clock.monotonic()
        return run.course.next(now, exchange.deadline, refusal.error_type)

    # after a try --------------------------------------------------------------------------

    async def _served(self, run: _Run, attempt: Attempt, produced: Produced) -> None:
        exchange = run.exchange
        usage, estimated = usage_of(exchange, produced)
        if exchange.operation == "chat":
            run.history.record(-(-usage.output_tokens // run.demand.choices))
        if produced.service not in USUAL_SERVICES and not attempt.sizes.terms.service:
            self._unasked[attempt.target.deployment.id] = produced.service
        health = attempt.target.health
        health.succeeded()
        health.used(attempt.began, attempt.tokens, usage.input_tokens + usage.output_tokens)
        now_ns = self._clock.now_ns()
        end = self._recorder.end(
            exchange,
            attempt,
            produced,
            usage=usage,
            estimated=estimated,
            error_type="",
            http_status=200,
            ended_ns=now_ns,
            request=RequestEnd("ok", "", 200, now_ns),
        )
        run.ended = True
        await self._booking.finish(exchange, end)

    async def _failed(
        self,
        run: _Run,
        attempt: Attempt,
        produced: Produced,
        error: ProviderError,
        *,
        replayable: bool,
    ) -> None:
        """Book a failed try and pick the next one. Raises the error when there is none."""
        exchange, target = run.exchange, attempt.target
        now = self._clock.monotonic()
        if not error.request_alone:
            target.health.failed(error.kind, error.retry_after_s, attempt.began, now)
        run.course.after_failure(target, error, now)
        following = self._after_failure(run, error, now) if replayable else None
        now_ns = self._clock.now_ns()
        usage, estimated = self._billed(run, attempt, produced, billed=error.billed != "no")
        end = self._recorder.end(
            exchange,
            attempt,
            produced,
            usage=usage,
            estimated=estimated,
            error_type=error.kind,
            http_status=error.status or (200 if produced.chunks else 0),
            ended_ns=now_ns,
            request=None if following is not None else request_end(error, now_ns),
        )
        run.ended = following is None
        await self._booking.finish(exchange, end)
        if following is None:
            raise error
        run.pick = following

    def _after_failure(self, run: _Run, error: ProviderError, now: float) -> Pick | None:
        if run.asked >= MAX_ATTEMPTS or now >= run.exchange.deadline:
            return None
        if error.kind in CALLER_CAUSED and not (
            error.kind == "context_window_exceeded" and run.course.turn_to_longer_context()
        ):
            return None
        return run.course.next(now, run.exchange.deadline, error.kind)

    async def _broke_off(
        self, run: _Run, attempt: Attempt, produced: Produced, error: BaseException
    ) -> None:
        """Book a try that we broke off: its caller left, or there is a fault of ours."""
        exchange = run.exchange
        now_ns = self._clock.now_ns()
        left = isinstance(error, asyncio.CancelledError | GeneratorExit)
        usage, estimated = self._billed(run, attempt, produced, billed=True)
        end = self._recorder.end(
            exchange,
            attempt,
            produced,
            usage=usage,
            estimated=estimated,
            error_type=CANCELLED if left else INTERNAL_ERROR,
            http_status=200 if produced.chunks else 0,
            ended_ns=now_ns,
            request=cancelled_end(now_ns) if left else internal_error_end(now_ns),
        )
        run.ended = True
        await self._booking.detached(self._booking.finish(exchange, end))

    async def _left_open(self, run: _Run, error: BaseException) -> None:
        """End a request that ended between two tries."""
        if run.ended:
            return
        run.ended = True
        now_ns = self._clock.now_ns()
        left = isinstance(error, asyncio.CancelledError | GeneratorExit)
        end = cancelled_end(now_ns) if left else internal_error_end(now_ns)
        await self._booking.detached(self._booking.end_request(run.exchange.start, end))

    async def _give_up(self, run: _Run, error: SpanledgerError) -> NoReturn:
        """End a request outside a try, and raise."""
        run.ended = True
        await self.reject(run.exchange, error)
        raise error

    def _billed(
        self, run: _Run, attempt: Attempt, produced: Produced, *, billed: bool
    ) -> tuple[Usage | None, bool]:
        """What an unfinished try is charged with: whoever streamed content bills it, and whoever
        was sent a request and not heard to the end may."""
        health = attempt.target.health
        if not billed and not produced.chunks:
            health.used(attempt.began, attempt.tokens, 0)
            return None, False
        expected = expected_output(
            run.demand, attempt.sizes, attempt.target.price, attempt.hold.hold_nano, run.history
        )
        usage, estimated = usage_unfinished(run.exchange, attempt, produced, expected)
        health.used(attempt.began, attempt.tokens, usage.input_tokens + usage.output_tokens)
        return usage, estimated

    def _note(self, exchange: Exchange, produced: Produced, frame: Frame) -> None:
        produced.note(frame, self._clock.now_ns)
        if self._recorder.content != "off":
            produced.keep(frame.data)
        if self._clock.monotonic() >= exchange.deadline:
            raise ProviderError(
                "timeout", "the request's deadline passed within the stream", billed="unknown"
            )
