"""Spend: spikes against a baseline, models without a price, costs above their hold."""

from __future__ import annotations

from tests.rules.harness import Case, Fires

SPIKE = "CostSpike"
UNPRICED = "UnpricedUsage"
OVERRUN = "BudgetOverrun"
DAY = 1560
"""26 hours in minutes: a day to count as known, and more for the baseline."""


def cost(customer: str, values: str, model: str = "gpt-4o") -> dict[str, str]:
    """A customer's cost counter."""
    labels = (
        f'gen_ai_provider_name="openai",gen_ai_request_model="{model}"'
        f',spanledger_customer="{customer}"'
    )
    return {f"spanledger_cost_usd_total{{{labels}}}": values}


def spike(scope: str, subject: str, usd: str) -> Fires:
    """A spike alert."""
    return Fires(
        f"{scope} {subject} spent {usd} USD in 15 minutes, over 4 times the rate of its busy hours.",
        {"scope": scope, "subject": subject},
        "",
        f"{usd} USD",
        "in the last 15 minutes",
    )


def unpriced(requests: int, model: str = "new-model") -> Fires:
    """An unpriced usage alert; without a model, for requests refused before any attempt."""
    who = {"gen_ai_provider_name": "openai", "gen_ai_request_model": model} if model else {}
    what = f"Model {model}, behind route r" if model else "A model behind route r"
    return Fires(
        f"{what}, has no price: {requests} requests in 10m were charged nothing or refused.",
        {**who, "spanledger_route": "r"},
        period="in the last 10m",
    )


def overrun(usd: str, customer: str = "acme") -> Fires:
    """An overrun alert."""
    return Fires(
        f"Customer {customer} was charged {usd} USD beyond what was held, for gpt-4o in 1h.",
        {"subject": customer, "gen_ai_request_model": "gpt-4o"},
        amount=f"{usd} USD",
        period="in the last 1h",
    )


def count(model: str, values: str) -> dict[str, str]:
    """The counter of requests without a price; those without a model were refused."""
    who = f'gen_ai_provider_name="openai",gen_ai_request_model="{model}"'
    kind = who if model else 'error_type="unpriced_model"'
    return {f'spanledger_unpriced_requests_total{{{kind},spanledger_route="r"}}': values}


def beyond(values: str, customer: str = "acme") -> dict[str, str]:
    """The counter of money beyond the hold."""
    labels = (
        f'gen_ai_provider_name="openai",gen_ai_request_model="gpt-4o"'
        f',spanledger_customer="{customer}"'
    )
    return {f"spanledger_overrun_usd_total{{{labels}}}": values}


USUAL = f"0+0.1x{DAY}"
"""1.50 USD every quarter of an hour."""
WEEKEND_OFF = 3 * 1440
WEEKEND = f"0+0.1x{DAY} _x{WEEKEND_OFF} 156+0.1x119"
TENFOLD = f"{USUAL} 157+1x120"
BOTH = ("customer", "acme"), ("model", "gpt-4o")

QUIET = {
    **cost("busy hour, threefold", f"{USUAL} 156.3+0.3x180", "q1"),
    **cost("new customer", f"_x{DAY - 180} 0+0.1x180 19+1x120", "q2"),
    **cost("customer of twenty hours", f"_x{DAY - 1200} 0+0.1x1199 121+1x120", "q8"),
    **cost("first sample", f"_x{DAY} 80x120", "q3"),
    **cost("cents, fortyfold", f"0+0.001x{DAY} 1.6+0.04x180", "q4"),
    **cost("a counter that restarts", f"0+0.1x{DAY} 0+0.1x180", "q5"),
    **cost("a gap made up for at once", f"{USUAL} _x50 161+0.1x120", "q6"),
    **cost("as ever", f"0+3x{DAY + 200}", "q7"),
}

