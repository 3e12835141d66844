"""Overview: is it working, what does it cost now, who is about to reach a limit, what changed."""

from __future__ import annotations

from grafana.src import queries as q
from grafana.src.board import Board, Row
from grafana.src.events import EVENTS
from grafana.src.links import COST, CUSTOMER, LATENCY, OVERVIEW, PROVIDERS, Links, opens, row_opens
from grafana.src.panels import (
    EVERYBODY,
    Look,
    Override,
    Prom,
    bars,
    renamed,
    stat,
    table,
    timeseries,
)

GOOD = ((None, "text"), (0, "red"), (0.95, "orange"), (0.99, "green"))
NONE_IS_GOOD = ((None, "green"), (1, "red"))
FULL = ((None, "green"), (0.8, "orange"), (0.95, "red"))
ENDS: tuple[Override, ...] = tuple(
    (name, {"color": {"mode": "fixed", "fixedColor": colour}})
    for name, colour in (
        ("ok", "green"),
        ("error", "red"),
        ("refused", "orange"),
        ("cancelled", "blue"),
        ("abandoned", "purple"),
    )
)

THIS_BUDGET = {
    "title": "Open this budget",
    "url": row_opens(COST, budget="Budget", subject="Whose"),
}

WORKING = Row(
    "Is it working?",
    [
        stat(
            "Requests",
            "Requests per second from callers, whatever their outcome.",
            "reqps",
            [Prom(q.REQUEST_RATE)],
            Links(down=(LATENCY,), runbooks=("SignalAbsent",)),
            Look(width=4, decimals=2),
        ),
        stat(
            "Answered",
            "Share of recent requests that were answered. Requests that a budget refused, or whose caller"
            " disconnected, do not count.",
            "percentunit",
            [Prom(q.ANSWERED)],
            Links(down=(PROVIDERS,), runbooks=("AllDeploymentsDown",)),
            Look(width=4, decimals=1, steps=GOOD, minimum=0, maximum=1, no_value="no requests"),
        ),
        stat(
            "Deployments cooling down",
            "Deployments that get no requests at the moment because they failed.",
            "short",
            [Prom(q.DOWN)],
            Links(
                down=(PROVIDERS,),
                runbooks=("ProviderErrorBudgetBurn", "AllDeploymentsDown"),
            ),
            Look(width=4, steps=NONE_IS_GOOD),
        ),
        timeseries(
            "Requests by outcome",
            "`ok`: answered; `error`: not answered, after all attempts; `refused`: stopped by a budget"
            " or a limit; `cancelled` and `abandoned`: the caller disconnected.",
            "reqps",
            [Prom(q.REQUESTS_BY_OUTCOME, "{{spanledger_outcome}}", exemplar=True)],
            Links(down=(PROVIDERS,), runbooks=("AllDeploymentsDown",)),
            Look(width=12, stacked=True, overrides=ENDS),
        ),
        timeseries(
            "Response time",
            "Of answered requests, including all attempts and the waits between them. Each point is"
            " one request; click it to open the trace.",
            "s",
            [Prom(expr, f"{q_:.0%}", exemplar=True) for q_, expr in q.REQUEST_QUANTILES],
            Links(down=(LATENCY,), runbooks=("TimeToFirstTokenSlow",)),
            Look(width=12),
        ),
        timeseries(
            "Errors returned to callers",
            "Requests that failed or were refused, by type.",
            "reqps",
            [Prom(q.ERRORS_BY_KIND, "{{error_type}}", exemplar=True)],
            Links(
                down=(PROVIDERS,),
                runbooks=("ProviderErrorBudgetBurn", "BudgetExhausted"),
            ),
            Look(width=12, stacked=True, no_value="none"),
        ),
    ],
)

