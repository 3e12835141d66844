"""`spanledger gateway`: serve the OpenAI wire until told to stop."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spanledger.commands.common import reporting_errors
from spanledger.config import DEFAULT_CONFIG

if TYPE_CHECKING:
    from spanledger.config import Config
    from spanledger.pricing.book import PriceBook
    from spanledger.routing.plan import Plan


def gateway(
    config: Annotated[
        Path, typer.Option("--config", "-c", help="Configuration; LiteLLM's file works, too.")
    ] = DEFAULT_CONFIG,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on; other than loopback needs a key.")
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")
    ] = None,
    ledger: Annotated[
        str | None,
        typer.Option(
            "--ledger",
            metavar="URL",
            help="Ledger URL, sqlite:///PATH; else SPANLEDGER_LEDGER_URL, else the file's.",
        ),
    ] = None,
    ship: Annotated[
        bool, typer.Option("--ship/--no-ship", help="Run the shipper of telemetry beside it.")
    ] = True,
) -> None:
    """Run the gateway until SIGTERM or Ctrl-C.

    Requests in flight get to end.
    """
    with reporting_errors():
        from spanledger.app import run_gateway
        from spanledger.config import load_config
        from spanledger.pricing.book import PriceBook
        from spanledger.routing.plan import Plan

        logging.basicConfig(
            level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s"
        )
        settings = with_overrides(load_config(config), host, port, ledger)
        plan = Plan.from_config(settings, os.environ)
        for warning in (*unsupported(settings), *plan.warnings, *unpriced(plan, PriceBook.load())):
            typer.secho(f"warning: {warning}", fg="yellow", err=True)
        run_gateway(
            settings,
            config,
            ship=ship,
            on_ready=lambda url: typer.echo(f"listening on {url}"),
        )


def with_overrides(
    config: Config, host: str | None, port: int | None, ledger: str | None
) -> Config:
    """The configuration with what the command line says instead."""
    listen = {"host": host, "port": port}
    gateway = config.gateway.model_copy(
        update={name: value for name, value in listen.items() if value is not None}
    )
    update: dict[str, object] = {"gateway": gateway}
    if ledger is not None:
        update["ledger"] = config.ledger.model_copy(update={"url": ledger})
    return config.model_copy(update=update)


def unsupported(config: Config) -> list[str]:
    """The keys of LiteLLM's without effect here, in one phrase; nothing when there are none."""
    return [f"no effect here: {', '.join(config.warnings)}"] if config.warnings else []


def unpriced(plan: Plan, book: PriceBook) -> list[str]:
    """A line for each deployment without a price, or whose base model has none."""
    lines = []
    for deployment in plan.deployments:
        price, base = book.price_of(deployment), deployment.base_model
        if base and book.base(deployment.provider, base)[1] is None:
            lines.append(
                f"deployment {deployment.id!r}: base_model {base!r} is not in the price book of"
                f" {book.date}; write it as `spanledger prices list` does"
            )
        if price is None:
            lines.append(
                f"deployment {deployment.id!r} has no price: it is refused where a budget applies, "
                "else booked as unpriced; set model_info.base_model, or input_cost_per_token and"
                " output_cost_per_token"
            )
    return lines
