"""`spanledger rate`: how much a subject may use in a minute, and at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spanledger.budgets.diff import whom
from spanledger.budgets.scopes import SCOPES, Dimensions, subjects_by_scope
from spanledger.commands.common import (
    DEFAULT_LEDGER,
    AsJson,
    LedgerUrl,
    console,
    fail,
    new_table,
    print_json,
    reporting_errors,
    store_of,
)
from spanledger.commands.scope_options import known_subjects, with_scopes
from spanledger.config import nearest, validate_rate
from spanledger.config.addresses import shown_ledger
from spanledger.errors import UsageError
from spanledger.money import format_usd
from spanledger.rates.matching import RateIndex
from spanledger.rates.model import Rate, in_words

if TYPE_CHECKING:
    from spanledger.ledger.ports import Access
    from spanledger.ledger.rating.ports import RateRows

app = typer.Typer(
    no_args_is_help=True,
    help="Rates: requests, tokens and dollars a minute, and requests in flight.",
)

RateName = Annotated[str, typer.Argument(help="Name of the rate.")]
Rpm = Annotated[str | None, typer.Option("--rpm-limit", help="Requests in any minute.")]
Tpm = Annotated[
    str | None, typer.Option("--tpm-limit", help="Tokens of input and output in any minute.")
]
UsdPerMinute = Annotated[str | None, typer.Option(help="USD in any minute, like 0.50.")]
Parallel = Annotated[
    str | None, typer.Option("--max-parallel-requests", help="Requests in flight at once.")
]
IsDefault = Annotated[
    bool | None,
    typer.Option(
        "--default/--no-default",
        help="With '*': limits only subjects that no other rate of the same scope names.",
    ),
]


@app.command("set")
@with_scopes(lambda scope: f"{scope.meaning}; '*': each separately.")
def set_(
    *,
    name: RateName,
    subjects: Mapping[str, str],
    rpm_limit: Rpm = None,
    tpm_limit: Tpm = None,
    usd_per_minute: UsdPerMinute = None,
    max_parallel_requests: Parallel = None,
    default: IsDefault = None,
    ledger: LedgerUrl = DEFAULT_LEDGER,
    json: AsJson = False,
) -> None:
    """Create a rate, or replace it. It applies in every gateway within a second.

    A rate without a subject limits everybody together; one with several limits what they have in common,
    such as a customer's requests for a model. A measure that is not given has no limit.
    """
    from spanledger.config.rates import rate_of

    with reporting_errors():
        entry = validate_rate(
            {
                "name": name,
                **subjects,
                "rpm_limit": rpm_limit,
                "tpm_limit": tpm_limit,
                "usd_per_minute": usd_per_minute,
                "max_parallel_requests": max_parallel_requests,
                "default": default,
            }
        )
        rate = rate_of(entry)
        with _rows(ledger, "create") as rows:
            current = next((r for r in rows.rates() if r.name == name), None)
            _refuse_from_file(current)
            before = rows.set_rate(rate)
    if json:
        print_json({**_as_dict(rate), "changed": before != rate})
        return
    what = "set" if before is None else "unchanged" if before == rate else "changed"
    typer.echo(f"{what}: {name!r} allows {_for(rate)} {in_words(rate.limits)}")


@app.command("list")
def list_(ledger: LedgerUrl = DEFAULT_LEDGER, json: AsJson = False) -> None:
    """List rates, with where each was set."""
    with reporting_errors(), _rows(ledger, "read") as rows:
        rates = rows.rates()
    if json:
        print_json([_as_dict(rate) for rate in rates])
    elif rates:
        _print(rates)
    else:
        typer.echo(f"no rates yet in {shown_ledger(ledger)}; see `spanledger rate set --help`")


@app.command()
def remove(name: RateName, ledger: LedgerUrl = DEFAULT_LEDGER, json: AsJson = False) -> None:
    """Remove a rate."""
    with reporting_errors(), _rows(ledger, "change") as rows:
        rates = {rate.name: rate for rate in rows.rates()}
        _refuse_from_file(rates.get(name))
        removed = rows.remove_rate(name)
    if removed is None:
        raise fail(f"there is no rate {name!r}{nearest(name, list(rates))}")
    if json:
        print_json({**_as_dict(removed), "removed": True})
    else:
        typer.echo(f"removed {name!r}")


@app.command()
@with_scopes(lambda scope: f"{scope.meaning}.", several=True)
def explain(
    *,
    subjects: Mapping[str, str | list[str]],
    ledger: LedgerUrl = DEFAULT_LEDGER,
    json: AsJson = False,
) -> None:
    """Show which rates apply to a request.

    Describe the request by its subjects. With --key, the key's customer, team, user, project and tags
    are known.
    """
    with reporting_errors():
        store = store_of(ledger)
        with store.records("read") as records:
            known = known_subjects(subjects, records)
        with _rows(ledger, "read") as rows:
            rates = rows.rates()
    index = RateIndex(rates)
    dimensions: Dimensions = tuple(
        known.get(scope.name, () if scope.several else "") for scope in SCOPES
    )
    found = [
        (rate, account.subject, index.replacing(rate, account.subject))
        for account, rate in index.applying(dimensions)
    ]
    if json:
        print_json(
            {
                "request": {name: value for name, value in known.items() if value},
                "applies": [
                    {
                        **_as_dict(rate),
                        "account": subject,
                        "replaced_by": None if other is None else other.name,
                    }
                    for rate, subject, other in found
                ],
            }
        )
        return
    if not found:
        typer.echo("no rate applies")
    for rate, subject, other in found:
        typer.echo(
            f"{rate.name}: {whom(rate.scope, subject)}: "
            + (in_words(rate.limits) if other is None else f"{other.name!r} limits in its place")
        )


@contextmanager
def _rows(ledger: str, access: Access) -> Iterator[RateRows]:
    rows = store_of(ledger).rates(access)
    try:
        yield rows
    finally:
        rows.close()


def _refuse_from_file(rate: Rate | None) -> None:
    """The next start of a gateway would undo the change."""
    if rate is not None and rate.source:
        raise UsageError(
            f"the rate {rate.name!r} is from {rate.source}: change it there and restart the gateway, or"
            " give this one another name"
        )


def _for(rate: Rate) -> str:
    subjects = subjects_by_scope(rate.scope, rate.subject)
    return " and ".join(f"{scope} {name!r}" for scope, name in subjects.items()) or "everybody"


def _as_dict(rate: Rate) -> dict[str, Any]:
    limits = rate.limits
    return {
        "name": rate.name,
        "scope": rate.scope,
        "subject": rate.subject,
        "rpm_limit": limits.requests,
        "tpm_limit": limits.tokens,
        "usd_per_minute": None if limits.nano is None else format_usd(limits.nano),
        "max_parallel_requests": limits.in_flight,
        "default": rate.default,
        "file": rate.source or None,
    }


def _print(rates: list[Rate]) -> None:
    from rich.markup import escape

    table = new_table(
        {
            "rate": "fold",
            "for": "fold",
            "requests/min": "figure",
            "tokens/min": "figure",
            "USD/min": "figure",
            "in flight": "figure",
            "set by": "fold",
        }
    )
    for rate in rates:
        requests, tokens, nano, in_flight = rate.limits
        table.add_row(
            escape(rate.name),
            escape(whom(rate.scope, rate.subject) + (" (default)" if rate.default else "")),
            *("-" if n is None else f"{n:,}" for n in (requests, tokens)),
            "-" if nano is None else f"${format_usd(nano)}",
            "-" if in_flight is None else f"{in_flight:,}",
            escape(rate.source) or "command",
        )
    console().print(table)
