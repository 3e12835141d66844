"""Ledger calls that survive their caller: every attempt and request that began gets its end.

A caller that disconnects cancels its task at any await. Attempts and requests are then ended by
tasks of our own; `drain` waits for them when the gateway stops.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine

from msgspec.structs import replace

from spanledger.clock import Clock
from spanledger.errors import LedgerUnavailableError, SpanledgerError
from spanledger.ledger.model import AttemptEnd, Kept, Later, RequestEnd, RequestStart, Reservation
from spanledger.ledger.ports import Ledger
from spanledger.routing.outcome import CANCELLED, cancelled_end
from spanledger.routing.request import Exchange
from spanledger.routing.room import WaitingRoom

log = logging.getLogger(__name__)


class Booking:
    """Ends of attempts and requests, written once each."""

    def __init__(self, ledger: Ledger, clock: Clock, room: WaitingRoom) -> None:
        self._ledger = ledger
        self._clock = clock
        self._room = room
        self._tasks: set[asyncio.Task[None]] = set()

    async def finish(self, exchange: Exchange, end: AttemptEnd) -> None:
        """End an attempt. An unavailable ledger does not fail the answer: it writes the end later,
        or the sweep expires the hold."""
        try:
            settled = await self._ledger.finish(end)
        except SpanledgerError as error:
            _unbooked("attempt", end.attempt_id, error)
            exchange.cost_nano += end.cost_nano or 0
        except asyncio.CancelledError:
            self._spawn(self._finish_again(end))
            raise
        else:
            exchange.cost_nano += settled.cost_nano
            exchange.remaining_nano = settled.remaining_nano
            if self._room.waiting:
                self._room.given_back(exchange.start)

    async def end_request(
        self,
        start: RequestStart,
        end: RequestEnd,
        later: Later | None = None,
        kept: Kept | None = None,
    ) -> None:
        """End a request outside an attempt, or while its attempt stays held (`later`) for what its
        provider keeps."""
        try:
            await self._ledger.end_request(start, end, later=later, kept=kept)
        except SpanledgerError as error:
            _unbooked("request", start.request_id, error)
        except asyncio.CancelledError:
            self._spawn(self._end_again(start, end, later, kept))
            raise

    async def undo(self, exchange: Exchange, reservation: Reservation) -> None:
        """End an attempt and its request after the caller left while the hold was being written."""
        await self.detached(self._undo(exchange, reservation))

    async def detached(self, work: Coroutine[None, None, None]) -> None:
        """Run `work` to completion even if this call is cancelled."""
        await asyncio.shield(self._spawn(work))

    async def drain(self) -> None:
        """Wait for all work whose caller has left."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("an attempt or request could not be ended in the ledger", exc_info=error)

    async def _undo(self, exchange: Exchange, reservation: Reservation) -> None:
        now_ns = self._clock.now_ns()
        end = cancelled_end(now_ns)
        try:
            # Returns the hold of the first call, which may still be in progress.
            hold = await self._ledger.reserve(replace(reservation, repeat=True))
        except SpanledgerError:
            await self.end_request(exchange.start, end)
            return
        released = AttemptEnd(hold.attempt_id, now_ns, None, error_type=CANCELLED, request=end)
        await self.finish(exchange, released)

    async def _finish_again(self, end: AttemptEnd) -> None:
        try:
            await self._ledger.finish(end)  # idempotent: the first call may still be in progress
        except SpanledgerError as error:
            _unbooked("attempt", end.attempt_id, error)

    async def _end_again(
        self, start: RequestStart, end: RequestEnd, later: Later | None, kept: Kept | None
    ) -> None:
        try:
            await self._ledger.end_request(start, end, later=later, kept=kept)
        except SpanledgerError as error:
            _unbooked("request", start.request_id, error)


def _unbooked(what: str, unique: str, error: SpanledgerError) -> None:
    """Log it; at DEBUG if the ledger is unavailable, which the ledger itself logs once."""
    level = logging.DEBUG if isinstance(error, LedgerUnavailableError) else logging.WARNING
    log.log(level, "the end of %s %s is not recorded yet: %s", what, unique, error)
