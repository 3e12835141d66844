"""A run against a scripted gateway: results, resume, repair, malformed jobs, budget stop."""

from __future__ import annotations

import errno
import fcntl
import io
import json
import os
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from spanledger.errors import UsageError
from spanledger.worker.app import RunOptions, run_jobs
from spanledger.worker.progress import reporter
from spanledger.worker.report import closing_lines
from spanledger.worker.run import Summary

from .conftest import (
    BUDGET_REFUSAL,
    CHAT,
    EMBEDDING,
    Gateway,
    Reply,
    Seen,
    chat_job,
    read_results,
    succeed,
    write_jobs,
)


class Terminal:
    """Runs the worker in this process and keeps its output."""

    def __init__(self, folder: Path, gateway: Gateway) -> None:
        self.jobs = folder / "jobs.jsonl"
        self.results = folder / "results.jsonl"
        self.text = ""
        self._gateway = gateway

    def run(self, **options: Any) -> Summary:
        """One run of `worker run jobs.jsonl -o results.jsonl`."""
        screen = io.StringIO()
        arguments: dict[str, Any] = {
            "jobs": self.jobs,
            "results": self.results,
            "base_url": self._gateway.url,
            "telemetry": False,
            **options,
        }
        try:
            return run_jobs(
                RunOptions(**arguments), reporter(Console(file=screen, width=200), quiet=False)
            )
        finally:
            self.text = screen.getvalue()


@pytest.fixture
def terminal(tmp_path: Path, gateway: Gateway) -> Terminal:
    """A worker in an empty directory."""
    return Terminal(tmp_path, gateway)


def ids(results: Path) -> list[str]:
    """The custom ids in a results file, sorted."""
    return sorted(str(line["custom_id"]) for line in read_results(results))


def test_results_are_openai_batch_lines(terminal: Terminal, gateway: Gateway) -> None:
    """Chat and embedding jobs come back in OpenAI's format, and the spend is added up."""
    embed = {
        "custom_id": "e",
        "method": "POST",
        "url": "/v1/embeddings",
        "body": {"model": "m", "input": "x"},
    }
    odd = {"extra_headers": {"x-evil": "1"}, "timeout": 1, "seed": 7}
    write_jobs(terminal.jobs, [chat_job("a", future_field={"x": [1]}, **odd), embed])

    summary = terminal.run()

    assert (summary.exit_code, summary.counts.done, summary.counts.spend_nano) == (0, 2, 250)
    lines = {line["custom_id"]: line for line in read_results(terminal.results)}
    assert lines["a"]["id"].startswith("batch_req_")
    assert lines["a"]["response"] == {"status_code": 200, "request_id": "req-1", "body": CHAT}
    assert lines["e"]["response"]["body"] == EMBEDDING
    assert lines["a"]["error"] is lines["e"]["error"] is None
    sent = {request.path: request for request in gateway.seen}
    assert sent["/v1/chat/completions"].body == {
        **chat_job("a")["body"],
        "future_field": {"x": [1]},
        **odd,
    }
    assert "x-evil" not in sent["/v1/chat/completions"].headers
    assert sent["/v1/embeddings"].body["encoding_format"] == "float"


MALFORMED: list[tuple[Any, str | None, str]] = [
    ("{not json", None, "not valid JSON"),
    ("[" * 100_000, None, "not valid JSON"),
    ("[1]", None, "expected a JSON object, got an array"),
    ({**chat_job("x"), "custom_id": 5}, None, "custom_id is missing"),
    ({**chat_job("g"), "method": "GET"}, "g", "method 'GET' is not supported"),
    ({**chat_job("u"), "url": "/v1/images"}, "u", "url '/v1/images' is not supported"),
    ({**chat_job("b"), "body": "text"}, "b", "body must be a JSON object, got a string"),
    ({**chat_job("m"), "body": {"messages": []}}, "m", "body.model is missing"),
    ({**chat_job("n"), "body": {"model": "m"}}, "n", "body.messages is missing"),
    (chat_job("s", stream=True), "s", "a batch job cannot stream"),
    (chat_job("good"), "good", "custom_id 'good' is already used on line 1"),
]


