"""The cursor follows what the collector has accepted, and nothing is lost."""

from __future__ import annotations

import contextlib
import gzip
import itertools
import json
import logging
import socket
import threading
import time
import tracemalloc
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.sdk.resources import Resource

from spanledger.config import TelemetrySettings
from spanledger.ledger.lanes import START
from spanledger.ledger.sqlite import outbox as outbox_module
from spanledger.telemetry import delivery
from spanledger.telemetry.delivery import Delivery, SpanSender
from spanledger.telemetry.pipeline import MUCH_CONTENT
from spanledger.telemetry.shipper import run_shipper
from tests.service.telemetry.conftest import FAST, Book, Running, Ship, until
from tests.support.ledgers import store_at
from tests.support.otlp_sink import OtlpSink, SinkRequest

CONTENT = '{"gen_ai.input.messages":["poison"]}'


def span_ids(book: Book) -> set[str]:
    """Span ids of all ended rows."""
    requests = book.ask("SELECT json_group_array(span_id) FROM requests WHERE seq IS NOT NULL")
    attempts = book.ask("SELECT json_group_array(span_id) FROM attempts WHERE seq IS NOT NULL")
    return {*json.loads(requests), *json.loads(attempts)}


def test_the_cursor_waits_for_the_collector(book: Book, sink: OtlpSink, ship: Ship) -> None:
    """A rejecting collector changes nothing; an accepting one moves cursor, totals and content."""
    start = book.start()
    book.finish(book.reserve(start), content=CONTENT)
    sink.answer = lambda _: 503

    assert not ship()

    assert book.cursor == 0
    assert book.counted_nano == 0
    assert book.ask("SELECT content FROM attempts") == CONTENT

    sink.answer = lambda _: 200
    assert ship()

    assert book.cursor == book.last_seq
    assert book.counted_nano == book.cost_nano
    assert book.ask("SELECT content FROM attempts") is None
    assert set(sink.by_id()) == span_ids(book)


