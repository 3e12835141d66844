"""`spanledger budget` and `spanledger apply`: limits that live in the ledger."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from spanledger.commands.common import (
    DEFAULT_LEDGER,
    AsJson,
    LedgerUrl,
    console,
    fail,
    format_day,
    format_time,
    ledger_file,
    new_table,
    print_json,
    reporting_errors,
)
from spanledger.config import load_budgets, nearest, validate_budget
from spanledger.ledger.store import Budget, BudgetState
from spanledger.money import format_usd

app = typer.Typer(no_args_is_help=True, help="Budgets: limits per customer, key, team, …")


def whose(budget: Budget) -> str:
    """Whom a budget limits, as people read it."""
    return "everybody" if budget.scope == "global" else f"{budget.scope} {budget.subject}"


def _as_dict(budget: Budget) -> dict[str, Any]:
    return {
        "name": budget.name,
        "scope": budget.scope,
        "subject": budget.subject,
        "limit_usd": format_usd(budget.limit_nano),
        "period": budget.period,
        "timezone": budget.timezone,
        "action": budget.action,
        "thresholds": list(budget.thresholds),
        "strict": budget.strict,
    }


def _state_as_dict(state: BudgetState) -> dict[str, Any]:
    zone = state.budget.timezone
    return {
        **_as_dict(state.budget),
        "subject": state.subject,
        "spent_usd": format_usd(state.spent_nano),
        "held_usd": format_usd(state.held_nano),
        "overrun_usd": format_usd(state.overrun_nano),
        "remaining_usd": format_usd(state.budget.limit_nano - state.spent_nano - state.held_nano),
        "period_start": format_day(state.period_start_s, zone),
        "period_end": format_day(state.period_end_s, zone),
    }


@app.command("set")
def set_(
    name: Annotated[str, typer.Argument(help="Unique name of the budget.")],
    limit: Annotated[str, typer.Option(help="USD a period, like 12.50.")],
    customer: Annotated[
        str | None, typer.Option(help="Customer; '*' = each customer its own.")
    ] = None,
    key: Annotated[str | None, typer.Option(help="Id of a key (key_…), or '*'.")] = None,
    team: Annotated[str | None, typer.Option(help="Team, or '*'.")] = None,
    model: Annotated[str | None, typer.Option(help="A provider's model, or '*'.")] = None,
    provider: Annotated[str | None, typer.Option(help="Provider, or '*'.")] = None,
    period: Annotated[str, typer.Option(help="day, week (ISO) or month.")] = "month",
    timezone: Annotated[str, typer.Option(help="IANA zone the period is reckoned in.")] = "UTC",
    action: Annotated[str, typer.Option(help="block or warn.")] = "block",
    thresholds: Annotated[str, typer.Option(help="Percentages announced.")] = "50,80,95",
    strict: Annotated[
        bool, typer.Option("--strict", help="Lower max_tokens to what the money buys.")
    ] = False,
    ledger: LedgerUrl = DEFAULT_LEDGER,
    json: AsJson = False,
) -> None:
    """Create or change a budget. Without a subject it is for everybody together.

    It counts all that its subject spent since the period began, also before it was set.
    """
    from spanledger.ledger.records import Records, budget_of

    with reporting_errors():
        given = {
            "name": name,
            "limit": limit,
            "customer": customer,
            "key": key,
            "team": team,
            "model": model,
            "provider": provider,
            "period": period,
            "timezone": timezone,
            "action": action,
            "thresholds": [part.strip() for part in thresholds.split(",") if part.strip()],
            "strict": strict,
        }
        budget = budget_of(validate_budget(given))
        records = Records.open(ledger_file(ledger))
        changed = records.set_budgets([budget], time.time_ns())
        records.close()
    if json:
        print_json({**_as_dict(budget), "changed": bool(changed)})
    else:
        whose = "everybody" if budget.scope == "global" else f"{budget.scope} {budget.subject!r}"
        typer.echo(
            f"{'set' if changed else 'unchanged'}: {name!r} allows {whose}"
            f" ${format_usd(budget.limit_nano)} a {budget.period} ({budget.timezone}),"
            f" then {budget.action}s"
        )


@app.command()
def limit(
    name: Annotated[str, typer.Argument(help="Name of the budget.")],
    usd: Annotated[str, typer.Argument(help="USD a period, like 12.50.")],
    ledger: LedgerUrl = DEFAULT_LEDGER,
    json: AsJson = False,
) -> None:
    """Change a budget's limit, and nothing else of it; what was spent stays."""
    from spanledger.ledger.records import Records

    with reporting_errors():
        wanted = validate_budget({"name": name, "limit": usd}).limit
        records = Records.change(ledger_file(ledger))
        budgets = {budget.name: budget for budget in records.budgets()}
        before = budgets.get(name)
        after = None if before is None else replace(before, limit_nano=wanted)
        if after is not None:
            records.set_budgets([after], time.time_ns())
        records.close()
    if before is None or after is None:
        raise fail(f"there is no budget {name!r}{nearest(name, list(budgets))}")
    if json:
        print_json({**_as_dict(after), "changed": after != before})
    else:
        typer.echo(
            f"{name!r} allows ${format_usd(wanted)} a {after.period}, was"
            f" ${format_usd(before.limit_nano)}"
        )


