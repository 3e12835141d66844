"""The kinds of panels in the dashboards.

One function per kind. Each requires what every panel must have: title, description, unit, queries, links.
Features of newer Grafana versions are avoided, so the files also work in Grafana 9.4, except for rates
over more than a day, because its `$__rate_interval` ignores a query's smallest step.
Query strings are in queries.py, layouts in each dashboard's own file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from grafana_foundation_sdk.builders import barchart as barchart_builders
from grafana_foundation_sdk.builders import bargauge as bargauge_builders
from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.builders import heatmap as heatmap_builders
from grafana_foundation_sdk.builders import nodegraph as nodegraph_builders
from grafana_foundation_sdk.builders import prometheus, tempo
from grafana_foundation_sdk.builders import stat as stat_builders
from grafana_foundation_sdk.builders import statetimeline as statetimeline_builders
from grafana_foundation_sdk.builders import table as table_builders
from grafana_foundation_sdk.builders import timeseries as timeseries_builders
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import heatmap as heatmap_models
from grafana_foundation_sdk.models import prometheus as prometheus_models
from grafana_foundation_sdk.models import tempo as tempo_models

from grafana.src.links import Links, panel_links

METRICS = common.DataSourceRef("prometheus", "${datasource}")
TRACES = common.DataSourceRef("tempo", "${traces}")
OTLP_STEP = "30s"
"""OTLP points are repeated every minute while they do not change; `$__rate_interval` is four of these
steps, so that a rate always has two samples."""
COPIES = "${long}"
"""Prefix of a name that has a copy for long ranges; the variable `step` then holds the smallest step."""

Override = tuple[str, Mapping[str, object]]
"""A field's name, or a regular expression in slashes, and its own properties."""


@dataclass(frozen=True, slots=True)
class Prom:
    """A PromQL query.

    Attributes:
        legend: the series' name; may use `{{label}}`.
        instant: only the newest value.
        table: as rows, for tables, bars and graphs.
        buckets: of a histogram, for a heat map.
        exemplar: also fetch exemplars, which link to traces.
        step: the smallest interval between two points.
    """

    expr: str
    legend: str = ""
    instant: bool = False
    table: bool = False
    buckets: bool = False
    exemplar: bool = False
    step: str = OTLP_STEP


@dataclass(frozen=True, slots=True)
class Traces:
    """A TraceQL query whose spans are the rows of a table."""

    query: str
    limit: int = 20
    of_each: int = 0
    """The most spans per trace; Tempo's default is three."""


@dataclass(frozen=True, slots=True)
class Trace:
    """One trace, by its id."""

    trace_id: str


Query = Prom | Traces | Trace


@dataclass(frozen=True, slots=True)
class Look:
    """A panel's appearance."""

    width: int = 12
    height: int = 8
    decimals: int | None = None
    minimum: float | None = None
    maximum: float | None = None
    soft_minimum: float | None = None
    """Where the axis starts unless a value is below it."""
    stacked: bool = False
    bars: bool = False
    steps: Sequence[tuple[float | None, str]] = ()
    """Thresholds: the colour from each value on; the first has no value."""
    overrides: Sequence[Override] = ()
    transformations: Sequence[tuple[str, Mapping[str, object]]] = ()
    texts: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Values, mapped to the text and colour that represent them."""
    sort_by: str = ""
    """A column, in descending order; with `+` in front, ascending."""
    fixed: str = ""
    """One colour for everything."""
    dashed: Sequence[str] = ()
    """Series that are not measured, drawn dashed."""
    no_value: str = ""
    named: bool = False
    """Show each number's name next to it."""
    since: str = ""
    """Look back at least this far, even if the dashboard shows less."""
    opens: tuple[str, str] | None = None
    """The link behind a series: its text, and a dashboard about that series."""


