"""The content of spans as they arrive at a collector."""

from __future__ import annotations

import json
from typing import Any

import pytest

from spanledger.ledger.model import RequestEnd
from spanledger.telemetry.signals import ATTRIBUTES, SPANS
from tests.service.telemetry.conftest import SECOND, Book, Ship
from tests.support.otlp_sink import OtlpSink

DETAIL = json.dumps(
    {
        "gen_ai.request.temperature": 0.5,
        "gen_ai.response.id": "chatcmpl-1",
        "gen_ai.response.finish_reasons": ["stop"],
        "server.address": "api.openai.com",
        "server.port": 443,
    }
)
CONTENT = '{"gen_ai.input.messages":[{"role":"user","parts":[]}]}'


def write_a_fallback(book: Book) -> Any:
    """A streamed request whose first attempt was rate limited and whose second succeeded."""
    start = book.start(stream=True, parent_span_id="00000000000000aa")
    first = book.reserve(start)
    book.finish(
        first,
        None,
        last=False,
        error_type="rate_limited",
        http_status=429,
        input_tokens=0,
        output_tokens=0,
        response_model="",
    )
    second = book.reserve(
        start,
        2,
        deployment="spare",
        provider="anthropic",
        model="claude-x",
        fallback_from="smart",
        reason="rate_limited",
    )
    book.finish(
        second,
        5_000_000,
        first_chunk_ns=start.started_ns + SECOND // 4,
        chunks=4,
        cache_read_tokens=50,
        cache_write_tokens=10,
        reasoning_tokens=30,
        estimated=True,
        response_model="claude-x-1",
        detail=DETAIL,
        content=CONTENT,
    )
    return start


def test_a_request_is_one_server_span_and_a_client_span_a_try(
    book: Book, sink: OtlpSink, ship: Ship
) -> None:
    """Every attempt of a request is a child of its one SERVER span, in the caller's trace."""
    start = write_a_fallback(book)

    assert ship()

    request, first, second = sorted(sink.spans, key=lambda s: (s.kind != "SERVER", s.span_id))
    assert {s.trace_id for s in sink.spans} == {start.trace_id}
    assert (request.name, request.kind, request.span_id) == ("chat smart", "SERVER", start.span_id)
    assert request.parent_span_id == "00000000000000aa"
    assert (first.name, first.kind, first.status) == ("chat gpt-4o", "CLIENT", "ERROR")
    assert (second.name, second.kind, second.status) == ("chat claude-x", "CLIENT", "UNSET")
    assert first.parent_span_id == second.parent_span_id == start.span_id
    assert (second.start_ns, second.end_ns) == (start.started_ns, start.started_ns + SECOND)
    assert {s.scope for s in sink.spans} == {"spanledger"}


def test_a_try_says_all_that_is_known_of_it(book: Book, sink: OtlpSink, ship: Ship) -> None:
    """Tokens, money, timing, the reason for the fallback, parameters and content are on the span."""
    start = write_a_fallback(book)

    assert ship()

    second = next(s for s in sink.spans if s.name == "chat claude-x")
    assert second.attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "anthropic",
        "gen_ai.request.model": "claude-x",
        "gen_ai.request.stream": True,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.response.id": "chatcmpl-1",
        "gen_ai.response.model": "claude-x-1",
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.response.time_to_first_chunk": 0.25,
        "gen_ai.usage.input_tokens": 200,
        "gen_ai.usage.output_tokens": 100,
        "gen_ai.usage.cache_read.input_tokens": 50,
        "gen_ai.usage.cache_creation.input_tokens": 10,
        "gen_ai.usage.reasoning.output_tokens": 30,
        "gen_ai.input.messages": '[{"role":"user","parts":[]}]',
        "server.address": "api.openai.com",
        "server.port": 443,
        "http.response.status_code": 200,
        "spanledger.request.id": start.request_id,
        "spanledger.route": "smart",
        "spanledger.customer": "acme",
        "spanledger.team": "blue",
        "spanledger.key.id": "key_1",
        "user.id": "ada",
        "spanledger.project": "apollo",
        "spanledger.tags": ["batch", "night"],
        "spanledger.deployment": "spare",
        "spanledger.attempt.number": 2,
        "spanledger.attempt.state": "settled",
        "spanledger.fallback.from": "smart",
        "spanledger.fallback.reason": "rate_limited",
        "spanledger.cost.usd": 0.005,
        "spanledger.cost.nano_usd": 5_000_000,
        "spanledger.price.id": "2026-11-01/gpt-4o",
        "spanledger.estimated": True,
    }


def test_sums_over_spans_count_nothing_twice(book: Book, sink: OtlpSink, ship: Ship) -> None:
    """The SERVER span has neither tokens nor the attempts' cost attribute; it has its own total."""
    write_a_fallback(book)

    assert ship()

    request = next(s for s in sink.spans if s.kind == "SERVER")
    assert not [n for n in request.attributes if n.startswith(("gen_ai.", "spanledger.cost."))]
    assert request.attributes["spanledger.request.cost.nano_usd"] == 5_000_000
    assert request.attributes["spanledger.attempts"] == 2
    assert request.attributes["spanledger.outcome"] == "ok"
    spent = sum(s.attributes.get("spanledger.cost.nano_usd", 0) for s in sink.spans)
    assert spent == book.cost_nano


