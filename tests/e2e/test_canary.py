"""No secret and no prompt is exported: every sink is searched for forbidden text."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote

import httpx
import openai
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from spanledger.demo.sink import Sink
from tests.e2e.conftest import Site
from tests.support.processes import poll

PROMPT = "canary-prompt-7f3a91"
PROVIDER_KEYS = ("sk-sim-canary-openai-0123456789abcdef", "sk-ant-sim-canary-0123456789abcdef")
FAULTS = (
    "",
    "401",
    "400",
    "429",
    "500",
    "garbage",
    "context_window",
    "cut:2",
    "malformed:2",
    "reset",
)


class RawSink(Sink):
    """A sink that keeps every byte it received."""

    def __init__(self) -> None:
        self.raw = b""
        super().__init__()

    def _add_spans(self, message: ExportTraceServiceRequest) -> None:
        self.raw += message.SerializeToString()
        super()._add_spans(message)

    def _add_metrics(self, message: ExportMetricsServiceRequest) -> None:
        self.raw += message.SerializeToString()
        super()._add_metrics(message)


def _ask(base_url: str, key: str, model: str, stream: bool) -> str:
    """Send one request; returns the answer's text or the error's body."""
    client = openai.OpenAI(base_url=base_url, api_key=key, max_retries=0, timeout=20)
    body: dict[str, Any] = {"extra_headers": {"x-secret": PROMPT}} if stream else {}
    try:
        answer = client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": PROMPT}],
            max_tokens=20,
            user="ada",  # a name, which spans have
            stream=stream,
            **body,
        )
        if stream:
            return "".join(str(chunk) for chunk in answer)
        return str(answer)
    except (openai.APIError, httpx.HTTPError) as error:
        return f"{error} {getattr(error, 'body', '')}"
    finally:
        client.close()


@pytest.mark.parametrize("content", ["off", "full"])
def test_canaries(site: Site, content: str) -> None:
    """Spans, metrics, logs, error bodies, the ledger file and /metrics contain no canary."""
    sink = RawSink()
    models: list[dict[str, Any]] = [
        {
            "model_name": f"{wire}{fault}",
            "litellm_params": {"model": f"{model}!{fault}" if fault else model, **where},
        }
        for wire, model, where in (
            (
                "a",
                "openai/gpt-4o-mini",
                {"api_base": f"{site.sim_url}/v1", "api_key": PROVIDER_KEYS[0]},
            ),
            (
                "b",
                "anthropic/claude-haiku-4-5",
                {"api_base": site.sim_url, "api_key": PROVIDER_KEYS[1]},
            ),
        )
        for fault in FAULTS
    ]
    for model in models:  # the price book has no price for a model named after its fault
        model["litellm_params"] |= {"input_cost_per_token": 1e-6, "output_cost_per_token": 1e-6}
    site.configure(
        model_list=models,
        router_settings={"num_retries": 1, "default_fallbacks": ["b"]},
        telemetry={"endpoint": sink.endpoint, "export_interval_s": 0.2, "content": content},
    )
    key = site.key("acme")
    other = site.key("globex")
    site.command("keys", "revoke", other)
    gateway = site.gateway()
    try:
        url = gateway.url()
        answers = [
            _ask(f"{url}/v1", key, str(model["model_name"]), stream)
            for model in models
            for stream in (False, True)
        ]
        answers += [_ask(f"{url}/v1", other, "a", False), _ask(f"{url}/v1", PROMPT, "a", False)]
        metrics = httpx.get(f"{url}/metrics", headers={"authorization": f"Bearer {key}"}).text
        requests = len(models) * 2
        assert poll(lambda: len([s for s in sink.snapshot() if s.kind == "SERVER"]) >= requests)
    finally:
        gateway.stop()
        sink.close()

    places = {
        "spans and metrics": sink.raw.decode("latin-1"),
        "answers": "\n".join(answers),
        "log": gateway.output,
        "/metrics": metrics,
        "ledger": "".join(
            path.read_bytes().decode("latin-1") for path in site.ledger.parent.iterdir()
        ),
    }
    secrets = (*PROVIDER_KEYS, key, other, key.removeprefix("slk_"))
    for place, text in places.items():
        for secret in secrets:
            assert secret not in text, f"{place} holds a key"
        if content == "off":
            found = re.search(f".{{0,80}}{PROMPT}.{{0,40}}", text)
            assert found is None, f"{place} contains the prompt: {found and found.group()!r}"
    if content == "full":
        assert PROMPT in places["spans and metrics"], "the canary test would not see a prompt"


ECHOED_KEYS = (
    "sk-proj-canary-0123456789abcdef",
    "0123456789canaryABCDEFGHIJ",
    'canary/+="\\odd89AB',
)


class _Echo(BaseHTTPRequestHandler):
    """Puts the key and the prompt everywhere in an answer; the model's name sets the status."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        key = self.headers["authorization"].removeprefix("Bearer ")
        status, how = asked["model"].split("-")
        said = f"{PROMPT} {key} {key!r} {json.dumps(key)} {quote(key, safe='')} {key[:20]}..."
        error = {"message": said, "type": key, "code": key, "param": key, key: [key]}
        data: dict[str, Any] = {"error": error}
        if status == "200":
            message = {"role": "assistant", "content": "a"}
            choice = {"message": message, "delta": message, "finish_reason": key}
            data = {"id": key, "model": key, "choices": [choice]}
        body = json.dumps(data).encode()
        if asked.get("stream") and how == "events":
            body = (
                b"data: " + body + b"\n\ndata: " + json.dumps({"error": error}).encode() + b"\n\n"
            )
        self.send_response(int(status), key)
        self.send_header("content-type", "text/event-stream" if b"data" in body else "text/json")
        for name in ("x-request-id", "retry-after", "location"):
            self.send_header(name, key)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def echo_url() -> Iterator[str]:
    """A provider that echoes what it received."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Echo)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()
    thread.join()


def test_echoed_keys(site: Site, echo_url: str) -> None:
    """A provider that echoes our key, in any spelling, cannot leak it to a sink or to the caller."""
    sink = RawSink()
    names = [f"{status}-{how}" for status in (200, 400, 401, 404, 422, 429, 500, 302) for how in
             ("plain", "events")]  # fmt: skip
    models = [
        {
            "model_name": f"{name}-{number}",
            "litellm_params": {"model": f"openai/{name}", "api_base": echo_url, "api_key": key},
        }
        for name in names
        for number, key in enumerate(ECHOED_KEYS)
    ]
    site.configure(
        model_list=models,
        router_settings={"num_retries": 0, "cooldown_time": 0},
        telemetry={"endpoint": sink.endpoint, "export_interval_s": 0.2},
    )
    key = site.key("acme")
    gateway = site.gateway()
    try:
        url = gateway.url()
        # The text of a successful answer belongs to the caller.
        errors = [
            _ask(f"{url}/v1", key, str(model["model_name"]), stream)
            for model in models
            for stream in (False, True)
            if not str(model["model_name"]).startswith("200")
        ]
        for model in models:
            if str(model["model_name"]).startswith("200"):
                _ask(f"{url}/v1", key, str(model["model_name"]), stream="events" in str(model))
        count = len(errors) + 2 * len(ECHOED_KEYS)
        assert poll(lambda: len([s for s in sink.snapshot() if s.kind == "SERVER"]) >= count)
    finally:
        gateway.stop()
        sink.close()
    places = {
        "answers": "\n".join(errors),
        "spans and metrics": sink.raw.decode("latin-1"),
        "log": gateway.output,
        "commands": json.dumps(site.command("requests", "--limit", "1000")),
        "ledger": "".join(
            path.read_bytes().decode("latin-1") for path in site.ledger.parent.iterdir()
        ),
    }
    assert "[redacted]" in places["answers"]
    assert "[redacted]" in places["spans and metrics"]
    for place, text in places.items():
        for secret in ECHOED_KEYS:
            for form in (secret, json.dumps(secret)[1:-1], quote(secret, safe=""), secret[:16]):
                assert form not in text, f"{place} holds a key"
        if place != "answers":  # a caller may read its own prompt
            assert PROMPT not in text, f"{place} contains the prompt"
