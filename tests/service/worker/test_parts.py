"""Where a run is split into traces."""

from __future__ import annotations

import asyncio

import pytest

from spanledger.worker.jobs import Job
from spanledger.worker.parts import BYTES_PER_TRACE, JOBS_PER_TRACE, OpenPart, Parts
from spanledger.worker.tracing import Tracing


def job(size: int = 1, url: str = "/v1/chat/completions") -> Job:
    """A job with a prompt of a given length."""
    return Job(1, "j", url, {"model": "m", "messages": [{"role": "user", "content": "a" * size}]})


def parts_of(jobs: list[Job], answer: int, *, content: bool, at_once: int) -> list[OpenPart]:
    """The part of each job, if every answer arrives after the next few jobs have started."""

    async def play() -> list[OpenPart]:
        tracing = Tracing()
        tracing.content = content
        parts, taken, waiting = Parts(tracing), [], []
        for one in jobs:
            part = await parts.for_job(one)
            ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

            async def run(ended: asyncio.Future[None] = ended) -> None:
                await ended

            task = asyncio.ensure_future(run())
            part.add(one, task)
            taken.append(part)
            waiting.append((part, one, ended, task))
            if len(waiting) == at_once:
                for its, asked, future, running in waiting:
                    its.add_answer(asked, {"content": "b" * answer})
                    future.set_result(None)
                    await running
                waiting.clear()
        for _, _, future, _ in waiting:
            future.set_result(None)
        parts.end()
        await parts.wait()
        return taken

    return asyncio.run(play())


@pytest.mark.parametrize(
    ("size", "answer", "most"),
    [(10_000, 0, 70), (0, 10_000, 130), (10_000, 10_000, 50), (5_000_000, 0, 1)],
)
def test_bytes_in_and_out_fill_a_trace(size: int, answer: int, most: int) -> None:
    """A prompt counts twice, because it is on two spans, and an answer once; a job always has a trace."""
    taken = parts_of([job(size)] * 300, answer, content=True, at_once=4)

    per_trace = [taken.count(part) for part in dict.fromkeys(taken)]
    assert max(per_trace) <= most
    assert max(per_trace) * (2 * size + answer) <= BYTES_PER_TRACE or max(per_trace) == 1
    assert min(per_trace[:-1]) >= most * 0.8


def test_without_content_jobs_fill_a_trace() -> None:
    """Content that is not traced takes no room."""
    taken = parts_of([job(50_000)] * (JOBS_PER_TRACE + 1), 50_000, content=False, at_once=4)

    assert [taken.count(part) for part in dict.fromkeys(taken)] == [JOBS_PER_TRACE, 1]


def test_vectors_take_no_room() -> None:
    """Answers to embeddings are not on spans."""
    taken = parts_of([job(1, "/v1/embeddings")] * 300, 50_000, content=True, at_once=4)

    assert len(set(map(id, taken))) == 1
