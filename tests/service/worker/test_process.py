"""The worker as a process: signals, pipes, its telemetry over OTLP, and endless traffic."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.support.otlp_sink import OtlpSink, SinkRequest

from spanledger.demo.sink import Sink, SinkSpan
from spanledger.sim.host import RunningSim
from spanledger.sim.server import sim_in_thread
from spanledger.worker.parts import BYTES_PER_TRACE
from spanledger.worker.tracing import wanted

from .conftest import (
    Child,
    Gateway,
    Reply,
    Seen,
    chat_job,
    read_results,
    run_here,
    succeed,
    wait_for,
    write_jobs,
)

Start = Callable[..., Child]


@pytest.fixture
def sim() -> Iterator[RunningSim]:
    """The real simulator, without delays."""
    with sim_in_thread(speed=0.0) as running:
        yield running


def test_spans_and_traceparent_reach_the_other_side(
    start: Start, gateway: Gateway, tmp_path: Path
) -> None:
    """One trace: workflow, task and call; the gateway receives the call's span as its parent."""
    embed = {
        "custom_id": "e",
        "method": "POST",
        "url": "/v1/embeddings",
        "body": {"model": "m", "input": "my secret text"},
    }
    jobs = write_jobs(tmp_path / "jobs.jsonl", [chat_job("my secret prompt"), embed])
    with closing(Sink()) as sink:
        child = start(
            *("run", str(jobs), "-o", str(tmp_path / "r.jsonl"), "--json"),
            OPENAI_BASE_URL=gateway.url,
            OTEL_EXPORTER_OTLP_ENDPOINT=sink.endpoint,
        )
        code, out, err = child.finish()
        spans = sink.snapshot()
        metrics = set(sink.metrics)

    assert code == 0, err
    assert json.loads(out)["done"] == 2  # nothing else is on stdout
    by_id = {span.span_id: span for span in spans}
    (workflow,) = [span for span in spans if span.name == "worker_run.workflow"]
    tasks = [span for span in spans if span.name == "job.task"]
    calls = {span.name: span for span in spans if span.kind == "CLIENT"}
    assert sorted(calls) == ["openai.chat", "openai.embeddings"]
    assert {span.trace_id for span in spans} == {workflow.trace_id}
    assert {span.parent_span_id for span in tasks} == {workflow.span_id}
    assert {by_id[call.parent_span_id].name for call in calls.values()} == {"job.task"}
    assert {span.service for span in spans} == {"spanledger-worker"}
    ids = {span.attributes["spanledger.job.custom_id"] for span in tasks}
    assert ids == {"my secret prompt", "e"}
    assert calls["openai.chat"].attributes["gen_ai.usage.input_tokens"] == 3
    for request in gateway.seen:
        call = calls["openai.chat" if "chat" in request.path else "openai.embeddings"]
        assert request.headers["traceparent"].split("-")[1:3] == [call.trace_id, call.span_id]
    assert "gen_ai.client.operation.duration" in metrics
    assert not [span for span in spans if _mentions(span, "secret")], "content is off by default"


def _mentions(span: SinkSpan, text: str) -> bool:
    shown = {k: v for k, v in span.attributes.items() if k != "spanledger.job.custom_id"}
    return text in repr(shown)


def test_a_missing_collector_is_one_line(start: Start, gateway: Gateway, tmp_path: Path) -> None:
    """Without a collector the run succeeds, stdout is clean, and one line warns."""
    jobs = write_jobs(tmp_path / "jobs.jsonl", [chat_job("a")])
    arguments = ("run", str(jobs), "-o", str(tmp_path / "r.jsonl"), "--json")
    code, out, err = start(
        *arguments,
        OPENAI_BASE_URL=gateway.url,
        OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1",
    ).finish()
    assert (code, json.loads(out)["done"]) == (0, 1)
    assert [line for line in err.splitlines() if line] == [NOT_SENT]


def _run(start: Start, gateway: Gateway, tmp_path: Path, sink: OtlpSink) -> list[str]:
    """The stderr of a run of three jobs."""
    jobs = write_jobs(tmp_path / "jobs.jsonl", [chat_job(name) for name in "abc"])
    code, out, err = start(
        *("run", str(jobs), "-o", str(tmp_path / "r.jsonl"), "--json"),
        OPENAI_BASE_URL=gateway.url,
        OTEL_EXPORTER_OTLP_ENDPOINT=sink.endpoint,
    ).finish()
    assert (code, json.loads(out)["done"]) == (0, 3)
    return [line for line in err.splitlines() if line]


NOT_SENT = (
    "telemetry could not be sent; the jobs are not affected (use --no-telemetry to turn it off)"
)


