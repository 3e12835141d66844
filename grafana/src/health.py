"""Stack health: does telemetry arrive, and do the ledger, Prometheus and Tempo keep up."""

from __future__ import annotations

from grafana.src import queries as q
from grafana.src.board import Board, Row
from grafana.src.events import EVENTS
from grafana.src.links import HEALTH, LATENCY, OVERVIEW, Links
from grafana.src.panels import Look, Prom, stat, states, timeseries

BACKLOG = ("TelemetryBacklogGrowing",)
DROPS = ("CollectorDroppingData",)
LEDGER = ("LedgerSlowOrStuckHolds",)
ABSENT = ("SignalAbsent",)
NONE_IS_GOOD = ((None, "green"), (1, "red"))

THERE = Row(
    "Is everything up?",
    [
        states(
            "Targets up",
            "Whether Prometheus can scrape each part; with several instances, whether it can scrape all.",
            "bool_on_off",
            [Prom(q.UP, "{{job}}", step="")],
            Links(down=(OVERVIEW,), runbooks=ABSENT),
            Look(width=10, height=7, texts={"1": ("up", "green"), "0": ("down", "red")}),
        ),
        timeseries(
            "Scrape duration",
            "The slowest instance of each part. Prometheus gives up after 5 s.",
            "s",
            [Prom(q.SCRAPE_SECONDS, "{{job}}", step="")],
            Links(down=(OVERVIEW,), runbooks=ABSENT),
            Look(width=6, height=7),
        ),
        stat(
            "Versions and price book",
            "How many gateways run each version, and the date of the prices they use.",
            "short",
            [
                Prom(q.VERSIONS, "{{version}}", step=""),
                Prom(q.BOOKS, "prices of {{book}}", step=""),
            ],
            Links(down=(OVERVIEW,), runbooks=("UnpricedUsage",)),
            Look(width=8, height=7, named=True),
        ),
    ],
)

ARRIVES = Row(
    "Does all telemetry arrive?",
    [
        timeseries(
            "Waiting in the ledger",
            "Finished requests and attempts that the collector has not accepted yet. They are kept until"
            " it does.",
            "short",
            [Prom(f"max({q.OUTBOX})", "rows", step="")],
            Links(down=(OVERVIEW,), runbooks=BACKLOG),
            Look(width=6, height=7),
        ),
        timeseries(
            "Age of the oldest row",
            "How far dashboards and traces are behind.",
            "s",
            [Prom(f"max({q.OUTBOX_AGE})", "age", step="")],
            Links(down=(OVERVIEW,), runbooks=BACKLOG),
            Look(width=6, height=7),
        ),
        timeseries(
            "Collector queues",
            "How full the queues to Tempo and Prometheus are. They are on disk; when they are full,"
            " senders have to wait.",
            "percentunit",
            [Prom(q.QUEUE_USED, "{{exporter}}", step="")],
            Links(down=(OVERVIEW,), runbooks=DROPS),
            Look(width=6, height=7),
        ),
        timeseries(
            "Through the collector",
            "Spans and metric points received and delivered. The two lines for spans should coincide.",
            "cps",
            [
                Prom(q.TAKEN_SPANS, "spans in", step=""),
                Prom(q.SENT_SPANS, "spans out", step=""),
                Prom(q.TAKEN_POINTS, "points in", step=""),
                Prom(q.SENT_POINTS, "points out", step=""),
            ],
            Links(down=(OVERVIEW,), runbooks=DROPS),
            Look(width=6, height=7),
        ),
        timeseries(
            "Refused and undeliverable",
            "What the collector refused to accept for now, and what its destinations rejected for good.",
            "cps",
            [
                Prom(q.REFUSED_SPANS, "spans refused", step=""),
                Prom(q.REFUSED_POINTS, "points refused", step=""),
                Prom(q.UNSENT_SPANS, "spans undeliverable", step=""),
                Prom(q.UNSENT_POINTS, "points undeliverable", step=""),
            ],
            Links(down=(OVERVIEW,), runbooks=DROPS),
            Look(width=8, height=7),
        ),
        stat(
            "Spans dropped by the gateway",
            "In the selected range: spans the collector rejected for good. Their rows stay in the ledger.",
            "locale",
            [Prom(f"sum({q.DROPPED_SPANS}){q.ZERO}")],
            Links(down=(OVERVIEW,), runbooks=DROPS),
            Look(width=8, height=7, decimals=0, steps=NONE_IS_GOOD),
        ),
        stat(
            "Attributes truncated, spans discarded by Tempo",
            "In the selected range: attributes longer than `max_attribute_bytes`, and spans beyond one of"
            " Tempo's limits.",
            "locale",
            [
                Prom(q.TRUNCATED + q.ZERO, "attributes cut", step=""),
                Prom(q.TEMPO_DISCARDED + q.ZERO, "spans discarded", step=""),
            ],
            Links(down=(OVERVIEW,), runbooks=DROPS),
            Look(width=8, height=7, decimals=0, steps=NONE_IS_GOOD, named=True),
        ),
    ],
)

