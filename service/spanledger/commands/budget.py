"""`spanledger budget` and `spanledger apply`: limits that live in the ledger."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spanledger.budgets.diff import (
    Change,
    allowance,
    as_dict,
    besides,
    changes_text,
    field_changes,
    moment_text,
    plan,
    summary,
    with_before,
)
from spanledger.budgets.limits import When, next_limit
from spanledger.budgets.model import Budget
from spanledger.budgets.periods import every
from spanledger.budgets.scopes import subjects_by_scope
from spanledger.commands import budget_options as options
from spanledger.commands.budget_edits import OPTION_LABELS, when_of, with_options
from spanledger.commands.budget_explain import explain_
from spanledger.commands.budget_holds import holds_
from spanledger.commands.budget_raise import raise_
from spanledger.commands.budget_table import print_states, state_as_dict
from spanledger.commands.common import (
    DEFAULT_LEDGER,
    AsJson,
    Exit,
    LedgerUrl,
    fail,
    format_time,
    print_json,
    reporting_errors,
    store_of,
)
from spanledger.commands.completion import budget_names, known_budgets
from spanledger.commands.differences import report_missing
from spanledger.commands.scope_options import with_scopes
from spanledger.config import load_budgets, nearest, read_yaml, validate_budget
from spanledger.config.addresses import shown_ledger
from spanledger.errors import SpanledgerError, UsageError
from spanledger.ledger.authors import by_command, by_file
from spanledger.money import format_usd

if TYPE_CHECKING:
    from spanledger.ledger.ports import Store

app = typer.Typer(no_args_is_help=True, help="Budgets: limits per customer, key, team, …")
app.command("explain")(explain_)
app.command("holds")(holds_)


@app.command("set")
@with_scopes(lambda scope: f"{scope.meaning}; '*': each separately.")
def set_(
    *,
    name: options.Unique,
    limit: options.Limit = None,
    subjects: Mapping[str, str],
    period: options.Each = None,
    period_day: options.PeriodDay = None,
    period_from: options.PeriodFrom = None,
    period_to: options.PeriodTo = None,
    valid_from: options.ValidFrom = None,
    valid_to: options.ValidTo = None,
    timezone: options.Timezone = None,
    since: options.From = None,
    rollover: options.Rollover = None,
    rollover_cap: options.RolloverCap = None,
    action: options.Then = None,
    grace: options.Grace = None,
    throttle_to: options.ThrottleTo = None,
    throttle_at: options.ThrottleAt = None,
    degrade_to: options.DegradeTo = None,
    degrade_at: options.DegradeAt = None,
    thresholds: options.Percentages = None,
    default: options.Default = None,
    strict: options.Strict = None,
    on_ledger_down_allow: options.OnLedgerDownAllow = None,
    replace: options.Replace = False,
    ledger: LedgerUrl = DEFAULT_LEDGER,
    json: AsJson = False,
) -> None:
    """Create a budget, or change the given options of an existing one.

    A new budget without a subject limits everybody together; one with several limits what they have in
    common, such as a customer's requests for a model. To give an existing budget another subject, add
    --replace. A budget counts everything its subject has spent since the period began,
    including what was spent before the budget was set.
    """
    written = {
        "name": name,
        "limit": limit,
        **subjects,
        "period": period,
        "period_day": period_day,
        "period_from": period_from,
        "period_to": period_to,
        "valid_from": valid_from,
        "valid_to": valid_to,
        "timezone": timezone,
        "rollover": rollover,
        "rollover_cap": rollover_cap,
        "action": action,
        "grace": grace,
        "throttle_to": throttle_to,
        "throttle_at": throttle_at,
        "degrade_to": degrade_to,
        "degrade_at": degrade_at,
        "thresholds": None if thresholds is None else _percentages(thresholds),
        "default": default,
        "strict": strict,
        "on_ledger_down": on_ledger_down_allow and {"allow_up_to": on_ledger_down_allow},
    }
    given = {option: value for option, value in written.items() if value is not None}
    with reporting_errors():
        store = store_of(ledger)
        when = when_of(since, limit)
        before, budget = _set(name, given, store, when, replace=replace)
        report_missing(store, {name: before} if before else {}, [budget])
    _print_set(before, budget, json=json)


def _set(
    name: str, given: Mapping[str, Any], store: Store, when: When, *, replace: bool
) -> tuple[Budget | None, Budget]:
    """The budget before and after."""
    from spanledger.config.budgets import budget_of

    if not store.exists():
        validate_budget(
            {"limit": "0", **given}, OPTION_LABELS
        )  # a mistake must not create a ledger

    def edit(before: Budget | None) -> Budget:
        if before is not None and not replace:
            return with_options(before, given)
        entry = validate_budget({"limit": "0", **given}, OPTION_LABELS)
        if before is None and when == "next-period":
            raise UsageError(
                f"the budget {name!r} is new, so it has no limit until its next period: leave out --from,"
                " or give --valid-from a date"
            )
        if "limit" not in given:
            raise UsageError(f"--limit is missing; the new budget {name!r} needs one")
        return budget_of(entry)

    records = store.records("create" if "limit" in given else "change")
    records.by = by_command()
    try:
        return records.edit_budget(name, edit, time.time_ns(), when=when)
    finally:
        records.close()


def _print_set(before: Budget | None, budget: Budget, *, json: bool) -> None:
    changes = [] if before is None else field_changes(before, budget)
    if json:
        shown = [] if before is None else _fields(before, budget)
        print_json({**as_dict(budget), "changed": before != budget, "changes": shown})
    elif changes:
        typer.echo(f"changed {budget.name!r}: {changes_text(changes)}")
    else:
        subjects = subjects_by_scope(budget.scope, budget.subject)
        whom = " and ".join(f"{scope} {name!r}" for scope, name in subjects.items()) or "everybody"
        typer.echo(
            f"{'unchanged' if before else 'set'}: {budget.name!r} allows {whom}"
            f" {allowance(budget)}, then {_then(budget)}"
        )


def _then(budget: Budget) -> str:
    """What a budget does, as the end of a sentence."""
    acts = "blocks" if budget.blocks else "warns"
    return "; ".join([acts, *besides(budget)])


def _fields(before: Budget, after: Budget) -> list[dict[str, Any]]:
    """The changed fields as JSON."""
    return [change._asdict() for change in field_changes(before, after)]


def _percentages(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


app.command("raise")(raise_)


@app.command()
def limit(
    name: Annotated[str, typer.Argument(help="Name of the budget.", autocompletion=budget_names)],
    usd: Annotated[str, typer.Argument(help="USD per period, like 12.50.")],
    since: options.From = None,
    ledger: LedgerUrl = DEFAULT_LEDGER,
    json: AsJson = False,
) -> None:
    """Change only a budget's limit; what has been spent still counts."""

    with reporting_errors():
        when = when_of(since, usd)
        wanted = validate_budget({"name": name, "limit": usd}, {"limit": "USD"}).limit
        records = store_of(ledger).records("change")
        records.by = by_command()
        names = [budget.name for budget in records.budgets()]

        def edit(budget: Budget | None) -> Budget:
            if budget is None:
                raise SpanledgerError(f"there is no budget {name!r}{nearest(name, names)}")
            return replace(budget, limit_nano=wanted)

        before, after = records.edit_budget(name, edit, time.time_ns(), when=when)
        records.close()
    if json:
        print_json({**as_dict(after), "changed": after != before})
    elif before is not None:
        coming = next_limit(after, int(time.time()))
        begins = f" from {moment_text(coming[0], after.timezone)} on" if coming else ""
        typer.echo(
            f"{name!r} allows ${format_usd(wanted)} {every(after.period)}{begins}, was"
            f" ${format_usd(before.limit_nano)}"
        )


