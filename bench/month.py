"""A month of a fictional gateway with a thousand customers, as text for promtool to import.

The series are those that the shipper, `/metrics` and the parts of the stack have at that size, and the
copies made by the rules (`prometheus/src/long.py`). `bench/month_store.py` turns it into a database.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TextIO

from tools.replay_history import rhythm

from prometheus.src import long
from spanledger.telemetry import signals
from spanledger.telemetry.signals import Metric, prometheus_name

DAY_S = 86_400
RECENT_S = 26 * 3600
"""A little over a day, the last part of the month, with samples at their real intervals."""
PROVIDERS = ("openai", "anthropic", "gcp.gemini")
GATEWAYS = ("gateway-1:4000", "gateway-2:4000")
LEDGER = "0b1f7b2e-9a3c-5a60-8d5f-1c5b8f2a9d11"
SENT = (
    f'instance="{LEDGER}",job="spanledger-gateway",service_instance_id="{LEDGER}",'
    'service_name="spanledger-gateway",service_version="0.1.0"'
)
"""Labels of everything sent over OTLP, as Prometheus promotes them."""
GATEWAY = 'spanledger_source="gateway"'
REASONS = ("rate_limited", "overloaded", "timeout", "server_error")
ENDS = (
    ("ok", "", 0.97),
    ("error", "server_error", 0.004),
    ("error", "timeout", 0.002),
    ("error", "rate_limited", 0.003),
    ("refused", "budget_exceeded", 0.01),
    ("refused", "rate_limit_reached", 0.003),
    ("cancelled", "", 0.005),
    ("abandoned", "", 0.001),
)
PATTERNS = 8
"""Patterns, each with its own noise; each customer, model and route has one of them."""


@dataclass(frozen=True, slots=True)
class Size:
    """How many there are of everything, and how many requests they send."""

    customers: int = 1_000
    """Each has a budget, of which `MAX_BUDGETS` are exported."""
    named: int = 100
    models: int = 12
    deployments: int = 18
    routes: int = 8
    requests_per_s: float = 10.0
    scraped_s: int = 10
    thinned_s: int = 240
    """Seconds between samples before the last day, for series read over at most a day."""
    whole: frozenset[str] = frozenset()
    """Names that are read over more than a day and keep their real intervals."""
    apart_s: int = 1
    """The shortest time between two samples; raise it for a small store."""
    days: int = 30


@dataclass(frozen=True, slots=True)
class Series:
    """One series. Counters (`count`, an integer, or `sum`, a float) are `scale` times a pattern's
    requests so far; a `gauge` is `scale`; `noise` is anything up to it. `spacing` is the seconds between
    two samples, before the last day and in it."""

    name: str
    spacing: tuple[int, int]
    scale: float
    kind: Literal["count", "sum", "gauge", "noise"] = "count"
    pattern: int = 0


Shares = list[tuple[str, float]]


def shares(names: Sequence[str]) -> Shares:
    """Weights: the second has half of the first, the third a third."""
    total = sum(1 / k for k in range(1, len(names) + 1))
    return [(name, 1 / (k + 1) / total) for k, name in enumerate(names)]


def below(bound: float, middle: float) -> float:
    """The share of measurements up to a bound, distributed as durations are around their median."""
    if bound == math.inf:
        return 1.0
    return 0.5 * (1 + math.erf(math.log(bound / middle) / 1.1 / math.sqrt(2)))


def customer_name(number: int) -> str:
    """Customers, the busiest first."""
    return f"customer-{number:04d}"


class Month:
    """All series since `start_s`; requests continue for as long as needed."""

    def __init__(self, start_s: int, size: Size) -> None:
        self.start_s = start_s
        self.recent_s = start_s + size.days * DAY_S - RECENT_S
        self.size = size
        everybody = shares([customer_name(k) for k in range(size.customers)])
        rest = sum(share for _, share in everybody[size.named :])
        self.customers: Shares = [*everybody[: size.named], ("other", rest)]
        self.models = shares([f"model-{k:02d}" for k in range(size.models)])
        self.routes = shares([f"route-{k}" for k in range(size.routes)])
        self._requests = [list(self._sums(random.Random(n))) for n in range(PATTERNS)]

    def _sums(self, noise: random.Random) -> Iterator[float]:
        """A pattern's requests up to each minute, for two days more than needed."""
        usual = [rhythm(minute) for minute in range((self.size.days + 2) * 1440)]
        scale = 60 * self.size.requests_per_s * len(usual) / sum(usual)
        return itertools.accumulate(
            (scale * value * noise.lognormvariate(-0.03, 0.25) for value in usual), initial=0.0
        )

    def _sent(self, share: float) -> tuple[int, int]:
        """Spacing of OTLP series: every 5 s while they change, and at least every minute."""
        rate = share * self.size.requests_per_s
        usual = 5 if rate > 0.3 else 15 if rate > 0.05 else 60
        return (max(self.size.scraped_s, usual), usual)

    # Series ---------------------------------------------------------------------------------

    def series(self) -> Iterator[Series]:
        """Every series, and its copies if it has any."""
        made = (*self._money(), *self._calls(), *self._requested(), *self._rare())
        for gateway in GATEWAYS:
            yield from map(self._thin, self._gateway(f'instance="{gateway}",job="gateway"'))
        yield from map(self._thin, self._parts())
        for one in made:
            yield self._thin(one)
            if one.name.partition("{")[0] in long.COPIED:
                each = (long.EVERY_S, long.EVERY_S)
                yield replace(one, name=f"{long.PREFIX}{one.name}", spacing=each)

    def _thin(self, one: Series) -> Series:
        before, recently = one.spacing
        if one.name.partition("{")[0] not in self.size.whole:
            before = max(before, self.size.thinned_s)
        return replace(
            one, spacing=(max(before, self.size.apart_s), max(recently, self.size.apart_s))
        )

    def _counter(
        self, metric: Metric, labels: str, share: float, pattern: int, price: float = 0.0
    ) -> Series:
        name = f"{prometheus_name(metric)}{{{SENT},{labels}}}"
        if price:
            return Series(name, self._sent(share), share * price, "sum", pattern)
        return Series(name, self._sent(share), share, "count", pattern)

    def _histogram(
        self, metric: Metric, labels: str, share: float, middle: float, pattern: int
    ) -> Iterator[Series]:
        name, spacing = prometheus_name(metric), self._sent(share)
        for bound in (*metric.buckets, math.inf):
            le = "+Inf" if bound == math.inf else f"{bound:g}"
            bucket = f'{name}_bucket{{{SENT},{labels},le="{le}"}}'
            yield Series(bucket, spacing, share * below(bound, middle), "count", pattern)
        total = f"{name}_sum{{{SENT},{labels}}}"
        yield Series(total, spacing, share * middle * 1.4, "sum", pattern)
        yield Series(f"{name}_count{{{SENT},{labels}}}", spacing, share, "count", pattern)

    def _model(self, number: int) -> tuple[str, str, float]:
        """Labels, name, share."""
        name, share = self.models[number]
        provider = PROVIDERS[number % len(PROVIDERS)]
        labels = f'gen_ai_provider_name="{provider}",gen_ai_request_model="{name}"'
        return labels, name, share

    def _money(self) -> Iterator[Series]:
        for n, (customer, share) in enumerate(self.customers):
            who, pattern = f'spanledger_customer="{customer}"', n % PATTERNS
            for m in range(self.size.models):
                labels, _, part = self._model(m)
                price = 0.02 / (m + 1)
                amounts = (signals.COST, 1.0), (signals.LIST_COST, 1.1), (signals.CHARGE, 1.2)
                for amount, of_cost in amounts:
                    of = (amount, f"{labels},{who}", share * part, pattern)
                    yield self._counter(*of, price * of_cost)
                if m < 3:
                    over = (signals.OVERRUN, f"{labels},{who}", share * part * 1e-3, pattern)
                    yield self._counter(*over, price=0.001)
            yield from self._histogram(signals.REQUEST_COST, who, share, 0.003, pattern)

        for m in range(self.size.models):
            labels, _, part = self._model(m)
            yield self._counter(signals.HELD, labels, part, m % PATTERNS, 0.03 / (m + 1))

    def _deployments(self) -> Iterator[tuple[str, str, float]]:
        """Labels of the model, name, share; the most used models have two deployments."""
        twice = self.size.deployments - self.size.models
        for m in range(self.size.models):
            labels, name, share = self._model(m)
            parts = 2 if m < twice else 1
            for part in range(parts):
                yield labels, f"{name}-{part}", share / parts

    def _calls(self) -> Iterator[Series]:
        chat = 'gen_ai_operation_name="chat"'
        for n, (labels, deployment, share) in enumerate(self._deployments()):
            at = f'{chat},{labels},spanledger_deployment="{deployment}",{GATEWAY}'
            kinds = [("", 0.98), *((f',error_type="{reason}"', 0.005) for reason in REASONS)]
            for kind, part in kinds:
                attempts = (signals.OPERATION_DURATION, f"{at}{kind}", share * part)
                yield from self._histogram(*attempts, 1.5, n % PATTERNS)
            for metric, middle in (
                (signals.TIME_TO_FIRST_CHUNK, 0.4),
                (signals.TIME_PER_OUTPUT_CHUNK, 0.02),
            ):
                yield from self._histogram(metric, at, share * 0.6, middle, n % PATTERNS)
        for n in range(self.size.models):
            labels, _, share = self._model(n)
            for kind, middle in (("input", 900.0), ("output", 200.0)):
                of = f'{chat},{labels},{GATEWAY},gen_ai_token_type="{kind}"'
                yield from self._histogram(signals.TOKEN_USAGE, of, share, middle, n % PATTERNS)

    def _requested(self) -> Iterator[Series]:
        for n, (route, share) in enumerate(self.routes):
            for outcome, kind, part in ENDS:
                error = f',error_type="{kind}"' if kind else ""
                of = f'spanledger_outcome="{outcome}",spanledger_route="{route}"{error}'
                requests = (signals.REQUEST_DURATION, of, share * part)
                yield from self._histogram(*requests, 1.6, n % PATTERNS)

    def _rare(self) -> Iterator[Series]:
        """Counters without copies."""
        for n, ((route, share), reason) in enumerate(itertools.product(self.routes, REASONS)):
            to = self.models[n % len(self.models)][0]
            way = f'spanledger_fallback_from="{route}",spanledger_fallback_to="{to}-0"'
            labels = f'{way},spanledger_fallback_reason="{reason}"'
            yield self._counter(signals.FALLBACKS, labels, share * 0.002, n % PATTERNS)
        for n, ((_, deployment, share), reason) in enumerate(
            itertools.product(self._deployments(), REASONS)
        ):
            labels = f'spanledger_deployment="{deployment}",spanledger_fallback_reason="{reason}"'
            yield self._counter(signals.RETRIES, labels, share * 0.002, n % PATTERNS)
        decided = 'spanledger_budget_decision="{}"'
        for decision, share in (("allow", 0.95), ("warn", 0.03)):
            yield self._counter(signals.BUDGET_DECISIONS, decided.format(decision), share, 0)
        for scope in ("customer", "team", "global"):
            by = f'spanledger_budget_scope="{scope}",spanledger_budget_refused_by="{scope}s"'
            denied = f"{decided.format('deny')},{by}"
            yield self._counter(signals.BUDGET_DECISIONS, denied, 0.003, 1)
        labels = f'{self._model(0)[0]},spanledger_route="{self.routes[0][0]}"'
        yield self._counter(signals.UNPRICED, labels, 0.0001, 2)
        model = self._model(0)[0]
        odd = f'{model},spanledger_usage_ambiguity="total_mismatch"'
        yield self._counter(signals.AMBIGUOUS_USAGE, odd, 0.0001, 2)
        told = f'{model},spanledger_customer="{self.customers[0][0]}"'
        yield self._counter(signals.PROVIDER_COST, told, 0.001, 2, 0.001)
        yield self._counter(signals.DROPPED, 'spanledger_drop_reason="refused"', 0.00001, 3)

    def _scraped(
        self, name: str, scale: float, kind: Literal["count", "sum", "gauge", "noise"] = "gauge"
    ) -> Series:
        return Series(name, (self.size.scraped_s, 10), scale, kind)

    def _gateway(self, at: str) -> Iterator[Series]:
        """The series of a gateway's `/metrics`."""
        scraped = self._scraped
        for n, (_, deployment, _) in enumerate(self._deployments()):
            place = f'{at},deployment="{deployment}",route="{self.routes[n % len(self.routes)][0]}"'
            yield scraped(f"spanledger_deployment_up{{{place}}}", 1)
            yield scraped(f"spanledger_deployment_cooldown_seconds{{{place}}}", 5, "noise")
            for limit in ("rpm", "tpm"):
                used = f'spanledger_deployment_limit_used_ratio{{{place},limit="{limit}"}}'
                yield scraped(used, 0.4, "noise")
        for metric in signals.SCRAPED:
            if metric.kind == "histogram":
                for bound in (*metric.buckets, math.inf):
                    le = "+Inf" if bound == math.inf else f"{bound:g}"
                    bucket = f'{metric.name}_bucket{{{at},le="{le}"}}'
                    yield scraped(bucket, below(bound, 0.002), "count")
                yield scraped(f"{metric.name}_sum{{{at}}}", 0.002, "sum")
                yield scraped(f"{metric.name}_count{{{at}}}", 1, "count")
            elif metric.kind == "counter":
                yield scraped(f"{metric.name}{{{at}}}", 2, "count")
            elif not metric.labels:
                yield scraped(f"{metric.name}{{{at}}}", 1)
            elif "destination" in metric.labels:
                yield scraped(f'{metric.name}{{{at},destination="ops"}}', 1)
        yield scraped(f'spanledger_build_info{{{at},version="0.1.0",python="3.11.9"}}', 1)
        yield scraped(f'spanledger_price_book_info{{{at},book="2026-11-01"}}', 1)
        yield scraped(f"process_resident_memory_bytes{{{at}}}", 1.2e8, "noise")
        yield from self._target(at)
        yield from self._budgets(at)

    def _budgets(self, at: str) -> Iterator[Series]:
        """As if all customers had used a third of their limit, so all are exported. No query looks back
        at accounts other than the selected one; the rest only have the samples an instant query needs."""
        thin, full = (3600, 240), (self.size.scraped_s, 10)
        months = (self.start_s + 5 * DAY_S, self.start_s + 35 * DAY_S)
        for n in range(self.size.customers):
            customer = customer_name(n)
            labels = f'{at},budget="customers",scope="customer",subject="{customer}"'
            for name, value in (
                ("limit_usd", 5000.0),
                ("spent_usd", 2500.5 + n),
                ("held_usd", 1.25),
                ("remaining_usd", 2400.75 - n),
                ("period_start_seconds", months[0]),
                ("period_end_seconds", months[1]),
                ("exhaustion_seconds", 500_000 + n),
                ("blocks", 1),
            ):
                series = f"spanledger_budget_{name}{{{labels}}}"
                yield Series(series, thin if n else full, value, "gauge")
            about = f'{labels},period="month",timezone="UTC"'
            series = f"spanledger_budget_info{{{about}}}"
            yield Series(series, thin if n else full, 1, "gauge")
            for step in (0.5, 0.8, 0.95):
                series = f'spanledger_budget_threshold_ratio{{{labels},threshold="{100 * step:g}"}}'
                yield Series(series, thin if n else full, step, "gauge")

    def _target(self, at: str) -> Iterator[Series]:
        yield self._scraped(f"up{{{at}}}", 1)
        yield self._scraped(f"scrape_duration_seconds{{{at}}}", 0.01, "noise")

    def _parts(self) -> Iterator[Series]:
        """Series of the collector, Prometheus and Tempo that dashboards and rules use."""
        scraped = self._scraped
        at = {
            part: f'instance="{part}:1",job="{part}"'
            for part in ("collector", "tempo", "prometheus")
        }
        for part in at.values():
            yield from self._target(part)
        yield scraped(f"otelcol_process_memory_rss{{{at['collector']}}}", 6e7, "noise")
        for part in ("tempo", "prometheus"):
            yield scraped(f"process_resident_memory_bytes{{{at[part]}}}", 2e8, "noise")
        for exporter, kind, items in (
            ("otlp_grpc/tempo", "traces", "spans"),
            ("otlp_http/prometheus", "metrics", "metric_points"),
        ):
            to = f'{at["collector"]},exporter="{exporter}"'
            yield scraped(f'otelcol_exporter_queue_size{{{to},data_type="{kind}"}}', 3, "noise")
            yield scraped(f'otelcol_exporter_queue_capacity{{{to},data_type="{kind}"}}', 1000)
            yield scraped(f"otelcol_exporter_sent_{items}{{{to}}}", 2, "count")
            yield scraped(f"otelcol_exporter_send_failed_{items}{{{to}}}", 1e-5, "count")
            for transport in ("grpc", "http"):
                by = f'{at["collector"]},receiver="otlp",transport="{transport}"'
                yield scraped(f"otelcol_receiver_accepted_{items}{{{by}}}", 1, "count")
                yield scraped(f"otelcol_receiver_refused_{items}{{{by}}}", 1e-5, "count")
        here, tsdb = at["prometheus"], "prometheus_tsdb"
        yield scraped(f"{tsdb}_head_series{{{here}}}", 9000, "noise")
        yield scraped(f'{tsdb}_head_samples_appended_total{{{here},type="float"}}', 100, "count")
        yield scraped(f"{tsdb}_exemplar_exemplars_appended_total{{{here}}}", 5, "count")
        yield scraped(f"{tsdb}_too_old_samples_total{{{here}}}", 1e-5, "count")
        of = f'{at["tempo"]},tenant="single-tenant"'
        yield scraped(f"tempo_distributor_spans_received_total{{{of}}}", 2, "count")
        yield scraped(
            f'tempo_discarded_spans_total{{{of},reason="live_traces_exceeded"}}', 1e-5, "count"
        )
        yield scraped(f"tempo_distributor_attributes_truncated_total{{{of}}}", 1e-5, "count")

    # Samples --------------------------------------------------------------------------------

    def times(self, spacing: tuple[int, int], since_s: int, until_s: int) -> list[int]:
        """When a series has samples in a part of the month."""
        before, recently = spacing
        early = range(-(-since_s // before) * before, min(until_s, self.recent_s), before)
        late_s = max(since_s, self.recent_s)
        return [*early, *range(-(-late_s // recently) * recently, until_s, recently)]

    def requests(self, pattern: int, times: Sequence[int]) -> list[float]:
        """A pattern's requests up to each of these times."""
        sums = self._requests[pattern]
        found = []
        for at in times:
            minute, part = divmod(at - self.start_s, 60)
            found.append(sums[minute] + (sums[minute + 1] - sums[minute]) * part / 60)
        return found

    def write(self, out: TextIO, since_s: int, until_s: int) -> int:
        """Write a part of the month as OpenMetrics; returns the number of samples."""
        samples = 0
        known: dict[tuple[tuple[int, int], int], tuple[list[float], list[str]]] = {}
        noise = random.Random(since_s)
        for one in self.series():
            key = (one.spacing, one.pattern)
            if key not in known:
                times = self.times(one.spacing, since_s, until_s)
                known[key] = (self.requests(one.pattern, times), [f" {at}\n" for at in times])
            requests, stamps = known[key]
            out.write(_lines(one, requests, stamps, noise))
            samples += len(stamps)
        out.write("# EOF\n")
        return samples


def _lines(
    one: Series, requests: Sequence[float], stamps: Sequence[str], noise: random.Random
) -> str:
    """The samples of one series."""
    name, scale = f"{one.name} ", one.scale
    match one.kind:
        case "count":
            values: list[float] = [int(scale * n) for n in requests]
        case "sum":
            values = [round(scale * n, 9) for n in requests]
        case "gauge":
            values = [scale] * len(stamps)
        case "noise":
            values = [round(scale * noise.random(), 3) for _ in stamps]
    return "".join([f"{name}{v}{at}" for v, at in zip(values, stamps, strict=True)])