KEEPS_UP = Row(
    "Does the ledger keep up?",
    [
        timeseries(
            "Commit duration",
            "A request is sent only after its hold is committed, so every request waits for one commit.",
            "s",
            [Prom(expr, f"{share:.0%}", step="") for share, expr in q.COMMIT_QUANTILES],
            Links(down=(LATENCY,), runbooks=LEDGER),
            Look(width=8, height=7),
        ),
        timeseries(
            "Commits and operations",
            "Operations that wait at the same time share a commit: the higher the load, the wider the gap"
            " between the lines.",
            "ops",
            [
                Prom(q.COMMIT_RATE, "commits", step=""),
                Prom(q.OPERATION_RATE, "operations", step=""),
            ],
            Links(down=(LATENCY,), runbooks=LEDGER),
            Look(width=8, height=7),
        ),
        timeseries(
            "Money held",
            "Attempts in flight, and the age of the oldest. One that is older than the lease belongs to a"
            " gateway that died.",
            "short",
            [
                Prom(f"max({q.HOLDS})", "holds", step=""),
                Prom(f"max({q.OLDEST_HOLD})", "oldest", step=""),
                Prom(f"1 - min({q.LEDGER_UP})", "unreadable", step=""),
            ],
            Links(down=(LATENCY,), runbooks=LEDGER),
            Look(width=8, height=7, overrides=(("oldest", {"unit": "s"}),)),
        ),
    ],
)

BEHIND = Row(
    "Do Prometheus and Tempo keep up?",
    [
        timeseries(
            "Series in Prometheus",
            "Series of the last hours. The number of customers is capped, so this grows only with models"
            " and routes.",
            "short",
            [Prom(q.HEAD_SERIES, "series", step="")],
            Links(down=(OVERVIEW,), runbooks=ABSENT),
            Look(width=6, height=7),
        ),
        timeseries(
            "Into Prometheus",
            "Samples and exemplars accepted, and samples that arrived too late.",
            "cps",
            [
                Prom(q.SAMPLES, "samples", step=""),
                Prom(q.EXEMPLARS, "exemplars", step=""),
                Prom(q.LATE_SAMPLES, "too late", step=""),
            ],
            Links(down=(OVERVIEW,), runbooks=ABSENT),
            Look(width=6, height=7),
        ),
        timeseries(
            "Into Tempo",
            "Spans per second.",
            "cps",
            [Prom(q.TEMPO_SPANS, "spans", step="")],
            Links(down=(OVERVIEW,), runbooks=DROPS),
            Look(width=6, height=7),
        ),
        timeseries(
            "Memory",
            "Resident memory of each part.",
            "bytes",
            [
                Prom(q.MEMORY, "{{job}}", step=""),
                Prom(q.COLLECTOR_MEMORY, "{{job}}", step=""),
            ],
            Links(down=(OVERVIEW,), runbooks=LEDGER),
            Look(width=6, height=7),
        ),
    ],
)

BOARD = Board(
    HEALTH,
    "Whether every part is up, all telemetry arrives, and the ledger, Prometheus and Tempo keep up.",
    "Anyone who runs the stack.",
    [THERE, ARRIVES, KEEPS_UP, BEHIND],
    events=EVENTS,
    long=False,
)
