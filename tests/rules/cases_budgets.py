"""Budgets: thresholds, exhaustion, forecast; renewals, several gateways, gaps."""

from __future__ import annotations

from tests.rules.harness import START_S, Case, Fires, as_string

DAY_S = 86_400
MONTH = (START_S - 10 * DAY_S, START_S + 20 * DAY_S)
"""1 November to 1 December: a third of it has passed."""
SINCE = "since 2026-11-01 00:00:00 +0000 UTC"


def budget(
    subject: str,
    spent: str,
    *,
    limit: str = "10x3000",
    period: tuple[int, int] = MONTH,
    start: str = "",
    exhaustion: str = "",
    instance: str = "g1",
    name: str = "",
    scope: str = "customer",
    thresholds: tuple[int, ...] = (50, 80, 95),
    blocks: str = "1x3000",
) -> dict[str, str]:
    """The gauges of a budget's account as one gateway exports them."""
    who = (
        f"budget={as_string(name or subject)}"
        f',instance="{instance}",job="gateway",scope="{scope}",subject={as_string(subject)}'
    )
    series = {
        "spent_usd": spent,
        "limit_usd": limit,
        "period_start_seconds": start or f"{period[0]}x3000",
        "period_end_seconds": f"{period[1]}x3000",
        "blocks": blocks,
    }
    if exhaustion:
        series["exhaustion_seconds"] = exhaustion
    steps = {
        f'spanledger_budget_threshold_ratio{{{who},threshold="{step}"}}': f"{step / 100}x3000"
        for step in thresholds
    }
    return {f"spanledger_budget_{key}{{{who}}}": values for key, values in series.items()} | steps


def of(
    subject: str, period_start: int = MONTH[0], *, name: str = "", scope: str = "customer"
) -> dict[str, str]:
    """The labels an alert takes from a budget."""
    return {
        "budget": name or subject,
        "scope": scope,
        "subject": subject,
        "period_start": str(period_start),
    }


def step(
    percent: int, usd: str, subject: str = "acme", start: int = MONTH[0], since: str = SINCE
) -> Fires:
    """A threshold alert."""
    return Fires(
        f"Budget {subject} of customer {subject} is over {percent} %: {usd} USD spent {since}.",
        {**of(subject, start), "threshold": str(percent)},
        "",
        f"{usd} USD",
        since,
    )


def used_up(
    usd: str,
    subject: str = "acme",
    *,
    name: str = "",
    scope: str = "customer",
    whose: str = "",
    warns: bool = False,
) -> Fires:
    """An exhausted budget."""
    return Fires(
        f"Budget {name or subject} of {whose or f'{scope} {subject}'} is used up: {usd} USD spent"
        f" {SINCE}. {'It only warns: requests continue.' if warns else 'Requests are refused until its period ends.'}",
        of(subject, name=name, scope=scope),
        "warns" if warns else "",
        f"{usd} USD",
        SINCE,
    )


def early(usd: str, subject: str = "acme", start: int = MONTH[0], since: str = SINCE) -> Fires:
    """A forecast alert."""
    return Fires(
        f"Budget {subject} of customer {subject} will be used up early: {usd} USD spent {since}.",
        of(subject, start),
        "",
        f"{usd} USD",
        since,
    )


def denied(values: str, budget: str = "acme", scope: str = "customer") -> dict[str, str]:
    """Refusals by a budget."""
    labels = (
        f'spanledger_budget_decision="deny",spanledger_budget_refused_by="{budget}"'
        f',spanledger_budget_scope="{scope}"'
    )
    return {f"spanledger_budget_decisions_total{{{labels}}}": values}


ODD_NAMES = ('a"b', "x\\y", "Café Ünlü & 東京 50%", "{{ $value }} `+' #?=/")
"""A name may contain any printable character."""
DEC = (START_S + 1800, START_S + 1800 + 31 * DAY_S)
"""A period that begins at minute 30."""
DEC_SINCE = "since 2026-11-11 00:30:00 +0000 UTC"
RENEWS = f"{MONTH[0]}x29 {DEC[0]}x300"
LADDER = "BudgetThresholdCrossed"
END = "BudgetExhausted"
EARLY = "BudgetWillExhaustEarly"

