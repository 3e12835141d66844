"""A synthetic history of an LLM gateway: rhythm, growth, noise, gaps, restarts, and ten incidents.

Yields one value per minute for each series, for `tools/replay_alerts.py`, and what should be
detected when.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

DAY = 1440
START_S = 1_792_972_800
"""2026-10-26, a Monday. The budgets renew on 1 November."""
RENEWAL = 6 * DAY
MONTHS_S = (1_790_812_800, 1_793_491_200, 1_796_083_200)
"""1 October, November and December 2026, UTC."""
GATEWAY = 'instance="g1",job="gateway"'
COLLECTOR = 'instance="c1",job="collector",exporter="otlp_grpc/tempo",data_type="traces"'


@dataclass(frozen=True, slots=True)
class Incident:
    """An incident, its length, and the alerts that must fire, each within a number of minutes."""

    name: str
    at: int
    minutes: int
    alerts: dict[str, int]

    def active(self, minute: int) -> bool:
        """Whether it is active in this minute."""
        return self.at <= minute < self.at + self.minutes


def moment(day: int, hour: int) -> int:
    """The minute of the history at this day and hour."""
    return day * DAY + hour * 60


INCIDENTS = (
    Incident("spike", moment(9, 10), 90, {"CostSpike": 15}),
    Incident("outage", moment(11, 14), 45, {"ProviderErrorBudgetBurn": 15, "FallbackStorm": 6}),
    Incident("down", moment(12, 9), 20, {"AllDeploymentsDown": 3}),
    Incident("unpriced", moment(13, 16), 5, {"UnpricedUsage": 1}),
    Incident("overrun", moment(15, 11), 5, {"BudgetOverrun": 1}),
    Incident("slow", moment(16, 13), 60, {"TimeToFirstTokenSlow": 20}),
    Incident("away", moment(18, 8), 40, {"TelemetryBacklogGrowing": 8}),
    Incident("drops", moment(19, 15), 3, {"CollectorDroppingData": 1}),
    Incident("disk", moment(21, 10), 40, {"LedgerSlowOrStuckHolds": 15}),
    Incident("renamed", moment(23, 12), 90, {"SignalAbsent": 16}),
)


def incidents_in(days: int) -> tuple[Incident, ...]:
    """The ten incidents; closer together, from the third day on, in fewer than 28 days."""
    if days >= 28:
        return INCIDENTS
    first = INCIDENTS[0].at // DAY
    squeeze = (days - 3) / (INCIDENTS[-1].at // DAY + 1 - first)
    return tuple(
        replace(i, at=moment(2 + int((i.at // DAY - first) * squeeze), i.at % DAY // 60))
        for i in INCIDENTS
    )


CUSTOMERS = {"acme": 0.06, "globex": 0.04, "initech": 0.02, "umbrella": 0.05}
"""Dollars in an ordinary minute. The last customer is new on the eighth day."""
NEW_FROM = {"umbrella": 8 * DAY}
MODELS = {"gpt-4o": ("openai", 0.7), "claude-sonnet-4-5": ("anthropic", 0.3)}
STEPS = (50, 80, 95)
"""Every budget's thresholds."""
LIMITS = {"acme": 5000.0, "globex": 1500.0, "initech": 900.0}


def rhythm(minute: int) -> float:
    """Relative traffic: days and nights, weekends, and two per cent growth per day."""
    hour = minute / 60 % 24
    day = 0.25 + 0.95 * math.exp(-(((hour - 13.5) / 4.5) ** 2)) * 1.4
    weekend = 0.35 if minute // DAY % 7 >= 5 else 1.0
    return day * weekend * math.pow(1.02, minute / DAY)


