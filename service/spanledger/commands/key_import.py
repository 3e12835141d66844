"""`spanledger keys import`: LiteLLM's virtual keys by their hashes, so that callers keep their keys."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from spanledger.budgets.model import Budget
from spanledger.clock import NANOS
from spanledger.commands import key_options as options
from spanledger.commands.common import (
    DEFAULT_LEDGER,
    AsJson,
    LedgerUrl,
    print_json,
    reporting_errors,
    store_of,
)
from spanledger.commands.completion import customers
from spanledger.commands.key_table import as_dict, shown
from spanledger.commands.moments import MAX_NS
from spanledger.errors import ConfigError, UsageError
from spanledger.ledger.keys import Key, new_id

if TYPE_CHECKING:
    from spanledger.config.litellm_key_rows import KeyReading, LitellmKey
    from spanledger.ledger.ports import Store

MAX_PROBLEMS = 100
"""Of a file that are shown."""


class NewKey(NamedTuple):
    """A key to be created."""

    place: str
    key: Key
    digest: str
    budgets: Sequence[Budget]


def import_(
    *,
    file: Annotated[
        Path,
        typer.Argument(
            help="Rows of LiteLLM_VerificationToken: JSON, JSON lines, CSV with a header, or a pg_dump."
        ),
    ],
    customer: Annotated[
        str | None,
        typer.Option(
            help="Customer of all keys, or of those without the field of --customer-from.",
            autocompletion=customers,
        ),
    ] = None,
    customer_from: Annotated[
        str | None,
        typer.Option(
            help="Field that is the key's customer: organization_id, team_id, team_alias, user_id,"
            " project_id or metadata.NAME."
        ),
    ] = None,
    teams: Annotated[
        Path | None,
        typer.Option(help="Rows of LiteLLM_TeamTable, for the names and models of teams."),
    ] = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option(
            help="Field to leave out, although it decides what a key may do; may be repeated."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be created, without creating it.")
    ] = False,
    config: options.ConfigFile = None,
    ledger: LedgerUrl = DEFAULT_LEDGER,
    json: AsJson = False,
) -> None:
    """Create a key for each of LiteLLM's, all or none; callers go on with the keys that they have.

    LiteLLM stores hashes, which are the digests that this ledger stores. Its models become routes, its
    budgets budgets of the key. Mistakes are listed all at once. Keys that are here already are left alone,
    so an import can be repeated.
    """
    from spanledger.ledger.authors import by_file

    with reporting_errors():
        now_ns = time.time_ns()
        reading = _read(file, teams, customer, customer_from, ignore or (), now_ns)
        wanted = [_wanted(found, now_ns, reading) for found in reading.keys]
        _refuse(file, reading)
        _check_routes(config, wanted)
        store = store_of(ledger)
        there = _there(store, [each.digest for each in wanted])
        new = [each for each in wanted if each.digest not in there]
        budgets = [budget for each in new for budget in each.budgets]
        added = [(each.key, each.digest) for each in new]
        if dry_run and store.exists():
            with store.records("read") as records:
                if taken := records.taken(added, budgets):
                    raise UsageError("\n".join(taken))
        elif new and not dry_run:
            with store.records("create") as records:
                records.by = by_file(str(file.resolve()))
                records.add_keys(added, now_ns, budgets, "import")
    if json:
        print_json(_report(new, there, reading, now_ns, dry_run=dry_run))
    else:
        _print(new, there, reading, dry_run=dry_run)


def _read(
    file: Path,
    teams: Path | None,
    customer: str | None,
    customer_from: str | None,
    ignored: Sequence[str],
    now_ns: int,
) -> KeyReading:
    from spanledger.config.litellm_dumps import KEY_TABLE, TEAM_TABLE, LitellmRow, read_rows
    from spanledger.config.litellm_key_rows import (
        CUSTOMER_FIELDS,
        DECIDES,
        read_keys,
    )
    from spanledger.config.litellm_key_rows import (
        customer_from as by_field,
    )

    if customer is None and customer_from is None:
        raise UsageError(
            "whose keys are they? give --customer NAME for all of them, or --customer-from FIELD,"
            " such as team_id"
        )
    if customer_from and not (
        customer_from in CUSTOMER_FIELDS or customer_from.startswith("metadata.")
    ):
        raise UsageError(
            f"--customer-from: {customer_from!r} is none of {', '.join(CUSTOMER_FIELDS)} or"
            " metadata.NAME"
        )
    known = (*DECIDES, "budget_id")
    if unknown := [name for name in ignored if name not in known]:
        raise UsageError(f"--ignore: {unknown[0]!r} is none of {', '.join(known)}")
    usual = "" if customer is None else options.owner("--customer", customer)
    field = None if customer_from is None else by_field(customer_from)

    def customer_of(row: LitellmRow) -> str:
        return (field(row) if field else "") or usual

    tables = read_rows(file, KEY_TABLE)
    if teams is not None:
        tables[TEAM_TABLE] = read_rows(teams, TEAM_TABLE)[TEAM_TABLE]
    now = datetime.fromtimestamp(now_ns / NANOS, UTC)
    return read_keys(tables, customer_of, now, ignored)


def _wanted(found: LitellmKey, now_ns: int, reading: KeyReading) -> NewKey:
    """The key and its budgets; what is wrong with them is added to the problems."""
    from spanledger.config import budget_of, validate_budget
    from spanledger.ledger.key_records import check_name

    problems: list[str] = []

    def checked(field: str, value: str) -> str:
        try:
            return options.owner(field, value) if value else ""
        except UsageError as error:
            problems.append(str(error))
            return ""

    try:
        check_name(found.name)
    except UsageError as error:
        problems.append(f"key_alias: {error}")
    key = Key(
        id=new_id(),
        name=checked("key_alias", found.name),
        customer=checked("customer", found.customer),
        team=checked("team", found.team),
        default_user=checked("user_id", found.default_user),
        project=checked("project_id", found.project),
        tags=tuple(checked("tag", tag) for tag in found.tags),
        routes=tuple(checked("models", route) for route in found.routes),
        created_ns=now_ns,
        revoked_ns=None,
        expires_ns=None
        if found.expires is None
        else min(int(found.expires.timestamp()) * NANOS, MAX_NS),
        metadata=tuple(sorted(found.metadata.items())),
    )
    budgets = []
    for suffix, entry in found.budgets:
        name = (f"key-{key.name}" if key.name else key.id) + suffix
        try:
            budgets.append(budget_of(validate_budget({"name": name, "key": key.id, **entry})))
        except (UsageError, ConfigError) as error:
            problems += [f"budget: {line}" for line in str(error).splitlines()]
    reading.problems += [f"{found.place}: {problem}" for problem in problems]
    return NewKey(found.place, key, found.digest, budgets)


def _refuse(file: Path, reading: KeyReading) -> None:
    problems = reading.problems
    if problems:
        more = len(problems) - MAX_PROBLEMS
        shown = [f"{file}: {problem}" for problem in problems[:MAX_PROBLEMS]]
        raise UsageError("\n".join([*shown, *([f"{more} more mistakes"] if more > 0 else [])]))


def _check_routes(config: Path | None, wanted: Sequence[NewKey]) -> None:
    routes = dict.fromkeys(route for each in wanted for route in each.key.routes)
    if routes:
        from spanledger.commands.key_checks import check_allowed

        check_allowed(config, list(routes), ())


def _there(store: Store, digests: Sequence[str]) -> dict[str, str]:
    """Which of these the ledger has, with the ids of their keys."""
    if not store.exists():
        return {}
    with store.records("read") as records:
        return records.known_digests(digests)


def _report(
    new: Sequence[NewKey], there: dict[str, str], reading: KeyReading, now_ns: int, *, dry_run: bool
) -> dict[str, Any]:
    return {
        "imported": [
            {**as_dict(shown(each.key, (), now_ns)), "budgets": [b.name for b in each.budgets]}
            for each in new
        ],
        "already_here": sorted(there.values()),
        "skipped": [each._asdict() for each in reading.skipped],
        "not_read": dict(reading.not_read),
        "warnings": list(reading.warnings),
        "dry_run": dry_run,
    }


def _print(
    new: Sequence[NewKey], there: dict[str, str], reading: KeyReading, *, dry_run: bool
) -> None:
    for each in new:
        own = f"; budgets: {', '.join(b.name for b in each.budgets)}" if each.budgets else ""
        routes = ", ".join(each.key.routes) or "all routes"
        typer.echo(f"+ {each.key.shown} for customer {each.key.customer!r}: {routes}{own}")
    for skipped in reading.skipped:
        typer.echo(f"- {skipped.place}: {skipped.why}")
    would = "would be " if dry_run else ""
    typer.echo(
        f"{len(new)} {would}imported, {len(there)} already here, {len(reading.skipped)} left out"
    )
    for name, count in sorted(reading.not_read.items()):
        typer.echo(f"not read: {name} of {count} keys", err=True)
    for warning in reading.warnings:
        typer.echo(warning, err=True)
