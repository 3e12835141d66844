"""Figures that arrive oddly: late, torn, unreadable, under unexpected names."""

from __future__ import annotations

from functools import partial

from tests.rules.cases_budgets import (
    DAY_S,
    DEC,
    DEC_SINCE,
    EARLY,
    END,
    LADDER,
    MONTH,
    budget,
    denied,
    early,
    step,
    used_up,
)
from tests.rules.cases_machinery import (
    AGE,
    BACKLOG,
    DROPS,
    GATEWAY,
    LEDGER,
    behind,
    collector,
    lost,
)
from tests.rules.cases_providers import (
    BURN,
    DOWN,
    SLOW,
    STORM,
    attempts,
    burn,
    down,
    fallbacks,
    requests,
    slow,
    storm,
    streams,
    up,
)
from tests.rules.cases_spend import BOTH, DAY, SPIKE, USUAL, cost, spike
from tests.rules.harness import START_S, Case

HELD = f"0+0.1x{DAY} {DAY / 10:g}x90"
"""A customer for whom nothing new arrives for an hour and a half, though the shipper sends."""
BACK = DAY + 92
"""The minute at which everything arrives."""
OLD = f"3x{DAY} 60+60x90 3x400"
"""The age of the oldest row meanwhile."""
NIGHT_G1 = f"{MONTH[0]}x29 {DEC[0]}x300"
AHEAD_G2 = f"{MONTH[0]}x26 {DEC[0]}x300"
"""Two gateways, one of them three minutes ahead."""
WEEK = (START_S - 3 * DAY_S, START_S - 3 * DAY_S + 167 * 3600)
"""A week in which clocks go forward."""

