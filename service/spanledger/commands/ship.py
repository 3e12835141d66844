"""`spanledger ship`: the shipper as a command."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from spanledger.commands.common import (
    DEFAULT_LEDGER,
    Exit,
    LedgerUrl,
    fail,
    reporting_errors,
    store_of,
)
from spanledger.errors import ConfigError, NoLockError


def ship(
    config: Annotated[
        Path | None,
        typer.Option("--config", help="Configuration file; its `telemetry` section is used."),
    ] = None,
    ledger: LedgerUrl = "",
    direct: Annotated[
        str,
        typer.Option(
            "--direct-ledger",
            envvar="SPANLEDGER_LEDGER_DIRECT_URL",
            help="URL of the Postgres server itself, where the ledger's is that of a pooler.",
            metavar="URL",
        ),
    ] = "",
    once: Annotated[
        bool,
        typer.Option("--once", help="Ship everything pending and exit; 1 if any was not accepted."),
    ] = False,
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        typer.Option(help="Lowest level to log."),
    ] = "info",
    log_format: Annotated[
        Literal["text", "json"],
        typer.Option(help="Log as text or as one JSON object per line."),
    ] = "text",
    parent_pid: Annotated[
        int | None, typer.Option("--parent-pid", hidden=True, help="Exit when this process does.")
    ] = None,
) -> None:
    """Send the ledger's rows to the collector as spans and metrics.

    The gateway runs this for you. `OTEL_*` variables override the configuration.
    """
    from spanledger.config import Config, parse_config, read_yaml
    from spanledger.logs import set_up
    from spanledger.telemetry.shipper import SETTINGS_AT_FAULT, run_shipper

    set_up(log_level, log_format, "shipper")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stop.set())
    with reporting_errors():
        settings = (
            parse_config(_own(read_yaml(config)), os.environ, str(config)) if config else Config()
        )
        url = ledger or (settings.ledger.url if config else DEFAULT_LEDGER)
        store = store_of(url, direct or settings.ledger.direct_url)
        if once:
            store.require()
        try:
            done = run_shipper(store, settings.telemetry, stop, once=once, parent_pid=parent_pid)
        except (ConfigError, NoLockError) as error:
            code = Exit.FAILED if parent_pid is None else Exit(SETTINGS_AT_FAULT)
            raise fail(str(error), code) from error
    if not done:
        raise fail(
            "the collector did not accept everything; the rest stays in the ledger", Exit.FAILED
        )


def _own(data: Any) -> Any:
    """The sections a shipper needs. Deployments refer to provider keys, which it does not have."""
    if not isinstance(data, dict):
        return data
    return {name: value for name, value in data.items() if name in ("telemetry", "ledger")}
