"""Time and randomness, injected: nothing below the composition root reads a clock directly."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

NANOS = 1_000_000_000
"""Nanoseconds in a second."""


@dataclass(frozen=True, slots=True)
class Clock:
    """Wall time for rows, monotonic time for deadlines, and waiting."""

    now_ns: Callable[[], int] = time.time_ns
    """Unix nanoseconds."""
    monotonic: Callable[[], float] = time.monotonic
    """Seconds; for durations and deadlines only."""
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    rng: random.Random = field(default_factory=random.Random)
