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
            "Spent, as a share of the limit, in each budget's current period. Global, team and model"
            " budgets can also stop this customer: see Cost and budgets.",
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
            "The limit minus what is spent and held.",
            "currencyUSD",
            [Prom(q.account(q.LEFT, q.ITS_BUDGET), "{{budget}}", step="")],
            Links(down=(COST,), runbooks=("BudgetExhausted",)),
            Look(width=6, height=6, no_value="no budget of its own"),
        ),
        stat(
            "Used up",
            "When the limit will be reached at this period's average rate, if that is before it renews.",
            "dateTimeFromNow",
            [Prom(q.ITS_END, "{{budget}}", step="")],
            Links(down=(COST,), runbooks=("BudgetWillExhaustEarly",)),
            Look(width=6, height=6, no_value="not before it renews"),
        ),
        stat(
            "Spent in the selected range",
            "All models together.",
            "currencyUSD",
            [Prom(q.increase(q.COST, where=q.THIS_CUSTOMER))],
            Links(down=(COST,), runbooks=("CostSpike",)),
            Look(width=6, height=6),
        ),
    ],
)

BUYS = Row(
    "What does it spend money on?",
    [
        timeseries(
            "Spend per hour, by model",
            "What an hour costs at the current rate.",
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
            "Requests per second that reached a provider, whatever their outcome.",
            "reqps",
            [Prom(q.ITS_REQUESTS, "requests")],
            Links(down=(LATENCY,), runbooks=("CostSpike",)),
            Look(width=8),
        ),
        timeseries(
            "Cost per request",
            "All attempts of a request together. Click a point to open its trace.",
            "currencyUSD",
            [Prom(expr, f"{share:.0%}", exemplar=True) for share, expr in q.ITS_COST_QUANTILES],
            Links(down=(COST,), runbooks=("CostSpike",)),
            Look(width=8),
        ),
    ],
)

WRONG = Row(
    "What is failing?",
    [
        spans(
            "Failed and refused requests",
            "The newest; click a row to open the trace.",
            Traces(q.ITS_FAILURES),
            Links(down=(PROVIDERS,), runbooks=("BudgetExhausted", "ProviderErrorBudgetBurn")),
            Look(width=12, height=9),
        ),
        spans(
            "Requests above $dear USD",
            "The newest of them, most expensive first.",
            Traces(q.ITS_DEAREST, limit=50),
            Links(down=(COST,), runbooks=("CostSpike",)),
            Look(width=12, height=9, sort_by="Cost"),
        ),
    ],
)

LATEST = Row(
    "What were its latest requests?",
    [
        spans(
            "Latest requests",
            "Every request, with its cost and attempts; click a row to open the trace.",
            Traces(q.ITS_TRACES, limit=50),
            Links(down=(LATENCY,), runbooks=("CostSpike",)),
            Look(width=24, height=10),
        ),
    ],
)

BOARD = Board(
    CUSTOMER,
    "One customer: where its budget stands, what it spends money on, what fails, and its latest"
    " requests. Customers beyond `telemetry.max_customers` have no metrics of their own, but their budget"
    " and traces are here: put the name into the address, `var-customer=…`.",
    "Anyone who is talking to a customer.",
    [STANDS, BUYS, WRONG, LATEST],
    choices=(
        Choice("customer", "Customer", q.CUSTOMERS, regex=f'/{q.CUSTOMER}="(.+)"}} /'),
        Choice(
            "dear",
            "Expensive above, USD",
            values=("0.0001", "0.001", "0.01", "0.1", "1.0"),
            chosen="0.001",
        ),
    ),
    events=EVENTS,
)
