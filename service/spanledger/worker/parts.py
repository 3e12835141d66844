"""Splits a run into traces: which workflow span a job runs in, and when the next one begins.

Trace stores reject very large traces, so a trace is limited in jobs and in bytes. Bytes are
estimated from what the instrumentation writes when content is traced; this module makes no calls.
"""

from __future__ import annotations

import asyncio
import json

from spanledger.worker.jobs import Job
from spanledger.worker.tracing import Part, Tracing

JOBS_PER_TRACE = 500
BYTES_PER_TRACE = 1_500_000
"""For the worker's own spans. Tempo accepts 5 MB per trace by default, and the gateway's spans share
the trace: one per attempt, with the same content if the gateway traces content too."""
BYTES_PER_JOB = 3_000
"""Size of a job's two spans without content."""


class OpenPart:
    """A workflow span and the jobs that run in it."""

    def __init__(self, span: Part, *, content: bool, largest_answer: int) -> None:
        self.context = span.context
        self._span = span
        self._content = content
        self._jobs = 0
        self._bytes = 0
        self.largest_answer = largest_answer
        self._tasks: set[asyncio.Task[None]] = set()

    def has_room_for(self, job: Job) -> bool:
        """Whether the trace stays within its limits with this job and all answers still expected."""
        if self._jobs == 0:
            return True
        expected = self._bytes + self._asked(job) + len(self._tasks) * self.largest_answer
        return self._jobs < JOBS_PER_TRACE and expected <= BYTES_PER_TRACE

    def add(self, job: Job, task: asyncio.Task[None]) -> None:
        """Count a starting job."""
        self._jobs += 1
        self._bytes += self._asked(job)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def add_answer(self, job: Job, body: object) -> None:
        """Count an answer's bytes; embeddings are not traced."""
        if self._content and job.url != "/v1/embeddings":
            size = len(json.dumps(body))
            self._bytes += size
            self.largest_answer = max(self.largest_answer, size)

    def _asked(self, job: Job) -> int:
        """A job's bytes: the prompt is on both the task's and the call's span, as ASCII JSON."""
        return BYTES_PER_JOB + (2 * len(json.dumps(job.body)) if self._content else 0)

    async def close(self) -> None:
        """End the workflow span once its last job has ended."""
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._span.close()


class Parts:
    """The open part, and those still waiting for their last jobs."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing
        self._open: OpenPart | None = None
        self._closing: set[asyncio.Task[None]] = set()

    async def for_job(self, job: Job) -> OpenPart:
        """The part a job belongs to."""
        if self._open is None or not self._open.has_room_for(job):
            largest = self._open.largest_answer if self._open is not None else 0
            self.end()
            span = await self._tracing.open_part()
            self._open = OpenPart(span, content=self._tracing.content, largest_answer=largest)
        return self._open

    def end(self) -> None:
        """Close the open part as soon as its jobs have ended, without waiting for them."""
        part, self._open = self._open, None
        if part is not None:
            closing = asyncio.ensure_future(part.close())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    async def wait(self) -> None:
        """Wait until all ended parts are closed."""
        await asyncio.gather(*self._closing)