def test_malformed_jobs_are_reported_and_the_rest_goes_on(
    terminal: Terminal, gateway: Gateway
) -> None:
    """Each bad line is reported with its number on the terminal and in the output, once."""
    write_jobs(
        terminal.jobs, [chat_job("good"), *[job for job, _, _ in MALFORMED], "", chat_job("last")]
    )

    summary = terminal.run()

    assert summary.exit_code == 1
    assert (summary.counts.done, summary.counts.failed) == (2, len(MALFORMED))
    assert sorted(gateway.prompts) == ["good", "last"]
    errors = [line for line in read_results(terminal.results) if line["error"]]
    for number, ((_, custom_id, problem), line) in enumerate(
        zip(MALFORMED, errors, strict=True), 2
    ):
        assert (line["custom_id"], line["response"]) == (custom_id, None)
        assert line["error"]["code"] == "invalid_job"
        assert line["error"]["message"].startswith(f"line {number}: ")
        assert problem in line["error"]["message"]
        assert line["error"]["message"][:60] in terminal.text
    before = terminal.results.read_bytes()
    assert terminal.run().exit_code == 1
    assert terminal.results.read_bytes() == before


def test_resume_sends_only_what_is_missing(terminal: Terminal, gateway: Gateway) -> None:
    """Finished jobs are skipped; failed ones are kept, and run again only on request."""
    gateway.reply = lambda request: (
        (400, {}, {"error": {"message": "no", "code": "bad"}})
        if request.prompt == "b"
        else succeed(request)
    )
    write_jobs(terminal.jobs, [chat_job("a"), chat_job("b")])
    first = terminal.run()
    assert (first.exit_code, first.counts.done, first.counts.failed) == (1, 1, 1)
    failed = next(line for line in read_results(terminal.results) if line["custom_id"] == "b")
    assert (failed["response"]["status_code"], failed["error"]) == (400, None)
    assert failed["response"]["body"] == {"error": {"message": "no", "code": "bad"}}
    assert "line 2 (b): 400 no" in terminal.text
    assert "--retry-failed" in " ".join(closing_lines(first, Path("out")))

    gateway.reply = succeed
    gateway.seen.clear()
    write_jobs(terminal.jobs, [chat_job("a"), chat_job("b"), chat_job("c")])
    second = terminal.run()
    assert gateway.prompts == ["c"]
    assert (second.exit_code, second.counts.skipped, second.failed_before) == (1, 2, 1)

    gateway.seen.clear()
    third = terminal.run(retry_failed=True)
    assert gateway.prompts == ["b"]
    assert (third.exit_code, third.counts.skipped, third.counts.done) == (0, 2, 1)
    assert ids(terminal.results) == ["a", "b", "c"]
    assert read_results(Path(f"{terminal.results}.failed-1")) == [failed]


def test_half_written_tail_is_moved_aside(terminal: Terminal, gateway: Gateway) -> None:
    """A line truncated by a crash is kept in a separate file and reported, and its job runs again."""
    write_jobs(terminal.jobs, [chat_job("a"), chat_job("b")])
    terminal.run()
    whole = terminal.results.read_bytes()
    first = whole.index(b"\n") + 1
    terminal.results.write_bytes(whole[: first + 40])
    gateway.seen.clear()

    summary = terminal.run()

    assert summary.exit_code == 0
    assert len(gateway.seen) == 1
    assert ids(terminal.results) == ["a", "b"]
    assert terminal.results.read_bytes()[:first] == whole[:first]
    assert Path(f"{terminal.results}.damaged-1").read_bytes() == whole[first : first + 40]
    assert "moved to results.jsonl.damaged-1" in terminal.text


def test_garbage_in_the_middle_is_moved_aside(terminal: Terminal, gateway: Gateway) -> None:
    """Unreadable lines are moved to separate files; good lines stay byte for byte."""
    write_jobs(terminal.jobs, [chat_job("a"), chat_job("b"), chat_job("c")])
    terminal.run(concurrency=1)
    good = terminal.results.read_bytes().splitlines(keepends=True)
    Path(f"{terminal.results}.damaged-1").write_bytes(b"from before")
    garbage = b"\x00\xff garbage\n"
    # The last line is complete but lost its newline.
    terminal.results.write_bytes(
        good[0] + garbage + good[1] + b'{"custom_id":"c"}\n' + good[2][:-1]
    )
    gateway.seen.clear()

    summary = terminal.run()

    assert (summary.exit_code, summary.counts.skipped, gateway.seen) == (0, 3, [])
    assert terminal.results.read_bytes() == b"".join(good)
    moved = Path(f"{terminal.results}.damaged-2").read_bytes()
    assert moved == garbage + b'{"custom_id":"c"}\n'
    assert "2 unreadable lines moved to results.jsonl.damaged-2" in terminal.text
    assert sorted(path.name for path in terminal.results.parent.iterdir()) == [
        "jobs.jsonl",
        "results.jsonl",
        "results.jsonl.damaged-1",
        "results.jsonl.damaged-2",
    ]


