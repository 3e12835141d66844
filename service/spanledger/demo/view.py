"""The live view: phase, request rate, spend against budgets, providers, recent events.

Reads the ledger a few times a second and redraws; if not on a terminal, it prints the phases.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from spanledger.budgets.model import BudgetState
from spanledger.demo.figures import Figures
from spanledger.errors import LedgerUnavailableError
from spanledger.ledger.ports import Store
from spanledger.money import format_usd
from spanledger.top.view import events
from spanledger.worker.progress import short_usd

REFRESH_S = 0.3
_RECENT_S = 5
_EVENTS_READ = 100
_BAR_WIDTH = 28


class Board:
    """Shows the phases of the scenario; this base class prints them as lines."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.title = "starting"
        self.detail = "simulated providers, gateway, ledger"
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds since the demo began."""
        return time.monotonic() - self._started

    def phase(self, title: str, detail: str) -> None:
        """A new phase begins."""
        self.title, self.detail = title, detail
        self.console.print(
            f"[dim]{self.seconds:5.1f} s[/]  [bold]{title}[/]: {detail}",
            highlight=False,
            soft_wrap=True,
        )

    @contextlib.asynccontextmanager
    async def watching(self, ledger: Store) -> AsyncGenerator[None]:
        """Show the ledger's state while the scenario runs."""
        del ledger
        yield


class LiveBoard(Board):
    """Prints phases above a live picture of the ledger."""

    @contextlib.asynccontextmanager
    async def watching(self, ledger: Store) -> AsyncGenerator[None]:
        figures = Figures(ledger.reports())
        with Live(console=self.console, transient=True, auto_refresh=False) as live:
            drawing = asyncio.create_task(self._draw(live, figures))
            try:
                yield
            finally:
                drawing.cancel()
                await asyncio.gather(drawing, return_exceptions=True)
                figures.close()

    async def _draw(self, live: Live, figures: Figures) -> None:
        while True:
            # The ledger may be busy for a moment; the next picture comes soon.
            with contextlib.suppress(LedgerUnavailableError):
                live.update(self.picture(figures), refresh=True)
            await asyncio.sleep(REFRESH_S)

    def picture(self, figures: Figures) -> RenderableType:
        """One picture of the state."""
        totals = figures.totals()
        head = Text.assemble(
            (f"{self.title}  ", "bold cyan"),
            f"{self.seconds:.0f} s  {figures.rate(_RECENT_S):.1f}/s  {totals.requests} requests  ",
            f"{totals.fallbacks} fallbacks  {totals.refused} refused  ",
            (f"${short_usd(totals.cost_nano)}", "bold"),
        )
        columns = Table.grid(padding=(0, 4))
        columns.add_row(_budgets(figures.budgets()), _providers(figures))
        return Panel(
            Group(
                head,
                Text(self.detail, "dim"),
                "",
                columns,
                "",
                events(figures.events(_EVENTS_READ), time.time_ns(), fill=True),
            ),
            title="spanledger demo",
            border_style="cyan",
        )


def board_for(console: Console, *, live: bool) -> Board:
    """The live view if requested and on a terminal; otherwise lines."""
    return LiveBoard(console) if live and console.is_terminal else Board(console)


def _budgets(states: list[BudgetState]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("customer", "spent", "of", ""):
        table.add_column(name, justify="left" if name in ("customer", "") else "right")
    for state in states:
        limit = state.limit_nano or 1
        used = min(1.0, (state.spent_nano + state.held_nano) / limit)
        colour = "red" if used > 0.9 else "yellow" if used > 0.5 else "green"
        bar = ProgressBar(1.0, used, _BAR_WIDTH, complete_style=colour, finished_style=colour)
        table.add_row(
            state.subject, f"${short_usd(state.spent_nano)}", f"${format_usd(limit)}", bar
        )
    return table


def _providers(figures: Figures) -> Table:
    table = Table("provider", f"last {_RECENT_S} s", box=None, pad_edge=False, header_style="dim")
    for state in figures.providers(_RECENT_S):
        if state.failed:
            text = Text(f"{state.served} served, {state.failed} {state.error_type}", "red")
        else:
            text = Text(f"{state.served} served", "green" if state.served else "dim")
        table.add_row(state.provider, text)
    return table