MONEY = Row(
    "What does it cost now?",
    [
        stat(
            "Spend per hour",
            "At the rate of the last minutes, including failed attempts that were billed.",
            "currencyUSD",
            [Prom(q.SPEND_AN_HOUR)],
            Links(down=(COST,), runbooks=("CostSpike",)),
            Look(width=4),
        ),
        stat(
            "Spent in 24 hours",
            "All customers. For the exact amount, to the nano-dollar, use `spanledger spend`.",
            "currencyUSD",
            [Prom(q.SPEND_TODAY)],
            Links(down=(COST,), runbooks=("CostSpike",)),
            Look(width=4),
        ),
        timeseries(
            "Spend per hour, by model",
            "What an hour costs at the current rate. A step without more requests means a more expensive"
            " model or longer prompts.",
            "currencyUSD",
            [Prom(q.top(10, q.spend_an_hour(q.MODEL)), "{{gen_ai_request_model}}")],
            Links(down=(COST,), runbooks=("CostSpike",)),
            Look(width=8, height=8, stacked=True),
        ),
        timeseries(
            "Spend per hour, by customer",
            "The ten highest at each moment. `other` stands for all customers beyond"
            " `telemetry.max_customers`.",
            "currencyUSD",
            [Prom(q.top(10, q.spend_an_hour(q.CUSTOMER)), "{{spanledger_customer}}")],
            Links(down=(CUSTOMER, COST), runbooks=("CostSpike",)),
            Look(
                width=8,
                height=8,
                stacked=True,
                opens=("Open this customer", opens(CUSTOMER, customer=q.CUSTOMER)),
            ),
        ),
    ],
)

STOPPED = Row(
    "Who is about to be stopped?",
    [
        bars(
            "Budgets closest to their limit",
            "Spent and held, as a share of the limit, in each budget's current period.",
            "percentunit",
            [
                Prom(q.NEAREST, "{{whose}} · {{budget}}", instant=True, step=""),
            ],
            Links(down=(COST,), runbooks=("BudgetThresholdCrossed",)),
            Look(
                width=10,
                height=9,
                maximum=1,
                steps=FULL,
                opens=("Open this budget", opens(COST, budget="budget", subject="subject")),
            ),
        ),
        table(
            "Budgets that will run out early",
            "Budgets that will be used up before their period ends, if spending continues at this period's"
            " average rate.",
            "short",
            [Prom(q.ends_early(), instant=True, table=True, step="")],
            Links(down=(COST,), runbooks=("BudgetWillExhaustEarly",)),
            Look(
                width=10,
                height=9,
                sort_by="+Used up",
                no_value="none",
                transformations=renamed(
                    {"budget": "Budget", "scope": "Scope", "subject": "Whose", "Value": "Used up"}
                ),
                overrides=(
                    ("Used up", {"unit": "dateTimeFromNow"}),
                    ("Budget", {"links": [THIS_BUDGET]}),
                    ("Whose", EVERYBODY),
                ),
            ),
        ),
        stat(
            "Refused requests",
            "In the selected range, refused by budgets or by a key's limits.",
            "locale",
            [Prom(q.REFUSED_REQUESTS + q.ZERO)],
            Links(down=(COST,), runbooks=("BudgetExhausted",)),
            Look(width=4, height=9, decimals=0, steps=NONE_IS_GOOD),
        ),
    ],
)

CHANGED = Row(
    "What changed?",
    [
        timeseries(
            "Fallbacks",
            "Requests that moved from one route to another (from → to), with the failure that caused it."
            " The ten most frequent at each moment.",
            "cps",
            [
                Prom(
                    q.top(10, q.FALLBACK_RATE),
                    "{{spanledger_fallback_from}} → {{spanledger_fallback_to}}:"
                    " {{spanledger_fallback_reason}}",
                    exemplar=True,
                )
            ],
            Links(down=(PROVIDERS,), runbooks=("FallbackStorm",)),
            Look(width=12, stacked=True, no_value="none"),
        ),
        timeseries(
            "Refusals by budgets",
            "Attempts that a budget refused (deny) or told to wait (throttle), by its name and scope.",
            "cps",
            [
                Prom(
                    q.REFUSALS,
                    "{{spanledger_budget_refused_by}} ({{spanledger_budget_scope}}):"
                    " {{spanledger_budget_decision}}",
                    exemplar=True,
                )
            ],
            Links(down=(COST,), runbooks=("BudgetExhausted",)),
            Look(width=12, stacked=True, no_value="none"),
        ),
    ],
)

BOARD = Board(
    OVERVIEW,
    "Is it working, what does it cost now, who is about to reach a limit, and what changed.",
    "Anyone on call, and anyone who wants a quick look.",
    [WORKING, MONEY, STOPPED, CHANGED],
    events=EVENTS,
    since="now-1h",
)
