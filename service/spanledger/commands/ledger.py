"""`spanledger ledger`: create, verify, back up, copy and prune it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spanledger.clock import NANOS
from spanledger.commands.common import (
    DEFAULT_LEDGER,
    AsJson,
    Exit,
    LedgerUrl,
    format_time,
    parse_moment,
    print_json,
    reporting_errors,
    store_of,
)
from spanledger.commands.spend import trace_as_dict
from spanledger.errors import SpanledgerError, UsageError
from spanledger.money import format_usd

if TYPE_CHECKING:
    from spanledger.ledger.ports import Store
    from spanledger.ledger.pruning import Keep, Pruned, Pruning

app = typer.Typer(
    no_args_is_help=True, help="Create or upgrade the ledger, verify, back up, copy and prune it."
)


@app.command()
def migrate(ledger: LedgerUrl = DEFAULT_LEDGER, json: AsJson = False) -> None:
    """Create the ledger if there is none, and bring its schema up to date.

    Gateways and shippers do the same when they start. A process that dies halfway leaves the ledger
    unchanged, and one that runs twice changes nothing.
    """
    with reporting_errors():
        store = store_of(ledger)
        existed = store.exists()
        store.migrate()
    if json:
        print_json({"ledger": store.url, "created": not existed})
    else:
        typer.echo(f"{'is up to date' if existed else 'created'}: {store.url}")


@app.command()
def verify(ledger: LedgerUrl = DEFAULT_LEDGER, json: AsJson = False) -> None:
    """Recompute every balance from the attempt rows; fail if one nano-dollar differs."""

    with reporting_errors():
        reports = store_of(ledger).reports()
        found = reports.verify()
        reports.close()
    if json:
        print_json(
            {
                "ok": not found.problems,
                "attempts": found.attempts,
                "open_attempts": found.open_attempts,
                "requests": found.requests,
                "balances": found.balances,
                "balances_of_pruned_rows": found.pruned_balances,
                "spent_usd": format_usd(found.spent_nano),
                "held_usd": format_usd(found.held_nano),
                "problems": found.problems,
            }
        )
    else:
        for problem in found.problems:
            typer.secho(problem, fg="red", err=True)
        typer.echo(
            f"{'FAILED' if found.problems else 'ok'}: {found.attempts:,} attempts"
            f" ({found.open_attempts:,} open), {found.requests:,} requests,"
            f" {found.balances:,} balances, ${format_usd(found.spent_nano)} spent,"
            f" ${format_usd(found.held_nano)} held"
        )
        if found.pruned_balances:
            typer.echo(
                f"{found.pruned_balances:,} balances include requests that were pruned, so they may"
                " be higher than the remaining rows add up to"
            )
    if found.problems:
        raise typer.Exit(Exit.FAILED)


@app.command()
def backup(
    destination: Annotated[Path, typer.Argument(help="The new file; it must not exist.")],
    ledger: LedgerUrl = DEFAULT_LEDGER,
    json: AsJson = False,
) -> None:
    """Copy the ledger to a new file while gateways are running, and verify the copy.

    The copy is a consistent snapshot in one file. To restore it, stop every process that uses the
    ledger, put the copy in its place, and delete the `-wal` and `-shm` files of the old one.
    """
    from rich.console import Console
    from rich.progress import Progress

    with (
        reporting_errors(),
        Progress(console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar,
    ):
        task = bar.add_task("pages", total=None)
        found = store_of(ledger).backup(
            destination,
            lambda done, total: bar.update(task, completed=done, total=total),
        )
    size = destination.stat().st_size
    if json:
        print_json(
            {
                "file": str(destination),
                "bytes": size,
                "attempts": found.attempts,
                "requests": found.requests,
                "spent_usd": format_usd(found.spent_nano),
            }
        )
        return
    typer.echo(
        f"backed up and verified: {found.requests:,} requests, {found.attempts:,} attempts,"
        f" {size:,} bytes in {destination}"
    )


@app.command()
def copy(
    source: Annotated[str, typer.Argument(metavar="FROM", help="URL of the ledger to copy.")],
    target: Annotated[str, typer.Argument(metavar="TO", help="URL of an empty database.")],
    json: AsJson = False,
) -> None:
    """Copy a ledger into another database, such as from SQLite to Postgres, and verify the copy.

    The bulk is copied while gateways are running. To finish, stop all gateways and shippers of FROM and
    run the same command again: it copies the rest, compares all sums and recomputes every balance. Then
    start them with TO. A copy that was interrupted continues; until it is complete, no gateway starts
    with it. FROM stays as it is.
    """
    from rich.console import Console
    from rich.progress import Progress

    from spanledger.ledger.copying import copy_ledger

    with (
        reporting_errors(),
        Progress(console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar,
    ):
        task = bar.add_task("requests", total=None)
        found = copy_ledger(
            store_of(source),
            store_of(target),
            lambda done, total: bar.update(task, completed=done, total=total),
        )
    if json:
        print_json(
            {
                "requests": found.requests,
                "attempts": found.attempts,
                "open_attempts": found.open_attempts,
                "balances": found.balances,
                "spent_usd": format_usd(found.spent_nano),
                "held_usd": format_usd(found.held_nano),
            }
        )
        return
    typer.echo(
        f"copied and verified: {found.requests:,} requests, {found.attempts:,} attempts"
        f" ({found.open_attempts:,} open), {found.balances:,} balances,"
        f" ${format_usd(found.spent_nano)} spent, ${format_usd(found.held_nano)} held"
    )


@app.command()
def prune(
    before: Annotated[
        str,
        typer.Option(
            help="A date or an age: 2026-08-01, 90d. 33d is old enough for periods up to a month."
        ),
    ],
    archive: Annotated[
        Path | None,
        typer.Option(help="Write removed requests to this new file, one JSON line per request."),
    ] = None,
    unshipped: Annotated[
        bool,
        typer.Option("--unshipped", help="Also remove requests whose telemetry was not shipped."),
    ] = False,
    counted: Annotated[
        bool,
        typer.Option(
            "--counted",
            help="Also remove requests that a budget's current period counts; its balance stays.",
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option(help="Show what would be removed, without removing it.")
    ] = False,
    ledger: LedgerUrl = DEFAULT_LEDGER,
    json: AsJson = False,
) -> None:
    """Remove requests that ended before a given time; balances stay as they are."""
    with reporting_errors():
        before_ns = parse_moment(before)
        store = store_of(ledger)
        pruning = store.prune(before_ns, time.time_ns(), unshipped=unshipped)
        try:
            if not counted:
                _refuse_counted(store, before_ns)
            found = pruning.count()
            if not dry_run:
                with _archive(archive) as keep:
                    _run(pruning, keep, found)
        finally:
            pruning.close()
    _tell(found, before_ns, dry_run=dry_run, json=json)


def _refuse_counted(store: Store, before_ns: int) -> None:
    """Raises UsageError if a budget's current period began before the given time."""
    from spanledger.ledger.pruning import counting

    with store.records("read") as records:
        since = counting(records.budgets(), before_ns, time.time_ns())
    if since:
        name = min(since, key=lambda name: (since[name], name))
        day = format_time(since[name] * NANOS)
        raise UsageError(
            f"budget {name!r} counts requests since {day}: use that or earlier, or add --counted. Its"
            " balance stays then, but is too low if its period, time zone or subject changes later"
        )


