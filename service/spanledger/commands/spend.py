"""`spanledger spend`, `requests` and `trace`: reports from the ledger."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from spanledger.budgets.scopes import tags_in
from spanledger.commands.common import (
    DEFAULT_LEDGER,
    AsJson,
    ColumnKind,
    LedgerUrl,
    console,
    format_time,
    local_time,
    new_table,
    parse_moment,
    print_json,
    reporting_errors,
    store_of,
)
from spanledger.commands.completion import customers
from spanledger.config import nearest
from spanledger.errors import RateExceededError, SpanledgerError, UsageError
from spanledger.ledger.charges import charge_rule
from spanledger.ledger.rows import SPEND_BY, SpendRow
from spanledger.money import format_usd

WATERFALL_COLUMNS = (10, 40)
"""Minimum and maximum width of the bars; the text next to them takes about `BESIDE_BARS`."""
BESIDE_BARS = 70
OUTCOMES = ("ok", "error", "refused", "cancelled", "abandoned", "running")
SHORT_ID = 12
"""Characters of a trace id that tables show; `trace` accepts any unambiguous prefix."""


def spend(
    by: Annotated[
        str,
        typer.Option(
            help=f"Group by these, separated by commas: {', '.join(SPEND_BY)}. An attempt counts in"
            " the group of each of its tags."
        ),
    ] = "customer,model",
    since: Annotated[str, typer.Option(help="2026-11-01, 24h, 7d …; default: everything.")] = "",
    until: Annotated[str, typer.Option(help="Like --since; default: now.")] = "",
    timezone: Annotated[str, typer.Option(help="Time zone of the days.")] = "UTC",
    ledger: LedgerUrl = DEFAULT_LEDGER,
    json: AsJson = False,
) -> None:
    """Show spend by customer, model, day, …, to the nano-dollar."""
    from zoneinfo import ZoneInfo

    with reporting_errors():
        groups: list[str] = []
        for name in (part.strip() for part in by.split(",")):
            match = [known for known in SPEND_BY if known == name]
            if not match:
                near = nearest(name, SPEND_BY) or f"; choose from {', '.join(SPEND_BY)}"
                raise UsageError(f"cannot group by {name!r}{near}")
            groups += [known for known in match if known not in groups]
        try:
            ZoneInfo(timezone)
        except (KeyError, ValueError, OSError):
            raise UsageError(f"{timezone!r} is not an IANA time zone") from None
        since_ns = parse_moment(since) if since else 0
        until_ns = parse_moment(until) if until else None
        if until_ns is not None and until_ns <= since_ns:
            raise UsageError(
                f"--until {until} is not after --since {since}; ages count back from now, so the"
                " larger one is earlier"
            )
        reports = store_of(ledger).reports()
        rows = reports.spend(groups, since_ns, until_ns, timezone)
        # Rows of several tags count in several groups.
        whole = reports.spend((), since_ns, until_ns) if "tag" in groups else rows
        pruned_ns = reports.pruned_ns()
        reports.close()
    if since_ns < pruned_ns:
        typer.echo(
            f"note: requests that ended before {format_time(pruned_ns)} were pruned", err=True
        )
    total = sum(row.cost_nano for row in whole)
    if json:
        print_json(
            {
                "by": groups,
                "rows": [
                    {**dict(zip(groups, row.group, strict=True)), **_spend_as_dict(row)}
                    for row in rows
                ],
                "total_usd": format_usd(total),
                "total_list_usd": format_usd(sum(row.list_nano for row in whole)),
                "total_charged_usd": format_usd(sum(row.charge_nano for row in whole)),
            }
        )
        return
    _print_spend(list(groups), rows, whole)


def _spend_as_dict(row: SpendRow) -> dict[str, Any]:
    return {
        "cost_usd": format_usd(row.cost_nano),
        "list_usd": format_usd(row.list_nano),
        "charged_usd": format_usd(row.charge_nano),
        "estimated_usd": format_usd(row.estimated_nano),
        "attempts": row.attempts,
        "failed": row.failed,
        "unpriced": row.unpriced,
        "input_tokens": row.input_tokens,
        "output_tokens": row.output_tokens,
    }


def _print_spend(groups: list[str], rows: list[Any], whole: list[Any]) -> None:
    from rich.markup import escape

    names: dict[str, ColumnKind] = dict.fromkeys(groups, "fold")
    listed = any(row.list_nano != row.cost_nano for row in whole)
    charged = any(row.charge_nano != row.cost_nano for row in whole)
    titles = ["at list price"] * listed + ["cost"] + ["charged"] * charged
    figures: dict[str, ColumnKind] = dict.fromkeys(
        (*titles, "attempts", "failed", "tokens in", "out"), "figure"
    )

    def amounts(*rows: Any) -> list[str]:
        """The amounts that differ from the cost, and the cost."""
        found = [sum(r.list_nano for r in rows)] * listed + [sum(r.cost_nano for r in rows)]
        found += [sum(r.charge_nano for r in rows)] * charged
        return ["$" + format_usd(nano) for nano in found]

    table = new_table({**names, **figures})
    for row in rows:
        table.add_row(
            *(escape(value or "-") for value in row.group),
            *amounts(row),
            f"{row.attempts:,}",
            f"{row.failed:,}",
            f"{row.input_tokens:,}",
            f"{row.output_tokens:,}",
        )
    table.add_section()
    table.add_row("total", *[""] * (len(groups) - 1), *amounts(*whole))
    screen = console()
    screen.print(table)
    estimated = sum(row.estimated_nano for row in whole)
    unpriced = sum(row.unpriced for row in whole)
    if estimated:
        screen.print(
            f"${format_usd(estimated)} of this is estimated, because the provider reported no usage,"
            " or its response was not read to the end"
        )
    if unpriced:
        screen.print(f"[red]{unpriced} attempts have no price: their cost is not included[/]")


def requests(
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, max=10_000, help="How many to show.")
    ] = 20,
    customer: Annotated[
        str, typer.Option(help="Only this customer.", autocompletion=customers)
    ] = "",
    outcome: Annotated[
        str,
        typer.Option(
            help="Only ok, error, refused, cancelled, abandoned or running.",
            autocompletion=lambda: list(OUTCOMES),
        ),
    ] = "",
    since: Annotated[str, typer.Option(help="2026-11-01, 24h, 7d …")] = "",
    ledger: LedgerUrl = DEFAULT_LEDGER,
    json: AsJson = False,
) -> None:
    """Show the newest requests with their trace ids."""

    with reporting_errors():
        if outcome and outcome not in OUTCOMES:
            near = nearest(outcome, OUTCOMES) or f"; choose from {', '.join(OUTCOMES)}"
            raise UsageError(f"there is no outcome {outcome!r}{near}")
        reports = store_of(ledger).reports()
        rows = reports.requests(
            limit, customer or None, outcome or None, parse_moment(since) if since else 0
        )
        reports.close()
    if json:
        print_json([_request_as_dict(row) for row in rows])
        return
    from rich.markup import escape

    table = new_table(
        {
            "started": "keep",
            "customer": "fold",
            "route": "fold",
            "outcome": "fold",
            "attempts": "figure",
            "seconds": "figure",
            "cost": "figure",
            "trace": "keep",
        }
    )
    for row in rows:
        result = row["outcome"] or "running"
        colour = {"ok": "green", "running": "cyan"}.get(result, "red")
        said = ("", result, "budget_exceeded")  # the last is what `refused` means
        detail = f" {escape(row['error_type'])}" if row["error_type"] not in said else ""
        seconds = f"{(row['ended_ns'] - row['started_ns']) / 1e9:.2f}" if row["ended_ns"] else "-"
        table.add_row(
            local_time(row["started_ns"]),
            escape(row["customer"]),
            escape(row["route"]),
            f"[{colour}]{result}[/]{detail}",
            str(row["attempts"]),
            seconds,
            "$" + format_usd(row["cost_nano"]),
            row["trace_id"][:SHORT_ID],
        )
    console().print(table)


def trace(
    some_id: Annotated[
        str, typer.Argument(metavar="ID", help="Trace, request or span id, or a prefix of one.")
    ],
    ledger: LedgerUrl = DEFAULT_LEDGER,
    json: AsJson = False,
) -> None:
    """Show a request and its attempts as a waterfall."""

    with reporting_errors():
        reports = store_of(ledger).reports()
        found = reports.trace(some_id)
        reports.close()
        if not found:
            raise SpanledgerError(f"the ledger has no trace, request or span {some_id!r}")
    if json:
        print_json([trace_as_dict(request, attempts) for request, attempts in found])
        return
    screen = console()
    for request, attempts in found:
        _print_waterfall(screen, request, attempts)


def _print_waterfall(screen: Any, request: dict[str, Any], attempts: list[dict[str, Any]]) -> None:
    from rich.markup import escape

    least, most = WATERFALL_COLUMNS
    columns = max(least, min(most, screen.width - BESIDE_BARS))
    started = request["started_ns"]
    ended = request["ended_ns"] or max([a["ended_ns"] or started for a in attempts] + [started])
    total = max(1, ended - started)
    outcome = request["outcome"] or "running"
    colour = {"ok": "green", "running": "cyan"}.get(outcome, "red")
    by = "rate" if request["error_type"] == RateExceededError.error_type else "budget"
    refused = f" by {by} {request['refused_by']!r}" if request["refused_by"] else ""
    screen.print(
        f"[bold]{request['operation']} {escape(request['route'])}[/]"
        f"  customer {escape(request['customer'])}  [{colour}]{outcome}[/]{escape(refused)}"
        f"  ${format_usd(request['cost_nano'])}  {total / 1e9:.3f} s"
    )
    screen.print(
        f"trace {request['trace_id']}  request {request['request_id']}", style="bright_black"
    )
    table = new_table(
        {"what": "keep", "model": "fold", "bar": "keep", "seconds": "figure", "how": "fold"}
    )
    table.show_header = False
    table.add_row("request", "", f"[{colour}]{'━' * columns}[/]", f"{total / 1e9:.3f} s", "")
    for attempt in attempts:
        table.add_row(*_waterfall_row(attempt, started, ended, columns))
    screen.print(table)


def _waterfall_row(attempt: dict[str, Any], started: int, ended: int, columns: int) -> list[str]:
    from rich.markup import escape

    total = max(1, ended - started)
    begin, end = attempt["started_ns"], attempt["ended_ns"] or ended
    left = min(columns - 1, (begin - started) * columns // total)
    width = max(1, min(columns - left, (end - begin) * columns // total))
    failed = attempt["error_type"]
    colour = "red" if failed else "cyan" if attempt["state"] == "held" else "green"
    first = attempt["first_chunk_ns"]
    waited = max(0, min(width - 1, (first - begin) * columns // total)) if first else width
    bar = (
        " " * left
        + f"[{colour}]{'─' * waited if first else ''}{'━' * (width - waited if first else width)}[/]"
    )
    what = [failed or attempt["state"]]
    if attempt["fallback_from"]:
        what.append(f"fallback from {attempt['fallback_from']} ({attempt['reason']})")
    elif attempt["reason"]:
        what.append(f"retry after {attempt['reason']}")
    if first:
        what.append(f"first chunk {(first - begin) / 1e9:.3f} s")
    if attempt["input_tokens"] or attempt["output_tokens"]:
        what.append(f"{attempt['input_tokens']} → {attempt['output_tokens']} tokens")
    if attempt["estimated"]:
        what.append("estimated")
    if attempt["unpriced"]:
        what.append("unpriced")
    return [
        f"  attempt {attempt['number']}",
        escape(f"{attempt['provider']} {attempt['model']}"),
        bar,
        f"{(end - begin) / 1e9:.3f} s",
        escape(f"${format_usd(attempt['cost_nano'])}  " + ", ".join(what)),
    ]


def trace_as_dict(request: dict[str, Any], attempts: list[dict[str, Any]]) -> dict[str, Any]:
    """A request with its attempts, as printed in JSON."""
    return {**_request_as_dict(request), "attempts": [_attempt_as_dict(a) for a in attempts]}


def _request_as_dict(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "request_id": row["request_id"],
        "trace_id": row["trace_id"],
        "started_at": format_time(row["started_ns"]),
        "ended_at": format_time(row["ended_ns"]),
        "customer": row["customer"],
        "team": row["team"] or None,
        "key": row["key_id"] or None,
        "user": row.get("user_id") or None,
        "project": row.get("project") or None,
        "tags": tags_in(row.get("tags")),
        "route": row["route"],
        "operation": row["operation"],
        "stream": bool(row["stream"]),
        "outcome": row["outcome"] or "running",
        "error_type": row["error_type"] or None,
        "http_status": row["http_status"] or None,
        "refused_by": row["refused_by"] or None,
        "attempt_count": row["attempts"],
        "cost_usd": format_usd(row["cost_nano"]),
    }


def _attempt_as_dict(row: dict[str, Any]) -> dict[str, Any]:
    times = ("started_ns", "ended_ns", "first_chunk_ns")
    hidden = {*times, "request_id", "owner", "seq", "detail", "content", "shipped_nano", "accounts"}
    same = {key: row["cost_nano"] for key in ("list_nano", "charge_nano") if row.get(key) is None}
    row = {**row, **same}
    rule = row.get("charge_rule")
    row["charge_rule"] = charge_rule(rule).name if rule else ""
    money = {key for key in row if key.endswith("_nano")}
    shown = {key: value for key, value in row.items() if key not in hidden | money}
    flags = {key: bool(shown[key]) for key in ("estimated", "unpriced", "corrected")}
    shown["key"] = shown.pop("key_id")
    return {
        **{key: None if value == "" else value for key, value in shown.items()},
        **flags,
        "http_status": row["http_status"] or None,
        **{key.removesuffix("_ns") + "_at": format_time(row[key]) for key in times},
        **{
            key.removesuffix("_nano") + "_usd": format_usd(row[key])
            for key in sorted(money - hidden)
        },
    }
