"""The stack's own health: backlog, losses, the ledger, and missing signals."""

from __future__ import annotations

from prometheus.src.recording import ALWAYS, WITH_BUDGETS, WITH_SPEND
from tests.rules.harness import Case, Fires

BACKLOG = "TelemetryBacklogGrowing"
DROPS = "CollectorDroppingData"
LEDGER = "LedgerSlowOrStuckHolds"
ABSENT = "SignalAbsent"
GATEWAY = '{instance="g1",job="gateway"}'
G2 = '{instance="g2",job="gateway"}'
TARGET = 'up{instance="gateway:4000",job="gateway"}'


def behind(text: str) -> Fires:
    """A backlog alert."""
    return Fires(
        f"The oldest row not yet accepted by the collector has waited {text}.", {"job": "gateway"}
    )


def lost(count: int, series: str, **where: str) -> Fires:
    """A loss alert."""
    part = where.get("exporter") or where.get("receiver")
    reason = where.get("spanledger_drop_reason")
    place = f" of {part}" if part else f" ({reason})"
    return Fires(
        f"{count} items were refused or lost in the last 5m: {series}{place}.",
        {"loss": series, **where},
        "lost",
        period="in the last 5m",
    )


def collector(series: str, values: str, **labels: str) -> dict[str, str]:
    """A counter or gauge of the collector."""
    text = ",".join(f'{key}="{value}"' for key, value in sorted(labels.items()))
    return {f'{series}{{instance="c1",job="collector",{text}}}': values}


def commits(slow: str, total: str) -> dict[str, str]:
    """The histogram of commits: those up to 0.1 s, and all of them."""
    name = "spanledger_ledger_commit_seconds"
    return {
        f'{name}_bucket{{instance="g1",job="gateway",le="0.1"}}': slow,
        f"{name}_count{GATEWAY}": total,
    }


def slow(share: str) -> Fires:
    """A slow disk alert."""
    return Fires(
        f"{share} of the commits of g1 took over 100 ms.",
        {"instance": "g1", "job": "gateway"},
        "slow",
        period="in the last 5m",
    )


def stuck(text: str) -> Fires:
    """A stuck hold alert."""
    return Fires(f"The oldest hold is {text} old.", {"job": "gateway"}, "holds")


def absent(signal: str) -> Fires:
    """The alert for a signal that no gateway exports."""
    return Fires(
        f"{signal} is missing: no gateway is scraped, or the metric was renamed.",
        {"signal": signal},
        "never",
    )


def unsent(signal: str) -> Fires:
    """The alert for a signal that traffic should have produced."""
    return Fires(
        f"{signal} does not arrive over OTLP: the shipper or the collector is down, or the metric was renamed.",
        {"signal": signal},
        "unsent",
    )


def gone(signal: str) -> Fires:
    """A signal that was there."""
    return Fires(f"{signal} was there within the last day and is gone.", {"signal": signal}, "gone")


HEALTHY = {f"{name}{GATEWAY}": "1x2000" for name in ALWAYS} | {
    f"spanledger_budgets_shown{GATEWAY}": "0x2000"
}
WITH_A_BUDGET = HEALTHY | {f"spanledger_budgets_shown{GATEWAY}": "1x2000"}
REQUESTS = "spanledger_request_duration_seconds_count"
ATTEMPTS = "gen_ai_client_operation_duration_seconds_count"
ATTEMPTED = "spanledger_request_cost_usd_count"
COST = "spanledger_cost_usd_total"
OPERATIONS = "spanledger_ledger_operations_total"
QUEUE = "otelcol_exporter_queue_size"
COLLECTOR = 'up{instance="c1",job="collector"}'
BUDGETS = [f"{name}{GATEWAY}" for name in (*WITH_BUDGETS, *WITH_SPEND)]
STEP = f"spanledger_budget_threshold_ratio{GATEWAY}"
OF_THE_PROCESS = (
    "spanledger_deployment_up",
    "spanledger_ledger_commit_seconds_bucket",
    "spanledger_ledger_commit_seconds_count",
    OPERATIONS,
)
"""What a gateway exports without its ledger."""
AGE = f"spanledger_outbox_age_seconds{GATEWAY}"
HOLD = f"spanledger_oldest_hold_seconds{GATEWAY}"
ROWS = "spanledger_outbox_rows"
TEMPO = {"exporter": "otlp_grpc/tempo"}
FAILED = "otelcol_exporter_enqueue_failed_spans"

