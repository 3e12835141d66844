"""A run: takes jobs from the source, runs a limited number at a time, writes results to the output.

Owns the control flow: what to skip, when to stop taking jobs (end of input, a budget, a signal), and
the closing figures. Calls, files, telemetry and the terminal are passed in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from spanledger.errors import SpanledgerError
from spanledger.money import format_usd
from spanledger.worker.client import (
    BudgetStop,
    Caller,
    GatewayStop,
    Result,
    failed_result,
    finish,
    invalid_record,
)
from spanledger.worker.jobs import InvalidJob, Job, Line, SeenKeys, Source, parse_job
from spanledger.worker.output import FAILED, Results
from spanledger.worker.parts import OpenPart, Parts
from spanledger.worker.progress import Counts, Reporter, jobs
from spanledger.worker.tracing import Tracing

STOP_GRACE_S = 60.0
"""How long running jobs may continue after the first Ctrl-C before they are cancelled."""

LINES_PER_TURN = 64
"""Lines to process before signals and running jobs get a turn."""

StoppedBy = Literal["budget", "gateway", "interrupt", "output"]

EXIT_DONE, EXIT_FAILED, EXIT_BUDGET = 0, 1, 3
EXIT_INTERRUPTED = 130


@dataclass(slots=True)
class Summary:
    """The closing figures. `jobs` is done + skipped + failed + remaining."""

    counts: Counts
    failed_before: int = 0
    """The skipped jobs that failed in an earlier run and are kept."""
    remaining: int | None = 0
    """Jobs left for the next run; None if the rest of a pipe was not read."""
    stopped_by: StoppedBy | None = None
    stop_message: str = ""
    seconds: float = 0.0

    @property
    def exit_code(self) -> int:
        """0 only if every job of the input succeeded."""
        if self.stopped_by == "budget":
            return EXIT_BUDGET
        if self.stopped_by == "interrupt":
            return EXIT_INTERRUPTED
        bad = self.counts.failed or self.failed_before or self.stopped_by
        return EXIT_FAILED if bad else EXIT_DONE

    def as_json(self) -> dict[str, object]:
        """The output of `--json`."""
        counts = self.counts
        jobs = None if self.remaining is None else counts.over + self.remaining
        return {
            "jobs": jobs,
            "done": counts.done,
            "skipped": counts.skipped,
            "failed": counts.failed,
            "failed_before": self.failed_before,
            "remaining": self.remaining,
            "spend_usd": format_usd(counts.spend_nano),
            "stopped_by": self.stopped_by,
            "stop_message": self.stop_message,
            "seconds": round(self.seconds, 3),
        }


class Run:
    """One pass over the jobs; `interrupt` may be called from a signal handler."""

    def __init__(
        self,
        source: Source,
        results: Results,
        caller: Caller,
        reporter: Reporter,
        tracing: Tracing,
        *,
        concurrency: int,
        total: int | None,
        monotonic: Callable[[], float],
    ) -> None:
        self._source = source
        self._results = results
        self._caller = caller
        self._reporter = reporter
        self._send = tracing.traced(caller.send)
        self._slots = asyncio.Semaphore(concurrency)
        self._seen = SeenKeys()
        self._running: dict[asyncio.Task[None], str] = {}
        self._postponed: list[Job] = []
        """Jobs refused by a budget while others of ours had holds on it, which may be released."""
        self._parts = Parts(tracing)
        self._monotonic = monotonic
        self.summary = Summary(Counts(total=total))

    async def run(self) -> Summary:
        """Run until the end or a stop; the output is complete whenever this returns."""
        started = self._monotonic()
        try:
            left_over = await self._take_jobs()
            await self._wait_for_running()
            if self.summary.stopped_by is not None:
                self._add_remaining(len(self._postponed))
                self._count_rest(left_over)
        finally:
            self._cancel_running()
            self._seen.close()
            self._parts.end()
            await self._parts.wait()
        self._show()
        self.summary.seconds = self._monotonic() - started
        return self.summary

    def interrupt(self) -> None:
        """The first call stops taking jobs; the second cancels running ones."""
        if self._stop("interrupt", "interrupted"):
            asyncio.get_running_loop().call_later(STOP_GRACE_S, self._cancel_running)
            self._reporter.note(
                f"waiting for {jobs(len(self._running))} to finish; press Ctrl-C again to cancel them"
            )
        else:  # already stopping: do not wait any longer
            self._cancel_running()

    async def _take_jobs(self) -> Line | None:
        """Start jobs until there are no more or the run stops; returns a line read but not run."""
        while self.summary.stopped_by is None:
            if self._postponed:
                await self._take_postponed()
                continue
            line = await self._source.next()
            if line is not None and line.number % LINES_PER_TURN == 0:
                await asyncio.sleep(0)
            if line is None:
                await self._wait_for_running()
                if self._postponed:
                    continue
                return None
            if self.summary.stopped_by is not None:
                return line
            job = self._check(line)
            if job is None:
                continue
            await self._slots.acquire()
            if self.summary.stopped_by is not None:
                self._add_remaining(1)
                return None
            if self._postponed:
                self._slots.release()
                self._postponed.append(job)
                continue
            await self._start(job)
        return None

    async def _take_postponed(self) -> None:
        """Run the first alone, once none of our jobs has a hold: its outcome is final."""
        await self._wait_for_running()
        if self.summary.stopped_by is not None:
            return
        first, *others = self._postponed
        self._postponed = []
        for job, alone in ((first, True), *((job, False) for job in others)):
            await self._slots.acquire()
            if self.summary.stopped_by is not None:
                self._slots.release()
                self._postponed.append(job)
                continue
            await self._start(job, alone=alone)
            if alone:
                await self._wait_for_running()

    async def _wait_for_running(self) -> None:
        while self._running:
            await asyncio.wait(self._running)

    def _check(self, line: Line) -> Job | None:
        """A job to run, or None if the line is blank, already done, or malformed."""
        job = parse_job(line)
        if isinstance(job, Job):
            first = self._seen.add(job.custom_id, job.line)
            if first is not None:
                problem = f"custom_id {job.custom_id!r} is already used on line {first}"
                job = InvalidJob(job.line, job.custom_id, problem)
        if isinstance(job, InvalidJob):
            self._report_invalid(job)
            return None
        if job is None:
            return None
        state = self._results.state(job.custom_id)
        if state is None:
            return job
        self.summary.counts.skipped += 1
        self.summary.failed_before += state == FAILED
        self._show()
        return None

    def _report_invalid(self, job: InvalidJob) -> None:
        self.summary.counts.failed += 1
        self._reporter.problem(job.message)
        if not self._results.reported(job.message):
            self._write(invalid_record(job))
        self._show()

    async def _start(self, job: Job, *, alone: bool = False) -> None:
        part = await self._parts.for_job(job)
        task = asyncio.get_running_loop().create_task(
            self._process(job, part, alone=alone), context=part.context.copy()
        )
        part.add(job, task)
        self._running[task] = job.custom_id
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.pop(task, None)
        self._slots.release()
        if task.cancelled():
            self._add_remaining(1)

    async def _process(self, job: Job, part: OpenPart, *, alone: bool) -> None:
        try:
            result = await finish(job, self._send)
        except Exception as error:  # noqa: BLE001 - one job must never stop the others
            result = failed_result(job, "internal_error", f"{type(error).__name__}: {error}")
        if isinstance(result, BudgetStop):
            self._postponed.append(job)
            if alone:
                self._stop("budget", result.message)
        elif isinstance(result, GatewayStop):
            self._add_remaining(1)
            self._stop("gateway", result.message)
        else:
            part.add_answer(job, result.record["response"])
            self._book(job, result)
        self._show()

    def _book(self, job: Job, result: Result) -> None:
        if not self._write(result.record):
            self._add_remaining(1)
        elif result.ok:
            self.summary.counts.done += 1
        else:
            self.summary.counts.failed += 1
            self._reporter.problem(f"line {job.line} ({job.custom_id}): {result.problem}")

    def _write(self, record: dict[str, object]) -> bool:
        try:
            self._results.append(record)
        except SpanledgerError as error:
            if self._stop("output", str(error)):
                self._reporter.problem(str(error))
            return False
        return True

    def _stop(self, why: StoppedBy, message: str) -> bool:
        """Stop taking jobs; return whether this was the first reason to."""
        if self.summary.stopped_by is not None:
            return False
        self.summary.stopped_by = why
        self.summary.stop_message = message
        self._source.stop()
        return True

    def _cancel_running(self) -> None:
        for task in list(self._running):
            task.cancel()

    def _count_rest(self, left_over: Line | None) -> None:
        """Count the remaining lines without running them."""
        rest = self._source.rest()
        if rest is None:
            self.summary.remaining = None
            return
        if left_over is not None:
            self._count_line(left_over)
        for line in rest:
            self._count_line(line)

    def _count_line(self, line: Line) -> None:
        job = parse_job(line)
        if job is None:
            return
        state = self._results.state(job.custom_id) if isinstance(job, Job) else None
        if state is None:
            self._add_remaining(1)
        else:
            self.summary.counts.skipped += 1
            self.summary.failed_before += state == FAILED

    def _add_remaining(self, count: int) -> None:
        if self.summary.remaining is not None:
            self.summary.remaining += count

    def _show(self) -> None:
        self.summary.counts.spend_nano = self._caller.spend_nano
        self._reporter.update(self.summary.counts)
