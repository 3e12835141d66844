"""The dashboards' files: current, complete, readable, and using only names that are emitted."""

from __future__ import annotations

import re
import subprocess
import sys
from itertools import pairwise

import pytest

from grafana.src.links import LATENCY, TITLES
from grafana.src.panels import COPIES
from prometheus.src import long
from spanledger.telemetry.signals import (
    ATTRIBUTES,
    METRICS,
    SCRAPED,
    Metric,
    Scraped,
    label_name,
    prometheus_series,
)
from tests.rules.harness import ALERTS
from tests.rules.promql import metrics_of, of_everybody
from tests.stack.boards import (
    EMPTY_BY_DESIGN,
    ROOT,
    Json,
    choices,
    dashboards,
    filled,
    marks,
    panels,
    plain,
    queries,
    tables_of_spans,
    variables,
)

MOST_PANELS = 20
IN_BOTH_GRAFANAS = {
    "barchart",
    "bargauge",
    "heatmap",
    "nodeGraph",
    "stat",
    "state-timeline",
    "table",
    "timeseries",
    "traces",
}
"""Panels that Grafana 9.4 and 13.2 both have."""

FOREIGN = {
    "ALERTS": "Prometheus: which of our alerts fire",
    "up": "Prometheus: whether a scrape succeeded",
    "scrape_duration_seconds": "Prometheus: how long it took",
    "process_resident_memory_bytes": "every part's client library: its memory",
    "otelcol_process_memory_rss": "the collector's name for the same",
    "otelcol_exporter_queue_size": "the collector's queues",
    "otelcol_exporter_queue_capacity": "the collector's queues",
    "otelcol_exporter_sent_spans": "what leaves the collector",
    "otelcol_exporter_sent_metric_points": "what leaves the collector",
    "otelcol_exporter_send_failed_spans": "what its back ends refuse for good",
    "otelcol_exporter_send_failed_metric_points": "what its back ends refuse for good",
    "otelcol_receiver_accepted_spans": "what reaches the collector",
    "otelcol_receiver_accepted_metric_points": "what reaches the collector",
    "otelcol_receiver_refused_spans": "what it tells senders to keep",
    "otelcol_receiver_refused_metric_points": "what it tells senders to keep",
    "prometheus_tsdb_head_series": "how many series there are",
    "prometheus_tsdb_head_samples_appended_total": "ingestion",
    "prometheus_tsdb_exemplar_exemplars_appended_total": "ingestion",
    "prometheus_tsdb_too_old_samples_total": "samples lost for being late",
    "tempo_distributor_spans_received_total": "ingestion",
    "tempo_discarded_spans_total": "spans over a limit of Tempo's",
    "tempo_distributor_attributes_truncated_total": "attributes cut by Tempo",
}
"""Third-party names that dashboards use, and what for."""
FOREIGN_LABELS = {
    "job",
    "instance",
    "exporter",
    "data_type",
    "le",
    "spanledger_source",  # set by the collector: who measured it
}
WINDOWS = {
    "$__rate_interval": "what every rate takes",
    "$__range": "figures of the whole time shown",
    "$bucket": "bars of a length the reader chooses",
    "24h": "the overview's spend of a day, whatever time is shown",
    "15m": "what went before, so that a mark is where something begins",
    "1d": "the price book of a day before, for a mark where it changes",
    "2d": "the period before a budget's present one",
}
"""Every window of a range, and why it is not `$__rate_interval`."""
REGISTRY: tuple[Metric | Scraped, ...] = (*METRICS, *SCRAPED)
SERIES = {name: metric for metric in REGISTRY for name in prometheus_series(metric)}
SERIES |= {long.copy_of(name): SERIES[name] for name in long.COPIED}
COUNTERS = {name for name, metric in SERIES.items() if metric.kind != "gauge"} | {
    name
    for name in FOREIGN
    if name.endswith("_total") or re.search(r"_(accepted|refused|sent|send_failed)_", name)
}
EACH = pytest.mark.parametrize("uid", sorted(TITLES))


def run_generator(code: str) -> subprocess.CompletedProcess[str]:
    """Run `make generate`'s program with --check after some Python."""
    script = ROOT / "tools" / "generate_dashboards.py"
    program = (
        f"import runpy, sys; sys.argv[1:] = ['--check']\n{code}\n"
        f"runpy.run_path({str(script)!r}, run_name='__main__')"
    )
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT
    )