PLAIN = Look()


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel and its size."""

    builder: Any
    width: int
    height: int


def _target(query: Query, ref_id: str) -> Any:
    if isinstance(query, Trace | Traces):
        return _tempo_target(query).ref_id(ref_id).datasource(TRACES).query_type("traceql")
    formats = prometheus_models.PromQueryFormat
    shape = formats.TABLE if query.table else formats.TIME_SERIES
    step = "$step" if COPIES in query.expr and query.step == OTLP_STEP else query.step
    built = (
        prometheus.Dataquery()
        .ref_id(ref_id)
        .datasource(METRICS)
        .expr(query.expr)
        .format(formats.HEATMAP if query.buckets else shape)
        .exemplar(query.exemplar)
        .interval(step)
    )
    if query.legend or query.buckets:
        built = built.legend_format(query.legend or "{{le}}")
    return built.instant() if query.instant else built.range()


def _tempo_target(query: Trace | Traces) -> tempo.Dataquery:
    """A query that is only an id returns that trace."""
    if isinstance(query, Trace):
        return tempo.Dataquery().query(query.trace_id)
    built = tempo.Dataquery().query(query.query).limit(query.limit)
    if query.of_each:
        built.spss(query.of_each)
    return built.table_type(tempo_models.SearchTableType.SPANS)


def _common(
    builder: Any,
    title: str,
    description: str,
    unit: str,
    queries: Sequence[Query],
    links: Links,
    look: Look,
) -> Panel:
    """The properties that all kinds share."""
    source = METRICS if isinstance(queries[0], Prom) else TRACES
    builder.title(title).description(description).unit(unit).datasource(source)
    builder.targets([_target(query, chr(ord("A") + n)) for n, query in enumerate(queries)])
    builder.links(panel_links(links))
    if look.decimals is not None:
        builder.decimals(look.decimals)
    if look.minimum is not None:
        builder.min(look.minimum)
    if look.maximum is not None:
        builder.max(look.maximum)
    if look.no_value:
        builder.no_value(look.no_value)
    if look.since:
        builder.time_from(look.since)
    if look.steps:
        steps = [models.Threshold(value, colour) for value, colour in look.steps]
        mode = models.ThresholdsMode.ABSOLUTE
        builder.thresholds(builders.ThresholdsConfig().mode(mode).steps(steps))
    if look.texts:
        builder.mappings([_mapping(look.texts)])
    if look.fixed:
        builder.color_scheme(
            builders.FieldColor().mode(models.FieldColorModeId.FIXED).fixed_color(look.fixed)
        )
    of_all: list[Override] = (
        [("/.*/", {"links": [{"title": look.opens[0], "url": look.opens[1]}]})]
        if look.opens
        else []
    )
    for name, properties in (*of_all, *look.overrides):
        values = [models.DynamicConfigValue(key, value) for key, value in properties.items()]
        if name.startswith("/"):
            builder.override_by_regexp(name, values)
        else:
            builder.override_by_name(name, values)
    for kind, options in look.transformations:
        builder.with_transformation(models.DataTransformerConfig(kind, options=dict(options)))
    return Panel(builder, look.width, look.height)


def _mapping(texts: Mapping[str, tuple[str, str]]) -> models.ValueMap:
    options = {
        value: models.ValueMappingResult(text=text, color=colour, index=n)
        for n, (value, (text, colour)) in enumerate(texts.items())
    }
    return models.ValueMap(options=options)


def _value_map(texts: Mapping[str, str]) -> list[Mapping[str, object]]:
    options = {value: {"text": text, "index": n} for n, (value, text) in enumerate(texts.items())}
    return [{"type": "value", "options": options}]


EVERYBODY: Mapping[str, object] = {"mappings": _value_map({"*": "everybody"})}
"""Properties of a column of subjects: shows a global budget's `*` as everybody."""


def _legend() -> common_builders.VizLegendOptions:
    return (
        common_builders.VizLegendOptions()
        .display_mode(common.LegendDisplayMode.LIST)
        .placement(common.LegendPlacement.BOTTOM)
        .show_legend(True)
    )


def _tooltip() -> common_builders.VizTooltipOptions:
    return (
        common_builders.VizTooltipOptions()
        .mode(common.TooltipDisplayMode.MULTI)
        .sort(common.SortOrder.DESCENDING)
    )


def renamed(
    columns: Mapping[str, str], dropped: Sequence[str] = ("Time",)
) -> Sequence[tuple[str, Mapping[str, object]]]:
    """The transformation that renames and orders a table's columns and drops others."""
    order = {name: n for n, name in enumerate(columns)}
    options = {
        "excludeByName": dict.fromkeys(dropped, True),
        "indexByName": order,
        "renameByName": dict(columns),
    }
    return (("organize", options),)


def timeseries(
    title: str,
    description: str,
    unit: str,
    queries: Sequence[Query],
    links: Links,
    look: Look = Look(),
) -> Panel:
    """Lines over time, or bars; stacked if their sum is meaningful."""
    builder = (
        timeseries_builders.Panel()
        .line_width(1)
        .fill_opacity(60 if look.bars else 25 if look.stacked else 8)
        .show_points(common.VisibilityMode.NEVER)
        .span_nulls(120_000)
        .legend(_legend())
        .tooltip(_tooltip())
    )
    if look.bars:
        builder.draw_style(common.GraphDrawStyle.BARS)
    if look.stacked:
        builder.stacking(common_builders.StackingConfig().mode(common.StackingMode.NORMAL))
    dashes: list[Override] = [
        (name, {"custom.lineStyle": {"fill": "dash", "dash": [8, 6]}, "custom.fillOpacity": 0})
        for name in look.dashed
    ]
    minimum = 0.0 if look.minimum is None else look.minimum
    if look.soft_minimum is not None:
        builder.axis_soft_min(look.soft_minimum)
    elif minimum != float("-inf"):
        builder.min(minimum)
    look = replace(look, minimum=None, overrides=[*look.overrides, *dashes])
    return _common(builder, title, description, unit, queries, links, look)


def stat(
    title: str,
    description: str,
    unit: str,
    queries: Sequence[Query],
    links: Links,
    look: Look = Look(),
) -> Panel:
    """Current values. The last value of a range could be old, and would stay when data stops arriving."""
    names = common.BigValueTextMode
    queries = [replace(query, instant=True) for query in queries if isinstance(query, Prom)]
    builder = (
        stat_builders.Panel()
        .reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
        .graph_mode(common.BigValueGraphMode.NONE)
        .color_mode(common.BigValueColorMode.VALUE)
        .text_mode(names.VALUE_AND_NAME if look.named else names.AUTO)
    )
    steps = look.steps or ((None, "text"),)
    return _common(builder, title, description, unit, queries, links, replace(look, steps=steps))