@app.command("list")
def list_(ledger: LedgerUrl = DEFAULT_LEDGER, json: AsJson = False) -> None:
    """List budgets with the money spent and held in the current period.

    Below the table are the budgets that differ from the gateway's file as of its last start.
    """
    with reporting_errors():
        reports = store_of(ledger).reports()
        now_s = int(time.time())
        states = reports.budget_states(now_s)
        reports.close()
        records = store_of(ledger).records("read")
        differences = records.differences()
        records.close()
    if json:
        found = {difference.name: difference.as_dict for difference in differences}
        shown = [{**state_as_dict(s), "differs": found.get(s.budget.name)} for s in states]
        print_json(shown)
        return
    if not states:
        typer.echo(f"no budgets yet in {shown_ledger(ledger)}; see `spanledger budget set --help`")
    else:
        print_states(states, now_s)
    for difference in differences:
        typer.echo(difference.text, err=True)


@app.command()
def remove(
    name: Annotated[str, typer.Argument(help="Name of the budget.", autocompletion=budget_names)],
    ledger: LedgerUrl = DEFAULT_LEDGER,
    json: AsJson = False,
) -> None:
    """Remove a budget; its history and what was charged stay in the ledger."""

    with reporting_errors():
        records = store_of(ledger).records("change")
        records.by = by_command()
        names = [budget.name for budget in records.budgets()]
        removed = records.remove_budget(name, time.time_ns())
        records.close()
    if removed is None:
        raise fail(f"there is no budget {name!r}{nearest(name, names)}")
    if json:
        print_json({**as_dict(removed), "removed": True})
    else:
        typer.echo(f"removed {name!r}")


