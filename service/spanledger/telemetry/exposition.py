"""`/metrics`: budgets straight from the ledger, and this process's health, for Prometheus.

Reads over its own connection in its own thread, so a scrape never waits for, or delays, a request;
if the disk stalls, the scrape is answered without the ledger's figures. Counters of requests,
tokens and money are not here: they are sent over OTLP, once for all gateways, and would count
twice.
"""

from __future__ import annotations

import asyncio
import platform
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from operator import itemgetter
from typing import Protocol

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from spanledger import __version__
from spanledger.budgets.model import BudgetState
from spanledger.budgets.periods import in_words
from spanledger.clock import Clock
from spanledger.errors import LedgerUnavailableError
from spanledger.ledger.aside import Aside
from spanledger.ledger.journal.journal import JournalState
from spanledger.ledger.notices import NoticeFigures
from spanledger.ledger.ports import Store
from spanledger.money import NANO_PER_USD
from spanledger.telemetry.signals import SCRAPED, Scraped

SCRAPE_READ_TIMEOUT_S = 4.0
"""For reading the ledger: Prometheus gives up on a scrape after ten seconds by default."""
MAX_BUDGETS = 1_000
"""Most accounts exported."""
FEW_BUDGETS = 100
"""Accounts always exported: those nearest their limit."""
TOLD_OF = 1 / 3
"""Accounts past this share of their limit, or past their first threshold if lower, are exported (up
to MAX_BUDGETS) however many others are nearer: an alert may be watching them, and a series that
disappears and returns would alert again."""

_BY_NAME = {scraped.name: scraped for scraped in SCRAPED}


class DeploymentState(Protocol):
    """A deployment's state, as routing reports it."""

    @property
    def deployment(self) -> str:
        """Its id."""
        ...

    @property
    def route(self) -> str:
        """The route it serves."""
        ...

    @property
    def state(self) -> str:
        """`up`, `cooling`, or `off` if it has no API key."""
        ...

    @property
    def until_s(self) -> float:
        """Unix seconds at which its cooldown ends; 0 if it is not in cooldown."""
        ...

    @property
    def limits(self) -> tuple[tuple[str, float], ...]:
        """The share used of each limit it has, `rpm` and `tpm`."""
        ...


class Durations:
    """A registered histogram of this process; one thread writes it."""

    def __init__(self, name: str) -> None:
        self._scraped = _BY_NAME[name]
        self._counts = [0] * (len(self._scraped.buckets) + 1)
        self._seconds = 0.0

    def observe(self, seconds: float) -> None:
        """Count one duration."""
        self._counts[bisect_left(self._scraped.buckets, seconds)] += 1
        self._seconds += seconds

    def family(self) -> Metric:
        """As a Prometheus family."""
        bounds = [str(bound) for bound in self._scraped.buckets] + ["+Inf"]
        buckets = list(zip(bounds, accumulate(self._counts), strict=True))
        return HistogramMetricFamily(
            self._scraped.name, self._scraped.meaning, buckets=buckets, sum_value=self._seconds
        )


class CommitTimes:
    """Durations of the ledger's commits; only the committing thread writes it."""

    def __init__(self) -> None:
        self._durations = Durations("spanledger_ledger_commit_seconds")
        self._operations = 0

    def observe(self, seconds: float, operations: int) -> None:
        """Count one commit and its operations."""
        self._durations.observe(seconds)
        self._operations += operations

    def families(self) -> Iterator[Metric]:
        """As Prometheus families."""
        yield self._durations.family()
        name = "spanledger_ledger_operations_total"
        yield CounterMetricFamily(name, _BY_NAME[name].meaning, value=self._operations)


