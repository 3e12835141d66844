"""Reading jobs in bounded memory, and the rate of endless traffic."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import pytest

from spanledger.errors import UsageError
from spanledger.worker import jobs
from spanledger.worker.jobs import InvalidJob, Job, SeenKeys, count_jobs, parse_job, read_lines
from spanledger.worker.serve import parse_customers, rhythm

from .conftest import chat_job


def test_a_large_file_is_never_in_memory(tmp_path: Path) -> None:
    """Reading sixty megabytes of jobs, with their ids, takes only a few megabytes."""
    path = tmp_path / "jobs.jsonl"
    body = json.dumps(chat_job("JOB", padding="x" * 3000))
    with path.open("w") as file:
        file.writelines(f"{body.replace('JOB', f'job-{n:06d}')}\n" for n in range(20_000))
    assert path.stat().st_size > 60_000_000

    seen = SeenKeys()
    count = 0
    tracemalloc.start()
    with path.open("rb") as file:
        for line in read_lines(file):
            job = parse_job(line)
            assert isinstance(job, Job)
            assert seen.add(job.custom_id, job.line) is None
            count += 1
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert seen.add("job-019999", 1) == 20_000
    seen.close()
    assert count == count_jobs(path) == 20_000
    assert peak < 4_000_000


@pytest.mark.parametrize(
    ("text", "jobs"),
    [("", 0), ("\n \n\t\r\n", 0), ("{}\n\n{}\n  \n", 2), ("{}\n{}", 2), (" \n {}", 1)],
)
def test_a_blank_line_is_not_a_job(tmp_path: Path, text: str, jobs: int) -> None:
    """The progress bar's total is the number of jobs, whatever else is in the file."""
    path = tmp_path / "jobs.jsonl"
    path.write_text(text)
    assert count_jobs(path) == jobs


def test_an_endless_line_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line beyond the limit is one bad job; its neighbours are read completely."""
    monkeypatch.setattr(jobs, "MAX_LINE_BYTES", 1000)
    good = json.dumps(chat_job("a")).encode()
    exact = good.ljust(999) + b"\n"
    path = tmp_path / "jobs.jsonl"
    path.write_bytes(exact + b"x" * 5000 + b"\n" + good.ljust(1000) + b"\n" + good)
    with path.open("rb") as file:
        lines = list(read_lines(file))
    assert [line.content is None for line in lines] == [False, True, True, False]
    assert [line.ended for line in lines] == [True, True, True, False]
    assert sum(line.length for line in lines) == path.stat().st_size
    for line in lines:
        content = path.read_bytes()[line.offset : line.offset + line.length]
        assert line.content is None or line.content == content
    assert isinstance(parse_job(lines[1]), InvalidJob)
    assert isinstance(parse_job(lines[3]), Job)


def test_the_day_has_a_rhythm() -> None:
    """Traffic is lowest at 4 a.m. and highest twelve hours later, every day."""
    hours = [rhythm(hour * 3600, 86400) for hour in range(48)]
    assert min(range(24), key=hours.__getitem__) == 4
    assert hours[16] == pytest.approx(1.0)
    assert hours[4] == pytest.approx(0.35)
    assert hours[:24] == pytest.approx(hours[24:])
    assert rhythm(4.0, 24) == pytest.approx(0.35)


def test_customers_are_names_with_keys() -> None:
    """Customers are read as NAME=KEY; without customers, the worker's own key is used."""
    assert parse_customers("acme=sk-1, globex=sk-2", None) == (("acme", "sk-1"), ("globex", "sk-2"))
    assert parse_customers("acme", "sk-9") == (("acme", "sk-9"),)
    assert parse_customers("", "sk-9") == (("default", "sk-9"),)
    with pytest.raises(UsageError, match="NAME=KEY"):
        parse_customers("=sk-1", None)
