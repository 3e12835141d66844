"""Providers and fallbacks: who answers, what happens when one does not, and what that costs."""

from __future__ import annotations

from grafana.src import queries as q
from grafana.src.board import Board, Choice, Row
from grafana.src.events import EVENTS
from grafana.src.links import COST, LATENCY, PROVIDERS, Links
from grafana.src.panels import Look, Prom, Traces, bars, graph, renamed, states, table, timeseries
from grafana.src.spans import spans

ANY_IS_BAD = ((None, "green"), (1e-9, "red"))

ANSWER = Row(
    "Do the providers answer?",
    [
        timeseries(
            "Success by provider",
            "Share of attempts that were answered. The caller's own mistakes, and attempts that were never"
            " sent, do not count against a provider.",
            "percentunit",
            [Prom(q.THEIR_SUCCESS, "{{gen_ai_provider_name}}")],
            Links(down=(LATENCY,), runbooks=("ProviderErrorBudgetBurn",)),
            Look(width=8, maximum=1, soft_minimum=0.9),
        ),
        timeseries(
            "Failed attempts, by error type",
            "All failed attempts, whatever the outcome of the request. Click a point to open its trace.",
            "cps",
            [Prom(q.ERRORS_OF_ATTEMPTS, "{{error_type}}", exemplar=True)],
            Links(down=(LATENCY,), runbooks=("ProviderErrorBudgetBurn", "AllDeploymentsDown")),
            Look(width=8, stacked=True),
        ),
        timeseries(
            "Attempts by deployment",
            "How the load is distributed. A deployment that is cooling down drops to zero.",
            "cps",
            [Prom(q.ATTEMPTS_BY_DEPLOYMENT, "{{spanledger_deployment}}")],
            Links(down=(LATENCY,), runbooks=("AllDeploymentsDown",)),
            Look(width=8, stacked=True),
        ),
    ],
)

NOT = Row(
    "What happens when a provider fails?",
    [
        timeseries(
            "Retries, by deployment and reason",
            "Further attempts within the same route, by deployment and the failure before; the"
            " twelve most frequent at each moment.",
            "cps",
            [
                Prom(
                    q.top(12, q.RETRIES_BY_REASON),
                    "{{spanledger_deployment}}: {{spanledger_fallback_reason}}",
                    exemplar=True,
                )
            ],
            Links(down=(LATENCY,), runbooks=("ProviderErrorBudgetBurn",)),
            Look(width=8, stacked=True),
        ),
        timeseries(
            "Fallbacks, from → to, by reason",
            "Requests that left the route they asked for; the twelve most frequent at each moment.",
            "cps",
            [
                Prom(
                    q.top(12, q.FALLBACKS_BY_WAY),
                    "{{spanledger_fallback_from}} → {{spanledger_fallback_to}}:"
                    " {{spanledger_fallback_reason}}",
                    exemplar=True,
                )
            ],
            Links(down=(COST,), runbooks=("FallbackStorm",)),
            Look(width=8, stacked=True),
        ),
        timeseries(
            "Share that falls back, by route",
            "Of the requests for a route, the share that was sent to another route.",
            "percentunit",
            [Prom(q.FALLBACK_SHARE, "{{spanledger_fallback_from}}")],
            Links(down=(COST,), runbooks=("FallbackStorm",)),
            Look(width=8),
        ),
        graph(
            "Where requests went instead",
            "Routes and the deployments that took over; the numbers are fallbacks in the selected range.",
            "short",
            [
                Prom(q.GRAPH_NODES, instant=True, table=True),
                Prom(q.GRAPH_EDGES, instant=True, table=True),
            ],
            Links(down=(COST,), runbooks=("FallbackStorm",)),
            Look(
                width=12,
                height=13,
                no_value="none",
                overrides=(("mainstat", {"displayName": "fallbacks"}),),
            ),
        ),
        table(
            "Fallbacks in the selected range",
            "The requested route, the deployment used instead, and the reason.",
            "locale",
            [Prom(q.FALLBACKS_COUNTED, instant=True, table=True)],
            Links(down=(COST,), runbooks=("FallbackStorm",)),
            Look(
                width=12,
                height=13,
                decimals=0,
                sort_by="Fallbacks",
                transformations=renamed(
                    {q.FROM: "From", q.TO: "To", q.REASON: "Reason", "Value": "Fallbacks"}
                ),
            ),
        ),
        spans(
            "Latest fallbacks",
            "Click a row to open the trace with every attempt.",
            Traces(q.FELL_BACK),
            Links(down=(COST,), runbooks=("FallbackStorm",)),
            Look(width=24),
        ),
    ],
)

