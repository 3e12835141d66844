"""Cost and budgets: who spent what, will budgets last, which requests were expensive, what is uncertain."""

from __future__ import annotations

from grafana.src import queries as q
from grafana.src.board import Board, Choice, Row
from grafana.src.events import EVENTS
from grafana.src.links import COST, CUSTOMER, LATENCY, PROVIDERS, Links, opens, row_opens
from grafana.src.panels import (
    EVERYBODY,
    Look,
    Prom,
    Traces,
    barchart,
    bars,
    heatmap,
    renamed,
    stat,
    table,
    timeseries,
)
from grafana.src.spans import spans

THIS_CUSTOMER = ("Open this customer", opens(CUSTOMER, customer=q.CUSTOMER))
ANY_IS_BAD = ((None, "green"), (1e-9, "red"))
ANY_IS_ODD = ((None, "green"), (1e-9, "orange"))
DATE = {"unit": "dateTimeAsIso", "custom.width": 165}
THIS_PERIOD = (
    row_opens(COST, budget="Budget", subject="Whose")
    + '&from=${__data.fields["Period began"].numeric}&to=${__data.fields["Renews"].numeric}'
)

SPENDING = Row(
    "Who spent how much, on what?",
    [
        stat(
            "Spent in the selected range",
            "By the selected customers, models and providers. For a budget's own period, use the link"
            " “This period” at the top.",
            "currencyUSD",
            [Prom(q.SPENT_IN_RANGE)],
            Links(down=(CUSTOMER,), runbooks=("CostSpike",)),
            Look(width=4, height=11),
        ),
        bars(
            "By customer",
            "The twelve highest in the selected range. `other` stands for all customers beyond"
            " `telemetry.max_customers`; the ledger lists them by name.",
            "currencyUSD",
            [
                Prom(
                    q.top(12, q.spent_in_range(q.CUSTOMER)),
                    "{{spanledger_customer}}",
                    instant=True,
                )
            ],
            Links(down=(CUSTOMER,), runbooks=("CostSpike",)),
            Look(width=8, height=11, opens=THIS_CUSTOMER),
        ),
        bars(
            "By model",
            "In the selected range, by the model name sent to the provider.",
            "currencyUSD",
            [
                Prom(
                    q.top(12, q.spent_in_range(f"{q.MODEL}, {q.PROVIDER}")),
                    "{{gen_ai_provider_name}} · {{gen_ai_request_model}}",
                    instant=True,
                )
            ],
            Links(down=(LATENCY,), runbooks=("CostSpike",)),
            Look(width=8, height=11),
        ),
        bars(
            "By provider",
            "In the selected range.",
            "currencyUSD",
            [
                Prom(
                    q.top(12, q.spent_in_range(q.PROVIDER)),
                    "{{gen_ai_provider_name}}",
                    instant=True,
                )
            ],
            Links(down=(PROVIDERS,), runbooks=("CostSpike",)),
            Look(width=4, height=11),
        ),
        bars(
            "Charged to customers",
            "In the selected range, by the rules of `pricing.charges`; the twelve highest. Empty without rules.",
            "currencyUSD",
            [
                Prom(
                    q.top(12, q.charged_in_range(q.CUSTOMER)),
                    "{{spanledger_customer}}",
                    instant=True,
                )
            ],
            Links(down=(CUSTOMER,), runbooks=("CostSpike",)),
            Look(width=8, height=9, opens=THIS_CUSTOMER),
        ),
        bars(
            "Margin by customer",
            "What the customer is charged minus what it costs, in the selected range. A range that begins before"
            " there were rules has costs without charges.",
            "currencyUSD",
            [
                Prom(
                    q.top(12, q.margin_in_range(q.CUSTOMER)),
                    "{{spanledger_customer}}",
                    instant=True,
                )
            ],
            Links(down=(CUSTOMER,), runbooks=("CostSpike",)),
            Look(width=8, height=9, opens=THIS_CUSTOMER),
        ),
        bars(
            "Saved by contracts",
            "List price minus cost, in the selected range. Empty without `pricing.contracts`.",
            "currencyUSD",
            [Prom(q.SAVED_BY_PROVIDER, "{{gen_ai_provider_name}}", instant=True)],
            Links(down=(PROVIDERS,), runbooks=("CostSpike",)),
            Look(width=8, height=9),
        ),
        timeseries(
            "By period and customer",
            "Each bar shows what was spent in the $bucket before it. For ranges longer than a day, bars"
            " cover at least an hour.",
            "currencyUSD",
            [
                Prom(
                    q.top(12, q.spent_in_bucket(q.CUSTOMER)),
                    "{{spanledger_customer}}",
                    step="$bucket",
                )
            ],
            Links(down=(CUSTOMER,), runbooks=("CostSpike",)),
            Look(width=12, stacked=True, bars=True, opens=THIS_CUSTOMER),
        ),
        timeseries(
            "Tokens by period",
            "All customers. Input includes cached tokens, output includes reasoning tokens. Calls that both"
            " the gateway and an application measured count once.",
            "short",
            [Prom(q.TOKENS_BY_TYPE, "{{gen_ai_token_type}}", step="$bucket")],
            Links(down=(LATENCY,), runbooks=("CostSpike",)),
            Look(width=12, stacked=True, bars=True),
        ),
    ],
)

