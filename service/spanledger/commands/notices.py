"""`spanledger notices`: notices on budgets, and whether they arrived."""

from __future__ import annotations

import json as jsonlib
import logging
import os
import signal
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from spanledger.commands.common import (
    DEFAULT_LEDGER,
    AsJson,
    ColumnKind,
    Exit,
    LedgerUrl,
    console,
    fail,
    format_time,
    local_time,
    new_table,
    print_json,
    reporting_errors,
    store_of,
)
from spanledger.config import DEFAULT_CONFIG, nearest
from spanledger.errors import NoLockError, SpanledgerError, UsageError

if TYPE_CHECKING:
    from spanledger.config import Config
    from spanledger.config.notices import AnyDestination
    from spanledger.ledger.notices import NoticeDelivery

log = logging.getLogger("spanledger.notices")
_NO_LEDGER = "00000000-0000-0000-0000-000000000000"
"""A destination can be tried before there is a ledger."""

app = typer.Typer(no_args_is_help=True, help="Notices on budgets: by webhook, Slack or mail.")

NoticesConfig = Annotated[
    Path, typer.Option("--config", "-c", help="Configuration file with the section `notices`.")
]
NoticesLedger = Annotated[
    str,
    typer.Option(
        "--ledger",
        envvar="SPANLEDGER_LEDGER_URL",
        metavar="URL",
        help="Ledger URL; default: the file's.",
    ),
]


@app.command("list")
def list_(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many to list.")] = 20,
    destination: Annotated[
        str | None, typer.Option("--to", help="Only to this destination.", metavar="DEST")
    ] = None,
    state: Annotated[
        Literal["waiting", "sent", "failed"] | None, typer.Option(help="Only those.")
    ] = None,
    ledger: LedgerUrl = DEFAULT_LEDGER,
    json: AsJson = False,
) -> None:
    """List the newest notices, and where each was sent.

    A notice without a destination was found before anybody was to be told, or is of a step below one that was
    reached at the same moment.
    """
    with reporting_errors():
        store = store_of(ledger)
        store.require()
        with store.reports() as reports:
            found = reports.notices(limit, destination, state)
    if json:
        print_json([_as_dict(delivery) for delivery in found])
        return
    if not found:
        typer.echo("no notices")
        return
    names: dict[str, ColumnKind] = {
        **dict.fromkeys(("found", "id"), "keep"),
        **dict.fromkeys(("budget", "subject"), "fold"),
        "step": "keep",
        **dict.fromkeys(("spent", "limit"), "figure"),
        **dict.fromkeys(("to", "state"), "fold"),
    }
    table = new_table(names)
    for delivery in found:
        data = jsonlib.loads(delivery.notice.data)
        percent = data["percent"]
        table.add_row(
            local_time(delivery.notice.at_ns),
            delivery.notice.id,
            data["budget"],
            data["subject"],
            f"{percent} %" if percent else delivery.notice.step,
            f"${data['spent_usd']}",
            f"${data['limit_usd']}",
            delivery.destination or "-",
            _state(delivery),
        )
    console().print(table)


@app.command("test")
def try_(
    destination: Annotated[str, typer.Argument(help="Name of the destination.", metavar="DEST")],
    config: NoticesConfig = DEFAULT_CONFIG,
    ledger: NoticesLedger = "",
    json: AsJson = False,
) -> None:
    """Send a test message to a destination now, and report what it answers.

    Exit codes: 0 it was accepted, 1 it was not.
    """
    with reporting_errors():
        from spanledger.config import load_aside
        from spanledger.notices.facts import trial
        from spanledger.notices.senders import sender_of

        settings = load_aside(config, os.environ)
        found = _named(settings, destination, config)
        store = store_of(ledger or settings.ledger.url, settings.ledger.direct_url)
        ledger_id = store.ledger_id() if store.exists() else _NO_LEDGER
        sender = sender_of(found, ledger_id, time.time_ns)
        notice = trial(ledger_id, found.name, time.time_ns())
        reply = sender.send([notice])
    if json:
        result = {"destination": found.name, "id": notice.id, "accepted": reply.ok}
        print_json({**result, "error": reply.error or None})
        raise typer.Exit(Exit.DONE if reply.ok else Exit.FAILED)
    if not reply.ok:
        raise fail(f"{found.name!r} did not accept the message: {reply.error}")
    typer.secho(f"{found.name!r} accepted the message {notice.id}", fg="green")


