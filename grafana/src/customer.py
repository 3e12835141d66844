"""Customer: one customer's page."""

from __future__ import annotations

from grafana.src import queries as q
from grafana.src.board import Board, Choice, Row
from grafana.src.events import EVENTS
from grafana.src.links import COST, CUSTOMER, LATENCY, PROVIDERS, Links, opens
from grafana.src.panels import Look, Prom, Traces, bars, stat, timeseries
from grafana.src.spans import spans

FULL = ((None, "green"), (0.8, "orange"), (0.95, "red"))

STANDS = Row(
    "Where does $customer stand?",
    [
        bars(
            "Budget used",
            "Spent, as a share of the limit, in each budget's own period. Budgets for everybody, for"
            " teams or for models may stop this customer as well: see Cost and budgets.",
            "percentunit",
            [
                Prom(
                    f"{q.account(q.SPENT, q.ITS_BUDGET)} / ({q.account(q.LIMIT, q.ITS_BUDGET)} > 0)",
                    "{{budget}}",
                    instant=True,
                    step="",
                )
            ],
            Links(down=(COST,), runbooks=("BudgetThresholdCrossed", "BudgetExhausted")),
            Look(
                width=6,
                height=6,
                maximum=1,
                steps=FULL,
                no_value="no budget of its own",
                opens=("Open this budget", opens(COST, budget="budget", subject="subject")),
            ),
        ),
        stat(
            "Left",
            "Of its budget: the limit less what is spent and held.",
            "currencyUSD",
            [Prom(q.account(q.LEFT, q.ITS_BUDGET), "{{budget}}", step="")],
            Links(down=(COST,), runbooks=("BudgetExhausted",)),
            Look(width=6, height=6, no_value="no budget of its own"),
        ),
        stat(
            "Used up",
            "At the mean rate of the period so far, if that is before the budget renews.",
            "dateTimeFromNow",
            [Prom(q.ITS_END, "{{budget}}", step="")],
            Links(down=(COST,), runbooks=("BudgetWillExhaustEarly",)),
            Look(width=6, height=6, no_value="not before it renews"),
        ),
        stat(
            "Spent in the time shown",
            "All models together.",
            "currencyUSD",
            [Prom(q.increase(q.COST, where=q.THIS_CUSTOMER))],
            Links(down=(COST,), runbooks=("CostSpike",)),
            Look(width=6, height=6),
        ),
    ],
)

BUYS = Row(
    "What does it buy?",
    [
        timeseries(
            "Spend an hour, by model",
            "What an hour at this rate costs.",
            "currencyUSD",
            [
                Prom(
                    q.top(10, q.spend_an_hour(q.MODEL, q.THIS_CUSTOMER)),
                    "{{gen_ai_request_model}}",
                    exemplar=True,
                )
            ],
            Links(down=(COST,), runbooks=("CostSpike",)),
            Look(width=8, stacked=True),
        ),
        timeseries(
            "Requests",
            "Requests a second that got as far as a provider, however they ended.",
            "reqps",
            [Prom(q.ITS_REQUESTS, "requests")],
            Links(down=(LATENCY,), runbooks=("CostSpike",)),
            Look(width=8),
        ),
        timeseries(
            "What a request costs",
            "All its attempts together. A click on a point leads to the trace.",
            "currencyUSD",
            [Prom(expr, f"{share:.0%}", exemplar=True) for share, expr in q.ITS_COST_QUANTILES],
            Links(down=(COST,), runbooks=("CostSpike",)),
            Look(width=8),
        ),
    ],
)

WRONG = Row(
    "What goes wrong?",
    [
        spans(
            "Failed and refused requests",
            "The newest; a click opens the trace.",
            Traces(q.ITS_FAILURES),
            Links(down=(PROVIDERS,), runbooks=("BudgetExhausted", "ProviderErrorBudgetBurn")),
            Look(width=12, height=9),
        ),
        spans(
            "Requests of more than $dear USD",
            "The newest of them, dearest first.",
            Traces(q.ITS_DEAREST, limit=50),
            Links(down=(COST,), runbooks=("CostSpike",)),
            Look(width=12, height=9, sort_by="Cost"),
        ),
    ],
)

LATEST = Row(
    "What was it just doing?",
    [
        spans(
            "Latest requests",
            "Every request, with its cost and attempts; a click opens the trace.",
            Traces(q.ITS_TRACES, limit=50),
            Links(down=(LATENCY,), runbooks=("CostSpike",)),
            Look(width=24, height=10),
        ),
    ],
)

BOARD = Board(
    CUSTOMER,
    "One customer: where its budget stands, what it buys, what goes wrong for it, and its latest"
    " requests. Customers beyond the telemetry's cap have no metrics of their own, but their budget"
    " and traces: put the name into the address, `var-customer=…`.",
    "Whoever talks to one customer, with the customer on the line.",
    [STANDS, BUYS, WRONG, LATEST],
    choices=(
        Choice("customer", "Customer", q.CUSTOMERS, regex=f'/{q.CUSTOMER}="(.+)"}} /'),
        Choice(
            "dear",
            "Dear over, USD",
            values=("0.0001", "0.001", "0.01", "0.1", "1.0"),
            chosen="0.001",
        ),
    ),
    events=EVENTS,
)
