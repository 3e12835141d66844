"""Durable metric aggregates over the ledger's rows: counters and histograms of integers.

Pure state: rows go in, changed series come out to be stored with the cursor. Money is summed in
nano-USD and time in nanoseconds, so totals are exact; `points.py` divides on export. Nothing here
knows about OpenTelemetry or the database, and the clock is passed in.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from spanledger.errors import BudgetThrottledError
from spanledger.ledger.charges import charge_of
from spanledger.ledger.model import UNKNOWN_ROUTE
from spanledger.ledger.rows import AttemptRow, EndedRow, PointRow, RequestRow
from spanledger.telemetry import signals
from spanledger.telemetry.signals import (
    METRICS,
    OTHER_CUSTOMER,
    OVERFLOW,
    Metric,
)
from spanledger.telemetry.vocabulary import AMBIGUITY
from spanledger.wires import operation_of

TOLD = "spanledger.provider.cost.nano_usd"
"""Where a row's detail records what the provider says it charged."""


class _Told(msgspec.Struct):
    nano: int = msgspec.field(default=0, name=TOLD)


_TOLD = msgspec.json.Decoder(_Told)


class Exemplar(msgspec.Struct, array_like=True):
    """One measurement that links to its trace."""

    trace_id: str
    span_id: str
    value: int
    at_ns: int


class Counter(msgspec.Struct, omit_defaults=True):
    """A sum. `total` is the exact value; `peak`, its maximum so far, is exported, so a downward
    correction never looks like a restart."""

    total: int = 0
    peak: int = 0
    exemplar: Exemplar | None = None


class Histogram(msgspec.Struct, omit_defaults=True):
    """Counts by bucket (the last has no upper bound), and the latest exemplar of each."""

    counts: list[int]
    sum: int = 0
    count: int = 0
    min: int = 0
    max: int = 0
    exemplars: dict[int, Exemplar] = {}


class Series:
    """One metric with one set of attribute values, and its export state."""

    __slots__ = (
        "attributes",
        "dirty",
        "exemplars_sent",
        "key",
        "metric",
        "point",
        "since_ns",
        "zero_sent",
    )

    def __init__(
        self,
        metric: Metric,
        key: str,
        point: Counter | Histogram,
        since_ns: int,
        *,
        zero_sent: bool,
    ) -> None:
        self.metric = metric
        self.key = key
        self.attributes: dict[str, str | bool] = msgspec.json.decode(
            key, type=dict[str, str | bool]
        )
        self.point = point
        self.since_ns = since_ns
        self.zero_sent = zero_sent
        self.dirty = True
        self.exemplars_sent: frozenset[str] = frozenset()

    def row(self) -> PointRow:
        """The row to store."""
        return PointRow(self.metric.name, self.key, self.since_ns, msgspec.json.encode(self.point))


class _Ambiguous(msgspec.Struct):
    """The part of a row's detail that concerns ambiguous usage."""

    ambiguity: str = msgspec.field(name=AMBIGUITY, default="")


Labels = tuple[str, ...]
"""Values in the order of `Metric.attributes`; the attribute of an empty one is left out."""

_BY_NAME = {metric.name: metric for metric in METRICS}
_BOUNDS = {m.name: tuple(round(b * m.scale) for b in m.buckets) for m in METRICS}
_OVERFLOW_KEY = msgspec.json.encode({OVERFLOW: True}).decode()


