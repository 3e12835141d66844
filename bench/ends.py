"""The two ends of a measurement: a provider with one fixed answer, a telemetry sink, and the load.

nginx and wrk if installed, because they use the least CPU; otherwise a few lines of
asyncio each. None of their CPU is counted.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.processes import OTHER_CORE, fetch, free_port, pinned, server
from bench.wire import ANSWER, REQUEST, drive

SINK = Path(__file__).with_name("sink.py")
WIRE = Path(__file__).with_name("wire.py")
NGINX = """\
daemon off;
worker_processes 1;
pid nginx.pid;
error_log stderr;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  client_max_body_size 1m;
  server {{
    listen 127.0.0.1:{port};
    location = /hits {{ stub_status; }}
    location / {{ default_type application/json; return 200 '{answer}'; }}
  }}
}}
"""
WRK = """\
wrk.method = "POST"
wrk.body = [==[{body}]==]
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer {key}"
function done(summary, latency)
  local failed = summary.errors
  io.write(string.format(
    '\\n{{"p50_ms": %.3f, "p99_ms": %.3f, "requests": %d, "seconds": %.6f, "failed": %d}}\\n',
    latency:percentile(50) / 1000, latency:percentile(99) / 1000,
    summary.requests, summary.duration / 1000000,
    failed.connect + failed.read + failed.write + failed.status + failed.timeout))
end
"""


@dataclass(frozen=True, slots=True)
class Upstream:
    """The provider with one fixed answer."""

    name: str
    port: int
    hits: Callable[[], int]
    """Number of requests answered; a subject's CPU is divided by it."""


@dataclass(frozen=True, slots=True)
class Load:
    """What the client saw in one round."""

    requests: int
    failed: int
    seconds: float
    p50_ms: float
    p99_ms: float


def nginx() -> str | None:
    """Find nginx, even if the user's PATH lacks the system directories."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


@contextmanager
def upstream() -> Iterator[Upstream]:
    """Run the provider: nginx or asyncio."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/hits"
    with tempfile.TemporaryDirectory() as folder:
        if program := nginx():
            conf = Path(folder) / "nginx.conf"
            conf.write_text(NGINX.format(port=port, answer=ANSWER), encoding="utf-8")
            command = [program, "-p", folder, "-c", str(conf), "-e", "stderr"]
            pattern, own = rb"(?:\d+ ){2}(\d+)", 1
        else:
            command = [sys.executable, str(WIRE), str(port)]
            pattern, own = rb"(\d+)", 0
        with server(command, OTHER_CORE, {}) as started:
            started.wait_for(lambda: fetch(url) is not None, "the upstream", 20)
            asked = 0

            def hits() -> int:
                nonlocal asked
                found = re.search(pattern, fetch(url) or b"")
                if found is None:
                    raise SystemExit("the upstream does not count its requests")
                asked += own  # nginx counts these queries as well
                return int(found[1]) - asked

            yield Upstream("nginx" if program else "asyncio", port, hits)


@contextmanager
def sink() -> Iterator[tuple[int, Callable[[], int]]]:
    """An OTLP endpoint: its port and the number of spans received."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/spans"
    command = [sys.executable, str(SINK), str(port)]
    with server(command, OTHER_CORE, {}) as started:
        started.wait_for(lambda: fetch(url) is not None, "the sink", 30)
        yield port, lambda: int(fetch(url) or b"0")


def load(port: int, key: str, seconds: int, concurrency: int) -> Load:
    """Send completions over kept-alive connections as fast as they are answered."""
    if program := shutil.which("wrk"):
        return _wrk(program, port, key, seconds, concurrency)
    command = [sys.executable, "-c", "import bench.ends as e, sys; e.drive_alone(*sys.argv[1:])"]
    words = [*pinned(OTHER_CORE), *command, str(port), key, str(seconds), str(concurrency)]
    ended = subprocess.run(
        words, capture_output=True, text=True, check=True, cwd=WIRE.parent.parent
    )
    return Load(**json.loads(ended.stdout))


def client_name() -> str:
    """The load generator in use."""
    return "wrk" if shutil.which("wrk") else "asyncio"


def _wrk(program: str, port: int, key: str, seconds: int, concurrency: int) -> Load:
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "post.lua"
        script.write_text(WRK.format(body=REQUEST, key=key), encoding="utf-8")
        size = ["-t1", f"-c{concurrency}", f"-d{seconds}s", "--timeout", "30s"]
        url = f"http://127.0.0.1:{port}/v1/chat/completions"
        command = [*pinned(OTHER_CORE), program, *size, "-s", str(script), url]
        ended = subprocess.run(command, capture_output=True, text=True, check=True)
    return Load(**json.loads(ended.stdout.strip().splitlines()[-1]))


def drive_alone(port: str, key: str, seconds: str, concurrency: str) -> None:
    """Generate load in a separate process that can be pinned to a core; prints the results."""
    result = asyncio.run(drive(int(port), key, int(seconds), int(concurrency)))
    result.latencies_s.sort()
    middle, tail = (result.latencies_s[len(result.latencies_s) * q // 100] for q in (50, 99))
    found = {
        "requests": len(result.latencies_s),
        "failed": result.failed,
        "seconds": result.seconds,
        "p50_ms": middle * 1000,
        "p99_ms": tail * 1000,
    }
    print(json.dumps(found))
