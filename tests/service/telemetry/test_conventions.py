"""The two forms of the GenAI conventions: the table between them, and what is exported in the new one."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from spanledger.telemetry.conventions import (
    ATTRIBUTE_CHANGES,
    METRIC_CHANGES,
    OPT_IN,
    SCHEMA_URLS,
    Generation,
    attributes_of,
    changes_of,
    form_of,
    new_attributes,
    unknown_opt_ins,
)
from spanledger.telemetry.signals import ATTRIBUTES, METRICS, SPANS
from tests.service.telemetry.conftest import SECOND, Book, Ship
from tests.support.otlp_sink import OtlpSink

LATEST = "gen_ai_latest_experimental"


@pytest.mark.parametrize(
    ("value", "form"),
    [
        (None, Generation.OLD),
        ("", Generation.OLD),
        ("http,database/dup", Generation.OLD),
        ("gen_ai", Generation.OLD),
        (LATEST, Generation.NEW),
        (f"http, {LATEST} ,database", Generation.NEW),
        (LATEST.upper(), Generation.NEW),
    ],
)
def test_the_standard_switch_chooses_the_form(value: str | None, form: Generation) -> None:
    """Our entry may be anywhere in the list; without it the old names stay."""
    assert form_of({} if value is None else {OPT_IN: value}) is form


def test_entries_that_mean_us_and_are_unknown_are_named() -> None:
    """A misspelt entry is reported; entries for other instrumentation are not."""
    assert unknown_opt_ins({OPT_IN: f"http,gen_ai/dup,{LATEST},GEN_AI"}) == ["gen_ai/dup", "GEN_AI"]
    assert unknown_opt_ins({}) == []


def test_the_table_speaks_of_signals_that_exist() -> None:
    """Every old name is in the registry; every new one is new, has a source and one old name."""
    on_spans = {name for span in SPANS for name in span.attributes}
    metrics = {metric.name: metric for metric in METRICS}
    assert {change.old for change in ATTRIBUTE_CHANGES} <= on_spans
    for change in METRIC_CHANGES:
        metric = metrics[change.old]
        assert {name for name, _ in change.when} <= set(metric.attributes)
        assert set(change.without) <= {name for name, _ in change.when}
        assert metric.kind == "histogram"
    renamed = [c.new for c in ATTRIBUTE_CHANGES if c.new != c.old] + [c.new for c in METRIC_CHANGES]
    assert len(renamed) == len(set(renamed))
    assert not set(renamed) & (ATTRIBUTES.keys() | metrics.keys())
    sources = [c.source for c in ATTRIBUTE_CHANGES] + [c.source for c in METRIC_CHANGES]
    assert all(source.startswith("https://") for source in sources)


def test_no_point_becomes_two_of_a_kind() -> None:
    """A measurement is in one histogram and at most one counter, so no sum counts it twice."""
    for metric in METRICS:
        for operation in ("chat", "embeddings"):
            for token in ("input", "output"):
                point = {"gen_ai.operation.name": operation, "gen_ai.token.type": token}
                kinds = [change.kind for change in changes_of(metric.name, point)]
                assert len(kinds) == len(set(kinds))


def test_points_can_be_turned_back() -> None:
    """From the new name and the attributes, the old name and attributes follow."""
    for change in METRIC_CHANGES:
        old = {"gen_ai.request.model": "m", **dict(change.when)}
        new = attributes_of(change, old)
        restored = {k: v for k, v in new.items() if k not in dict(change.adds)} | dict(change.when)
        assert restored == old


@pytest.mark.parametrize(
    ("value", "expected"), [(40.0, 40), (0.0, 0), (1.5, None), (1e300, None), (2.0**63, None)]
)
def test_top_k_is_whole_in_the_new_form(value: float, expected: int | None) -> None:
    """A value that is not an integer, or does not fit OTLP's, is left out."""
    found = new_attributes({"gen_ai.request.top_k": value, "gen_ai.request.top_p": 0.5})

    assert found.pop("gen_ai.request.top_p") == 0.5
    assert found == ({} if expected is None else {"gen_ai.request.top_k": expected})
    assert all(type(v) is int for v in found.values())


def write_history(book: Book) -> None:
    """A streamed chat with every renamed attribute, and an embedding."""
    detail = {
        "gen_ai.request.top_k": 40.0,
        "gen_ai.request.reasoning.level": "high",
        "gen_ai.conversation.id": "conv_1",
        "spanledger.usage.audio.input_tokens": 7,
        "spanledger.usage.audio.output_tokens": 9,
    }
    start = book.start(stream=True)
    book.finish(
        book.reserve(start),
        first_chunk_ns=start.started_ns + SECOND // 4,
        chunks=4,
        cache_write_tokens=10,
        detail=json.dumps(detail),
    )
    vectors = book.start(operation="embeddings")
    book.finish(book.reserve(vectors), output_tokens=0, input_tokens=30)


