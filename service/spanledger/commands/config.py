"""`spanledger config`: check a configuration without starting a gateway, and print an example."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spanledger.budgets.diff import as_dict
from spanledger.budgets.periods import Parts, in_words
from spanledger.clock import Clock
from spanledger.commands import common
from spanledger.commands.common import AsJson, Exit, fail, new_table, print_json, reporting_errors
from spanledger.commands.differences import against_ledger
from spanledger.commands.gateway import (
    journal_warnings,
    nothing_served,
    read_config,
    unmatched_budgets,
    unmatched_pricing,
    unpriced,
)
from spanledger.config import DEFAULT_CONFIG, budget_of
from spanledger.config.addresses import shown_ledger, without_secrets
from spanledger.config.sections import GatewaySettings

if TYPE_CHECKING:
    from spanledger.pricing.contracts import Prices
    from spanledger.providers.base import Deployment
    from spanledger.routing.plan import Plan

app = typer.Typer(no_args_is_help=True, help="Check a configuration, or print an example.")


@app.command()
def check(
    file: Annotated[
        Path, typer.Argument(help="The configuration file, spanledger's or LiteLLM's.")
    ] = DEFAULT_CONFIG,
    json: AsJson = False,
) -> None:
    """Show what a configuration does and what is wrong with it, without starting anything.

    All mistakes are listed at once, each with its place in the file. Exit codes: 0 requests can be
    served, 1 they cannot.
    """
    report = examine(file, os.environ)
    if json:
        print_json(report)
        raise typer.Exit(Exit.DONE if report["ok"] else Exit.FAILED)
    if report["routes"]:
        _print_summary(report)
    for line in report["way_out"]:
        typer.echo(line)
    for warning in report["warnings"]:
        typer.secho(f"warning: {warning}", fg="yellow", err=True)
    if not report["ok"]:
        raise fail("\n".join(report["problems"]))
    typer.secho(f"{file} is valid", fg="green")


@app.command()
def example() -> None:
    """Print a commented configuration to start from."""
    from importlib.resources import files

    with reporting_errors():
        text = files("spanledger.commands").joinpath("example.yaml").read_text(encoding="utf-8")
        typer.echo(text, nl=False)


def examine(file: Path, environ: Mapping[str, str]) -> dict[str, Any]:
    """What `config check --json` prints."""
    from spanledger.errors import ConfigError
    from spanledger.gateway.auth import is_loopback
    from spanledger.pricing.book import PriceBook
    from spanledger.pricing.contracts import Prices
    from spanledger.providers import create_providers
    from spanledger.providers.proxies import WayOut
    from spanledger.telemetry.endpoints import wrong_endpoints

    report: dict[str, Any] = {
        "file": str(file),
        "ok": False,
        "problems": [],
        "warnings": [],
        "routes": [],
        "off": [],
        "budgets": [],
        "budgets_at_start": [],
        "budget_differences": [],
        "limits": {},
        "way_out": [],
    }
    try:
        config, plan, problems = read_config(file, environ)
        if config.telemetry.enabled:
            problems += wrong_endpoints(environ)
        report["problems"] += problems
        report["warnings"] += config.warnings
        report["way_out"] = WayOut.from_environ(environ).describe()
        if plan is None:
            return report
        # The only adapter that may not be installed; the others come with the package.
        create_providers(plan.kinds & {"litellm"})
    except ConfigError as error:
        report["problems"] += str(error).splitlines()
        return report
    book = PriceBook.load()
    prices = Prices(book, config.pricing)
    report["warnings"] += plan.warnings
    if not problems and (nothing := nothing_served(plan)):
        report["problems"].append(f"{file}: {nothing}")
    if not is_loopback(config.gateway.host):
        report["warnings"].append(
            f"gateway.host is {config.gateway.host!r}, so the gateway only starts once a key exists"
        )
    report["warnings"] += unpriced(plan, book) + unmatched_budgets(config, plan)
    report["warnings"] += journal_warnings(config) + unmatched_pricing(config, plan)
    report["routes"] = [_route(name, plan, prices) for name in plan.routes]
    report["off"] = [{"id": off.id, "route": off.route, "reason": off.reason} for off in plan.off]
    report["budgets"] = [as_dict(budget_of(entry)) for entry in config.budgets]
    found = against_ledger(config, file)
    report["budgets_at_start"], report["budget_differences"] = (
        found["at_start"],
        found["differences"],
    )
    report["warnings"] += found["warnings"]
    report["ledger"] = shown_ledger(config.ledger.url)
    report["listen"] = f"{config.gateway.host}:{config.gateway.port}"
    report["default_customer"] = config.gateway.default_customer
    report["limits"] = _limits(config.gateway)
    report["ok"] = not report["problems"]
    return report


def _limits(gateway: GatewaySettings) -> dict[str, Any]:
    """The gateway's settings other than its address and its default customer."""
    limits = gateway.model_dump(mode="json", exclude={"host", "port", "default_customer"})
    limits["max_concurrent_requests_per_key"] = gateway.most_per_key
    limits["max_body_bytes_in_flight"] = gateway.most_body_bytes
    return limits


