"""What applications emit arrives in the conventions' names, and is counted once."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.conftest import Site
from tests.stack.conftest import Traces, arrived, attributes_of, made_metrics
from tests.support.collector import Backends, Collector, free_port
from tests.support.otlp_sink import SinkPoint, SinkSpan
from tests.support.processes import clean_environment, poll, running

APP = Path(__file__).with_name("plain_app.py")
TOKENS = "gen_ai.client.token.usage"
DURATION = "gen_ai.client.operation.duration"
OLD = {
    "gen_ai.system": "OpenAI",
    "gen_ai.request.model": "openai/gpt-4o",
    "gen_ai.usage.prompt_tokens": 7,
    "gen_ai.usage.completion_tokens": 5,
    "gen_ai.usage.reasoning_tokens": 2,
    "gen_ai.usage.cache_read_input_tokens": 3,
    "llm.request.type": "completion",
    "llm.is_streaming": True,
    "llm.usage.total_tokens": 12,
    "gen_ai.openai.api_base": "https://user:secret@eu.api.openai.com/v1/?key=1",
    "gen_ai.headers": "{'x-api-key': 'value'}",
}
TODAY = {
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4o",
    "gen_ai.usage.input_tokens": 7,
    "gen_ai.usage.output_tokens": 5,
    "gen_ai.usage.reasoning.output_tokens": 2,
    "gen_ai.usage.cache_read.input_tokens": 3,
    "gen_ai.operation.name": "text_completion",
    "gen_ai.request.stream": True,
    "llm.usage.total_tokens": 12,
    "server.address": "eu.api.openai.com",
    "server.port": 443,
    "spanledger.source": "application",
}
MODELS = (
    ("openai", "openai/gpt-4o", "gpt-4o"),
    ("openai", "gpt-4o", "gpt-4o"),
    ("Anthropic", "anthropic/claude-haiku-4-5", "claude-haiku-4-5"),
    ("Azure", "azure/my-deployment", "my-deployment"),
    ("AWS", "bedrock/anthropic.claude-v2:1", "anthropic.claude-v2:1"),
    ("together_ai", "together_ai/meta-llama/Llama-3-70b", "meta-llama/Llama-3-70b"),
    ("together_ai", "meta-llama/Llama-3-70b", "meta-llama/Llama-3-70b"),
    ("openai", "meta-llama/Llama-3-70b", "meta-llama/Llama-3-70b"),
    ("groq", "openai/gpt-oss-120b", "openai/gpt-oss-120b"),
    ("groq", "groq/openai/gpt-oss-120b", "openai/gpt-oss-120b"),
    ("openrouter", "openrouter/anthropic/claude-haiku-4-5", "anthropic/claude-haiku-4-5"),
    ("openai", "my-company/openai/model", "my-company/openai/model"),
    ("openai", "openai-internal/model", "openai-internal/model"),
)
PROVIDERS = {
    "OpenAI": "openai",
    "Anthropic": "anthropic",
    "AWS": "aws.bedrock",
    "Azure": "azure.ai.openai",
    "az.ai.openai": "azure.ai.openai",
    "Google": "gcp.gen_ai",
    "VertexAI": "gcp.vertex_ai",
    "MistralAI": "mistral_ai",
    "xai": "x_ai",
    "somebody new": "somebody new",
}


def test_old_names(collector: Collector, backends: Backends) -> None:
    """A span of older instrumentation arrives in today's names, typed, and with nothing left."""
    traces = Traces()
    traces.add(OLD)
    assert collector.send("traces", traces.message) == 200
    (span,) = arrived(backends.tempo, traces.ids)
    assert attributes_of(span) == TODAY


def test_old_messages(collector: Collector, backends: Backends) -> None:
    """Messages spread over many attributes are merged into one, and the rest is removed."""
    old: dict[str, Any] = {"gen_ai.system": "OpenAI"}
    for number in range(6):
        old[f"gen_ai.prompt.{number}.role"] = "user"
        old[f"gen_ai.prompt.{number}.content"] = f'question "{number}"'
    old |= {
        "gen_ai.completion.0.role": "assistant",
        "gen_ai.completion.0.content": "answer",
        "gen_ai.completion.0.finish_reason": "stop",
    }
    traces = Traces()
    traces.add(old)
    assert collector.send("traces", traces.message) == 200
    (span,) = arrived(backends.tempo, traces.ids)
    kept = attributes_of(span)
    asked, answered = (json.loads(kept[f"gen_ai.{side}.messages"]) for side in ("input", "output"))
    assert [m["parts"][0]["content"] for m in asked] == [f'question "{n}"' for n in range(4)]
    assert answered == [{"role": "assistant", "parts": [{"type": "text", "content": "answer"}]}]
    assert not [name for name in kept if name.startswith(("gen_ai.prompt", "gen_ai.completion"))]


