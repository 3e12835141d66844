"""A dashboard: rows of panels, variables, annotations, links, and its JSON file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as models

from grafana.src import queries as q
from grafana.src.links import TITLES, link
from grafana.src.panels import METRICS, Panel

TAG = "spanledger"
COLUMNS = 24


@dataclass(frozen=True, slots=True)
class Row:
    """A question and the panels that answer it."""

    question: str
    panels: Sequence[Panel]


@dataclass(frozen=True, slots=True)
class Choice:
    """A variable. One of `query` (PromQL's label_values or query_result), `values` and `typed`.

    `typed`: free text in a box, which starts as `chosen`. `fitting`: the values are lengths of time; the
    default is a thirtieth of the selected range, but no less than this. `follows`: not a choice, but computed
    from the selected range.
    """

    name: str
    label: str
    query: str = ""
    values: Sequence[str] = ()
    chosen: str = ""
    regex: str = ""
    several: bool = False
    hidden: bool = False
    typed: bool = False
    fitting: str = ""
    follows: bool = False


@dataclass(frozen=True, slots=True)
class Event:
    """An annotation: a mark in all panels when the expression has a value."""

    name: str
    expr: str
    colour: str
    text: str


@dataclass(frozen=True, slots=True)
class Board:
    """A dashboard."""

    slug: str
    description: str
    reader: str
    """The people it is for, for docs/dashboards.md."""
    rows: Sequence[Row]
    choices: Sequence[Choice] = ()
    events: Sequence[Event] = ()
    links: Mapping[str, str] = field(default_factory=dict)
    """Further links, from title to URL."""
    since: str = "now-3h"
    refresh: str = "30s"
    """How often it refreshes; empty if that would disturb a reader."""
    long: bool = True
    """Whether its queries read copies for ranges longer than a day."""


def _source(name: str, label: str, kind: str) -> builders.DatasourceVariable:
    return (
        builders.DatasourceVariable(name)
        .label(label)
        .type(kind)
        .current(models.VariableOption(text=label, value=kind))
        .hide(models.VariableHide.HIDE_VARIABLE)
    )


FOLLOWING = (
    Choice("long", "", q.LONG, regex='/long="([^"]+)"/', hidden=True, follows=True),
    Choice("step", "", q.STEP, regex='/step="([^"]+)"/', hidden=True, follows=True),
)
"""Whether queries read copies, and with which step."""


def _lengths(choice: Choice) -> builders.IntervalVariable:
    """Lengths of time, of which Grafana picks one that fits."""
    fits = models.VariableOption(
        text="auto", value=f"$__auto_interval_{choice.name}", selected=True
    )
    options = [models.VariableOption(text=v, value=v, selected=False) for v in choice.values]
    return (
        builders.IntervalVariable(choice.name)
        .label(choice.label)
        .values(",".join(choice.values))
        .auto(True)
        .step_count(30)
        .min_interval(choice.fitting)
        .options([fits, *options])
        .current(fits)
    )


def _variable(choice: Choice) -> Any:
    if choice.fitting:
        return _lengths(choice)
    if choice.typed:
        # A reset restores the query. Older releases show `current` in the box, and search for it.
        written = models.VariableOption(text=choice.chosen, value=choice.chosen)
        return (
            builders.TextBoxVariable(choice.name)
            .label(choice.label)
            .default_value(choice.chosen)
            .current(written)
        )
    everything = models.VariableOption(text="All", value="$__all", selected=True)
    if choice.values:
        options = [
            models.VariableOption(text=value, value=value, selected=value == choice.chosen)
            for value in choice.values
        ]
        chosen = next(option for option in options if option.selected)
        return (
            builders.CustomVariable(choice.name)
            .label(choice.label)
            .values(",".join(choice.values))
            .options(options)
            .current(chosen)
        )
    built = (
        builders.QueryVariable(choice.name)
        .label(choice.label)
        .datasource(METRICS)
        .query({"query": choice.query, "refId": choice.name})
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
        .regex(choice.regex)
    )
    if choice.hidden:
        built.hide(models.VariableHide.HIDE_VARIABLE)
    if choice.several:
        built.include_all(True).multi(True).all_value(".*").current(everything)
    if choice.follows:
        # A URL with another time range would bring back the old value. The builder lacks the setter.
        built._internal.skip_url_sync = True
    return built


def _annotation(event: Event) -> builders.AnnotationQuery:
    return (
        builders.AnnotationQuery()
        .name(event.name)
        .datasource(METRICS)
        .enable(True)
        .icon_color(event.colour)
        .expr(event.expr)
        .step("60s")
        .title_format(event.name)
        .text_format(event.text)
    )


def render(board: Board) -> str:
    """A dashboard's JSON."""
    built = (
        builders.Dashboard(TITLES[board.slug])
        .uid(board.slug)
        .description(board.description)
        .tags([TAG])
        .readonly()
        .refresh(board.refresh)
        .time(board.since, "now")
        .timezone("browser")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .with_variable(_source("datasource", "Prometheus", "prometheus"))
        .with_variable(_source("traces", "Tempo", "tempo"))
    )
    for choice in (*(FOLLOWING if board.long else ()), *board.choices):
        built.with_variable(_variable(choice))
    for event in board.events:
        built.annotation(_annotation(event))
    for title, url in board.links.items():
        built.link(link(title, url))
    for slug, title in TITLES.items():
        if slug != board.slug:
            built.link(link(title, f"/d/{slug}").keep_time(True))
    _lay_out(built, board.rows)
    return json.dumps(built.build(), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"


def _lay_out(built: builders.Dashboard, rows: Sequence[Row]) -> None:
    """Rows from top to bottom, panels from left to right, with ids in that order."""
    number, y = 0, 0
    for row in rows:
        number += 1
        place = models.GridPos(h=1, w=COLUMNS, x=0, y=y)
        built.with_row(builders.Row(row.question).id(number).grid_pos(place))
        x, y, tallest = 0, y + 1, 0
        for panel in row.panels:
            if x + panel.width > COLUMNS:
                x, y, tallest = 0, y + tallest, 0
            number += 1
            place = models.GridPos(h=panel.height, w=panel.width, x=x, y=y)
            built.with_panel(panel.builder.id(number).grid_pos(place))
            x, tallest = x + panel.width, max(tallest, panel.height)
        y += tallest
