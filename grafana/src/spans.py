"""Tables of spans found by TraceQL, and the display of their attributes.

Grafana returns a span's attributes as text columns under their own names, next to the trace's service and
root. Here they get a title and a unit, and fractions become numbers, because text would sort
as text. Releases that show traces with nested spans have no such columns, and lose nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from grafana.src.links import Links, trace_opens
from grafana.src.panels import PLAIN, Look, Override, Panel, Traces, table


@dataclass(frozen=True, slots=True)
class Column:
    """An attribute's title, and the unit and decimals of a fraction."""

    title: str
    unit: str = ""
    decimals: int | None = None


USD_DECIMALS = 6
"""Grafana shows a smaller amount than 0.000001 as `7e-7` unless it is rounded first."""
COLUMNS: Mapping[str, Column] = {
    "spanledger.request.cost.usd": Column("Cost", "currencyUSD", USD_DECIMALS),
    "spanledger.cost.usd": Column("Cost", "currencyUSD", USD_DECIMALS),
    "spanledger.customer": Column("Customer"),
    "spanledger.deployment": Column("Deployment"),
    "spanledger.outcome": Column("Outcome"),
    "spanledger.attempts": Column("Attempts"),
    "spanledger.estimated": Column("Estimated"),
    "spanledger.fallback.from": Column("From"),
    "spanledger.fallback.reason": Column("Reason"),
    "gen_ai.provider.name": Column("Provider"),
    "gen_ai.request.model": Column("Model"),
    "gen_ai.response.time_to_first_chunk": Column("First token", "s"),
    "gen_ai.usage.output_tokens": Column("Output tokens"),
    "error.type": Column("Error"),
}
_OF_SPAN = "__data.fields.traceIdHidden"
OPENS: Mapping[str, str] = {"time": _OF_SPAN, "name": _OF_SPAN, "traceID": "__value.raw"}
"""Columns that open the trace, mapped to the place of its id; the last is for releases that show traces
with nested spans."""
HIDDEN = ("spanID", "traceService", "traceName")
"""A span's id links to Explore. A trace's service and name are those of its root, which Tempo often
does not have, because the caller does not send its span or sends it later."""
TEXT = "string"
"""The unit for values shown unchanged."""
_ATTRIBUTE = re.compile(r"\bspan\.([a-z0-9_.]+)")


def spans(
    title: str,
    description: str,
    query: Traces,
    links: Links,
    look: Look = PLAIN,
    titles: Mapping[str, str] = {},
) -> Panel:
    """A table of the newest spans of a query; `look.sort_by` is a title.

    Args:
        titles: of attributes with a different title in this table.
    """
    columns = {name: COLUMNS[name] for name in sorted(set(_ATTRIBUTE.findall(query.query)))}
    fractions = [name for name, column in columns.items() if column.unit]
    conversions = [{"targetField": name, "destinationType": "number"} for name in fractions]
    overrides: list[Override] = [(name, {"custom.hidden": True}) for name in HIDDEN]
    for name, trace_id in OPENS.items():
        link = {"title": "Open the trace", "url": trace_opens(trace_id)}
        overrides.append((name, {"links": [link]}))
    for name, column in columns.items():
        unit = {"unit": column.unit} if column.unit else {}
        rounded = {} if column.decimals is None else {"decimals": column.decimals}
        overrides.append((name, {"displayName": titles.get(name, column.title), **unit, **rounded}))
    look = replace(
        look,
        overrides=overrides,
        transformations=(("convertFieldType", {"conversions": conversions}),)
        if conversions
        else (),
    )
    return table(title, description, TEXT, [query], links, look)