@pytest.mark.parametrize(
    ("outcome", "error_type", "http_status", "status"),
    [
        ("error", "server_error", 502, "ERROR"),
        ("error", "internal_error", 500, "ERROR"),
        ("error", "stream_interrupted", 200, "ERROR"),
        ("error", "", 0, "ERROR"),
        ("error", "model_not_found", 404, "UNSET"),
        ("error", "invalid_request", 400, "UNSET"),
        ("error", "rate_limited", 429, "UNSET"),
        ("refused", "budget_exceeded", 429, "UNSET"),
        ("refused", "budget_exceeded", 402, "UNSET"),
        ("cancelled", "", 499, "UNSET"),
    ],
)
def test_how_a_request_ended_is_on_its_span(
    book: Book,
    sink: OtlpSink,
    ship: Ship,
    outcome: Any,
    error_type: str,
    http_status: int,
    status: str,
) -> None:
    """Our own failures are errors on the SERVER span; a refusal, a caller's mistake and a caller that
    left are not."""
    start = book.start()
    reservation = book.reserve(start)
    end = RequestEnd(outcome, error_type, http_status, start.started_ns + SECOND)
    book.finish(reservation, None, request=end, error_type=error_type)

    assert ship()

    request = next(s for s in sink.spans if s.kind == "SERVER")
    assert request.status == status
    assert request.attributes["spanledger.outcome"] == outcome
    assert request.attributes.get("error.type", "") == error_type
    assert request.attributes.get("http.response.status_code", 0) == http_status


@pytest.mark.parametrize(
    ("error_type", "http_status", "status"),
    [
        ("invalid_request", 400, "ERROR"),
        ("rate_limited", 429, "ERROR"),
        ("", 404, "ERROR"),
        ("server_error", 503, "ERROR"),
        ("timeout", 0, "ERROR"),
        ("", 200, "UNSET"),
        ("", 0, "UNSET"),
    ],
)
def test_a_try_is_an_error_from_400(
    book: Book, sink: OtlpSink, ship: Ship, error_type: str, http_status: int, status: str
) -> None:
    """On the CLIENT span every failure is an error, even one caused by the caller."""
    end = RequestEnd("error", "invalid_request", 400, book.start().started_ns + SECOND)
    reservation = book.reserve(book.start())
    book.finish(reservation, None, request=end, error_type=error_type, http_status=http_status)

    assert ship()

    assert {s.kind: s.status for s in sink.spans} == {"SERVER": "UNSET", "CLIENT": status}


@pytest.mark.parametrize(
    ("parent", "flags"), [("", 1), ("00000000000000aa", 1), ("00000000000000aa-00", 0)]
)
def test_spans_are_flagged_as_the_callers_trace(
    book: Book, sink: OtlpSink, ship: Ship, parent: str, flags: int
) -> None:
    """A trace that the caller did not sample is exported anyway, and its spans have that flag."""
    start = book.start(parent_span_id=parent)
    book.finish(book.reserve(start))

    assert ship()

    request, attempt = sorted(sink.spans, key=lambda s: s.kind != "SERVER")
    assert [s.flags & 0xFF for s in (request, attempt)] == [flags, flags]
    assert request.parent_span_id == parent.removesuffix("-00")
    assert attempt.parent_span_id == start.span_id


def test_every_attribute_is_in_the_registry(book: Book, sink: OtlpSink, ship: Ship) -> None:
    """Nothing is exported under a name or type that is not documented."""
    write_a_fallback(book)
    book.refuse()
    book.reserve(book.start(), priced=True)
    book.sweep()

    assert ship()

    types = {"string": str, "int": int, "double": float, "boolean": bool, "string[]": list}
    allowed = {str(span.kind): set(span.attributes) for span in SPANS}
    for span in sink.spans:
        assert set(span.attributes) <= allowed[span.kind]
        for name, value in span.attributes.items():
            assert type(value) is types[ATTRIBUTES[name].type], name


def test_the_resource_is_stable_and_the_environment_wins(
    book: Book, sink: OtlpSink, ship: Ship, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A restart keeps the instance id, and `OTEL_*` variables override our names."""
    book.call()
    assert ship()
    book.call()
    assert ship()
    monkeypatch.setenv("OTEL_SERVICE_NAME", "mine")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
    book.call()
    assert ship()

    instances = {s.resource["service.instance.id"] for s in sink.spans}
    names = [s.resource["service.name"] for s in sink.spans]
    assert len(instances) == 1
    assert set(names[:-2]) == {"spanledger-gateway"}
    assert set(names[-2:]) == {"mine"}
    assert sink.spans[-1].resource["deployment.environment.name"] == "test"
    assert {p.resource["service.instance.id"] for p in sink.points} == instances