@app.command()
def retry(
    which: Annotated[
        str | None,
        typer.Argument(
            help="A destination, or the id of a notice; default: all.", metavar="[DEST|ID]"
        ),
    ] = None,
    ledger: LedgerUrl = DEFAULT_LEDGER,
    json: AsJson = False,
) -> None:
    """Send notices again that failed or wait for their next attempt, as soon as possible.

    The gateway's shipper, or `spanledger notices run`, sends them.
    """
    from spanledger.notices.facts import NOTICE_ID_PREFIX

    with reporting_errors():
        store = store_of(ledger)
        store.require()
        is_id = which is not None and which.startswith(NOTICE_ID_PREFIX)
        with closing(store.notices()) as book:
            destination, prefix = ("", which or "") if is_id else (which or "", "")
            count = book.retry(time.time_ns(), destination, prefix)
    if json:
        print_json({"retried": count})
    elif count:
        typer.echo(f"{count} will be sent again")
    else:
        typer.echo("nothing has failed or waits" + (f" for {which!r}" if which else ""))


@app.command()
def run(
    config: NoticesConfig = DEFAULT_CONFIG,
    ledger: NoticesLedger = "",
    once: Annotated[
        bool,
        typer.Option(
            "--once", help="Find and send what is new and exit; 1 if any was not accepted."
        ),
    ] = False,
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], typer.Option(help="Lowest level to log.")
    ] = "info",
    log_format: Annotated[
        Literal["text", "json"], typer.Option(help="Log as text or as one JSON object per line.")
    ] = "text",
    parent_pid: Annotated[
        int | None, typer.Option("--parent-pid", hidden=True, help="Exit when this process does.")
    ] = None,
) -> None:
    """Find and send notices until stopped.

    The gateway's shipper does this for you. Run it if the gateway runs with --no-ship.
    """
    from spanledger.logs import set_up

    set_up(log_level, log_format, "notices")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stop.set())
    with reporting_errors():
        from spanledger.config import load_aside
        from spanledger.notices.service import run_notices, send_once
        from spanledger.telemetry.shipper import SETTINGS_AT_FAULT

        settings = load_aside(config, os.environ)
        destinations = settings.notices.destinations
        for warning in settings.warnings:
            log.warning("%s", warning)
        if not destinations:
            raise UsageError(f"{config} has no destinations; add them under notices.destinations")
        store = store_of(ledger or settings.ledger.url, settings.ledger.direct_url)
        if not once:
            try:
                run_notices(store, destinations, stop, parent_pid=parent_pid)
            except NoLockError as error:
                code = Exit.FAILED if parent_pid is None else Exit(SETTINGS_AT_FAULT)
                raise fail(str(error), code) from error
            return
        store.require()
        done = send_once(store, destinations, stop)
    if not done:
        raise fail(
            "not everything was accepted; the rest waits: spanledger notices list", Exit.FAILED
        )


def _named(settings: Config, name: str, file: Path) -> AnyDestination:
    destinations = settings.notices.destinations
    names = [destination.name for destination in destinations]
    if name in names:
        return destinations[names.index(name)]
    for warning in settings.warnings:  # one that is off
        if f"({name})" in warning:
            raise SpanledgerError(warning)
    known = nearest(name, names) or (f"; there are {', '.join(names)}" if names else "")
    raise SpanledgerError(f"{file} has no destination {name!r}{known}")


def _state(delivery: NoticeDelivery) -> str:
    match delivery.state:
        case "sent":
            return f"sent {local_time(delivery.due_ns)}"
        case "waiting" if delivery.error:
            return f"waiting: {delivery.error}; next attempt {local_time(delivery.due_ns)}"
        case "waiting":
            return "waiting"
        case "failed":
            return f"failed: {delivery.error}"
        case _:
            return "not sent"


def _as_dict(delivery: NoticeDelivery) -> dict[str, Any]:
    from spanledger.notices.facts import type_of

    notice, waits = delivery.notice, delivery.state == "waiting"
    return {
        "id": notice.id,
        "type": type_of(notice.step),
        "found_at": format_time(notice.at_ns),
        "data": jsonlib.loads(notice.data),
        "destination": delivery.destination or None,
        "state": delivery.state or None,
        "attempts": delivery.attempts,
        "sent_at": format_time(delivery.due_ns) if delivery.state == "sent" else None,
        "next_attempt_at": format_time(delivery.due_ns) if waits else None,
        "error": delivery.error or None,
    }
