"""Prometheus has one form of the GenAI conventions, whichever is sent."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from spanledger.config import TelemetrySettings
from spanledger.telemetry.conventions import LATEST, OPT_IN
from spanledger.telemetry.shipper import run_shipper
from tests.rules.harness import program
from tests.service.telemetry.conftest import FAST, SECOND, Book
from tests.stack.boards import ROOT
from tests.stack.stored import Message, Stack, storing
from tests.support.collector import BASE
from tests.support.ledgers import store_at
from tests.support.processes import poll

needs_prometheus = pytest.mark.skipif(
    program("prometheus") is None, reason="no prometheus: `make toolchain` builds it"
)
Series = dict[tuple[tuple[str, str], ...], float]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Prometheus behind the collector."""
    with storing(tmp_path_factory.mktemp("conventions")) as stack:
        yield stack


def stored(stack: Stack, name: str) -> Series:
    """The GenAI series of a service, without what tells one service from another."""
    found = stack.values(f'{{__name__=~"gen_ai_.*",service_name="{name}"}}')
    own = {"job", "instance", "service_name", "service_instance_id"}
    return {
        tuple(sorted((k, v) for k, v in labels.items() if k not in own)): value
        for labels, value in found
    }


def ship(stack: Stack, folder: Path, name: str, opt_in: str) -> None:
    """A gateway's history of a streamed chat, a failure and an embedding, sent by the real shipper."""
    folder.mkdir()
    book = Book(folder / "ledger.db")
    start = book.start(stream=True)
    book.finish(book.reserve(start), first_chunk_ns=start.started_ns + SECOND // 4, chunks=4)
    failed: dict[str, Any] = {"input_tokens": 0, "output_tokens": 0, "error_type": "timeout"}
    book.finish(book.reserve(book.start()), None, **failed)
    vectors = book.start(operation="embeddings")
    book.finish(book.reserve(vectors), input_tokens=30, output_tokens=0)
    settings = TelemetrySettings(endpoint=stack.collector.http, service_name=name)
    sent = run_shipper(
        store_at(book.path),
        settings,
        threading.Event(),
        once=True,
        pace=FAST,
        environ={OPT_IN: opt_in},
    )
    book.store.close()
    assert sent


@needs_prometheus
def test_both_forms_of_the_gateway_are_the_same_series(stack: Stack, tmp_path: Path) -> None:
    """Every series that dashboards and rules read has the same name, labels and value in both forms."""
    ship(stack, tmp_path / "old", "gateway-old", "")
    ship(stack, tmp_path / "new", "gateway-new", f"http,{LATEST}")

    whole = 'gen_ai_client_token_usage_count{service_name="gateway-%s",gen_ai_operation_name="embeddings"}'
    assert poll(lambda: stack.values(whole % "old") and stack.values(whole % "new"))
    old, new = stored(stack, "gateway-old"), stored(stack, "gateway-new")
    names = {dict(labels)["__name__"] for labels in old}
    assert {
        "gen_ai_client_token_usage_sum",
        "gen_ai_client_operation_duration_seconds_count",
    } < names
    assert new == old


@needs_prometheus
def test_new_names_of_applications_are_read(stack: Stack) -> None:
    """An application in the new form is in the same panels, and its tokens are counted once."""
    chat = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o"}
    vectors = {"gen_ai.operation.name": "embeddings", "gen_ai.request.model": "small"}
    made = Message("@ai-sdk/otel", **{"service.name": "ai", "service.instance.id": "ai-1"})
    made.histogram("gen_ai.client.inference.duration", 2.0, labels=chat)
    made.histogram("gen_ai.client.embeddings.duration", 3.0, labels=vectors)
    made.histogram("gen_ai.client.inference.time_to_first_chunk", 0.5, labels=chat)
    made.histogram("gen_ai.client.inference.time_per_output_chunk", 0.25, labels=chat)
    for kind, tokens in (("input", 30.0), ("output", 12.0)):
        name = f"gen_ai.client.inference.operation.{kind}_tokens"
        made.histogram(name, tokens, unit="{token}", labels=chat)
        counter = f"gen_ai.client.inference.usage.{kind}_tokens"
        labels = {**chat, "gen_ai.provider.name": "openai", "gen_ai.token.modality": "text"}
        made.counter(counter, tokens / 3, unit="{token}", labels=labels)
        image = made.scoped.metrics[-1].sum.data_points.add()
        image.CopyFrom(made.scoped.metrics[-1].sum.data_points[0])
        image.as_double = tokens * 2 / 3
        image.attributes[-1].value.string_value = "image"
    made.histogram(
        "gen_ai.client.embeddings.operation.input_tokens", 7.0, unit="{token}", labels=vectors
    )
    stack.send(made)

    own = 'service_name="ai"'
    assert poll(lambda: stack.values(f"gen_ai_client_token_usage_count{{{own}}}"))

    def total(series: str, by: str) -> dict[str, float]:
        found = stack.values(f"sum by ({by}) ({series}{{{own}}})")
        return {labels.get(by, ""): value for labels, value in found}

    duration = "gen_ai_client_operation_duration_seconds"
    assert total(f"{duration}_sum", "gen_ai_operation_name") == {"chat": 2.0, "embeddings": 3.0}
    assert total(f"{duration}_count", "gen_ai_request_model") == {"gpt-4o": 1.0, "small": 1.0}
    first = "gen_ai_client_operation_time_to_first_chunk_seconds_sum"
    assert total(first, "gen_ai_request_model") == {"gpt-4o": 0.5}
    pace = "gen_ai_client_operation_time_per_output_chunk_seconds_sum"
    assert total(pace, "gen_ai_request_model") == {"gpt-4o": 0.25}
    usage = "gen_ai_client_token_usage_sum"
    assert total(usage, "gen_ai_token_type") == {"input": 37.0, "output": 12.0}
    assert total(usage, "gen_ai_operation_name") == {"chat": 42.0, "embeddings": 7.0}
    assert total(usage, "spanledger_source").keys() == {"unknown"}


@needs_prometheus
def test_a_delta_counter_of_tokens_is_dropped(stack: Stack) -> None:
    """A point that is invalid as a counter does not get in as a gauge."""
    made = Message(**{"service.name": "delta"})
    made.counter("gen_ai.client.inference.usage.input_tokens", 5.0, temporality=1)
    made.counter("gen_ai.client.inference.usage.output_tokens", 6.0)
    stack.send(made)

    sums = 'gen_ai_client_token_usage_sum{service_name="delta"}'
    assert poll(lambda: stack.values(sums))
    assert [labels["gen_ai_token_type"] for labels, _ in stack.values(sums)] == ["output"]


def test_vendors_get_names_as_they_were_sent() -> None:
    """Names are changed only on the two paths to Prometheus."""
    files = [BASE, *sorted((ROOT / "otel-collector" / "overlays").glob("*.yaml"))]
    used = {
        name
        for file in files
        for name, pipeline in yaml.safe_load(file.read_text("utf-8"))["service"][
            "pipelines"
        ].items()
        if "transform/one_form" in pipeline.get("processors", ())
    }
    assert used == {"metrics/gateway", "metrics/applications"}