def test_models_and_providers(collector: Collector, backends: Backends) -> None:
    """LiteLLM's prefix goes, names that only look like one stay; providers have one spelling."""
    traces = Traces()
    for provider, model, _ in MODELS:
        traces.add({"gen_ai.provider.name": provider, "gen_ai.request.model": model})
    for provider in PROVIDERS:
        traces.add({"gen_ai.system": provider})
    assert collector.send("traces", traces.message) == 200
    spans = [attributes_of(span) for span in arrived(backends.tempo, traces.ids)]
    models = [span["gen_ai.request.model"] for span in spans[: len(MODELS)]]
    assert models == [expected for _, _, expected in MODELS]
    providers = [span["gen_ai.provider.name"] for span in spans[len(MODELS) :]]
    assert providers == list(PROVIDERS.values())


def test_gateway_untouched(collector: Collector, backends: Backends) -> None:
    """The gateway's data is already correct: only its source is added."""
    said = {"gen_ai.provider.name": "Groq", "gen_ai.request.model": "openai/gpt-oss-120b"}
    traces = Traces(scope="spanledger")
    traces.add(said)
    traces.add({"spanledger.route": "openai/fast"})
    assert collector.send("traces", traces.message) == 200
    attempt, request = arrived(backends.tempo, traces.ids)
    assert attributes_of(attempt) == said | {"spanledger.source": "gateway"}
    assert attributes_of(request) == {"spanledger.route": "openai/fast"}


def test_points(collector: Collector, backends: Backends) -> None:
    """Points are renamed like spans, and series that become one are added up."""
    litellm = {"gen_ai.provider.name": "openai"}
    points = [
        litellm | {"gen_ai.request.model": model, "gen_ai.usage.token_type": kind}
        for model in ("openai/points-4o", "points-4o")
        for kind in ("input", "output")
    ]
    scope = "opentelemetry.instrumentation.litellm"
    assert collector.send("metrics", made_metrics(points, scope=scope)) == 200
    failed = made_metrics([{"error.type": "Points"}], name=DURATION, unit="s")
    assert collector.send("metrics", failed) == 200

    def look() -> list[SinkPoint]:
        points = backends.prometheus.latest().values()
        found = [p for p in points if p.attributes.get("gen_ai.request.model") == "points-4o"]
        return [*found, *(p for p in points if p.attributes.get("error.type") == "Points")]

    assert poll(lambda: len(look()) == 3)
    first, second, third = look()
    for point, kind in ((first, "input"), (second, "output")):
        assert (point.unit, point.value, point.count, point.buckets) == ("{token}", 20.0, 2, (0, 2))
        # It names no server: it may have been the gateway.
        assert point.attributes["spanledger.source"] == "unknown"
        assert {first.attributes["gen_ai.token.type"], second.attributes["gen_ai.token.type"]} == {
            "input",
            "output",
        }, kind
    assert third.attributes["spanledger.source"] == "unknown"


def test_source_by_resource(collector: Collector, backends: Backends) -> None:
    """An application whose instrumentation names no server can say that it uses the gateway."""
    traces = Traces(resource={"spanledger.source": "application_via_gateway"})
    traces.add({"gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-4o"})
    liar = Traces(resource={"spanledger.source": "gateway"})
    liar.add({"gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-4o"})
    for message in (traces.message, liar.message):
        assert collector.send("traces", message) == 200
    spans = arrived(backends.tempo, traces.ids + liar.ids)
    sources = [attributes_of(span)["spanledger.source"] for span in spans]
    assert sources == ["application_via_gateway", "unknown"]