def client_span(sink: OtlpSink) -> dict[str, Any]:
    """The attributes of the chat's attempt."""
    return next(s.attributes for s in sink.spans if s.name.startswith("chat gpt"))


def test_by_default_the_names_stay(book: Book, sink: OtlpSink, ship: Ship) -> None:
    """No new name replaces an attribute people query; pure additions are in both forms."""
    write_history(book)
    assert ship()

    found = client_span(sink)
    assert found["gen_ai.usage.cache_creation.input_tokens"] == 10
    assert found["spanledger.usage.audio.input_tokens"] == 7
    assert type(found["gen_ai.request.top_k"]) is float
    assert found["gen_ai.request.reasoning.level"] == "high"
    assert found["gen_ai.conversation.id"] == "conv_1"
    new = {c.new for c in ATTRIBUTE_CHANGES if c.new != c.old}
    assert not new & {name for span in sink.spans for name in span.attributes}
    assert not {c.new for c in METRIC_CHANGES} & {point.metric for point in sink.points}
    assert {s.schema_url for s in sink.spans} == {SCHEMA_URLS[Generation.OLD]}


def test_a_request_says_how_it_was_called(book: Book, sink: OtlpSink, ship: Ship) -> None:
    """The SERVER span has path and scheme, as the conventions for HTTP require."""
    write_history(book)
    assert ship()

    paths = {s.attributes["url.path"] for s in sink.spans if s.kind == "SERVER"}
    assert paths == {"/v1/chat/completions", "/v1/embeddings"}
    assert {s.attributes["url.scheme"] for s in sink.spans if s.kind == "SERVER"} == {"http"}


def test_the_new_form_of_spans(
    book: Book, sink: OtlpSink, ship: Ship, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the switch, every changed attribute has its new name, and none has its old one."""
    monkeypatch.setenv(OPT_IN, LATEST)
    write_history(book)
    assert ship()

    found = client_span(sink)
    assert found["gen_ai.usage.cache_write.input_tokens"] == 10
    assert found["gen_ai.usage.audio.input_tokens"] == 7
    assert found["gen_ai.usage.audio.output_tokens"] == 9
    assert type(found["gen_ai.request.top_k"]) is int
    gone = {c.old for c in ATTRIBUTE_CHANGES if c.new != c.old}
    assert not gone & {name for span in sink.spans for name in span.attributes}
    assert {s.schema_url for s in sink.spans} == {SCHEMA_URLS[Generation.NEW]}


def test_the_new_form_of_points(
    book: Book, sink: OtlpSink, ship: Ship, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the switch, points have the new names, without loss and without counting twice."""
    monkeypatch.setenv(OPT_IN, LATEST)
    write_history(book)
    assert ship()

    assert sink.total("gen_ai.client.inference.duration") == 1
    assert sink.total("gen_ai.client.embeddings.duration") == 1
    assert sink.total("gen_ai.client.inference.time_to_first_chunk") == 0.25
    assert sink.total("gen_ai.client.inference.time_per_output_chunk") == 0.25
    assert sink.total("gen_ai.client.inference.operation.input_tokens") == 200
    assert sink.total("gen_ai.client.inference.operation.output_tokens") == 100
    assert sink.total("gen_ai.client.embeddings.operation.input_tokens") == 30
    modality = {"gen_ai__token__modality": "unknown"}
    assert sink.total("gen_ai.client.inference.usage.input_tokens", **modality) == 200
    assert sink.total("gen_ai.client.inference.usage.output_tokens", **modality) == 100
    assert not {c.old for c in METRIC_CHANGES} & {point.metric for point in sink.points}
    assert not [p for p in sink.points if "gen_ai.token.type" in p.attributes]
    assert sink.total("spanledger.cost.usd") > 0
    zeros = [p for p in sink.points if p.metric.endswith("usage.input_tokens")]
    assert [p.value for p in zeros][:2] == [0, 200]
    assert {p.metric for p in sink.points if p.metric.startswith("gen_ai") and p.exemplars} == {
        c.new for c in METRIC_CHANGES if c.kind == "histogram"
    }


def test_one_ledger_serves_both_forms(
    book: Book, sink: OtlpSink, ship: Ship, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The totals continue when the form is switched and switched back."""
    book.call()
    assert ship()
    monkeypatch.setenv(OPT_IN, LATEST)
    book.call()
    assert ship()
    assert sink.total("gen_ai.client.inference.usage.input_tokens") == 400
    monkeypatch.delenv(OPT_IN)
    book.call()
    assert ship()

    assert sink.total("gen_ai.client.token.usage", gen_ai__token__type="input") == 600


def test_a_misspelt_switch_is_told_of(
    book: Book, ship: Ship, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says which value to use."""
    monkeypatch.setenv(OPT_IN, "gen_ai")
    with caplog.at_level(logging.WARNING):
        assert ship()

    assert f"{OPT_IN}=gen_ai has no effect; to export the new names, use {LATEST}" in caplog.text
