"""Stack health: does the telemetry arrive, does the ledger keep up, do the back ends."""

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
    "Is everything there?",
    [
        states(
            "Scraped",
            "Whether Prometheus reaches each part; with several of a kind, all of them.",
            "bool_on_off",
            [Prom(q.UP, "{{job}}", step="")],
            Links(down=(OVERVIEW,), runbooks=ABSENT),
            Look(width=10, height=7, texts={"1": ("up", "green"), "0": ("down", "red")}),
        ),
        timeseries(
            "Time a scrape takes",
            "The slowest of each kind; Prometheus gives up after 5 s.",
            "s",
            [Prom(q.SCRAPE_SECONDS, "{{job}}", step="")],
            Links(down=(OVERVIEW,), runbooks=ABSENT),
            Look(width=6, height=7),
        ),
        stat(
            "Versions and price book",
            "How many gateways run which version, with the prices of which date.",
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
            "Ended requests and attempts that the collector has not taken yet. They wait as long as it"
            " takes.",
            "short",
            [Prom(f"max({q.OUTBOX})", "rows", step="")],
            Links(down=(OVERVIEW,), runbooks=BACKLOG),
            Look(width=6, height=7),
        ),
        timeseries(
            "Age of the oldest",
            "How far dashboards and traces are behind.",
            "s",
            [Prom(f"max({q.OUTBOX_AGE})", "age", step="")],
            Links(down=(OVERVIEW,), runbooks=BACKLOG),
            Look(width=6, height=7),
        ),
        timeseries(
            "Collector's queues",
            "How full the queues to Tempo and Prometheus are. They are on disk; full ones make"
            " senders wait.",
            "percentunit",
            [Prom(q.QUEUE_USED, "{{exporter}}", step="")],
            Links(down=(OVERVIEW,), runbooks=DROPS),
            Look(width=6, height=7),
        ),
        timeseries(
            "Through the collector",
            "Spans and metric points taken and delivered; for spans the lines should lie on each"
            " other.",
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
            "What the collector told senders to keep, and what its back ends refused for good.",
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
            "In the time shown: the collector refused them for good. Their rows stay in the ledger.",
            "locale",
            [Prom(f"sum({q.DROPPED_SPANS}){q.ZERO}")],
            Links(down=(OVERVIEW,), runbooks=DROPS),
            Look(width=8, height=7, decimals=0, steps=NONE_IS_GOOD),
        ),
        stat(
            "Attributes cut, spans discarded by Tempo",
            "In the time shown: attributes longer than `max_attribute_bytes`, and spans over a limit"
            " of Tempo's.",
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
            "Time of a commit",
            "No request leaves before its hold is committed, so each waits for one of these.",
            "s",
            [Prom(expr, f"{share:.0%}", step="") for share, expr in q.COMMIT_QUANTILES],
            Links(down=(LATENCY,), runbooks=LEDGER),
            Look(width=8, height=7),
        ),
        timeseries(
            "Commits and operations",
            "Operations that wait at the same time share a commit: the more load, the further the"
            " lines part.",
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
            "Attempts under way, and the age of the oldest; one older than the lease belongs to a"
            " gateway that is gone.",
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
            "Those of the last hours. Customers are capped, so this grows with models and routes,"
            " not with customers.",
            "short",
            [Prom(q.HEAD_SERIES, "series", step="")],
            Links(down=(OVERVIEW,), runbooks=ABSENT),
            Look(width=6, height=7),
        ),
        timeseries(
            "Into Prometheus",
            "Samples and exemplars taken, and samples that came too late to be.",
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
            "Spans a second.",
            "cps",
            [Prom(q.TEMPO_SPANS, "spans", step="")],
            Links(down=(OVERVIEW,), runbooks=DROPS),
            Look(width=6, height=7),
        ),
        timeseries(
            "Memory",
            "Resident bytes of each part.",
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
    "Whether every part is there, all telemetry arrives, and ledger, Prometheus and Tempo keep up.",
    "Whoever runs the stack.",
    [THERE, ARRIVES, KEEPS_UP, BEHIND],
    events=EVENTS,
    long=False,
)