class History:
    """A synthetic history. `series()` yields names with one value per minute, or None in gaps."""

    def __init__(self, days: int, seed: int = 1) -> None:
        self.minutes = days * DAY
        self._random = random.Random(seed)
        self.traffic = [
            rhythm(m) * self._random.lognormvariate(0, 0.25) for m in range(self.minutes)
        ]
        self.incidents = [] if days < 6 else list(incidents_in(days))
        self._by_name = {incident.name: incident for incident in incidents_in(days)}
        self.spent: dict[str, list[float]] = {}
        gaps = (moment(day, 3) + 17 for day in range(2, days, 5))
        self._missed = {gap + k for gap in gaps for k in range(3)}
        """Minutes in which the gateway was not scraped."""

    def _during(self, name: str, minute: int) -> bool:
        return bool(self.incidents) and self._by_name[name].active(minute)

    def _sum(self, rates: Iterator[float]) -> list[float | None]:
        total, values = 0.0, []
        for rate in rates:
            total += rate
            values.append(round(total, 6))
        return list(values)

    def _scraped(self, values: list[float | None]) -> list[float | None]:
        return [None if m in self._missed else value for m, value in enumerate(values)]

    def series(self) -> Iterator[tuple[str, list[float | None]]]:
        """Every series."""
        yield from self._money()
        yield from self._budgets()
        yield from self._providers()
        yield from self._streams()
        yield from self._ledger()
        yield from self._machinery()

    def _money(self) -> Iterator[tuple[str, list[float | None]]]:
        for customer, usual in CUSTOMERS.items():
            each = [0.0] * self.minutes
            since = min(NEW_FROM.get(customer, 0), self.minutes)
            for model, (provider, share) in MODELS.items():
                spiking = customer == "acme" and model == "gpt-4o"
                rates = []
                for m in range(self.minutes):
                    rate = usual * share * self.traffic[m] * self._random.lognormvariate(0, 0.5)
                    if spiking and self._during("spike", m):
                        rate *= 15
                    rates.append(rate if m > since else 0.0)
                    each[m] += rates[-1]
                labels = (
                    f'gen_ai_provider_name="{provider}",gen_ai_request_model="{model}"'
                    f',spanledger_customer="{customer}"'
                )
                values = self._sum(iter(rates))
                values[:since] = [None] * since
                yield f"spanledger_cost_usd_total{{{labels}}}", values
            self.spent[customer] = each
        over = (0.5 if m == self._by_name["overrun"].at else 0.0 for m in range(self.minutes))
        labels = 'gen_ai_provider_name="openai",gen_ai_request_model="gpt-4o"'
        yield (
            f'spanledger_overrun_usd_total{{{labels},spanledger_customer="globex"}}',
            self._sum(over),
        )
        count = (float(self._during("unpriced", m)) for m in range(self.minutes))
        yield (
            (
                'spanledger_unpriced_requests_total{gen_ai_provider_name="openai"'
                ',gen_ai_request_model="new",spanledger_route="chat"}'
            ),
            self._sum(count),
        )

    def _budgets(self) -> Iterator[tuple[str, list[float | None]]]:
        """Budgets as the ledger shows them; at the start, 40 % of October's limits are spent."""
        for customer, limit in LIMITS.items():
            spent, values, left = limit * 0.4, [], []
            for m in range(self.minutes):
                spent = (0.0 if m == RENEWAL else spent) + self.spent[customer][m]
                elapsed = START_S + 60 * m - MONTHS_S[m >= RENEWAL]
                values.append(round(spent, 6))
                left.append(round(max(0.0, limit - spent) * max(1, elapsed) / max(spent, 1e-9)))
            starts = [float(MONTHS_S[m >= RENEWAL]) for m in range(self.minutes)]
            ends = [float(MONTHS_S[1 + (m >= RENEWAL)]) for m in range(self.minutes)]
            labels = f'{GATEWAY},budget="{customer}",scope="customer",subject="{customer}"'
            for name, column in (
                ("spent_usd", values),
                ("limit_usd", [limit] * self.minutes),
                ("period_start_seconds", starts),
                ("period_end_seconds", ends),
                ("exhaustion_seconds", left),
                ("blocks", [1.0] * self.minutes),
            ):
                yield f"spanledger_budget_{name}{{{labels}}}", self._scraped([*column])
            for step in STEPS:
                yield (
                    f'spanledger_budget_threshold_ratio{{{labels},threshold="{step}"}}',
                    self._scraped([step / 100] * self.minutes),
                )

    def _providers(self) -> Iterator[tuple[str, list[float | None]]]:
        """Thirty attempts in an ordinary minute, 0.3 % failing, and a few bad minutes."""
        bad = {m + k for m in range(700, self.minutes, 2 * DAY + 311) for k in range(3)}
        name = "gen_ai_client_operation_duration_seconds_count"
        for provider, share in MODELS.values():
            failing = []
            for m in range(self.minutes):
                out = provider == "openai" and self._during("outage", m)
                ratio = 1.0 if out else 0.05 if m in bad else 0.003
                failing.append(ratio)
            attempts = [30 * share * traffic for traffic in self.traffic]
            for kind, column in (
                ("", [t * (1 - f) for t, f in zip(attempts, failing, strict=True)]),
                (
                    ',error_type="overloaded"',
                    [t * f for t, f in zip(attempts, failing, strict=True)],
                ),
            ):
                labels = f'gen_ai_operation_name="chat",gen_ai_provider_name="{provider}"{kind}'
                yield f"{name}{{{labels}}}", self._sum(iter(column))
        unserved = [0.3 * self._during("outage", m) for m in range(self.minutes)]
        for kind, shares in (
            ('spanledger_outcome="ok"', [1 - share for share in unserved]),
            ('error_type="overloaded",spanledger_outcome="error"', unserved),
        ):
            requests = (30 * t * share for t, share in zip(self.traffic, shares, strict=True))
            labels = f'{kind},spanledger_route="chat"'
            yield f"spanledger_request_duration_seconds_count{{{labels}}}", self._sum(requests)
        moved = (
            30 * traffic * (0.7 if self._during("outage", m) else 0.04 if m in bad else 0.002)
            for m, traffic in enumerate(self.traffic)
        )
        labels = 'spanledger_fallback_from="chat",spanledger_fallback_reason="overloaded"'
        yield f"spanledger_fallbacks_total{{{labels}}}", self._sum(moved)
        for route, parts in (("chat", ("a", "b")), ("code", ("c", "d"))):
            for part in parts:
                up = [
                    float(not (route == "code" and self._during("down", m)))
                    for m in range(self.minutes)
                ]
                labels = f'{GATEWAY},deployment="{part}",route="{route}"'
                yield f"spanledger_deployment_up{{{labels}}}", self._scraped([*up])

    def _streams(self) -> Iterator[tuple[str, list[float | None]]]:
        """Twelve streams in an ordinary minute, of which one in fifty waits over five seconds."""
        name = "gen_ai_client_operation_time_to_first_chunk_seconds"
        shares = {"1.28": (0.8, 0.4), "5.12": (0.98, 0.7), "10.24": (1.0, 1.0), "+Inf": (1.0, 1.0)}
        for le, (usual, slow) in shares.items():
            rates = (
                12 * traffic * (slow if self._during("slow", m) else usual)
                for m, traffic in enumerate(self.traffic)
            )
            values = self._sum(rates)
            yield f'{name}_bucket{{gen_ai_request_model="gpt-4o",le="{le}"}}', values
            if le == "+Inf":
                yield f'{name}_count{{gen_ai_request_model="gpt-4o"}}', values

    def _ledger(self) -> Iterator[tuple[str, list[float | None]]]:
        """Counters of a process that restarts once a week."""
        fast: list[float | None] = []
        count: list[float | None] = []
        quick = total = 0.0
        for m, traffic in enumerate(self.traffic):
            if m % (7 * DAY) == 5 * 60:
                quick = total = 0.0
            total += 20 * traffic
            quick += 20 * traffic * (0.6 if self._during("disk", m) else 0.998)
            fast.append(round(quick, 3))
            count.append(round(total, 3))
        name = "spanledger_ledger_commit_seconds"
        yield f'{name}_bucket{{{GATEWAY},le="0.1"}}', self._scraped(fast)
        yield f"{name}_count{{{GATEWAY}}}", self._scraped(count)
        yield f"spanledger_ledger_operations_total{{{GATEWAY}}}", self._scraped(count)

    def _machinery(self) -> Iterator[tuple[str, list[float | None]]]:
        away = self._by_name["away"]
        age: list[float | None] = [
            60.0 * (m - away.at) if away.active(m) else self._random.uniform(0, 8)
            for m in range(self.minutes)
        ]
        rows: list[float | None] = [
            None if self._during("renamed", m) else 3.0 for m in range(self.minutes)
        ]
        hold: list[float | None] = [self._random.uniform(0, 90) for _ in range(self.minutes)]
        ones: list[float | None] = [1.0] * self.minutes
        shown: list[float | None] = [float(len(LIMITS))] * self.minutes
        for name, values in (
            ("spanledger_outbox_age_seconds", age),
            ("spanledger_outbox_rows", rows),
            ("spanledger_oldest_hold_seconds", hold),
            ("spanledger_holds_open", ones),
            ("spanledger_ledger_up", ones),
            ("spanledger_budgets_shown", shown),
            ("spanledger_budgets_left_out", ones),
        ):
            yield f"{name}{{{GATEWAY}}}", self._scraped(values)
        yield (
            f"up{{{GATEWAY}}}",
            [float(m not in self._missed) for m in range(self.minutes)],
        )
        drops = self._by_name["drops"].at
        lost: list[float | None] = [None if m < drops else 40.0 for m in range(self.minutes)]
        yield f"otelcol_exporter_enqueue_failed_spans{{{COLLECTOR}}}", lost
        yield f"otelcol_exporter_queue_size{{{COLLECTOR}}}", ones
        yield f"otelcol_exporter_queue_capacity{{{COLLECTOR}}}", [1000.0] * self.minutes