@app.command("list")
def list_(ledger: LedgerUrl = DEFAULT_LEDGER, json: AsJson = False) -> None:
    """List budgets with what is spent and held in the current period."""
    from rich.markup import escape

    from spanledger.ledger.reports import Reports

    with reporting_errors():
        reports = Reports(ledger_file(ledger))
        states = reports.budget_states(int(time.time()))
        reports.close()
    if json:
        print_json([_state_as_dict(state) for state in states])
        return
    if not states:
        typer.echo(f"no budgets yet in {ledger}; see `spanledger budget set --help`")
        return
    table = new_table(
        {
            "budget": "fold",
            "for": "fold",
            "spent": "figure",
            "held": "figure",
            "limit": "figure",
            "used": "figure",
            "then": "keep",
            "renews": "keep",
        }
    )
    for state in states:
        budget = state.budget
        used = (
            (state.spent_nano + state.held_nano) * 100 // budget.limit_nano
            if budget.limit_nano
            else 100
        )
        colour = "red" if used >= 95 else "yellow" if used >= 80 else "green"
        table.add_row(
            escape(budget.name),
            "everybody" if budget.scope == "global" else escape(f"{budget.scope} {state.subject}"),
            "$" + format_usd(state.spent_nano),
            "$" + format_usd(state.held_nano),
            "$" + format_usd(budget.limit_nano),
            f"[{colour}]{used} %[/]",
            budget.action,
            format_day(state.period_end_s, budget.timezone)[:10],
        )
    console().print(table)


@app.command()
def remove(
    name: Annotated[str, typer.Argument(help="Name of the budget.")],
    ledger: LedgerUrl = DEFAULT_LEDGER,
    json: AsJson = False,
) -> None:
    """Remove a budget; what was booked and its history stay."""
    from spanledger.ledger.records import Records

    with reporting_errors():
        records = Records.change(ledger_file(ledger))
        names = [budget.name for budget in records.budgets()]
        removed = records.remove_budget(name, time.time_ns())
        records.close()
    if removed is None:
        raise fail(f"there is no budget {name!r}{nearest(name, names)}")
    if json:
        print_json({**_as_dict(removed), "removed": True})
    else:
        typer.echo(f"removed {name!r}")


@app.command()
def history(
    name: Annotated[str, typer.Argument(help="Name of a budget; all when not given.")] = "",
    ledger: LedgerUrl = DEFAULT_LEDGER,
    json: AsJson = False,
) -> None:
    """Show who was allowed what, and when it changed; oldest first."""
    from spanledger.ledger.records import Records

    with reporting_errors():
        records = Records.read(ledger_file(ledger))
        changes = records.history(name or None)
        records.close()
    if name and not changes:
        raise fail(f"there never was a budget {name!r}")
    if json:
        print_json(
            [
                {"at": format_time(c.at_ns), "change": c.change, **_as_dict(c.budget)}
                for c in changes
            ]
        )
        return
    if not changes:
        typer.echo(f"no budgets yet in {ledger}; see `spanledger budget set --help`")
    for change in changes:
        budget = change.budget
        typer.echo(
            f"{format_time(change.at_ns)}  {change.change:<6}  {budget.name}:"
            f" {whose(budget)} ${format_usd(budget.limit_nano)} a {budget.period}"
            f" ({budget.timezone}), {budget.action}"
        )


def apply(
    file: Annotated[
        Path, typer.Option("--file", "-f", help="YAML with a list of budgets.", exists=False)
    ],
    prune: Annotated[
        bool, typer.Option("--prune", help="Remove budgets the file does not name.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would change, change nothing.")
    ] = False,
    ledger: LedgerUrl = DEFAULT_LEDGER,
    json: AsJson = False,
) -> None:
    """Set the budgets of a file: all, or none on any mistake."""
    from spanledger.ledger.records import Records, budget_of

    with reporting_errors():
        wanted = [budget_of(entry) for entry in load_budgets(file)]
        open_ledger = Records.read if dry_run else Records.open
        records = open_ledger(ledger_file(ledger))
        current = {budget.name: budget for budget in records.budgets()}
        changed = [budget for budget in wanted if current.get(budget.name) != budget]
        names = {budget.name for budget in wanted}
        dropped = sorted(current.keys() - names) if prune else []
        if not dry_run:
            records.set_budgets(changed, time.time_ns(), remove=dropped)
        records.close()
    result: dict[str, list[str]] = {
        "set": [budget.name for budget in changed],
        "removed": dropped,
        "unchanged": sorted(names - {budget.name for budget in changed}),
    }
    if json:
        print_json({**result, "dry_run": dry_run})
        return
    would = "would be " if dry_run else ""
    for what, those in ((f"{would}set", result["set"]), (f"{would}removed", dropped)):
        typer.echo(f"{len(those)} {what}" + (f": {', '.join(those)}" if those else ""))
    typer.echo(f"{len(result['unchanged'])} unchanged")
