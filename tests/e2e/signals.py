"""What must arrive in the stack, as tables: signals and spans' parents.

Our own names come from the registry; OpenLLMetry's are written out, in the
form it has behind the collector.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from spanledger.telemetry.signals import (
    AMBIGUOUS_USAGE,
    DROPPED,
    METRICS,
    PROVIDER_COST,
    SCRAPED,
    UNPRICED,
    Metric,
    label_name,
    prometheus_series,
)

GATEWAY, WORKER = "spanledger-gateway", "spanledger-worker"
APPLICATION, BESIDE = "e2e-application", "e2e-beside"
"""Separate applications: one through the gateway, one past it."""

WHEN_FAILED = {"error.type", "spanledger.budget.scope"}
"""Attributes that only some points have."""

WHEN_SERVED = {UNPRICED.name: {"gen_ai.provider.name", "gen_ai.request.model"}}
"""Attributes of attempts; a request refused before its first attempt has none of them."""

NOT_MADE = {
    AMBIGUOUS_USAGE.name: (
        "needs a provider whose usage fits no form; tests/service/gateway/test_money.py has one"
    ),
    PROVIDER_COST.name: "needs OpenRouter; tests/service/routing/test_files.py has its answers",
    DROPPED.name: "needs a collector that refuses spans for good; tests/service/telemetry does that",
    **{
        metric.name: "needs a destination; tests/service/notices has them"
        for metric in SCRAPED
        if metric.labels == ("destination",)
    },
}
"""Signals that a healthy stack does not emit."""

ONLY_SOMETIMES = {
    "spanledger_budget_exhaustion_seconds": "none until something is spent",
}


@dataclass(frozen=True, slots=True)
class Signal:
    """A signal a service emits, and what it must carry."""

    service: str
    signal: Literal["span", "metric", "scraped"]
    name: str
    """A span's name, or a series' in Prometheus."""
    required: frozenset[str]
    """Attributes, or labels."""
    where: str = ""
    """Label matchers, or a span's kind."""
    exemplars: bool = False
    not_for_vendors: frozenset[str] = frozenset()
    """What overlays remove from a span so that vendors do not count twice."""

    def __str__(self) -> str:
        return f"{self.service}-{self.signal}-{self.name}"


def _labels(metric: Metric) -> frozenset[str]:
    sometimes = WHEN_FAILED | WHEN_SERVED.get(metric.name, set())
    return frozenset(label_name(name) for name in metric.attributes if name not in sometimes)


def _metrics() -> list[Signal]:
    return [
        Signal(
            GATEWAY,
            "metric",
            series,
            _labels(metric),
            f'service_name="{GATEWAY}"',
            # In a histogram, the buckets have them.
            exemplars=series.endswith(("_bucket", "_total")),
        )
        for metric in METRICS
        if metric.name not in NOT_MADE
        for series in prometheus_series(metric)
    ]


def _scraped() -> list[Signal]:
    return [
        Signal("gateway", "scraped", series, frozenset(metric.labels), 'job="gateway"')
        for metric in SCRAPED
        if metric.name not in NOT_MADE
        for series in prometheus_series(metric)
    ]


_CALL = frozenset({"gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model"})
_USAGE = frozenset({"gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"})
_THEIRS = frozenset({"gen_ai_provider_name", "gen_ai_request_model"})
_SOURCE = "spanledger.source"

SIGNALS: tuple[Signal, ...] = (
    *_metrics(),
    *_scraped(),
    Signal(
        GATEWAY,
        "span",
        "chat fast",
        frozenset(
            {
                "http.response.status_code",
                "spanledger.route",
                "spanledger.customer",
                "spanledger.outcome",
                "spanledger.attempts",
                "spanledger.request.cost.nano_usd",
                "spanledger.budget.decision",
            }
        ),
        "SERVER",
    ),
    Signal(
        GATEWAY,
        "span",
        "chat gpt-4o-mini",
        _CALL
        | _USAGE
        | {
            _SOURCE,
            "gen_ai.response.id",
            "gen_ai.response.model",
            "gen_ai.response.finish_reasons",
            "gen_ai.input.messages",
            "gen_ai.output.messages",
            "server.address",
            "spanledger.deployment",
            "spanledger.attempt.number",
            "spanledger.cost.usd",
            "spanledger.cost.nano_usd",
            "spanledger.price.id",
        },
        "CLIENT",
    ),
    Signal(GATEWAY, "span", "embeddings text-embedding-3-small", _CALL | {_SOURCE}, "CLIENT"),
    Signal(GATEWAY, "span", "chat claude-haiku-4-5", _CALL | _USAGE | {_SOURCE}, "CLIENT"),
    *(
        Signal(service, "span", "openai.chat", _CALL | {_SOURCE}, "CLIENT", not_for_vendors=_USAGE)
        for service in (WORKER, APPLICATION)
    ),
    Signal(WORKER, "span", "job.task", frozenset({"spanledger.job.custom_id"}), "INTERNAL"),
    Signal(BESIDE, "span", "openai.chat", _CALL | _USAGE | {_SOURCE}, "CLIENT"),
    *(
        Signal(
            service,
            "metric",
            f"gen_ai_client_{name}",
            labels,
            f'service_name="{service}", spanledger_source="{source}"',
        )
        for service, source in (
            (WORKER, "application_via_gateway"),
            (APPLICATION, "application_via_gateway"),
            (BESIDE, "application"),
        )
        for name, labels in (
            ("operation_duration_seconds_count", _THEIRS),
            ("token_usage_sum", _THEIRS | {"gen_ai_token_type"}),
        )
    ),
)


@dataclass(frozen=True, slots=True)
class Edge:
    """A span and its parent: service, name and kind of each."""

    parent: tuple[str, str, str]
    child: tuple[str, str, str]

    def __str__(self) -> str:
        return f"{self.parent[0]}:{self.parent[1]}->{self.child[0]}:{self.child[1]}"


EDGES: tuple[Edge, ...] = (
    Edge((WORKER, "worker_run.workflow", "INTERNAL"), (WORKER, "job.task", "INTERNAL")),
    Edge((WORKER, "job.task", "INTERNAL"), (WORKER, "openai.chat", "CLIENT")),
    Edge((WORKER, "openai.chat", "CLIENT"), (GATEWAY, "chat fast", "SERVER")),
    Edge((GATEWAY, "chat fast", "SERVER"), (GATEWAY, "chat gpt-4o-mini", "CLIENT")),
    Edge((GATEWAY, "chat fast", "SERVER"), (GATEWAY, "chat claude-haiku-4-5", "CLIENT")),
    Edge((APPLICATION, "openai.chat", "CLIENT"), (GATEWAY, "chat fast", "SERVER")),
)
