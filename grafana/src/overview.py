"""Overview: is it working, what does it cost now, who is about to be stopped, what changed."""

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
            "Requests a second that callers made, however they ended.",
            "reqps",
            [Prom(q.REQUEST_RATE)],
            Links(down=(LATENCY,), runbooks=("SignalAbsent",)),
            Look(width=4, decimals=2),
        ),
        stat(
            "Answered",
            "Share of the requests that were answered, in the last minutes. Those that a budget refused,"
            " and those whose caller went away, are not in it.",
            "percentunit",
            [Prom(q.ANSWERED)],
            Links(down=(PROVIDERS,), runbooks=("AllDeploymentsDown",)),
            Look(width=4, decimals=1, steps=GOOD, minimum=0, maximum=1, no_value="none to answer"),
        ),
        stat(
            "Deployments cooling down",
            "Deployments that no request is sent to now, because they failed.",
            "short",
            [Prom(q.DOWN)],
            Links(
                down=(PROVIDERS,),
                runbooks=("ProviderErrorBudgetBurn", "AllDeploymentsDown"),
            ),
            Look(width=4, steps=NONE_IS_GOOD),
        ),
        timeseries(
            "Requests by how they ended",
            "`ok` was answered; `error` was not, after all attempts; `refused` was stopped by a budget"
            " or a limit; `cancelled` and `abandoned` are callers that went away.",
            "reqps",
            [Prom(q.REQUESTS_BY_OUTCOME, "{{spanledger_outcome}}", exemplar=True)],
            Links(down=(PROVIDERS,), runbooks=("AllDeploymentsDown",)),
            Look(width=12, stacked=True, overrides=ENDS),
        ),
        timeseries(
            "How long answers take",
            "Of requests that were answered, all attempts and waits between them included. Points are"
            " single requests: a click leads to the trace.",
            "s",
            [Prom(expr, f"{q_:.0%}", exemplar=True) for q_, expr in q.REQUEST_QUANTILES],
            Links(down=(LATENCY,), runbooks=("TimeToFirstTokenSlow",)),
            Look(width=12),
        ),
        timeseries(
            "Errors that callers saw",
            "Requests that failed or were refused, by kind.",
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
            "Spend an hour",
            "At the rate of the last minutes. Failed attempts that were billed are in it.",
            "currencyUSD",
            [Prom(q.SPEND_AN_HOUR)],
            Links(down=(COST,), runbooks=("CostSpike",)),
            Look(width=4),
        ),
        stat(
            "Spent in 24 hours",
            "Of all customers. The ledger has it to the nano-dollar: `spanledger spend`.",
            "currencyUSD",
            [Prom(q.SPEND_TODAY)],
            Links(down=(COST,), runbooks=("CostSpike",)),
            Look(width=4),
        ),
        timeseries(
            "Spend an hour, by model",
            "What an hour at this rate costs. A step without more requests is a dearer model or"
            " longer prompts.",
            "currencyUSD",
            [Prom(q.top(10, q.spend_an_hour(q.MODEL)), "{{gen_ai_request_model}}")],
            Links(down=(COST,), runbooks=("CostSpike",)),
            Look(width=8, height=8, stacked=True),
        ),
        timeseries(
            "Spend an hour, by customer",
            "The ten that spend most at each moment; customers beyond the telemetry's cap are"
            " `other`.",
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
            "Budgets nearest their limit",
            "Spent and held, as a share of the limit, in each budget's own period.",
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
            "Budgets that will not last",
            "Used up before their period ends if spending goes on as in the period so far; empty"
            " while all last.",
            "short",
            [Prom(q.ends_early(), instant=True, table=True, step="")],
            Links(down=(COST,), runbooks=("BudgetWillExhaustEarly",)),
            Look(
                width=10,
                height=9,
                sort_by="+Used up",
                no_value="all last",
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
            "In the time shown, by budgets and by limits of keys.",
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
            "Requests that left their route for another, from → to, and the failure before: the ten"
            " ways taken most at each moment.",
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
            "Attempts that a budget refused, by the name and scope of that budget.",
            "cps",
            [
                Prom(
                    q.REFUSALS,
                    "{{spanledger_budget_refused_by}} ({{spanledger_budget_scope}})",
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
    "Is it working, what does it cost now, who is about to be stopped, and what changed.",
    "Whoever is on call, and everybody who looks in for a minute.",
    [WORKING, MONEY, STOPPED, CHANGED],
    events=EVENTS,
    since="now-1h",
)
