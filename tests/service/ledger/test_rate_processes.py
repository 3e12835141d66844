"""Several processes under the rates of one ledger, in real time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from spanledger.ledger.ports import Store
from spanledger.rates.model import Rate, RateLimits
from spanledger.rates.shares import unused_at_most

STORM = Path(__file__).with_name("rate_storm.py")
PROCESSES = 4


class Seen(NamedTuple):
    """What a process has seen."""

    admitted: int
    refused: int
    left_open: int


def storms(store: Store, limits: RateLimits, requests: int, seconds: float) -> list[Seen]:
    """Processes that begin together, each with some requests in some seconds."""
    rows = store.rates("create")
    rows.set_rate(Rate("r", "customer", "acme", limits))
    rows.close()
    processes = [
        subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.service.ledger.rate_storm",
                store.url,
                str(requests),
                str(seconds),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(PROCESSES)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:  # all begin before one is waited for
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    outputs = [process.communicate(timeout=60)[0] for process in processes]
    return [Seen(*map(int, output.split())) for output in outputs]


@pytest.mark.parametrize("limit", [50, 1_000])
def test_a_flood_gets_the_limit_and_no_more(store: Store, limit: int) -> None:
    """Twice as many requests as the limit allows in a minute, in some seconds."""
    seen = storms(store, RateLimits(limit), limit // 2, 3)

    admitted = sum(each.admitted for each in seen)
    assert admitted <= limit
    assert admitted >= limit - (PROCESSES - 1) * unused_at_most(limit)
    assert [each.left_open for each in seen] == [0] * PROCESSES


def test_tokens_of_a_flood(store: Store) -> None:
    """Ten tokens a request."""
    seen = storms(store, RateLimits(None, 4_000), 200, 4)

    admitted = sum(each.admitted for each in seen) * 10
    assert 4_000 - (PROCESSES - 1) * unused_at_most(4_000) <= admitted <= 4_000


def test_nothing_is_refused_below_half_of_the_limit(store: Store) -> None:
    """All that they ask for in the minute is less than half of the limit."""
    seen = storms(store, RateLimits(1_000, 10_000, None, 1_000), 124, 5)

    assert [each.refused for each in seen] == [0] * PROCESSES
    assert [each.left_open for each in seen] == [0] * PROCESSES
