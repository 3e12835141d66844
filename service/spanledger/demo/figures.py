"""The demo's queries of its ledger, for the live view, the report and the promises.

Read-only; judging the results is left to the callers.
"""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from spanledger.budgets.model import BudgetState
from spanledger.ledger.model import Verification
from spanledger.ledger.rows import SpendRow
from spanledger.ledger.sqlite.connection import connect
from spanledger.ledger.sqlite.reports import Reports
from spanledger.top.figures import Event, quantiles

_NS_PER_S = 1_000_000_000


class Totals(NamedTuple):
    """Counts over the whole ledger."""

    requests: int
    attempts: int
    fallbacks: int
    refused: int
    cost_nano: int


class ProviderState(NamedTuple):
    """A provider's recent results."""

    provider: str
    served: int
    failed: int
    error_type: str


class EndedRequest(NamedTuple):
    """A request that ended."""

    span_id: str
    started_ns: int
    customer: str
    route: str
    outcome: str
    refused_by: str
    cost_nano: int


class EndedAttempt(NamedTuple):
    """An attempt that ended."""

    span_id: str
    started_ns: int
    customer: str
    deployment: str
    state: str
    fallback_from: str
    reason: str
    error_type: str
    cost_nano: int


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Percentiles of one model, seconds; `first` is empty when nothing was streamed."""

    model: str
    count: int
    whole: tuple[float, ...]
    first: tuple[float, ...]


REPORT_QUANTILES = (50, 95, 99)


class Figures:
    """Queries of one ledger file."""

    def __init__(self, path: Path) -> None:
        self._reports = Reports(path)
        self._connection = connect(path, read_only=True)

    def close(self) -> None:
        """Close connections."""
        self._connection.close()
        self._reports.close()

    def totals(self) -> Totals:
        """Counts and money so far."""
        requests, refused = self._connection.execute(
            "SELECT count(*), coalesce(sum(outcome = 'refused'), 0) FROM requests"
        ).fetchone()
        attempts, fallbacks, cost = self._connection.execute(
            "SELECT count(*), coalesce(sum(fallback_from != ''), 0), coalesce(sum(cost_nano), 0)"
            " FROM attempts"
        ).fetchone()
        return Totals(requests, attempts, fallbacks, refused, cost)

    def rate(self, seconds: int) -> float:
        """Requests started per second, over the last `seconds`."""
        since = time.time_ns() - seconds * _NS_PER_S
        query = "SELECT count(*) FROM requests WHERE started_ns >= ?"
        return float(self._connection.execute(query, (since,)).fetchone()[0]) / seconds

    def budgets(self) -> list[BudgetState]:
        """The current state of each budget."""
        return self._reports.budget_states(int(time.time()))

    def spend(self) -> list[SpendRow]:
        """Spend by customer and model."""
        return self._reports.spend(("customer", "model"))

    def verify(self) -> Verification:
        """Whether the ledger adds up."""
        return self._reports.verify()

    def events(self, limit: int) -> list[Event]:
        """The newest fallbacks and refusals, newest first."""
        rows = self._connection.execute(
            "SELECT started_ns, 'fallback', customer,"
            " fallback_from || ' → ' || deployment || ' (' || reason || ')'"
            " FROM attempts WHERE fallback_from != ''"
            " UNION ALL SELECT started_ns, 'refused', customer, 'by budget ' || refused_by"
            " FROM requests WHERE outcome = 'refused'"
            " ORDER BY started_ns DESC LIMIT ?",
            (limit,),
        )
        return [Event(*row) for row in rows]

    def providers(self, seconds: int) -> list[ProviderState]:
        """Attempts that ended in the last `seconds`, by provider."""
        rows = self._connection.execute(
            "SELECT provider, sum(state = 'settled' AND error_type = '' AND ended_ns >= ?1),"
            " sum(error_type != '' AND ended_ns >= ?1),"
            " coalesce(max(CASE WHEN ended_ns >= ?1 THEN error_type END), '')"
            " FROM attempts GROUP BY provider ORDER BY provider DESC",
            (time.time_ns() - seconds * _NS_PER_S,),
        )
        return [ProviderState(name, int(a or 0), int(b or 0), c) for name, a, b, c in rows]

    def fallbacks(self) -> list[tuple[str, str, str, int]]:
        """Fallbacks as (from, to, reason, count), most frequent first."""
        rows = self._connection.execute(
            "SELECT fallback_from, deployment, reason, count(*) FROM attempts"
            " WHERE fallback_from != '' GROUP BY 1, 2, 3 ORDER BY 4 DESC"
        )
        return [(str(a), str(b), str(c), int(n)) for a, b, c, n in rows]

    def refusals(self) -> list[tuple[str, str, int]]:
        """Refusals as (customer, budget, count)."""
        rows = self._connection.execute(
            "SELECT customer, refused_by, count(*) FROM requests WHERE outcome = 'refused'"
            " GROUP BY 1, 2 ORDER BY 3 DESC"
        )
        return [(str(a), str(b), int(n)) for a, b, n in rows]

    def requests(self) -> list[EndedRequest]:
        """All requests that ended."""
        rows = self._connection.execute(
            "SELECT span_id, started_ns, customer, route, outcome, refused_by, cost_nano"
            " FROM requests WHERE seq IS NOT NULL ORDER BY started_ns"
        )
        return [EndedRequest(*row) for row in rows]

    def attempts(self) -> list[EndedAttempt]:
        """All attempts that ended."""
        rows = self._connection.execute(
            "SELECT span_id, started_ns, customer, deployment, state, fallback_from, reason,"
            " error_type, cost_nano FROM attempts WHERE seq IS NOT NULL ORDER BY started_ns"
        )
        return [EndedAttempt(*row) for row in rows]

    def open_rows(self) -> int:
        """Requests and attempts that have not ended."""
        return int(
            self._connection.execute(
                "SELECT (SELECT count(*) FROM requests WHERE seq IS NULL)"
                " + (SELECT count(*) FROM attempts WHERE seq IS NULL)"
            ).fetchone()[0]
        )

    def latencies(self) -> list[Percentiles]:
        """Percentiles of served attempts by model."""
        whole: dict[str, list[float]] = defaultdict(list)
        first: dict[str, list[float]] = defaultdict(list)
        for model, started, ended, chunk in self._connection.execute(
            "SELECT model, started_ns, ended_ns, first_chunk_ns FROM attempts"
            " WHERE state = 'settled' AND error_type = '' ORDER BY model"
        ):
            whole[model].append((ended - started) / _NS_PER_S)
            if chunk:
                first[model].append((chunk - started) / _NS_PER_S)
        return [
            Percentiles(
                model,
                len(values),
                quantiles(values, REPORT_QUANTILES),
                quantiles(first[model], REPORT_QUANTILES),
            )
            for model, values in whole.items()
        ]
