"""CPU per non-streaming request: spanledger's gateway and LiteLLM's proxy, in the same run.

spanledger runs as it would in earnest: a virtual key, a durable ledger, two budgets on every
request, every span and metric shipped to an OTLP endpoint; the shipper's CPU is counted until the
last row is out. LiteLLM's proxy runs one worker without a database, as its plainest form. What is
counted is the process trees' CPU time, so a busy machine changes little. Linux only.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.wire import Load, load

ROOT = Path(__file__).resolve().parent.parent
UV = os.environ.get("UV", "uv")
TICK_US = 1_000_000 / os.sysconf("SC_CLK_TCK")
CONFIG = """\
model_list:
  - model_name: bench
    litellm_params: {{model: openai/gpt-4o-mini, api_base: "http://127.0.0.1:{port}/v1", api_key: x}}
"""
BUDGETS = """\
budgets:
  - {name: everything, limit: 1000000, period: month}
  - {name: each-customer, customer: "*", limit: 100000, period: day}
"""


@dataclass
class Measurement:
    """What one server needed for its requests."""

    name: str
    requests: int
    cpu_us_per_request: float
    cpu_us_by_process: dict[str, float]
    requests_per_second: float
    p50_ms: float
    p99_ms: float
    ready_s: float
    resident_mb: dict[str, float]


def main() -> None:
    """Measure both, print a table or `--json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=20_000, help="for spanledger")
    parser.add_argument("--litellm-requests", type=int, default=1_000, help="0 leaves LiteLLM out")
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = []
    with tempfile.TemporaryDirectory() as folder, upstream() as port:
        work = Path(folder)
        found.append(spanledger(work, port, options.requests, options.concurrency))
        if options.litellm_requests:
            found.append(litellm(work, port, options.litellm_requests, options.concurrency))
    if options.json:
        print(json.dumps([asdict(item) for item in found], indent=2))
    else:
        print_table(found)


def spanledger(work: Path, upstream_port: int, requests: int, concurrency: int) -> Measurement:
    """The gateway with key, budgets, durable ledger and shipping."""
    port = free_port()
    ledger = f"sqlite:///{work / 'ledger.db'}"
    (work / "bench.yaml").write_text(CONFIG.format(port=upstream_port) + BUDGETS)
    command = [sys.executable, "-m", "spanledger"]
    made = subprocess.run(
        [*command, "keys", "create", "--customer", "bench", "--json", "--ledger", ledger],
        capture_output=True,
        text=True,
        check=True,
    )
    start = [*command, "gateway", "--config", str(work / "bench.yaml"), "--port", str(port)]
    environment = {
        "SPANLEDGER_LEDGER_URL": ledger,
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{upstream_port}",
    }
    return measure(
        "spanledger",
        start,
        environment,
        f"http://127.0.0.1:{port}/readyz",
        json.loads(made.stdout)["key"],
        (requests, concurrency),
        lambda: outbox_is_empty(port),
    )


def outbox_is_empty(port: int) -> bool:
    """Whether the shipper has sent every row."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    rows = [float(line.split()[-1]) for line in lines if line.startswith("spanledger_outbox_rows")]
    if not rows:
        raise SystemExit("/metrics has no spanledger_outbox_rows")
    return sum(rows) == 0


def litellm(work: Path, upstream_port: int, requests: int, concurrency: int) -> Measurement:
    """LiteLLM's proxy of the locked version, one worker, no database."""
    lock = tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))
    version = next(item["version"] for item in lock["package"] if item["name"] == "litellm")
    port = free_port()
    (work / "litellm.yaml").write_text(CONFIG.format(port=upstream_port))
    tool = [UV, "tool", "run", "--python", sys.executable, "--from", f"litellm[proxy]=={version}"]
    subprocess.run([*tool, "python", "-c", ""], check=True, capture_output=True)
    start = [*tool, "litellm", "--config", str(work / "litellm.yaml"), "--host", "127.0.0.1"]
    start += ["--port", str(port), "--num_workers", "1"]
    key = f"sk-{secrets.token_hex(32)}"
    environment = {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_LOG": "ERROR",
        "LITELLM_MASTER_KEY": key,
    }
    ready = f"http://127.0.0.1:{port}/health/liveliness"
    name = f"LiteLLM proxy {version}"
    return measure(name, start, environment, ready, key, (requests, concurrency), lambda: True)


def measure(
    name: str,
    command: list[str],
    environment: dict[str, str],
    ready_url: str,
    key: str,
    size: tuple[int, int],
    is_done: Callable[[], bool],
) -> Measurement:
    """Start a server, warm it up, load it, and count the CPU of its process tree."""
    requests, concurrency = size
    port = int(ready_url.split(":")[2].split("/")[0])
    with process(command, environment) as (server, log):
        began = time.monotonic()
        wait_until(lambda: answers(ready_url), 120, server, log)
        ready_s = time.monotonic() - began
        asyncio.run(load(port, key, max(concurrency, requests // 10), concurrency))
        wait_until(is_done, 120, server, log)
        before = cpu_us(server.pid)
        result = asyncio.run(load(port, key, requests, concurrency))
        wait_until(is_done, 300, server, log)
        after = cpu_us(server.pid)
        resident = resident_mb(server.pid)
    demand_success(name, result)
    spent = {what: after[what] - before.get(what, 0.0) for what in after}
    latencies = sorted(result.latencies_s)
    return Measurement(
        name=name,
        requests=result.sent,
        cpu_us_per_request=round(sum(spent.values()) / result.sent, 1),
        cpu_us_by_process={what: round(us / result.sent, 1) for what, us in spent.items()},
        requests_per_second=round(result.sent / result.seconds, 1),
        p50_ms=round(latencies[len(latencies) // 2] * 1000, 2),
        p99_ms=round(latencies[len(latencies) * 99 // 100] * 1000, 2),
        ready_s=round(ready_s, 2),
        resident_mb={what: round(mb, 1) for what, mb in resident.items()},
    )


def demand_success(name: str, result: Load) -> None:
    """A measurement of failures measures nothing."""
    if result.failed or not result.sent:
        raise SystemExit(f"{name}: {result.failed} of {result.sent} failed: {result.first_failure}")


@contextmanager
def upstream() -> Iterator[int]:
    """The fixed provider and OTLP endpoint, in a process of its own; its port."""
    port = free_port()
    command = [sys.executable, str(Path(__file__).with_name("wire.py")), str(port)]
    with process(command, {}) as (server, log):
        wait_until(lambda: answers(f"http://127.0.0.1:{port}/"), 20, server, log)
        yield port


@contextmanager
def process(
    command: list[str], environment: dict[str, str]
) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A server that is ended, with what it printed in a file."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        log = folder / "log"
        output = stack.enter_context(log.open("wb"))
        started = subprocess.Popen(
            command,
            env={**os.environ, **environment},
            cwd=folder,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            yield started, log
        finally:
            started.terminate()
            try:
                started.wait(30)
            except subprocess.TimeoutExpired:
                started.kill()


def wait_until(
    is_true: Callable[[], bool], timeout_s: float, server: subprocess.Popen[bytes], log: Path
) -> None:
    """Poll; a server that ended or took too long ends the run with its last words."""
    deadline = time.monotonic() + timeout_s
    while not is_true():
        if server.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"{server.args!r} did not do:\n{log.read_text()[-2000:]}")
        time.sleep(0.02)


def answers(url: str) -> bool:
    """Whether a URL gives 200."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - loopback, ours
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def tree(pid: int) -> Iterator[int]:
    """A process and all below it."""
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from tree(int(child))


def cpu_us(pid: int) -> dict[str, float]:
    """CPU time of a process tree, user and system, by what each process is."""
    found: dict[str, float] = {}
    for member in tree(pid):
        fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
        name = role(member)
        found[name] = found.get(name, 0.0) + (int(fields[11]) + int(fields[12])) * TICK_US
    return found


def role(pid: int) -> str:
    """What a process of the tree does, by its command line."""
    words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    return "shipper" if any(word in ("ship", "shipper") for word in words) else "server"


def resident_mb(pid: int) -> dict[str, float]:
    """Resident memory of a process tree, by what each process is."""
    found: dict[str, float] = {}
    for member in tree(pid):
        lines = Path(f"/proc/{member}/status").read_text().splitlines()
        kilobytes = sum(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))
        found[role(member)] = found.get(role(member), 0.0) + kilobytes / 1024
    return found


def print_table(found: list[Measurement]) -> None:
    """What a reader wants first: CPU, and the ratio."""
    for item in found:
        parts = ", ".join(f"{what} {us:.0f}" for what, us in item.cpu_us_by_process.items())
        memory = ", ".join(f"{what} {mb:.0f} MB" for what, mb in item.resident_mb.items())
        print(f"{item.name}: {item.cpu_us_per_request:.0f} CPU-µs a request ({parts})")
        print(
            f"  {item.requests_per_second:.0f} requests/s, p50 {item.p50_ms} ms, p99 {item.p99_ms} ms,"
            f" ready in {item.ready_s} s, resident {memory}"
        )
    if len(found) > 1:
        ratio = found[1].cpu_us_per_request / found[0].cpu_us_per_request
        print(f"{ratio:.0f} times fewer CPU-µs than {found[1].name}")


if __name__ == "__main__":
    main()
