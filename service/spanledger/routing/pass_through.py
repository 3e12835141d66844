"""Requests that are passed through: to which deployment, and what the ledger has of them.

Such a request stays at one deployment, because nobody here knows what it does: there is no retry and
no fallback. It is counted, and charged if its answer reports usage in a known form; nothing bounds
what it may cost, so where a budget blocks, only keys that are allowed to may send one.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import replace
from types import TracebackType
from typing import Self
from urllib.parse import unquote

from spanledger.budgets.model import HoldSizes
from spanledger.clock import Clock
from spanledger.config import GatewaySettings, nearest
from spanledger.errors import (
    InvalidRequestError,
    ProviderError,
    RefusedError,
    SpanledgerError,
)
from spanledger.ledger.model import AttemptEnd, RequestEnd, Reservation
from spanledger.ledger.ports import Ledger
from spanledger.pricing.contracts import Prices
from spanledger.pricing.price import Price
from spanledger.providers.base import (
    Call,
    Deployment,
    Passage,
    PassedAnswer,
    PassesThrough,
    Provider,
    ProviderKind,
)
from spanledger.routing.booking import Booking
from spanledger.routing.charging import Charging
from spanledger.routing.groups import OTHER_MODEL
from spanledger.routing.health import Health
from spanledger.routing.outcome import cancelled_end, internal_error_end, request_end
from spanledger.routing.plan import Plan
from spanledger.routing.request import Exchange
from spanledger.telemetry.attributes import attempt_detail
from spanledger.wires.error_forms import read_failure
from spanledger.wires.failures import hide_key, kind_of, refusal
from spanledger.wires.fields import MAX_ROUTE_CHARS
from spanledger.wires.meter import Meter

LEAST_HOLD_NANO = 1
"""Held although nothing bounds the cost, so that a budget with nothing left refuses."""
MAX_ERROR_BYTES = 64 * 1024
"""Of a refusal's body; the rest is dropped."""
WITHOUT_BODY = frozenset({204, 304})
"""Statuses of answers that have none, and whose length says nothing."""
_UNBOUNDED = (
    "nothing bounds what a request to a provider's own endpoint costs: use an endpoint that this"
    " gateway prices, or a key created with --allow-pass-through"
)


_MODEL_AT = re.compile(r"/(?:deployments|models)/([^/?:]+)")
"""Where Azure's and Gemini's addresses name the model. They ignore one in the body, which could
be a cheaper one."""


class Passing:
    """All deployments that requests can be passed through to, by the names of their providers."""

    def __init__(
        self,
        plan: Plan,
        ledger: Ledger,
        prices: Prices,
        providers: Mapping[ProviderKind, Provider],
        health: Health,
        booking: Booking,
        clock: Clock,
        charging: Charging,
        limits: GatewaySettings,
    ) -> None:
        self.ledger = ledger
        self.booking = booking
        self.clock = clock
        self.charging = charging
        self.limits = limits
        self.health = health
        self._prices = prices
        self._providers = providers
        self._deployments = plan.deployments
        self._by_provider: dict[str, list[Deployment]] = {}
        for deployment in plan.deployments:
            prefix = deployment.litellm_model.removesuffix(deployment.model).rstrip("/")
            for name in dict.fromkeys((deployment.provider, prefix)):
                if name and "/" not in name:
                    self._by_provider.setdefault(name, []).append(deployment)

    def knows(self, provider: str) -> bool:
        """Whether any deployment is of a provider of this name."""
        return provider in self._by_provider

    def choose(self, provider: str, wanted: str, routes: frozenset[str] | None) -> Deployment:
        """The first deployment of a provider that a key may use, or the one that is wanted.

        Raises:
            InvalidRequestError: there is none.
        """
        known = self._by_provider.get(provider, ())
        found = [d for d in known if routes is None or d.route in routes]
        if wanted:
            found = [d for d in found if d.id == wanted]
            if not found:
                raise InvalidRequestError(
                    f"no deployment {wanted!r} of {provider!r}"
                    f"{nearest(wanted, [d.id for d in known])}; x-spanledger-deployment must name"
                    " one that this key may use",
                    status=404,
                    code="deployment_not_found",
                )
        able = [d for d in found if isinstance(self._providers.get(d.kind), PassesThrough)]
        if able:
            return able[0]
        why = "is served through LiteLLM, which cannot" if found else "has none that this key may"
        raise InvalidRequestError(
            f"{provider!r} {why} pass requests through", status=404, code="pass_through_unsupported"
        )

    def provider_of(self, deployment: Deployment) -> PassesThrough:
        """The adapter of a deployment that `choose` returned."""
        provider = self._providers[deployment.kind]
        assert isinstance(provider, PassesThrough)
        return provider

    def label(self, deployment: Deployment, model: str) -> str:
        """A model's name in rows and metrics: callers must not invent any."""
        if model and (self.price(deployment, model, self.clock.now_ns()) is not None):
            return model
        return OTHER_MODEL

    def price(self, deployment: Deployment, model: str, began_ns: int) -> Price | None:
        """What a model costs at the account of a deployment, for a request that began then; None if
        nothing says so."""
        if not model:
            return None
        account = (deployment.provider, deployment.api_base, deployment.api_key)
        for other in self._deployments:
            if other.model == model and account == (
                other.provider,
                other.api_base,
                other.api_key,
            ):
                return self._prices.price_of(other, began_ns)
        prefix = deployment.litellm_model.removesuffix(deployment.model)
        return self._prices.price_of(
            replace(
                deployment,
                model=model,
                litellm_model=prefix + model,
                prices={},
                base_model="",
                mode="",
            ),
            began_ns,
        )


