"""`spanledger demo`: a scripted incident on simulated providers, with no key and no Docker."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spanledger.commands.common import AsJson, Exit, console, fail, print_json, reporting_errors


def demo(
    json: AsJson = False,
    seed: Annotated[
        int,
        typer.Option(
            help="The same seed gives the same requests. Amounts differ a little with timing."
        ),
    ] = 1,
    keep: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keep the config, ledger and results in this new folder."),
    ] = None,
    view: Annotated[
        bool, typer.Option("--view/--no-view", help="Show the live view on a terminal.")
    ] = True,
) -> None:
    """Run an incident with simulated providers: no key, under 90 s.

    A 429 storm, a fallback, a cost spike, a budget stop, recovery.

    Apart from the providers, everything is real: the processes, and a ledger in a temporary folder.
    At the end, the bill, the ledger and the exported spans are compared to the nano-dollar. Exits
    with 1 if any promise of the scenario was broken.
    """
    from spanledger.demo.app import run_demo
    from spanledger.demo.view import board_for

    board = board_for(console(stderr=json), live=view and not json)
    try:
        with reporting_errors():
            report = run_demo(board, seed=seed, keep=keep)
    except KeyboardInterrupt:
        typer.echo("interrupted; everything has been stopped", err=True)
        raise typer.Exit(130) from None
    if json:
        print_json(report.as_json())
    else:
        report.show(board.console)
    if report.broken:
        raise fail(
            "\n".join(f"promise broken: {item.name}: {item.shown}" for item in report.broken),
            Exit.FAILED,
        )
