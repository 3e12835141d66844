"""Overlays only add, work together, and send what they document, in the documented way."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import yaml
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)

from tests.stack.conftest import Traces, arrived, attributes_of, made_metrics, put
from tests.support.collector import BASE, OVERLAYS, Backends, Collector, RawSink, overlay, validate
from tests.support.processes import poll

VENDORS = (
    *("datadog", "grafana-cloud", "honeycomb", "langfuse", "langsmith", "otlp", "phoenix"),
    "traceloop",
)
SAMPLING = "tail-sampling"
NO_SECRET = {"dd-otlp-source", "x-langfuse-ingestion-version"}
SHARED = {"batch/apart", "transform/count_once"}
NEEDED = {
    "GRAFANA_CLOUD_OTLP_ENDPOINT": "http://127.0.0.1:9/otlp",
    "OTLP_ENDPOINT": "http://127.0.0.1:9",
}
VARIABLE = re.compile(r"\$\{env:([A-Z_]+)")
PROMPT = "what-the-user-asked"


def parsed(name: str) -> dict[str, Any]:
    """An overlay as a mapping."""
    made: dict[str, Any] = yaml.safe_load(overlay(name).read_text(encoding="utf-8"))
    return made


@pytest.fixture(scope="module")
def base() -> dict[str, Any]:
    """The base configuration as a mapping."""
    made: dict[str, Any] = yaml.safe_load(BASE.read_text(encoding="utf-8"))
    return made


def test_every_overlay_is_known() -> None:
    """The tables here cover the folder."""
    assert sorted(path.stem for path in OVERLAYS.glob("*.yaml")) == sorted((*VENDORS, SAMPLING))


@pytest.mark.parametrize("name", VENDORS)
def test_additive(name: str, base: dict[str, Any]) -> None:
    """No key of the base is repeated; pipelines and exporters are its own; queues are on disk."""
    added = parsed(name)
    service = added.pop("service")
    assert service.keys() == {"pipelines"}
    assert added.keys() <= {"processors", "exporters"}
    for section, components in added.items():
        assert not components.keys() & base[section].keys()
    assert not service["pipelines"].keys() & base["service"]["pipelines"].keys()
    own = added.get("processors", {}).keys()
    for signal, pipeline in service["pipelines"].items():
        assert pipeline["receivers"] == [f"forward/{signal.split('/')[0]}"]
        assert set(pipeline["exporters"]) <= added["exporters"].keys()
        assert pipeline["processors"][0] == "batch/apart"
        others = {p for p in pipeline["processors"] if not p.startswith("transform/content_${")}
        assert others <= SHARED | own
        if signal.startswith("traces/"):
            assert re.search(
                r"transform/content_\$\{env:\w+_INCLUDE_CONTENT:-false\}", str(pipeline)
            )
    for exporter in added["exporters"].values():
        assert exporter["sending_queue"]["storage"] == "file_storage/queue"
        assert exporter["retry_on_failure"]["max_elapsed_time"] != "0s"


@pytest.mark.parametrize("name", VENDORS)
def test_secrets_from_the_environment(name: str) -> None:
    """Headers use variables without a default; a literal value is not a secret."""
    for exporter in parsed(name)["exporters"].values():
        headers = exporter["headers"]
        for header, value in headers.items() if isinstance(headers, dict) else ():
            if header in NO_SECRET:
                assert "$" not in value
            elif not re.search("dataset|project", header, re.IGNORECASE) and "PHOENIX" not in value:
                assert re.fullmatch(r"(?:Basic |Bearer )?\$\{env:[A-Z_]+\}", value), header


@pytest.mark.parametrize("name", [*VENDORS, SAMPLING])
def test_header_comment(name: str) -> None:
    """Five lines state what it adds, which variables it reads and where its documentation is."""
    text = overlay(name).read_text(encoding="utf-8")
    comment, _, rest = text.partition("\n\n")
    assert 4 <= len(comment.splitlines()) <= 6
    assert all(line.startswith("# ") for line in comment.splitlines())
    assert "Variables: " in comment
    if name != SAMPLING:
        assert "Docs: https://" in comment
        assert "Tested: collector" in comment
        assert "To verify: " in comment
    for variable in VARIABLE.findall(rest):
        assert variable in comment, f"{variable} is not explained"


def test_documented() -> None:
    """The README lists exactly the base's variables; each vendor has its lines."""
    readme = (BASE.parent / "README.md").read_text(encoding="utf-8")
    table = readme.split("## Variables")[1].split("\n## ")[0]
    documented = set(re.findall(r"`([A-Z][A-Z_]+)`", table))
    assert set(VARIABLE.findall(BASE.read_text(encoding="utf-8"))) == documented
    page = (BASE.parent.parent / "docs" / "vendors.md").read_text(encoding="utf-8")
    for name in (*VENDORS, SAMPLING):
        assert f"make up VENDOR={name}" in page