def test_telemetry_that_arrives_is_not_mentioned(
    start: Start, gateway: Gateway, tmp_path: Path
) -> None:
    """If the collector has everything, nothing is logged."""
    with OtlpSink() as sink:
        said = _run(start, gateway, tmp_path, sink)

    assert said == []
    assert len([span for span in sink.spans if span.kind == "CLIENT"]) == 3
    assert sink.count("gen_ai.client.operation.duration") == 3


def test_a_collector_that_stumbles_is_not_mentioned(
    start: Start, gateway: Gateway, tmp_path: Path
) -> None:
    """An export rejected at first and accepted on a retry counts as delivered."""
    refused: list[str] = []

    def answer(request: SinkRequest) -> int:
        first = request.path not in refused
        refused.append(request.path)
        return 503 if first else 200

    with OtlpSink() as sink:
        sink.answer = answer
        said = _run(start, gateway, tmp_path, sink)

    assert said == []
    assert len([span for span in sink.spans if span.kind == "CLIENT"]) == 3


def test_telemetry_goes_through_a_proxy(start: Start, gateway: Gateway, tmp_path: Path) -> None:
    """A collector reachable only through the environment's proxy gets everything."""
    jobs = write_jobs(tmp_path / "jobs.jsonl", [chat_job("a")])
    with OtlpSink() as proxy:
        code, _, err = start(
            *("run", str(jobs), "-o", str(tmp_path / "r.jsonl"), "--json"),
            OPENAI_BASE_URL=gateway.url,
            OTEL_EXPORTER_OTLP_ENDPOINT="http://collector.invalid:4318",
            HTTP_PROXY=proxy.endpoint,
            http_proxy=proxy.endpoint,
            NO_PROXY="127.0.0.1",
            no_proxy="127.0.0.1",
        ).finish()

    assert (code, err.strip()) == (0, "")
    assert len([span for span in proxy.spans if span.kind == "CLIENT"]) == 1


@pytest.mark.parametrize("signal_path", ["/v1/traces", "/v1/metrics"])
def test_what_a_collector_refuses_is_one_line(
    start: Start, gateway: Gateway, tmp_path: Path, signal_path: str
) -> None:
    """A collector that rejects one of the signals causes one warning."""
    with OtlpSink() as sink:
        sink.answer = lambda request: 400 if request.path == signal_path else 200
        said = _run(start, gateway, tmp_path, sink)

    assert said == [NOT_SENT]


def test_a_collector_that_never_answers_is_one_line(
    start: Start, gateway: Gateway, tmp_path: Path
) -> None:
    """Waiting for a collector ends with one warning."""
    release = threading.Event()

    def answer(_: SinkRequest) -> int:
        release.wait(60)
        return 200

    with OtlpSink() as sink:
        sink.answer = answer
        said = _run(start, gateway, tmp_path, sink)
        release.set()

    assert said == [NOT_SENT]


def test_traces_are_cut_by_bytes_where_content_is_traced(
    start: Start, gateway: Gateway, tmp_path: Path
) -> None:
    """Jobs of 20 kB with answers as long stay in traces that a store accepts, each job in one."""

    def reply(request: Seen) -> Reply:
        status, headers, body = succeed(request)
        message = {"role": "assistant", "content": "b" * 20_000}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        return status, headers, {**body, "choices": choices}

    gateway.reply = reply
    text = "é" * 5_000 + "a" * 10_000
    jobs = [
        chat_job(f"j{n}", messages=[{"role": "user", "content": f"{n} {text}"}]) for n in range(60)
    ]
    path = write_jobs(tmp_path / "jobs.jsonl", jobs)
    with OtlpSink() as sink:
        code, _, err = start(
            *("run", str(path), "-o", str(tmp_path / "r.jsonl"), "--trace-content"),
            OPENAI_BASE_URL=gateway.url,
            OTEL_EXPORTER_OTLP_ENDPOINT=sink.endpoint,
        ).finish()

    assert code == 0, err
    sizes: dict[str, int] = defaultdict(int)
    for span in sink.spans:
        sizes[span.trace_id] += sum(len(str(value)) for value in span.attributes.values())
    assert sum(sizes.values()) > 3 * BYTES_PER_TRACE
    assert max(sizes.values()) <= BYTES_PER_TRACE
    assert len(sizes) <= 6, "the estimate splits no more than needed"
    assert len([span for span in sink.spans if span.name == "job.task"]) == 60


def test_the_environment_can_switch_telemetry_off() -> None:
    """The standard variables and OpenLLMetry's own are obeyed."""
    assert wanted({})
    assert wanted({"OTEL_SDK_DISABLED": "false"})
    assert not wanted({"OTEL_SDK_DISABLED": "TRUE"})
    assert not wanted({"TRACELOOP_TRACING_ENABLED": "false"})


