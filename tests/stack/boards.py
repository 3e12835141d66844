"""The dashboards' files as tests read them: panels, queries, and variables filled in as by Grafana."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from grafana.src.panels import COPIES, OTLP_STEP
from prometheus.src import long

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "grafana" / "dashboards"
SCRAPE_S = 10
"""`timeInterval` of the data source."""

COLUMN_PIXELS = 80
"""Of the 24 columns of a page, on a wide screen."""
MAX_POINTS = 11_000
"""Of a series in an answer of Prometheus."""

VARIABLE = re.compile(r"\$(?:\{([a-z_]\w*)(?::\w+)?\}|([a-z_]\w*))")

Json = dict[str, Any]


EMPTY_BY_DESIGN = {
    ("stack-health", "Refused and undeliverable", "C"): "no back end refuses spans for good",
    ("stack-health", "Refused and undeliverable", "D"): "no back end refuses points for good",
    ("stack-health", "Spans dropped by the gateway", "A"): "the collector refuses no span",
    ("stack-health", "Attributes truncated, spans discarded by Tempo", "A"): "none is as long",
    ("stack-health", "Attributes truncated, spans discarded by Tempo", "B"): "no limit is reached",
    ("overview", "Fallback storm", "annotation"): "a few fallbacks are not a storm",
    ("overview", "Price book changed", "annotation"): "the gateway keeps its prices",
}
"""Queries without results on a healthy stack, and why. Annotations are the same in every dashboard."""


@cache
def dashboards() -> dict[str, Json]:
    """Every committed dashboard, by its file's name without the ending."""
    return {
        path.stem: json.loads(path.read_text("utf-8")) for path in sorted(FOLDER.glob("*.json"))
    }


def panels(board: Json) -> list[Json]:
    """Its panels, rows excepted."""
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def tables_of_spans() -> list[Json]:
    """The tables whose rows are spans that TraceQL finds."""
    return [
        panel
        for board in dashboards().values()
        for panel in panels(board)
        if panel["type"] == "table" and "query" in panel["targets"][0]
    ]


@dataclass(frozen=True, slots=True)
class Query:
    """A query of a dashboard and its place."""

    board: str
    place: str
    ref: str
    text: str
    language: str
    """promql, traceql, or trace: an id."""
    instant: bool
    step: str
    points: int
    """The most points Grafana asks for, as many as there are pixels; 0 where it does not say."""

    @property
    def forms(self) -> tuple[str, ...]:
        """Its text as it is up to a day, and as it is beyond."""
        return forms(self.text)

    def __str__(self) -> str:
        return f"{self.board}: {self.place} {self.ref}"


def queries() -> list[Query]:
    """The queries of every panel."""
    return [
        Query(
            uid,
            panel["title"],
            target["refId"],
            target.get("expr") or target["query"],
            "promql" if "expr" in target else "trace" if panel["type"] == "traces" else "traceql",
            bool(target.get("instant")),
            target.get("interval", ""),
            COLUMN_PIXELS * panel["gridPos"]["w"],
        )
        for uid, board in dashboards().items()
        for panel in panels(board)
        for target in panel["targets"]
    ]


def marks() -> list[Query]:
    """The queries behind annotations."""
    return [
        Query(uid, event["name"], "annotation", event["expr"], "promql", False, event["step"], 0)
        for uid, board in dashboards().items()
        for event in board["annotations"].get("list", ())
    ]


def choices() -> list[Query]:
    """The queries that fill variables, without the surrounding function."""
    asked = re.compile(r"^(?:label_values|query_result)\((.+?)(?:, \w+)?\)$")
    return [
        Query(uid, name, "variable", found.group(1), "promql", True, "", 0)
        for uid, board in dashboards().items()
        for name, variable in variables(board).items()
        if variable["type"] == "query" and (found := asked.match(variable["query"]["query"]))
    ]


def variables(board: Json) -> dict[str, Json]:
    """A dashboard's variables by name."""
    return {variable["name"]: variable for variable in board["templating"]["list"]}


def seconds(duration: str) -> int:
    """A duration of PromQL in seconds."""
    return int(duration[:-1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[duration[-1]]


def forms(text: str) -> tuple[str, ...]:
    """A text with the originals' names and, where it has any with a copy, with those of the copies."""
    return tuple(dict.fromkeys(text.replace(COPIES, prefix) for prefix in ("", long.PREFIX)))


def filled(text: str, values: dict[str, str], step: str = "") -> str:
    """A query with Grafana's variables and the dashboard's own in their places."""
    own = {"long": "", "step": OTLP_STEP, "__range": "3600s", "__range_s": "3600", **values}

    def put(written: str) -> str:
        return VARIABLE.sub(lambda match: own[match[1] or match[2]], written)

    least = seconds(put(step)) if step else SCRAPE_S
    own.setdefault("__rate_interval", f"{4 * least}s")
    return put(text)


def grafana_regex(name: str) -> str:
    """A name as Grafana's `:regex` writes it."""
    return re.sub(r"[\\^$*+?.()|\[\]{}/]", r"\\\g<0>", name)


class Ask(Protocol):
    """Query Prometheus; returns the answer's `data`."""

    def __call__(self, path: str, /, **params: Any) -> Any: ...


def offered(variable: Json, chosen: dict[str, str], ask: Ask) -> list[str]:
    """The values of a variable."""
    written = filled(variable["query"]["query"], chosen)
    if match := re.fullmatch(r"label_values\((.+), (\w+)\)", written):
        matcher, label = match.groups()
        return list(ask(f"/api/v1/label/{label}/values", **{"match[]": matcher}))
    (expression,) = re.fullmatch(r"query_result\((.+)\)", written).groups()  # type: ignore[union-attr]  # else it is not a variable
    rows = [
        "{"
        + ",".join(f'{k}="{v}"' for k, v in one["metric"].items())
        + f"}} {one['value'][1]} {one['value'][0]}"
        for one in ask("/api/v1/query", query=expression)["result"]
    ]
    pattern = re.compile(variable["regex"].strip("/"))
    return [match[1] for row in rows if (match := pattern.search(row))]


def choose(board: Json, ask: Ask, known: dict[str, str], preferred: str = "") -> dict[str, str]:
    """A value for each variable that offers one, as if everything were chosen.

    `known` are those that Grafana has from the time shown, `preferred` is taken wherever it is offered.
    """
    chosen = dict(known)
    for name, variable in variables(board).items():
        if name in known:
            continue
        if variable["type"] in ("custom", "interval"):
            chosen[name] = variable["query"].split(",")[0]
        elif variable["type"] == "textbox":
            chosen[name] = variable.get("query", "")
        elif variable["type"] == "query" and (values := offered(variable, chosen, ask)):
            every = ".*" if variable.get("includeAll") else values[0]
            chosen[name] = preferred if preferred in values and every != ".*" else every
    return chosen


def plain(text: str) -> str:
    """A query with the names of its variables in their places, for those who look at its form."""
    return VARIABLE.sub(lambda match: match[1] or match[2], text)