CASES = [
    Case(
        SPIKE,
        "tenfold, by customer and model; it resolves 15 minutes after the spend is normal again",
        cost("acme", f"{USUAL} 157+1x29 186.1+0.1x180"),
        {
            DAY + 9: [],
            DAY + 10: [spike(*who, "11.14") for who in BOTH],
            DAY + 30: [spike(*who, "15.00") for who in BOTH],
            DAY + 54: [spike(*who, "6.32") for who in BOTH],
            DAY + 55: [],
        },
    ),
    Case(
        SPIKE,
        "daily rhythm, new customers, cents, restarts and gaps are not spikes",
        QUIET,
        {
            DAY: [],
            DAY + 10: [],
            DAY + 15: [],
            DAY + 20: [],
            DAY + 58: [],
            DAY + 60: [],
            DAY + 110: [],
        },
    ),
    Case(
        SPIKE,
        "two customers at once, one of them silent for a day: a leaked key",
        {
            **cost("acme", TENFOLD, "m1"),
            **cost("globex", f"50x{DAY} 51+1x60", "m2"),
            **cost("initech", f"0+3x{DAY + 200}", "m2"),
        },
        {
            DAY + 9: [],
            DAY + 10: [
                spike("customer", "acme", "11.14"),
                spike("customer", "globex", "10.71"),
                spike("model", "m1", "11.14"),
            ],
            DAY + 11: [
                spike("customer", "acme", "12.11"),
                spike("customer", "globex", "11.79"),
                spike("model", "m1", "12.11"),
            ],
        },
    ),
    Case(
        SPIKE,
        "a stack that was off over a weekend knows on Monday only the customers of Friday",
        {
            **cost("acme", f"{WEEKEND} 169+1x120", "m1"),
            **cost("globex", f"_x{DAY + WEEKEND_OFF} 0+0.1x120 19+1x120", "m2"),
        },
        {
            DAY + WEEKEND_OFF + 129: [],
            DAY + WEEKEND_OFF + 130: [
                spike("customer", "acme", "11.25"),
                spike("model", "m1", "11.25"),
            ],
        },
    ),
    Case(SPIKE, "no data at all", {}, {10: [], 60: []}),
    Case(UNPRICED, "none new", count("new-model", "7x100"), {0: [], 10: [], 60: [], 100: []}),
    Case(
        UNPRICED,
        "one request is enough, with one ticket per hour",
        count("new-model", "0x19 1x200"),
        {19: [], 20: [unpriced(1)], 88: [unpriced(1)], 89: []},
    ),
    Case(
        UNPRICED,
        "a first sample above zero",
        count("new-model", "_x20 3x200"),
        {19: [], 20: [unpriced(3)]},
    ),
    Case(
        UNPRICED,
        "refused requests count too, and have no model",
        count("", "0x19 2x100"),
        {19: [], 20: [unpriced(2, "")]},
    ),
    Case(
        UNPRICED,
        "a counter that restarts at zero",
        count("new-model", "7x29 0x60"),
        {29: [], 30: [], 40: []},
    ),
    Case(
        UNPRICED,
        "a gap in scrapes makes nothing new",
        count("new-model", "7x29 _x40 7x60"),
        {29: [], 70: [], 80: []},
    ),
    Case(
        UNPRICED,
        "a Prometheus that has just started sees nothing new",
        {'up{instance="gateway:4000",job="gateway"}': "_x5 1x60", **count("new-model", "_x5 7x60")},
        {5: [], 10: [], 14: [], 20: []},
    ),
    Case(
        UNPRICED,
        "two models at once",
        {**count("new-model", "0x19 1x60"), **count("other-model", "0x19 4x60")},
        {19: [], 20: [unpriced(1), unpriced(4, "other-model")]},
    ),
    Case(UNPRICED, "no data at all", {}, {0: [], 30: []}),
    Case(OVERRUN, "rounding", beyond("0x9 0.005x100"), {10: [], 60: []}),
    Case(OVERRUN, "two cents", beyond("0x69 0.02x200"), {69: [], 70: [overrun("0.02")], 140: []}),
    Case(
        OVERRUN,
        "a new customer's first sample",
        beyond("_x70 0.05x200"),
        {69: [], 70: [overrun("0.05")]},
    ),
    Case(OVERRUN, "a counter that restarts", beyond("3x69 0x60"), {70: [], 80: []}),
    Case(OVERRUN, "a gap of scrapes", beyond("3x69 _x30 3x60"), {69: [], 105: []}),
    Case(
        OVERRUN,
        "two customers at once",
        {**beyond("0x69 0.02x200"), **beyond("0x69 1x200", "globex"), **beyond("9x200", "quiet")},
        {69: [], 70: [overrun("0.02"), overrun("1.00", "globex")]},
    ),
    Case(OVERRUN, "no data at all", {}, {0: [], 90: []}),
]