def test_names_are_unique() -> None:
    """No two overlays define the same component or pipeline."""
    for one, other in itertools.combinations((*VENDORS, SAMPLING), 2):
        first, second = parsed(one), parsed(other)
        for section in ("processors", "exporters", "connectors"):
            assert not first.get(section, {}).keys() & second.get(section, {}).keys()
        assert not first["service"]["pipelines"].keys() & second["service"]["pipelines"].keys()


@pytest.mark.parametrize("names", [(), *((n,) for n in (*VENDORS, SAMPLING)), (*VENDORS, SAMPLING)])
def test_valid(names: tuple[str, ...]) -> None:
    """The collector accepts the base, each overlay, and all together."""
    done = validate([BASE, *map(overlay, names)], NEEDED)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("name", "env"),
    [
        ("datadog", {"DATADOG_INCLUDE_CONTENT": "yes"}),
        ("otlp", {"OTLP_ENDPOINT": ""}),
        ("grafana-cloud", {"GRAFANA_CLOUD_OTLP_ENDPOINT": ""}),
    ],
)
def test_refused(name: str, env: Mapping[str, str]) -> None:
    """A switch that is neither on nor off, or a missing endpoint, stops the collector at startup."""
    assert validate([BASE, overlay(name)], {**NEEDED, **env}).returncode != 0


@dataclass(frozen=True, slots=True)
class Expected:
    """What arrives at a vendor: paths by signal and headers."""

    traces: str
    metrics: str | None
    headers: dict[str, str]
    metric_headers: dict[str, str]


EXPECTED = {
    "datadog": Expected(
        "/v1/traces",
        "/v1/metrics",
        {"dd-api-key": "dd-0", "dd-otlp-source": "llmobs"},
        {"dd-api-key": "dd-0"},
    ),
    "grafana-cloud": Expected(
        "/otlp/v1/traces", "/otlp/v1/metrics", *({"authorization": "Basic aWQ6dG9rZW4="},) * 2
    ),
    "honeycomb": Expected(
        "/v1/traces",
        "/v1/metrics",
        {"x-honeycomb-team": "hc-1"},
        {"x-honeycomb-team": "hc-1", "x-honeycomb-dataset": "spanledger-metrics"},
    ),
    "langfuse": Expected(
        "/api/public/otel/v1/traces",
        None,
        {"authorization": "Basic cGs6c2s=", "x-langfuse-ingestion-version": "4"},
        {},
    ),
    "langsmith": Expected(
        "/otel/v1/traces", None, {"x-api-key": "ls-0", "langsmith-project": "a project"}, {}
    ),
    "traceloop": Expected("/v1/traces", "/v1/metrics", *({"authorization": "Bearer tl-0"},) * 2),
    "otlp": Expected("/v1/traces", "/v1/metrics", *({"x-api-key": "0123", "x-team": "a b"},) * 2),
    "phoenix": Expected("/v1/traces", None, {"authorization": "Bearer px"}, {}),
}