def test_the_files_are_what_the_source_says() -> None:
    """Nobody edits a file by hand, and nobody forgets to write it."""
    done = run_generator("")
    assert done.returncode == 0, done.stderr
    assert dashboards().keys() == TITLES.keys()


@pytest.mark.parametrize(
    "change",
    [
        "s.COST = replace(s.COST, name='spanledger.price.usd')",
        "s.SCRAPED = tuple(m for m in s.SCRAPED if m.name != 'spanledger_outbox_rows')",
    ],
)
def test_a_renamed_metric_stops_the_build(change: str) -> None:
    """The names in the files come from the registry, so a change there shows up here."""
    preface = "from dataclasses import replace\nimport spanledger.telemetry.signals as s\n"
    assert run_generator(preface + change).returncode != 0


@EACH
def test_a_dashboard_is_whole(uid: str) -> None:
    """A fixed uid, a title, a description, no database id, and nothing a viewer could change."""
    board = dashboards()[uid]
    assert (board["uid"], board["title"], board["editable"]) == (uid, TITLES[uid], False)
    assert board["description"].endswith(".")
    assert board.get("id") is None
    assert 0 < len(panels(board)) <= MOST_PANELS
    others = {link["url"].removeprefix("/d/") for link in board["links"]}
    assert TITLES.keys() - {uid} <= others


@EACH
def test_rows_are_questions_and_panels_fit(uid: str) -> None:
    """Each panel is below a question, and none overlaps another."""
    board = dashboards()[uid]["panels"]
    assert board[0]["type"] == "row"
    assert all(row["title"].endswith("?") for row in board if row["type"] == "row")
    taken: set[tuple[int, int]] = set()
    for panel in board:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
    ids = [panel["id"] for panel in board]
    assert ids == sorted(set(ids))
    assert all(before["gridPos"]["y"] <= after["gridPos"]["y"] for before, after in pairwise(board))


@EACH
def test_every_panel_says_what_it_shows(uid: str) -> None:
    """Each has a title, description, unit and link; nothing requires one version of Grafana."""
    found = panels(dashboards()[uid])
    assert len({panel["title"] for panel in found}) == len(found)
    for panel in found:
        name = panel["title"]
        assert name, panel
        assert panel["description"].endswith("."), name
        assert panel["fieldConfig"]["defaults"]["unit"], name
        assert panel["type"] in IN_BOTH_GRAFANAS, name
        assert any(link["url"].startswith("/d/") for link in panel["links"]), name
        assert any("/docs/runbooks/" in link["url"] for link in panel["links"]), name


@EACH
def test_a_date_is_no_unit_of_a_whole_table(uid: str) -> None:
    """Grafana reads every text under such a unit as a date, and shows names as NaN."""
    for panel in panels(dashboards()[uid]):
        if panel["type"] == "table":
            assert not panel["fieldConfig"]["defaults"]["unit"].startswith(("dateTime", "time:"))


@EACH
def test_data_sources_are_variables(uid: str) -> None:
    """A user with another Prometheus can choose it at the top."""
    board = dashboards()[uid]
    uids = {"prometheus": "${datasource}", "tempo": "${traces}"}
    users: list[Json] = [
        *(target for panel in panels(board) for target in panel["targets"]),
        *panels(board),
        *board["annotations"].get("list", ()),
        *(v for v in board["templating"]["list"] if v["type"] == "query"),
    ]
    assert {(u["datasource"]["type"], u["datasource"]["uid"]) for u in users} <= set(uids.items())
    assert {name for name, v in variables(board).items() if v["type"] == "datasource"} == {
        "datasource",
        "traces",
    }


def all_promql() -> list[str]:
    """Every PromQL string of every dashboard in each of its forms, variables' and annotations' included."""
    asked = (*queries(), *marks(), *choices())
    return [form for query in asked if query.language == "promql" for form in query.forms]


def test_metrics_are_ours_or_known() -> None:
    """Every name is in the registry or one of the third-party names, all of which are used."""
    values = dict.fromkeys(
        ("began", "bucket", "customer", "budget", "subject"), "1"
    ) | dict.fromkeys(("model", "provider", "route"), ".*")
    used = {name for text in all_promql() for name in metrics_of(filled(text, values))}
    assert used - SERIES.keys() - FOREIGN.keys() == set()
    assert FOREIGN.keys() - used == set()


