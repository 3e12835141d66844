"""The attempt loop: a request is sent to one deployment after another until one has served it.

Sets up what requests share, plans the course of each, and relays the output of its attempts. How
an attempt is held, judged and booked is in `attempt`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from functools import partial

from spanledger.clock import Clock
from spanledger.config import Config, nearest
from spanledger.errors import InvalidRequestError, ProviderError, SpanledgerError
from spanledger.ledger.ports import Ledger
from spanledger.pricing.book import PriceBook
from spanledger.pricing.charges import Charges
from spanledger.pricing.contracts import Prices
from spanledger.providers.base import Provider, ProviderKind
from spanledger.routing.attempt import Run
from spanledger.routing.batches import Batches
from spanledger.routing.booking import Booking
from spanledger.routing.charging import Charging
from spanledger.routing.counting import Counted, Counting
from spanledger.routing.course import Course, Groups, Pick
from spanledger.routing.demand import with_history
from spanledger.routing.groups import RouteGroups, Spoken, own_wire
from spanledger.routing.health import Health
from spanledger.routing.history import OutputHistory
from spanledger.routing.kept import KeptCalls
from spanledger.routing.late import LateAnswers
from spanledger.routing.models import AllowedModels
from spanledger.routing.outcome import request_end
from spanledger.routing.pass_through import Passing
from spanledger.routing.plan import Plan
from spanledger.routing.request import Exchange
from spanledger.routing.room import WaitingRoom
from spanledger.routing.settle import Recorder
from spanledger.routing.shared import Shared
from spanledger.routing.single import SingleAttempts
from spanledger.routing.stores import Stores
from spanledger.routing.unread import UnreadResults
from spanledger.telemetry.attributes import ContentMode
from spanledger.wires import INBOUND, RESPONSES, outbound
from spanledger.wires.base import Answer, Ask, Frame, Inbound
from spanledger.wires.side import TokenCounter

OFF = "authentication_failed"
"""Every deployment of the route lacks its key."""
UNSUPPORTED_ENDPOINT = "unsupported_endpoint"
"""No deployment of the route speaks a wire that the request could be put into."""


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
        self.room = WaitingRoom(clock, config.gateway.wait_for_holds_s)
        self._booking = Booking(ledger, clock, self.room)
        recorder = Recorder(content, config.telemetry.max_attribute_bytes)
        charging = Charging(Charges(config.pricing))
        self._shared = Shared(
            ledger,
            clock,
            self._booking,
            recorder,
            config.gateway,
            charging,
            self._degraded,
            self.room,
        )
        prices = Prices(book, config.pricing)
        self.groups = RouteGroups(plan, prices, providers, self.health, clock.now_ns())
        self._counting = Counting(self._choose, clock)
        self.kept = KeptCalls(plan, providers, config.gateway.max_response_bytes)
        self.stores = Stores(plan, self.groups, providers, clock, config.gateway)
        self.batches = Batches(self.stores, ledger, clock)
        self.single = SingleAttempts(
            ledger, self._booking, clock, charging, config.gateway.budget_exceeded_status
        )
        self.passing = Passing(
            plan,
            ledger,
            prices,
            providers,
            self.health,
            self._booking,
            clock,
            charging,
            config.gateway,
        )
        self.late = LateAnswers(ledger, self.kept, self.passing, clock)
        self.unread = UnreadResults(ledger, self.kept, self.late, self.batches, self.health, clock)
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

    async def count(
        self,
        counter: TokenCounter,
        ask: Ask,
        route: str,
        asked: str,
        kept_at: str = "",
        files_at: str = "",
        models: AllowedModels | None = None,
    ) -> Counted:
        """Have the input of a request counted. `asked` is the model, if the route is a wildcard;
        `kept_at` the deployment that keeps the answer which the request continues, `files_at` that of its
        files, `models` those that the key may use.

        Raises:
            SpanledgerError: no deployment serves the model, or its provider refused the request.
        """
        groups = self.groups.for_request(route, asked, ask.wire, self._clock.now_ns())
        levels = groups.get(route, ())
        if asked and not any(levels) and not self.groups.spoken(route, asked):
            raise self._unknown(asked)
        if models is not None:
            levels = models.among({route: levels})[route]
        if kept_at:
            levels = self.kept.at({route: levels}, kept_at, RESPONSES.name)[route]
        if files_at:
            levels = self.kept.at({route: levels}, files_at)[route]
        return await self._counting.count(counter, ask, levels)

    def may_serve(self, route: str, models: AllowedModels) -> bool:
        """Whether a route of the configuration has a deployment with one of these models."""
        levels = self.groups.named.get(route, ())
        return "*" in route or any(models.allow(t.deployment) for level in levels for t in level)

    async def _started(self, exchange: Exchange) -> Run:
        """The request with its first pick. Raises the error that ends it before any attempt."""
        route = exchange.start.route
        began_ns = exchange.start.started_ns
        groups = self.groups.for_request(route, exchange.asked, exchange.ask.wire, began_ns)
        here = any(groups.get(route, ()))
        spoken = () if here else self.groups.spoken(route, exchange.asked)
        if not (here or spoken) and (exchange.asked or route not in groups):
            unknown = self._unknown(exchange.asked or route)
            await self.reject(exchange, unknown)
            raise unknown
        if exchange.models is not None:
            groups = await self._allowed(exchange, groups, exchange.models)
        if exchange.kept_at:
            kept = self.kept.at(groups, exchange.kept_at, RESPONSES.name)
            follows = exchange.ask.follows
            elsewhere = _answer_elsewhere if follows else _compaction_elsewhere
            groups = await self._at(exchange, kept, elsewhere)
        if exchange.files_at:
            kept = self.kept.at(groups, exchange.files_at)
            elsewhere = partial(_file_elsewhere, keeps=self.stores.serves(route))
            groups = await self._at(exchange, kept, elsewhere)
        if exchange.ask.own_alone:
            own = own_wire(groups, exchange.ask.wire)
            if self._serves(route, own):  # else the translation says what has no counterpart
                groups = own
        history = self._histories[route]
        demand = with_history(exchange.ask.demand, history)
        unserved = UNSUPPORTED_ENDPOINT if spoken or exchange.ask.own_alone else OFF
        course = self._course(route, groups, demand.tokens, exchange, unserved)
        pick = course.first(self._clock.monotonic())
        if pick is None:
            error = self._unserved(exchange, course, spoken)
            await self.reject(exchange, error)
            raise error
        return Run(self._shared, exchange, course, demand, history, pick)

    def _course(
        self, route: str, groups: Groups, tokens: int, exchange: Exchange, unserved: str = OFF
    ) -> Course:
        return Course(
            route,
            groups,
            self._plan.onward,
            self._plan.retries[route],
            self._choose,
            self._clock.rng,
            tokens=tokens,
            stream=exchange.start.stream,
            unserved=unserved,
        )

    def _degraded(self, exchange: Exchange, route: str) -> tuple[Course, Pick] | None:
        """The course of a request that a budget sends to another route; None if that route is not here,
        or has no deployment for the request now."""
        if route not in self._histories or route in self._plan.wildcards:
            return None
        began_ns = exchange.start.started_ns
        groups = self.groups.for_request(route, "", exchange.ask.wire, began_ns)
        if exchange.models is not None:
            groups = exchange.models.among(groups)
        if exchange.ask.own_alone:
            groups = own_wire(groups, exchange.ask.wire)
        if not any(groups[route]):
            return None
        tokens = with_history(exchange.ask.demand, self._histories[route]).tokens
        course = self._course(route, groups, tokens, exchange)
        pick = course.first(self._clock.monotonic())
        return None if pick is None else (course, pick)

    def _unknown(self, asked: str) -> InvalidRequestError:
        return InvalidRequestError(
            f"no deployment serves {asked!r}{nearest(asked, list(self.groups.named))}",
            status=404,
            code="model_not_found",
            param="model",
        )

    def _unserved(self, exchange: Exchange, course: Course, spoken: Spoken) -> SpanledgerError:
        """Why no deployment can be called for this request."""
        route = exchange.start.route
        if not course.may_ever_serve():
            if spoken:
                return _unsupported(exchange.asked or route, exchange.ask.wire, spoken)
            return ProviderError(OFF, _off(route, self._plan))
        now = self._clock.monotonic()
        until, reason = course.blocked(now)
        wait = max(0.0, until - now)
        return ProviderError(
            reason,
            f"no deployment of {route!r} is available for another {wait:.1f} s"
            f" ({reason.replace('_', ' ')})",
            retry_after_s=wait,
        )

    def _serves(self, route: str, groups: Groups) -> bool:
        """Whether the route or its fallbacks have any deployment there."""
        return any(any(groups[name]) for name in (route, *self._plan.onward[route].fallbacks))

    async def _allowed(self, exchange: Exchange, groups: Groups, models: AllowedModels) -> Groups:
        """The groups with the models that the key may use. Raises PermissionDeniedError if a route that
        could serve the request has none of them, nor have its fallbacks."""
        route, allowed = exchange.start.route, models.among(groups)
        if self._serves(route, groups) and not self._serves(route, allowed):
            error = models.refusal(exchange.asked or route)
            await self.reject(exchange, error)
            raise error
        return allowed

    async def _at(
        self, exchange: Exchange, groups: Groups, elsewhere: Callable[[str], InvalidRequestError]
    ) -> Groups:
        """The groups at an account, if they have any deployment. Raises InvalidRequestError."""
        route = exchange.start.route
        if self._serves(route, groups):
            return groups
        error = elsewhere(exchange.asked or route)
        await self.reject(exchange, error)
        raise error


def _answer_elsewhere(route: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"the answer before it is kept where no deployment of {route!r} is; use the model that gave it,"
        " or send the messages in 'input'",
        code="previous_response_not_here",
        param="previous_response_id",
    )


def _compaction_elsewhere(route: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"only the account that made the compaction in 'input' can read it, and no deployment of"
        f" {route!r} is there; use the model that made it, or send the items that it stands for",
        code="compaction_not_here",
        param="input",
    )


def _file_elsewhere(route: str, *, keeps: bool) -> InvalidRequestError:
    again = f", or upload it with the field target_model_names={route}" if keeps else ""
    return InvalidRequestError(
        f"a file of this request is kept where no deployment of {route!r} is; use a model of the account"
        f" it was uploaded to{again}",
        code="file_not_here",
        param="file_id",
    )


def _unsupported(route: str, wire: Inbound, spoken: Spoken) -> InvalidRequestError:
    """The error for a request on a wire that no deployment can serve, with those that would do."""
    names = list(dict.fromkeys(name for each in spoken for name in each))
    paths = [o.path for o in INBOUND.values() if any(outbound(o, each) for each in spoken)]
    instead = f"; call it at {_listed(paths, 'or')}" if paths else "; choose another model"
    return InvalidRequestError(
        f"the model {route!r} cannot be called at {wire.path}: its deployments do not serve"
        f" {wire.name}, they speak {_listed(names, 'and')}{instead}",
        code=UNSUPPORTED_ENDPOINT,
        param="model",
    )


def _listed(words: Sequence[str], last: str) -> str:
    *most, end = words
    return f"{', '.join(most)} {last} {end}" if most else end


def _off(route: str, plan: Plan) -> str:
    """The message for the operator; callers do not see the names of variables."""
    reasons = dict.fromkeys(off.reason for off in plan.off if off.route == route)
    return f"every deployment of {route!r} is off: {'; '.join(reasons)}"
