"""The running stack as tests use it: addresses, commands, stopping and restarting parts.

`SPANLEDGER_E2E` selects it: `native` (started on free ports, in a temporary directory) or
`compose` (the running one). `SPANLEDGER_E2E_<ADDRESS>` overrides a single address.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from spanledger.stack.programs import WANTED, find_programs
from tests.support.otlp_sink import OtlpSink, SinkSpan, spans_in
from tests.support.processes import clean_environment, poll

ROOT = Path(__file__).resolve().parents[2]
VISIBLE_S = 10.0
"""How long a finished request may take to be visible everywhere."""
FIRST_VISIBLE_S = 20.0
HEED_S = 8.0
ADDRESSES = ("gateway", "simulator", "otlp-http", "prometheus", "tempo", "grafana")

Labels = dict[str, str]


class Target(Protocol):
    """A running stack."""

    urls: Mapping[str, str]
    """URLs by the names of `ADDRESSES`; without Tempo or Grafana, theirs are missing."""
    sink: OtlpSink | None
    """What a vendor receives, if that can be observed."""
    why_no_tempo: str
    ledger_url: str
    """The ledger file, if it is accessible."""

    def command(self, *words: str) -> Any:
        """Run `spanledger …` on the stack's ledger with --json; returns its output."""

    def signal(self, part: str, number: signal.Signals) -> None:
        """Signal a part and wait until it ends; SIGKILL if it does not."""

    def start(self) -> None:
        """Restart a stopped part."""

    def memory(self) -> dict[str, int] | None:
        """Resident bytes by part, if they can be measured."""


class NativeTarget:
    """A stack of local processes, on free ports.

    Args:
        words: arguments of `spanledger stack up`.
        env: its environment, in addition to the variables that name programs.
        sink: the endpoint a vendor's overlay sends to.
    """

    def __init__(
        self,
        folder: Path,
        words: Sequence[str],
        env: Mapping[str, str],
        sink: OtlpSink | None = None,
    ) -> None:
        self.sink = sink
        self._folder = folder
        given = {name: os.environ[name] for name in _PASSED if name in os.environ}
        self._env = {**given, "SPANLEDGER_GRAFANA": "", **env}
        missing = find_programs({**os.environ, **self._env}).missing
        self.why_no_tempo = missing.get("tempo", "")
        told = self._up("--port-base", "0", *words)
        ports = told["ports"]
        self.urls: Mapping[str, str] = {
            name: f"http://127.0.0.1:{ports[name]}" for name in ADDRESSES if name not in missing
        }
        self.ledger_url = f"sqlite:///{folder / 'ledger.db'}"

    def _up(self, *words: str) -> Any:
        return self._run("stack", "up", "--folder", str(self._folder), *words)

    def _run(self, *words: str) -> Any:
        done = subprocess.run(
            [sys.executable, "-m", "spanledger", *words, "--json"],
            cwd=ROOT,
            env={**clean_environment(), **self._env},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def command(self, *words: str) -> Any:
        """See `Target`."""
        return self._run(*words, "--ledger", self.ledger_url)

    def _parts(self) -> list[dict[str, Any]]:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "spanledger", "stack", "status", "--json"),
                *("--folder", str(self._folder)),
            ],
            cwd=ROOT,
            env={**clean_environment(), **self._env},
            capture_output=True,
            text=True,
            check=False,
        )
        return list(json.loads(done.stdout)["parts"])

    def signal(self, part: str, number: signal.Signals) -> None:
        """See `Target`."""
        (pid,) = [p["pid"] for p in self._parts() if p["name"] == part]
        os.kill(pid, number)
        if not poll(lambda: self._state(part) == "ended", HEED_S):
            os.kill(pid, signal.SIGKILL)
            assert poll(lambda: self._state(part) == "ended"), f"{part} did not end"

    def _state(self, part: str) -> str:
        return next(str(p["state"]) for p in self._parts() if p["name"] == part)

    def start(self) -> None:
        """See `Target`."""
        self._up()

    def memory(self) -> dict[str, int] | None:
        """See `Target`."""
        return {p["name"]: p["memory_bytes"] for p in self._parts() if p["memory_bytes"]}

    def close(self) -> None:
        """Stop the stack."""
        self._run("stack", "down", "--folder", str(self._folder))


_PASSED = (
    "SPANLEDGER_TOOLCHAIN",
    "SPANLEDGER_GRAFANA_HOME",
    *(wanted.variable for wanted in WANTED.values()),
)


