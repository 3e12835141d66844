"""How the processes of a ledger share a rate. Pure.

Each process has a share of a rate's limit, and never uses more than its share in a minute. All shares
together are never more than the limit, so neither is all use, whatever process a request goes to. A share
covers what its process has used in the last minute and a spare part, so that it need not be asked for at
each request; it is asked for when it runs out, and what it has left over is given back.
"""

from __future__ import annotations

from typing import NamedTuple

from spanledger.clock import NANOS
from spanledger.rates.model import NO_AMOUNTS, Amounts, RateAccount, RateLimits

SPARE_PARTS = 16
"""A spare part is this fraction of the limit."""
LEASE_S = 30.0
"""How long a process may use a share without having renewed it."""
CLOCKS_APART_S = 5.0
"""How much the clocks of machines may differ."""
KEPT_S = 60.0 + LEASE_S + CLOCKS_APART_S
"""How long a share counts without having been renewed: until nothing used under it is in the last minute."""
KEPT_NS = int(KEPT_S * NANOS)
IN_FLIGHT_KEPT_NS = int((LEASE_S + CLOCKS_APART_S) * NANOS)
"""The same for requests in flight, which end with their process."""
LONGEST_NS = 2 * KEPT_NS
"""A share that would count for longer dates from before a clock was set back."""


class Claim(NamedTuple):
    """A process's question for a share.

    Attributes:
        used: what it used in the last minute, and has in flight.
        needs: what it needs besides.
        spare: whether it asks for a spare part as well.
    """

    account: RateAccount
    limits: RateLimits
    used: Amounts
    needs: Amounts = NO_AMOUNTS
    spare: bool = True


class SharesNow(NamedTuple):
    """The answer.

    Attributes:
        own: what the process may use in a minute, and have in flight.
        others: the shares of all others.
    """

    own: Amounts
    others: Amounts


class Leased(NamedTuple):
    """The share of a process as it is stored."""

    amounts: Amounts
    until_ns: int


def others_of(leased: list[Leased], now_ns: int) -> Amounts:
    """What other processes have together."""
    live = [each for each in leased if now_ns < each.until_ns <= now_ns + LONGEST_NS]
    flying = [each for each in live if now_ns < in_flight_until_ns(each.until_ns)]
    sums = [sum(values) for values in zip(*(each.amounts for each in live), strict=True)]
    if not sums:
        return NO_AMOUNTS
    return Amounts(*sums)._replace(in_flight=sum(each.amounts.in_flight for each in flying))


def in_flight_until_ns(until_ns: int) -> int:
    """Until when a share's requests in flight count."""
    return until_ns - KEPT_NS + IN_FLIGHT_KEPT_NS


def share_of(ask: Claim, others: Amounts) -> Amounts:
    """The share that an ask gets, where others have these."""
    return Amounts(
        *(
            0 if limit is None else _part(limit, others[place], ask, place)
            for place, limit in enumerate(ask.limits)
        )
    )


def _part(limit: int, others: int, ask: Claim, place: int) -> int:
    """All that is needed if there is as much, and of what is left then at most half."""
    used, needed = ask.used[place], ask.used[place] + ask.needs[place]
    free = limit - others
    if free <= needed:
        return max(used, min(needed, free))  # what was used cannot be given back
    return needed + (min(spare_of(limit), (free - needed) // 2) if ask.spare else 0)


def spare_of(limit: int) -> int:
    """The spare part of a limit."""
    return limit // SPARE_PARTS


def unused_at_most(limit: int) -> int:
    """A process gives back what it has left over if that is more: twice the spare part."""
    return max(2 * spare_of(limit), 1)
