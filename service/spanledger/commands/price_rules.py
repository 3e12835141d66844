"""`spanledger prices explain`: what a model costs by contract, what a customer is charged for it, and
which rules say so."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spanledger.commands import common
from spanledger.commands.common import AsJson, fail, parse_moment, print_json, reporting_errors
from spanledger.config import DEFAULT_CONFIG, nearest
from spanledger.money import format_share, format_usd

if TYPE_CHECKING:
    from spanledger.pricing.charges import Charges
    from spanledger.pricing.contracts import Prices
    from spanledger.pricing.price import Price
    from spanledger.providers.base import Deployment

_MANY = 1_000_000


def explain(
    model: Annotated[
        str, typer.Argument(help="A route, a deployment, or a provider's model, as in the config.")
    ],
    file: Annotated[
        Path, typer.Option("--config", "-c", help="Configuration file.", metavar="FILE")
    ] = Path(DEFAULT_CONFIG),
    customer: Annotated[str, typer.Option(help="Who is charged.")] = "",
    team: Annotated[str, typer.Option(help="The customer's team.")] = "",
    at: Annotated[str, typer.Option(help="2026-11-01, 24h, 7d …; default: now.")] = "",
    as_json: AsJson = False,
) -> None:
    """Print what a model costs by contract, what a customer is charged, and by which rules."""
    from spanledger.clock import Clock
    from spanledger.config import load_config
    from spanledger.pricing.book import PriceBook
    from spanledger.pricing.charges import Charges
    from spanledger.pricing.contracts import Prices
    from spanledger.routing.plan import Plan

    with reporting_errors():
        config, book = load_config(file), PriceBook.load()
        plan = Plan.from_config(config, None, book)
        at_ns = parse_moment(at) if at else Clock().now_ns()
        served = {route: plan.serve(route, model) for route in plan.wildcards}
        found = [d for d in plan.deployments if model in (d.route, d.id, d.model, d.litellm_model)]
        found += [d for each in served.values() for d in each if not found]
        if not found:
            names = [name for d in plan.deployments for name in (d.route, d.id, d.model)]
            raise fail(
                f"no deployment of {str(file)!r} is or serves {model!r}{nearest(model, names)}"
            )
        prices, charges = Prices(book, config.pricing), Charges(config.pricing)
        who = (customer or config.gateway.default_customer, team)
        rows = [_explained(d, prices, charges, who, at_ns) for d in found]
    if as_json:
        print_json(rows)
        return
    for row in rows:
        _print(row)


def _explained(
    deployment: Deployment, prices: Prices, charges: Charges, who: tuple[str, str], at_ns: int
) -> dict[str, Any]:
    price = prices.price_of(deployment, at_ns)
    listed = None if price is None else price.listed or price
    contracts = prices.contracts(deployment, at_ns)
    matching = charges.matching(*who, deployment.model, deployment.provider, at_ns)
    rule = charges.find(*who, deployment.model, deployment.provider, at_ns)
    return {
        "deployment": deployment.id,
        "provider": deployment.provider,
        "model": deployment.model,
        "customer": who[0],
        "team": who[1],
        "price_id": price.id if price else None,
        "list_usd_per_million_tokens": _two(listed),
        "usd_per_million_tokens": _two(price),
        "contract": contracts[0].name if contracts else None,
        "other_contracts": [each.name for each in contracts[1:]],
        "charge": rule.name or None,
        "charge_share": format_share(rule.what.share),
        "charge_of": rule.what.of,
        "other_charges": [each.name for each in matching[1:]],
    }


def _two(price: Price | None) -> dict[str, str] | None:
    if price is None:
        return None
    rates = {"input": price.rates.input, "output": price.rates.output}
    return {name: format_usd(price.billed_nano(pico * _MANY)) for name, pico in rates.items()}


def _print(row: dict[str, Any]) -> None:
    from rich.markup import escape

    screen = common.console()
    screen.print(
        f"[bold]{escape(row['deployment'])}[/] · {escape(row['provider'])} · {escape(row['model'])}"
    )
    if row["usd_per_million_tokens"] is None:
        screen.print("  has no price")
        return
    screen.print(f"  list price   {_per_million(row['list_usd_per_million_tokens'])}")
    screen.print(
        f"  cost         {_per_million(row['usd_per_million_tokens'])}"
        f"  {_by('contract', row['contract'], row['other_contracts'])}"
    )
    what = {"cost": "the cost", "list": "the list price"}[row["charge_of"]]
    screen.print(
        f"  {escape(row['customer'])} is charged {row['charge_share']} of {what}"
        f"  {_by('rule', row['charge'], row['other_charges'])}"
    )


def _per_million(usd: dict[str, str]) -> str:
    return f"${usd['input']} in, ${usd['output']} out per million tokens"


def _by(kind: str, name: str | None, others: list[str]) -> str:
    from rich.markup import escape

    if name is None:
        return f"(no {kind} matches)"
    less = f"; less specific or earlier: {', '.join(map(escape, others))}" if others else ""
    return f"(by {kind} {escape(name)}{less})"
