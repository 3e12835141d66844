"""What a run shows on the terminal: a bar with spend and time left, or plain lines.

Owns the wording and the drawing, on standard error; decides nothing about the run.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from spanledger.money import format_usd

LINE_INTERVAL_S = 5.0
MAX_PROBLEMS_SHOWN = 20


@dataclass(slots=True)
class Counts:
    """The progress of a run. `total` is None while the input's length is unknown."""

    total: int | None = None
    done: int = 0
    skipped: int = 0
    failed: int = 0
    spend_nano: int = 0

    @property
    def over(self) -> int:
        """Jobs that need no more work."""
        return self.done + self.skipped + self.failed


class Reporter(Protocol):
    """The destination of a run's reports."""

    def update(self, counts: Counts) -> None:
        """Show the progress."""
        ...

    def note(self, message: str) -> None:
        """Show a message."""
        ...

    def problem(self, message: str) -> None:
        """Report a problem, even in quiet mode."""
        ...

    def stop(self) -> None:
        """Restore the terminal."""
        ...


def reporter(console: Console, *, quiet: bool) -> Reporter:
    """The right reporter for this terminal."""
    if quiet:
        return QuietReporter(console)
    return BarReporter(console) if console.is_terminal else LineReporter(console)


class QuietReporter:
    """Shows only problems, up to a limit."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._problems = 0

    def update(self, counts: Counts) -> None:
        """Show nothing."""

    def note(self, message: str) -> None:
        """Show nothing."""

    def problem(self, message: str) -> None:
        self._problems += 1
        if self._problems <= MAX_PROBLEMS_SHOWN:
            self._print(f"[red]{escape(message)}[/]")
        elif self._problems == MAX_PROBLEMS_SHOWN + 1:
            self._print("further problems are only in the output file")

    def stop(self) -> None:
        """There is nothing to restore."""

    def _print(self, markup: str) -> None:
        self._console.print(markup, highlight=False, soft_wrap=True)


class LineReporter(QuietReporter):
    """Prints a line every few seconds, for logs."""

    def __init__(self, console: Console, monotonic: Callable[[], float] = time.monotonic) -> None:
        super().__init__(console)
        self._monotonic = monotonic
        self._next: float | None = None

    def update(self, counts: Counts) -> None:
        now = self._monotonic()
        if self._next is None:
            self._next = now + LINE_INTERVAL_S
        elif now >= self._next:
            self._next = now + LINE_INTERVAL_S
            self._print(describe(counts))

    def note(self, message: str) -> None:
        self._print(escape(message))


class BarReporter(QuietReporter):
    """A progress bar that stays below the messages."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._progress = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("[green]{task.fields[done]} done[/] [red]{task.fields[failed]} failed[/]"),
            TextColumn("[bold]${task.fields[spend]}[/]"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._task = self._progress.add_task("", total=None, done=0, failed=0, spend="0.0000")
        self._progress.start()

    def update(self, counts: Counts) -> None:
        self._progress.update(
            self._task,
            total=counts.total,
            completed=counts.over,
            done=counts.done,
            failed=counts.failed,
            spend=short_usd(counts.spend_nano),
        )

    def note(self, message: str) -> None:
        self._print(escape(message))

    def stop(self) -> None:
        self._progress.stop()


def describe(counts: Counts) -> str:
    """The progress of a run as one plain line."""
    whole = jobs(counts.over) if counts.total is None else f"{counts.over} of {jobs(counts.total)}"
    parts = [whole, f"{counts.done} done", f"{counts.failed} failed"]
    if counts.skipped:
        parts.append(f"{counts.skipped} skipped")
    return ", ".join(parts) + f", ${format_usd(counts.spend_nano)} spent"


def jobs(number: int) -> str:
    """`1 job`, `2 jobs`."""
    return f"{number} {'job' if number == 1 else 'jobs'}"


def short_usd(nano: int) -> str:
    """An amount rounded to a hundredth of a cent."""
    whole, part = divmod(round(nano, -5) // 100_000, 10_000)
    return f"{whole}.{part:04d}"