@dataclass(frozen=True, slots=True)
class Vendors:
    """All vendors at once behind one collector; Langfuse alone was given content."""

    sinks: dict[str, RawSink]
    sent: Traces


@pytest.fixture(scope="module")
def vendors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vendors]:
    """A collector with every vendor's overlay, after some traffic."""
    sinks = {name: RawSink() for name in VENDORS}
    env = {
        "DATADOG_OTLP_URL": sinks["datadog"].endpoint,
        "DD_API_KEY": "dd-0",
        "HONEYCOMB_API_ENDPOINT": sinks["honeycomb"].endpoint,
        "HONEYCOMB_API_KEY": "hc-1",
        "GRAFANA_CLOUD_OTLP_ENDPOINT": f"{sinks['grafana-cloud'].endpoint}/otlp",
        "GRAFANA_CLOUD_OTLP_AUTH": "aWQ6dG9rZW4=",
        "LANGFUSE_HOST": sinks["langfuse"].endpoint,
        "LANGFUSE_AUTH": "cGs6c2s=",
        "LANGFUSE_INCLUDE_CONTENT": "true",
        "LANGSMITH_ENDPOINT": sinks["langsmith"].endpoint,
        "LANGSMITH_API_KEY": "ls-0",
        "LANGSMITH_PROJECT": "a project",
        "TRACELOOP_ENDPOINT": sinks["traceloop"].endpoint,
        "TRACELOOP_API_KEY": "tl-0",
        "PHOENIX_COLLECTOR_ENDPOINT": sinks["phoenix"].endpoint,
        "PHOENIX_API_KEY": "px",
        "OTLP_ENDPOINT": sinks["otlp"].endpoint,
        "OTLP_HEADERS": "{x-api-key: '0123', x-team: a b}",
    }
    with Backends() as backends:
        folder = tmp_path_factory.mktemp("vendors")
        with Collector(folder, *VENDORS, env=backends.env | env) as collector:
            traces = traffic()
            assert collector.send("traces", traces.message) == 200
            for value in (10.0, 25.0):
                metrics = made_metrics([{"gen_ai.provider.name": "openai"}])
                point = metrics.resource_metrics[0].scope_metrics[0].metrics[0].histogram
                point.data_points[0].sum = value
                point.data_points[0].start_time_unix_nano = 10**18  # before the collector's start
                point.data_points[0].time_unix_nano += int(value)
                assert collector.send("metrics", metrics) == 200
            arrived(backends.tempo, traces.ids)
            for name, sink in sinks.items():
                arrived(sink, traces.ids)
                if EXPECTED[name].metrics:
                    assert poll(partial(getattr, sink, "points")), name
            yield Vendors(sinks, traces)
        for sink in sinks.values():
            sink.close()


def traffic() -> Traces:
    """An application's call through the gateway and one past it, with content everywhere."""
    content = {
        "gen_ai.input.messages": PROMPT,
        "gen_ai.output.messages": PROMPT,
        "gen_ai.system_instructions": PROMPT,
        "gen_ai.tool.definitions": PROMPT,
        "traceloop.entity.input": PROMPT,
        "traceloop.entity.output": PROMPT,
        "gen_ai.prompt.0.role": "user",
        "gen_ai.prompt.0.content": PROMPT,
        "gen_ai.completion.0.content": PROMPT,
        "llm.prompts.0": PROMPT,
        "input.value": PROMPT,
    }
    call = {
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.usage.input_tokens": 7,
        "spanledger.customer": "acme",
        "spanledger.cost.usd": 0.25,
        "spanledger.cost.nano_usd": 250_000_000,
    }
    traces = Traces()
    for address in ("http://localhost:4000/v1", "https://api.openai.com/v1"):
        span = traces.add({**call, **content, "server.address": address})
        span.status.message = PROMPT
        if address.startswith("https"):
            span.parent_span_id = traces.ids[0]
        put(span.events.add(name="exception").attributes, {"exception.message": PROMPT})
        put(span.events.add(name="e").attributes, {"gen_ai.content": PROMPT, "exception.type": "E"})
    return traces


