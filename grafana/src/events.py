"""The annotations that every dashboard shows in its panels."""

from __future__ import annotations

from grafana.src import queries as q
from grafana.src.board import Event

EVENTS = (
    Event(
        "Refusals by budgets",
        q.WHEN_REFUSED,
        "red",
        "Budget {{spanledger_budget_refused_by}} began to refuse requests.",
    ),
    Event(
        "Fallback storm",
        q.WHEN_FALLBACK_STORM,
        "orange",
        "Requests for {{spanledger_route}} began to go to its fallback.",
    ),
    Event(
        "Price book changed",
        q.WHEN_PRICES_CHANGED,
        "purple",
        "Prices of {{book}} apply from here on.",
    ),
)
