"""All dashboards, in the order in which a reader goes down."""

from __future__ import annotations

from grafana.src import cost, customer, health, latency, overview, providers

BOARDS = (
    overview.BOARD,
    cost.BOARD,
    providers.BOARD,
    latency.BOARD,
    customer.BOARD,
    health.BOARD,
)
