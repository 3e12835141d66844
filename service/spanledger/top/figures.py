"""The queries of `spanledger top`: the requests and attempts of a window that ends now.

Read-only. Queries read only the window or the open requests, through an index, so they cost the
same on a ledger of a day as on one of a year.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from spanledger.budgets.model import BudgetState
from spanledger.ledger.sqlite.connection import connect
from spanledger.ledger.sqlite.reports import Reports
from spanledger.routing.outcome import CANCELLED

_NS_PER_S = 1_000_000_000
EVENTS_READ = 200
"""How many of the newest fallbacks and of the newest refusals are read."""
SHOWN_QUANTILES = (50, 95)


class Event(NamedTuple):
    """A fallback or a refusal."""

    at_ns: int
    kind: str
    customer: str
    text: str


class CustomerRow(NamedTuple):
    """A customer's requests in the window."""

    customer: str
    requests: int
    failed: int
    refused: int
    cost_nano: int


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
    """Takes snapshots of one ledger file."""

    def __init__(self, path: Path) -> None:
        self._reports = Reports(path)
        self._connection = connect(path, read_only=True)

    def close(self) -> None:
        """Close the connections."""
        self._connection.close()
        self._reports.close()

    def look(self, now_ns: int, window_s: int) -> Picture:
        """A snapshot of the last `window_s` seconds. Raises LedgerUnavailableError."""
        since = now_ns - window_s * _NS_PER_S
        ask = self._connection.execute
        requests, failed, refused = ask(
            "SELECT count(*), coalesce(sum(outcome IN ('error', 'abandoned')), 0),"
            " coalesce(sum(outcome = 'refused'), 0) FROM requests WHERE started_ns >= ?",
            (since,),
        ).fetchone()
        (running,) = ask("SELECT count(*) FROM requests WHERE seq IS NULL").fetchone()
        fallbacks, cost = ask(
            "SELECT coalesce(sum(fallback_from != ''), 0), coalesce(sum(cost_nano), 0)"
            " FROM attempts WHERE started_ns >= ?",
            (since,),
        ).fetchone()
        took = ask(
            "SELECT ended_ns - started_ns FROM requests WHERE started_ns >= ? AND outcome = 'ok'",
            (since,),
        )
        customers = ask(
            "SELECT customer, count(*), coalesce(sum(outcome IN ('error', 'abandoned')), 0),"
            " coalesce(sum(outcome = 'refused'), 0), sum(cost_nano) FROM requests"
            " WHERE started_ns >= ? GROUP BY customer ORDER BY 5 DESC, 2 DESC, 1",
            (since,),
        )
        return Picture(
            at_ns=now_ns,
            window_s=window_s,
            requests=requests,
            running=running,
            failed=failed,
            refused=refused,
            fallbacks=fallbacks,
            cost_nano=cost,
            seconds=quantiles([ns / _NS_PER_S for (ns,) in took]),
            customers=[CustomerRow(*row) for row in customers],
            deployments=self._deployments(since),
            budgets=sorted(self._reports.budget_states(now_ns // _NS_PER_S), key=_left_share),
            events=self._events(since),
        )

    def _deployments(self, since: int) -> list[DeploymentRow]:
        served: dict[tuple[str, str], list[float]] = {}
        failures: dict[tuple[str, str], list[str]] = {}
        for deployment, model, started, ended, error in self._connection.execute(
            "SELECT deployment, model, started_ns, ended_ns, error_type FROM attempts"
            " WHERE started_ns >= ? AND state != 'held' ORDER BY started_ns",
            (since,),
        ):
            which = deployment, model
            times, errors = served.setdefault(which, []), failures.setdefault(which, [])
            if error == CANCELLED:
                continue
            if error:
                errors.append(error)
            else:
                times.append((ended - started) / _NS_PER_S)
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

    def _events(self, since: int) -> list[Event]:
        fallbacks = self._connection.execute(
            "SELECT started_ns, 'fallback', customer,"
            " fallback_from || ' → ' || deployment || ' (' || reason || ')' FROM attempts"
            " WHERE started_ns >= ? AND fallback_from != '' ORDER BY started_ns DESC LIMIT ?",
            (since, EVENTS_READ),
        )
        refusals = self._connection.execute(
            "SELECT started_ns, 'refused', customer, 'by budget ' || refused_by FROM requests"
            " WHERE started_ns >= ? AND outcome = 'refused' ORDER BY started_ns DESC LIMIT ?",
            (since, EVENTS_READ),
        )
        found = [Event(*row) for row in (*fallbacks, *refusals)]
        return sorted(found, key=lambda event: -event.at_ns)


def quantiles(values: Sequence[float], which: Sequence[int] = SHOWN_QUANTILES) -> tuple[float, ...]:
    """The nearest-rank percentiles `which`; empty for no values."""
    ordered = sorted(values)
    if not ordered:
        return ()
    return tuple(ordered[-(-len(ordered) * q // 100) - 1] for q in which)


def _left_share(state: BudgetState) -> tuple[float, str]:
    """The remaining share of a limit, so budgets about to be exhausted sort first."""
    limit = state.budget.limit_nano
    used = state.spent_nano + state.held_nano
    return (1 - used / limit if limit else 0.0, state.subject)
