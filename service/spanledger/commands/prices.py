"""`spanledger prices`: the prices that the gateway charges by."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spanledger.commands import common, price_rules
from spanledger.commands.common import AsJson, fail, print_json, reporting_errors
from spanledger.config import nearest
from spanledger.money import format_usd, nano_from_pico

if TYPE_CHECKING:
    from spanledger.pricing.book import BookEntry, PriceBook
    from spanledger.pricing.price import Price, Rates, Schedule

app = typer.Typer(no_args_is_help=True, help="The price book: what models cost.")

MILLION = 1_000_000
LABELS = {
    "input": "input",
    "cache_read": "input, cached",
    "cache_write": "input, written to cache",
    "cache_write_1h": "input, written to 1-hour cache",
    "output": "output",
    "reasoning": "output, reasoning",
    "audio_input": "input, audio",
    "audio_cache_read": "input, cached audio",
    "audio_output": "output, audio",
}
PRICE_ID = re.compile(r"(?P<date>\d{4}-\d{2}-\d{2})/(?P<name>.+?)(\*(?P<share>\d+(\.\d+)?))?")

app.command()(price_rules.explain)


@app.command()
def show(
    model: Annotated[str, typer.Argument(help="A model as in the config, or a price id.")],
    as_json: AsJson = False,
) -> None:
    """Print a model's prices per million tokens."""
    from spanledger.pricing.book import PriceBook

    with reporting_errors():
        match = PRICE_ID.fullmatch(model)
        if match and match["share"]:
            typer.echo(f"by contract, {match['share']} of these prices is billed", err=True)
        book = PriceBook.load(match["date"] if match else None)
        name = match["name"] if match else model
        price = book.price(name) or _qualified(book, name)
        if price is None:
            raise fail(_why_not(book, name))
        name = price.id.partition("/")[2]
        entry = book.entry(name)
        if as_json:
            print_json(_as_dict(book, name, price))
        elif entry is not None:
            _print_table(book, name, entry, price)


@app.command("list")
def list_models(
    provider: Annotated[
        str | None, typer.Option(help="Only models of this provider.", metavar="NAME")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print all models with their input and output prices per million tokens."""
    from spanledger.pricing.book import PriceBook

    with reporting_errors():
        book = PriceBook.load()
        found = [n for n, entry in book.entries.items() if provider in (None, entry.provider)]
        if not found:
            providers = sorted({entry.provider for entry in book.entries.values()})
            hint = nearest(provider or "", providers) or f"; providers are {', '.join(providers)}"
            raise fail(f"no models of provider {provider!r} in the price book of {book.date}{hint}")
        prices = {name: book.price(name) for name in found}
        if as_json:
            print_json([_as_dict(book, name, price) for name, price in prices.items() if price])
            return
        width = max(map(len, found))
        typer.echo(f"{'USD per million tokens':{width}}  {'input':>10}  {'output':>10}")
        for name, price in prices.items():
            rates = ("-", "-") if price is None else _two(price.rates)
            typer.echo(f"{name:{width}}  {rates[0]:>10}  {rates[1]:>10}")


def _qualified(book: PriceBook, name: str) -> Price | None:
    """The price of `openai/gpt-4o`, as configs write it; the book lists the bare model."""
    provider, _, model = name.partition("/")
    return book.find(provider, model, name, {}, "") if model else None


def _why_not(book: PriceBook, name: str) -> str:
    entry = book.entry(name)
    if entry is not None:
        return f"{name!r} has no price in the price book of {book.date}: {entry.unpriced}"
    bare = name.rpartition("/")[2]
    near = [known for known in book.entries if known.endswith(f"/{bare}")]
    near += difflib.get_close_matches(name, book.entries, n=5, cutoff=0.6)
    hint = f"; similar names are {', '.join(dict.fromkeys(near[:6]))}" if near else ""
    return f"no model {name!r} in the price book of {book.date}{hint}"


def _per_million(pico: int) -> str:
    return format_usd(nano_from_pico(pico * MILLION))


def _two(rates: Rates) -> tuple[str, str]:
    return _per_million(rates.input), _per_million(rates.output)


def _rates_as_dict(rates: Rates) -> dict[str, str]:
    listed = {key: getattr(rates, key) for key in LABELS}
    return {key: _per_million(pico) for key, pico in listed.items() if pico is not None}


def _schedule_as_dict(schedule: Schedule) -> dict[str, Any]:
    return {
        "usd_per_million_tokens": _rates_as_dict(schedule.rates),
        "tiers": [
            {
                "above_input_tokens": tier.above,
                "usd_per_million_tokens": _rates_as_dict(tier.rates),
            }
            for tier in schedule.tiers
        ],
    }


def _as_dict(book: PriceBook, name: str, price: Price) -> dict[str, Any]:
    entry = book.entries[name]
    return {
        "model": name,
        "provider": entry.provider,
        "mode": entry.mode,
        "price_id": price.id,
        "source": book.source,
        "max_input_tokens": price.max_input_tokens,
        "max_output_tokens": price.max_output_tokens,
        **_schedule_as_dict(price.usual),
        "service_tiers": {
            name: _schedule_as_dict(schedule) for name, schedule in price.services.items()
        },
        "usd_per_search": format_usd(nano_from_pico(price.search)) if price.search else None,
    }


def _print_table(book: PriceBook, name: str, entry: BookEntry, price: Price) -> None:
    from rich.table import Table

    tiers = [f"above {tier.above:,} input" for tier in price.tiers]
    table = Table("USD per million tokens", box=None)
    for title in ("price", *tiers):
        table.add_column(title, justify="right")
    for key, label in LABELS.items():
        levels = (price.rates, *(tier.rates for tier in price.tiers))
        prices = [getattr(rates, key) for rates in levels]
        if any(pico is not None for pico in prices):
            table.add_row(label, *("" if p is None else _per_million(p) for p in prices))
    console = common.console()
    console.print(f"[bold]{name}[/bold] · {entry.provider} · {entry.mode}")
    console.print(table)
    for service, schedule in price.services.items():
        given, taken = _two(schedule.rates)
        console.print(f"service tier {service}: input {given}, output {taken}")
    if price.search:
        console.print(f"per web search: {format_usd(nano_from_pico(price.search))}")
    limits = [
        f"{kind} up to {most:,} tokens"
        for kind, most in (("input", price.max_input_tokens), ("output", price.max_output_tokens))
        if most is not None
    ]
    if limits:
        console.print(", ".join(limits))
    console.print(f"price id {price.id}, from {book.source}")