def test_labels_are_ours_or_known() -> None:
    """Matchers use labels of their metric; groupings use labels that exist or were created."""
    for text in map(plain, all_promql()):
        known = set(FOREIGN_LABELS)
        for name in metrics_of(text) & SERIES.keys():
            metric = SERIES[name]
            own = (
                metric.labels if isinstance(metric, Scraped) else map(label_name, metric.attributes)
            )
            labels = {*own, *FOREIGN_LABELS}
            known |= labels
            for matchers in re.findall(rf"\b{name}\{{([^}}]*)\}}", text):
                unquoted = re.sub(r'"[^"]*"|`[^`]*`', '""', matchers)
                named = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", unquoted))
                assert named <= labels, (name, named - labels)
        for name in re.findall(r'alertname="(\w*)"', text):
            (alert,) = (alert for alert in ALERTS if alert.name == name)
            known |= set(alert.variables.values())
        known |= set(re.findall(r'"(\w+)", "(?:\$1|\W+)", "', text))
        for group in re.findall(r"\b(?:by|on) \(([^)]+)\)", text):
            assert {word.strip() for word in group.split(",")} <= known, text


def test_counters_stand_under_a_rate() -> None:
    """A counter's raw value is never shown: it resets, and otherwise only grows."""
    for text in (plain(form) for query in (*queries(), *marks()) for form in query.forms):
        for name in COUNTERS:
            bare = re.sub(rf"\b(rate|increase)\({name}(\{{[^}}]*\}})?\[", "", text)
            assert not re.search(rf"(?<![\w:]){name}\b", bare), text


def test_windows_follow_the_scrape() -> None:
    """Ranges are `$__rate_interval`, so no rate has too few samples; exceptions have reasons."""
    used = {window for text in all_promql() for window in re.findall(r"\[([^\]]+)\]", text)}
    used -= {window for window in used if window.startswith("^")}
    assert used == WINDOWS.keys()


def test_beyond_a_day_every_copy_is_read_and_nothing_else_that_has_one() -> None:
    """Each copy serves a dashboard; what grows with the time shown reads no original that has one."""
    beyond = [query.forms[-1] for query in queries() if query.language == "promql"]
    used = {name for text in beyond for name in metrics_of(text.replace("$", ""))}
    growing = re.compile(r"(?<![\w:])(\w+)(?:\{[^}]*\})?\[\$")
    originals = {name for text in beyond for name in growing.findall(text)}

    assert {name for name in used if name.startswith(long.PREFIX)} == {
        long.copy_of(name) for name in long.COPIED
    }
    assert originals & set(long.COPIED) == set()


@EACH
def test_copies_are_read_in_steps_that_they_have(uid: str) -> None:
    """What reads copies has the step that goes with them; neither is kept in an address, where it would
    outlive the time it was made for."""
    board = dashboards()[uid]
    targets = [target for panel in panels(board) for target in panel["targets"]]
    reading = [t for t in targets if COPIES in t.get("expr", "")]
    found = variables(board)

    assert {t["interval"] for t in reading} <= {"$step", "$bucket"}
    assert [t for t in targets if t.get("interval") == "$step" and t not in reading] == []
    for name in ("long", "step"):
        assert (name in found) == bool(reading)
        if reading:
            assert (found[name]["skipUrlSync"], found[name]["refresh"]) == (True, 2)
            assert "$__range_s" in found[name]["query"]["query"]


def test_histograms_lead_to_traces() -> None:
    """Queries of buckets also request exemplars; scraped metrics have none."""
    sent = {name for m in METRICS for name in prometheus_series(m) if name.endswith("_bucket")}
    for board in dashboards().values():
        for panel in panels(board):
            for target in panel["targets"]:
                if metrics_of(plain(target.get("expr", ""))) & sent:
                    assert target["exemplar"] is True, panel["title"]


EVERYBODYS: dict[tuple[str, str], str] = {
    (
        LATENCY,
        "model",
    ): "the choice of a row that compares what gateways and applications measured",
}
"""Expressions that use points from any source, by dashboard and place, with the reason."""


def test_what_is_measured_twice_counts_once() -> None:
    """`gen_ai.*` comes from gateways and from applications on their way to them: a query chooses."""
    mixed = {
        (query.board, query.place)
        for query in (*queries(), *marks(), *choices())
        if query.language == "promql" and any(of_everybody(plain(form)) for form in query.forms)
    }

    assert mixed == EVERYBODYS.keys()


def test_traceql_names_what_spans_carry() -> None:
    """Attributes of a TraceQL query are in the registry; fractions have a decimal point."""
    for query in queries():
        if query.language == "traceql":
            names = set(re.findall(r"\bspan\.([a-z0-9_.]+)", query.text))
            assert names, query
            assert names <= ATTRIBUTES.keys(), query
            assert not re.search(r"\.usd [<>=]+ \d+\b(?!\.)", query.text), query


