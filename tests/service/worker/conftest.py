"""A real environment for the worker: a scripted server on loopback, and child processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from spanledger.worker.app import RunOptions, run_jobs
from spanledger.worker.progress import reporter
from spanledger.worker.run import Summary

Reply = tuple[int, dict[str, str], dict[str, Any]]

CHAT = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "hello"},
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
}
EMBEDDING = {
    "object": "list",
    "model": "m",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.25, -0.5]}],
    "usage": {"prompt_tokens": 3, "total_tokens": 3},
}
BUDGET_REFUSAL: Reply = (
    429,
    {"x-should-retry": "false"},
    {
        "error": {
            "message": "budget 'acme-month' is used up; it renews at 2026-12-01T00:00:00Z",
            "type": "insufficient_quota",
            "code": "budget_exceeded",
            "param": None,
        }
    },
)


@dataclass(frozen=True, slots=True)
class Seen:
    """A request as the server received it."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def prompt(self) -> str:
        """The last message's text."""
        return str(self.body["messages"][-1]["content"])


def succeed(request: Seen) -> Reply:
    """Answer as a gateway does, with the cost."""
    body = EMBEDDING if request.path.endswith("embeddings") else CHAT
    return 200, {"x-spanledger-cost-usd": "0.000000125", "x-request-id": "req-1"}, body


@dataclass(slots=True)
class Gateway:
    """A server whose answers a test scripts."""

    url: str = ""
    reply: Callable[[Seen], Reply] = succeed
    seen: list[Seen] = field(default_factory=list)

    @property
    def prompts(self) -> list[str]:
        """The prompts received, in order."""
        return [request.prompt for request in self.seen]


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    """A scripted gateway on a free port."""
    state = Gateway()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            headers = {key.lower(): value for key, value in self.headers.items()}
            request = Seen(self.path, headers, body)
            state.seen.append(request)
            status, extra, answer = state.reply(request)
            data = json.dumps(answer).encode()
            try:
                self.send_response(status)
                for name, value in extra.items():
                    self.send_header(name, value)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - inherited
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}/v1"
    yield state
    server.shutdown()
    server.server_close()
    thread.join()


def chat_job(name: str, **body: Any) -> dict[str, Any]:
    """A chat job whose prompt is its own id."""
    messages = [{"role": "user", "content": name}]
    return {
        "custom_id": name,
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {"model": "m", "messages": messages, **body},
    }


def write_jobs(path: Path, jobs: list[Any]) -> Path:
    """Write one job per line; strings are written unchanged."""
    lines = [job if isinstance(job, str) else json.dumps(job) for job in jobs]
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def read_results(path: Path) -> list[dict[str, Any]]:
    """All result lines; fails if one is incomplete."""
    text = path.read_text()
    assert text == "" or text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


class Child:
    """`spanledger worker …` as a separate process."""

    def __init__(self, *arguments: str, environ: dict[str, str], stdin: int | None = None) -> None:
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "OPENAI_"))}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "spanledger", "worker", *arguments],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**clean, **environ},
        )

    def finish(self) -> tuple[int, str, str]:
        """Wait until it ends; returns exit code, stdout, stderr."""
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err


@pytest.fixture
def start() -> Iterator[Callable[..., Child]]:
    """Start workers; those still running at the end are killed."""
    children: list[Child] = []

    def begin(*arguments: str, stdin: int | None = None, **environ: str) -> Child:
        children.append(Child(*arguments, environ=environ, stdin=stdin))
        return children[-1]

    yield begin
    for child in children:
        if child.process.poll() is None:
            child.process.kill()
        child.process.communicate()


def run_here(jobs: Path, results: Path, base_url: str, **options: Any) -> Summary:
    """A run in this process, quiet and without telemetry."""
    chosen = RunOptions(jobs, results, base_url, telemetry=False, **options)
    return run_jobs(chosen, reporter(Console(stderr=True), quiet=True))


def wait_for(condition: Callable[[], object], seconds: float = 30.0) -> None:
    """Poll until a condition is met."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.02)
