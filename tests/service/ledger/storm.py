"""A gateway's worth of reservations in a separate process; run by test_processes."""

from __future__ import annotations

import asyncio
import os
import sys
import time

from spanledger.budgets.model import HoldSizes
from spanledger.errors import BudgetExceededError
from spanledger.ledger import open_ledger, open_store
from spanledger.ledger.model import AttemptEnd, RequestEnd, RequestStart, Reservation


async def storm(url: str, callers: int, hold: int, cost: int) -> None:
    """Reserve and settle `callers` times at once; print how many were admitted."""
    ledger = open_ledger(open_store(url))
    clock = time.time_ns
    print("ready", flush=True)
    sys.stdin.readline()

    async def call(number: int) -> bool:
        unique = f"{os.getpid()}-{number}"
        start = RequestStart(
            unique, "0" * 32, "0" * 16, "", clock(), "acme", "", "", "chat", "chat", False
        )
        sizes = HoldSizes(hold, hold, hold)
        reservation = Reservation(start, 1, "1" * 16, clock(), "d", "openai", "m", sizes, True, "p")
        try:
            await ledger.reserve(reservation)
        except BudgetExceededError:
            return False
        if cost >= 0:
            end = RequestEnd("ok", "", 200, clock())
            await ledger.finish(AttemptEnd(reservation.attempt_id, clock(), cost, request=end))
        return True

    admitted = await asyncio.gather(*(call(number) for number in range(callers)))
    print(sum(admitted), flush=True)
    await ledger.close()


if __name__ == "__main__":
    asyncio.run(storm(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])))
