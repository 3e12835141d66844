"""`spanledger keys`: virtual keys, shown once and stored as digests."""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from spanledger.commands.common import (
    DEFAULT_LEDGER,
    AsJson,
    ColumnKind,
    LedgerUrl,
    console,
    format_time,
    local_time,
    new_table,
    print_json,
    reporting_errors,
    store_of,
)
from spanledger.commands.completion import customers, teams, valid_keys
from spanledger.config.addresses import shown_ledger
from spanledger.errors import UsageError
from spanledger.ledger.model import MAX_TAGS, Key

app = typer.Typer(no_args_is_help=True, help="Virtual keys of customers.")

MAX_NAME = 128


def check_name(what: str, value: str) -> str:
    """Check that a name is safe in headers, labels and terminals. Raises UsageError."""
    if not value or len(value) > MAX_NAME or not value.isprintable() or value != value.strip():
        raise UsageError(f"{what} {value!r} must be 1 to {MAX_NAME} printable characters")
    if "`" in value:
        raise UsageError(
            f"{what} {value!r} must not contain a backtick: dashboards quote names with backticks"
        )
    if value == "*":
        raise UsageError(f"{what} '*' is reserved: it stands for every name")
    return value


def _owner(what: str, value: str) -> str:
    """As in budgets: names that differ only in how accents are encoded are the same."""
    return unicodedata.normalize("NFC", check_name(what, value))


def _key_names(**given: str | None) -> dict[str, str]:
    """Names by option. An empty option is a script's unset variable, and must not mean "none"."""
    return {
        option: "" if value is None else _owner(f"--{option}", value)
        for option, value in given.items()
    }


def _key_tags(given: Sequence[str]) -> list[str]:
    tags = [_owner("--tag", each) for each in given]
    if len(set(tags)) > MAX_TAGS:
        raise UsageError(f"--tag may be given {MAX_TAGS} times: a request has no more tags")
    return tags


def _as_dict(key: Key) -> dict[str, Any]:
    return {
        "id": key.id,
        "customer": key.customer,
        "team": key.team or None,
        "user": key.user or None,
        "project": key.project or None,
        "tags": list(key.tags),
        "routes": list(key.routes),
        "pass_through": key.pass_through,
        "created_at": format_time(key.created_ns),
        "revoked_at": format_time(key.revoked_ns),
    }


@app.command()
def create(
    customer: Annotated[
        str,
        typer.Option(help="Customer that pays for the key's requests.", autocompletion=customers),
    ],
    team: Annotated[
        str | None, typer.Option(help="Team within the customer.", autocompletion=teams)
    ] = None,
    user: Annotated[
        str | None,
        typer.Option(help="User of all its requests; default: the one that a request names."),
    ] = None,
    project: Annotated[
        str | None,
        typer.Option(help="Project of all its requests; default: the one that a request names."),
    ] = None,
    tag: Annotated[
        list[str] | None,
        typer.Option(help="Tag of all its requests, besides their own; may be repeated."),
    ] = None,
    routes: Annotated[
        str | None, typer.Option(help="Routes it may use, separated by commas; default: all.")
    ] = None,
    allow_pass_through: Annotated[
        bool,
        typer.Option(
            "--allow-pass-through",
            help="Let it call any endpoint of a provider (/v1/PROVIDER/…), which no budget can limit.",
        ),
    ] = False,
    ledger: LedgerUrl = DEFAULT_LEDGER,
    json: AsJson = False,
) -> None:
    """Create a key and print it. It is shown only once: only its digest is stored."""

    with reporting_errors():
        owner = _owner("--customer", customer)
        names = _key_names(team=team, user=user, project=project)
        tags = _key_tags(tag or ())
        given = [] if routes is None else [name.strip() for name in routes.split(",")]
        allowed = [check_name("--routes", name) for name in given]
        records = store_of(ledger).records("create")
        first = not records.has_keys()
        secret, key = records.create_key(
            owner,
            names["team"],
            allowed,
            time.time_ns(),
            pass_through=allow_pass_through,
            user=names["user"],
            project=names["project"],
            tags=tags,
        )
        records.close()
    if json:
        print_json({"key": secret, **_as_dict(key)})
    else:
        typer.echo(secret)
        typer.secho(
            f"{key.id} for customer {owner!r}; the key is not shown again",
            fg="bright_black",
            err=True,
        )
        if first:
            typer.secho(
                "this is the first key: within two seconds, gateways refuse callers without one;"
                " they can now also listen on other addresses (--host)",
                fg="yellow",
                err=True,
            )


def _shown(value: str | tuple[str, ...]) -> str:
    return (value if isinstance(value, str) else ", ".join(value)) or "-"


@app.command("list")
def list_(ledger: LedgerUrl = DEFAULT_LEDGER, json: AsJson = False) -> None:
    """List all keys by id, oldest first, including revoked ones."""
    from rich.markup import escape

    with reporting_errors():
        records = store_of(ledger).records("read")
        keys = records.keys()
        records.close()
    if json:
        print_json([_as_dict(key) for key in keys])
        return
    if not keys:
        typer.echo(
            f"no keys yet in {shown_ledger(ledger)}: the gateway serves only this machine; see `keys create`"
        )
        return
    more = [name for name in ("user", "project", "tags") if any(getattr(k, name) for k in keys)]
    columns: dict[str, ColumnKind] = dict.fromkeys(more, "fold")
    table = new_table(
        {
            "id": "keep",
            "customer": "fold",
            "team": "fold",
            **columns,
            "routes": "fold",
            "pass-through": "keep",
            "created": "keep",
            "revoked": "keep",
        }
    )
    for key in keys:
        table.add_row(
            key.id,
            escape(key.customer),
            escape(key.team or "-"),
            *(escape(_shown(getattr(key, name))) for name in more),
            escape(", ".join(key.routes) or "all"),
            "yes" if key.pass_through else "-",
            local_time(key.created_ns),
            local_time(key.revoked_ns),
        )
    console().print(table)


@app.command()
def revoke(
    key: Annotated[
        str,
        typer.Argument(help="Id of the key (key_…), or the key itself.", autocompletion=valid_keys),
    ],
    ledger: LedgerUrl = DEFAULT_LEDGER,
    json: AsJson = False,
) -> None:
    """Revoke a key; gateways stop accepting it within two seconds."""

    with reporting_errors():
        records = store_of(ledger).records("change")
        revoked = records.revoke_key(key, time.time_ns())
        records.close()
    if json:
        print_json({"id": revoked.id, "revoked": True})
    else:
        typer.echo(f"revoked {revoked.id} of customer {revoked.customer!r}")
