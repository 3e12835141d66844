"""`spanledger gateway`: serve the OpenAI wire until told to stop."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from spanledger.commands.common import reporting_errors
from spanledger.config import DEFAULT_CONFIG

if TYPE_CHECKING:
    from spanledger.config import Config
    from spanledger.pricing.book import PriceBook
    from spanledger.routing.plan import Plan

log = logging.getLogger("spanledger.gateway")


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
        bool, typer.Option("--ship/--no-ship", help="Run the telemetry shipper alongside it.")
    ] = True,
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"] | None,
        typer.Option(help="Least severe messages to log; else the file's."),
    ] = None,
    log_format: Annotated[
        Literal["text", "json"] | None,
        typer.Option(help="Log lines for people, or one JSON object a line; else the file's."),
    ] = None,
    access_log: Annotated[
        bool | None,
        typer.Option("--access-log/--no-access-log", help="Log each request; else the file's."),
    ] = None,
) -> None:
    """Run the gateway until SIGTERM or Ctrl-C.

    On shutdown, requests in flight are allowed to finish.
    """
    with reporting_errors():
        from spanledger.app import run_gateway
        from spanledger.config import load_config
        from spanledger.logs import set_up
        from spanledger.pricing.book import PriceBook
        from spanledger.providers.proxies import WayOut
        from spanledger.routing.plan import Plan

        given = {
            "host": host,
            "port": port,
            "log_level": log_level,
            "log_format": log_format,
            "access_log": access_log,
        }
        settings = with_overrides(load_config(config), given, ledger)
        set_up(settings.gateway.log_level, settings.gateway.log_format, "gateway")
        plan = Plan.from_config(settings, os.environ)
        for warning in (*unsupported(settings), *plan.warnings, *unpriced(plan, PriceBook.load())):
            log.warning(warning)
        for line in WayOut.from_environ(os.environ).describe():
            log.info(line)
        run_gateway(
            settings,
            config,
            ship=ship,
            on_ready=lambda url: announce(url, config, settings, plan),
        )


def announce(url: str, file: Path, config: Config, plan: Plan) -> None:
    """Say where the gateway listens, and log what it was started with."""
    from spanledger.commands.summary import start_summary
    from spanledger.logs import FIELDS

    typer.echo(f"listening on {url}")
    for message, fields in start_summary(file, config, plan):
        log.info(message, extra={FIELDS: fields})


def with_overrides(config: Config, given: Mapping[str, object], ledger: str | None) -> Config:
    """The configuration with what the command line says instead; None is what it does not say."""
    gateway = config.gateway.model_copy(
        update={name: value for name, value in given.items() if value is not None}
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
