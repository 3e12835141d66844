"""A gateway's worth of requests under rates in a separate process; run by test_rate_processes."""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time

from spanledger.budgets.model import HoldSizes
from spanledger.clock import Clock
from spanledger.errors import RateExceededError
from spanledger.ledger import open_ledger, open_store
from spanledger.ledger.model import AttemptEnd, RequestEnd, RequestStart, Reservation
from spanledger.ledger.rating.rated import RatedLedger, open_limiter


async def storm(url: str, requests: int, seconds: float) -> None:
    """Make requests at random moments of some seconds; print how many were admitted and refused, and the
    most that were in flight at once."""
    store, clock = open_store(url), Clock()
    ledger = open_ledger(store)
    limiter = open_limiter(store, clock, longest_request_s=3_600)
    rated = RatedLedger(ledger, limiter)
    looking = asyncio.create_task(limiter.run())
    print("ready", flush=True)
    sys.stdin.readline()
    rng = random.Random(os.getpid())

    async def call(number: int) -> bool:
        await asyncio.sleep(rng.uniform(0, seconds))
        now = time.time_ns()
        start = RequestStart(
            *(f"{os.getpid()}-{number}", "0" * 32, "0" * 16, "", now, "acme", "", "", "chat"),
            *("chat", False),
        )
        sizes = HoldSizes(1, 1, 1, False, False, 10, 10)
        asked = Reservation(start, 1, "1" * 16, now, "d", "openai", "m", sizes, True, "p")
        try:
            await rated.reserve(asked)
        except RateExceededError:
            return False
        await asyncio.sleep(rng.uniform(0, 0.1))
        end = RequestEnd("ok", "", 200, time.time_ns())
        await rated.finish(
            AttemptEnd(asked.attempt_id, end.ended_ns, 1, input_tokens=10, request=end)
        )
        return True

    admitted = sum(await asyncio.gather(*(call(number) for number in range(requests))))
    print(admitted, requests - admitted, len(limiter.open), flush=True)
    looking.cancel()
    await limiter.close()
    await ledger.close()


if __name__ == "__main__":
    asyncio.run(storm(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