class ComposeTarget:
    """The running Compose stack; its ports are those of .env.

    Its worker is stopped during tests, so they know who sent what.

    Args:
        sink: where its collector sends in addition to Tempo, if the stack was started that way.
    """

    why_no_tempo = ""
    ledger_url = ""
    _PORTS: Mapping[str, tuple[str, str]] = {
        "gateway": ("GATEWAY_PORT", "4000"),
        "simulator": ("SIM_PORT", "4010"),
        "otlp-http": ("OTLP_HTTP_PORT", "4318"),
        "prometheus": ("PROMETHEUS_PORT", "9090"),
        "tempo": ("TEMPO_PORT", "3200"),
        "grafana": ("GRAFANA_PORT", "3000"),
    }
    _SERVICES: Mapping[str, str] = {"simulator": "sim"}

    def __init__(self, sink: OtlpSink | None = None) -> None:
        self.sink = sink
        file = ROOT / ".env"
        lines = file.read_text("utf-8").splitlines() if file.exists() else []
        env = dict(line.split("=", 1) for line in lines if "=" in line and line[0] != "#")
        self.urls: Mapping[str, str] = {
            name: os.environ.get(
                f"SPANLEDGER_E2E_{name.replace('-', '_').upper()}",
                f"http://127.0.0.1:{env.get(variable) or usual}",
            )
            for name, (variable, usual) in self._PORTS.items()
        }
        if sink is not None and not _is_tempo(self.urls["tempo"]):
            self.why_no_tempo = "what answers in its place is none"
            self.urls = {name: url for name, url in self.urls.items() if name != "tempo"}
        self.start()

    def _compose(self, *words: str) -> str:
        return subprocess.run(
            ["docker", "compose", *words], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout

    def command(self, *words: str) -> Any:
        """See `Target`."""
        inside = ("exec", "-T", "gateway", "spanledger", *words, "--json")
        return json.loads(self._compose(*inside))

    def signal(self, part: str, number: signal.Signals) -> None:
        """See `Target`; Docker does not restart what was stopped by hand."""
        service = self._SERVICES.get(part, part)
        self._compose("kill", "--signal", number.name, service)
        self._compose("stop", service)

    def start(self) -> None:
        """See `Target`."""
        self._compose("up", "--detach", "--no-build", "--wait", "--scale", "worker=0")

    def close(self) -> None:
        """Restart the worker."""
        self._compose("up", "--detach", "--no-build")

    def memory(self) -> dict[str, int] | None:
        """Not measured: the containers' own limits apply."""
        return None


@contextmanager
def open_target(folder: Path) -> Iterator[Target]:
    """The stack to test, or a skip that says what is missing."""
    which = os.environ.get("SPANLEDGER_E2E", "native")
    if which == "compose":
        done = subprocess.run(
            [sys.executable, ROOT / "tools" / "compose.py", "check"],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            pytest.skip(f"no compose stack: {done.stderr.strip().removeprefix('error: ')}")
        with open_sink() as sink:
            compose = ComposeTarget(sink)
            try:
                yield compose
            finally:
                compose.close()
        return
    needs_programs()
    with OtlpSink() as sink:
        # A worker that hardly ever sends: it is idle, and tests know who sent what.
        words = ("--rate", "0.01", "--sim-speed", "20", "--vendor", "otlp")
        env = {"OTLP_ENDPOINT": sink.endpoint, "OTLP_INCLUDE_CONTENT": "true"}
        target = NativeTarget(folder, words, env, sink)
        try:
            yield target
        finally:
            target.close()


@contextmanager
def open_sink() -> Iterator[OtlpSink | None]:
    """The sink that the Compose stack sends to, at SPANLEDGER_E2E_SINK_PORT; None if unset."""
    port = os.environ.get("SPANLEDGER_E2E_SINK_PORT")
    if port is None:
        yield None
        return
    with OtlpSink(int(port), "0.0.0.0") as sink:  # containers come from another address
        yield sink


def _is_tempo(url: str) -> bool:
    """Whether Tempo answers at this address."""
    try:
        return httpx.get(f"{url}/api/echo", trust_env=False).text == "echo"
    except httpx.TransportError:
        return False


def needs_programs() -> None:
    """Skip if a native stack would lack what tests query."""
    missing = find_programs().missing
    if lacking := [name for name in ("collector", "prometheus") if name in missing]:
        pytest.skip(f"no native stack: {lacking[0]} {missing[lacking[0]]}")


class Stack:
    """Queries and requests that tests send to the stack."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.urls = target.urls
        self.http = httpx.Client(trust_env=False, timeout=30)
        self._keys: dict[str, str] = {}

    def key(self, customer: str) -> str:
        """A key of a customer."""
        if customer not in self._keys:
            made = self.target.command("keys", "create", "--customer", customer)
            self._keys[customer] = made["key"]
        return self._keys[customer]

    def ask(
        self,
        text: str = "hello",
        *,
        model: str = "fast",
        customer: str = "e2e",
        traceparent: str = "",
        **fields: Any,
    ) -> httpx.Response:
        """One non-streamed chat request, whatever its status."""
        context = {"traceparent": traceparent} if traceparent else {}
        return self.http.post(
            f"{self.urls['gateway']}/v1/chat/completions",
            headers={"authorization": f"Bearer {self.key(customer)}", **context},
            json={
                "model": model,
                "messages": [{"role": "user", "content": text}],
                "max_tokens": 20,
                **fields,
            },
        )

    def fault(self, model: str, fault: str, for_requests: int) -> None:
        """Make the simulated provider fail."""
        body = {"model": model, "fault": fault, "for_requests": for_requests}
        answer = self.http.post(f"{self.urls['simulator']}/sim/faults", json=body)
        answer.raise_for_status()

    def query(self, expression: str) -> list[tuple[Labels, float]]:
        """An instant query of Prometheus; empty while it does not answer."""
        try:
            answer = self.http.post(
                f"{self.urls['prometheus']}/api/v1/query", data={"query": expression}
            )
        except httpx.TransportError:
            return []
        if answer.status_code != 200:
            assert answer.status_code == 503, answer.text
            return []
        result = answer.json()["data"]["result"]
        return [(entry["metric"], float(entry["value"][1])) for entry in result]

    def alerts(self) -> list[dict[str, Any]]:
        """The alerts of Prometheus that are pending or firing."""
        answer = self.http.get(f"{self.urls['prometheus']}/api/v1/alerts").raise_for_status()
        return list(answer.json()["data"]["alerts"])

    def samples(self, series: str, window: str) -> list[tuple[Labels, list[float]]]:
        """The times at which series have a sample, as they were stored."""
        answer = self.http.post(
            f"{self.urls['prometheus']}/api/v1/query", data={"query": f"{series}[{window}]"}
        ).raise_for_status()
        result = answer.json()["data"]["result"]
        return [(one["metric"], [at for at, _ in one["values"]]) for one in result]

    def value(self, expression: str) -> float:
        """The value of an expression with one result; 0 if there is none."""
        found = self.query(expression)
        assert len(found) <= 1, found
        return found[0][1] if found else 0.0

    def exemplars(self, series: str) -> list[str]:
        """Trace ids of the exemplars of series."""
        answer = self.http.post(
            f"{self.urls['prometheus']}/api/v1/query_exemplars",
            data={"query": series, "start": "0", "end": "9999999999"},
        ).raise_for_status()
        return [
            exemplar["labels"]["trace_id"]
            for one in answer.json()["data"]
            for exemplar in one["exemplars"]
        ]

    @property
    def has_tempo(self) -> bool:
        """Whether there is a Tempo to ask."""
        return "tempo" in self.urls

    def needs_tempo(self) -> None:
        """Skip if there is none."""
        if not self.has_tempo:
            pytest.skip(f"Tempo: {self.target.why_no_tempo}")

    def trace(self, trace_id: str) -> list[SinkSpan]:
        """The spans of a trace: Tempo's, or without one, the sink's behind the collector."""
        if not self.has_tempo:
            assert self.target.sink is not None
            return [s for s in self.target.sink.by_id().values() if s.trace_id == trace_id]
        return tempo_spans(self.tempo_trace(trace_id))

    def tempo_trace(self, trace_id: str) -> bytes:
        """A trace as Tempo sends it; empty if it has none."""
        try:
            answer = self.http.get(
                f"{self.urls['tempo']}/api/traces/{trace_id}",
                headers={"accept": "application/protobuf"},
            )
        except httpx.TransportError:
            return b""
        if answer.status_code != 200:
            assert answer.status_code in (404, 500, 503), answer.text
            return b""
        return answer.content

    def search(self, query: str) -> list[str]:
        """Trace ids that a TraceQL query finds."""
        answer = self.http.get(
            f"{self.urls['tempo']}/api/search", params={"q": query, "limit": "100"}
        )
        if answer.status_code != 200:
            return []
        # Tempo omits leading zeros.
        return [trace["traceID"].rjust(32, "0") for trace in answer.json().get("traces") or ()]

    def requests(self, customer: str) -> list[dict[str, Any]]:
        """A customer's requests according to the ledger."""
        found = self.target.command("requests", "--customer", customer, "--limit", "1000")
        return list(found)


def tempo_spans(message: bytes) -> list[SinkSpan]:
    """Tempo's answer has the same fields as an export."""
    return list(spans_in(ExportTraceServiceRequest.FromString(message)))


def named(spans: Iterable[SinkSpan], service: str, name: str, kind: str) -> list[SinkSpan]:
    """Spans by service, name and kind."""
    return [
        span
        for span in spans
        if (span.resource.get("service.name"), span.name, span.kind) == (service, name, kind)
    ]


def run_program(*arguments: str, env: Mapping[str, str]) -> str:
    """Run a Python program as users do; returns its output."""
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**clean_environment(), **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=90,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