CASES = [
    Case(BACKLOG, "seconds", {AGE: "5x30 100x60"}, {30: [], 60: []}),
    Case(
        BACKLOG,
        "a collector down for longer than its restart",
        {AGE: "1x9 130+60x60"},
        {14: [], 15: [behind("7m 10s")]},
    ),
    Case(BACKLOG, "back in time", {AGE: "1x9 130+60x4 1x60"}, {14: [], 15: [], 30: []}),
    Case(
        BACKLOG,
        "gateways that agree, and one missed scrape",
        {
            AGE: "1x9 130+60x3 _ 430+60x60",
            f"spanledger_outbox_age_seconds{G2}": "1x9 130+60x60",
        },
        {14: [], 15: [behind("7m 10s")]},
    ),
    Case(BACKLOG, "no data at all", {}, {0: [], 30: []}),
    Case(
        DROPS,
        "old losses",
        {**collector(FAILED, "5x60", **TEMPO), "spanledger_telemetry_dropped_total": "3x60"},
        {0: [], 10: [], 60: []},
    ),
    Case(
        DROPS,
        "the first loss, with which its counter begins",
        collector(FAILED, "_x20 5x60", **TEMPO),
        {
            19: [],
            20: [lost(5, FAILED, job="collector", **TEMPO)],
            54: [lost(5, FAILED, job="collector", **TEMPO)],
            55: [],
        },
    ),
    Case(
        DROPS,
        "receiver, exporter and shipper at once",
        {
            **collector("otelcol_receiver_refused_spans", "0x19 8x60", receiver="otlp"),
            **collector("otelcol_exporter_send_failed_metric_points", "0x19 4x60", exporter="p"),
            'spanledger_telemetry_dropped_total{spanledger_drop_reason="too_large"}': "0x19 4x60",
        },
        {
            19: [],
            20: [
                lost(8, "otelcol_receiver_refused_spans", job="collector", receiver="otlp"),
                lost(
                    4, "otelcol_exporter_send_failed_metric_points", job="collector", exporter="p"
                ),
                lost(4, "spanledger_telemetry_dropped_total", spanledger_drop_reason="too_large"),
            ],
        },
    ),
    Case(
        DROPS,
        "a collector that restarts",
        collector(FAILED, "50x19 0x60", **TEMPO),
        {19: [], 20: [], 30: []},
    ),
    Case(
        DROPS,
        "a queue half full",
        {
            **collector("otelcol_exporter_queue_size", "10x9 60x60", data_type="traces", **TEMPO),
            **collector("otelcol_exporter_queue_capacity", "100x90", data_type="traces", **TEMPO),
        },
        {
            14: [],
            15: [
                Fires(
                    "The queue of otlp_grpc/tempo (traces) is 60% full.",
                    {"instance": "c1", "job": "collector", "data_type": "traces", **TEMPO},
                    "queue",
                )
            ],
        },
    ),
    Case(DROPS, "no data at all", {}, {0: [], 30: []}),
    Case(LEDGER, "well", {**commits("0+99x60", "0+100x60"), HOLD: "590x60"}, {15: [], 60: []}),
    Case(
        LEDGER,
        "a slow disk",
        commits("0+90x60", "0+100x60"),
        {10: [], 11: [slow("10%")]},
    ),
    Case(
        LEDGER, "a process that restarts", commits("0+99x20 0+99x60", "0+100x20 0+100x60"), {40: []}
    ),
    Case(
        LEDGER,
        "a hold that outlasts its request",
        {HOLD: "1190+60x30", f"spanledger_oldest_hold_seconds{G2}": "1190+60x30"},
        {5: [], 6: [stuck("25m 50s")]},
    ),
    Case(
        LEDGER,
        "unreadable for two scrapes",
        {f"spanledger_ledger_up{GATEWAY}": "1x9 0x60", f"spanledger_ledger_up{G2}": "1x60"},
        {
            10: [],
            11: [
                Fires(
                    "g1 cannot read its ledger.",
                    {"instance": "g1", "job": "gateway"},
                    "unreadable",
                )
            ],
        },
    ),
    Case(LEDGER, "no data at all", {}, {0: [], 30: []}),
    Case(ABSENT, "everything present, no traffic yet", HEALTHY, {10: [], 60: []}),
    Case(
        ABSENT,
        "no data at all is one alert, on what every gateway exports",
        {TARGET: "_x60"},
        {9: [], 10: [absent(ALWAYS[0])]},
    ),
    Case(
        ABSENT,
        "a gateway that goes down alerts once, not for each of its signals",
        {name: values.replace("x2000", "x20") for name, values in WITH_A_BUDGET.items()}
        | dict.fromkeys((*BUDGETS, f"{REQUESTS}", f"{COST}"), "1x20")
        | {TARGET: "1x20 0x60"},
        {
            29: [],
            36: [
                absent(ALWAYS[0]),
                Fires(
                    "gateway:4000 (gateway) does not answer scrapes.",
                    {"instance": "gateway:4000", "job": "gateway", "signal": "up"},
                    "target",
                ),
            ],
        },
    ),
    Case(
        ABSENT,
        "a ledger that cannot be read has an alert of its own",
        {f"{name}{GATEWAY}": "0x20" for name in ALWAYS if name not in OF_THE_PROCESS}
        | {f"{name}{GATEWAY}": "1x90" for name in OF_THE_PROCESS}
        | {f"{ALWAYS[0]}{GATEWAY}": "1x20 0x90"},
        {20: [], 40: [], 60: []},
    ),
    Case(
        ABSENT,
        "renamed in an upgrade: missing from the start",
        {name: values for name, values in HEALTHY.items() if not name.startswith(ROWS)},
        {9: [], 10: [absent(ROWS)]},
    ),
    Case(
        ABSENT,
        "a figure of budgets renamed in an upgrade",
        WITH_A_BUDGET | {name: "1x60" for name in BUDGETS if "limit" not in name},
        {9: [], 10: [absent("spanledger_budget_limit_usd")]},
    ),
    Case(
        ABSENT,
        "the last budget is removed: its figures are not missing",
        HEALTHY
        | {f"spanledger_budgets_shown{GATEWAY}": "1x20 0x90"}
        | dict.fromkeys((*BUDGETS, STEP), "1x20 _x90"),
        {20: [], 40: [], 60: []},
    ),
    Case(
        ABSENT,
        "a period that begins with nothing spent has no forecast, and none is missing",
        WITH_A_BUDGET
        | {name: "1x90" for name in BUDGETS if "exhaustion" not in name and "spent" not in name}
        | {f"spanledger_budget_spent_usd{GATEWAY}": "1x20 0x40 1x90"}
        | {f"spanledger_budget_exhaustion_seconds{GATEWAY}": "1x20 _x40 1x90"},
        {20: [], 40: [], 60: [], 75: []},
    ),
    Case(
        ABSENT,
        "a forecast that is missing though something was spent",
        WITH_A_BUDGET | {name: "1x60" for name in BUDGETS if "exhaustion" not in name},
        {9: [], 10: [absent("spanledger_budget_exhaustion_seconds")]},
    ),
    Case(
        ABSENT,
        "requests without what they should send",
        HEALTHY | {f"{OPERATIONS}{GATEWAY}": "0+5x60"},
        {10: [], 11: [unsent(REQUESTS)]},
    ),
    Case(
        ABSENT,
        "OTLP that stops is one alert, with or without requests",
        HEALTHY | {REQUESTS: "1x20", COST: "1x20", ATTEMPTS: "1x20", ATTEMPTED: "1x20"},
        {34: [], 35: [unsent(REQUESTS)], 60: [unsent(REQUESTS)]},
    ),
    Case(
        ABSENT,
        "requests refused before any attempt have sent no attempt",
        HEALTHY | {f"{OPERATIONS}{GATEWAY}": "0+5x60", REQUESTS: "1x60"},
        {11: [], 60: []},
    ),
    Case(
        ABSENT,
        "what applications count does not prove the gateway's signals",
        HEALTHY
        | {f"{OPERATIONS}{GATEWAY}": "0+5x60", REQUESTS: "1x60", ATTEMPTED: "1x60"}
        | {f'{ATTEMPTS}{{spanledger_source="application_via_gateway"}}': "1x60"},
        {9: [], 10: [unsent(ATTEMPTS)]},
    ),
    Case(
        ABSENT,
        "seen, then gone, while the rest arrives",
        HEALTHY | {COST: "1x20", REQUESTS: "1x90"},
        {34: [], 35: [gone(COST)], 60: [gone(COST)]},
    ),
    Case(
        ABSENT,
        "a collector's queue gone while the collector answers, and a collector that is down",
        HEALTHY | {f'{QUEUE}{{exporter="tempo"}}': "1x20", COLLECTOR: "1x90"},
        {34: [], 35: [gone(QUEUE)]},
    ),
    Case(
        ABSENT,
        "a night off: a signal of the evening is missed only while it should be there",
        {name: values.replace("x2000", "x20 _x600 1x90") for name, values in WITH_A_BUDGET.items()}
        | dict.fromkeys((REQUESTS, COST, ATTEMPTS, ATTEMPTED, *BUDGETS), "1x20 _x601 1x90")
        | {TARGET: "1x20 _x600 1x90", COLLECTOR: "1x20 _x600 1x90"}
        | {f'{QUEUE}{{exporter="tempo"}}': "1x20 _x602 1x90"},
        {625: [], 640: [], 700: []},
    ),
    Case(
        ABSENT,
        "a gap of scrapes",
        HEALTHY | {COST: "1x20 _x12 1x60", REQUESTS: "1x90"},
        {20: [], 33: [], 36: []},
    ),
    Case(
        ABSENT,
        "a target that does not answer",
        HEALTHY | {TARGET: "1x9 0x60", 'up{instance="c1",job="collector"}': "1x60"},
        {
            19: [],
            20: [
                Fires(
                    "gateway:4000 (gateway) does not answer scrapes.",
                    {"instance": "gateway:4000", "job": "gateway", "signal": "up"},
                    "target",
                )
            ],
        },
    ),
]
