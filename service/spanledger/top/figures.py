"""The figures of `spanledger top`: the requests and attempts of a window that ends now.

Only the window and the open requests are read, so a picture costs the same on a ledger of a day as
on one of a year.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from spanledger.budgets.model import BudgetState
from spanledger.clock import NANOS
from spanledger.ledger.reports import Reports
from spanledger.ledger.rows import CustomerRow, EndedAttempt, Event
from spanledger.routing.outcome import CANCELLED

EVENTS_READ = 200
"""How many of the newest fallbacks and of the newest refusals are read."""
SHOWN_QUANTILES = (50, 95)


class DeploymentRow(NamedTuple):
    """A deployment's attempts in the window; `seconds` are percentiles of those it served.

    An attempt that the caller cancelled is neither served nor failed.
    """

    deployment: str
    model: str
    served: int
    failed: int
    error_type: str
    seconds: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Picture:
    """One snapshot of a ledger.

    Attributes:
        at_ns: when it was taken.
        window_s: how far back it looks, in seconds.
        running: requests in flight now, even if they began before the window.
        cost_nano: the cost of the window's attempts.
        budgets: accounts, nearest to their limit first.
    """

    at_ns: int
    window_s: int
    requests: int
    running: int
    failed: int
    refused: int
    fallbacks: int
    cost_nano: int
    seconds: tuple[float, ...]
    customers: list[CustomerRow]
    deployments: list[DeploymentRow]
    budgets: list[BudgetState]
    events: list[Event]


class Window:
    """Takes snapshots of one ledger, whose reports it closes."""

    def __init__(self, reports: Reports) -> None:
        self._reports = reports

    def close(self) -> None:
        """Close the connection."""
        self._reports.close()

    def look(self, now_ns: int, window_s: int) -> Picture:
        """A snapshot of the last `window_s` seconds. Raises LedgerUnavailableError."""
        since = now_ns - window_s * NANOS
        totals = self._reports.totals(since)
        running, _ = self._reports.open_rows()
        requests = self._reports.ended_requests(since)
        now_s = now_ns // NANOS
        states = [s for s in self._reports.budget_states(now_s) if s.counts_at(now_s)]
        return Picture(
            at_ns=now_ns,
            window_s=window_s,
            requests=totals.requests,
            running=running,
            failed=totals.failed,
            refused=totals.refused,
            fallbacks=totals.fallbacks,
            cost_nano=totals.cost_nano,
            seconds=quantiles(
                [(r.ended_ns - r.started_ns) / NANOS for r in requests if r.outcome == "ok"]
            ),
            customers=self._reports.by_customer(since),
            deployments=_deployments(self._reports.ended_attempts(since)),
            budgets=sorted(states, key=_left_share),
            events=self._reports.events(EVENTS_READ, since),
        )


def _deployments(attempts: Sequence[EndedAttempt]) -> list[DeploymentRow]:
    served: dict[tuple[str, str], list[float]] = {}
    failures: dict[tuple[str, str], list[str]] = {}
    for attempt in attempts:
        which = attempt.deployment, attempt.model
        times, errors = served.setdefault(which, []), failures.setdefault(which, [])
        if attempt.error_type == CANCELLED:
            continue
        if attempt.error_type:
            errors.append(attempt.error_type)
        else:
            times.append((attempt.ended_ns - attempt.started_ns) / NANOS)
    rows = [
        DeploymentRow(
            *which,
            len(times),
            len(failures[which]),
            failures[which][-1] if failures[which] else "",
            quantiles(times),
        )
        for which, times in served.items()
    ]
    return sorted(rows, key=lambda row: (-row.served - row.failed, row.deployment))


def quantiles(values: Sequence[float], which: Sequence[int] = SHOWN_QUANTILES) -> tuple[float, ...]:
    """The nearest-rank percentiles `which`; empty for no values."""
    ordered = sorted(values)
    if not ordered:
        return ()
    return tuple(ordered[-(-len(ordered) * q // 100) - 1] for q in which)


def _left_share(state: BudgetState) -> tuple[float, str]:
    """The remaining share of a limit, so budgets about to be exhausted sort first."""
    limit = state.limit_nano
    used = state.spent_nano + state.held_nano
    return (1 - used / limit if limit else 0.0, state.subject)
