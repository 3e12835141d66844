"""Write docs/dashboards.md from the dashboards themselves, so it cannot go out of date.

`--check` writes nothing and fails if the file is out of date.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "docs" / "dashboards.md"
sys.path.insert(0, str(ROOT))

from grafana.src.board import Board, Choice, render  # noqa: E402 - found by the line above
from grafana.src.boards import BOARDS  # noqa: E402 - found by the line above it
from grafana.src.links import TITLES  # noqa: E402 - as above

HEAD = """\
<!-- Written by tools/generate_dashboard_docs.py; change grafana/src, or the prose in the tool. -->
# Dashboards

{count} Grafana dashboards, each for one reader's questions. In the stack they are at
<http://localhost:3000>, in the folder `spanledger`, without a login. To use them in a Grafana of your own,
load the files in `grafana/dashboards/` and add Prometheus and Tempo as data sources.

| dashboard | for |
|---|---|
"""

PROSE = """
## From a spike to its trace

1. *Overview* shows that something is unusual: a line that rises, a red number, a mark (see below). Links in a
   panel's corner lead to the more detailed dashboard, for the same time range, and to the runbook.
2. Drag over the spike in a panel: all panels zoom to that range. The tooltip, sorted by value, names the
   customer, model, deployment or error. Click a customer or a budget to open its own page.
3. The points on lines and heat maps are exemplars, single requests: click one to open its trace. The tables
   at the bottom of the dashboards list the newest matching traces; click a row's time or name to open one.
4. *Trace* shows the request, each attempt with its cost and reason, and every span, including the calling
   application's if it is instrumented. `spanledger trace ID` shows the same in a terminal.

Alerts link the same way: to the dashboard of the budget, route or provider concerned, and to *Find traces* with
the matching search filled in ([alerts](alerts.md)).

No link leads to Grafana's Explore, which viewers may not open. In a Grafana of your own, set the Prometheus
data source's exemplar link to the same address as in `grafana/provisioning/datasources/datasources.yaml`.

## How to read them

**Time.** Panels show the range selected at the top; each dashboard opens with a range that fits its questions.
Rates are averaged over at least two minutes, so sharp edges look smoothed. "In the selected range" adds up the
whole range. Budgets always show their own period, which begins in the budget's time zone. Prometheus
keeps 30 days and Tempo a week, unless you change it; the ledger keeps everything.

**Current values** are a few seconds old. If they are not, *Stack health* shows how far telemetry is behind.

**`other`** adds up all customers beyond the first {customers} (`telemetry.max_customers`). They have no series of
their own, which keeps Prometheus small. Budgets near their limit, traces and `spanledger spend` list them by
name. A route that no deployment serves is shown as `unknown`.

**Calls measured twice**, by the gateway and by an instrumented application, count once. Where a panel could use
either measurement, its description says which one it shows.

**Marks** across all panels:

{marks}

**Empty panels.** "No data" in a table of failures is good news, and so is "none". Tables of traces stay empty
without Tempo.
"""

TAIL = """
## Adding a panel

Dashboards are written in Python, and their JSON files are generated. They cannot be saved in Grafana.

1. Put the query into `grafana/src/queries.py`. Names come from the signal registry. `chosen` or `being` puts a
   variable's value into backticks. If applications send the metric too, the query must say whose points it uses.
2. Put the panel into a row of the dashboard's own file (`grafana/src/overview.py` and so on), using a
   function of `panels.py`. It needs a title, a description, a unit, a dashboard to link to and a runbook; a
   dashboard has at most 20 panels. A row's title is a question.
3. Run `make generate check` and `.venv/bin/pytest tests/stack/test_dashboards.py`, which reports what is missing.
4. Look at it with `make stack`. `make test-e2e` runs every query against a running stack and fails on an empty
   panel, unless that panel is listed as empty while all is well.

A new dashboard is a file with a `BOARD`, a slug and a title in `panels.TITLES`, and an entry in `boards.py`.
`make screenshots GRAFANA_URL=http://localhost:3000` takes a screenshot of each dashboard.
"""


def main() -> None:
    """Write the page, or with `--check` compare it."""
    text = page()
    if "--check" not in sys.argv[1:]:
        TARGET.write_text(text, encoding="utf-8")
    elif not TARGET.is_file() or TARGET.read_text(encoding="utf-8") != text:
        raise SystemExit(f"{TARGET.name} is out of date: run `make generate` and commit it")


def page() -> str:
    """The whole page."""
    from spanledger.config import TelemetrySettings

    readers = [
        f"| [{TITLES[board.slug]}](#{anchor(TITLES[board.slug])}) | {board.reader} |"
        for board in BOARDS
    ]
    head = HEAD.format(count=number(len(BOARDS))) + "\n".join(readers) + "\n"
    marks = "\n".join(f"- *{event.name}*: {event.text}" for event in BOARDS[0].events)
    prose = PROSE.format(
        customers=TelemetrySettings().max_customers,
        marks=re.sub(r"\{\{.*?\}\}", "…", marks),
    )
    return head + prose + "".join(map(section, BOARDS)) + TAIL


def number(count: int) -> str:
    """A small number in words, to begin a sentence."""
    return ("No", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine")[count]


def anchor(title: str) -> str:
    """A heading's anchor."""
    return title.lower().replace(" ", "-")


def section(board: Board) -> str:
    """One dashboard: its variables, and the panels that answer each question."""
    title = TITLES[board.slug]
    hours = board.since.removeprefix("now-").removesuffix("h")
    since = "hour" if hours == "1" else f"{hours} hours"
    lines = [
        f"\n## {title}\n",
        f"{board.description} It is at `/d/{board.slug}` and opens with the last {since}.",
    ]
    if picked := [text for choice in board.choices if (text := described(choice))]:
        lines.append(f"\nVariables: {', '.join(picked)}.")
    lines += ["\n| question | answered by |", "|---|---|"]
    lines += [
        f"| {escaped(question)} | {' · '.join(map(escaped, panels))} |"
        for question, panels in rows(json.loads(render(board)))
    ]
    return "\n".join(lines) + "\n"


def described(choice: Choice) -> str:
    """A variable as readers see it; empty for a hidden one."""
    if choice.hidden:
        return ""
    if choice.typed:
        return f"*{choice.label}* (free text)"
    if choice.values:
        return f"*{choice.label}* (default {choice.chosen or 'auto'})"
    return f"*{choice.label}* ({'one or more' if choice.several else 'one'})"


def rows(board: dict[str, Any]) -> list[tuple[str, list[str]]]:
    """Each row's title and the titles of its panels."""
    found: list[tuple[str, list[str]]] = []
    for panel in board["panels"]:
        if panel["type"] == "row":
            found.append((panel["title"], []))
        else:
            found[-1][1].append(panel["title"])
    return found


def escaped(text: str) -> str:
    """Text escaped for a table, with variables as code."""
    return re.sub(r"\$\w+", lambda match: f"`{match[0]}`", text.replace("|", "\\|"))


if __name__ == "__main__":
    main()
