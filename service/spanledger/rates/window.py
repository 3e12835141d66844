"""How much was counted in the last minute. Pure; the time is an argument, monotonic seconds."""

from __future__ import annotations

from spanledger.rates.model import WINDOW_S

BUCKET_S = 0.25
"""What is counted stays for a minute and at most this much longer: never shorter."""
_BUCKETS = int(WINDOW_S / BUCKET_S)


class SlidingWindow:
    """A sum over the last minute, exact to a bucket. At most 241 numbers, fewer if little happens."""

    __slots__ = ("_amounts", "_total")

    def __init__(self) -> None:
        self._amounts: dict[int, int] = {}  # by bucket, the earliest first
        self._total = 0

    def total(self, now: float) -> int:
        """What was counted in the last minute."""
        amounts = self._amounts
        if amounts:
            gone = int(now / BUCKET_S) - _BUCKETS
            while amounts and (first := next(iter(amounts))) < gone:
                self._total -= amounts.pop(first)
        return self._total

    def add(self, now: float, amount: int) -> None:
        """Count an amount."""
        bucket = int(now / BUCKET_S)
        self._amounts[bucket] = self._amounts.get(bucket, 0) + amount
        self._total += amount

    def correct(self, at: float, amount: int) -> None:
        """Change what was counted at an earlier time, if it still is."""
        bucket = int(at / BUCKET_S)
        if bucket in self._amounts:
            self._amounts[bucket] += amount
            self._total += amount

    def falls_in(self, now: float, most: int) -> float | None:
        """Seconds until no more than `most` is counted, if nothing is added; None: never."""
        left = self.total(now)
        if left <= most:
            return 0.0
        for bucket, amount in self._amounts.items():
            left -= amount
            if left <= most:
                return (bucket + _BUCKETS + 1) * BUCKET_S - now
        return None

    def empties_in(self, now: float) -> float:
        """Seconds until nothing is counted any more, if nothing is added."""
        if not self.total(now):
            return 0.0
        return (next(reversed(self._amounts)) + _BUCKETS + 1) * BUCKET_S - now