CASES = [
    Case(LADDER, "under half", budget("acme", "4.99x60"), {0: [], 30: [], 60: []}),
    Case(
        LADDER,
        "each threshold at its minute, and earlier ones stay",
        budget("acme", "4.9x9 5x9 8.5x9 9.5x30"),
        {
            9: [],
            10: [step(50, "5.00")],
            19: [step(50, "5.00")],
            20: [step(50, "8.50"), step(80, "8.50")],
            29: [step(50, "8.50"), step(80, "8.50")],
            30: [step(50, "9.50"), step(80, "9.50"), step(95, "9.50")],
        },
    ),
    Case(
        LADDER,
        "a renewal ends it, and the next period is another alert",
        budget("acme", "6x29 0.1x29 5.5x100", start=RENEWS),
        {
            29: [step(50, "6.00")],
            30: [step(50, "6.00")],
            44: [step(50, "6.00")],
            45: [],
            59: [],
            60: [step(50, "5.50", start=DEC[0], since=DEC_SINCE)],
        },
    ),
    Case(
        LADDER,
        "a gateway not scraped since the renewal does not carry the old spend into the new period",
        {
            **budget("acme", "6x29 0.1x100", start=RENEWS),
            **budget("acme", "6x33 0.1x100", start=f"{MONTH[0]}x33 {DEC[0]}x100", instance="g2"),
        },
        {29: [step(50, "6.00")], 44: [step(50, "6.00")], 45: [], 60: []},
    ),
    Case(
        LADDER,
        "a gap in scrapes neither resolves nor repeats the alert",
        budget("acme", "6x20 _x14 6x60", start=f"{MONTH[0]}x20 _x14 {MONTH[0]}x60"),
        {
            20: [step(50, "6.00")],
            28: [step(50, "6.00")],
            34: [step(50, "6.00")],
            36: [step(50, "6.00")],
        },
    ),
    Case(
        LADDER,
        "two customers at once, and gateways that agree",
        {
            **budget("acme", "6x60"),
            **budget("acme", "6x60", instance="g2"),
            **budget("globex", "4x9 8.1x60"),
            **budget("initech", "1x60"),
        },
        {
            9: [step(50, "6.00")],
            10: [step(50, "6.00"), step(50, "8.10", "globex"), step(80, "8.10", "globex")],
        },
    ),
    Case(
        LADDER,
        "raising the limit resolves the threshold once the gap has passed",
        budget("acme", "6x100", limit="10x9 20x100"),
        {9: [step(50, "6.00")], 24: [step(50, "6.00")], 25: []},
    ),
    Case(
        LADDER,
        "limit raised: the threshold alerts again when it is crossed again",
        budget("acme", "6x40 11x60", limit="10x9 20x100"),
        {9: [step(50, "6.00")], 25: [], 40: [], 41: [step(50, "11.00")]},
    ),
    Case(
        LADDER,
        "each budget has its own thresholds",
        {
            **budget("acme", "6x9 7x60", thresholds=(70,)),
            **budget("globex", "6x9 7x60", thresholds=()),
            **budget("initech", "6x9 10x60", thresholds=(60, 100)),
        },
        {
            9: [step(60, "6.00", "initech")],
            10: [step(70, "7.00"), step(60, "10.00", "initech"), step(100, "10.00", "initech")],
        },
    ),
    Case(
        LADDER,
        "a budget removed in the middle of its period",
        budget("acme", "6x9 _x60", start=f"{MONTH[0]}x9 _x60"),
        {9: [step(50, "6.00")], 30: []},
    ),
    Case(LADDER, "no data at all", {}, {0: [], 30: []}),
    Case(END, "just under", budget("acme", "9.89x60"), {0: [], 60: []}),
    Case(
        END,
        "at 99 of 100",
        budget("acme", "9.8x9 9.9x60"),
        {10: [], 11: [used_up("9.90")]},
    ),
    Case(
        END,
        "one odd scrape does not resolve it",
        budget("acme", "9.8x9 9.9 9.8x60"),
        {10: [], 11: [], 12: []},
    ),
    Case(
        END,
        "refused well before the limit, and a fuller one that refuses nobody",
        {**budget("acme", "7.6x60"), **budget("globex", "8.7x60"), **denied("0x19 1x60")},
        {20: [], 21: [used_up("7.60")], 38: [used_up("7.60")], 39: []},
    ),
    Case(
        END,
        "a first refusal whose counter begins above zero",
        {**budget("acme", "8.2x60"), **denied("_x20 2x60")},
        {20: [], 21: [used_up("8.20")]},
    ),
    Case(
        END,
        "for a budget with an account per subject, the fullest explains the refusals",
        {
            **budget("acme", "9.9x60", name="each"),
            **budget("globex", "8x60", name="each"),
            **budget("initech", "8.5x60"),
            **denied("0x9 3x60", "each"),
        },
        {12: [used_up("9.90", name="each")]},
    ),
    Case(
        END,
        "an expensive request that does not fit, a zero limit, another's refusals: none is exhausted",
        {
            **budget("acme", "2x60"),
            **denied("0x9 3x60"),
            **budget("blocked", "0x60", limit="0x60"),
            **denied("0x9 3x60", "blocked"),
            **budget("globex", "8x60"),
            **denied("0x9 3x60", "gpt-4o", "model"),
            **budget("initech", "7.4x60"),
            **denied("0x9 3x60", "initech"),
        },
        {10: [], 14: []},
    ),
    Case(
        END,
        "one that only warns is a ticket, and its text does not say it refuses",
        {
            **budget("acme", "9.8x9 12x90", limit="10x29 20x90", blocks="0x90"),
            **budget("globex", "9.9x90"),
        },
        {
            10: [used_up("9.90", "globex")],
            11: [used_up("9.90", "globex"), used_up("12.00", warns=True)],
            44: [used_up("9.90", "globex"), used_up("12.00", warns=True)],
            45: [used_up("9.90", "globex")],
        },
    ),
    Case(
        END,
        "a budget is switched to block while it is over its limit",
        budget("acme", "12x60", blocks="0x9 1x60"),
        {10: [used_up("12.00", warns=True)], 11: [used_up("12.00"), used_up("12.00", warns=True)]},
    ),
    Case(
        END,
        "raising the limit resolves it, and so does removing the budget",
        {
            **budget("acme", "9.9x60", limit="10x9 20x60"),
            **budget("globex", "9.9x9 _x60", start=f"{MONTH[0]}x9 _x60"),
        },
        {
            9: [used_up("9.90"), used_up("9.90", "globex")],
            24: [used_up("9.90"), used_up("9.90", "globex")],
            30: [],
        },
    ),
    Case(END, "a limit of nothing", budget("acme", "0x60", limit="0x60"), {0: [], 60: []}),
    Case(
        END,
        "two customers at once, then a renewal",
        {
            **budget("acme", "10x29 0x100", start=RENEWS),
            **budget("globex", "9.95x60"),
        },
        {
            29: [used_up("10.00"), used_up("9.95", "globex")],
            44: [used_up("10.00"), used_up("9.95", "globex")],
            45: [used_up("9.95", "globex")],
        },
    ),
    Case(
        END,
        "each scope links to its own traces, and a global budget names everybody",
        {
            **budget("key_12ab", "9.9x60", scope="key"),
            **budget("search", "9.9x60", scope="team"),
            **budget("gpt-4o", "9.9x60", scope="model"),
            **budget("openai", "9.9x60", scope="provider"),
            **budget("*", "9.9x60", scope="global", name="all"),
            **budget("globex", "9.9x60", name="each"),
            **budget("acme", "1x60", name="each"),
        },
        {
            5: [
                used_up("9.90", "key_12ab", scope="key"),
                used_up("9.90", "search", scope="team"),
                used_up("9.90", "gpt-4o", scope="model"),
                used_up("9.90", "openai", scope="provider"),
                used_up("9.90", "*", name="all", scope="global", whose="everybody"),
                used_up("9.90", "globex", name="each"),
            ]
        },
    ),
    Case(
        END,
        "names with quotes, backslashes, spaces and letters of any alphabet",
        {name: value for who in ODD_NAMES for name, value in budget(who, "9.9x60").items()},
        {5: [used_up("9.90", who) for who in ODD_NAMES]},
    ),
    Case(
        END,
        "less than a dollar",
        budget("acme", "0.00498x60", limit="0.005x60"),
        {5: [used_up("0.00498")]},
    ),
    Case(END, "no data at all", {}, {0: [], 30: []}),
    Case(
        EARLY,
        "half spent in a third of the month",
        budget("acme", "5x100", exhaustion=f"{10 * DAY_S}x100"),
        {29: [], 30: [early("5.00")]},
    ),
    Case(
        EARLY,
        "on pace",
        budget("acme", "3.5x100", exhaustion=f"{18.6 * DAY_S:.0f}x100"),
        {30: [], 100: []},
    ),
    Case(
        EARLY,
        "the start of a period is quiet, however fast",
        budget(
            "acme",
            "6x100",
            period=(START_S - 68 * 3600, START_S + 652 * 3600),
            exhaustion=f"{DAY_S}x100",
        ),
        {30: [], 100: []},
    ),
    Case(
        EARLY,
        "a tenth of the period and a third of the money are enough",
        budget(
            "acme",
            "3.5x100",
            period=(START_S - 80 * 3600, START_S + 640 * 3600),
            exhaustion=f"{149 * 3600}x100",
        ),
        {
            30: [
                early("3.50", since="since 2026-11-07 16:00:00 +0000 UTC", start=START_S - 288_000)
            ],
        },
    ),
    Case(
        EARLY,
        "low spend is quiet",
        budget(
            "acme",
            "3x100",
            period=(START_S - 4 * DAY_S, START_S + 26 * DAY_S),
            exhaustion=f"{9 * DAY_S}x100",
        ),
        {30: [], 100: []},
    ),
    Case(
        EARLY,
        "a daily budget has no forecast",
        budget(
            "acme",
            "6x100",
            period=(START_S - DAY_S // 2, START_S + DAY_S // 2),
            exhaustion="3600x100",
        ),
        {30: [], 100: []},
    ),
    Case(
        EARLY,
        "the last threshold ends the forecast",
        budget("acme", "9x59 9.6x300", exhaustion="100000x400"),
        {59: [early("9.00")], 179: [early("9.00")], 180: []},
    ),
    Case(
        EARLY,
        "a renewal resolves it",
        budget(
            "acme", "5x59 0.1x300", start=f"{MONTH[0]}x59 {DEC[0]}x300", exhaustion="864000x400"
        ),
        {59: [early("5.00")], 179: [early("5.00")], 180: []},
    ),
    Case(
        EARLY,
        "a gap in scrapes does not resolve it",
        budget(
            "acme",
            "5x59 _x20 5x300",
            start=f"{MONTH[0]}x59 _x20 {MONTH[0]}x300",
            exhaustion="864000x400",
        ),
        {59: [early("5.00")], 75: [early("5.00")], 100: [early("5.00")]},
    ),
    Case(
        EARLY,
        "two customers at once, and one on pace",
        {
            **budget("acme", "5x100", exhaustion="864000x100"),
            **budget("globex", "6x100", exhaustion="576000x100"),
            **budget("initech", "3x100", exhaustion="2016000x100"),
        },
        {29: [], 30: [early("5.00"), early("6.00", "globex")]},
    ),
    Case(EARLY, "no data at all", {}, {0: [], 60: []}),
]
