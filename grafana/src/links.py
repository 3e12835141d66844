"""Links to dashboards (by slug) and runbooks (by alert), and their addresses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.models import dashboard as models

REPOSITORY = "https://github.com/spanledger/spanledger"

OVERVIEW = "overview"
COST = "cost-and-budgets"
PROVIDERS = "providers-and-fallbacks"
LATENCY = "latency-and-streaming"
CUSTOMER = "customer"
FIND = "find-traces"
TRACE = "trace"
HEALTH = "stack-health"
TITLES: Mapping[str, str] = {
    OVERVIEW: "Overview",
    COST: "Cost and budgets",
    PROVIDERS: "Providers and fallbacks",
    LATENCY: "Latency and streaming",
    CUSTOMER: "Customer",
    FIND: "Find traces",
    TRACE: "Trace",
    HEALTH: "Stack health",
}
"""Every dashboard's uid, which is also its file name, and its title."""


@dataclass(frozen=True, slots=True)
class Links:
    """A panel's links: dashboards by slug, runbooks by alert."""

    down: Sequence[str] = ()
    runbooks: Sequence[str] = ()


def link(title: str, url: str, *, new_tab: bool = False) -> builders.DashboardLink:
    kind = models.DashboardLinkType.LINK
    return builders.DashboardLink(title).type(kind).url(url).target_blank(new_tab)


def opens(slug: str, **variables: str) -> str:
    """The address of a dashboard about the clicked series, whose labels set its variables."""
    return _address(slug, {name: f"__field.labels.{label}" for name, label in variables.items()})


def row_opens(slug: str, **variables: str) -> str:
    """The same for a table row, whose columns set the variables."""
    return _address(slug, {name: f"__data.fields.{column}" for name, column in variables.items()})


def trace_opens(trace_id: str) -> str:
    """The address of a trace; `trace_id` is the Grafana expression for its id. Explore would show it too,
    but viewers may not open Explore and are sent to the start page."""
    return f"{_address(TRACE, {'trace_id': trace_id})}&${{__url_time_range}}"


def _address(slug: str, variables: Mapping[str, str]) -> str:
    """Values are percent-encoded, because names may contain any character."""
    pairs = "&".join(f"var-{name}=${{{value}:percentencode}}" for name, value in variables.items())
    return f"/d/{slug}?{pairs}"


def panel_links(links: Links) -> list[builders.DashboardLink]:
    down = [link(TITLES[slug], f"/d/{slug}?${{__url_time_range}}") for slug in links.down]
    books = [
        link(f"Runbook: {alert}", f"{REPOSITORY}/blob/main/docs/runbooks/{alert}.md", new_tab=True)
        for alert in links.runbooks
    ]
    return [*down, *books]
