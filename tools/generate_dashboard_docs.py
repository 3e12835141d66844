"""Write docs/dashboards.md from the dashboards themselves, so that it cannot go out of date.

`--check` writes nothing and fails when the file is not what would be written.
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

{count} dashboards for Grafana, each for one person's questions. With the stack they are at
<http://localhost:3000>, in the folder `spanledger`, and nobody has to log in; a Grafana of your own
takes the files of `grafana/dashboards/`, with Prometheus and Tempo as data sources.

| dashboard | whose questions it answers |
|---|---|
"""

PROSE = """
## From a spike to its trace

1. The *Overview* says that something is odd: a line that rises, a red number, a mark (below). Links in a
   panel's corner lead down to the dashboard that takes it apart, with the time kept, and to the runbook.
2. Drag over the spike in a panel: all panels show that stretch. The tooltip, greatest first, names the
   customer, model, deployment or error; a click on a customer or a budget opens exactly that one.
3. The points on lines and heat maps are exemplars, single requests: a click leads to the trace. The tables
   at the bottom of the dashboards find the newest traces of the kind. Click a row's time or name to open one.
4. *Trace* shows the request, each attempt with its cost and the reason for it, and every span, with what
   called it if the application is instrumented. `spanledger trace ID` shows the same in a terminal.

Alerts link the same way: to the dashboard of the very budget, route or provider, and to *Find traces* with a
search for its traces ([alerts](alerts.md)).

No link leads to Grafana's Explore, which viewers may not open. In a Grafana of your own, give the Prometheus
data source the same address for exemplars, as in `grafana/provisioning/datasources/datasources.yaml`.

## How to read them

**Time.** Panels show the time chosen at the top; each dashboard opens with the stretch that fits its questions.
Rates are means over two minutes at least, so an edge is that soft. "In the time shown" adds up all of
it. Budgets know their own period, whatever is shown: days and weeks begin in the budget's time zone. Prometheus keeps
30 days and Tempo a week, unless you change it; the ledger keeps everything.

**Newest values** are seconds old. If they are not, *Stack health* says how far telemetry is behind.

**`other`** is all customers beyond the first {customers} (`telemetry.max_customers`) together: they have no series
of their own, so that Prometheus does not grow with them. Budgets near their limit, traces and `spanledger spend` have
them by name. A route that no deployment serves is `unknown`.

**What is counted twice** counts once: instrumented applications measure the same calls as the gateway.
Where both could be taken, a panel says whose it shows.

**Marks** across all panels:

{marks}

**Empty panels.** "No data" in a table of failures is good news, as "none" is. Tables of traces are empty
without Tempo.
"""

TAIL = """
## Adding a panel

Dashboards are Python, and the files are written from it; in Grafana they cannot be saved.

1. Put the query into `grafana/src/queries.py`. Names come from the signal registry; a variable's
   value goes into backticks by `chosen` or `being`, and metrics that applications send as well say whose they take.
2. Put the panel into a row of the dashboard's own file (`grafana/src/overview.py` and so on), by a
   function of `panels.py`. It wants a title, a description, a unit, a dashboard to go on to and a runbook; at most
   20 panels a dashboard. A row's title is a question.
3. `make generate check`, and `.venv/bin/pytest tests/stack/test_dashboards.py`, which says what is missing.
4. `make stack`, and look at it; `make test-e2e` asks every query of a running stack, and an empty panel fails
   unless it stands in the list of those that are empty while all is well.

A new dashboard is a file with a `BOARD`, its slug and title in `panels.TITLES`, and its place in `boards.py`.
`make screenshots GRAFANA_URL=http://localhost:3000` takes pictures of all.
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
    """A small number as a sentence begins with it."""
    return ("No", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine")[count]


def anchor(title: str) -> str:
    """A heading's anchor."""
    return title.lower().replace(" ", "-")


def section(board: Board) -> str:
    """One dashboard: what is chosen, and which panels answer which question."""
    title = TITLES[board.slug]
    since = board.since.removeprefix("now-")
    lines = [
        f"\n## {title}\n",
        f"{board.description} It opens with the last {since}, at `/d/{board.slug}`.",
    ]
    if picked := [text for choice in board.choices if (text := described(choice))]:
        lines.append(f"\nAt the top: {'; '.join(picked)}.")
    lines += ["\n| question | answered by |", "|---|---|"]
    lines += [
        f"| {escaped(question)} | {' · '.join(map(escaped, panels))} |"
        for question, panels in rows(json.loads(render(board)))
    ]
    return "\n".join(lines) + "\n"


def described(choice: Choice) -> str:
    """A variable for a reader; nothing for one that is not shown."""
    if choice.hidden:
        return ""
    if choice.typed:
        return f"*{choice.label}*, typed in"
    if choice.values:
        return f"*{choice.label}*, {choice.chosen} unless chosen"
    return f"*{choice.label}*, {'any of them' if choice.several else 'one of them'}"


def rows(board: dict[str, Any]) -> list[tuple[str, list[str]]]:
    """Each row's title with the titles of its panels."""
    found: list[tuple[str, list[str]]] = []
    for panel in board["panels"]:
        if panel["type"] == "row":
            found.append((panel["title"], []))
        else:
            found[-1][1].append(panel["title"])
    return found


def escaped(text: str) -> str:
    """Text that does not break a table; variables as code."""
    return re.sub(r"\$\w+", lambda match: f"`{match[0]}`", text.replace("|", "\\|"))


if __name__ == "__main__":
    main()
