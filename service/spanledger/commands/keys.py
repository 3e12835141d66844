"""`spanledger keys`: virtual keys, whose secrets are shown once and stored as digests."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

import typer

from spanledger.commands import budget_options
from spanledger.commands import key_options as options
from spanledger.commands.common import (
    DEFAULT_LEDGER,
    AsJson,
    LedgerUrl,
    print_json,
    reporting_errors,
    store_of,
)
from spanledger.commands.key_import import import_
from spanledger.commands.key_table import as_dict, history, list_, shown
from spanledger.commands.moments import parse_duration, parse_end
from spanledger.errors import UsageError
from spanledger.ledger.key_records import moment
from spanledger.ledger.keys import Key, Secret, key_digest, new_secret

FIRST = (
    "this is the first key: within two seconds, gateways refuse callers without one; they can now also"
    " listen on other addresses (--host)"
)

app = typer.Typer(no_args_is_help=True, help="Virtual keys of customers.")


@app.command()
def create(
    *,
    customer: options.Customer,
    name: options.KeyName = None,
    team: options.Team = None,
    user: options.User = None,
    default_user: options.DefaultUser = None,
    project: options.Project = None,
    tag: options.Tag = None,
    routes: options.Routes = None,
    models: options.ModelNames = None,
    expires: options.Expires = None,
    metadata: options.Metadata = None,
    allow_pass_through: options.AllowPassThrough = False,
    limit: options.OwnLimit = None,
    period: budget_options.Each = None,
    period_day: budget_options.PeriodDay = None,
    timezone: budget_options.Timezone = None,
    action: budget_options.Then = None,
    thresholds: budget_options.Percentages = None,
    strict: budget_options.Strict = None,
    config: options.ConfigFile = None,
    ledger: LedgerUrl = DEFAULT_LEDGER,
    json: AsJson = False,
) -> None:
    """Create a key and print its secret, which is shown only once: the ledger stores its digest.

    With --limit, the key's budget is created in the same transaction. It is called key-NAME, or as the
    key's id, and `spanledger budget set` changes it.
    """
    from spanledger.ledger.authors import by_command

    with reporting_errors():
        now_ns = time.time_ns()
        people = {"customer": customer, "team": team, "user": user, "default_user": default_user}
        has = {
            **options.names_of({"name": name, "project": project, **people}),
            "routes": options.listed("--routes", routes),
            "models": options.models_of(models),
            "tags": options.tags_of(tag or ()),
            "metadata": options.metadata_of(metadata or ()),
            "pass_through": allow_pass_through,
        }
        key = options.new_key(has, expires, now_ns)
        of_budget = {
            "limit": limit,
            "period": period,
            "period_day": period_day,
            "timezone": timezone,
            "action": action,
            "thresholds": thresholds and _percentages(thresholds),
            "strict": strict,
        }
        budget = options.budget_for(key, of_budget)
        _check_allowed(config, key.routes, key.models)
        secret = new_secret()
        with store_of(ledger).records("create") as records:
            records.by = by_command()
            first = not records.has_keys()
            budgets = [] if budget is None else [budget]
            records.add_keys([(key, key_digest(secret))], now_ns, budgets)
    if json:
        own = {} if budget is None else {"budget": budget.name}
        print_json({"key": secret, **as_dict(shown(key, (), now_ns)), **own})
        return
    typer.echo(secret)
    own_budget = "" if budget is None else f" with the budget {budget.name!r}"
    _note(f"{key.shown} for customer {key.customer!r}{own_budget}; the secret is not shown again")
    if first:
        typer.secho(FIRST, fg="yellow", err=True)


@app.command("set")
def set_(
    *,
    key: options.Reference,
    name: options.KeyName = None,
    expires: options.NewExpires = None,
    routes: options.NewRoutes = None,
    models: options.NewModels = None,
    metadata: options.NewMetadata = None,
    allow_pass_through: options.NewPassThrough = None,
    config: options.ConfigFile = None,
    ledger: LedgerUrl = DEFAULT_LEDGER,
    json: AsJson = False,
) -> None:
    """Change the given options of a key; its secret stays. Gateways follow within two seconds.

    Whom its requests are booked on stays for life: customer, team, user, project and tags. Create another
    key for somebody else.
    """
    from spanledger.ledger.authors import by_command

    with reporting_errors():
        now_ns = time.time_ns()
        given: dict[str, object] = {}
        if name is not None:
            given["name"] = options.owner("--name", name)
        if expires is not None:
            never = expires == options.NEVER
            given["expires_ns"] = None if never else parse_end(expires, "--expires", now_ns)
        if routes is not None:
            given["routes"] = () if routes == options.ALL else options.listed("--routes", routes)
        if models is not None:
            given["models"] = () if models == options.ALL else options.models_of(models)
        if allow_pass_through is not None:
            given["pass_through"] = allow_pass_through
        notes = dict(options.metadata_of(metadata or ()))
        if not (given or notes):
            raise UsageError("nothing to change is given; see `spanledger keys set --help`")
        _check_allowed(config, _names(given.get("routes")), _names(given.get("models")))

        def edit(before: Key) -> Key:
            noted = {n: text for n, text in {**dict(before.metadata), **notes}.items() if text}
            after = replace(before, **given, metadata=tuple(sorted(noted.items())))  # type: ignore[arg-type]  # each of its field's type
            options.check_together(after)
            return after

        with store_of(ledger).records("change") as records:
            records.by = by_command()
            before, after = records.change_key(key, edit, now_ns)
            replaced = records.replaced_secrets().get(after.id, ())
    if json:
        print_json({**as_dict(shown(after, replaced, now_ns)), "changed": before != after})
    else:
        typer.echo(f"{'changed' if before != after else 'unchanged'}: {after.shown}")


@app.command()
def rotate(
    key: options.Reference,
    overlap: Annotated[
        str,
        typer.Option(
            help="How long the secret before still works, like 24h; 0: not at all, such as after a leak."
        ),
    ] = "24h",
    ledger: LedgerUrl = DEFAULT_LEDGER,
    json: AsJson = False,
) -> None:
    """Give a key a new secret and print it. It keeps its id, name, budgets and rows.

    Until the overlap ends, the secret before works as well. Secrets from earlier rotations end by then too.
    """
    from spanledger.ledger.authors import by_command

    with reporting_errors():
        now_ns, overlap_ns = time.time_ns(), parse_duration(overlap, "--overlap")
        with store_of(ledger).records("change") as records:
            records.by = by_command()
            secret, rotated, until_ns = records.rotate_key(key, overlap_ns, now_ns)
            replaced: Sequence[Secret] = records.replaced_secrets().get(rotated.id, ())
    if json:
        print_json({"key": secret, **as_dict(shown(rotated, replaced, now_ns))})
        return
    typer.echo(secret)
    before = f"works until {moment(until_ns)}" if overlap_ns else "stops working within two seconds"
    _note(f"{rotated.shown} has a new secret, which is not shown again; the one before {before}")


@app.command()
def revoke(
    key: options.Reference, ledger: LedgerUrl = DEFAULT_LEDGER, json: AsJson = False
) -> None:
    """Revoke a key with all its secrets; gateways stop accepting it within two seconds."""
    from spanledger.ledger.authors import by_command

    with reporting_errors(), store_of(ledger).records("change") as records:
        records.by = by_command()
        revoked = records.revoke_key(key, time.time_ns())
    if json:
        print_json({"id": revoked.id, "revoked": True})
    else:
        typer.echo(f"revoked {revoked.shown} of customer {revoked.customer!r}")


app.command("list")(list_)
app.command("history")(history)
app.command("import")(import_)


def _check_allowed(file: options.ConfigFile, routes: Sequence[str], models: Sequence[str]) -> None:
    if routes or models:
        from spanledger.commands.key_checks import check_allowed

        check_allowed(file, routes, models)


def _names(given: object) -> tuple[str, ...]:
    return given if isinstance(given, tuple) else ()


def _percentages(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _note(text: str) -> None:
    typer.secho(text, fg="bright_black", err=True)
