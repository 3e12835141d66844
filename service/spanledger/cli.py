"""Assembles the command line. Each command lives in `commands/`; nothing heavy is imported here."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from typing import Annotated

import typer

from spanledger import __version__
from spanledger.commands import (
    budget,
    config,
    demo,
    gateway,
    keys,
    ledger,
    notices,
    prices,
    ship,
    sim,
    spend,
    stack,
    top,
    worker,
)

app = typer.Typer(
    name="spanledger",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain text, wrapped to the terminal, without importing rich
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Observability and budgets for LLM applications, on your own machines.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"spanledger {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Observability and budgets for LLM applications, on your own machines."""


app.command("gateway")(gateway.gateway)
app.add_typer(config.app, name="config")
app.add_typer(worker.app, name="worker")
app.command("sim")(sim.sim)
app.command("demo")(demo.demo)
app.add_typer(stack.app, name="stack")
app.command("ship")(ship.ship)
app.add_typer(prices.app, name="prices")
app.add_typer(keys.app, name="keys")
app.add_typer(budget.app, name="budget")
app.command("apply")(budget.apply)
app.add_typer(notices.app, name="notices")
app.command("top")(top.top)
app.command("spend")(spend.spend)
app.command("requests")(spend.requests)
app.command("trace")(spend.trace)
app.add_typer(ledger.app, name="ledger")


def main() -> None:
    """Run the command line.

    A character that the terminal cannot show is replaced. A closed terminal or a full disk ends
    the command with a one-line error instead of a traceback.
    """
    # None if the caller closed it.
    sys.stdout = sys.stdout or io.StringIO()
    sys.stderr = sys.stderr or io.StringIO()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EIO, errno.EPIPE):
            raise
        with contextlib.suppress(OSError):
            sys.stderr.write(f"error: cannot write the output: {error.strerror or error}\n")
        os._exit(1)  # flushing the buffers at exit would raise again