REST = Row(
    "Which deployments are cooling down, and which are near a limit?",
    [
        states(
            "In use or cooling down",
            "A deployment that failed too often, or was told to wait, gets no requests for a while."
            " With several gateways, it counts as cooling down if it is at one of them.",
            "bool_yes_no",
            [Prom(q.IN_USE, "{{route}} · {{deployment}}", step="")],
            Links(down=(LATENCY,), runbooks=("AllDeploymentsDown",)),
            Look(
                width=12,
                height=9,
                texts={"1": ("in use", "green"), "0": ("cooling down", "red")},
            ),
        ),
        timeseries(
            "Cooldown left",
            "Time until a deployment gets requests again.",
            "s",
            [Prom(q.RESTS_FOR, "{{route}} · {{deployment}}", step="")],
            Links(down=(LATENCY,), runbooks=("AllDeploymentsDown",)),
            Look(width=12, height=9),
        ),
        timeseries(
            "Use of our own limits",
            "Share of each deployment's `rpm` and `tpm` used in the last minute, at the gateway that used"
            " most. At 100 %, requests wait or go elsewhere. The twelve highest.",
            "percentunit",
            [Prom(q.top(12, q.LIMIT_USED), "{{deployment}} {{limit}}", step="")],
            Links(down=(LATENCY,), runbooks=("AllDeploymentsDown",)),
            Look(width=12),
        ),
        timeseries(
            "Throttled",
            "Attempts that the provider rejected with “too many requests” or “overloaded”, or that our own"
            " limit stopped (`rate_limit_reached`); the twelve most frequent at each moment.",
            "cps",
            [
                Prom(
                    q.top(12, q.THROTTLED),
                    "{{spanledger_deployment}}: {{error_type}}",
                    exemplar=True,
                )
            ],
            Links(down=(LATENCY,), runbooks=("ProviderErrorBudgetBurn",)),
            Look(width=12, stacked=True),
        ),
    ],
)

FAILED = Row(
    "What do failures cost?",
    [
        bars(
            "Failed attempts",
            "In the selected range, by deployment and error type.",
            "locale",
            [
                Prom(
                    q.top(15, q.ERRORS_BY_DEPLOYMENT),
                    "{{spanledger_deployment}}: {{error_type}}",
                    instant=True,
                )
            ],
            Links(down=(COST,), runbooks=("ProviderErrorBudgetBurn",)),
            Look(width=10, decimals=0, steps=ANY_IS_BAD, no_value="none"),
        ),
        spans(
            "Failed attempts that were billed",
            "Providers bill for interrupted streams and for callers that disconnect, and again for the retries"
            " after them.",
            Traces(q.FAILED_AND_BILLED),
            Links(down=(COST,), runbooks=("BudgetOverrun",)),
            Look(width=14, sort_by="Cost"),
        ),
    ],
)

BOARD = Board(
    PROVIDERS,
    "Which providers answer, what happens to requests when one fails, which deployments are cooling down"
    " or near a limit, and what failures cost.",
    "Anyone on call when a provider has a bad day, and anyone who chooses providers.",
    [ANSWER, NOT, REST, FAILED],
    choices=(
        Choice(
            "provider",
            "Provider",
            q.label_values(f"{q.ATTEMPTS}_count", q.PROVIDER, q.GATEWAY),
            several=True,
        ),
        Choice("route", "Route", q.label_values(q.DEPLOYMENT_UP, "route"), several=True),
    ),
    events=EVENTS,
)
