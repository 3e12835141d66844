"""The demo's figures of its ledger, for the live view, the report and the promises.

Read-only; judging the results is left to the callers.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import NamedTuple

from spanledger.budgets.model import BudgetState
from spanledger.clock import NANOS
from spanledger.ledger.model import Verification
from spanledger.ledger.reports import Reports
from spanledger.ledger.rows import EndedAttempt, EndedRequest, Event, SpendRow, Totals
from spanledger.top.figures import quantiles


class ProviderState(NamedTuple):
    """A provider's recent results."""

    provider: str
    served: int
    failed: int
    error_type: str


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Percentiles of one model, seconds; `first` is empty when nothing was streamed."""

    model: str
    count: int
    whole: tuple[float, ...]
    first: tuple[float, ...]


REPORT_QUANTILES = (50, 95, 99)


class Figures:
    """Figures of one ledger, whose reports it closes."""

    def __init__(self, reports: Reports) -> None:
        self._reports = reports

    def close(self) -> None:
        """Close the connection."""
        self._reports.close()

    def totals(self) -> Totals:
        """Counts and money so far."""
        return self._reports.totals()

    def rate(self, seconds: int) -> float:
        """Requests started per second, over the last `seconds`."""
        return self._reports.totals(time.time_ns() - seconds * NANOS).requests / seconds

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
        return self._reports.events(limit)[:limit]

    def providers(self, seconds: int) -> list[ProviderState]:
        """Attempts that ended in the last `seconds`, by provider."""
        since = time.time_ns() - seconds * NANOS
        recent: dict[str, list[str]] = defaultdict(list)
        for attempt in self.attempts():
            errors = recent[attempt.provider]
            if attempt.ended_ns >= since and (attempt.error_type or attempt.state == "settled"):
                errors.append(attempt.error_type)
        return [
            ProviderState(
                name, errors.count(""), len(list(filter(None, errors))), max(errors, default="")
            )
            for name, errors in sorted(recent.items(), reverse=True)
        ]

    def fallbacks(self) -> list[tuple[str, str, str, int]]:
        """Fallbacks as (from, to, reason, count), most frequent first."""
        counts = Counter(
            (a.fallback_from, a.deployment, a.reason) for a in self.attempts() if a.fallback_from
        )
        return [(*fallback, count) for fallback, count in counts.most_common()]

    def refusals(self) -> list[tuple[str, str, int]]:
        """Refusals as (customer, budget, count), most frequent first."""
        counts = Counter(
            (r.customer, r.refused_by) for r in self.requests() if r.outcome == "refused"
        )
        return [(*refusal, count) for refusal, count in counts.most_common()]

    def requests(self) -> list[EndedRequest]:
        """All requests that ended."""
        return self._reports.ended_requests()

    def attempts(self) -> list[EndedAttempt]:
        """All attempts that ended."""
        return self._reports.ended_attempts()

    def open_rows(self) -> int:
        """Requests and attempts that have not ended."""
        return sum(self._reports.open_rows())

    def latencies(self) -> list[Percentiles]:
        """Percentiles of served attempts by model."""
        whole: dict[str, list[float]] = defaultdict(list)
        first: dict[str, list[float]] = defaultdict(list)
        for attempt in self.attempts():
            if attempt.state != "settled" or attempt.error_type:
                continue
            whole[attempt.model].append((attempt.ended_ns - attempt.started_ns) / NANOS)
            if attempt.first_chunk_ns:
                since_start = attempt.first_chunk_ns - attempt.started_ns
                first[attempt.model].append(since_start / NANOS)
        return [
            Percentiles(
                model,
                len(values),
                quantiles(values, REPORT_QUANTILES),
                quantiles(first[model], REPORT_QUANTILES),
            )
            for model, values in sorted(whole.items())
        ]
