"""`spanledger stack`: the whole stack as local processes, without containers."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from spanledger.commands.common import AsJson, Exit, console, print_json, reporting_errors

if TYPE_CHECKING:
    from spanledger.stack.control import Stack, StackStatus

STACK_NEXT_STEPS = """
Next:
  open Grafana, or if you do not have it: spanledger top --ledger {ledger}
  spanledger stack status      health and memory of each part
  spanledger stack down        stop everything; data is kept"""
_SIGNALS = (signal.SIGINT, signal.SIGTERM)

app = typer.Typer(
    no_args_is_help=True,
    help="Run the whole stack without Docker.",
)

Folder = Annotated[
    Path | None,
    typer.Option(
        "--folder",
        envvar="SPANLEDGER_STACK",
        metavar="DIR",
        help="Folder for data, logs and state; default: .spanledger/stack in the repository.",
    ),
]


@app.command()
def up(
    folder: Folder = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help="Gateway file; default: with simulated providers."),
    ] = None,
    traffic: Annotated[
        bool | None,
        typer.Option("--traffic/--no-traffic", help="Demo traffic; on unless --config is given."),
    ] = None,
    rate: Annotated[
        float, typer.Option(min=0.01, help="Demo requests per second at the peak.")
    ] = 2.0,
    sim_speed: Annotated[
        float, typer.Option(min=0.0, help="Simulated providers: times faster than real.")
    ] = 1.0,
    vendor: Annotated[
        list[str] | None,
        typer.Option(help="Also send to this vendor: a file name in otel-collector/overlays/."),
    ] = None,
    rules: Annotated[
        Path | None,
        typer.Option(help="Other alert rules: a folder written by tools/generate_rules.py --out."),
    ] = None,
    port_base: Annotated[
        int | None,
        typer.Option(
            envvar="SPANLEDGER_STACK_PORT_BASE",
            min=0,
            help="Use consecutive ports from here instead of the defaults; 0 picks free ones.",
        ),
    ] = None,
    port: Annotated[
        list[str] | None, typer.Option(metavar="NAME=NUMBER", help="A different port for one part.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Start every available part, wait until they are ready, and print their addresses.

    The configuration files are those of the compose stack. Everything listens on loopback only and
    keeps running after this command exits. Run it again to start the parts that are not running.
    The collector and Prometheus come from `make toolchain`; `tempo` and `grafana` from PATH, or
    from SPANLEDGER_TEMPO and SPANLEDGER_GRAFANA.
    """
    with reporting_errors():
        from spanledger.stack.ports import choose
        from spanledger.stack.site import Settings

        settings = Settings(
            ports=choose(port_base, port or ()),
            config=str(config.absolute()) if config else "",
            traffic=traffic if traffic is not None else config is None,
            rate=rate,
            sim_speed=sim_speed,
            vendors=tuple(vendor or ()),
            rules=str(rules.absolute()) if rules else "",
        )
        stack = _stack(folder)
        try:
            with _interrupted_by_signals(stack):
                status = stack.up(settings)
        except KeyboardInterrupt:
            typer.echo("interrupted; the parts that were started have been stopped", err=True)
            raise typer.Exit(130) from None
    _show(status, json=json)
    if not json:
        typer.echo(
            STACK_NEXT_STEPS.format(ledger=f"sqlite:///{status.data.resolve() / 'ledger.db'}")
        )


@app.command()
def status(folder: Folder = None, json: AsJson = False) -> None:
    """Show each part's health and memory; exit code 1 unless every available part is ready."""
    with reporting_errors():
        found = _stack(folder).status()
    _show(found, json=json)
    if not found.is_up:
        raise typer.Exit(Exit.FAILED)


@app.command()
def down(folder: Folder = None, json: AsJson = False) -> None:
    """Stop what `up` started and nothing else; data is kept."""
    with reporting_errors():
        ran = _stack(folder).down()
    if json:
        print_json({"stopped": ran})
    else:
        typer.echo(f"stopped: {', '.join(ran)}" if ran else "nothing was running")


def _stack(folder: Path | None) -> Stack:
    from spanledger.stack.control import Stack
    from spanledger.stack.site import find_site

    return Stack(find_site(folder), lambda text: typer.echo(text, err=True))


@contextmanager
def _interrupted_by_signals(stack: Stack) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM abort a start and clean up."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        stack.interrupt()

    before = {number: signal.signal(number, interrupt) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _show(status: StackStatus, *, json: bool) -> None:
    if json:
        print_json(status.as_json())
        return
    from rich.table import Table

    table = Table("part", "state", "pid", "memory", "", box=None, pad_edge=False)
    colours = {"ready": "green", "missing": "yellow"}
    for part in status.parts:
        colour = colours.get(part.state, "red")
        table.add_row(
            part.name,
            f"[{colour}]{part.state}[/]",
            str(part.pid or ""),
            f"{part.memory_bytes / 2**20:.0f} MB" if part.memory_bytes else "",
            part.reason or (part.log if part.state != "ready" else ""),
        )
    out = console()
    if not status.parts or status.settings is None:
        out.print("not running; start it with `spanledger stack up`")
        return
    out.print(table)
    out.print(f"\ntotal memory {status.memory_bytes / 2**20:.0f} MB; data in {status.data}")
    for name, url in status.shown.items():
        out.print(f"{name:<11} {url}")
    out.print(f"keys        {status.data / 'keys.json'} (yours is `you`)")