def test_names_may_have_any_character() -> None:
    """A variable is written in backticks: raw where one value is meant, as a regular expression where
    there may be several. Between quotes a name with a quote in it would end the string, and Tempo is
    given several values as `{a,b}` unless told otherwise."""
    several = {
        (uid, name): bool(variable.get("includeAll"))
        for uid, board in dashboards().items()
        for name, variable in variables(board).items()
        if variable["type"] == "textbox" or not variable.get("regex", "/\\}").startswith("/\\}")
        if name not in ("long", "step", "query")  # they choose a form of the query, not a name
    }
    used = set()
    for query in (*queries(), *marks(), *choices()):
        found = re.findall(r"(=~|=)\s*([\"`])\$\{?(\w+)(?::(\w+))?", query.text)
        for operator, quote, name, form in found:
            wanted = ("=~", "regex") if several[query.board, name] else ("=", "raw")
            assert (operator, form, quote) == (*wanted, "`"), query
            used.add((query.board, name))
        assert len(found) == len(re.findall(r"[\"`]\$(?!1)", query.text)), query

    assert used == several.keys()


def test_attributes_of_spans_read_as_people_say_them() -> None:
    """Each attribute that a search names is a column with a title; an amount or a time is a number with
    a unit, else it would be sorted as text. Nothing else is formatted: a route may be named `4`."""
    for panel in tables_of_spans():
        (target,) = panel["targets"]
        read = {
            override["matcher"]["options"]: {p["id"]: p["value"] for p in override["properties"]}
            for override in panel["fieldConfig"]["overrides"]
        }
        numbers = {
            conversion["targetField"]
            for step in panel.get("transformations", [])
            for conversion in step["options"]["conversions"]
        }
        attributes = set(re.findall(r"\bspan\.([a-z0-9_.]+)", target["query"]))

        assert panel["fieldConfig"]["defaults"]["unit"] == "string", panel["title"]
        titles = [read[name]["displayName"] for name in attributes]
        assert len(set(titles)) == len(attributes), panel["title"]
        assert numbers == {name for name in attributes if ATTRIBUTES[name].type == "double"}
        assert numbers == {name for name in attributes if "unit" in read[name]}
        sorted_by = {by["displayName"] for by in panel["options"].get("sortBy", ())}
        sortable = {read[name]["displayName"] for name in numbers} | {"Start time"}
        assert sorted_by <= sortable, panel["title"]
    assert len(tables_of_spans()) >= 10


def test_a_number_is_of_now() -> None:
    """It would show the newest value of the time range, however old, after data stopped arriving."""
    for board in dashboards().values():
        for panel in panels(board):
            if panel["type"] in ("stat", "bargauge", "table", "barchart", "nodeGraph"):
                asked = [target for target in panel["targets"] if "expr" in target]
                assert all(target["instant"] and not target.get("range") for target in asked), panel


def test_a_bar_that_stands_alone_has_a_name() -> None:
    """Grafana omits the name of a single series unless a name is set."""
    for board in dashboards().values():
        for panel in panels(board):
            if panel["type"] == "bargauge":
                (target,) = panel["targets"]
                asked = re.sub(r"\{\{(\w+)\}\}", r"${__field.labels.\1}", target["legendFormat"])
                assert panel["fieldConfig"]["defaults"]["displayName"] == asked, panel["title"]


def test_bars_on_each_other_are_not_negative() -> None:
    """Grafana stacks a series with one negative value separately, on top of the others."""
    (chart,) = (p for b in dashboards().values() for p in panels(b) if p["type"] == "barchart")

    assert chart["options"]["stacking"] == "normal"
    assert all("clamp_min(" in target["expr"] for target in chart["targets"])


def test_small_amounts_are_not_shown_as_powers() -> None:
    """Grafana writes an amount below a millionth as `7e-7` unless the column is rounded to six places."""
    seen = 0
    for panel in tables_of_spans():
        for override in panel["fieldConfig"]["overrides"]:
            look = {item["id"]: item["value"] for item in override["properties"]}
            if look.get("unit") == "currencyUSD":
                seen += 1
                assert look["decimals"] <= 6, panel["title"]
    assert seen


def test_queries_that_find_nothing_belong_to_a_panel() -> None:
    """The list of queries without results on a healthy stack names places that exist."""
    places = {(query.board, query.place, query.ref) for query in (*queries(), *marks())}

    assert EMPTY_BY_DESIGN.keys() - places == set()