class Aggregates:
    """All series. One instance belongs to one shipper."""

    def __init__(
        self, stored: Iterable[PointRow], *, max_customers: int, series_lead_ns: int
    ) -> None:
        """Resume from the stored series.

        Args:
            series_lead_ns: how long before its first value a new series starts at zero.
        """
        self._max_customers = max_customers
        self._lead_ns = series_lead_ns
        self._series: dict[tuple[str, Labels | str], Series] = {}
        self._sizes: dict[str, int] = dict.fromkeys(_BY_NAME, 0)
        self._customers: set[str] = set()
        self._routes: set[str] = set()
        self._changed: dict[tuple[str, str], Series] = {}
        for row in stored:
            self._restore(row)

    @property
    def series(self) -> Iterable[Series]:
        """Every series."""
        return self._series.values()

    def _restore(self, row: PointRow) -> None:
        metric = _BY_NAME.get(row.metric)
        if metric is None:  # from another version; keep it stored
            return
        point: Counter | Histogram = (
            msgspec.json.decode(row.point, type=Counter)
            if metric.kind == "counter"
            else msgspec.json.decode(row.point, type=Histogram)
        )
        series = Series(metric, row.attributes, point, row.since_ns, zero_sent=True)
        if isinstance(point, Histogram) and len(point.counts) != len(metric.buckets) + 1:
            return  # an upgrade changed the buckets; start from zero
        if series.attributes.keys() - {*metric.attributes, OVERFLOW}:
            return
        labels = tuple(str(series.attributes.get(name, "")) for name in metric.attributes)
        self._series[metric.name, _OVERFLOW_KEY if OVERFLOW in series.attributes else labels] = (
            series
        )
        self._sizes[metric.name] += 1
        customer = series.attributes.get("spanledger.customer")
        if isinstance(customer, str) and customer != OTHER_CUSTOMER:
            self._customers.add(customer)
        route = series.attributes.get("spanledger.route")
        if isinstance(route, str) and route != UNKNOWN_ROUTE:
            self._routes.add(route)

    def take_changed(self) -> list[PointRow]:
        """The series changed since the last call, to be stored."""
        rows = [series.row() for series in self._changed.values()]
        self._changed.clear()
        return rows

    def apply(self, rows: Sequence[EndedRow], now_ns: int) -> None:
        """Count rows the collector has accepted."""
        for row in rows:
            if isinstance(row, AttemptRow):
                self._apply_attempt(row, now_ns)
            else:
                self._apply_request(row, now_ns)

    def count_dropped(self, reason: str, spans: int, now_ns: int) -> None:
        """Count spans the collector rejected permanently."""
        self._add(signals.DROPPED, (reason,), spans, None, now_ns)

    def _apply_attempt(self, row: AttemptRow, now_ns: int) -> None:
        exemplar = (row.trace_id, row.span_id, min(row.ended_ns, now_ns))
        again = row.shipped_nano is not None
        self._count_money(row, exemplar, now_ns)
        self._count_tokens(row, exemplar, now_ns)
        if row.unpriced:
            labels = (row.route, row.provider, row.model, "")
            self._add(signals.UNPRICED, labels, 1, exemplar, now_ns)
        if AMBIGUITY in row.detail:
            self._count_ambiguity(row, exemplar, now_ns)
        if again:  # a correction: the attempt itself was counted when it expired
            return
        call = (
            operation_of(row.operation),
            row.provider,
            row.model,
            row.deployment,
        )
        duration = row.ended_ns - row.started_ns
        self._record(
            signals.OPERATION_DURATION, (*call, row.error_type), duration, exemplar, now_ns
        )
        if row.stream and row.first_chunk_ns:
            wait = row.first_chunk_ns - row.started_ns
            self._record(signals.TIME_TO_FIRST_CHUNK, call, wait, exemplar, now_ns)
            if row.chunks > 1:
                pace = (row.ended_ns - row.first_chunk_ns) // (row.chunks - 1)
                self._record(signals.TIME_PER_OUTPUT_CHUNK, call, pace, exemplar, now_ns)
        if row.decision:
            self._add(signals.BUDGET_DECISIONS, (row.decision, "", ""), 1, exemplar, now_ns)
        self._count_way(row, exemplar, now_ns)

    def _count_money(self, row: AttemptRow, exemplar: tuple[str, str, int], now_ns: int) -> None:
        cost = row.cost_nano - (row.shipped_nano or 0)
        labels = (row.provider, row.model, self._customer(row.customer))
        if cost or row.state == "settled":
            self._add(signals.COST, labels, cost, exemplar, now_ns)
        if row.list_nano is not None:
            self._add(signals.LIST_COST, labels, row.list_nano, exemplar, now_ns)
        if row.charge_nano is not None:
            before = charge_of(row.charge_rule, row.shipped_nano or 0, None) or 0
            self._add(signals.CHARGE, labels, row.charge_nano - before, exemplar, now_ns)
        if row.shipped_nano is None and (told := _told_nano(row.detail)):
            self._add(signals.PROVIDER_COST, labels, told, exemplar, now_ns)
        if row.shipped_nano is None and row.cost_nano and row.hold_nano:
            self._add(signals.HELD, labels[:2], row.hold_nano, exemplar, now_ns)
        if row.overrun_nano:
            self._add(signals.OVERRUN, labels, row.overrun_nano, exemplar, now_ns)

    def _count_tokens(self, row: AttemptRow, exemplar: tuple[str, str, int], now_ns: int) -> None:
        for kind, tokens in (("input", row.input_tokens), ("output", row.output_tokens)):
            if tokens:
                labels = (
                    operation_of(row.operation),
                    row.provider,
                    row.model,
                    kind,
                )
                self._record(signals.TOKEN_USAGE, labels, tokens, exemplar, now_ns)

    def _count_ambiguity(
        self, row: AttemptRow, exemplar: tuple[str, str, int], now_ns: int
    ) -> None:
        why = msgspec.json.decode(row.detail, type=_Ambiguous).ambiguity
        if why:
            labels = (row.provider, row.model, why)
            self._add(signals.AMBIGUOUS_USAGE, labels, 1, exemplar, now_ns)

    def _count_way(self, row: AttemptRow, exemplar: tuple[str, str, int], now_ns: int) -> None:
        """Count a fallback or retry. A first attempt is a fallback if its route was unavailable."""
        if row.fallback_from:
            labels: Labels = (row.fallback_from, row.deployment, row.reason)
            self._add(signals.FALLBACKS, labels, 1, exemplar, now_ns)
        elif row.number > 1:
            self._add(signals.RETRIES, (row.deployment, row.reason), 1, exemplar, now_ns)

    def _apply_request(self, row: RequestRow, now_ns: int) -> None:
        if row.shipped_nano is not None:  # already counted as abandoned, or while it was open
            if row.outcome == "ok" and not (row.open or row.shipped_nano):
                self._count_cost(row, now_ns)
            return
        exemplar = (row.trace_id, row.span_id, min(row.ended_ns, now_ns))
        duration = row.ended_ns - row.started_ns
        labels = (self._route(row), row.outcome, row.error_type)
        self._record(signals.REQUEST_DURATION, labels, duration, exemplar, now_ns)
        if row.attempts and not row.open:
            self._count_cost(row, now_ns)
        if row.outcome == "refused":
            decision = "throttle" if row.error_type == BudgetThrottledError.error_type else "deny"
            refusal = (decision, row.refused_scope, row.refused_by)
            self._add(signals.BUDGET_DECISIONS, refusal, 1, exemplar, now_ns)
        elif row.error_type == "unpriced_model":
            refused = (row.route, "", "", row.error_type)
            self._add(signals.UNPRICED, refused, 1, exemplar, now_ns)

    def _count_cost(self, row: RequestRow, now_ns: int) -> None:
        who = (self._customer(row.customer),)
        exemplar = (row.trace_id, row.span_id, min(row.ended_ns, now_ns))
        self._record(signals.REQUEST_COST, who, row.cost_nano, exemplar, now_ns)

    def _route(self, row: RequestRow) -> str:
        """The route's label if the route is known to exist; names that callers invent are `unknown`.

        A request that got as far as an attempt, or a budget's refusal, has a configured route.
        """
        unsent = row.error_type in ("unpriced_model", "unbounded_cost")
        if row.attempts or row.outcome == "refused" or unsent:
            self._routes.add(row.route)
        return row.route if row.route in self._routes else UNKNOWN_ROUTE

    def _customer(self, customer: str) -> str:
        """The customer's label: its own name while slots are free, kept forever once assigned."""
        if customer in self._customers:
            return customer
        if len(self._customers) < self._max_customers:
            self._customers.add(customer)
            return customer
        return OTHER_CUSTOMER

    def _find(self, metric: Metric, labels: Labels, now_ns: int) -> Series:
        series = self._series.get((metric.name, labels))
        if series is None:
            series = self._create(metric, labels, now_ns)
        series.dirty = True
        self._changed[metric.name, series.key] = series
        return series

    def _create(self, metric: Metric, labels: Labels, now_ns: int) -> Series:
        where: tuple[str, Labels | str] = (metric.name, labels)
        named: Mapping[str, str | bool] = {
            name: value for name, value in zip(metric.attributes, labels, strict=True) if value
        }
        if self._sizes[metric.name] >= metric.most - 1:
            where = (metric.name, _OVERFLOW_KEY)
            if where in self._series:
                return self._series[where]
            named = {OVERFLOW: True}
        point = (
            Counter()
            if metric.kind == "counter"
            else Histogram(counts=[0] * (len(metric.buckets) + 1))
        )
        key = msgspec.json.encode(dict(sorted(named.items()))).decode()
        series = Series(metric, key, point, now_ns - self._lead_ns, zero_sent=False)
        self._series[where] = series
        self._sizes[metric.name] += 1
        return series

    def _add(
        self,
        metric: Metric,
        labels: Labels,
        value: int,
        exemplar: tuple[str, str, int] | None,
        now_ns: int,
    ) -> None:
        point = self._find(metric, labels, now_ns).point
        assert isinstance(point, Counter)
        point.total += value
        point.peak = max(point.peak, point.total)
        if exemplar is not None and value > 0:
            trace_id, span_id, at_ns = exemplar
            point.exemplar = Exemplar(trace_id, span_id, value, at_ns)

    def _record(
        self,
        metric: Metric,
        labels: Labels,
        value: int,
        exemplar: tuple[str, str, int],
        now_ns: int,
    ) -> None:
        point = self._find(metric, labels, now_ns).point
        assert isinstance(point, Histogram)
        value = max(0, value)  # a clock set back must not decrease a sum
        bucket = bisect_left(_BOUNDS[metric.name], value)
        point.counts[bucket] += 1
        point.min = value if point.count == 0 else min(point.min, value)
        point.max = max(point.max, value)
        point.sum += value
        point.count += 1
        trace_id, span_id, at_ns = exemplar
        point.exemplars[bucket] = Exemplar(trace_id, span_id, value, at_ns)


def _told_nano(detail: str) -> int:
    """The cost the provider reported for an attempt; few rows have it, so few are decoded."""
    if TOLD not in detail:
        return 0
    try:
        return max(0, _TOLD.decode(detail).nano)
    except msgspec.DecodeError:
        return 0
