"""All dashboards, from the general to the detailed."""

from __future__ import annotations

from grafana.src import cost, customer, health, latency, overview, providers, traces

BOARDS = (
    overview.BOARD,
    cost.BOARD,
    providers.BOARD,
    latency.BOARD,
    customer.BOARD,
    traces.FOUND,
    traces.ONE,
    health.BOARD,
)
