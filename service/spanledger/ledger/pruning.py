"""Removing old requests from a ledger: which ones may go, and how much that was.

Only finished requests are removed: ended with all their attempts, accepted by the shipper (if one is
used), and counted by no budget's current period. Balances stay, so no budget changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from spanledger.budgets.model import PERIOD_KINDS
from spanledger.budgets.periods import period_at
from spanledger.clock import NANOS
from spanledger.errors import UsageError
from spanledger.ledger.rows import RawRow

LAST_ZONE = "Etc/GMT+12"
ZONES_S = 26 * 3600
"""From midnight in the earth's first time zone to the same midnight in its last."""

Keep = Callable[[Sequence[tuple[RawRow, list[RawRow]]]], None]
"""Receives requests, each with its attempts, and returns once they are safely stored."""


@dataclass(slots=True)
class Pruned:
    """What was removed from the ledger; money in nano-USD."""

    requests: int = 0
    attempts: int = 0
    cost_nano: int = 0
    unshipped: int = 0
    """Requests of the same age that stay because they or their attempts have not been shipped."""


class Pruning(Protocol):
    """One removal of the requests that ended before a given time."""

    def count(self) -> Pruned:
        """What would be removed, and what is as old but stays."""
        ...

    def run(self, keep: Keep | None = None) -> Iterator[Pruned]:
        """Remove them, a batch at a time; yields the running total after each.

        What `keep` receives is removed only once it has returned.
        """
        ...

    def close(self) -> None:
        """Close the connection."""
        ...


def prunable_until_ns(now_ns: int) -> int:
    """A time before every budget's current period, of any kind in any time zone."""
    now_s = now_ns // NANOS
    return (
        min(period_at(kind, LAST_ZONE, now_s).start_s for kind in PERIOD_KINDS) - ZONES_S
    ) * NANOS


def check_prunable(before_ns: int, now_ns: int) -> None:
    """Raises UsageError if budgets may still count requests that ended before `before_ns`."""
    until_ns = prunable_until_ns(now_ns)
    if before_ns > until_ns:
        day = datetime.fromtimestamp(until_ns // NANOS, UTC).date()
        raise UsageError(
            f"budgets may still count requests that ended since {day}: use {day}, 33d or earlier"
        )
