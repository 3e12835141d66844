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
            "Of single attempts as the gateway sees them, streams to their last chunk, failures"
            " included. A click on a point leads to the trace.",
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
            "The darker, the more attempts; the points are single ones.",
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
            "From the start of a streamed attempt to its first content: what a reader waits for.",
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
            "The darker, the more streams; the points are single ones.",
            "s",
            [Prom(q.buckets(q.FIRST_CHUNK, q.OF_MODEL), buckets=True, exemplar=True)],
            Links(down=(PROVIDERS,), runbooks=SLOW),
            Look(width=8, height=9),
        ),
    ],
)

SMOOTH = Row(
    "Do they keep coming?",
    [
        timeseries(
            "Time between chunks",
            "Each stream's mean after its first chunk.",
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
            "Output tokens a second",
            "All streams and answers together; what both a gateway and an application saw counts"
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
            "What the gateway adds",
            "The time of a request answered whole, less that of its attempts at providers: the gateway's"
            " own work, the ledger's commits, and the pauses before retries.",
            "s",
            [Prom(expr, f"{share:.0%}", step="") for share, expr in q.OVERHEAD_QUANTILES],
            Links(down=(HEALTH,), runbooks=("LedgerSlowOrStuckHolds",)),
            Look(width=8),
        ),
        timeseries(
            "Mean duration by who measured it",
            "`application_via_gateway` is what applications wait for, retries and the gateway"
            " included; `gateway` is single attempts; `application` went to the provider itself;"
            " `unknown` are applications' calls that got no answer.",
            "s",
            [Prom(q.MEAN_BY_SOURCE, "{{spanledger_source}}")],
            Links(down=(HEALTH,), runbooks=("LedgerSlowOrStuckHolds",)),
            Look(width=8),
        ),
        timeseries(
            "In flight",
            "Requests each gateway is serving.",
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
            "Attempts of more than $slow",
            "The newest; a click opens the trace.",
            Traces(q.SLOW_TRIES, limit=50),
            Links(down=(PROVIDERS,), runbooks=SLOW),
            Look(width=24),
        ),
    ],
)

BOARD = Board(
    LATENCY,
    "How long answers take, when streams begin and how smoothly they go on, and what of it is the"
    " gateway's.",
    "The team of an application whose users wait.",
    [LONG, FIRST, SMOOTH, OURS, WHICH],
    choices=(
        Choice("model", "Model", q.label_values(f"{q.ATTEMPTS}_count", q.MODEL), several=True),
        Choice(
            "slow", "Slow is over", values=("500ms", "1s", "2s", "5s", "10s", "30s"), chosen="2s"
        ),
    ),
    events=EVENTS,
)
