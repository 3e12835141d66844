"""One attempt that stays at one deployment and is not a request of a wire: an upload, a batch.

It is held and sent once; how it ends is up to the caller, who must end it.
"""

from __future__ import annotations

import asyncio

from spanledger.budgets.model import HoldSizes
from spanledger.clock import Clock
from spanledger.errors import ProviderError, RefusedError, SpanledgerError
from spanledger.ledger.model import AttemptEnd, Hold, Kept, Later, RequestEnd, Reservation
from spanledger.ledger.ports import Ledger
from spanledger.providers.base import Deployment
from spanledger.routing.booking import Booking
from spanledger.routing.charging import Charging
from spanledger.routing.outcome import (
    cancelled_end,
    error_type_of,
    internal_error_end,
    request_end,
)
from spanledger.routing.request import Exchange
from spanledger.telemetry.attributes import attempt_detail


class SingleAttempts:
    """Books such attempts."""

    def __init__(
        self,
        ledger: Ledger,
        booking: Booking,
        clock: Clock,
        charging: Charging,
        budget_exceeded_status: int,
    ) -> None:
        self._ledger = ledger
        self._booking = booking
        self._clock = clock
        self._charging = charging
        self._status = budget_exceeded_status

    async def hold(
        self,
        exchange: Exchange,
        deployment: Deployment,
        nano: int,
        *,
        price_id: str = "",
        priced: bool = True,
        unbounded: str = "",
    ) -> Hold:
        """Hold this much. Raises the error that ends the request, which is booked then."""
        reservation = Reservation(
            request=exchange.start,
            number=1,
            span_id=f"{self._clock.rng.getrandbits(64) or 1:016x}",
            now_ns=self._clock.now_ns(),
            deployment=deployment.id,
            provider=deployment.provider,
            model=deployment.label or deployment.model,
            sizes=HoldSizes(nano, nano, nano),
            priced=priced,
            price_id=price_id,
            unbounded=unbounded,
            charge_rule=self._charging.rule(exchange.start, deployment),
            only_ledger=True,
        )
        try:
            hold = await self._ledger.reserve(reservation)
        except SpanledgerError as error:
            if isinstance(error, RefusedError):
                error.answer_with(self._status)
            await self._booking.end_request(
                exchange.start, request_end(error, self._clock.now_ns())
            )
            raise
        except BaseException:
            await self._booking.undo(exchange, reservation)
            raise
        exchange.held(hold, deployment.id)
        return hold

    async def failed(
        self, exchange: Exchange, deployment: Deployment, error: BaseException, expected_nano: int
    ) -> None:
        """End an attempt that failed. Where it may have been served all the same, what may be
        expected is charged."""
        now_ns = self._clock.now_ns()
        status, kind, cost = 0, "", None
        if isinstance(error, SpanledgerError):
            request = request_end(error, now_ns)
            kind = error_type_of(error)
            if isinstance(error, ProviderError):
                status = error.status or 0
                cost = expected_nano if error.billed != "no" and expected_nano else None
        elif isinstance(error, asyncio.CancelledError):
            request, cost = cancelled_end(now_ns), expected_nano or None
        else:
            request, cost = internal_error_end(now_ns), expected_nano or None
        end = self._end(exchange, deployment, cost, request, status, kind or request.error_type)
        await self._booking.detached(self._booking.finish(exchange, end))

    async def free(
        self, exchange: Exchange, deployment: Deployment, ids: tuple[str, str], kept: Kept
    ) -> None:
        """End an attempt that cost nothing, and its request, of which something is kept. `ids` are the
        provider's, of that and of the request.

        Raises:
            LedgerUnavailableError: nobody could find again what the caller would be given.
        """
        end = self._end(exchange, deployment, 0, None, 200, "", ids)
        done = RequestEnd("ok", "", 200, self._clock.now_ns())

        async def booked() -> None:
            await self._booking.finish(exchange, end)
            await self._ledger.end_request(exchange.start, done, kept=kept)

        await self._booking.detached(booked())

    async def put_off(self, exchange: Exchange, kept: Kept, later: Later) -> None:
        """End the request, whose attempt stays held.

        Raises:
            LedgerUnavailableError: as above.
        """
        done = RequestEnd("ok", "", 200, self._clock.now_ns())
        # A caller that leaves now would leave a batch that nobody finds, and a hold without an end.
        work = self._ledger.end_request(exchange.start, done, kept=kept, later=later)
        await self._booking.detached(work)

    def _end(
        self,
        exchange: Exchange,
        deployment: Deployment,
        cost: int | None,
        request: RequestEnd | None,
        status: int,
        error_type: str,
        ids: tuple[str, str] = ("", ""),
    ) -> AttemptEnd:
        return AttemptEnd(
            attempt_id=f"{exchange.start.request_id}.1",
            ended_ns=self._clock.now_ns() if request is None else request.ended_ns,
            cost_nano=cost,
            estimated=bool(cost),
            error_type=error_type,
            http_status=status,
            detail=attempt_detail(
                request={},
                deployment=deployment,
                response_id=ids[0],
                finish_reasons=(),
                provider_request_id=ids[1],
            ),
            request=request,
        )