GATEWAYS = "gateway:4000|llm.example.com|https://other.example.com/v1|[[]::1[]]:4000|::1:4000"
VIA, DIRECT, UNKNOWN = "application_via_gateway", "application", "unknown"
ADDRESSES: tuple[tuple[dict[str, Any], str], ...] = (
    ({"server.address": "gateway", "server.port": 4000}, VIA),
    ({"server.address": "GATEWAY", "server.port": 4000}, VIA),
    ({"server.address": "http://gateway:4000/v1"}, VIA),
    ({"server.address": "http://gateway:4000"}, VIA),
    ({"server.address": "gateway:4000"}, VIA),
    ({"server.address": "gateway:4000/v1/"}, VIA),
    ({"gen_ai.openai.api_base": "http://gateway:4000/v1/"}, VIA),
    ({"server.address": "gateway", "server.port": 4001}, DIRECT),
    ({"server.address": "gateway"}, DIRECT),
    ({"server.address": "llm.example.com"}, VIA),
    ({"server.address": "llm.example.com", "server.port": 443}, VIA),
    ({"server.address": "llm.example.com", "server.port": 80}, VIA),
    ({"server.address": "https://llm.example.com/v1"}, VIA),
    ({"server.address": "https://llm.example.com:443/v1"}, VIA),
    ({"server.address": "llm.example.com", "server.port": 8443}, DIRECT),
    ({"server.address": "https://llm.example.com.evil.example/v1"}, DIRECT),
    ({"server.address": "other.example.com"}, VIA),
    ({"server.address": "other.example.com", "server.port": 443}, VIA),
    ({"server.address": "https://other.example.com"}, VIA),
    ({"server.address": "http://[::1]:4000/v1"}, VIA),
    ({"server.address": "::1", "server.port": 4000}, VIA),
    ({"server.address": "api.openai.com", "server.port": 443}, DIRECT),
    ({"server.address": "https://api.openai.com/v1"}, DIRECT),
    ({}, UNKNOWN),
    ({"gen_ai.provider.name": "aws.bedrock"}, DIRECT),
    ({"gen_ai.system": "vertex_ai"}, DIRECT),
)


def test_every_form_of_an_address(tmp_path: Path) -> None:
    """The gateway is known by its address in all forms that instrumentation and people write."""
    traces = Traces()
    for attributes, _ in ADDRESSES:
        traces.add({"gen_ai.request.model": "gpt-4o", **attributes})
    with Backends() as backends:
        env = backends.env | {"OTELCOL_GATEWAY_ADDRESSES": GATEWAYS}
        with Collector(tmp_path, env=env) as collector:
            assert collector.send("traces", traces.message) == 200
            spans = arrived(backends.tempo, traces.ids)
    found = [attributes_of(span)["spanledger.source"] for span in spans]
    wrong = [
        (attributes, got)
        for (attributes, wanted), got in zip(ADDRESSES, found, strict=True)
        if got != wanted
    ]
    assert wrong == []


@dataclass(frozen=True, slots=True)
class Traffic:
    """The telemetry of a real application and a real gateway."""

    spans: list[SinkSpan]
    points: list[SinkPoint]
    billed: Counter[str]
    text: str

    def tokens(self, *sources: str) -> Counter[str]:
        """Tokens by type, of points from some sources."""
        found: Counter[str] = Counter()
        for point in self.points:
            if point.metric == TOKENS and point.attributes["spanledger.source"] in sources:
                found[point.attributes["gen_ai.token.type"]] += int(point.value)
        return found


