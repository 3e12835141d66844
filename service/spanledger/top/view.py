"""Draws a picture of `spanledger top`. No I/O, no clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from spanledger.budgets.model import BudgetState
from spanledger.ledger.rows import CustomerRow, Event
from spanledger.money import format_usd
from spanledger.top.figures import DeploymentRow, Picture

ROWS = 10
"""Rows of each table; the rest are counted."""
EVENT_ROWS = 7
_BAR_WIDTH = 24
_NS_PER_S = 1_000_000_000


def draw(picture: Picture, source: str, *, rows: int = ROWS) -> RenderableType:
    """The whole picture, for a terminal of any width."""
    head = Text.assemble(
        (f"{source}  ", "dim"),
        ("last ", "dim"),
        (f"{picture.window_s} s", "bold"),
    )
    pace = picture.requests / picture.window_s
    spend = 3600 * picture.cost_nano // picture.window_s
    figures = Text.assemble(
        (f"{pace:.1f} requests/s", "bold"),
        f"   {picture.running} in flight   ",
        _count(picture.failed, "failed", "red"),
        "   ",
        _count(picture.refused, "refused", "red"),
        "   ",
        _count(picture.fallbacks, "fallbacks", "yellow"),
        f"   p50 {_seconds(picture.seconds, 0)}  p95 {_seconds(picture.seconds, 1)}   ",
        (f"${format_usd(picture.cost_nano)}", "bold"),
        (f"  (${spend / _NS_PER_S:,.2f} an hour)", "dim"),
    )
    return Group(
        head,
        figures,
        "",
        _titled("Customers", customers(picture.customers[:rows]), len(picture.customers) - rows),
        _titled(
            "Deployments", deployments(picture.deployments[:rows]), len(picture.deployments) - rows
        ),
        _titled("Budgets", budgets(picture.budgets[:rows]), len(picture.budgets) - rows),
        _titled("Events", events(picture.events, picture.at_ns), 0),
    )


def customers(found: Sequence[CustomerRow]) -> Table:
    """Customers of the window, highest spend first."""
    table = _table("customer", "requests>", "failed>", "refused>", "spent>")
    for row in found:
        table.add_row(
            Text(row.customer),
            str(row.requests),
            _problems(row.failed),
            _problems(row.refused),
            f"${format_usd(row.cost_nano)}",
        )
    return table


def deployments(found: Sequence[DeploymentRow]) -> Table:
    """Deployments of the window, busiest first."""
    table = _table("deployment", "model", "served>", "failed>", "p50>", "p95>", "last error")
    for row in found:
        table.add_row(
            Text(row.deployment),
            Text(row.model),
            str(row.served),
            _problems(row.failed),
            _seconds(row.seconds, 0),
            _seconds(row.seconds, 1),
            Text(row.error_type, "red"),
        )
    return table


def budgets(states: Sequence[BudgetState]) -> Table:
    """Accounts and how much of their limit is used."""
    table = _table("budget", "subject", "used>", "of>", "")
    for state in states:
        limit = state.limit_nano
        used = state.spent_nano + state.held_nano
        share = min(1.0, used / limit) if limit else 1.0
        colour = "red" if share > 0.9 else "yellow" if share > 0.5 else "green"
        bar = ProgressBar(1.0, share, _BAR_WIDTH, complete_style=colour, finished_style=colour)
        table.add_row(
            Text(state.budget.name),
            Text(state.subject),
            f"${format_usd(used)}",
            f"${format_usd(limit)}",
            bar,
        )
    return table


def events(found: Sequence[Event], now_ns: int, *, fill: bool = False) -> Table:
    """Events, newest first; equal ones share a line with a count. `fill` keeps the height."""
    table = Table.grid(padding=(0, 2))
    counts = Counter(event[1:] for event in found)
    newest: dict[tuple[str, ...], int] = {}
    for event in found:
        newest.setdefault(event[1:], event.at_ns)
    for (kind, customer, text), at_ns in list(newest.items())[:EVENT_ROWS]:
        colour = "red" if kind == "refused" else "yellow"
        table.add_row(
            Text(f"{max(0, now_ns - at_ns) // _NS_PER_S:4} s ago", "dim"),
            Text(kind, colour),
            Text(customer),
            Text(text),
            f"×{counts[kind, customer, text]}",
        )
    for _ in range(EVENT_ROWS - len(newest) if fill else 0):
        table.add_row("")
    return table


def _titled(title: str, table: Table, more: int) -> RenderableType:
    if not table.row_count:
        return Group(Text(f"{title}: none", "dim"), "")
    note = [Text(f"and {more} more", "dim")] if more > 0 else []
    return Group(Text(title, "bold cyan"), table, *note, "")


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        right = column.endswith(">")
        table.add_column(
            column.rstrip(">"), justify="right" if right else "left", no_wrap=right, overflow="fold"
        )
    return table


def _count(number: int, what: str, colour: str) -> Text:
    return Text(f"{number} {what}", colour if number else "dim")


def _problems(number: int) -> Text:
    return Text(str(number), "red" if number else "dim")


def _seconds(found: tuple[float, ...], which: int) -> str:
    return f"{found[which]:.2f} s" if found else "–"
