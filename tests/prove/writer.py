"""A process that writes to a ledger as a gateway does, with many callers at once.

An order is a line of JSON on standard input. The process opens the ledger, prints a line, waits for
another, lets all callers go at once, and prints what each of them got.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
import time

import msgspec

from spanledger.budgets.model import HoldSizes
from spanledger.clock import Clock
from spanledger.errors import BudgetExceededError, LedgerUnavailableError
from spanledger.ledger import open_ledger, open_store
from spanledger.ledger.group import GroupLedger
from spanledger.ledger.model import AttemptEnd, RequestEnd, RequestStart, Reservation

MOST_TIMES = 50
AGAIN_S = 0.1


class Order(msgspec.Struct):
    """What the callers of one process do.

    Attributes:
        least: the smallest hold that a strict budget may grant.
        then: what follows a hold: `keep`, `settle`, `cheaper`, `dearer` or `release`.
        clock_ns: what the clock shows when the callers start; 0 for the machine's own.
        pause_s: callers start within this time.
    """

    url: str
    seed: int
    process: int
    callers: int
    customer: str
    hold: int
    least: int
    then: str
    clock_ns: int = 0
    pause_s: float = 0.0


class Got(msgspec.Struct, omit_defaults=True):
    """What a caller got: a hold or a refusal with its figures, or an error, which nobody should get.

    Attributes:
        now_ns: by the process's clock, when it asked.
        cost: what it was charged; -1 if its hold was kept.
        unavailable: how often the ledger could not be reached in time, and it asked again.
    """

    now_ns: int
    hold: int = -1
    cost: int = -1
    spent: int = 0
    held: int = 0
    limit: int = 0
    needed: int = 0
    unavailable: int = 0
    error: str = ""


class Hands:
    """A wall clock that shows one time until it is started; 0 is the machine's own time."""

    def __init__(self, start_ns: int) -> None:
        self._start_ns = start_ns
        self._began_ns: int | None = None

    def start(self) -> None:
        """Let it go."""
        self._began_ns = time.monotonic_ns()

    def now_ns(self) -> int:
        """What it shows, Unix nanoseconds."""
        if not self._start_ns:
            return time.time_ns()
        began_ns = self._began_ns
        return self._start_ns + (0 if began_ns is None else time.monotonic_ns() - began_ns)


async def serve_order(order: Order) -> list[Got]:
    """All callers of an order at once."""
    hands = Hands(order.clock_ns)
    clock = Clock(now_ns=hands.now_ns)
    ledger = open_ledger(open_store(order.url), clock)
    print("ready", flush=True)
    sys.stdin.readline()
    hands.start()
    dice = random.Random(f"{order.seed} {order.process}")
    calls = [
        _call(ledger, clock, order, number, random.Random(dice.random()))
        for number in range(order.callers)
    ]
    got = await asyncio.gather(*calls)
    await ledger.close()
    return list(got)


def reservation_of(order: Order, number: int, again: int, now_ns: int) -> Reservation:
    """A caller's request, for the first time or again."""
    unique = (again * 2**8 + order.process) * 2**16 + number
    start = RequestStart(
        f"req_{now_ns // 10**6:012x}{unique:012x}", f"{unique + 2**64:032x}", f"{unique + 1:016x}", "",
        now_ns, order.customer, "team", "key", "chat", "chat", False,
    )  # fmt: skip
    sizes = HoldSizes(order.hold, order.hold, order.least)
    return Reservation(
        start, 1, f"{unique + 2**48:016x}", now_ns, "d", "openai", "m", sizes, True, "p"
    )


async def _call(
    ledger: GroupLedger, clock: Clock, order: Order, number: int, dice: random.Random
) -> Got:
    """A caller that asks until it is served or refused: 503 is neither."""
    await asyncio.sleep(order.pause_s * dice.random())
    for again in range(MOST_TIMES):
        now_ns = clock.now_ns()
        reservation = reservation_of(order, number, again, now_ns)
        try:
            hold = (await ledger.reserve(reservation)).hold_nano
        except LedgerUnavailableError:
            await asyncio.sleep(AGAIN_S)
        except BudgetExceededError as refused:
            end = RequestEnd("refused", refused.error_type, 429, clock.now_ns(), "tight")
            await ledger.end_request(reservation.request, end)
            told = refused.refusal
            return Got(
                now_ns,
                spent=told.spent_nano,
                held=told.held_nano,
                limit=told.limit_nano,
                needed=told.needed_nano,
                unavailable=again,
            )
        else:
            cost = await _then(ledger, clock, (reservation, hold, order.then), dice)
            return Got(now_ns, hold, cost, unavailable=again)
    return Got(now_ns, error=f"the ledger was unavailable {MOST_TIMES} times")


async def _then(
    ledger: GroupLedger, clock: Clock, held: tuple[Reservation, int, str], dice: random.Random
) -> int:
    """What follows a hold; returns its cost, or -1 if it is kept."""
    reservation, hold, then = held
    if then == "keep":
        return -1
    if dice.random() < 0.3:
        await asyncio.sleep(0.005 * dice.random())
    cost = {
        "settle": hold,
        "cheaper": dice.randrange(hold + 1),
        "dearer": hold + dice.randrange(hold + 1),
    }.get(then)
    end = RequestEnd("ok", "", 200, clock.now_ns())
    with contextlib.suppress(LedgerUnavailableError):  # then it is written as soon as it can be
        await ledger.finish(AttemptEnd(reservation.attempt_id, clock.now_ns(), cost, request=end))
    return cost or 0


def main() -> None:
    """Serve orders until the input ends."""
    for line in sys.stdin:
        got = asyncio.run(serve_order(msgspec.json.decode(line, type=Order)))
        print(msgspec.json.encode(got).decode(), flush=True)


if __name__ == "__main__":
    main()