def test_missing_newline_alone_is_completed(terminal: Terminal, gateway: Gateway) -> None:
    """A last line that only lacks its newline is a result like any other."""
    write_jobs(terminal.jobs, [chat_job("a")])
    terminal.run()
    whole = terminal.results.read_bytes()
    terminal.results.write_bytes(whole[:-1])
    write_jobs(terminal.jobs, [chat_job("a"), chat_job("b")])
    terminal.run()
    assert terminal.results.read_bytes().startswith(whole)
    assert ids(terminal.results) == ["a", "b"]


def test_unusable_paths_are_usage_errors(terminal: Terminal) -> None:
    """Mistakes in paths are reported before anything is sent or written."""
    with pytest.raises(UsageError, match="does not exist"):
        terminal.run()
    write_jobs(terminal.jobs, [chat_job("a")])
    before = terminal.jobs.read_bytes()
    with pytest.raises(UsageError, match="is a directory"):
        terminal.run(results=terminal.jobs.parent)
    with pytest.raises(UsageError, match="both input and output"):
        terminal.run(results=terminal.jobs)
    with pytest.raises(UsageError, match="directory of the output"):
        terminal.run(results=terminal.jobs.parent / "no" / "results.jsonl")
    with pytest.raises(UsageError, match="not a regular file"):
        terminal.run(results=Path("/dev/null"))
    assert terminal.jobs.read_bytes() == before


def test_two_workers_cannot_share_an_output(terminal: Terminal) -> None:
    """The second worker on the same output is refused."""
    write_jobs(terminal.jobs, [chat_job("a")])
    with terminal.results.open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(UsageError, match="another worker"):
            terminal.run()
    assert terminal.run().exit_code == 0


def test_budget_stop_leaves_the_rest_for_later(terminal: Terminal, gateway: Gateway) -> None:
    """A final refusal ends the run: running jobs finish and nothing is marked as failed."""
    hold, released = threading.Event(), threading.Event()

    def reply(request: Seen) -> Reply:
        if request.prompt == "j3":  # refused while j2 is still running
            released.set()
            return BUDGET_REFUSAL
        if request.prompt == "j2":
            released.wait(10)
            hold.wait(0.2)
        return succeed(request)

    gateway.reply = reply
    write_jobs(terminal.jobs, [chat_job(f"j{n}") for n in range(1, 51)])

    summary = terminal.run(concurrency=2)

    assert (summary.exit_code, summary.stopped_by) == (3, "budget")
    assert "budget 'acme-month' is used up; it renews at 2026-12-01" in summary.stop_message
    done = ids(terminal.results)
    assert "j2" in done
    assert "j3" not in done
    assert (summary.counts.done, summary.counts.failed) == (len(done), 0)
    assert summary.remaining == 50 - len(done)
    assert summary.as_json()["jobs"] == 50
    # Sent once more when nothing else was running; the client obeyed x-should-retry: false.
    assert gateway.prompts.count("j3") == 2

    gateway.reply = succeed
    again = terminal.run()
    assert (again.exit_code, again.counts.skipped, again.counts.done) == (
        0,
        len(done),
        50 - len(done),
    )
    assert len(ids(terminal.results)) == 50


def test_own_holds_do_not_stop_a_run(terminal: Terminal, gateway: Gateway) -> None:
    """A budget filled only by the run's own jobs refuses some for now, but all get done."""
    room = threading.Semaphore(2)

    def reply(request: Seen) -> Reply:
        if not room.acquire(blocking=False):
            return BUDGET_REFUSAL
        try:
            threading.Event().wait(0.02)
            return succeed(request)
        finally:
            room.release()

    gateway.reply = reply
    write_jobs(terminal.jobs, [chat_job(f"j{n}") for n in range(20)])

    summary = terminal.run(concurrency=8)

    assert (summary.exit_code, summary.counts.done, summary.remaining) == (0, 20, 0)
    assert len(gateway.prompts) > 20  # some were refused, and sent again
    assert ids(terminal.results) == sorted(f"j{n}" for n in range(20))