def _route(name: str, plan: Plan, prices: Prices) -> dict[str, Any]:
    return {
        "route": name,
        "deployments": [_deployment(d, prices) for d in plan.routes[name]],
        "fallbacks": list(plan.onward[name].fallbacks),
        "context_window_fallbacks": list(plan.onward[name].context),
        "content_policy_fallbacks": list(plan.onward[name].content),
    }


def _without_key(deployment: Deployment) -> str:
    """`model: "*"` takes the key of the provider that each request names."""
    return "by model" if deployment.litellm_model == "*" else "none"


def _deployment(deployment: Deployment, prices: Prices) -> dict[str, Any]:
    price = prices.price_of(deployment, Clock().now_ns())
    return {
        "id": deployment.id,
        "provider": deployment.provider,
        "model": deployment.model,
        "adapter": deployment.kind,
        "api_base": without_secrets(deployment.api_base) if deployment.api_base else None,
        "key": "set" if deployment.api_key else _without_key(deployment),
        "priced": price is not None,
        "price_id": price.id if price else None,
        "rpm": deployment.rpm,
        "tpm": deployment.tpm,
    }


def _print_summary(report: dict[str, Any]) -> None:
    from rich.table import Table

    console = common.console()
    routes = new_table(
        {
            "route": "fold",
            "deployment": "keep",
            "provider": "fold",
            "model": "fold",
            "price": "keep",
            "key": "keep",
            "fallbacks": "fold",
        }
    )
    for route in report["routes"]:
        for number, deployment in enumerate(route["deployments"]):
            fallbacks = [*route["fallbacks"]]
            fallbacks += [f"{name} (long prompts)" for name in route["context_window_fallbacks"]]
            first = number == 0
            routes.add_row(
                route["route"] if first else "",
                deployment["id"],
                deployment["provider"],
                deployment["model"],
                "yes" if deployment["priced"] else "no",
                deployment["key"],
                (", ".join(fallbacks) or "-") if first else "",
            )
    for off in report["off"]:
        # The reason is printed with the warnings: here it would squeeze the other columns.
        routes.add_row(off["route"], f"{off['id']} (off)", "-", "-", "-", "-", "-")
    console.print(routes)
    if report["budgets"]:
        budgets = Table("budget", "for", "limit", "each", "action", box=None, pad_edge=False)
        any_when_down = any(e["on_ledger_down_allow_usd"] != "0.00" for e in report["budgets"])
        if any_when_down:
            budgets.add_column("ledger down")
        for entry in report["budgets"]:
            budgets.add_row(
                entry["name"],
                "everybody"
                if entry["scope"] == "global"
                else f"{entry['scope']} {entry['subject']}",
                f"${entry['limit_usd']}",
                f"{_each(entry)} ({entry['timezone']})",
                entry["action"],
                *([f"${entry['on_ledger_down_allow_usd']}"] if any_when_down else []),
            )
        console.print()
        console.print(budgets)
    for change in report["budgets_at_start"]:
        typer.echo(f"at the next start, in {report['ledger']}: {change['text']}")
    _print_limits(report["limits"])


def _each(budget: Mapping[str, Any]) -> str:
    """A budget's period, to stand below "each"."""
    return in_words(Parts(*(budget[name] or "" for name in Parts._fields)).text)


def _print_limits(limits: Mapping[str, Any]) -> None:
    """Those that the file sets; all of them would bury what matters."""
    from rich.table import Table

    usual = _limits(GatewaySettings())
    changed = {name: value for name, value in limits.items() if value != usual[name]}
    if changed:
        table = Table("limit", "value", "default", box=None, pad_edge=False)
        for name, value in changed.items():
            table.add_row(name, str(value), str(usual[name]))
        common.console().print()
        common.console().print(table)
    typer.echo(
        f"\n{len(usual) - len(changed)} limits have their defaults (`--json` shows all of them)"
    )
