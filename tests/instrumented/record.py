"""Runs real applications under various instrumentations and stores what they send as fixtures.

`python -m tests.instrumented.record [name …]` installs the packages named here (uv, npm), runs each
file of apps/ against a provider on loopback, and writes payloads/NAME.json. The tests that read the
fixtures need none of the packages. Text that must not be exported begins with `planted-`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from google.protobuf.json_format import MessageToDict  # type: ignore[import-untyped]  # has no stubs

from tests.instrumented import MESSAGES, PAYLOADS, PLANTED

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
UV = ROOT / ".tools" / "bin" / "uv"
GATEWAY_PORT = "4000"
"""Replaces the provider's port in the fixtures: the port the collector believes is the gateway's."""
INPUT_TOKENS, OUTPUT_TOKENS = 93, 7
"""The usage the provider reports for each chat."""
EMBEDDING_TOKENS = 5


@dataclass(frozen=True, slots=True)
class App:
    """An application and its requirements."""

    packages: tuple[str, ...]
    """Packages from PyPI, or from npm for a JavaScript file."""
    env: Mapping[str, str]


_OTLP = "opentelemetry-exporter-otlp-proto-http==1.45.2"
_UTIL = "opentelemetry-util-genai<1"
_CONTENT = {
    "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "span_and_event",
    "OTEL_SEMCONV_STABILITY_OPT_IN": "gen_ai_latest_experimental",
}
APPS = {
    "litellm_callback": App(
        ("litellm[proxy]==1.106.2", _OTLP),
        {"OTEL_EXPORTER": "otlp_http", "LITELLM_OTEL_INTEGRATION_ENABLE_METRICS": "true"},
    ),
    "openai_v2": App(
        ("openai==2.54.0", "opentelemetry-instrumentation-openai-v2==2.4b0", _UTIL, _OTLP), _CONTENT
    ),
    "openai_v2_events": App(
        ("openai==2.54.0", "opentelemetry-instrumentation-openai-v2==2.4b0", _UTIL, _OTLP),
        {"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "true"},
    ),
    "openinference_openai": App(
        ("openai==2.54.0", "openinference-instrumentation-openai==0.1.66", _OTLP), {}
    ),
    "openllmetry": App(("traceloop-sdk==0.62.4", "openai==2.54.0"), {}),
    "pydantic_ai_agent": App(("pydantic-ai-slim[openai]==2.31.1", _OTLP), {}),
    "vercel_ai": App(
        (
            "ai@5.0.277",
            "@ai-sdk/openai@2.0.130",
            "zod@4.1.13",
            "@opentelemetry/api@1.10.0",
            "@opentelemetry/sdk-trace-node@2.12.0",
            "@opentelemetry/exporter-trace-otlp-proto@0.301.1",
        ),
        {},
    ),
}


class Provider(BaseHTTPRequestHandler):
    """Answers as OpenAI does: first with a tool call if there is a tool, then with text."""

    def do_POST(self) -> None:
        body = json.loads(_body(self))
        if self.path.endswith("/embeddings"):
            self._answer(
                200,
                {
                    "object": "list",
                    "model": body["model"],
                    "data": [{"object": "embedding", "index": 0, "embedding": [0.5, 0.25]}],
                    "usage": {"prompt_tokens": EMBEDDING_TOKENS, "total_tokens": EMBEDDING_TOKENS},
                },
            )
        elif body["model"] == "refuse":
            quoted = f"cannot answer {body['messages'][-1]['content']!r}"
            self._answer(400, {"error": {"message": quoted, "type": "invalid_request_error"}})
        else:
            self._answer(200, _chat(body))

    def _answer(self, status: int, body: Mapping[str, Any]) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # inherited name
        """Log nothing."""


def _chat(body: Mapping[str, Any]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": "planted-answer-here"}
    reason = "stop"
    if body.get("tools") and body["messages"][-1]["role"] != "tool":
        call = {"name": "look_up", "arguments": '{"q": "planted-call-here"}'}
        message["tool_calls"] = [{"id": "call-1", "type": "function", "function": call}]
        reason = "tool_calls"
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_790_000_000,
        "model": "gpt-4o-mini-2024-07-18",
        "choices": [{"index": 0, "message": message, "finish_reason": reason}],
        "usage": {
            "prompt_tokens": INPUT_TOKENS,
            "completion_tokens": OUTPUT_TOKENS,
            "total_tokens": INPUT_TOKENS + OUTPUT_TOKENS,
        },
    }


class Sink(BaseHTTPRequestHandler):
    """Stores OTLP requests as JSON."""

    kept: list[dict[str, Any]]

    def do_POST(self) -> None:
        import gzip

        body = _body(self)
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        signal = self.path.rpartition("/")[2]
        self.kept.append({signal: MessageToDict(MESSAGES[signal].FromString(body))})
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # inherited name
        """Log nothing."""


def _body(request: BaseHTTPRequestHandler) -> bytes:
    if "chunked" not in request.headers.get("transfer-encoding", ""):
        return request.rfile.read(int(request.headers["content-length"]))
    parts = []
    while size := int(request.rfile.readline(), 16):
        parts.append(request.rfile.read(size))
        request.rfile.readline()
    request.rfile.readline()
    return b"".join(parts)


def _serve(handler: type[BaseHTTPRequestHandler]) -> ThreadingHTTPServer:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def _command(name: str, app: App, work: Path) -> list[str]:
    script = HERE / "apps" / "vercel_ai.mjs"
    if name == script.stem:
        subprocess.run(
            ["npm", "install", "--legacy-peer-deps", "--no-audit", "--no-fund", *app.packages],
            cwd=work,
            check=True,
        )
        return ["node", str(shutil.copy(script, work))]
    extra = [word for package in app.packages for word in ("--with", package)]
    file = HERE / "apps" / f"{name.removesuffix('_events')}.py"
    return [str(UV), "run", "--no-project", "--isolated", "--python", "3.11", *extra, str(file)]


def record(name: str) -> list[dict[str, Any]]:
    """Run one application; returns all it sent, with the provider's port replaced by the gateway's."""
    app = APPS[name]
    provider = _serve(Provider)
    kept: list[dict[str, Any]] = []
    sink = _serve(type("KeepingSink", (Sink,), {"kept": kept}))
    with tempfile.TemporaryDirectory() as work:
        otlp = f"http://127.0.0.1:{sink.server_port}"
        env = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("OTEL", "OPENAI"))},
            "OPENAI_BASE_URL": f"http://127.0.0.1:{provider.server_port}/v1",
            "OPENAI_API_BASE": f"http://127.0.0.1:{provider.server_port}/v1",
            "OPENAI_API_KEY": "not-a-key",
            "OTEL_EXPORTER_OTLP_ENDPOINT": otlp,
            "OTEL_ENDPOINT": otlp,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_SERVICE_NAME": name,
            "OTEL_METRIC_EXPORT_INTERVAL": "3600000",
            "NO_PROXY": "127.0.0.1",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            **app.env,
        }
        subprocess.run(_command(name, app, Path(work)), cwd=work, env=env, check=True, timeout=600)
    for server in (provider, sink):
        server.shutdown()
        server.server_close()
    text = json.dumps(kept).replace(str(provider.server_port), GATEWAY_PORT)
    made: list[dict[str, Any]] = json.loads(_anonymous(text))
    return made


def _anonymous(text: str) -> str:
    """Remove everything about the machine it was recorded on."""
    text = re.sub(r"(?:/[\w.+-]+)*/(?=apps/|site-packages/|python3)", "/", text)
    return re.sub(r"/tmp\w{8}/", "/app/", text)


def main() -> None:
    """Record the named applications, or all."""
    for name in sys.argv[1:] or APPS:
        kept = record(name)
        marks = set(PLANTED.findall(json.dumps(kept)))
        text = json.dumps(kept, indent=1, ensure_ascii=False, sort_keys=True)
        (PAYLOADS / f"{name}.json").write_text(f"{text}\n", "utf-8")
        print(f"{name}: {len(kept)} requests, {len(marks)} marks: {' '.join(sorted(marks))}")


if __name__ == "__main__":
    main()
