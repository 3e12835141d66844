"""What a route's answers are usually long: the last few hundred counts of output tokens.

Held in memory alone: after a restart the first answers of a route are held for generously.
"""

from __future__ import annotations

from collections import deque

REMEMBERED = 256
"""Answers a route's history has."""
REFRESH_EVERY = 16
"""Answers after which the percentile is counted anew."""


class OutputHistory:
    """Output tokens of a route's last answers, for each choice."""

    __slots__ = ("_counts", "_p99", "_stale", "_sum")

    def __init__(self) -> None:
        self._counts: deque[int] = deque(maxlen=REMEMBERED)
        self._sum = 0
        self._p99 = 0
        self._stale = 0

    def record(self, tokens: int) -> None:
        """Remember an answer's length."""
        if len(self._counts) == REMEMBERED:
            self._sum -= self._counts[0]
        self._counts.append(tokens)
        self._sum += tokens
        self._stale += 1
        # A longer answer counts at once: the next one must not be cut short for want of a hold.
        if tokens > self._p99:
            self._stale = REFRESH_EVERY

    def mean(self) -> int | None:
        """The length to expect of an answer nobody saw, rounded up; None without history."""
        return -(-self._sum // len(self._counts)) if self._counts else None

    def p99(self) -> int | None:
        """The length that 99 of 100 answers do not pass; None without history."""
        if not self._counts:
            return None
        if self._stale >= REFRESH_EVERY:
            ordered = sorted(self._counts)
            self._p99 = ordered[-(-99 * len(ordered) // 100) - 1]
            self._stale = 0
        return self._p99