@pytest.mark.parametrize("name", VENDORS)
def test_delivery(vendors: Vendors, name: str) -> None:
    """Requests have the vendor's path and headers, are compressed, and of the right signals."""
    sink, expected = vendors.sinks[name], EXPECTED[name]
    for request in sink.requests:
        metrics = request.path.endswith("/v1/metrics")
        assert request.path == (expected.metrics if metrics else expected.traces)
        wanted = expected.metric_headers if metrics else expected.headers
        assert wanted.items() <= request.headers.items()
        assert request.headers["content-encoding"] == "gzip"
        assert request.headers["content-type"] == "application/x-protobuf"
    assert bool(sink.points) == (expected.metrics is not None)


@pytest.mark.parametrize("name", VENDORS)
def test_content(vendors: Vendors, name: str) -> None:
    """A vendor without content enabled gets no word of a prompt, but everything else."""
    sink = vendors.sinks[name]
    assert (PROMPT in sink.text()) == (name == "langfuse")
    via_gateway, direct = map(attributes_of, arrived(sink, vendors.sent.ids))
    assert direct["gen_ai.usage.input_tokens"] == 7
    assert "gen_ai.usage.input_tokens" not in via_gateway
    assert via_gateway["gen_ai.request.model"] == direct["gen_ai.request.model"] == "gpt-4o"
    assert direct["spanledger.cost.nano_usd"] == 250_000_000
    if name != "langfuse":
        assert "exception.type" in sink.text()


def test_langfuse_shows_the_ledgers_cost(vendors: Vendors) -> None:
    """Langfuse gets the cost that the ledger has, and the customer as the user of a trace's root."""
    root, child = map(attributes_of, arrived(vendors.sinks["langfuse"], vendors.sent.ids))
    assert root["gen_ai.usage.cost"] == child["gen_ai.usage.cost"] == 0.25
    assert root["langfuse.user.id"] == "acme"
    assert "langfuse.user.id" not in child


def test_datadog_gets_deltas(vendors: Vendors) -> None:
    """Datadog refuses cumulative points: it gets the difference; all others get them as they are."""

    def points(name: str) -> list[tuple[int, float]]:
        sink = vendors.sinks[name]
        return [
            (metric.histogram.aggregation_temporality, point.sum)
            for body, request in zip(sink.messages, sink.requests, strict=True)
            if request.path.endswith("metrics")
            for group in ExportMetricsServiceRequest.FromString(body).resource_metrics
            for scope in group.scope_metrics
            for metric in scope.metrics
            for point in metric.histogram.data_points
        ]

    assert poll(lambda: len(points("honeycomb")) == 2)
    assert sorted(points("honeycomb")) == [(2, 10.0), (2, 25.0)]
    assert poll(lambda: points("datadog"))
    assert points("datadog") == [(1, 15.0)]


def test_vendor_away(tmp_path_factory: pytest.TempPathFactory) -> None:
    """An unreachable vendor with a full queue does not affect the others: no refusals, no duplicates."""
    folder = tmp_path_factory.mktemp("away")
    small = folder / "config.yaml"
    text = BASE.read_text(encoding="utf-8")
    small.write_text(text, encoding="utf-8")
    tight = {"exporters": {"otlp_http/other": {"sending_queue": {"queue_size": 1}}}}
    with Backends() as backends:
        collector = Collector(folder, "otlp", env=backends.env | NEEDED, base=small)
        extra = folder / "tight.yaml"
        extra.write_text(yaml.safe_dump(tight), encoding="utf-8")
        collector.files.append(extra)
        with collector:
            sent = []
            for _ in range(40):
                traces = Traces()
                traces.add({"gen_ai.system": "openai"})
                assert collector.send("traces", traces.message) == 200
                sent += traces.ids
            arrived(backends.tempo, sent)
            assert len(backends.tempo.spans) == len(sent)
            assert poll(lambda: "sending queue is full" in collector.log), collector.log


