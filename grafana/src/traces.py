"""Find traces and Trace: the results of a search, and one trace from its cost to its last span."""

from __future__ import annotations

from grafana.src import queries as q
from grafana.src.board import Board, Choice, Row
from grafana.src.links import COST, CUSTOMER, FIND, LATENCY, PROVIDERS, TRACE, Links
from grafana.src.panels import Look, Trace, Traces, trace
from grafana.src.spans import spans

KEPT = "7d"
"""How long Tempo keeps traces. A link may be opened long after it was made."""

MATCHES = Row(
    "What matches?",
    [
        spans(
            "Spans",
            "The newest spans that the search above finds. Click a time or a name to open its trace.",
            Traces(q.FOUND, limit=100, of_each=10),
            Links(down=(PROVIDERS, COST), runbooks=("ProviderErrorBudgetBurn",)),
            Look(width=24, height=22),
            titles={"spanledger.request.cost.usd": "Request cost"},
        ),
    ],
)

FOUND = Board(
    FIND,
    "Search traces with TraceQL. Links in alerts open this dashboard with the matching search filled in.",
    "Anyone looking for the requests behind an alert or a complaint.",
    [MATCHES],
    choices=(Choice("query", "TraceQL", typed=True, chosen=q.ANY_REQUEST),),
    since="now-1h",
    refresh="",
    long=False,
)

DID = Row(
    "What was requested, and what did it cost?",
    [
        spans(
            "Requests",
            "Each request of this trace at the gateway. An agent makes many requests in one trace.",
            Traces(q.REQUESTS_OF_TRACE, limit=1, of_each=100),
            Links(down=(CUSTOMER,), runbooks=("CostSpike",)),
            Look(width=12, height=7, sort_by="+Start time", since=KEPT),
        ),
        spans(
            "Attempts",
            "Each attempt at a provider, in order: what it cost, and why the next one was made.",
            Traces(q.ATTEMPTS_OF_TRACE, limit=1, of_each=100),
            Links(down=(PROVIDERS,), runbooks=("FallbackStorm",)),
            Look(width=12, height=7, sort_by="+Start time", since=KEPT),
        ),
    ],
)

TOOK = Row(
    "Where did the time go?",
    [
        trace(
            "All spans",
            "The request, its attempts and, if the application is instrumented, the calls that led to them."
            " Click a span to see its attributes.",
            "string",
            [Trace(q.TRACE_ID)],
            Links(down=(LATENCY,), runbooks=("TimeToFirstTokenSlow",)),
            Look(width=24, height=20, since=KEPT),
        ),
    ],
)

ONE = Board(
    TRACE,
    "One trace: its requests, their attempts and what each cost, and every span. Paste an id from"
    " an answer's `x-spanledger-trace-id` header or from `spanledger requests`.",
    "Anyone who wants to know what happened to one request.",
    [DID, TOOK],
    choices=(Choice("trace_id", "Trace id", typed=True),),
    since="now-24h",
    refresh="",
    long=False,
)
