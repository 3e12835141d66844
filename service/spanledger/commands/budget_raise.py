"""`spanledger budget raise`: more than the limit for a while."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import Annotated
from zoneinfo import ZoneInfo

import typer

from spanledger.budgets.diff import as_dict, moment_text
from spanledger.budgets.limits import raised, without_raises
from spanledger.budgets.model import Budget
from spanledger.budgets.periods import first_moment
from spanledger.clock import NANOS
from spanledger.commands.common import (
    DEFAULT_LEDGER,
    AsJson,
    LedgerUrl,
    print_json,
    reporting_errors,
    store_of,
)
from spanledger.commands.completion import budget_names
from spanledger.config import nearest, validate_budget
from spanledger.errors import SpanledgerError, UsageError
from spanledger.ledger.authors import by_command
from spanledger.money import format_usd


def raise_(
    name: Annotated[str, typer.Argument(help="Name of the budget.", autocompletion=budget_names)],
    usd: Annotated[
        str | None, typer.Argument(help="USD on top of the limit, like 50; not with --end.")
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(help="When it ends, by the budget's clocks: 2026-12-01, or with a time."),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option("--from", help="When it begins, written the same way; default: now."),
    ] = None,
    end: Annotated[bool, typer.Option("--end", help="End all raises of the budget now.")] = False,
    ledger: LedgerUrl = DEFAULT_LEDGER,
    json: AsJson = False,
) -> None:
    """Raise a budget's limit until a moment, after which it is what it was.

    Raises that overlap add up. What was spent beyond the limit meanwhile still counts: when the last
    one ends, the budget refuses requests until its period does.
    """
    with reporting_errors():
        edit = _edit(name, usd, until, since, end=end)
        records = store_of(ledger).records("change")
        records.by = by_command()
        names = [budget.name for budget in records.budgets()]

        def change(budget: Budget | None) -> Budget:
            if budget is None:
                raise SpanledgerError(f"there is no budget {name!r}{nearest(name, names)}")
            return edit(budget)

        before, after = records.edit_budget(name, change, time.time_ns(), noted=True)
        records.close()
    if json:
        print_json({**as_dict(after), "changed": after != before})
    elif end:
        typer.echo(f"{name!r} has no raises any more")
    else:
        added = after.noted.raises[-1]
        typer.echo(
            f"{name!r} allows ${format_usd(added.nano)} more from"
            f" {moment_text(added.from_s, after.timezone)} until"
            f" {moment_text(added.until_s, after.timezone)}"
        )


def _edit(
    name: str, usd: str | None, until: str | None, since: str | None, *, end: bool
) -> Callable[[Budget], Budget]:
    if end:
        if usd is not None or until is not None or since is not None:
            raise UsageError("--end takes no amount and no other moment: it ends all raises now")
        return without_raises
    if usd is None or until is None:
        raise UsageError("give an amount and its end: spanledger budget raise NAME USD --until DAY")
    nano = validate_budget({"name": name, "limit": usd}, {"limit": "USD"}).limit
    if not nano:
        raise UsageError("USD: must be more than 0; --end ends raises")

    def add(budget: Budget) -> Budget:
        now_s = time.time_ns() // NANOS
        from_s = now_s if since is None else max(now_s, _moment("--from", since, budget))
        return raised(budget, nano, now_s, from_s, _moment("--until", until, budget))

    return add


def _moment(option: str, text: str, budget: Budget) -> int:
    """Unix seconds at which the clocks of the budget's zone show this, or at the offset that it has."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"{option}: {text!r} is not a moment; write one like 2026-12-01 or 2026-12-01T09:30"
        ) from None
    if moment.tzinfo is not None:
        return int(moment.timestamp())
    return first_moment(moment.replace(microsecond=0), ZoneInfo(budget.timezone))
