"""Removing old requests from a ledger: which ones may go, and how much that was.

Only finished requests are removed: ended with all their attempts, accepted by the shipper (if one is
used), and older than any period of up to a month that may be current. Balances stay, so no budget
changes. Budgets with longer periods are asked for by `counting`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from spanledger.budgets.model import Budget
from spanledger.budgets.periods import LONGEST_MONTH_S, period_at
from spanledger.clock import NANOS
from spanledger.errors import UsageError
from spanledger.ledger.rows import RawRow

SPARE_S = 26 * 3600
"""More than changes of the clocks, or of the side of the date line, make a period longer."""

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
    """A time before every current period that is no longer than a month, in any time zone."""
    return (now_ns // NANOS - LONGEST_MONTH_S - SPARE_S) * NANOS


def counting(budgets: Iterable[Budget], before_ns: int, now_ns: int) -> dict[str, int]:
    """Budgets whose current period began before a time, with its beginning in Unix seconds."""
    found = {}
    for budget in budgets:
        period = period_at(budget.period, budget.timezone, now_ns // NANOS)
        if period.counts and period.start_s * NANOS < before_ns:
            found[budget.name] = period.start_s
    return found


def missing(
    before: Mapping[str, Budget], after: Iterable[Budget], pruned_ns: int, now_ns: int
) -> list[str]:
    """What to say of budgets that count requests from the rows, some of which were pruned.

    Args:
        before: the budgets by name before they were set.
        after: those that were set.
        pruned_ns: requests that ended before this are gone; 0 if none are.
    """
    opened = [b for b in after if b.name not in before or before[b.name].counts != b.counts]
    pruned = _day(pruned_ns // NANOS)
    return [
        f"budget {name!r} counts requests since {_day(start_s)}, but those that ended before {pruned}"
        " were pruned and are missing from its balance"
        for name, start_s in counting(opened, pruned_ns, now_ns).items()
    ]


def _day(at_s: int) -> str:
    return datetime.fromtimestamp(at_s, UTC).date().isoformat()


def check_prunable(before_ns: int, now_ns: int) -> None:
    """Raises UsageError if budgets may still count requests that ended before `before_ns`."""
    until_ns = prunable_until_ns(now_ns)
    if before_ns > until_ns:
        day = _day(until_ns // NANOS)
        raise UsageError(
            f"budgets may still count requests that ended since {day}: use {day}, 33d or earlier"
        )
