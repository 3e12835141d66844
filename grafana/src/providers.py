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
            "Share of the attempts that were answered. What the caller did wrong, and attempts that were"
            " never made, do not count against a provider.",
            "percentunit",
            [Prom(q.THEIR_SUCCESS, "{{gen_ai_provider_name}}")],
            Links(down=(LATENCY,), runbooks=("ProviderErrorBudgetBurn",)),
            Look(width=8, maximum=1, soft_minimum=0.9),
        ),
        timeseries(
            "Errors of attempts, by kind",
            "All attempts that failed, whatever became of the request. A click on a point leads to the"
            " trace.",
            "cps",
            [Prom(q.ERRORS_OF_ATTEMPTS, "{{error_type}}", exemplar=True)],
            Links(down=(LATENCY,), runbooks=("ProviderErrorBudgetBurn", "AllDeploymentsDown")),
            Look(width=8, stacked=True),
        ),
        timeseries(
            "Attempts by deployment",
            "How the load is shared; a deployment that cools down falls to nought.",
            "cps",
            [Prom(q.ATTEMPTS_BY_DEPLOYMENT, "{{spanledger_deployment}}")],
            Links(down=(LATENCY,), runbooks=("AllDeploymentsDown",)),
            Look(width=8, stacked=True),
        ),
    ],
)

NOT = Row(
    "What happens when one does not?",
    [
        timeseries(
            "Retries, by deployment and reason",
            "Further attempts within the same route, by the deployment tried and the failure before; the"
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
            "Requests that left the route they asked for, the twelve ways taken most at each moment.",
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
            "Of the requests for a route, those that another served in the end or tried to.",
            "percentunit",
            [Prom(q.FALLBACK_SHARE, "{{spanledger_fallback_from}}")],
            Links(down=(COST,), runbooks=("FallbackStorm",)),
            Look(width=8),
        ),
        graph(
            "Where requests went instead",
            "Routes and the deployments that took over; numbers are fallbacks in the time shown.",
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
            "Fallbacks in the time shown",
            "From the route asked for, to the deployment gone to, and why.",
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
            "The latest of them",
            "A click opens the trace with every attempt.",
            Traces(q.FELL_BACK),
            Links(down=(COST,), runbooks=("FallbackStorm",)),
            Look(width=24),
        ),
    ],
)

REST = Row(
    "Which deployments rest, and which are near a limit?",
    [
        states(
            "In use or cooling down",
            "A deployment that failed too often, or was told to wait, gets no requests for a while."
            " With several gateways: cooling at one of them at least.",
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
            "Cooling down for",
            "Until a deployment gets requests again.",
            "s",
            [Prom(q.RESTS_FOR, "{{route}} · {{deployment}}", step="")],
            Links(down=(LATENCY,), runbooks=("AllDeploymentsDown",)),
            Look(width=12, height=9),
        ),
        timeseries(
            "Use of our own limits",
            "Share of each deployment's `rpm` and `tpm` used in the last minute, at the gateway"
            " that used most; at 100 % requests wait or go elsewhere. The twelve nearest to that.",
            "percentunit",
            [Prom(q.top(12, q.LIMIT_USED), "{{deployment}} {{limit}}", step="")],
            Links(down=(LATENCY,), runbooks=("AllDeploymentsDown",)),
            Look(width=12),
        ),
        timeseries(
            "Throttled",
            "Attempts the provider answered with “too many” or “overloaded”, and those that our own"
            " limit kept back (`rate_limit_reached`); the twelve most frequent at each moment.",
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
            "In the time shown, by deployment and kind.",
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
            "Broken streams and callers that went away are paid for; retries after them are paid"
            " for again.",
            Traces(q.FAILED_AND_BILLED),
            Links(down=(COST,), runbooks=("BudgetOverrun",)),
            Look(width=14, sort_by="Cost"),
        ),
    ],
)

BOARD = Board(
    PROVIDERS,
    "Which provider answers, what happens to requests when one does not, which deployments rest or"
    " are near a limit, and what failures cost.",
    "Whoever is on call when a provider has a bad day, and whoever chooses providers.",
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
