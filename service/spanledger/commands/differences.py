"""How a configuration file's budgets differ from the ledger's, and what the next start changes."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from spanledger.errors import SpanledgerError

if TYPE_CHECKING:
    from spanledger.budgets.model import Budget
    from spanledger.config import Config
    from spanledger.ledger.ports import Store
    from spanledger.ledger.records import Records


def against_ledger(config: Config, file: Path) -> dict[str, Any]:
    """Changes the next start will make and differences that will stay, as JSON and as `warnings`.

    Empty if there is no ledger; a ledger that cannot be read is a warning.
    """
    from spanledger.ledger import open_store

    try:
        store = open_store(config.ledger.url)
        if not store.exists():
            return _report([], [], [])
        with store.records("read") as records:
            return _compare(records, config, file)
    except SpanledgerError as error:
        return _report([], [], [f"budgets were not compared with the ledger: {error}"])


def _compare(records: Records, config: Config, file: Path) -> dict[str, Any]:
    from spanledger.budgets.applied import compare
    from spanledger.budgets.diff import plan
    from spanledger.config.budgets import budget_of

    source = str(file.resolve())
    wanted = [budget_of(entry) for entry in config.budgets]
    current = {budget.name: budget for budget in records.budgets()}
    due = records.due_budgets(source, wanted)
    names = {budget.name for budget in due}
    differences = [d for d in compare(source, wanted, current) if d.name not in names]
    gone = records.differences(still_listed={budget.name for budget in wanted})
    differences += [d for d in gone if d.source == source and not d.listed]
    return _report(
        [change.as_dict | {"text": change.text} for change in plan(current, due, prune=False)],
        [difference.as_dict for difference in differences],
        [difference.text for difference in differences],
    )


def report_missing(store: Store, before: Mapping[str, Budget], after: Iterable[Budget]) -> None:
    """Say on stderr which budgets, as set now, count requests that were pruned."""
    from spanledger.ledger.pruning import missing

    with store.reports() as reports:
        pruned_ns = reports.pruned_ns()
    for text in missing(before, after, pruned_ns, time.time_ns()):
        typer.echo(text, err=True)


def _report(
    at_start: list[dict[str, Any]], differences: list[dict[str, Any]], warnings: list[str]
) -> dict[str, Any]:
    return {"at_start": at_start, "differences": differences, "warnings": warnings}
