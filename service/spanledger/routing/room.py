"""Lets a request wait while only what others hold is in its way.

Most of a hold is given back when its attempt ends. So a budget that refuses a request for which there would
be room if nothing were held does not end it at once: it waits in line, and asks again whenever an attempt
under that budget has ended here. What ends at other gateways is found by asking now and then.
"""

from __future__ import annotations

import asyncio
from bisect import insort
from itertools import count

import msgspec

from spanledger.budgets.scopes import SCOPES, subjects_by_scope
from spanledger.clock import Clock
from spanledger.errors import Refusal
from spanledger.ledger.model import RequestStart

MAX_ASKING = 8
"""How many of a line ask again when an attempt has ended."""
POLL_S = 1.0
"""How often the first of a line ask again by themselves."""
MAX_IN_LINE = 1_000
MAX_STUCK = 1_000

_FIELDS = {
    scope.name: scope.of.removeprefix("request.")
    for scope in SCOPES
    if scope.of.startswith("request.")
}
"""Where a request has the subjects of a scope; those of its attempts are not looked at."""
WaitingLine = tuple[str, str, str]
"""A budget's name, scope and subject."""


class PlaceInLine(msgspec.Struct):
    """A request's place in line.

    Attributes:
        number: lower ones came earlier.
        until: monotonic seconds at which it gives up.
        figures: what was spent and held when it came.
    """

    number: int
    until: float
    figures: tuple[int, int]


class WaitingRoom:
    """All requests that wait, by the account that has no room for them."""

    def __init__(self, clock: Clock, wait_s: float) -> None:
        self._clock = clock
        self._wait_s = wait_s
        self._numbers = count()
        self._lines: dict[WaitingLine, list[tuple[int, asyncio.Future[None]]]] = {}
        self._stuck: dict[WaitingLine, tuple[int, int]] = {}
        self.waiting = 0

    async def freed(
        self, refusal: Refusal, place: PlaceInLine | None, deadline: float
    ) -> PlaceInLine | None:
        """Wait until something may have been given back.

        Args:
            refusal: the last one.
            place: what the call before returned for this request; None: it has not waited yet.
            deadline: monotonic seconds by which the request must end.

        Returns:
            The request's place, with which it asks again; None: it is refused.
        """
        account = (refusal.budget, refusal.scope, refusal.subject)
        figures = (refusal.spent_nano, refusal.held_nano)
        if not _only_held(refusal):
            return None
        now = self._clock.monotonic()
        if place is None:
            if self.waiting >= MAX_IN_LINE or self._stuck.get(account) == figures:
                return None
            place = PlaceInLine(next(self._numbers), min(now + self._wait_s, deadline), figures)
        if now >= place.until:
            if figures == place.figures:
                self._remember_stuck(account, figures)
            return None
        await self._turn(account, place.number, place.until - now)
        return place

    def given_back(self, start: RequestStart) -> None:
        """An attempt of this request has ended: those ask again who may have waited for it."""
        for account, line in self._lines.items():
            if _counts(account, start):
                for _, future in line[:MAX_ASKING]:
                    if not future.done():
                        future.set_result(None)

    async def _turn(self, account: WaitingLine, number: int, left_s: float) -> None:
        line = self._lines.setdefault(account, [])
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        insort(line, (number, future))
        self.waiting += 1
        pause_s = POLL_S * (1 + line.index((number, future)) // MAX_ASKING)
        try:
            await asyncio.wait((future,), timeout=min(left_s, pause_s))
        finally:
            self.waiting -= 1
            line.remove((number, future))
            if not line:
                del self._lines[account]

    def _remember_stuck(self, account: WaitingLine, figures: tuple[int, int]) -> None:
        """Nothing has moved in all that time, such as the hold of a batch: until something does, nobody
        else waits for it."""
        if len(self._stuck) >= MAX_STUCK:
            self._stuck.clear()
        self._stuck[account] = figures


def _only_held(refusal: Refusal) -> bool:
    """Whether there would be room if nothing were held."""
    most = refusal.limit_nano + refusal.grace_nano
    return refusal.held_nano > 0 and refusal.spent_nano + refusal.needed_nano <= most


def _counts(account: WaitingLine, start: RequestStart) -> bool:
    """Whether an account counts a request, as far as the request alone says so."""
    _, scope, subject = account
    for name, part in subjects_by_scope(scope, subject).items():
        if field := _FIELDS.get(name):
            own = getattr(start, field)
            if part != own and not (isinstance(own, tuple) and part in own):
                return False
    return True
