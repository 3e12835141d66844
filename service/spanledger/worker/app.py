"""Builds a run from its options and drives it: the worker's composition root.

Opens the input, the output and the client, starts telemetry, and connects signals to the run.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from spanledger.worker.client import Caller
from spanledger.worker.jobs import FileSource, PipeSource, Source, count_jobs
from spanledger.worker.output import Results, check_paths
from spanledger.worker.progress import Reporter
from spanledger.worker.run import Run, Summary
from spanledger.worker.serve import Served, ServeOptions, Server
from spanledger.worker.tracing import Tracing, start_tracing, wanted


@dataclass(frozen=True, slots=True)
class RunOptions:
    """The options of `spanledger worker run`; `jobs` None reads standard input."""

    jobs: Path | None
    results: Path
    base_url: str
    api_key: str | None = None
    concurrency: int = 8
    timeout_s: float = 600.0
    retries: int = 2
    retry_failed: bool = False
    telemetry: bool = True
    trace_content: bool = False


def run_jobs(options: RunOptions, reporter: Reporter) -> Summary:
    """Run all jobs; the summary says how the run ended.

    Raises:
        UsageError: the files cannot be used as requested.
    """
    check_paths(options.jobs, options.results)
    results = Results(options.results, retry_failed=options.retry_failed)
    try:
        for note in results.notes:
            reporter.problem(note)
        earlier = results.done + results.failed
        if earlier:
            reporter.note(f"{options.results} already contains {earlier} results; they are kept")
        return asyncio.run(_run(options, results, reporter))
    finally:
        results.close()
        reporter.stop()


def tracing_for(*, telemetry: bool, content: bool, reporter: Reporter) -> Tracing:
    """Telemetry, if requested and allowed by the environment."""
    if not telemetry or not wanted(os.environ):
        return Tracing()
    return start_tracing(content=content, warn=reporter.note)


def serve(options: ServeOptions, reporter: Reporter, *, telemetry: bool) -> Served:
    """Send traffic until a signal arrives or the given time is over."""
    return asyncio.run(_serve(options, reporter, telemetry=telemetry))


async def _serve(options: ServeOptions, reporter: Reporter, *, telemetry: bool) -> Served:
    tracing = tracing_for(telemetry=telemetry, content=False, reporter=reporter)
    server = Server(options, reporter, tracing)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, server.stop)
    try:
        return await server.run()
    finally:
        await asyncio.to_thread(tracing.stop)


async def _run(options: RunOptions, results: Results, reporter: Reporter) -> Summary:
    tracing = tracing_for(
        telemetry=options.telemetry, content=options.trace_content, reporter=reporter
    )
    # After telemetry starts: it wraps the client's methods, and the caller keeps references to them.
    caller = Caller(
        options.base_url,
        options.api_key,
        timeout_s=options.timeout_s,
        retries=options.retries,
        pool=options.concurrency,
    )
    source: Source
    total: int | None = None
    if options.jobs is None:
        source = PipeSource(os.fdopen(0, "rb", closefd=False))
    else:
        source, total = FileSource(options.jobs), count_jobs(options.jobs)
    run = Run(
        source,
        results,
        caller,
        reporter,
        tracing,
        concurrency=options.concurrency,
        total=total,
        monotonic=time.monotonic,
    )
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, run.interrupt)
    try:
        return await run.run()
    finally:
        source.close()
        await caller.close()
        await asyncio.to_thread(tracing.stop)
