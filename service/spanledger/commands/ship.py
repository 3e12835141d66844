"""`spanledger ship`: the shipper as a command."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Annotated, Literal

import typer

from spanledger.commands.common import (
    DEFAULT_LEDGER,
    Exit,
    LedgerUrl,
    fail,
    ledger_file,
    reporting_errors,
)


def ship(
    config: Annotated[
        Path | None, typer.Option("--config", help="Configuration; its `telemetry` is used.")
    ] = None,
    ledger: LedgerUrl = "",
    once: Annotated[
        bool, typer.Option("--once", help="Ship what is there, and end; 1 if not all was taken.")
    ] = False,
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"] | None,
        typer.Option(help="Least severe messages to log; else the file's."),
    ] = None,
    log_format: Annotated[
        Literal["text", "json"] | None,
        typer.Option(help="Log lines for people, or one JSON object a line; else the file's."),
    ] = None,
    parent_pid: Annotated[
        int | None, typer.Option("--parent-pid", hidden=True, help="End with this process.")
    ] = None,
) -> None:
    """Send the ledger's rows to the collector as spans and metrics.

    The gateway starts this by itself. `OTEL_*` variables override the configuration.
    """
    from spanledger.config import Config, load_config
    from spanledger.ledger.database import require_ledger
    from spanledger.logs import set_up
    from spanledger.telemetry.shipper import run_shipper

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stop.set())
    with reporting_errors():
        settings = load_config(config) if config else Config()
        set_up(
            log_level or settings.gateway.log_level,
            log_format or settings.gateway.log_format,
            "shipper",
        )
        url = ledger or (settings.ledger.url if config else DEFAULT_LEDGER)
        path = ledger_file(url)
        if once:
            require_ledger(path)
        done = run_shipper(url, settings.telemetry, stop, once=once, parent_pid=parent_pid)
    if not done:
        raise fail(
            "the collector did not take everything; the rest stays in the ledger", Exit.FAILED
        )
