"""`spanledger gateway`: serve the OpenAI wire until told to stop."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from spanledger.commands.common import reporting_errors
from spanledger.config import DEFAULT_CONFIG

if TYPE_CHECKING:
    from spanledger.config import Config
    from spanledger.pricing.book import PriceBook
    from spanledger.pricing.price import Price
    from spanledger.providers.base import Deployment
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
        from spanledger.errors import ConfigError
        from spanledger.pricing.book import PriceBook

        logging.basicConfig(
            level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s"
        )
        read, plan, problems = read_config(config, os.environ)
        if plan is None or problems:
            raise ConfigError("\n".join(problems))
        settings = with_overrides(read, host, port, ledger)
        for warning in (*settings.warnings, *plan.warnings, *unpriced(plan, PriceBook.load())):
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


class Reading(NamedTuple):
    """A configuration, its plan, and all that is wrong with either."""

    config: Config
    plan: Plan | None
    problems: list[str]


def read_config(file: Path, environ: Mapping[str, str]) -> Reading:
    """Read a configuration and plan it. Raises ConfigError when the file cannot be read."""
    from spanledger.config import draft_config
    from spanledger.errors import ConfigError
    from spanledger.routing.plan import Plan

    draft = draft_config(file, environ)
    problems = list(draft.problems)
    plan = None
    try:
        plan = Plan.from_config(draft.config, environ)
    except ConfigError as error:
        problems += str(error).splitlines()
    return Reading(draft.config, plan, [f"{file}: {problem}" for problem in problems])


def price_of(deployment: Deployment, book: PriceBook) -> Price | None:
    """What a deployment is charged by, if by anything."""
    return book.find(
        deployment.provider,
        deployment.model,
        deployment.litellm_model,
        deployment.prices,
        deployment.id,
    )


def unpriced(plan: Plan, book: PriceBook) -> list[str]:
    """A line for each deployment without a price."""
    return [
        f"deployment {deployment.id!r} has no price: it is refused where a budget applies, "
        "else booked as unpriced; set input_cost_per_token and output_cost_per_token"
        for deployment in plan.deployments
        if price_of(deployment, book) is None and "*" not in deployment.model
    ]