def _run(pruning: Pruning, keep: Keep | None, found: Pruned) -> None:
    """Remove the requests, with a progress bar on a terminal; `found` gets the actual counts."""
    from rich.console import Console
    from rich.progress import Progress

    total = found.requests
    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("requests", total=total)
        found.requests = found.attempts = found.cost_nano = 0
        for done in pruning.run(keep):
            found.requests, found.attempts = done.requests, done.attempts
            found.cost_nano = done.cost_nano
            bar.update(task, completed=done.requests)


@contextmanager
def _archive(path: Path | None) -> Iterator[Keep | None]:
    """A new archive file whose writer syncs to disk before it returns. Raises UsageError."""
    if path is None:
        yield None
        return
    import json

    try:
        # Readable by its owner only, like the ledger.
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise UsageError(f"cannot write a new file {str(path)!r}: {error.strerror}") from error
    with os.fdopen(file, "w", encoding="utf-8") as out:

        def keep(requests: Sequence[tuple[dict[str, Any], list[dict[str, Any]]]]) -> None:
            try:
                out.writelines(
                    json.dumps(trace_as_dict(request, attempts), ensure_ascii=False) + "\n"
                    for request, attempts in requests
                )
                out.flush()
                os.fsync(file)
            except OSError as error:
                raise SpanledgerError(
                    f"cannot write {str(path)!r}: {error.strerror}; requests that were not fully"
                    " written are still in the ledger"
                ) from error

        yield keep
    if not path.stat().st_size:  # nothing was removed; the name is free for the next time
        path.unlink()


def _tell(found: Pruned, before_ns: int, *, dry_run: bool, json: bool) -> None:
    if json:
        print_json(
            {
                "before": format_time(before_ns),
                "dry_run": dry_run,
                "requests": found.requests,
                "attempts": found.attempts,
                "cost_usd": format_usd(found.cost_nano),
                "unshipped": found.unshipped,
            }
        )
        return
    typer.echo(
        f"{'would remove' if dry_run else 'removed'} {found.requests:,} requests,"
        f" {found.attempts:,} attempts, ${format_usd(found.cost_nano)},"
        f" ended before {format_time(before_ns)}"
    )
    if found.unshipped:
        typer.echo(
            f"kept {found.unshipped:,} requests of the same age whose telemetry has not been shipped:"
            " run `spanledger ship --once`, then prune again, or add --unshipped",
            err=True,
        )
