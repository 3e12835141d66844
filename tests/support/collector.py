"""The real collector as a process for tests, and a Tempo that is a sink.

The program is the natively built one, or one on PATH; without it, tests are skipped and say so.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import grpc  # type: ignore[import-untyped]  # has no stubs
import httpx
import pytest
from google.protobuf.message import Message  # type: ignore[import-untyped]  # has no stubs
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.support.otlp_sink import OtlpSink
from tests.support.processes import clean_environment, poll

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDER = ROOT / "otel-collector"
BASE = FOLDER / "config.yaml"
OVERLAYS = FOLDER / "overlays"
MAX_MESSAGE_BYTES = 4 * 2**20
"""The default message limit of a gRPC server, including Tempo's."""


def otelcol() -> str:
    """The program; skips the test if there is none."""
    built = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "toolchain.py"), "--path"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    path = shutil.which("otelcol", path=f"{built}{os.pathsep}{os.environ.get('PATH', '')}")
    if path is None:
        pytest.skip("no otelcol: `make toolchain` builds it")
    return path


def overlay(name: str) -> Path:
    """The file of an overlay."""
    return OVERLAYS / f"{name}.yaml"


def free_port() -> int:
    """A currently free port."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def validate(files: Sequence[Path], env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """The output of `otelcol validate` for some files together."""
    return subprocess.run(
        [otelcol(), "validate", *_flags(files)],
        env={**_environment(), **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def _flags(files: Sequence[Path]) -> list[str]:
    return [word for file in files for word in ("--config", str(file))]


def _environment() -> dict[str, str]:
    return {name: value for name, value in clean_environment().items() if "OTELCOL" not in name}


class Collector:
    """A collector on free loopback ports. Its output is kept in `log`."""

    def __init__(
        self, folder: Path, *overlays: str, env: Mapping[str, str], base: Path = BASE
    ) -> None:
        self.http = f"http://127.0.0.1:{free_port()}"
        self.grpc = f"127.0.0.1:{free_port()}"
        self.health = f"127.0.0.1:{free_port()}"
        self.metrics_port = free_port()
        self.files = [base, *map(overlay, overlays)]
        self._log = folder / "otelcol.log"
        self._env = {
            "OTELCOL_HTTP_ENDPOINT": self.http.removeprefix("http://"),
            "OTELCOL_GRPC_ENDPOINT": self.grpc,
            "OTELCOL_HEALTH_ENDPOINT": self.health,
            "OTELCOL_METRICS_PORT": str(self.metrics_port),
            "OTELCOL_QUEUE_DIR": str(folder / "queue"),
            **env,
        }
        self._program = otelcol()
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Start, and wait until it is healthy."""
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [self._program, *_flags(self.files)],
                env={**_environment(), **self._env},
                stdout=log,
                stderr=log,
            )
        assert poll(self._is_up, 20), f"not healthy:\n{self.log}"
        return self

    def _is_up(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"ended:\n{self.log}"
        try:
            return httpx.get(f"http://{self.health}/").status_code == 200
        except httpx.TransportError:
            return False

    @property
    def log(self) -> str:
        """Its whole log."""
        return self._log.read_text(encoding="utf-8") if self._log.exists() else ""

    def own_metrics(self) -> str:
        """Its metrics, as Prometheus would scrape them."""
        return httpx.get(f"http://127.0.0.1:{self.metrics_port}/metrics").text

    def send(self, signal: str, message: Message) -> int:
        """Send an OTLP message; returns the answer's status."""
        return self.send_raw(signal, message.SerializeToString())

    def send_raw(self, signal: str, body: bytes) -> int:
        """Send bytes as an OTLP message; returns the answer's status."""
        return httpx.post(
            f"{self.http}/v1/{signal}",
            content=body,
            headers={"content-type": "application/x-protobuf"},
            timeout=30,
        ).status_code

    def kill(self) -> None:
        """Kill it."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """Stop it if it is running."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.kill()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


class RawSink(OtlpSink):
    """An OTLP/HTTP receiver that also keeps the complete messages."""

    def __init__(self, port: int = 0) -> None:
        self.messages: list[bytes] = []
        super().__init__(port)

    def take(self, path: str, headers: dict[str, str], body: bytes) -> int:
        """Receive one request; the collector may use any path that ends like OTLP's."""
        import gzip

        packed = headers.get("content-encoding") == "gzip"
        self.messages.append(gzip.decompress(body) if packed else body)
        return super().take(path, headers, body)

    def whole_spans(self) -> list[Span]:
        """Every span as it arrived, including events and status."""
        with self._lock:
            bodies = [
                body
                for body, request in zip(self.messages, self.requests, strict=False)
                if request.path.endswith("/v1/traces")
            ]
        return [
            span for body in bodies for span in _spans(ExportTraceServiceRequest.FromString(body))
        ]

    def text(self) -> str:
        """All received bytes, to search for what must not be in them."""
        return b"".join(self.messages).decode("latin-1")


def _spans(message: ExportTraceServiceRequest) -> list[Span]:
    return [
        span
        for group in message.resource_spans
        for scope in group.scope_spans
        for span in scope.spans
    ]


class TempoSink(RawSink):
    """Receives spans over gRPC, as Tempo does; can stop and return on the same port."""

    def __init__(self) -> None:
        super().__init__()
        self._grpc_port = free_port()
        self._grpc: grpc.Server | None = None
        self.come_back()

    @property
    def grpc_endpoint(self) -> str:
        """The value for TEMPO_OTLP_ENDPOINT."""
        return f"127.0.0.1:{self._grpc_port}"

    def come_back(self) -> None:
        """Listen."""
        options = [("grpc.max_receive_message_length", MAX_MESSAGE_BYTES), ("grpc.so_reuseport", 0)]
        self._grpc = grpc.server(ThreadPoolExecutor(4), options=options)
        add_TraceServiceServicer_to_server(_Servicer(self), self._grpc)  # type: ignore[no-untyped-call]  # generated
        self._grpc.add_insecure_port(self.grpc_endpoint)
        self._grpc.start()

    def go_away(self) -> None:
        """Stop listening."""
        if self._grpc is not None:
            self._grpc.stop(0).wait()
            self._grpc = None

    def close(self) -> None:
        """Stop both listeners."""
        self.go_away()
        super().close()


class _Servicer(TraceServiceServicer):
    def __init__(self, sink: TempoSink) -> None:
        self._sink = sink

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802  # the service's name for it
        self._sink.take(
            "/v1/traces", dict(context.invocation_metadata()), request.SerializeToString()
        )
        return ExportTraceServiceResponse()


class Backends:
    """A Tempo and a Prometheus, for one collector or several in turn."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self.tempo = self._stack.enter_context(TempoSink())
        self.prometheus = self._stack.enter_context(RawSink())

    @property
    def env(self) -> dict[str, str]:
        """The variables that point a collector to them."""
        return {
            "TEMPO_OTLP_ENDPOINT": self.tempo.grpc_endpoint,
            "PROMETHEUS_URL": self.prometheus.endpoint,
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def in_thread(target: Any, *arguments: Any) -> threading.Thread:
    """Run something in parallel with the test."""
    thread = threading.Thread(target=target, args=arguments, daemon=True)
    thread.start()
    return thread