def test_a_collector_of_this_machine_is_asked_directly(
    book: Book, sink: OtlpSink, ship: Ship, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unreachable proxy for everything does not come between shipper and collector."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    book.call()

    assert ship()

    assert len(sink.spans) == 2


def test_a_collector_that_was_away_gets_everything(
    book: Book, caplog: pytest.LogCaptureFixture
) -> None:
    """Rows written while nothing listens arrive later, and outage and recovery are logged once."""
    caplog.set_level(logging.INFO)
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
    settings = TelemetrySettings(endpoint=f"http://127.0.0.1:{port}")
    running = Running(book, settings, FAST)
    try:
        for _ in range(20):
            book.call()
        until(lambda: "cannot reach the collector" in caplog.text)
        with OtlpSink(port) as sink:
            until(lambda: book.cursor == book.last_seq)
            book.call()
            until(lambda: book.cursor == book.last_seq)
            until(lambda: sink.count("spanledger.request.duration") == 21)

            assert set(sink.by_id()) == span_ids(book)
            running.stop()
    finally:
        running.stop()
    spoken = [m for m in caplog.messages if "the collector" in m]
    assert len(spoken) == 2
    assert spoken[-1] == "the collector is back"


def test_rows_are_shipped_as_they_end(book: Book, sink: OtlpSink, running: Running) -> None:
    """A running shipper sends rows as they end, in batches, each row once."""
    for _ in range(30):
        book.call()
    until(lambda: book.cursor == book.last_seq)

    assert set(sink.by_id()) == span_ids(book)
    assert len(sink.spans) == 60


def test_stopping_drains_first(book: Book, sink: OtlpSink, settings: TelemetrySettings) -> None:
    """Rows that ended before the stop signal are sent before the shipper ends."""
    running = Running(book, settings, replace(FAST, batch_rows=10, idle_s=60))
    until(lambda: book.ask("SELECT count(*) FROM state WHERE key = 'ledger_id'"))
    for _ in range(60):
        book.call()
    running.stop()

    assert book.cursor == book.last_seq
    assert len(sink.by_id()) == 120
    assert sink.count("spanledger.request.duration") == 60


def test_a_backlog_is_shipped_without_pauses(book: Book, settings: TelemetrySettings) -> None:
    """As long as a batch may have been cut off, by its rows or their content, the next is read at once."""
    content = '{"gen_ai.input.messages":["' + "x" * (MUCH_CONTENT + 1) + '"]}'
    for number in range(40):
        book.finish(book.reserve(book.start()), content=content if number < 10 else None)

    running = Running(book, settings, replace(FAST, batch_rows=40, small_rows=20, idle_s=3600))
    until(lambda: book.cursor == book.last_seq)
    running.stop()


def test_one_shipper_works_and_the_next_waits(
    book: Book, sink: OtlpSink, settings: TelemetrySettings, caplog: pytest.LogCaptureFixture
) -> None:
    """A second shipper of the same ledger starts only when the first has ended."""
    caplog.set_level(logging.INFO)
    first = Running(book, settings, FAST)
    book.call()
    until(lambda: book.cursor == 2)
    second = Running(book, settings, FAST)
    until(lambda: "another shipper" in caplog.text)
    first.stop()
    book.call()
    until(lambda: book.cursor == 4)
    second.stop()

    assert len(sink.spans) == 4
    assert sink.total("spanledger.cost.usd") == book.cost_nano / 1e9


# a collector that rejects -----------------------------------------------------------------


def has(request: SinkRequest, request_id: str) -> bool:
    """Whether an export contains a span of this request."""
    return any(s.attributes.get("spanledger.request.id") == request_id for s in request.spans)


def test_a_poisonous_row_is_dropped_loudly(
    book: Book, sink: OtlpSink, running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    """A row the collector rejects, while it accepts others, delays nothing and is counted."""
    bad = "req_00000008"
    sink.answer = lambda request: 400 if has(request, bad) else 200
    calls = [book.call() for _ in range(20)]

    until(lambda: book.cursor == book.last_seq)
    until(lambda: sink.total("spanledger.telemetry.dropped") == 2)

    taken = {s.attributes["spanledger.request.id"] for s in sink.by_id().values()}
    assert taken == {c.request_id for c in calls} - {bad}
    assert bad in caplog.text
    assert book.counted_nano == book.cost_nano


def test_a_collector_that_refuses_everything_loses_nothing(
    book: Book, sink: OtlpSink, running: Running
) -> None:
    """A wrong key or address is not a reason to drop spans: the rows wait until it is fixed."""
    sink.answer = lambda _: 401
    for _ in range(5):
        book.call()
    until(lambda: len(sink.requests) > 30)
    assert book.cursor == 0

    sink.answer = lambda _: 200
    until(lambda: book.cursor == book.last_seq)
    assert set(sink.by_id()) == span_ids(book)
    assert sink.total("spanledger.telemetry.dropped") == 0


@pytest.mark.parametrize("status", [302, 408, 429, 500, 503])
def test_other_answers_mean_that_it_is_away(
    book: Book, sink: OtlpSink, running: Running, status: int
) -> None:
    """Overload, failures and redirects are waited out, however long that takes."""
    answers = itertools.chain([status] * 6, itertools.repeat(200))
    sink.answer = lambda request: next(answers) if request.spans else 200
    book.call()

    until(lambda: book.cursor == book.last_seq)

    assert set(sink.by_id()) == span_ids(book)
    assert not sink.total("spanledger.telemetry.dropped")


def test_a_batch_that_is_too_large_is_halved(book: Book, sink: OtlpSink, ship: Ship) -> None:
    """A collector with a small limit gets small batches, and all rows."""
    for _ in range(40):
        book.call()
    sink.answer = lambda request: 413 if request.size > 5000 and request.spans else 200

    assert ship()

    assert set(sink.by_id()) == span_ids(book)
    assert not sink.total("spanledger.telemetry.dropped")


def test_refused_content_is_left_out_and_the_span_kept(
    book: Book, sink: OtlpSink, running: Running
) -> None:
    """If a collector rejects the prompt, the rest of the span still arrives."""
    sink.answer = lambda request: (
        403 if any("poison" in str(s.attributes) for s in request.spans) else 200
    )
    book.finish(book.reserve(book.start()), content=CONTENT)

    until(lambda: book.cursor == book.last_seq)

    assert set(sink.by_id()) == span_ids(book)
    assert not [s for s in sink.spans if "gen_ai.input.messages" in s.attributes]


def test_spans_the_collector_did_not_keep_are_counted(
    book: Book, sink: OtlpSink, ship: Ship, caplog: pytest.LogCaptureFixture
) -> None:
    """A partial success moves the cursor, as the protocol requires, and is logged."""
    book.call()
    sink.response_body = b"\x0a\x02\x08\x01"  # partial_success { rejected_spans: 1 }

    assert ship()

    assert book.cursor == book.last_seq
    assert sink.total("spanledger.telemetry.dropped") == 1
    assert "discarded 1 spans of a batch" in caplog.text


@pytest.mark.parametrize("claimed", [-5, 2**62, 2**63 - 1])
def test_spans_not_kept_are_no_more_than_were_sent(
    book: Book, sink: OtlpSink, ship: Ship, claimed: int
) -> None:
    """An impossible number is not counted: no counter falls or overflows."""
    answer = ExportTraceServiceResponse()
    answer.partial_success.rejected_spans = claimed
    sink.response_body = answer.SerializeToString()
    for _ in range(3):
        book.call()
        assert ship()

    assert sink.total("spanledger.telemetry.dropped") == (6 if claimed > 0 else 0)


@pytest.mark.parametrize("compressed", [False, True])
def test_an_answer_is_read_up_to_a_bound(compressed: bool) -> None:
    """Of a huge response, only the beginning is kept in memory, and it still counts."""
    body = b"x" * (30 * 2**20)
    coding = b"content-encoding: gzip\r\n" if compressed else b""
    with collector_that_says(coding, [gzip.compress(body) if compressed else body]) as url:
        sender = SpanSender(url, Resource({}), {})
        tracemalloc.start()
        answer = sender.send(())
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        sender.shutdown()

    assert answer == Delivery("accepted")
    assert peak < 5 * 2**20


def test_an_answer_by_drips_holds_nothing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The status is enough; the shipper does not wait forever for the body."""
    monkeypatch.setattr(delivery, "MAX_RESPONSE_S", 0.2)
    drips: Iterator[bytes] = itertools.repeat(b"x")
    with collector_that_says(b"", drips) as url:
        sender = SpanSender(url, Resource({}), {})
        answer = sender.send(())
        sender.shutdown()

    assert answer == Delivery("accepted")


@contextlib.contextmanager
def collector_that_says(head: bytes, parts: Iterable[bytes]) -> Iterator[str]:
    """A server that answers one request with 200 and these parts, until the client disconnects."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        client, _ = server.accept()
        with client, contextlib.suppress(ConnectionError):
            client.recv(65_536)
            client.sendall(b"HTTP/1.1 200 OK\r\nconnection: close\r\n" + head + b"\r\n")
            for part in parts:
                client.sendall(part)
                time.sleep(0.01)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
    finally:
        thread.join(10)
        server.close()
    assert not thread.is_alive(), "the connection was kept"


# size and settings ----------------------------------------------------------------------


def test_much_content_makes_small_batches(
    book: Book, sink: OtlpSink, ship: Ship, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch ends early if its content reaches the limit, and skips no row."""
    monkeypatch.setattr(outbox_module, "MAX_BATCH_BYTES", 3000)
    content = '{"gen_ai.input.messages":["' + "x" * 1000 + '"]}'
    for _ in range(9):
        start = book.start()
        book.finish(book.reserve(start), content=content)
        book.call()

    assert ship()

    sizes = [sum("gen_ai.input.messages" in s.attributes for s in r.spans) for r in sink.requests]
    assert max(sizes) == 3
    assert set(sink.by_id()) == span_ids(book)
    assert len(sink.spans) == len(sink.by_id())


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 64, 1000])
def test_batches_of_any_size_miss_no_row(book: Book, limit: int) -> None:
    """Every ended row is in one batch, in order, wherever batches are cut."""
    for number in range(6):
        for _ in range(number):
            book.refuse()
        start = book.start()
        for attempt in range(1, 2 + number):
            book.finish(book.reserve(start, attempt), None, last=attempt == 1 + number)
    outbox = store_at(book.path).outbox()
    cursor, seqs = START, []
    while batch := outbox.read_after(cursor, limit):
        assert len(batch) <= limit
        seqs += [row.seq for row in batch]
        cursor = cursor.past(batch)
    outbox.close()

    assert seqs == list(range(1, book.last_seq + 1))


@pytest.mark.parametrize(
    "variables",
    [{"OTEL_SDK_DISABLED": "true"}, {"OTEL_TRACES_EXPORTER": "none"}],
    ids=lambda v: next(iter(v)),
)
def test_spans_can_be_switched_off(
    book: Book,
    sink: OtlpSink,
    ship: Ship,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
) -> None:
    """With signals switched off, rows are skipped and counted, and content does not pile up."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    start = book.start()
    book.finish(book.reserve(start), content=CONTENT)

    assert ship()

    assert sink.spans == []
    assert bool(sink.points) == ("OTEL_TRACES_EXPORTER" in variables)
    assert book.cursor == book.last_seq
    assert book.counted_nano == book.cost_nano
    assert book.ask("SELECT content FROM attempts") is None


def test_the_standard_variables_win(
    book: Book, sink: OtlpSink, ship: Ship, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Endpoint, headers and compression come from `OTEL_*` if these are set."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", sink.endpoint + "/tenant/")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-team=blue%20team")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
    book.call()

    assert ship(endpoint="http://127.0.0.1:1")

    assert {r.path for r in sink.requests} == {"/tenant/v1/traces", "/tenant/v1/metrics"}
    assert {r.headers["x-team"] for r in sink.requests} == {"blue team"}
    assert not [r for r in sink.requests if "content-encoding" in r.headers]


def test_requests_are_compressed(book: Book, sink: OtlpSink, ship: Ship) -> None:
    """By default, requests are gzipped."""
    book.call()

    assert ship()

    assert {r.headers["content-encoding"] for r in sink.requests} == {"gzip"}


def test_a_ledger_file_is_made_when_there_is_none(tmp_path: Any, sink: OtlpSink) -> None:
    """A shipper started before its gateway has nothing to do and reports no error."""
    settings = TelemetrySettings(endpoint=sink.endpoint)
    store = store_at(tmp_path / "new" / "ledger.db")

    assert run_shipper(store, settings, threading.Event(), once=True, pace=FAST)
    assert sink.spans == []
