"""The closing words of a run: what was done, what is left, and how to go on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from spanledger.worker.progress import describe
from spanledger.worker.run import Summary


def closing_lines(summary: Summary, results: Path) -> Iterator[str]:
    """The summary for people, a line at a time."""
    yield f"{describe(summary.counts)} in {summary.seconds:.1f} s; results in {results}"
    if summary.failed_before:
        yield (
            f"{summary.failed_before} jobs failed in an earlier run and are kept;"
            " --retry-failed runs them again"
        )
    if failed := summary.counts.failed:
        yield (
            f"{failed} {'job' if failed == 1 else 'jobs'} failed; once the cause is mended, the same"
            " command with --retry-failed runs them again"
        )
    again = "run the same command again for the rest"
    left = "the rest of the input" if summary.remaining is None else f"{summary.remaining} jobs"
    match summary.stopped_by:
        case "budget":
            yield f"stopped by a budget: {summary.stop_message}"
            yield f"{left} not run; raise the budget or wait until it renews, then {again}"
        case "gateway":
            yield f"stopped by the gateway: {summary.stop_message}"
            yield f"{left} not run; once that is mended, {again}"
        case "interrupt":
            yield f"interrupted; {left} not run, {again}"
        case "output":
            yield f"{summary.stop_message}; {left} not run"
        case None:
            pass