BUDGET_COLUMNS = {
    "budget": "Budget",
    "scope": "Scope",
    "subject": "Whose",
    "period": "Each",
    "timezone": "Time zone",
    "Value #A": "Limit",
    "Value #B": "Spent",
    "Value #C": "Held",
    "Value #D": "Left",
    "Value #E": "Used",
    "Value #F": "Forecast",
    "Value #G": "Used up",
    "Value #H": "Period began",
    "Value #I": "Renews",
}

BUDGETS = Row(
    "How much of each budget is used?",
    [
        barchart(
            "Spent, held, left",
            "As a share of the limit, in each budget's current period; the fifteen closest to their limit."
            " Held money is reserved for attempts in flight.",
            "percentunit",
            [
                Prom(q.share_of_limit(name), instant=True, table=True, step="")
                for name in (q.SPENT, q.HELD, q.LEFT)
            ],
            Links(down=(CUSTOMER,), runbooks=("BudgetThresholdCrossed", "BudgetExhausted")),
            Look(
                width=24,
                height=9,
                minimum=0,
                maximum=1,
                stacked=True,
                transformations=(
                    ("merge", {}),
                    *renamed(
                        {
                            "account": "Budget",
                            "Value #A": "Spent",
                            "Value #B": "Held",
                            "Value #C": "Left",
                        },
                        dropped=("Time", "budget", "scope", "subject", "whose"),
                    ),
                    ("sortBy", {"fields": {}, "sort": [{"field": "Left"}]}),
                ),
                overrides=(
                    ("Spent", {"color": {"mode": "fixed", "fixedColor": "blue"}}),
                    ("Held", {"color": {"mode": "fixed", "fixedColor": "orange"}}),
                    ("Left", {"color": {"mode": "fixed", "fixedColor": "green"}}),
                ),
            ),
        ),
        table(
            "Every budget, in its own period",
            "Click a budget to show its period, which begins by the clocks of the budget's time zone."
            " “Used up” is when the limit will be reached at this period's average rate; empty if the budget"
            " will last. “Forecast” and “Renews” are empty if the budget's period does not end.",
            "currencyUSD",
            [
                Prom(expr, instant=True, table=True, step="")
                for expr in (
                    q.account(q.LIMIT),
                    q.account(q.SPENT),
                    q.account(q.HELD),
                    q.account(q.LEFT),
                    q.USED,
                    q.forecast(),
                    q.ends_early(),
                    f"1000 * {q.account(q.STARTS)}",
                    f"1000 * {q.renews()}",
                    q.PERIODS,
                )
            ],
            Links(down=(CUSTOMER,), runbooks=("BudgetWillExhaustEarly", "BudgetExhausted")),
            Look(
                width=24,
                height=9,
                sort_by="Used",
                transformations=(
                    ("merge", {}),
                    *renamed(BUDGET_COLUMNS, dropped=("Time", "Value #J")),
                ),
                overrides=(
                    ("Budget", {"links": [{"title": "Show this period", "url": THIS_PERIOD}]}),
                    ("Whose", EVERYBODY),
                    ("Used", {"unit": "percentunit", "decimals": 1}),
                    *((name, DATE) for name in ("Used up", "Period began", "Renews")),
                ),
            ),
        ),
    ],
)

LASTS = Row(
    "Will budget $budget of $subject last?",
    [
        timeseries(
            "Burn-down",
            "What is left, compared with spending the limit evenly, and what will be left at the period's"
            " end if spending continues at this rate. Below zero, the budget will not last.",
            "currencyUSD",
            [
                Prom(q.account(q.LEFT, q.ONE_ACCOUNT), "left", step=""),
                Prom(q.EVEN_PACE, "evenly spent", step=""),
                Prom(q.LEFT_AT_END, "left at the end, forecast", step=""),
            ],
            Links(down=(CUSTOMER,), runbooks=("BudgetWillExhaustEarly",)),
            Look(
                width=16,
                height=9,
                minimum=float("-inf"),
                dashed=("evenly spent", "left at the end, forecast"),
            ),
        ),
        stat(
            "Used up",
            "When the limit will be reached at this period's average rate, if that is before it renews.",
            "dateTimeFromNow",
            [Prom(q.ENDS_ON, step="")],
            Links(down=(CUSTOMER,), runbooks=("BudgetWillExhaustEarly",)),
            Look(width=4, height=9, no_value="will last"),
        ),
        stat(
            "Renews in",
            "Time left in this period.",
            "s",
            [Prom(q.PERIOD_LEFT, step="")],
            Links(down=(CUSTOMER,), runbooks=("BudgetExhausted",)),
            Look(width=4, height=9, decimals=1, no_value="never"),
        ),
    ],
)

