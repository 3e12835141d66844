"""Budgets: the ladder, the end, the forecast; renewals, several gateways, gaps."""

from __future__ import annotations

from tests.rules.harness import START_S, Case, Fires

DAY_S = 86_400
MONTH = (START_S - 10 * DAY_S, START_S + 20 * DAY_S)
"""1 November to 1 December: a third of it is over."""
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
) -> dict[str, str]:
    """The gauges of a customer's budget as one gateway shows them."""
    who = (
        f'budget="{name or subject}",instance="{instance}",job="gateway",scope="customer"'
        f',subject="{subject}"'
    )
    series = {
        "spent_usd": spent,
        "limit_usd": limit,
        "period_start_seconds": start or f"{period[0]}x3000",
        "period_end_seconds": f"{period[1]}x3000",
    }
    if exhaustion:
        series["exhaustion_seconds"] = exhaustion
    return {f"spanledger_budget_{key}{{{who}}}": values for key, values in series.items()}


def of(subject: str, period_start: int = MONTH[0]) -> dict[str, str]:
    """The labels an alert takes from a budget."""
    return {
        "budget": subject,
        "scope": "customer",
        "subject": subject,
        "period_start": str(period_start),
    }


def step(
    percent: int, usd: str, subject: str = "acme", start: int = MONTH[0], since: str = SINCE
) -> Fires:
    """A step of the ladder."""
    return Fires(
        f"Budget {subject} of customer {subject} is over {percent} %: {usd} USD spent {since}.",
        {**of(subject, start), "threshold": str(percent)},
        str(percent),
        f"{usd} USD",
        since,
    )


def used_up(usd: str, subject: str = "acme") -> Fires:
    """A budget at its end."""
    return Fires(
        f"Budget {subject} of customer {subject} is used up: {usd} USD spent {SINCE}.",
        of(subject),
        "",
        f"{usd} USD",
        SINCE,
    )


def early(usd: str, subject: str = "acme") -> Fires:
    """A forecast."""
    return Fires(
        f"Budget {subject} of customer {subject} will be used up early: {usd} USD spent {SINCE}.",
        of(subject),
        "",
        f"{usd} USD",
        SINCE,
    )


def denied(values: str, scope: str = "customer") -> dict[str, str]:
    """Refusals by budgets of a scope."""
    labels = f'spanledger_budget_decision="deny",spanledger_budget_scope="{scope}"'
    return {f"spanledger_budget_decisions_total{{{labels}}}": values}


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
        "each step at its minute, and those before stay",
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
        "a gateway not scraped since the renewal does not bring the old spend into the new period",
        {
            **budget("acme", "6x29 0.1x100", start=RENEWS),
            **budget("acme", "6x33 0.1x100", start=f"{MONTH[0]}x33 {DEC[0]}x100", instance="g2"),
        },
        {29: [step(50, "6.00")], 44: [step(50, "6.00")], 45: [], 60: []},
    ),
    Case(
        LADDER,
        "a gap of scrapes is neither an end nor a second alert",
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
        "a limit raised takes the step back once the gap has passed",
        budget("acme", "6x100", limit="10x9 20x100"),
        {9: [step(50, "6.00")], 24: [step(50, "6.00")], 25: []},
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
        "one odd scrape is no end",
        budget("acme", "9.8x9 9.9 9.8x60"),
        {10: [], 11: [], 12: []},
    ),
    Case(
        END,
        "refused well before: the fullest of the scope, and no other",
        {**budget("acme", "8.2x60"), **budget("globex", "7.8x60"), **denied("0x19 3x60")},
        {20: [], 21: [used_up("8.20")]},
    ),
    Case(
        END,
        "a first refusal whose counter begins above zero",
        {**budget("acme", "8.2x60"), **denied("_x20 2x60")},
        {20: [], 21: [used_up("8.20")]},
    ),
    Case(
        END,
        "refusals of another scope, or with none that is full, accuse nobody",
        {**budget("acme", "7.4x60"), **denied("0x9 3x60"), **denied("0x9 3x60", "model")},
        {10: [], 20: []},
    ),
    Case(
        END,
        "whoever is at the end explains the refusals of others",
        {**budget("acme", "9.9x60"), **budget("globex", "8x60"), **denied("0x9 3x60")},
        {12: [used_up("9.90")]},
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
            period=(START_S - 2 * DAY_S, START_S + 28 * DAY_S),
            exhaustion=f"{DAY_S}x100",
        ),
        {30: [], 100: []},
    ),
    Case(
        EARLY,
        "little spent is quiet",
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
        "a day's budget has no forecast",
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
        "the ladder's last step ends the forecast",
        budget("acme", "9x59 9.6x300", exhaustion="100000x400"),
        {59: [early("9.00")], 179: [early("9.00")], 180: []},
    ),
    Case(
        EARLY,
        "a renewal ends it",
        budget(
            "acme", "5x59 0.1x300", start=f"{MONTH[0]}x59 {DEC[0]}x300", exhaustion="864000x400"
        ),
        {59: [early("5.00")], 179: [early("5.00")], 180: []},
    ),
    Case(
        EARLY,
        "a gap of scrapes does not end it",
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
