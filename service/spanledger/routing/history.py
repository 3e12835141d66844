"""How long a route's answers usually are: the output tokens of the last few hundred.

Kept in memory only: after a restart, the first requests of a route get generous holds.
"""

from __future__ import annotations

from collections import deque

REMEMBERED = 256
"""Answers that a route's history keeps."""
REFRESH_EVERY = 16
"""Answers after which the percentile is recalculated."""


class OutputHistory:
    """Output tokens per choice of a route's last answers."""

    __slots__ = ("_counts", "_p99", "_stale", "_sum")

    def __init__(self) -> None:
        self._counts: deque[int] = deque(maxlen=REMEMBERED)
        self._sum = 0
        self._p99 = 0
        self._stale = 0

    def record(self, tokens: int) -> None:
        """Add an answer's length."""
        if len(self._counts) == REMEMBERED:
            self._sum -= self._counts[0]
        self._counts.append(tokens)
        self._sum += tokens
        self._stale += 1
        # A longer answer counts at once, so that a small hold does not truncate the next one.
        if tokens > self._p99:
            self._stale = REFRESH_EVERY

    def mean(self) -> int | None:
        """The length to assume for an answer nobody saw, rounded up; None without history."""
        return -(-self._sum // len(self._counts)) if self._counts else None

    def p99(self) -> int | None:
        """The length that 99 of 100 answers do not exceed; None without history."""
        if not self._counts:
            return None
        if self._stale >= REFRESH_EVERY:
            ordered = sorted(self._counts)
            self._p99 = ordered[-(-99 * len(ordered) // 100) - 1]
            self._stale = 0
        return self._p99
