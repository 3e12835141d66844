"""One account of a rate in one process: what it used, what is its share, and whether a request fits. Pure.

The time is an argument of each call, monotonic seconds.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from spanledger.errors import Measure
from spanledger.rates.model import MEASURES, NO_AMOUNTS, WINDOW_S, Amounts, Rate, RateAccount
from spanledger.rates.shares import LEASE_S, Claim, SharesNow, unused_at_most
from spanledger.rates.window import SlidingWindow

FRESH_S = 0.25
"""How long an answer of the ledger stands: a flood of refused requests asks it no more often."""
RENEW_S = LEASE_S / 3
IN_FLIGHT_RETRY_S = 1.0
"""When a request is worth another attempt if too many are in flight: nobody knows when one ends."""
_IN_FLIGHT = MEASURES.index("in_flight")


class Left(NamedTuple):
    """How much of a limit is left.

    Attributes:
        resets_s: seconds until all of it is, if nothing is used meanwhile.
    """

    limit: int
    remaining: int
    resets_s: float


class Standing(NamedTuple):
    """What is left of the rates that apply to a request: of each measure, the least; None: no limit."""

    requests: Left | None
    tokens: Left | None
    at_ns: int
    """When that was so."""


class Excess(NamedTuple):
    """Why a request does not fit.

    Attributes:
        wait_s: seconds after which it is worth another attempt; None: it never fits.
    """

    measure: Measure
    limit: int
    used: int
    wait_s: float | None


class RateMeter:
    """Counts one account."""

    __slots__ = (
        "_asked_at",
        "_before",
        "_others",
        "_own",
        "_renewed_at",
        "_windows",
        "account",
        "in_flight",
        "rate",
        "used_at",
    )

    def __init__(self, account: RateAccount, rate: Rate) -> None:
        self.account = account
        self.rate = rate
        self.in_flight = 0
        self.used_at = -math.inf
        """When it was last looked up for a request."""
        self._windows = (SlidingWindow(), SlidingWindow(), SlidingWindow())
        self._own = self._others = NO_AMOUNTS
        self._before: Amounts | None = None
        self._renewed_at = self._asked_at = -math.inf

    # use ----------------------------------------------------------------------------------

    def used(self, now: float) -> Amounts:
        """What this process used in the last minute, and has in flight."""
        requests, tokens, nano = self._windows
        return Amounts(requests.total(now), tokens.total(now), nano.total(now), self.in_flight)

    def room(self, now: float, place: int) -> int | None:
        """What is left of a measure as far as we know; None if it has no limit."""
        limit = self.rate.limits[place]
        return None if limit is None else limit - self._others[place] - self.used(now)[place]

    def excess(self, now: float, needs: Amounts) -> Excess | None:
        """Why these needs do not fit; None if they do, or if the ledger has to be asked."""
        used = self.used(now)
        known = now - self._asked_at < FRESH_S
        for place, limit in enumerate(self.rate.limits):
            need = needs[place]
            if limit is None or not need:
                continue
            others = self._others[place] if known else 0
            if used[place] + need + others > limit:
                wait = None if need > limit else self._wait_s(now, place, limit - need)
                total = used[place] + self._others[place]
                return Excess(MEASURES[place], limit, total, wait)
        return None

    def _wait_s(self, now: float, place: int, most: int) -> float:
        """Seconds until no more than `most` is used. Others are taken to use their shares evenly."""
        if place == _IN_FLIGHT:
            return IN_FLIGHT_RETRY_S
        others = self._others[place]
        window = self._windows[place]
        alone = window.falls_in(now, most - others)
        if alone is not None:
            return alone
        own = window.total(now)
        return min(WINDOW_S, WINDOW_S * max(own + others - most, 1) / max(own + others, 1))

    def fits(self, now: float, needs: Amounts, *, leased: bool = True) -> bool:
        """Whether these needs are within this process's share, and its lease has not ended if `leased`."""
        if leased and now - self._renewed_at > LEASE_S:
            return False
        used = self.used(now)
        for place, limit in enumerate(self.rate.limits):
            need = needs[place]
            if limit is not None and need and used[place] + need > self._own[place]:
                return False
        return True

    def take(self, now: float, needs: Amounts) -> None:
        """Count what a request needs."""
        requests, tokens, nano, in_flight = needs
        for window, amount in zip(self._windows, (requests, tokens, nano), strict=True):
            if amount:
                window.add(now, amount)
        self.in_flight += in_flight

    def correct(self, at: float, requests: int, tokens: int, nano: int) -> None:
        """Change what a request was counted with when it was admitted."""
        for window, amount in zip(self._windows, (requests, tokens, nano), strict=True):
            if amount:
                window.correct(at, amount)

    def left(self, now: float, place: int) -> Left | None:
        """What is left of a measure that is counted by the minute; None if it has no limit."""
        limit = self.rate.limits[place]
        if limit is None:
            return None
        used = self.used(now)[place]
        remaining = max(0, limit - self._others[place] - used)
        return Left(limit, remaining, self._windows[place].empties_in(now))

    # shares -------------------------------------------------------------------------------

    def ask(self, now: float, needs: Amounts = NO_AMOUNTS) -> Claim:
        """What to ask the ledger for. Until the answer nothing may be used: the new share may be smaller."""
        used = self.used(now)
        if self._before is None:
            self._before = self._own
        self._own = NO_AMOUNTS
        return Claim(self.account, self.rate.limits, used, needs, any(needs) or any(used))

    def got(self, now: float, share: SharesNow) -> None:
        """The ledger's answer to what was asked at this time."""
        self._own, self._others = share
        self._before = None
        self._asked_at = self._renewed_at = now

    def got_none(self) -> None:
        """The ledger did not answer: the share stays as it was."""
        if self._before is not None:
            self._own, self._before = self._before, None

    def change(self, rate: Rate) -> None:
        """The rate has changed: nothing is our share until the ledger was asked."""
        self.rate = rate
        self._own, self._before = NO_AMOUNTS, None
        self._asked_at = self._renewed_at = -math.inf

    def is_due(self, now: float) -> bool:
        """Whether its share has to be renewed, or has too much left over."""
        if not any(self._own):
            return False
        if now - self._renewed_at > RENEW_S:
            return True
        used = self.used(now)
        return any(
            limit is not None and self._own[place] - used[place] > unused_at_most(limit)
            for place, limit in enumerate(self.rate.limits)
        )

    def is_idle(self, now: float) -> bool:
        """Whether it counts nothing any more."""
        return not any(self.used(now)) and now - self.used_at > WINDOW_S
