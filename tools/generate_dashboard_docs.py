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

There are {count} Grafana dashboards, each for one role's questions. In the stack they are at
<http://localhost:3000>, in the folder `spanledger`, without a login. To use them in your own Grafana,
import the files in `grafana/dashboards/` and add Prometheus and Tempo as data sources.

| dashboard | for |
|---|---|
"""

PROSE = """
## From a spike to its trace

1. The *Overview* shows that something is wrong: a rising line, a red number, a mark (see below). The links in
   a panel's corner open the dashboard with the details, for the same time range, and the runbook.
2. Drag over the spike in a panel to zoom all panels to it. The tooltip, sorted by value, names the customer,
   model, deployment or error. Click a customer or a budget to open its own view.
3. The points on lines and heat maps are exemplars: single requests. Click one to open its trace. The tables
   at the bottom of the dashboards list the newest matching traces; click a row's time or name to open one.
4. *Trace* shows the request, each attempt with its cost and the reason for it, and every span, including the
   caller's spans if the application is instrumented. `spanledger trace ID` shows the same in a terminal.

Alerts link the same way: to the dashboard of the affected budget, route or provider, and to *Find traces*
with a search for its traces ([alerts](alerts.md)).

No link opens Grafana's Explore, which viewers have no access to. In your own Grafana, set the same exemplar
address in the Prometheus data source as in `grafana/provisioning/datasources/datasources.yaml`.

## How to read them

**Time.** Panels show the time range chosen at the top; each dashboard opens with a range that fits its questions.
Rates are averages over at least two minutes, so sharp edges look smoother. "In the time shown" is the sum over
the whole range. Budgets use their own period, whatever the range: days and weeks begin in the budget's time zone.
Prometheus keeps 30 days and Tempo a week, unless you change it; the ledger keeps everything.

**Newest values** are seconds old. If they are older, *Stack health* shows how far telemetry is behind.

**`other`** is the sum of all customers beyond the first {customers} (`telemetry.max_customers`): they have no
series of their own, so Prometheus does not grow with them. Budgets near their limit, traces and
`spanledger spend` name them. A route that no deployment serves is `unknown`.

**Nothing is counted twice**, although instrumented applications measure the same calls as the gateway. Where a
panel could use either, it says whose measurements it shows.

**Marks** across all panels:

{marks}

**Empty panels.** "No data" or "none" in a table of failures is good news. Tables of traces are empty without
Tempo.
"""

TAIL = """
## Adding a panel

The dashboards are generated from Python; they cannot be saved in Grafana.

1. Add the query to `grafana/src/queries.py`. Names come from the signal registry. `chosen` or `being` quote a
   variable's value with backticks. Queries of metrics that applications send as well must select a source.
2. Add the panel to a row of the dashboard's own file (`grafana/src/overview.py` and so on), with a function
   of `panels.py`. It needs a title, a description, a unit, a dashboard to link to and a runbook. A dashboard
   has at most 20 panels. A row's title is a question.
3. Run `make generate check` and `.venv/bin/pytest tests/stack/test_dashboards.py`, which reports what is missing.
4. Run `make stack` and look at it. `make test-e2e` runs every query against a running stack; an empty panel
   fails unless it is in the list of those that are empty while all is well.

A new dashboard needs a file with a `BOARD`, its slug and title in `links.TITLES`, and its place in `boards.py`.
`make screenshots GRAFANA_URL=http://localhost:3000` takes a screenshot of each.
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
    """A small number as a word."""
    return ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")[count]


def anchor(title: str) -> str:
    """A heading's anchor."""
    return title.lower().replace(" ", "-")


def section(board: Board) -> str:
    """One dashboard: its variables, and which panels answer which question."""
    title = TITLES[board.slug]
    since = board.since.removeprefix("now-")
    lines = [
        f"\n## {title}\n",
        f"{board.description} It is at `/d/{board.slug}` and opens with the last {since}.",
    ]
    if picked := [text for choice in board.choices if (text := described(choice))]:
        lines.append(f"\nVariables: {'; '.join(picked)}.")
    lines += ["\n| question | answered by |", "|---|---|"]
    lines += [
        f"| {escaped(question)} | {' · '.join(map(escaped, panels))} |"
        for question, panels in rows(json.loads(render(board)))
    ]
    return "\n".join(lines) + "\n"


def described(choice: Choice) -> str:
    """A variable as described on the page; empty if it is hidden."""
    if choice.hidden:
        return ""
    if choice.typed:
        return f"*{choice.label}* (free text)"
    if choice.values:
        return f"*{choice.label}* (default: {choice.chosen})"
    return f"*{choice.label}* ({'several values' if choice.several else 'one value'})"


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
