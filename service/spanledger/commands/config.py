"""`spanledger config`: check a configuration without starting, and print an example."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spanledger.commands.common import AsJson, Exit, fail, new_table, print_json, reporting_errors
from spanledger.commands.differences import against_ledger
from spanledger.commands.gateway import unpriced, unsupported

if TYPE_CHECKING:
    from spanledger.config import BudgetEntry
    from spanledger.pricing.book import PriceBook
    from spanledger.providers.base import Deployment
    from spanledger.routing.plan import Plan

app = typer.Typer(no_args_is_help=True, help="Check a configuration, or print an example.")


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="The configuration, spanledger's or LiteLLM's.")],
    json: AsJson = False,
) -> None:
    """Say what a configuration means and what is wrong with it, without starting anything.

    Exit codes: 0 it can be started, 1 it cannot; each problem is named with its place.
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
    typer.secho(f"{file} is good", fg="green")


@app.command()
def example() -> None:
    """Print a commented configuration to start from."""
    from importlib.resources import files

    with reporting_errors():
        text = files("spanledger.commands").joinpath("example.yaml").read_text(encoding="utf-8")
        typer.echo(text, nl=False)


class _Environment(Mapping[str, str]):
    """The environment, with a stand-in for what is missing, so that one unset variable does not
    hide what else is wrong."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.missing: dict[str, str] = {}

    def __getitem__(self, name: str) -> str:
        try:
            return self._environ[name]
        except KeyError:
            return self.missing.setdefault(name, f"<{name} is not set>")

    def __contains__(self, name: object) -> bool:
        return True

    def __iter__(self) -> Iterator[str]:
        return iter(self._environ)

    def __len__(self) -> int:
        return len(self._environ)

    def get(self, name: str, default: Any = None) -> Any:
        """As a mapping's: only `[]` stands in."""
        return self._environ.get(name, default)


def examine(file: Path, environ: Mapping[str, str]) -> dict[str, Any]:
    """What `config check --json` prints."""
    from spanledger.config import load_config
    from spanledger.errors import ConfigError
    from spanledger.gateway.auth import is_loopback
    from spanledger.pricing.book import PriceBook
    from spanledger.providers import create_providers
    from spanledger.providers.proxies import WayOut
    from spanledger.routing.plan import Plan

    report: dict[str, Any] = {
        "file": str(file),
        "ok": False,
        "problems": [],
        "warnings": [],
        "routes": [],
        "budgets": [],
        "budgets_at_start": [],
        "budget_differences": [],
        "limits": {},
        "way_out": [],
    }
    seen = _Environment(environ)
    try:
        config = load_config(file, seen)
        report["problems"] = [
            f"{file}: the variable {name} is not set; export it first" for name in seen.missing
        ]
        report["warnings"] += unsupported(config)
        plan = Plan.from_config(config, environ)
        report["way_out"] = WayOut.from_environ(environ).describe()
        # The one adapter that may be missing; the others come with the package.
        create_providers({d.kind for d in plan.deployments if d.kind == "litellm"})
    except ConfigError as error:
        report["problems"] += str(error).splitlines()
        return report
    book = PriceBook.load()
    routes = [_route(name, plan, book, seen) for name in plan.routes]
    report["warnings"] += plan.warnings
    if not routes:
        report["warnings"].append("model_list is empty: no request can be served")
    if not is_loopback(config.gateway.host):
        report["warnings"].append(
            f"gateway.host {config.gateway.host!r} is served only once a key exists"
        )
    report["warnings"] += unpriced(plan, book)
    report["routes"] = routes
    report["budgets"] = [_budget(entry) for entry in config.budgets]
    found = against_ledger(config, file)
    report["budgets_at_start"], report["budget_differences"] = (
        found["at_start"],
        found["differences"],
    )
    report["warnings"] += found["warnings"]
    gateway = config.gateway.model_dump(mode="json")
    report["listen"] = f"{gateway.pop('host')}:{gateway.pop('port')}"
    report["default_customer"] = gateway.pop("default_customer")
    report["limits"] = gateway
    report["ok"] = not report["problems"]
    return report