def test_ctrl_c_lets_running_jobs_end(start: Start, gateway: Gateway, tmp_path: Path) -> None:
    """The first Ctrl-C stops taking jobs and finishes the running ones; a rerun completes."""
    go = threading.Event()

    def reply(request: Seen) -> Reply:
        if request.prompt != "j0":
            go.wait(30)
        return succeed(request)

    gateway.reply = reply
    jobs = write_jobs(tmp_path / "jobs.jsonl", [chat_job(f"j{n}") for n in range(20)])
    results = tmp_path / "results.jsonl"
    child = start(
        *("run", str(jobs), "-o", str(results), "--json", "--concurrency", "2"),
        OPENAI_BASE_URL=gateway.url,
        OTEL_SDK_DISABLED="true",
    )
    wait_for(lambda: len(gateway.seen) == 3)  # j0 is done, two are running
    child.process.send_signal(signal.SIGINT)
    # It writes to stderr once the signal has been handled.
    assert child.process.stderr is not None
    assert "to finish; press Ctrl-C again" in child.process.stderr.readline()
    go.set()

    code, out, _ = child.finish()
    summary = json.loads(out)
    assert (code, summary["stopped_by"], summary["done"]) == (130, "interrupt", 3)
    assert summary["remaining"] == 17
    assert len(read_results(results)) == 3
    again = run_here(jobs, results, gateway.url)
    assert (again.exit_code, again.counts.skipped, len(read_results(results))) == (0, 3, 20)


def test_jobs_from_a_pipe_and_the_second_ctrl_c(
    start: Start, gateway: Gateway, tmp_path: Path
) -> None:
    """`-` reads jobs as they arrive; the second Ctrl-C waits neither for a job nor for the pipe."""
    never = threading.Event()

    def reply(request: Seen) -> Reply:
        if request.prompt == "b":
            never.wait(60)
        return succeed(request)

    gateway.reply = reply
    results = tmp_path / "results.jsonl"
    child = start(
        *("run", "-", "-o", str(results), "--no-telemetry", "--json"),
        stdin=subprocess.PIPE,
        OPENAI_BASE_URL=gateway.url,
    )
    assert child.process.stdin is not None
    assert child.process.stderr is not None
    child.process.stdin.write(f"{json.dumps(chat_job('a'))}\n{json.dumps(chat_job('b'))}\n")
    child.process.stdin.flush()
    wait_for(lambda: results.exists() and results.read_text().endswith("\n"))
    wait_for(lambda: len(gateway.seen) == 2)
    child.process.send_signal(signal.SIGINT)
    assert "waiting for 1 job to finish" in child.process.stderr.readline()
    child.process.send_signal(signal.SIGINT)
    # It must end even while the pipe stays open.
    assert child.process.wait(30) == 130
    never.set()
    code, out, err = child.finish()
    assert (json.loads(out)["done"], json.loads(out)["remaining"], code) == (1, None, 130)
    assert [line["custom_id"] for line in read_results(results)] == ["a"]
    assert "Traceback" not in err
    assert "Fatal" not in err


def test_run_and_serve_against_the_simulator(start: Start, sim: RunningSim, tmp_path: Path) -> None:
    """The simulator serves both a file of jobs and the worker's own traffic."""
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hello"}]}
    job = {**chat_job("a"), "body": body}
    embed = {
        "custom_id": "e",
        "method": "POST",
        "url": "/v1/embeddings",
        "body": {"model": "text-embedding-3-small", "input": ["x", "y"]},
    }
    jobs = write_jobs(tmp_path / "jobs.jsonl", [job, embed])
    serve = start(
        *("serve", "--no-telemetry", "--json", "--rate", "50", "--seed", "1"),
        *("--models", "gpt-4o-mini,text-embedding-3-small", "--customers", "acme=sk-2,globex=sk-3"),
        OPENAI_BASE_URL=sim.openai_url,
    )
    summary = run_here(jobs, tmp_path / "r.jsonl", sim.openai_url, api_key="sk-1")
    assert summary.exit_code == 0
    bodies = [line["response"]["body"] for line in read_results(tmp_path / "r.jsonl")]
    assert sorted(body["object"] for body in bodies) == ["chat.completion", "list"]

    wait_for(lambda: sim.state.bill.total.calls >= 40)
    serve.process.send_signal(signal.SIGTERM)
    code, out, err = serve.finish()
    served = json.loads(out)
    assert code == 0, err
    assert served["sent"] == served["done"] + served["aborted"]
    assert served["sent"] >= 38
    assert len(sim.state.bill.by_key) == 3
