"""Applications with third-party instrumentation: no prompt leaves, and no token counts twice."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.instrumented import PLANTED, Recorded, recorded
from tests.instrumented.record import EMBEDDING_TOKENS, INPUT_TOKENS, OUTPUT_TOKENS
from tests.stack.conftest import arrived, attributes_of
from tests.support.collector import BASE, Backends, Collector, RawSink
from tests.support.otlp_sink import SinkPoint
from tests.support.processes import poll

RECORDED = recorded()
USAGE = re.compile(
    r"usage[._].*tokens|token_count|usage[.]tokens|promptTokens|completionTokens|(?:in|out)putTokens"
)
COUNTED = ("gateway", "application")
CHATS = {"pydantic_ai_agent": 2, "vercel_ai": 2}
"""Answered calls of a chat; all others make one."""
TOKENS = "gen_ai.client.token.usage"


@dataclass(frozen=True, slots=True)
class Left:
    """What a vendor received, and what Tempo and Prometheus received."""

    vendor: RawSink
    backends: Backends
    spans: dict[str, list[Any]]
    """Of each application, as the vendor got them."""


def _run(folder: Any, *, gateway: str, content: str = "false") -> Iterator[Left]:
    with RawSink() as vendor, Backends() as backends:
        env = {
            "OTLP_ENDPOINT": vendor.endpoint,
            "OTLP_INCLUDE_CONTENT": content,
            "OTELCOL_GATEWAY_ADDRESSES": gateway,
        }
        with Collector(folder, "otlp", env=backends.env | env) as collector:
            spans = {}
            for name, one in RECORDED.items():
                for signal in ("traces", "metrics"):
                    for message in one.of(signal):
                        assert collector.send(signal, message) == 200
                ids = _ids(one)
                arrived(backends.tempo, ids)
                spans[name] = arrived(vendor, ids)
            measured = {name for name, one in RECORDED.items() if one.of("metrics")}
            assert poll(lambda: {_service(p) for p in vendor.points} == measured)
            yield Left(vendor, backends, spans)


def _service(point: SinkPoint) -> str:
    return str(point.resource["service.name"])


def _ids(one: Recorded) -> list[bytes]:
    return [
        span.span_id
        for message in one.of("traces")
        for group in message.resource_spans
        for scope in group.scope_spans
        for span in scope.spans
    ]


@pytest.fixture(scope="module")
def through_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Left]:
    """All applications called the gateway."""
    yield from _run(tmp_path_factory.mktemp("gateway"), gateway="127[.]0[.]0[.]1:4000")


@pytest.fixture(scope="module")
def direct(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Left]:
    """All applications called a provider, and content is enabled for the vendor."""
    folder = tmp_path_factory.mktemp("direct")
    yield from _run(folder, gateway="gateway.example:4000", content="true")


def test_recordings_cover_what_they_should() -> None:
    """Six instrumentations were recorded, with more than forty planted texts."""
    assert len({name.removesuffix("_events") for name in RECORDED}) >= 6
    assert sum(len(one.planted) for one in RECORDED.values()) >= 40
    assert {"planted-user-here"} <= frozenset.intersection(*(o.planted for o in RECORDED.values()))


def test_no_planted_text_leaves(through_gateway: Left) -> None:
    """With content off, no text that was planted in a prompt, answer, tool or error leaves."""
    assert Counter(PLANTED.findall(through_gateway.vendor.text())) == Counter()


@pytest.mark.parametrize("name", sorted(RECORDED))
def test_what_matters_leaves(through_gateway: Left, name: str) -> None:
    """Model, provider, operation, ids and kinds of errors leave all the same."""
    spans = [attributes_of(span) for span in through_gateway.spans[name]]
    chats = [s for s in spans if s.get("gen_ai.operation.name") == "chat"]
    assert len([s for s in chats if s.get("gen_ai.request.model", "").startswith("gpt-4o-mini")])
    assert {s["gen_ai.provider.name"] for s in chats} == {"openai"}
    assert all(s["spanledger.source"] in {"application_via_gateway", "unknown"} for s in chats)
    resource = next(s for s in through_gateway.vendor.spans if s.resource)
    assert "service.name" in resource.resource


def test_content_leaves_where_it_may(direct: Left) -> None:
    """A vendor with content enabled gets it."""
    for name, one in RECORDED.items():
        if name != "openai_v2_events":  # its content is in logs
            text = "".join(map(str, direct.spans[name]))
            assert "planted-user-here" in text, name
            assert len(one.planted & set(PLANTED.findall(text))) >= len(one.planted) - 1, name


@pytest.mark.parametrize("name", sorted(RECORDED))
def test_through_the_gateway_nothing_counts(through_gateway: Left, name: str) -> None:
    """A vendor that sums tokens gets none for calls that the gateway has counted."""
    for span in map(attributes_of, through_gateway.spans[name]):
        assert not [key for key in span if USAGE.search(key) and "uncounted" not in key]
    for point in through_gateway.backends.prometheus.points:
        if point.metric == TOKENS:
            assert point.attributes["spanledger.source"] not in COUNTED


@pytest.mark.parametrize("name", sorted(RECORDED))
def test_direct_calls_count_once(direct: Left, name: str) -> None:
    """For direct calls a vendor gets each token once, under one name, or another if no server is named."""
    counted: Counter[str] = Counter()
    for span in map(attributes_of, direct.spans[name]):
        for side in ("input", "output"):
            told = [f"gen_ai.usage.{side}_tokens", f"spanledger.uncounted.{side}_tokens"]
            assert sum(key in span for key in told) <= 1
            counted[side] += sum(int(span.get(key, 0)) for key in told)
            assert ("gen_ai.usage" in "".join(span)) <= (
                span.get("spanledger.source") == "application"
            )
    chats = CHATS.get(name, 1)
    embedded = 0 if name == "pydantic_ai_agent" else EMBEDDING_TOKENS
    assert counted == {
        "input": chats * INPUT_TOKENS + embedded,
        "output": chats * OUTPUT_TOKENS,
    }


def test_labels_of_recorded_metrics(through_gateway: Left) -> None:
    """No point has a label that is not on the list, or a value of any length."""
    for point in through_gateway.vendor.points:
        for key, value in point.attributes.items():
            assert "hidden" not in key
            assert "metadata" not in key
            assert "association" not in key
            assert len(str(value)) <= 128
    series = Counter(point.series for point in through_gateway.vendor.points)
    assert len(series) < 60


def test_logs_are_refused(tmp_path: Path) -> None:
    """Logs get 404, as docs/vendors.md says, and the same application's spans arrive."""
    one = RECORDED["openai_v2_events"]
    with Backends() as backends, Collector(tmp_path, env=backends.env) as collector:
        assert {collector.send("logs", message) for message in one.of("logs")} == {404}
        for message in one.of("traces"):
            assert collector.send("traces", message) == 200
        arrived(backends.tempo, _ids(one))


def test_lists_are_documented() -> None:
    """Every name that README.md lists as a label or as leaving is on the collector's lists."""
    text = BASE.read_text("utf-8")
    lists = [
        re.compile(re.sub(r"\$\{env:[^}]*\}", "(?!)", found).replace("$$", "$"))
        for found in re.findall(r'keep_matching_keys\([a-z.]+, "(\^\(.*)"\)', text)
    ]
    resource, spans = lists[1:]
    labels = lists[0]
    page = (BASE.parent / "README.md").read_text("utf-8")
    for title, allowed in (
        ("Labels of applications' points", [labels]),
        ("What leaves without content", [resource, spans]),
    ):
        section = page.split(f"## {title}")[1].split("\n## ")[0]
        listed = [line for line in re.split(r"\n- ", section)[1:] if "OTELCOL_" not in line]
        names = re.findall(r"`([a-z0-9A-Z_]+(?:[.][a-zA-Z0-9_]+)+)`", " ".join(listed))
        assert len(names) > 20
        for name in names:
            assert any(one.match(name) for one in allowed), name