def _route(name: str, plan: Plan, book: PriceBook, environ: _Environment) -> dict[str, Any]:
    return {
        "route": name,
        "deployments": [_deployment(d, book, environ) for d in plan.routes[name]],
        "fallbacks": list(plan.onward[name].fallbacks),
        "context_window_fallbacks": list(plan.onward[name].context),
        "content_policy_fallbacks": list(plan.onward[name].content),
    }


def _without_secrets(url: str | None) -> str | None:
    """A base URL as it may be printed: without a password, a token or a query."""
    if url is None:
        return None
    scheme, separator, rest = url.partition("://")
    host, slash, path = rest.partition("?")[0].partition("#")[0].partition("/")
    return f"{scheme}{separator}{host.rpartition('@')[2]}{slash}{path}"


def _deployment(deployment: Deployment, book: PriceBook, environ: _Environment) -> dict[str, Any]:
    price = book.price_of(deployment)
    return {
        "id": deployment.id,
        "provider": deployment.provider,
        "model": deployment.model,
        "adapter": deployment.kind,
        "api_base": _without_secrets(deployment.api_base),
        "key": _key_state(deployment, environ),
        "priced": price is not None,
        "price_id": price.id if price else None,
        "rpm": deployment.rpm,
        "tpm": deployment.tpm,
    }


def _key_state(deployment: Deployment, environ: _Environment) -> str:
    """`set`, `missing`, or `none` where the deployment may well need none."""
    if deployment.api_key in environ.missing.values():
        return "missing"
    if deployment.api_key:
        return "set"
    return "none" if deployment.api_base or deployment.kind == "litellm" else "missing"


def _budget(entry: BudgetEntry) -> dict[str, Any]:
    from spanledger.money import format_usd

    scopes = ("customer", "key", "team", "model", "provider")
    scope = next((name for name in scopes if getattr(entry, name)), "global")
    return {
        "name": entry.name,
        "scope": scope,
        "subject": getattr(entry, scope, None) or "*",
        "limit_usd": format_usd(entry.limit),
        "period": entry.period,
        "timezone": entry.timezone,
        "action": entry.action,
        "strict": entry.strict,
    }


def _print_summary(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    routes = new_table(
        {
            "route": "fold",
            "deployment": "keep",
            "provider": "fold",
            "model": "fold",
            "price": "keep",
            "key": "keep",
            "then": "fold",
        }
    )
    for route in report["routes"]:
        for number, deployment in enumerate(route["deployments"]):
            then = [*route["fallbacks"]]
            then += [f"{name} (long prompts)" for name in route["context_window_fallbacks"]]
            first = number == 0
            routes.add_row(
                route["route"] if first else "",
                deployment["id"],
                deployment["provider"],
                deployment["model"],
                "yes" if deployment["priced"] else "no",
                deployment["key"],
                (", ".join(then) or "-") if first else "",
            )
    console.print(routes)
    if report["budgets"]:
        budgets = Table("budget", "for", "limit", "each", "action", box=None, pad_edge=False)
        for entry in report["budgets"]:
            budgets.add_row(
                entry["name"],
                "everybody"
                if entry["scope"] == "global"
                else f"{entry['scope']} {entry['subject']}",
                f"${entry['limit_usd']}",
                f"{entry['period']} ({entry['timezone']})",
                entry["action"],
            )
        console.print()
        console.print(budgets)
    for change in report["budgets_at_start"]:
        typer.echo(f"at the next start: {change['text']}")
    limits = Table("limit", "value", box=None, pad_edge=False)
    for name, value in report["limits"].items():
        limits.add_row(name, str(value))
    console.print()
    console.print(limits)