def bars(
    title: str,
    description: str,
    unit: str,
    queries: Sequence[Query],
    links: Links,
    look: Look = Look(),
) -> Panel:
    """A horizontal bar per series, showing the newest values."""
    builder = (
        bargauge_builders.Panel()
        .reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
        .orientation(common.VizOrientation.HORIZONTAL)
        .display_mode(common.BarGaugeDisplayMode.BASIC)
        .show_unfilled(True)
        .text(common_builders.VizTextDisplayOptions().title_size(12).value_size(14))
    )
    look = replace(look, minimum=look.minimum or 0.0)
    if not look.steps and not look.fixed:
        look = replace(look, fixed="blue")
    # Without this, a single bar has no name.
    legend = next(query.legend for query in queries if isinstance(query, Prom))
    builder.display_name(re.sub(r"\{\{(\w+)\}\}", r"${__field.labels.\1}", legend))
    return _common(builder, title, description, unit, queries, links, look)


def table(
    title: str,
    description: str,
    unit: str,
    queries: Sequence[Query],
    links: Links,
    look: Look = Look(),
) -> Panel:
    """A table; rows from TraceQL are spans, each with a link to its trace."""
    builder = table_builders.Panel().show_header(True).min_width(70)
    if look.sort_by:
        name = look.sort_by.removeprefix("+")
        sort = common_builders.TableSortByFieldState().display_name(name).desc(name == look.sort_by)
        builder.sort_by([sort])
    return _common(builder, title, description, unit, queries, links, look)


def trace(
    title: str,
    description: str,
    unit: str,
    queries: Sequence[Query],
    links: Links,
    look: Look = PLAIN,
) -> Panel:
    """The waterfall view of one trace. The SDK has no builder for it."""
    builder = builders.Panel().type("traces")
    return _common(builder, title, description, unit, queries, links, look)


def barchart(
    title: str,
    description: str,
    unit: str,
    queries: Sequence[Query],
    links: Links,
    look: Look = PLAIN,
) -> Panel:
    """A bar for each row of a table, from its numbers."""
    stacking = common.StackingMode.NORMAL if look.stacked else common.StackingMode.NONE
    builder = (
        barchart_builders.Panel()
        .orientation(common.VizOrientation.HORIZONTAL)
        .stacking(stacking)
        .show_value(common.VisibilityMode.NEVER)
        .fill_opacity(80)
        .line_width(0)
        .legend(_legend())
        .tooltip(_tooltip())
    )
    return _common(builder, title, description, unit, queries, links, look)


def heatmap(
    title: str,
    description: str,
    unit: str,
    queries: Sequence[Query],
    links: Links,
    look: Look = Look(),
) -> Panel:
    """Counts per bucket over time; exemplars are the points on it."""
    colours = (
        heatmap_builders.HeatmapColorOptions()
        .mode(heatmap_models.HeatmapColorMode.SCHEME)
        .scheme("Blues")
        .steps(64)
        .fill("dark-orange")
        .scale(heatmap_models.HeatmapColorScale.EXPONENTIAL)
        .exponent(0.5)
        .reverse(False)
    )
    builder = (
        heatmap_builders.Panel()
        .calculate(False)
        .color(colours)
        .exemplars_color("rgba(255,120,10,0.5)")
        .cell_gap(1)
        .filter_values(heatmap_builders.FilterValueRange().le(1e-9))
        .y_axis(heatmap_builders.YAxisConfig().axis_placement(common.AxisPlacement.LEFT).unit(unit))
        .hide_legend()
    )
    return _common(builder, title, description, unit, queries, links, look)


def states(
    title: str,
    description: str,
    unit: str,
    queries: Sequence[Query],
    links: Links,
    look: Look = Look(),
) -> Panel:
    """The state of each series over time."""
    builder = (
        statetimeline_builders.Panel()
        .merge_values(True)
        .show_value(common.VisibilityMode.NEVER)
        .row_height(0.8)
        .fill_opacity(80)
        .line_width(0)
        # With value colours, Grafana shows no legend.
        .color_scheme(builders.FieldColor().mode(models.FieldColorModeId.PALETTE_CLASSIC))
        .legend(_legend())
    )
    return _common(builder, title, description, unit, queries, links, look)


def graph(
    title: str,
    description: str,
    unit: str,
    queries: Sequence[Query],
    links: Links,
    look: Look = Look(),
) -> Panel:
    """Nodes (`id`, `title`) and edges (`id`, `source`, `target`), from one query each."""
    builder = (
        nodegraph_builders.Panel()
        .edges(nodegraph_builders.EdgeOptions().main_stat_unit(unit))
        .nodes(nodegraph_builders.NodeOptions().main_stat_unit(unit))
    )
    return _common(builder, title, description, unit, queries, links, look)