def test_server_errors_are_retried_then_recorded(terminal: Terminal, gateway: Gateway) -> None:
    """The client retries temporary errors; a permanent one is one failed line, and the rest continues."""
    limited: Reply = (429, {"retry-after-ms": "1"}, {"error": {"message": "slow", "code": None}})
    broken: Reply = (500, {"retry-after-ms": "1"}, {"error": {"message": "broken"}})

    def reply(request: Seen) -> Reply:
        if request.prompt == "limited" and gateway.prompts.count("limited") == 1:
            return limited
        return broken if request.prompt == "broken" else succeed(request)

    gateway.reply = reply
    write_jobs(terminal.jobs, [chat_job("broken"), chat_job("limited"), chat_job("fine")])

    summary = terminal.run(retries=1)

    assert (summary.exit_code, summary.counts.done, summary.counts.failed) == (1, 2, 1)
    assert gateway.prompts.count("broken") == 2
    lines = {line["custom_id"]: line for line in read_results(terminal.results)}
    assert lines["broken"]["response"]["status_code"] == 500
    assert lines["limited"]["response"]["status_code"] == 200


def test_no_answer_is_an_error_without_response(terminal: Terminal) -> None:
    """A gateway that closes the connection fails the job with OpenAI's non-HTTP error format."""
    server = socket.create_server(("127.0.0.1", 0))

    def hang_up() -> None:
        client, _ = server.accept()
        client.recv(65_536)
        client.close()

    thread = threading.Thread(target=hang_up)
    thread.start()
    write_jobs(terminal.jobs, [chat_job("a")])
    summary = terminal.run(base_url=f"http://127.0.0.1:{server.getsockname()[1]}/v1", retries=0)
    thread.join()
    server.close()
    (line,) = read_results(terminal.results)
    assert summary.exit_code == 1
    assert (line["response"], line["error"]["code"]) == (None, "connection_error")


@pytest.mark.parametrize("fault", ["unknown key", "not there"])
def test_a_gateway_that_takes_no_job_stops_the_run(
    terminal: Terminal, gateway: Gateway, fault: str
) -> None:
    """An error that every job would get fails none: the run stops, says why, and can be resumed."""
    refusal: Reply = 401, {}, {"error": {"message": "the key is not known", "code": "x"}}
    gateway.reply = lambda _request: refusal
    write_jobs(terminal.jobs, [chat_job(f"j{n}") for n in range(200)])

    absent = {"base_url": "http://127.0.0.1:1/v1", "retries": 0} if fault == "not there" else {}
    summary = terminal.run(concurrency=4, **absent)

    assert (summary.exit_code, summary.stopped_by, summary.remaining) == (1, "gateway", 200)
    assert summary.counts.failed == 0
    assert len(gateway.seen) <= 8
    assert read_results(terminal.results) == []
    why = "the key is not known (HTTP 401)" if gateway.seen else "cannot connect to 127.0.0.1:1"
    assert why in next(
        line for line in closing_lines(summary, terminal.results) if "stopped" in line
    )
    gateway.reply = succeed
    assert terminal.run().exit_code == 0
    assert len(ids(terminal.results)) == 200


def test_a_full_disk_stops_the_run_and_keeps_whole_lines(
    terminal: Terminal, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line that cannot be written completely is removed, and the run says why it stops."""
    write_jobs(terminal.jobs, [chat_job(f"j{n}") for n in range(20)])
    real = os.write
    written: list[int] = []

    def write(fd: int, data: memoryview) -> int:
        written.append(fd)
        if len(written) == 3:
            return real(fd, data[:10])
        if len(written) == 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(fd, data)

    monkeypatch.setattr(os, "write", write)
    summary = terminal.run(concurrency=1)
    monkeypatch.undo()

    assert (summary.exit_code, summary.stopped_by) == (1, "output")
    assert "No space left on device" in terminal.text
    assert ids(terminal.results) == ["j0", "j1"]
    assert summary.remaining == 18
    assert terminal.run().exit_code == 0
    assert len(ids(terminal.results)) == 20


def test_summary_as_data_adds_up(terminal: Terminal) -> None:
    """The JSON summary carries money as a decimal string and accounts for every job."""
    write_jobs(terminal.jobs, [chat_job("a"), "x", chat_job("b")])
    summary = json.loads(json.dumps(terminal.run().as_json()))
    assert summary.pop("seconds") > 0
    assert summary == {
        "jobs": 3,
        "done": 2,
        "skipped": 0,
        "failed": 1,
        "failed_before": 0,
        "remaining": 0,
        "spend_usd": "0.00000025",
        "stopped_by": None,
        "stop_message": "",
    }