CASES = [
    Case(
        SPIKE,
        "spans not accepted for an hour and a half, arriving in one minute",
        {**cost("acme", f"{HELD} 170+0.1x120"), AGE: OLD},
        {BACK: [], BACK + 6: [], BACK + 10: [], BACK + 15: [], BACK + 60: []},
    ),
    Case(
        SPIKE,
        "one that continues after late data alerts",
        {**cost("acme", f"{HELD} 170+1x120"), AGE: OLD},
        {BACK + 18: [], BACK + 30: [spike(*who, "15.00") for who in BOTH]},
    ),
    Case(
        SPIKE,
        "rows that wait for some minutes hide no spike",
        {**cost("acme", f"{USUAL} 157+1x120"), AGE: "500x3000"},
        {DAY + 10: [spike(*who, "11.14") for who in BOTH]},
    ),
    Case(
        STORM,
        "one that is over when its spans arrive",
        {
            **requests("0+10x30 310x60 1000+10x60"),
            **fallbacks("0x91 400x60"),
            AGE: "3x30 60+60x60 3x90",
        },
        {92: [], 94: [], 96: [], 120: []},
    ),
    Case(
        STORM,
        "one that continues alerts",
        {
            **requests("0+10x30 310x60 1000+10x90"),
            **fallbacks("0x91 400+10x90"),
            AGE: "3x30 60+60x60 3x120",
        },
        {110: [], 115: [storm("100%")]},
    ),
    Case(
        BURN,
        "an outage that is over when its spans arrive",
        {
            **attempts("0+10x30 310x60 600+10x60"),
            **attempts("0x91 400x60", "overloaded"),
            **requests("0+10x30 310x60 600+10x60"),
            **requests("0x91 400x60", error="overloaded"),
            AGE: "3x30 60+60x60 3x90",
        },
        {93: [], 96: [burn("34.04%", "ticket")]},
    ),
    Case(
        LADDER,
        "a limit lowered",
        budget("acme", "6x60", limit="20x9 10x60"),
        {9: [], 10: [step(50, "6.00")]},
    ),
    Case(
        LADDER,
        "a gateway whose clock is ahead renews early, and carries nothing into the new period",
        {
            **budget("acme", "6x29 0.1x60", start=NIGHT_G1),
            **budget("acme", "6x26 0.1x60", start=AHEAD_G2, instance="g2"),
        },
        {
            26: [step(50, "6.00")],
            29: [step(50, "6.00")],
            41: [step(50, "6.00")],
            42: [],
            60: [],
        },
    ),
    *(
        Case(
            alert,
            "a gateway whose clock stands still keeps no period alive",
            {
                **budget("acme", f"{usd}x29 0.1x300", start=NIGHT_G1, exhaustion="864000x400"),
                **budget("acme", f"{usd}x400", exhaustion="864000x400", instance="g2"),
            },
            {29: [told(usd)], 44: [told(usd)], 45: []},
        )
        for alert, usd, told in ((LADDER, "6.00", partial(step, 50)), (END, "9.90", used_up))
    ),
    Case(
        LADDER,
        "a clock set back for some minutes",
        budget(
            "acme",
            "6x29 0.1x4 6x4 0.1x60",
            start=f"{MONTH[0]}x29 {DEC[0]}x4 {MONTH[0]}x4 {DEC[0]}x60",
        ),
        {29: [step(50, "6.00")], 34: [step(50, "6.00")], 39: [step(50, "6.00")], 60: []},
    ),
    Case(
        LADDER,
        "one crossed in the minute of the renewal belongs to the new period",
        budget("acme", "4x29 8.5x60", start=NIGHT_G1),
        {
            29: [],
            30: [step(p, "8.50", start=DEC[0], since=DEC_SINCE) for p in (50, 80)],
        },
    ),
    Case(
        LADDER,
        "an account missing for half an hour alerts again: it must always be exported",
        budget("acme", "6x20 stale _x29 6x60", start=f"{MONTH[0]}x20 stale _x29 {MONTH[0]}x60"),
        {20: [step(50, "6.00")], 39: [step(50, "6.00")], 41: [], 51: [step(50, "6.00")]},
    ),
    Case(
        END,
        "a scrape that fails while it waits",
        budget("acme", "9x9 9.9 stale 9.9x60", start=f"{MONTH[0]}x10 stale {MONTH[0]}x60"),
        {10: [], 11: [used_up("9.90")]},
    ),
    Case(
        END,
        "one of two gateways is down, and its last figures are older",
        {
            **budget("acme", "9.9x60"),
            **budget("acme", "9.8x9 stale", instance="g2"),
            **denied("0x60"),
        },
        {5: [used_up("9.90")], 40: [used_up("9.90")]},
    ),
    Case(
        EARLY,
        "scrapes that fail occasionally do not delay it",
        budget(
            "acme",
            "5x9 stale 5x9 stale 5x100",
            start=f"{MONTH[0]}x9 stale {MONTH[0]}x9 stale {MONTH[0]}x100",
            exhaustion="864000x9 stale 864000x9 stale 864000x100",
        ),
        {29: [], 30: [early("5.00")]},
    ),
    Case(
        EARLY,
        "a week of 167 hours has one, a day of 25 has none",
        {
            **budget("acme", "5x100", period=WEEK, exhaustion=f"{DAY_S}x100"),
            **budget(
                "globex",
                "5x100",
                period=(START_S - 12 * 3600, START_S + 13 * 3600),
                exhaustion="3600x100",
            ),
        },
        {40: [early("5.00", since="since 2026-11-08 00:00:00 +0000 UTC", start=WEEK[0])]},
    ),
    Case(
        DOWN,
        "a gateway that goes down, and its restart",
        {**up("a", "1x9 0x3 stale _x3 1x60")},
        {12: [down()], 19: [down()], 20: []},
    ),
    Case(
        SLOW,
        "all are slower than the last bucket",
        streams({"5.12": "0x90", "81.92": "0x90", "+Inf": "0+5x90"}),
        {11: [], 15: [slow("1m 21s")]},
    ),
    Case(
        BACKLOG,
        "a scrape that fails while it waits, and one while it fires",
        {AGE: "1x9 130x2 stale 130x7 stale 130x60"},
        {14: [], 15: [behind("2m 10s")], 20: [behind("2m 10s")], 30: [behind("2m 10s")]},
    ),
    Case(
        DROPS,
        "a collector that restarts with a loss",
        collector("otelcol_exporter_enqueue_failed_spans", "50x19 stale _ 4x60", exporter="e"),
        {
            19: [],
            21: [],
            22: [lost(5, "otelcol_exporter_enqueue_failed_spans", job="collector", exporter="e")],
        },
    ),
    Case(
        LEDGER,
        "a scrape that fails, a gateway that goes down",
        {f"spanledger_ledger_up{GATEWAY}": "1x9 stale 1x9 stale"},
        {10: [], 11: [], 12: [], 30: []},
    ),
]
