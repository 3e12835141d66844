"""`spanledger gateway`: serve the OpenAI API until stopped."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import typer

from spanledger.commands.common import reporting_errors
from spanledger.config import DEFAULT_CONFIG, matches, nearest
from spanledger.config.budgets import subjects_of
from spanledger.errors import SpanledgerError

if TYPE_CHECKING:
    from spanledger.config import Config
    from spanledger.pricing.book import PriceBook
    from spanledger.routing.plan import Plan

log = logging.getLogger("spanledger.gateway")


def gateway(
    config: Annotated[
        Path, typer.Option("--config", "-c", help="Configuration file; LiteLLM's works too.")
    ] = DEFAULT_CONFIG,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on; anything but loopback requires a key.")
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port; 0 picks a free one.")
    ] = None,
    ledger: Annotated[
        str | None,
        typer.Option(
            "--ledger",
            metavar="URL",
            help="Ledger URL; default: SPANLEDGER_LEDGER_URL, then the file's.",
        ),
    ] = None,
    ship: Annotated[
        bool, typer.Option("--ship/--no-ship", help="Run the telemetry shipper as well.")
    ] = True,
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"] | None,
        typer.Option(help="Lowest level to log; default: the file's."),
    ] = None,
    log_format: Annotated[
        Literal["text", "json"] | None,
        typer.Option(help="Log as text or as one JSON object per line; default: the file's."),
    ] = None,
    access_log: Annotated[
        bool | None,
        typer.Option("--access-log/--no-access-log", help="Log each request; default: the file's."),
    ] = None,
) -> None:
    """Run the gateway until SIGTERM or Ctrl-C.

    On shutdown, requests in flight are allowed to finish.
    """
    with reporting_errors():
        from spanledger.app import run_gateway
        from spanledger.errors import ConfigError
        from spanledger.logs import set_up
        from spanledger.pricing.book import PriceBook
        from spanledger.providers.proxies import WayOut
        from spanledger.telemetry.endpoints import wrong_endpoints

        read, plan, problems = read_config(config, os.environ)
        if ship and read.telemetry.enabled:
            problems += wrong_endpoints(os.environ)
        if plan is None or problems:
            raise ConfigError("\n".join(problems))
        given = {
            "host": host,
            "port": port,
            "log_level": log_level,
            "log_format": log_format,
            "access_log": access_log,
        }
        settings = with_overrides(read, given, ledger)
        set_up(settings.gateway.log_level, settings.gateway.log_format, "gateway")
        for warning in [*_warnings(settings, plan, PriceBook.load()), *_of_keys(settings, plan)]:
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
    """Print where the gateway listens, and log what it was started with."""
    from spanledger.commands.summary import start_summary
    from spanledger.logs import FIELDS

    typer.echo(f"listening on {url} (base URL for clients: {url}/v1)")
    for message, fields in start_summary(file, config, plan):
        log.info(message, extra={FIELDS: fields})


def with_overrides(config: Config, given: Mapping[str, object], ledger: str | None) -> Config:
    """The configuration with the options of the command line; None means not given."""
    gateway = config.gateway.model_copy(
        update={name: value for name, value in given.items() if value is not None}
    )
    update: dict[str, object] = {"gateway": gateway}
    if ledger is not None:
        update["ledger"] = config.ledger.model_copy(update={"url": ledger})
    return config.model_copy(update=update)


class Reading(NamedTuple):
    """A configuration, its plan, and the problems of both."""

    config: Config
    plan: Plan | None
    problems: list[str]


def read_config(file: Path, environ: Mapping[str, str]) -> Reading:
    """Read a configuration and plan it. Raises ConfigError when the file cannot be read."""
    from spanledger.config import draft_config
    from spanledger.errors import ConfigError
    from spanledger.pricing.book import PriceBook
    from spanledger.routing.plan import Plan

    draft = draft_config(file, environ)
    problems = list(draft.problems)
    plan = None
    try:
        plan = Plan.from_config(draft.config, environ, PriceBook.load())
    except ConfigError as error:
        problems += str(error).splitlines()
    return Reading(draft.config, plan, [f"{file}: {problem}" for problem in problems])


def _warnings(config: Config, plan: Plan, book: PriceBook) -> list[str]:
    nothing = nothing_served(plan)
    return [
        *(*config.warnings, *plan.warnings, *unpriced(plan, book)),
        *(*unmatched_budgets(config, plan), *journal_warnings(config)),
        *unmatched_pricing(config, plan),
        *([nothing] if nothing else []),
    ]


def _of_keys(config: Config, plan: Plan) -> list[str]:
    """A warning for each key that may use routes or models which do not exist."""
    from spanledger.commands.key_checks import unmatched_keys
    from spanledger.ledger import open_store

    # Whatever is wrong with the ledger, the gateway says next.
    with suppress(SpanledgerError):
        store = open_store(config.ledger.url)
        if store.exists():
            with store.records("read") as records:
                return unmatched_keys(config, plan, records.keys(), time.time_ns())
    return []


def nothing_served(plan: Plan) -> str | None:
    """Why no request can be served; None if any can."""
    if plan.deployments:
        return None
    if plan.off:
        return "no request can be served: every deployment is off"
    return (
        "no request can be served: model_list is empty; `spanledger config example` prints a file"
        " to start from"
    )


def unpriced(plan: Plan, book: PriceBook) -> list[str]:
    """A warning for each deployment that has no price or whose base model has none."""
    lines = []
    for deployment in plan.deployments:
        price, base = book.price_of(deployment), deployment.base_model
        if base and book.base(deployment.provider, base)[1] is None:
            lines.append(
                f"deployment {deployment.id!r}: base_model {base!r} is not in the price book of"
                f" {book.date}; use a name from `spanledger prices list`"
            )
        if price is None and "*" not in deployment.model:
            lines.append(
                f"deployment {deployment.id!r} has no price: its requests are refused under a"
                " blocking budget and recorded as unpriced otherwise; set model_info.base_model, or"
                " input_cost_per_token and output_cost_per_token"
            )
    return lines


def unmatched_budgets(config: Config, plan: Plan) -> list[str]:
    """A warning for each budget whose model no deployment has and no wildcard may serve, or whose route
    does not exist."""
    lines = []
    has = {name for d in plan.deployments for name in (d.model, d.label)}
    given = [
        entry.litellm_params.model for entry in config.model_list
    ]  # also of those that are off
    for budget in config.budgets:
        subjects = subjects_of(budget)
        route = subjects.get("route", "*")
        if route != "*" and route not in plan.routes:
            lines.append(
                f"budget {budget.name!r}: no deployment has model_name {route!r}"
                + nearest(route, list(plan.routes))
            )
        model = subjects.get("model")
        if model in (None, "*") or model in has or any(may_be(model, name) for name in given):
            continue
        lines.append(
            f"budget {budget.name!r}: no deployment has the model {model!r}; a budget's `model` is"
            " the provider's, such as gpt-4o-mini"
        )
    return lines


def unmatched_pricing(config: Config, plan: Plan) -> list[str]:
    """A warning for each rule of `pricing` that names what no deployment has."""
    ids = [*(d.id for d in plan.deployments), *(off.id for off in plan.off)]
    models = {name for d in plan.deployments for name in (d.model, d.label)}
    given = [entry.litellm_params.model for entry in config.model_list]
    lines = []
    for kind, rules in (("contract", config.pricing.contracts), ("charge", config.pricing.charges)):
        for rule in rules:
            deployment, model = rule.names.get("deployment", "*"), rule.names.get("model", "*")
            if not any(matches(deployment, name) is not None for name in ids):
                near = nearest(deployment, ids)
                lines.append(f"pricing: {kind} {rule.name!r}: no deployment {deployment!r}{near}")
            known = any(matches(model, name) is not None for name in models)
            if not (known or any(may_be(model, name) for name in given)):
                lines.append(
                    f"pricing: {kind} {rule.name!r}: no deployment has the model {model!r}; `model`"
                    " is the provider's, such as gpt-4o-mini"
                )
    return lines


def journal_warnings(config: Config) -> list[str]:
    """A warning if the journal cannot do what the file's budgets expect of it."""
    from spanledger.config.addresses import is_postgres, sqlite_file

    if not any(entry.on_ledger_down.allow_up_to for entry in config.budgets):
        return []
    url, folder = config.ledger.url, _existing(Path(config.ledger.journal))
    if not os.access(folder, os.W_OK | os.X_OK):
        problem = (
            "cannot be written by this user, so nothing is sent while the ledger is unavailable"
        )
    elif is_postgres(url) or folder.stat().st_dev != _existing(sqlite_file(url)).stat().st_dev:
        return []
    else:
        problem = "is on the ledger's disk, and fails together with it; choose one on another disk"
    return [f"ledger.journal: the folder {config.ledger.journal!r} {problem}"]


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above that exists."""
    path = path.absolute()
    return next(found for found in (path, *path.parents) if found.exists())


def may_be(model: str, given: str) -> bool:
    """Whether an entry's `model` may become this one; a prefix may be added or removed."""
    name = given.rpartition("/")[2].lstrip("*")
    return matches(f"*{name}", model) is not None
