"""Latency and streaming: how long answers take, when they begin, and what the gateway adds."""

from __future__ import annotations

from grafana.src import queries as q
from grafana.src.board import Board, Choice, Row
from grafana.src.events import EVENTS
from grafana.src.links import HEALTH, LATENCY, PROVIDERS, Links
from grafana.src.panels import Look, Prom, Traces, heatmap, timeseries
from grafana.src.spans import spans

SLOW = ("TimeToFirstTokenSlow",)


def _percentiles(name: str) -> list[Prom]:
    return [
        Prom(q.quantile(share, name, where=q.OF_MODEL), f"{share:.0%}", exemplar=True)
        for share in (0.5, 0.95, 0.99)
    ]


def _by_model(name: str) -> list[Prom]:
    expr = q.quantile(0.95, name, q.MODEL, q.OF_MODEL)
    return [Prom(expr, "{{gen_ai_request_model}}", exemplar=True)]


LONG = Row(
    "How long do answers take?",
    [
        timeseries(
            "Duration",
            "Of single attempts as the gateway measures them, streams up to their last chunk, including"
            " failures. Click a point to open its trace.",
            "s",
            _percentiles(q.ATTEMPTS),
            Links(down=(PROVIDERS,), runbooks=SLOW),
            Look(width=8, height=9),
        ),
        timeseries(
            "Duration by model, 95th percentile",
            "One attempt in twenty took longer.",
            "s",
            _by_model(q.ATTEMPTS),
            Links(down=(PROVIDERS,), runbooks=SLOW),
            Look(width=8, height=9),
        ),
        heatmap(
            "All durations",
            "Darker means more attempts; the points are single attempts.",
            "s",
            [Prom(q.buckets(q.ATTEMPTS, q.OF_MODEL), buckets=True, exemplar=True)],
            Links(down=(PROVIDERS,), runbooks=SLOW),
            Look(width=8, height=9),
        ),
    ],
)

FIRST = Row(
    "When do streams begin?",
    [
        timeseries(
            "Time to first token",
            "From the start of a streamed attempt to its first content: what a user waits for.",
            "s",
            _percentiles(q.FIRST_CHUNK),
            Links(down=(PROVIDERS,), runbooks=SLOW),
            Look(width=8, height=9),
        ),
        timeseries(
            "Time to first token by model, 95th percentile",
            "One stream in twenty began later.",
            "s",
            _by_model(q.FIRST_CHUNK),
            Links(down=(PROVIDERS,), runbooks=SLOW),
            Look(width=8, height=9),
        ),
        heatmap(
            "All times to first token",
            "Darker means more streams; the points are single streams.",
            "s",
            [Prom(q.buckets(q.FIRST_CHUNK, q.OF_MODEL), buckets=True, exemplar=True)],
            Links(down=(PROVIDERS,), runbooks=SLOW),
            Look(width=8, height=9),
        ),
    ],
)

SMOOTH = Row(
    "Do streams flow steadily?",
    [
        timeseries(
            "Time between chunks",
            "Each stream's mean, after its first chunk.",
            "s",
            _percentiles(q.PER_CHUNK),
            Links(down=(PROVIDERS,), runbooks=SLOW),
            Look(width=8),
        ),
        timeseries(
            "Time between chunks by model, 95th percentile",
            "One stream in twenty was slower.",
            "s",
            _by_model(q.PER_CHUNK),
            Links(down=(PROVIDERS,), runbooks=SLOW),
            Look(width=8),
        ),
        timeseries(
            "Output tokens per second",
            "All answers, streamed or not. Calls that both the gateway and an application measured count"
            " once.",
            "short",
            [Prom(q.OUTPUT_RATE, "{{gen_ai_request_model}}")],
            Links(down=(PROVIDERS,), runbooks=SLOW),
            Look(width=8, stacked=True),
        ),
    ],
)

OURS = Row(
    "Is it the gateway?",
    [
        timeseries(
            "Gateway overhead",
            "The time of a non-streamed request minus the time of its attempts at providers: the gateway's"
            " own work, ledger commits, and the waits before retries.",
            "s",
            [Prom(expr, f"{share:.0%}", step="") for share, expr in q.OVERHEAD_QUANTILES],
            Links(down=(HEALTH,), runbooks=("LedgerSlowOrStuckHolds",)),
            Look(width=8),
        ),
        timeseries(
            "Mean duration by source",
            "`application_via_gateway`: what applications wait for, including retries and the gateway;"
            " `gateway`: single attempts; `application`: calls straight to a provider;"
            " `unknown`: applications' calls that got no answer.",
            "s",
            [Prom(q.MEAN_BY_SOURCE, "{{spanledger_source}}")],
            Links(down=(HEALTH,), runbooks=("LedgerSlowOrStuckHolds",)),
            Look(width=8),
        ),
        timeseries(
            "In flight",
            "Requests that each gateway is serving now.",
            "short",
            [Prom(q.IN_FLIGHT_NOW, "{{instance}}", step="")],
            Links(down=(HEALTH,), runbooks=("LedgerSlowOrStuckHolds",)),
            Look(width=8, stacked=True),
        ),
    ],
)

WHICH = Row(
    "Which were slow?",
    [
        spans(
            "Attempts slower than $slow",
            "The newest; click a row to open the trace.",
            Traces(q.SLOW_TRIES, limit=50),
            Links(down=(PROVIDERS,), runbooks=SLOW),
            Look(width=24),
        ),
    ],
)

BOARD = Board(
    LATENCY,
    "How long answers take, when streams begin, how steadily they flow, and how much of that is due to"
    " the gateway.",
    "The team of an application whose users wait.",
    [LONG, FIRST, SMOOTH, OURS, WHICH],
    choices=(
        Choice("model", "Model", q.label_values(f"{q.ATTEMPTS}_count", q.MODEL), several=True),
        Choice(
            "slow", "Slower than", values=("500ms", "1s", "2s", "5s", "10s", "30s"), chosen="2s"
        ),
    ),
    events=EVENTS,
)
