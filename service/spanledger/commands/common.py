"""Shared by all commands: options, output, exit codes, and the one place errors become text."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from spanledger.ledger.ports import Store

from spanledger.config import DEFAULT_LEDGER_URL
from spanledger.errors import BudgetExceededError, SpanledgerError, UsageError

PIPE_COLUMNS = 240


class Exit(IntEnum):
    """Exit codes scripts may rely on."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    BUDGET = 3
    CHANGES = 4


LedgerUrl = Annotated[
    str,
    typer.Option(
        "--ledger",
        envvar="SPANLEDGER_LEDGER_URL",
        help="Ledger URL: sqlite:///PATH, a path, or postgresql://HOST/DATABASE.",
        metavar="URL",
    ),
]
DEFAULT_LEDGER = DEFAULT_LEDGER_URL
AsJson = Annotated[
    bool, typer.Option("--json", help="Print JSON; amounts of money are decimal strings.")
]


def print_json(data: Any) -> None:
    """Print data as JSON on stdout."""
    sys.stdout.write(json.dumps(data, indent=2, ensure_ascii=False) + "\n")


def console(*, stderr: bool = False) -> Console:
    """A console as wide as the terminal; a pipe gets wide lines, so nothing is truncated."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else PIPE_COLUMNS
    return Console(highlight=False, width=width, stderr=stderr)


ColumnKind = Literal["fold", "keep", "figure"]
"""Kinds of columns: names wrap onto further lines; ids, times and figures are never truncated."""


def new_table(columns: Mapping[str, ColumnKind]) -> Table:
    """A table that wraps only its names when the terminal is narrow."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name, kind in columns.items():
        table.add_column(
            name,
            justify="right" if kind == "figure" else "left",
            overflow="fold",
            no_wrap=kind != "fold",
        )
    return table


def fail(message: str, code: Exit = Exit.FAILED) -> typer.Exit:
    """Print an error to stderr and return the exception to raise."""
    for line in message.splitlines():
        typer.secho(f"error: {line}", fg="red", err=True)
    return typer.Exit(code)


@contextmanager
def reporting_errors() -> Iterator[None]:
    """Turn our errors into clear messages and the right exit code."""
    try:
        yield
    except UsageError as error:
        raise fail(str(error), Exit.USAGE) from error
    except BudgetExceededError as error:
        raise fail(str(error), Exit.BUDGET) from error
    except SpanledgerError as error:
        raise fail(str(error)) from error
    except BrokenPipeError as error:  # such as `| head`
        sys.stderr.close()
        raise typer.Exit(Exit.DONE) from error


def store_of(url: str, direct_url: str = "") -> Store:
    """The ledger of a URL; an invalid URL is a usage error."""
    from spanledger.ledger import open_store  # here, so commands without a ledger do not load it

    try:
        return open_store(url, direct_url)
    except SpanledgerError as error:
        raise UsageError(str(error)) from error


def parse_moment(text: str, now: datetime | None = None) -> int:
    """Read `2026-11-01`, `2026-11-01T12:00+01:00`, or an age such as `30m`, `24h`, `7d`.

    A moment without a zone is UTC. Returns Unix nanoseconds. Raises UsageError.
    """
    now = now or datetime.now(UTC)
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
    amount, unit = text[:-1], text[-1:]
    try:
        if unit in units and amount.isdecimal():
            moment = now - timedelta(seconds=int(amount) * units[unit])
        else:
            moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        # Clamped to what fits SQLite's integers.
        return min(max(int(moment.timestamp()) * 1_000_000_000, 0), 2**63 - 1)
    except (ValueError, OverflowError):
        raise UsageError(
            f"{text!r} is not a time; write 2026-11-01, 2026-11-01T12:00+01:00, 24h or 7d"
        ) from None


def format_time(ns: int | None) -> str | None:
    """Unix nanoseconds as ISO 8601 in UTC with milliseconds, or None."""
    if not ns:
        return None
    moment = datetime.fromtimestamp(ns / 1e9, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def local_time(ns: int | None) -> str:
    """Unix nanoseconds in this machine's time zone, with the zone's name."""
    if not ns:
        return "-"
    moment = datetime.fromtimestamp(ns / 1e9).astimezone()
    today = moment.date() == datetime.now().astimezone().date()
    return moment.strftime("%H:%M:%S %Z" if today else "%Y-%m-%d %H:%M %Z")


def format_day(seconds: int, timezone: str) -> str:
    """Unix seconds as ISO 8601 in a time zone."""
    from zoneinfo import ZoneInfo

    return datetime.fromtimestamp(seconds, ZoneInfo(timezone)).isoformat()