@app.command()
def history(
    name: Annotated[
        str, typer.Argument(help="Name of a budget; default: all.", autocompletion=known_budgets)
    ] = "",
    ledger: LedgerUrl = DEFAULT_LEDGER,
    json: AsJson = False,
) -> None:
    """Show every change of the budgets, oldest first.

    A budget's first line shows all of it; later lines show the old and the new value of each field
    that changed. Behind it is how it was changed, and by which user of the machine.
    """

    with reporting_errors():
        records = store_of(ledger).records("read")
        changes = list(with_before(records.history(name or None)))
        records.close()
    if name and not changes:
        raise fail(f"there has never been a budget {name!r}")
    if json:
        print_json(
            [
                {
                    "at": format_time(change.at_ns),
                    "change": change.change,
                    **{name: value or None for name, value in change.by._asdict().items()},
                    **as_dict(change.budget),
                    "changes": [] if before is None else _fields(before, change.budget),
                }
                for change, before in changes
            ]
        )
        return
    if not changes:
        typer.echo(f"no budgets yet in {shown_ledger(ledger)}; see `spanledger budget set --help`")
    for change, before in changes:
        budget = change.budget
        fields = [] if before is None else field_changes(before, budget)
        text = changes_text(fields) or summary(budget)
        by = change.by
        author = f" ({by.way}{by.file and f' {by.file}'}, {by.who})" if by.way else ""
        typer.echo(
            f"{format_time(change.at_ns)}  {change.change:<6}  {budget.name}: {text}{author}"
        )


def apply(
    file: Annotated[
        Path, typer.Option("--file", "-f", help="YAML with a list of budgets.", exists=False)
    ],
    prune: Annotated[
        bool, typer.Option("--prune", help="Remove budgets that the file does not contain.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would change, without changing it.")
    ] = False,
    since: options.From = None,
    exit_code: Annotated[
        bool,
        typer.Option("--exit-code", help="Exit with 4 if anything changes; also with --dry-run."),
    ] = False,
    ledger: LedgerUrl = DEFAULT_LEDGER,
    json: AsJson = False,
) -> None:
    """Set all budgets in a file, or none if the file has any mistake.

    Prints the changes field by field. The exit code is 0 whether or not anything changes, unless
    --exit-code is given.
    """
    from spanledger.config.budgets import budget_of

    with reporting_errors():
        wanted = [budget_of(entry) for entry in load_budgets(file)]
        store = store_of(ledger)
        records = store.records("read" if dry_run else "create")
        current = {budget.name: budget for budget in records.budgets()}
        changes = plan(current, wanted, prune=prune)
        if not dry_run:
            source = str(file.resolve())
            records.by = by_file(source)
            when = when_of(since, "") if since else ""
            dropped = [change.name for change in changes if change.kind == "remove"]
            if records.knows_file(source) or _is_configuration(file):
                records.apply_file(
                    source, wanted, time.time_ns(), whole=True, remove=dropped, when=when
                )
            else:
                records.set_budgets(wanted, time.time_ns(), remove=dropped, when=when)
        records.close()
        report_missing(store, current, [c.budget for c in changes if c.kind != "remove"])
    if json:
        _print_plan_json(wanted, changes, dry_run=dry_run)
    else:
        _print_plan(wanted, changes, dry_run=dry_run)
    if exit_code and changes:
        raise typer.Exit(Exit.CHANGES)


def _is_configuration(file: Path) -> bool:
    """Whether this is a gateway's file, whose budgets a gateway applies when it starts."""
    data = read_yaml(file)
    return isinstance(data, dict) and "model_list" in data


def _names(wanted: Sequence[Budget], changes: Sequence[Change]) -> dict[str, list[str]]:
    changed = [change.name for change in changes if change.kind != "remove"]
    return {
        "set": changed,
        "removed": [change.name for change in changes if change.kind == "remove"],
        "unchanged": sorted({budget.name for budget in wanted} - set(changed)),
    }


def _print_plan_json(wanted: Sequence[Budget], changes: Sequence[Change], *, dry_run: bool) -> None:
    diff = [change.as_dict for change in changes]
    print_json({**_names(wanted, changes), "changes": diff, "dry_run": dry_run})


def _print_plan(wanted: Sequence[Budget], changes: Sequence[Change], *, dry_run: bool) -> None:
    colours = {"create": "green", "change": "yellow", "remove": "red"}
    for change in changes:
        typer.secho(change.text, fg=colours[change.kind])
    names = _names(wanted, changes)
    would = "would be " if dry_run else ""
    for what, those in ((f"{would}set", names["set"]), (f"{would}removed", names["removed"])):
        typer.echo(f"{len(those)} {what}" + (f": {', '.join(those)}" if those else ""))
    typer.echo(f"{len(names['unchanged'])} unchanged")
