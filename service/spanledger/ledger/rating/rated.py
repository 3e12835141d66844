"""A ledger whose attempts are subject to rates. Without any, each call costs one look more."""

from __future__ import annotations

import os
import secrets
from collections.abc import Coroutine
from typing import Any

import msgspec

from spanledger.clock import Clock
from spanledger.errors import SpanledgerError
from spanledger.ledger.model import (
    AttemptEnd,
    Hold,
    Kept,
    Later,
    RequestEnd,
    RequestStart,
    Reservation,
    Settled,
)
from spanledger.ledger.ports import Ledger, Store
from spanledger.ledger.rating.limiter import Limiter


def open_limiter(store: Store, clock: Clock, *, longest_request_s: float) -> Limiter:
    """The rates of this process, as a ledger has them now; close it with `await limiter.close()`."""
    owner = f"{os.getpid()}-{secrets.token_hex(6)}"
    limiter = Limiter(store.rates("create"), owner, clock, longest_request_s=longest_request_s)
    limiter.load()
    return limiter


class RatedLedger:
    """`Ledger`: another one behind a limiter.

    Every attempt and every request ends here, however it ends, so whatever was counted for it is released.
    """

    def __init__(self, ledger: Ledger, limiter: Limiter) -> None:
        self._ledger = ledger
        self._limiter = limiter
        limiter.journaling = lambda: ledger.journaling
        self.find_key = ledger.find_key
        self.find_answer = ledger.find_answer
        self.find_kept = ledger.find_kept
        self.list_kept = ledger.list_kept
        self.owners_of_file = ledger.owners_of_file
        self.list_unread = ledger.list_unread
        self.change_kept = ledger.change_kept
        self.check = ledger.check
        self.has_keys = ledger.has_keys

    @property
    def journaling(self) -> bool:
        """See `Ledger`."""
        return self._ledger.journaling

    @property
    def journal_has_room(self) -> bool:
        """See `Ledger`."""
        return self._ledger.journal_has_room

    def reserve(self, reservation: Reservation) -> Coroutine[Any, Any, Hold]:
        """See `Ledger`. Also raises RateExceededError, if a rate has no room."""
        if self._limiter.on and not reservation.repeat:
            return self._reserve(reservation)
        return self._ledger.reserve(reservation)

    async def _reserve(self, reservation: Reservation) -> Hold:
        admitted = await self._limiter.admit(reservation)
        if admitted is None:
            return await self._ledger.reserve(reservation)
        try:
            hold = await self._ledger.reserve(reservation)
        except SpanledgerError:  # of anything else, the caller reports the end
            self._limiter.withdraw(admitted)
            raise
        return msgspec.structs.replace(
            hold, only_usual=not admitted.asked.whole, standing=self._limiter.standing(admitted)
        )

    def finish(self, end: AttemptEnd) -> Coroutine[Any, Any, Settled]:
        """See `Ledger`."""
        if self._limiter.open:
            self._limiter.settled(end)
        return self._ledger.finish(end)

    def end_request(
        self,
        start: RequestStart,
        end: RequestEnd,
        *,
        kept: Kept | None = None,
        later: Later | None = None,
    ) -> Coroutine[Any, Any, None]:
        """See `Ledger`."""
        if self._limiter.open:
            self._limiter.ended(start.request_id)
        return self._ledger.end_request(start, end, kept=kept, later=later)
