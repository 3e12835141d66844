"""The attempt loop: a request is sent to one deployment after another until one has served it.

Sets up what requests share, plans the course of each, and relays the output of its attempts. How
an attempt is held, judged and booked is in `attempt`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

from spanledger.clock import Clock
from spanledger.config import Config, nearest
from spanledger.errors import InvalidRequestError, ProviderError, SpanledgerError
from spanledger.ledger.store import Ledger
from spanledger.pricing.book import PriceBook
from spanledger.providers.base import Provider, ProviderKind
from spanledger.routing.attempt import Run, Shared
from spanledger.routing.booking import Booking
from spanledger.routing.course import Course, Groups
from spanledger.routing.demand import with_history
from spanledger.routing.groups import RouteGroups
from spanledger.routing.health import Health
from spanledger.routing.history import OutputHistory
from spanledger.routing.kept import KeptCalls
from spanledger.routing.outcome import request_end
from spanledger.routing.plan import Plan
from spanledger.routing.request import Exchange
from spanledger.routing.settle import Recorder
from spanledger.telemetry.attributes import ContentMode
from spanledger.wires.base import Answer, Frame


class Router:
    """Serves requests from deployments; everything it did is in the ledger when it returns.

    Errors that `complete` and `stream` raise are already booked; `reject` is for requests that
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
        self._plan = plan
        self._choose = plan.strategy.choose
        self._clock = clock
        self.health = Health(
            plan.deployments,
            plan.cooldowns,
            clock,
            plan.off,
            measures_latency=plan.strategy.measures_latency,
            counts_tokens=plan.strategy.counts_tokens,
        )
        self._booking = Booking(ledger, clock)
        recorder = Recorder(content, config.telemetry.max_attribute_bytes)
        self._shared = Shared(ledger, clock, self._booking, recorder, config.gateway)
        self.groups = RouteGroups(plan, book, providers, self.health)
        self.kept = KeptCalls(plan, providers, config.gateway.max_response_bytes)
        self._histories = {route: OutputHistory() for route in plan.routes}

    async def close(self) -> None:
        """Wait for the bookings of callers that disconnected, before the ledger is closed."""
        await self._booking.drain()

    async def reject(self, exchange: Exchange, error: SpanledgerError) -> None:
        """Book a request that makes no attempt."""
        await self._booking.end_request(exchange.start, request_end(error, self._clock.now_ns()))

    async def complete(self, exchange: Exchange) -> Answer:
        """Get a complete answer.

        Raises:
            SpanledgerError: no deployment could serve the request; it is booked.
        """
        async with await self._started(exchange) as run:
            while True:
                async with run.attempt() as attempt:
                    return await run.answer(attempt)

    async def stream(self, exchange: Exchange) -> AsyncGenerator[Frame]:
        """Get an answer event by event; closing the generator cancels the call to the provider.

        Raises:
            SpanledgerError: no deployment could serve the request, or its stream broke; booked.
        """
        async with await self._started(exchange) as run:
            while True:
                async with run.attempt() as attempt, aclosing(attempt.frames()) as frames:
                    async for frame in frames:
                        for ready in run.relayed(attempt, frame):
                            yield ready
                    for ready in run.rest():  # an answer without content
                        yield ready
                    return

    async def _started(self, exchange: Exchange) -> Run:
        """The request with its first pick. Raises the error that ends it before any attempt."""
        route = exchange.start.route
        groups = self.groups.for_request(route, exchange.asked)
        if route not in groups or (exchange.asked and not any(groups[route])):
            asked = exchange.asked or route
            unknown = InvalidRequestError(
                f"no deployment serves {asked!r}{nearest(asked, list(self.groups.named))}",
                status=404,
                code="model_not_found",
                param="model",
            )
            await self.reject(exchange, unknown)
            raise unknown
        if exchange.kept_at:
            groups = await self._at(exchange, groups)
        history = self._histories[route]
        demand = with_history(exchange.ask.demand, history)
        course = Course(
            route,
            groups,
            self._plan.onward,
            self._plan.retries[route],
            self._choose,
            self._clock.rng,
            tokens=demand.tokens,
            stream=exchange.start.stream,
        )
        now = self._clock.monotonic()
        pick = course.first(now)
        if pick is None:
            if not course.may_ever_serve():
                off = ProviderError("authentication_failed", _off(route, self._plan))
                await self.reject(exchange, off)
                raise off
            until, reason = course.blocked(now)
            wait = max(0.0, until - now)
            blocked = ProviderError(
                reason,
                f"no deployment of {route!r} is available for another {wait:.1f} s"
                f" ({reason.replace('_', ' ')})",
                retry_after_s=wait,
            )
            await self.reject(exchange, blocked)
            raise blocked
        return Run(self._shared, exchange, course, demand, history, pick)

    async def _at(self, exchange: Exchange, groups: Groups) -> Groups:
        """The groups where the answer is that a request continues. Raises InvalidRequestError."""
        route = exchange.start.route
        found = self.kept.at(groups, exchange.kept_at)
        if any(any(found[name]) for name in (route, *self._plan.onward[route].fallbacks)):
            return found
        elsewhere = InvalidRequestError(
            f"the answer before it is kept where no deployment of {exchange.asked or route!r} is;"
            " use the model that gave it, or send the messages in 'input'",
            code="previous_response_not_here",
            param="previous_response_id",
        )
        await self.reject(exchange, elsewhere)
        raise elsewhere


def _off(route: str, plan: Plan) -> str:
    """The message for the operator; callers do not see the names of variables."""
    reasons = dict.fromkeys(off.reason for off in plan.off if off.route == route)
    return f"every deployment of {route!r} is off: {'; '.join(reasons)}"
