"""`spanledger top`: requests, customers, deployments and budgets, live."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spanledger.commands.common import (
    DEFAULT_LEDGER,
    AsJson,
    LedgerUrl,
    console,
    format_time,
    print_json,
    reporting_errors,
    store_of,
)
from spanledger.config.addresses import shown_ledger
from spanledger.errors import LedgerUnavailableError
from spanledger.money import format_usd

if TYPE_CHECKING:
    from spanledger.top.figures import Picture, Window


def top(
    window: Annotated[
        int, typer.Option("--window", "-w", min=1, max=86_400, help="Seconds to look back.")
    ] = 60,
    every: Annotated[
        float, typer.Option("--every", "-n", min=0.2, help="Seconds between updates.")
    ] = 2.0,
    once: Annotated[
        bool,
        typer.Option(
            "--once", help="Print once and exit; the default if output is not a terminal."
        ),
    ] = False,
    ledger: LedgerUrl = DEFAULT_LEDGER,
    json: AsJson = False,
) -> None:
    """Watch requests, spend, deployments and budgets as they happen.

    It reads the ledger directly: it does not need Prometheus and does not slow down requests. Press
    Ctrl-C to quit.
    """
    from spanledger.top.figures import Window
    from spanledger.top.view import draw

    with reporting_errors():
        figures = Window(store_of(ledger).reports())
        screen = console()
        with contextlib.closing(figures):
            if json:
                print_json(as_dict(figures.look(time.time_ns(), window)))
            elif once or not screen.is_terminal:
                screen.print(draw(figures.look(time.time_ns(), window), shown_ledger(ledger)))
            else:
                with contextlib.suppress(KeyboardInterrupt):
                    _watch(figures, shown_ledger(ledger), window, every)


def _watch(figures: Window, ledger: str, window: int, every: float) -> None:
    from rich.live import Live

    from spanledger.top.view import draw

    screen = console()
    with Live(console=screen, screen=True, auto_refresh=False) as live:
        while True:
            # The ledger may be busy for a moment; the next update comes soon.
            with contextlib.suppress(LedgerUnavailableError):
                rows = max(2, (screen.height - 18) // 3)
                picture = figures.look(time.time_ns(), window)
                live.update(draw(picture, ledger, rows=rows), refresh=True)
            time.sleep(every)


def as_dict(picture: Picture) -> dict[str, Any]:
    """A picture as printed in JSON: money as decimal strings, times as ISO 8601."""
    return {
        "at": format_time(picture.at_ns),
        "window_seconds": picture.window_s,
        "requests": picture.requests,
        "in_flight": picture.running,
        "failed": picture.failed,
        "refused": picture.refused,
        "fallbacks": picture.fallbacks,
        "cost_usd": format_usd(picture.cost_nano),
        "seconds": _quantiles(picture.seconds),
        "customers": [
            {
                "customer": row.customer,
                "requests": row.requests,
                "failed": row.failed,
                "refused": row.refused,
                "cost_usd": format_usd(row.cost_nano),
            }
            for row in picture.customers
        ],
        "deployments": [
            {
                "deployment": row.deployment,
                "model": row.model,
                "served": row.served,
                "failed": row.failed,
                "last_error_type": row.error_type or None,
                "seconds": _quantiles(row.seconds),
            }
            for row in picture.deployments
        ],
        "budgets": [
            {
                "name": state.budget.name,
                "subject": state.subject,
                "limit_usd": format_usd(state.limit_nano),
                "spent_usd": format_usd(state.spent_nano),
                "held_usd": format_usd(state.held_nano),
            }
            for state in picture.budgets
        ],
        "events": [
            {
                "at": format_time(event.at_ns),
                "kind": event.kind,
                "customer": event.customer,
                "what": event.text,
            }
            for event in picture.events
        ],
    }


def _quantiles(found: tuple[float, ...]) -> dict[str, float] | None:
    from spanledger.top.figures import SHOWN_QUANTILES

    return (
        {f"p{q}": value for q, value in zip(SHOWN_QUANTILES, found, strict=True)} if found else None
    )