class Exposition:
    """Renders `/metrics` of one gateway process.

    `in_flight`, `waiting`, `ledger_away` and `journal` may be set once the gateway exists; `ledger_away` returns
    why the last commit failed.
    """

    def __init__(
        self,
        store: Store,
        deployments: Callable[[], Iterable[DeploymentState]],
        commits: CommitTimes,
        clock: Clock,
        *,
        price_book: str,
        max_budgets: int = MAX_BUDGETS,
        few_budgets: int = FEW_BUDGETS,
    ) -> None:
        self.in_flight: Callable[[], int] | None = None
        self.waiting: Callable[[], int] | None = None
        self.ledger_away: Callable[[], str] = str
        self.journal: Callable[[], JournalState] = lambda: JournalState(0, 0)
        self.overhead = Durations("spanledger_gateway_overhead_seconds")
        self._store = store
        self._deployments = deployments
        self._commits = commits
        self._clock = clock
        self._price_book = price_book
        self._most_budgets = (max_budgets, few_budgets)
        self._process = ProcessCollector(registry=None)
        self._reader = Aside("metrics", SCRAPE_READ_TIMEOUT_S)

    async def render(self) -> bytes:
        """The text of a scrape; an unreadable ledger is reported in it, not raised."""
        process = [*self._deployment_families(), *self._process_families()]
        try:
            ledger = await self._reader.call(lambda: list(self._ledger_families()))
        except TimeoutError:
            ledger = [_gauge("spanledger_ledger_up", {(): 0})]
        return await asyncio.to_thread(self._render, [*process, *ledger])

    def close(self) -> None:
        """End the reading thread."""
        self._reader.close()

    def _render(self, families: Sequence[Metric]) -> bytes:
        registry = CollectorRegistry()
        registry.register(_Families(families))
        registry.register(self._process)
        return generate_latest(registry)

    def _process_families(self) -> Iterator[Metric]:
        yield from self._commits.families()
        yield self.overhead.family()
        yield _gauge("spanledger_build_info", {(__version__, platform.python_version()): 1})
        yield _gauge("spanledger_price_book_info", {(self._price_book,): 1})
        journal, name = self.journal(), "spanledger_journal_attempts_total"
        yield CounterMetricFamily(name, _BY_NAME[name].meaning, value=journal.attempts)
        yield _gauge("spanledger_journal_rows", {(): journal.waiting})
        if self.in_flight is not None:
            yield _gauge("spanledger_requests_in_flight", {(): self.in_flight()})
        if self.waiting is not None:
            yield _gauge("spanledger_requests_waiting", {(): self.waiting()})

    def _deployment_families(self) -> Iterator[Metric]:
        now_s = self._clock.now_ns() / 1e9
        states = list(self._deployments())
        left: dict[tuple[str, ...], float] = {
            (d.deployment, d.route): max(0.0, d.until_s - now_s) for d in states
        }
        off = {(d.deployment, d.route) for d in states if d.state == "off"}
        up: dict[tuple[str, ...], float] = {
            k: float(s == 0 and k not in off) for k, s in left.items()
        }
        yield _gauge("spanledger_deployment_up", up)
        yield _gauge("spanledger_deployment_cooldown_seconds", left)
        used: dict[tuple[str, ...], float] = {
            (d.deployment, d.route, limit): share for d in states for limit, share in d.limits
        }
        yield _gauge("spanledger_deployment_limit_used_ratio", used)

    def _ledger_families(self) -> Iterator[Metric]:
        now_ns = self._clock.now_ns()
        try:
            with self._store.reports() as reports:
                states = reports.budget_states(now_ns // 1_000_000_000)
                health = reports.health()
                notices = reports.notice_figures()
        except LedgerUnavailableError:
            yield _gauge("spanledger_ledger_up", {(): 0})
            return
        yield _gauge("spanledger_ledger_up", {(): float(not self.ledger_away())})
        yield from budget_families(states, now_ns / 1e9, *self._most_budgets)
        yield _gauge("spanledger_holds_open", {(): health["open_holds"]})
        yield _gauge("spanledger_outbox_rows", {(): health["outbox_rows"]})
        for name, since_ns in (
            ("spanledger_oldest_hold_seconds", health["oldest_hold_ns"]),
            ("spanledger_outbox_age_seconds", health["oldest_outbox_ns"]),
        ):
            yield _gauge(name, {(): max(0, now_ns - since_ns) / 1e9 if since_ns else 0})
        yield from _notice_families(notices, now_ns)


class _Families(Collector):
    """Families rendered beforehand."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        """Return them."""
        return self._families


def budget_families(
    states: Sequence[BudgetState], now_s: float, most: int, few: int
) -> Iterator[Metric]:
    """The gauges for the accounts nearest their limit, of those whose budget counts now."""
    states = [state for state in states if state.counts_at(now_s)]
    ranked = sorted(((_rank(state), state) for state in states), key=itemgetter(0), reverse=True)
    told_of = sum(is_told_of for (is_told_of, _), _ in ranked)
    shown = [state for _, state in ranked[: max(few, min(told_of, most))]]
    values: dict[str, dict[tuple[str, ...], float]] = {
        name: {} for name in _BY_NAME if name.startswith("spanledger_budget_")
    }
    for state in shown:
        key = (state.budget.name, state.budget.scope, state.subject)
        limit = state.limit_nano
        left = state.left_nano
        about = (*key, in_words(state.budget.period), state.budget.timezone)
        values["spanledger_budget_info"][about] = 1
        values["spanledger_budget_limit_usd"][key] = limit / NANO_PER_USD
        values["spanledger_budget_spent_usd"][key] = state.spent_nano / NANO_PER_USD
        values["spanledger_budget_held_usd"][key] = state.held_nano / NANO_PER_USD
        values["spanledger_budget_remaining_usd"][key] = left / NANO_PER_USD
        values["spanledger_budget_period_start_seconds"][key] = state.period_start_s
        values["spanledger_budget_period_end_seconds"][key] = state.period_end_s
        values["spanledger_budget_blocks"][key] = float(state.budget.blocks)
        for percent in state.budget.thresholds:
            step = (*key, str(percent))
            values["spanledger_budget_threshold_ratio"][step] = percent / 100
        if state.spent_nano > 0:
            values["spanledger_budget_exhaustion_seconds"][key] = _exhaustion_s(state, now_s)
    for name, by_account in values.items():
        yield _gauge(name, by_account)
    yield _gauge("spanledger_budgets_shown", {(): len(shown)})
    yield _gauge("spanledger_budgets_left_out", {(): len(states) - len(shown)})


def _notice_families(figures: Sequence[NoticeFigures], now_ns: int) -> Iterator[Metric]:
    name = "spanledger_notices_sent_total"
    sent = CounterMetricFamily(name, _BY_NAME[name].meaning, labels=("destination",))
    for each in figures:
        sent.add_metric((each.destination,), each.sent)
    yield sent
    values: dict[str, dict[tuple[str, ...], float]] = {
        "spanledger_notices_waiting": {(f.destination,): f.waiting for f in figures},
        "spanledger_notices_waiting_seconds": {
            (f.destination,): max(0, now_ns - f.since_ns) / 1e9 if f.since_ns else 0
            for f in figures
        },
        "spanledger_notices_failed": {(f.destination,): f.failed for f in figures},
    }
    for gauge, by_destination in values.items():
        yield _gauge(gauge, by_destination)


def _rank(state: BudgetState) -> tuple[bool, float]:
    """Whether alerts may be watching an account, and how near it is to its limit."""
    budget = state.budget
    limit = state.limit_nano
    if limit == 0:
        return False, 0  # a subject blocked on purpose is not approaching a limit
    first = min((TOLD_OF, *(percent / 100 for percent in budget.thresholds)))
    used = (state.spent_nano + state.held_nano) / limit
    return state.spent_nano >= first * limit, used


def _exhaustion_s(state: BudgetState, now_s: float) -> float:
    """Seconds until the limit is reached at the period's mean rate."""
    elapsed_s = max(1.0, now_s - state.period_start_s)
    return max(0, state.limit_nano - state.spent_nano) * elapsed_s / state.spent_nano


def _gauge(name: str, values: dict[tuple[str, ...], float]) -> GaugeMetricFamily:
    scraped: Scraped = _BY_NAME[name]
    family = GaugeMetricFamily(name, scraped.meaning, labels=scraped.labels)
    for labels, value in values.items():
        family.add_metric(labels, value)
    return family
