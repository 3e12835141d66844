"""`spanledger ship`: the shipper as a command."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

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

if TYPE_CHECKING:
    from spanledger.config import Config
    from spanledger.ledger.ports import Store


log = logging.getLogger("spanledger.shipper")


def ship(
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", help="Configuration file; its `telemetry` and `notices` sections are used."
        ),
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

    The gateway runs this for you. `OTEL_*` variables override the configuration. If the configuration has
    `notices`, they are sent as well, but not with --once.
    """
    from spanledger.config import Config, load_aside
    from spanledger.logs import set_up
    from spanledger.telemetry.shipper import SETTINGS_AT_FAULT, run_shipper

    set_up(log_level, log_format, "shipper")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stop.set())
    with reporting_errors():
        settings = load_aside(config, os.environ) if config else Config()
        for warning in settings.warnings:
            log.warning("%s", warning)
        url = ledger or (settings.ledger.url if config else DEFAULT_LEDGER)
        store = store_of(url, direct or settings.ledger.direct_url)
        if once:
            store.require()
        try:
            with _notices(store, settings, stop, parent_pid, once=once):
                done = run_shipper(
                    store, settings.telemetry, stop, once=once, parent_pid=parent_pid
                )
        except (ConfigError, NoLockError) as error:
            code = Exit.FAILED if parent_pid is None else Exit(SETTINGS_AT_FAULT)
            raise fail(str(error), code) from error
    if not done:
        raise fail(
            "the collector did not accept everything; the rest stays in the ledger", Exit.FAILED
        )


@contextmanager
def _notices(
    store: Store, config: Config, stop: threading.Event, parent_pid: int | None, *, once: bool
) -> Iterator[None]:
    """Send notices next to the telemetry, if the configuration has destinations."""
    if once or not config.notices.destinations:
        yield
        return
    from spanledger.notices.service import FINISH_S, NoticeThread

    thread = NoticeThread(store, config.notices.destinations, stop, parent_pid)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(FINISH_S + 1)