DEAR = Row(
    "Which requests were expensive?",
    [
        heatmap(
            "Cost per request",
            "All attempts of a request together. Each point is one request; click it to open the trace.",
            "currencyUSD",
            [Prom(q.REQUEST_COST_BUCKETS, buckets=True, exemplar=True)],
            Links(down=(CUSTOMER,), runbooks=("CostSpike",)),
            Look(width=12, height=9),
        ),
        spans(
            "Most expensive requests",
            "Above $dear USD, from the selected customers. Click a row to open the trace.",
            Traces(q.DEAR_REQUESTS, limit=50),
            Links(down=(CUSTOMER,), runbooks=("CostSpike",)),
            Look(width=12, height=9, sort_by="Cost"),
        ),
    ],
)

UNSURE = Row(
    "Which amounts are uncertain?",
    [
        bars(
            "Requests without a price",
            "In the selected range. They were charged nothing because the model has no price, or refused"
            " for that reason (with an error type).",
            "locale",
            [
                Prom(
                    q.UNPRICED_BY_MODEL,
                    "{{what}}",
                    instant=True,
                )
            ],
            Links(down=(PROVIDERS,), runbooks=("UnpricedUsage",)),
            Look(width=6, height=8, decimals=0, steps=ANY_IS_BAD, no_value="none"),
        ),
        bars(
            "Charged beyond the hold",
            "In the selected range: answers that cost more than was held for them.",
            "currencyUSD",
            [Prom(q.OVERRUN_BY_MODEL, "{{gen_ai_request_model}}", instant=True)],
            Links(down=(CUSTOMER,), runbooks=("BudgetOverrun",)),
            Look(width=6, height=8, steps=ANY_IS_ODD, no_value="none"),
        ),
        bars(
            "Used of what was held",
            "In the selected range, of all customers. The rest was given back. The smaller the share, the"
            " more of a budget is out of reach while requests are in flight; `spanledger budget holds` says"
            " how it is distributed.",
            "percentunit",
            [Prom(q.USED_OF_HOLDS, "{{gen_ai_request_model}}", instant=True)],
            Links(down=(PROVIDERS,), runbooks=("BudgetOverrun",)),
            Look(width=6, height=8, decimals=0, no_value="none"),
        ),
        spans(
            "Estimated",
            "Attempts whose provider reported no usage, such as interrupted streams. We counted the usage"
            " ourselves, on the high side.",
            Traces(q.ESTIMATED),
            Links(down=(PROVIDERS,), runbooks=("BudgetOverrun",)),
            Look(width=6, height=8, sort_by="Cost"),
        ),
    ],
)

PERIOD = r"/\} ([0-9.]+) /"
BOARD = Board(
    COST,
    "Who spent what, which budgets last until they renew, which requests were expensive, and which"
    " amounts are uncertain.",
    "Anyone who pays the bill or sets budgets.",
    [SPENDING, BUDGETS, LASTS, DEAR, UNSURE],
    choices=(
        Choice("customer", "Customer", q.label_values(q.COST, q.CUSTOMER), several=True),
        Choice("provider", "Provider", q.label_values(q.COST, q.PROVIDER), several=True),
        Choice("model", "Model", q.label_values(q.COST, q.MODEL), several=True),
        Choice("bucket", "Bar length", values=("1m", "5m", "1h", "6h", "1d", "7d"), fitting="5m"),
        Choice(
            "dear",
            "Expensive above, USD",
            values=("0.0001", "0.001", "0.01", "0.1", "1.0"),
            chosen="0.001",
        ),
        Choice("budget", "Budget", q.label_values(q.LIMIT, "budget")),
        Choice("subject", "of", q.label_values(q.LIMIT, "subject", q.OF_BUDGET)),
        Choice("began", "", q.BEGAN, regex=PERIOD, hidden=True),
        Choice("period_from", "", q.PERIOD_FROM, regex=PERIOD, hidden=True),
        Choice("period_to", "", q.PERIOD_TO, regex=PERIOD, hidden=True),
        Choice("before_from", "", q.BEFORE_FROM, regex=PERIOD, hidden=True),
    ),
    events=EVENTS,
    links={
        "This period": f"/d/{COST}?from=${{period_from}}&to=${{period_to}}&${{budget:queryparam}}"
        "&${subject:queryparam}",
        "Period before": f"/d/{COST}?from=${{before_from}}&to=${{period_from}}&${{budget:queryparam}}"
        "&${subject:queryparam}",
    },
)