def test_sampling(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Errors, refusals, fallbacks, expensive and slow traces are kept completely; vendors get all."""
    kept: list[tuple[dict[str, Any], float]] = [
        ({"spanledger.outcome": "refused"}, 0.1),
        ({"spanledger.fallback.from": "gpt-4o"}, 0.1),
        ({"spanledger.attempts": 2}, 0.1),
        ({"spanledger.request.cost.usd": 0.11}, 0.1),
        ({"spanledger.outcome": "ok"}, 11.0),
        ({"error": "yes"}, 0.1),
    ]
    dropped: dict[str, Any] = {"spanledger.outcome": "ok", "spanledger.request.cost.usd": 0.05}
    traces = Traces(scope="spanledger")
    wanted: list[bytes] = []
    for number, (attributes, seconds) in enumerate([*kept, *[(dropped, 0.1)] * 20]):
        trace_id = (number + 1).to_bytes(16, "big")
        span = traces.add(attributes, trace_id=trace_id, seconds=seconds)
        if "error" in attributes:
            span.status.code = 2  # type: ignore[assignment]  # the enum's number
        other = traces.add({}, trace_id=trace_id)
        if number < len(kept):
            wanted += [span.span_id, other.span_id]
    with RawSink() as vendor, Backends() as backends:
        env = {"OTLP_ENDPOINT": vendor.endpoint, "SAMPLING_PERCENT": "0", "SAMPLING_WAIT": "1s"}
        folder = tmp_path_factory.mktemp("sampling")
        with Collector(folder, SAMPLING, "otlp", env=backends.env | env) as collector:
            assert collector.send("traces", traces.message) == 200
            metrics = made_metrics([{"server.port": number} for number in range(26)])
            assert collector.send("metrics", metrics) == 200
            arrived(backends.tempo, wanted)
            arrived(vendor, traces.ids)
            assert poll(lambda: len(backends.prometheus.points) == 26)
        assert sorted(span.span_id for span in backends.tempo.whole_spans()) == sorted(wanted)


def test_late_error(tmp_path_factory: pytest.TempPathFactory) -> None:
    """An error that arrives after its trace was dropped is kept, once; successful spans are not."""
    trace_id = b"late-error-trace"
    fine, late, later = Traces(), Traces(), Traces()
    fine.add({}, trace_id=trace_id)
    late.add({"spanledger.outcome": "error"}, trace_id=trace_id).status.code = 2  # type: ignore[assignment]  # the enum's number
    late.add({}, trace_id=trace_id)
    later.add({"spanledger.attempts": 2}, trace_id=trace_id)
    with Backends() as backends:
        env = {"SAMPLING_PERCENT": "0", "SAMPLING_WAIT": "1s"}
        folder = tmp_path_factory.mktemp("late")
        with Collector(folder, SAMPLING, env=backends.env | env) as collector:
            decided = "otelcol_processor_tail_sampling_global_count_traces_sampled"
            assert collector.send("traces", fine.message) == 200
            assert poll(lambda: decided in collector.own_metrics())
            for traces in (late, later):
                assert collector.send("traces", traces.message) == 200
            arrived(backends.tempo, [late.ids[0], later.ids[0]])
        spans = [span.span_id for span in backends.tempo.whole_spans()]
    assert sorted(spans) == sorted([late.ids[0], later.ids[0]])


def test_sampling_touches_nothing_else(base: dict[str, Any]) -> None:
    """The sampling overlay replaces only the receiver of Tempo's pipeline in the base."""
    added = parsed(SAMPLING)
    pipelines = added["service"]["pipelines"]
    repeated = pipelines.keys() & base["service"]["pipelines"].keys()
    assert repeated == {"traces/tempo"}
    assert pipelines["traces/tempo"].keys() == {"receivers"}
    assert added["service"].keys() == {"pipelines"}
    for section in ("processors", "connectors"):
        assert not added[section].keys() & base[section].keys()
    assert not [name for name in pipelines if name.startswith("metrics")]
