"""The dashboards' links lead to places that exist and that a viewer may open."""

from __future__ import annotations

import re

import pytest
import yaml

from grafana.src.links import REPOSITORY, TITLES, trace_opens
from tests.rules.harness import ALERTS
from tests.stack.boards import FOLDER, ROOT, dashboards, panels, tables_of_spans, variables

EACH = pytest.mark.parametrize("uid", sorted(TITLES))


@EACH
def test_links_lead_somewhere(uid: str) -> None:
    """To a dashboard that is, not to itself unless it changes the time; to an alert's runbook."""
    board = dashboards()[uid]
    for panel in panels(board):
        for link in panel["links"]:
            url = link["url"]
            if url.startswith("/d/"):
                target = url.removeprefix("/d/").split("?")[0]
                assert target in TITLES.keys() - {uid}, panel["title"]
            else:
                page = url.removeprefix(f"{REPOSITORY}/blob/main/")
                assert (ROOT / page).is_file(), panel["title"]


def test_alerts_lead_to_dashboards_that_take_their_variables() -> None:
    """An alert's link opens an existing dashboard, with variables that it has."""
    for alert in ALERTS:
        names = variables(dashboards()[alert.dashboard])
        fixed = {name for name in alert.variables if "{{" not in name}
        assert fixed <= names.keys(), alert.name


def data_links() -> list[tuple[str, str, set[str]]]:
    """Every link of a value: its dashboard, its address, and the columns its table has."""
    found = []
    for uid, board in dashboards().items():
        for panel in panels(board):
            columns = {
                new
                for step in panel.get("transformations", [])
                for new in step["options"].get("renameByName", {}).values()
            }
            for override in panel["fieldConfig"]["overrides"]:
                for property_ in override["properties"]:
                    if property_["id"] == "links":
                        found += [(uid, link["url"], columns) for link in property_["value"]]
    return found


def test_links_of_values_open_exactly_what_was_clicked() -> None:
    """A row or a series opens its dashboard with every variable that tells it from others, encoded."""
    accounts = {"budget", "subject"}
    assert len(data_links()) >= 6
    for uid, url, columns in data_links():
        target, _, query = url.removeprefix("/d/").partition("?")
        chosen = dict(re.findall(r"var-(\w+)=\$\{(.+?)\}", query))
        assert chosen.keys() <= variables(dashboards()[target]).keys(), url
        assert chosen.keys() in ({"customer"}, accounts, {"trace_id"}), url
        for value in chosen.values():
            source, form = value.rsplit(":", 1)
            assert form == "percentencode", url
            kind, _, name = source.partition("fields.")
            assert kind != "__data." or name in {*columns, "traceIdHidden"}, (uid, url)


def test_no_link_leads_to_explore() -> None:
    """A viewer may not open Explore, and is sent to the start page. Links there come from Grafana for a
    span's id, for an exemplar with a data source, and for each span of a trace with metrics or logs."""
    for path in (
        *sorted(FOLDER.glob("*.json")),
        *sorted((ROOT / "grafana" / "provisioning").rglob("*.yaml")),
        *sorted((ROOT / "prometheus" / "rules").glob("*.yml")),
    ):
        assert "/explore" not in path.read_text("utf-8"), path.name
    folder = ROOT / "grafana" / "provisioning" / "datasources"
    found = yaml.safe_load((folder / "datasources.yaml").read_text("utf-8"))["datasources"]
    settings = {source["type"]: source["jsonData"] for source in found}
    (exemplar,) = settings["prometheus"]["exemplarTraceIdDestinations"]
    assert "datasourceUid" not in exemplar
    assert exemplar["url"].replace("$$", "$") == trace_opens("__value.raw")
    assert [name for name in settings["tempo"] if name.startswith("tracesTo")] == []


def test_a_row_of_spans_opens_its_trace() -> None:
    """Its time and its name do, and the id, which Grafana links to Explore, is not shown. Nor is the
    trace's root, which Tempo often does not have."""
    for panel in tables_of_spans():
        read = {
            override["matcher"]["options"]: {p["id"]: p["value"] for p in override["properties"]}
            for override in panel["fieldConfig"]["overrides"]
        }
        assert "select(name, " in panel["targets"][0]["query"], panel["title"]
        for name in ("time", "name"):
            (link,) = read[name]["links"]
            assert link["url"] == trace_opens("__data.fields.traceIdHidden")
        for name in ("spanID", "traceService", "traceName"):
            assert read[name]["custom.hidden"] is True, panel["title"]


@EACH
def test_a_box_begins_with_its_search(uid: str) -> None:
    """Opened without a search in the address, it holds the one it begins with. Grafana 9 takes that
    from `current`, and without it searches for nothing."""
    for variable in variables(dashboards()[uid]).values():
        if variable["type"] == "textbox":
            assert variable["current"]["value"] == variable["query"]
            assert variable["current"]["text"] == variable["query"]
