"""`spanledger keys`: virtual keys, shown once and stored as digests."""

from __future__ import annotations

import time
import unicodedata
from typing import Annotated, Any

import typer

from spanledger.commands.common import (
    DEFAULT_LEDGER,
    AsJson,
    LedgerUrl,
    console,
    format_time,
    ledger_file,
    local_time,
    new_table,
    print_json,
    reporting_errors,
)
from spanledger.errors import UsageError
from spanledger.ledger.store import Key

app = typer.Typer(no_args_is_help=True, help="Virtual keys of customers.")

MAX_NAME = 128


def check_name(what: str, value: str) -> str:
    """A name that fits into headers, labels and terminals. Raises UsageError."""
    if not value or len(value) > MAX_NAME or not value.isprintable() or value != value.strip():
        raise UsageError(f"{what} {value!r} must be 1 to {MAX_NAME} printable characters")
    if "`" in value:
        raise UsageError(
            f"{what} {value!r} must have no backtick: dashboards put names between two"
        )
    if value == "*":
        raise UsageError(f"{what} '*' is reserved: it means each")
    return value


def _as_dict(key: Key) -> dict[str, Any]:
    return {
        "id": key.id,
        "customer": key.customer,
        "team": key.team or None,
        "routes": list(key.routes),
        "created_at": format_time(key.created_ns),
        "revoked_at": format_time(key.revoked_ns),
    }


@app.command()
def create(
    customer: Annotated[str, typer.Option(help="Customer the key's requests are booked on.")],
    team: Annotated[str | None, typer.Option(help="Team within the customer.")] = None,
    routes: Annotated[
        str | None, typer.Option(help="Routes it may use, separated by commas; all when not given.")
    ] = None,
    ledger: LedgerUrl = DEFAULT_LEDGER,
    json: AsJson = False,
) -> None:
    """Make a key and print it, this once: only its digest is stored."""
    from spanledger.ledger.records import Records

    with reporting_errors():
        # As in budgets: the same name, however its accents are written.
        customer = unicodedata.normalize("NFC", check_name("--customer", customer))
        # An option given as nothing is a script's unset variable, and must not mean "all".
        team = "" if team is None else unicodedata.normalize("NFC", check_name("--team", team))
        given = [] if routes is None else [name.strip() for name in routes.split(",")]
        names = [check_name("--routes", name) for name in given]
        records = Records.open(ledger_file(ledger))
        first = not records.has_keys()
        secret, key = records.create_key(customer, team, names, time.time_ns())
        records.close()
    if json:
        print_json({"key": secret, **_as_dict(key)})
    else:
        typer.echo(secret)
        typer.secho(
            f"{key.id} for customer {customer!r}; it is not shown again",
            fg="bright_black",
            err=True,
        )
        if first:
            typer.secho(
                "this is the first key: within two seconds gateways refuse callers without one, and"
                " they may now listen on other addresses (--host)",
                fg="yellow",
                err=True,
            )


@app.command("list")
def list_(ledger: LedgerUrl = DEFAULT_LEDGER, json: AsJson = False) -> None:
    """List keys by id, oldest first, revoked ones too."""
    from rich.markup import escape

    from spanledger.ledger.records import Records

    with reporting_errors():
        records = Records.read(ledger_file(ledger))
        keys = records.keys()
        records.close()
    if json:
        print_json([_as_dict(key) for key in keys])
        return
    if not keys:
        typer.echo(
            f"no keys yet in {ledger}: the gateway serves its own machine only; see `keys create`"
        )
        return
    table = new_table(
        {
            "id": "keep",
            "customer": "fold",
            "team": "fold",
            "routes": "fold",
            "created": "keep",
            "revoked": "keep",
        }
    )
    for key in keys:
        table.add_row(
            key.id,
            escape(key.customer),
            escape(key.team or "-"),
            escape(", ".join(key.routes) or "all"),
            local_time(key.created_ns),
            local_time(key.revoked_ns),
        )
    console().print(table)


@app.command()
def revoke(
    key: Annotated[str, typer.Argument(help="Id of the key (key_…), or the key itself.")],
    ledger: LedgerUrl = DEFAULT_LEDGER,
    json: AsJson = False,
) -> None:
    """Revoke a key; gateways refuse it within two seconds."""
    from spanledger.ledger.records import Records

    with reporting_errors():
        records = Records.change(ledger_file(ledger))
        revoked = records.revoke_key(key, time.time_ns())
        records.close()
    if json:
        print_json({"id": revoked.id, "revoked": True})
    else:
        typer.echo(f"revoked {revoked.id} of customer {revoked.customer!r}")
