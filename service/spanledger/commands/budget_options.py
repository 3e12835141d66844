"""The options of `spanledger budget set`: a budget's fields, each of which may be left out."""

from __future__ import annotations

from typing import Annotated

import typer

from spanledger.budgets.actions import ACTIONS, STEP_PERCENT
from spanledger.commands.completion import budget_names

Unique = Annotated[
    str, typer.Argument(help="Unique name of the budget.", autocompletion=budget_names)
]
Limit = Annotated[
    str | None, typer.Option(help="USD per period, like 12.50; required for a new budget.")
]
Each = Annotated[
    str | None,
    typer.Option(
        help="day, week, month, quarter, year, a number of hours (12h) or days (30d), or once;"
        " month if the budget is new."
    ),
]
PeriodDay = Annotated[
    str | None,
    typer.Option(help="Weekday or day of the month (1 to 31) on which weeks or months begin."),
]
PeriodFrom = Annotated[
    str | None,
    typer.Option(
        help="When the first period begins, for hours, days and once: 2026-01-01, or with a time."
    ),
]
PeriodTo = Annotated[str | None, typer.Option(help="When a period of once ends; `none`: never.")]
ValidFrom = Annotated[
    str | None, typer.Option(help="From when on the budget limits and counts; `none`: always.")
]
ValidTo = Annotated[
    str | None, typer.Option(help="Until when the budget limits and counts; `none`: for good.")
]
Timezone = Annotated[
    str | None, typer.Option(help="IANA time zone of the period; UTC if the budget is new.")
]
From = Annotated[
    str | None,
    typer.Option("--from", help="From when on the limit holds: now, or next-period; default: now."),
]
Rollover = Annotated[
    bool | None,
    typer.Option(
        "--rollover/--no-rollover", help="Add what was left of the period before to the limit."
    ),
]
RolloverCap = Annotated[
    str | None, typer.Option(help="The most that is added, like 20 (USD) or 25% of the limit.")
]
Then = Annotated[
    str | None,
    typer.Option(help=f"{', '.join(ACTIONS)}; block if the budget is new."),
]
Grace = Annotated[str | None, typer.Option(help="USD beyond the limit that each period may have.")]
ThrottleTo = Annotated[
    str | None,
    typer.Option(help="Requests a minute for each account, near the limit; `none`: no throttle."),
]
ThrottleAt = Annotated[
    int | None,
    typer.Option(help=f"Percentage spent from which on that is so; {STEP_PERCENT} if it is new."),
]
DegradeTo = Annotated[
    str | None,
    typer.Option(help="Route that serves requests instead, near the limit; `none`: their own."),
]
DegradeAt = Annotated[
    int | None,
    typer.Option(help=f"Percentage spent from which on it does; {STEP_PERCENT} if it is new."),
]
Percentages = Annotated[
    str | None, typer.Option(help="Percentages to announce; 50,80,95 if the budget is new.")
]
Strict = Annotated[
    bool | None,
    typer.Option("--strict/--no-strict", help="Lower max_tokens to what the budget can pay for."),
]
Default = Annotated[
    bool | None,
    typer.Option(
        "--default/--no-default",
        help="With '*': limits only subjects that no other budget of the same scope names.",
    ),
]
OnLedgerDownAllow = Annotated[
    str | None,
    typer.Option(
        help="USD that each gateway process may spend while the ledger is unavailable; 0 if the"
        " budget is new."
    ),
]
Replace = Annotated[
    bool,
    typer.Option(
        "--replace", help="Recreate an existing budget: options not given get their defaults."
    ),
]
