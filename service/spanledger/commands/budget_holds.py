"""`spanledger budget holds`: how much of what was held was used."""

from __future__ import annotations

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
    new_table,
    parse_moment,
    print_json,
    reporting_errors,
    store_of,
)
from spanledger.config import nearest
from spanledger.errors import UsageError
from spanledger.ledger.rows import OVER, SPEND_BY, HoldRow
from spanledger.money import format_usd

BY = tuple(name for name in SPEND_BY if name not in ("day", "tag"))
STEPS = (10, 25, 50, 75, 90, 100)
"""The percentages up to which attempts are counted in JSON."""


def holds_(
    by: Annotated[
        str, typer.Option(help=f"Group by these, separated by commas: {', '.join(BY)}.")
    ] = "model",
    since: Annotated[str, typer.Option(help="2026-11-01, 24h, 7d …; default: everything.")] = "",
    until: Annotated[str, typer.Option(help="Like --since; default: now.")] = "",
    ledger: LedgerUrl = DEFAULT_LEDGER,
    json: AsJson = False,
) -> None:
    """Show how much of what was held for attempts they used, by model, route, ….

    What they did not use was given back when they ended. An attempt that cost more than its hold is an
    overrun. Attempts that cost nothing because their provider refused them do not count.
    """
    with reporting_errors():
        groups = _groups(by)
        since_ns = parse_moment(since) if since else 0
        until_ns = parse_moment(until) if until else None
        if until_ns is not None and until_ns <= since_ns:
            raise UsageError(f"--until {until} is not after --since {since}")
        with store_of(ledger).reports() as reports:
            rows = reports.holds(groups, since_ns, until_ns)
            pruned_ns = reports.pruned_ns()
    if since_ns < pruned_ns:
        typer.echo(
            f"note: requests that ended before {format_time(pruned_ns)} were pruned", err=True
        )
    if json:
        print_json({"by": groups, "rows": [_as_dict(groups, row) for row in rows]})
    elif rows:
        _print(groups, rows)
    else:
        console().print("no attempts with a hold were charged in this time")


def _groups(by: str) -> list[str]:
    names = list(dict.fromkeys(part.strip() for part in by.split(",")))
    for name in names:
        if name not in BY:
            near = nearest(name, BY) or f"; choose from {', '.join(BY)}"
            raise UsageError(f"cannot group by {name!r}{near}")
    return names


def _as_dict(groups: Sequence[str], row: HoldRow) -> dict[str, Any]:
    return {
        **dict(zip(groups, row.group, strict=True)),
        "attempts": row.attempts,
        "held_usd": format_usd(row.held_nano),
        "cost_usd": format_usd(row.cost_nano),
        "used_percent": _used(row),
        "median_percent": row.quantile(0.5),
        "p95_percent": row.quantile(0.95),
        "attempts_up_to_percent": {
            str(step): sum(count for percent, count in row.used.items() if percent <= step)
            for step in STEPS
        },
        "overruns": row.overruns,
        "overrun_usd": format_usd(row.overrun_nano),
    }


def _used(row: HoldRow) -> float:
    return round(100 * row.cost_nano / row.held_nano, 1)


def _print(groups: Sequence[str], rows: Sequence[HoldRow]) -> None:
    from rich.markup import escape

    names: dict[str, ColumnKind] = dict.fromkeys(groups, "fold")
    titles = ("attempts", "held", "cost", "used", "median", "p95", "overruns")
    table = new_table({**names, **dict.fromkeys(titles, "figure")})
    for row in rows:
        table.add_row(
            *(escape(value or "-") for value in row.group),
            f"{row.attempts:,}",
            "$" + format_usd(row.held_nano),
            "$" + format_usd(row.cost_nano),
            f"{_used(row):.1f}%",
            *(_percent(row.quantile(share)) for share in (0.5, 0.95)),
            f"{row.overruns:,} (${format_usd(row.overrun_nano)})" if row.overruns else "0",
        )
    console().print(table)


def _percent(value: int) -> str:
    return "over" if value == OVER else f"{value}%"