class Passed:
    """One request that is passed through, as a context manager. Entering holds and sends; leaving
    books."""

    def __init__(
        self,
        passing: Passing,
        exchange: Exchange,
        deployment: Deployment,
        passage: Passage,
        *,
        model: str,
        template: str,
        may_pass: bool,
    ) -> None:
        self._passing = passing
        self._exchange = exchange
        self._deployment = deployment
        self._passage = passage
        self._model = _model_at(f"{deployment.api_base or ''}/{passage.path}") or model
        self._template = template
        self._may_pass = may_pass
        self._began = 0.0
        self._attempt_id = ""
        self._meter = Meter("", anthropic=False)
        self._error_type = ""
        self._answer: PassedAnswer | None = None
        self._refused: bytes | None = None

    async def __aenter__(self) -> Self:
        await self._reserve()
        try:
            await self._send()
        except BaseException as error:
            await self._over(error)
            raise
        return self

    async def __aexit__(
        self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None
    ) -> None:
        await self._over(error)

    @property
    def status(self) -> int:
        """The provider's status; 0 without an answer."""
        return 0 if self._answer is None else self._answer.status

    def head(self) -> tuple[list[tuple[bytes, bytes]], bytes | None]:
        """The answer's headers for the caller and, if the provider refused, all of its body; None
        if the body is in `chunks`."""
        assert self._answer is not None
        given, refused = list(self._answer.headers), self._refused
        bare = self.status in WITHOUT_BODY
        if bare or (refused is not None and not self._heads):
            given = [header for header in given if header[0] != b"content-length"]
        if refused is not None and not self._heads:
            given.append((b"content-length", b"%d" % len(refused)))
        return given, b"" if bare or self._heads else refused

    @property
    def _heads(self) -> bool:
        """Whether only a head was asked for: no body comes, whatever length it tells."""
        return self._passage.method == "HEAD"

    async def chunks(self) -> AsyncGenerator[bytes]:
        """The answer's body as it comes. Raises ProviderError."""
        assert self._answer is not None
        clock = self._passing.clock
        ends_at = asyncio.get_running_loop().time() + self._exchange.deadline - clock.monotonic()
        async with aclosing(self._answer.chunks(ends_at)) as chunks:
            async for chunk in chunks:
                self._meter.feed(chunk)
                yield chunk

    async def _send(self) -> None:
        passing, deployment = self._passing, self._deployment
        limits, left = passing.limits, self._exchange.deadline - self._began
        call = Call(
            deployment,
            self._exchange.ask.wire,
            {},
            min(deployment.timeout_s, left),
            stream_idle_timeout_s=limits.stream_idle_timeout_s,
            request_id=self._exchange.start.request_id,
        )
        answer = await passing.provider_of(deployment).forward(call, self._passage)
        self._answer = answer
        self._meter = Meter(answer.content_type, anthropic=deployment.kind == "anthropic")
        if answer.status < 400:
            return
        body = b"" if self._heads else await answer.error_body(MAX_ERROR_BYTES)
        failure = read_failure(body)
        if answer.status == 401:
            raise refusal(deployment, answer.status, failure)
        self._error_type = kind_of(answer.status, failure)
        self._refused = body

    async def _reserve(self) -> None:
        """Hold. Raises the error that ends the request, which is booked then."""
        passing, exchange, deployment = self._passing, self._exchange, self._deployment
        clock = passing.clock
        span_id = f"{clock.rng.getrandbits(64) or 1:016x}"
        price = passing.price(deployment, self._model, exchange.start.started_ns)
        reservation = Reservation(
            request=exchange.start,
            number=1,
            span_id=span_id,
            now_ns=clock.now_ns(),
            deployment=deployment.id,
            provider=deployment.provider,
            model=passing.label(deployment, self._model),
            sizes=HoldSizes(LEAST_HOLD_NANO, LEAST_HOLD_NANO, LEAST_HOLD_NANO),
            priced=True,
            price_id="" if price is None else price.id,
            unbounded="" if self._may_pass else _UNBOUNDED,
            charge_rule=passing.charging.rule(exchange.start, deployment, self._model),
            only_ledger=True,
        )
        self._attempt_id = reservation.attempt_id
        self._began = clock.monotonic()
        try:
            hold = await passing.ledger.reserve(reservation)
        except SpanledgerError as error:
            if isinstance(error, RefusedError):
                error.answer_with(passing.limits.budget_exceeded_status)
            end = request_end(error, clock.now_ns())
            await passing.booking.end_request(exchange.start, end)
            raise
        except BaseException:
            await passing.booking.undo(exchange, reservation)
            raise
        passing.health.states[deployment.id].begin(self._began, 0)
        exchange.held(hold, deployment.id)
        if deployment.forwards_trace:
            trace = exchange.trace_headers(span_id)
            self._passage = replace(self._passage, trace_headers=trace)

    async def _over(self, error: BaseException | None) -> None:
        """Book the end."""
        passing, now_ns = self._passing, self._passing.clock.now_ns()
        passing.health.states[self._deployment.id].ended(self._began, 0, 0)
        status = self.status
        if error is None and not self._error_type:
            request = RequestEnd("ok", "", status, now_ns)
        elif error is None:
            request = RequestEnd("error", self._error_type, status, now_ns)
        elif isinstance(error, SpanledgerError):
            request = request_end(error, now_ns)
        elif isinstance(error, asyncio.CancelledError | GeneratorExit):
            request = cancelled_end(now_ns)
        else:
            request = internal_error_end(now_ns)
        if isinstance(error, ProviderError):
            status = error.status or status
        self._meter.end()
        if self._answer is not None:
            self._answer.close()
        end = self._end(request, status)
        booking = passing.booking
        if error is None:
            await booking.finish(self._exchange, end)
        else:
            await booking.detached(booking.finish(self._exchange, end))

    def _end(self, request: RequestEnd, status: int) -> AttemptEnd:
        """The record of the end: priced where the answer has usage and its model a price."""
        meter, deployment = self._meter, self._deployment
        usage = meter.usage
        began_ns = self._exchange.start.started_ns
        price = self._passing.price(deployment, self._model or meter.model, began_ns)
        cost: int | None = None
        listed: int | None = None
        if usage is not None:
            cost = 0 if price is None else price.cost_nano(usage, meter.service)
            listed = None if price is None else price.list_nano(usage, meter.service)
        elif not request.error_type:
            cost = 0
        extra: dict[str, object] = {
            "http.request.method": self._passage.method,
            "url.template": self._template,
        }
        if price is not None and usage is not None:
            extra["spanledger.price.id"] = price.id
        response_id = "" if self._answer is None else self._answer.request_id
        return AttemptEnd(
            attempt_id=self._attempt_id,
            ended_ns=request.ended_ns,
            cost_nano=cost,
            list_nano=listed,
            estimated=usage is not None and bool(usage.ambiguity),
            unpriced=usage is not None and price is None,
            error_type=request.error_type,
            http_status=status,
            input_tokens=0 if usage is None else usage.input_tokens,
            output_tokens=0 if usage is None else usage.output_tokens,
            cache_read_tokens=0 if usage is None else usage.cache_read_input_tokens,
            cache_write_tokens=0 if usage is None else usage.cache_write_input_tokens,
            reasoning_tokens=0 if usage is None else usage.reasoning_output_tokens,
            response_model=hide_key(meter.model, deployment),
            detail=attempt_detail(
                request={},
                deployment=deployment,
                response_id="",
                finish_reasons=(),
                provider_request_id=hide_key(response_id, deployment),
                extra=extra,
            ),
            request=request,
        )


def _model_at(address: str) -> str:
    """The model that an address names; empty if it names none, and so the body may."""
    found = _MODEL_AT.findall(address)
    return unquote(found[-1])[:MAX_ROUTE_CHARS] if found else ""
