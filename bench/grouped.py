"""One gateway's 64 callers on a ledger, through its group commit: hold, settle, again, as fast as it goes.

A script of its own, because it also runs in the environment of another checkout, back to version 0.1.0:
it uses nothing but the installed `spanledger`. It prints a line of JSON.

    python bench/grouped.py URL SECONDS CUSTOMERS GATEWAY START_AT
"""

from __future__ import annotations

import asyncio
import importlib
import itertools
import json
import sys
import time
from collections.abc import Iterator
from typing import Any

CALLERS = 64
WARM_UP = 2
"""Pairs of each caller that are not measured."""
HOLD_NANO, COST_NANO = 2_000_000, 1_500_000
MOST_TIMES = 20_000
"""Of the durations that are printed."""


class Contract:
    """The names that this needs, wherever the installed version has them."""

    def __init__(self) -> None:
        ledger: Any = importlib.import_module("spanledger.ledger")
        try:
            model: Any = importlib.import_module("spanledger.ledger.model")
            sizes: Any = importlib.import_module("spanledger.budgets.model")
        except ImportError:  # version 0.1.0
            model = sizes = importlib.import_module("spanledger.ledger.store")
        self.start, self.reservation = model.RequestStart, model.Reservation
        self.end, self.request_end = model.AttemptEnd, model.RequestEnd
        self.sizes = sizes.HoldSizes(HOLD_NANO, HOLD_NANO, HOLD_NANO)
        self._ledger = ledger

    def open(self, url: str) -> Any:
        """The gateway's ledger."""
        store = getattr(self._ledger, "open_store", lambda given: given)(url)
        return self._ledger.open_ledger(store)


async def caller(
    contract: Contract, ledger: Any, names: Iterator[tuple[str, str]], until: float
) -> list[float]:
    """Hold and settle until a time of the monotonic clock; returns how long each hold took."""
    times: list[float] = []
    for turn in itertools.count():
        if turn >= WARM_UP and time.monotonic() >= until:
            return times
        request_id, customer = next(names)
        now = time.time_ns()
        start = contract.start(
            f"req_{now // 10**6:012x}{request_id}", "0" * 32, "0" * 16, "", now, customer, "t1",
            "key_1", "chat", "chat", False,
        )  # fmt: skip
        wanted = contract.reservation(
            start, 1, "1" * 16, now, "d", "openai", "m", contract.sizes, True, "p"
        )
        before = time.perf_counter()
        await ledger.reserve(wanted)
        if turn >= WARM_UP:
            times.append(time.perf_counter() - before)
        now = time.time_ns()
        await ledger.finish(
            contract.end(
                wanted.attempt_id, now, COST_NANO, input_tokens=100, output_tokens=50,
                request=contract.request_end("ok", "", 200, now),
            )
        )  # fmt: skip
    raise AssertionError("the counter has no end")


async def run(url: str, seconds: float, customers: int, gateway: int, start_at: float) -> None:
    """All callers at once."""
    contract = Contract()
    ledger = contract.open(url)
    names = (
        (f"{gateway:02x}{number:010x}", f"c{number % customers}") for number in itertools.count()
    )
    await asyncio.sleep(max(0.0, start_at - time.time()))
    began, cpu = time.monotonic(), time.process_time()
    callers = [caller(contract, ledger, names, began + seconds) for _ in range(CALLERS)]
    times = sorted(itertools.chain(*await asyncio.gather(*callers)))
    took, cpu = time.monotonic() - began, time.process_time() - cpu
    await ledger.close()
    shown = times[:: len(times) // MOST_TIMES + 1]
    pairs = len(times) + WARM_UP * CALLERS
    print(json.dumps({"pairs": pairs, "seconds": took, "cpu_s": cpu, "times_s": shown}))


if __name__ == "__main__":
    address, *numbers = sys.argv[1:]
    seconds_, customers_, gateway_, start_ = map(float, numbers)
    asyncio.run(run(address, seconds_, int(customers_), int(gateway_), start_))
