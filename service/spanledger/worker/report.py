"""The closing summary of a run: what was done, what is left, and how to continue."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from spanledger.worker.progress import describe, jobs
from spanledger.worker.run import Summary


def closing_lines(summary: Summary, results: Path) -> Iterator[str]:
    """The summary as text, a line at a time."""
    yield f"{describe(summary.counts)} in {summary.seconds:.1f} s; results in {results}"
    if summary.failed_before:
        yield (
            f"{jobs(summary.failed_before)} failed in an earlier run and were skipped;"
            " use --retry-failed to run them again"
        )
    if failed := summary.counts.failed:
        yield (
            f"{jobs(failed)} failed; once the cause is fixed, run the same command with"
            " --retry-failed"
        )
    again = "run the same command again for the rest"
    left = "the rest of the input" if summary.remaining is None else jobs(summary.remaining)
    match summary.stopped_by:
        case "budget":
            yield f"stopped by a budget: {summary.stop_message}"
            yield f"{left} not run; raise the budget or wait until it renews, then {again}"
        case "gateway":
            yield f"stopped by the gateway: {summary.stop_message}"
            yield f"{left} not run; once that is fixed, {again}"
        case "interrupt":
            yield f"interrupted; {left} not run, {again}"
        case "output":
            yield f"{summary.stop_message}; {left} not run"
        case None:
            pass