@pytest.fixture(scope="module")
def traffic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traffic]:
    """An application on traceloop-sdk and openai asks a provider itself and through the gateway."""
    folder = tmp_path_factory.mktemp("traffic")
    port = free_port()
    with (
        Backends() as backends,
        running("sim", "--port", "0", "--speed", "0", folder=folder) as sim,
        Collector(
            folder,
            env=backends.env | {"OTELCOL_GATEWAY_ADDRESSES": f"127[.]0[.]0[.]1:{port}"},
        ) as collector,
    ):
        sim_url = sim.url()
        site = Site(folder, sim_url)
        site.configure(telemetry={"endpoint": collector.http, "export_interval_s": 0.2})
        key = site.key("acme")
        with running(
            *("gateway", "--config", "spanledger.yaml", "--port", str(port)), folder=folder
        ) as gateway:
            urls = [collector.http, f"{sim_url}/v1", f"{gateway.url()}/v1"]
            done = subprocess.run(
                [sys.executable, str(APP), *urls, key],
                env=clean_environment(),
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            bill = httpx.get(f"{sim_url}/sim/bill", params={"entries": "1"}).json()
            billed: Counter[str] = Counter()
            for entry in bill["entries"]:
                billed["input"] += entry["usage"]["input_tokens"]
                billed["output"] += entry["usage"]["output_tokens"]
            spans = backends.tempo.spans
            assert poll(lambda: sum(s.kind == "SERVER" for s in spans) >= 4)
            assert poll(lambda: any(s.name == "answer.workflow" for s in spans))
            sink = backends.prometheus

            def seen() -> float:
                return sum(
                    sink.total(TOKENS, spanledger__source=source)
                    for source in ("gateway", "application")
                )

            poll(lambda: seen() >= billed.total())
            text = backends.tempo.text() + sink.text()
            yield Traffic(list(spans), list(sink.latest().values()), billed, text)


def test_application_beside_gateway(traffic: Traffic) -> None:
    """Direct calls of the application carry the same names as the gateway's attempts."""
    calls = [s for s in traffic.spans if s.name == "openai.chat"]
    attempts = [s for s in traffic.spans if s.name.startswith("chat ") and s.kind == "CLIENT"]
    by_source = Counter(s.attributes["spanledger.source"] for s in calls)
    assert by_source == {"application": 5, "application_via_gateway": 5}
    assert Counter(s.attributes["spanledger.source"] for s in attempts) == {"gateway": 4}
    answered = [s for s in calls if "gen_ai.response.id" in s.attributes]
    assert len(answered) == 8
    for span in [*answered, *attempts]:
        assert span.attributes["gen_ai.provider.name"] == "openai"
        assert span.attributes["gen_ai.request.model"] == "gpt-4o-mini"
        assert span.attributes["server.address"] == "127.0.0.1"
        assert isinstance(span.attributes["server.port"], int)
        assert span.attributes["gen_ai.usage.input_tokens"] > 0
    assert {s.attributes["gen_ai.request.stream"] for s in answered} == {True, False}
    assert {s.trace_id for s in attempts} == {s.trace_id for s in calls}


def test_one_name_in_prometheus(traffic: Traffic) -> None:
    """Both sides' tokens and latencies have one metric name, unit and model label."""
    for metric, unit in ((TOKENS, "{token}"), (DURATION, "s")):
        points = [p for p in traffic.points if p.metric == metric]
        assert {p.unit for p in points} == {unit}
        sources = {p.attributes["spanledger.source"] for p in points}
        assert sources >= {"gateway", "application", "application_via_gateway"}
        answered = [p for p in points if "gen_ai.provider.name" in p.attributes]
        assert {p.attributes["gen_ai.request.model"] for p in answered} == {"gpt-4o-mini"}
        assert not any("stream" in p.attributes for p in points)
    first_chunks = [p for p in traffic.points if p.metric.endswith("time_to_first_chunk")]
    assert {p.attributes["spanledger.source"] for p in first_chunks} >= {"gateway", "application"}
    assert not [p for p in traffic.points if p.metric == "gen_ai.server.time_to_first_token"]


def test_counted_once(traffic: Traffic) -> None:
    """Gateway and direct applications add up to the provider's bill, to the token."""
    assert traffic.tokens("gateway", "application") == traffic.billed
    assert traffic.tokens("gateway") == traffic.tokens("application_via_gateway")
    spans = [s for s in traffic.spans if "spanledger.source" in s.attributes]
    for kind in ("input", "output"):
        counted = sum(
            s.attributes.get(f"gen_ai.usage.{kind}_tokens", 0)
            for s in spans
            if s.attributes["spanledger.source"] != "application_via_gateway"
        )
        assert counted == traffic.billed[kind]


def test_real_content_is_redacted(traffic: Traffic) -> None:
    """The application traces content; the address and the key in it do not arrive."""
    assert "Mail ****" in traffic.text
    for secret in ("jane.doe", "sk-proj-AAAABBBB", "sk-sim-0123456789abcdef"):
        assert secret not in traffic.text
