"""The bytes that the shipper writes, against those of the OpenTelemetry SDK."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, get_type_hints

import hypothesis.strategies as st
import pytest
from hypothesis import given
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource

from spanledger.ledger.model import UNSAMPLED
from spanledger.ledger.rows import AttemptRow, EndedRow, RequestRow
from spanledger.telemetry import spans
from spanledger.telemetry.attributes import captured_content
from spanledger.telemetry.conventions import Generation
from spanledger.telemetry.spans import SpanEncoder
from spanledger.wires import PATHS
from spanledger.wires.base import Content
from tests.service.telemetry.sdk_spans import export_by_sdk

RESOURCE = Resource({"service.name": "gateway é", "n": 3, "on": True}, "https://example.com/1")
INT64 = 2**63 - 1
TEXTS = ("", "acme", "é 漢字 🧾", "x" * 127, "y" * 128, "z" * 20_000)
NUMBERS = (0, 1, 127, 128, 16_383, 16_384, 2**31, 2**53 + 1, INT64)


def detail(pick: random.Random) -> str:
    """What routing stores: parameters of the request, the answer's ids, a wildcard's real model."""
    every: dict[str, Any] = {
        "gen_ai.request.model": f"real-{pick.choice(TEXTS)}",
        "gen_ai.request.temperature": pick.choice([0, 0.5, -0.0, 1e300, 1.0]),
        "gen_ai.request.top_k": pick.choice([40.0, 1.5, 0, 1e300]),
        "gen_ai.request.seed": pick.choice([*NUMBERS, -1, -(2**63)]),
        "gen_ai.request.stop_sequences": pick.choice([[], ["stop"], list(TEXTS)]),
        "gen_ai.response.id": f"chatcmpl-{pick.random()}",
        "gen_ai.response.finish_reasons": ["stop", "tool_call"][: pick.randint(0, 2)],
        "server.port": 443,
        "spanledger.usage.audio.input_tokens": pick.choice(NUMBERS),
        "x": pick.choice([True, False, 1, 1.0]),
    }
    return json.dumps({name: every[name] for name in every if pick.random() < 0.6})


def content(pick: random.Random) -> str | None:
    """Captured content in one of the modes, with something to redact and to shorten."""
    message = {"role": "user", "parts": [{"content": f"mail a@b.example {pick.choice(TEXTS)}"}]}
    mode: Any = pick.choice(["off", "redacted", "full"])
    return captured_content(mode, 4096, Content(input=[message], output=[message], tools=[]))


def any_values(pick: random.Random, row: type[EndedRow]) -> dict[str, Any]:
    """A value of the right type for every column."""
    kinds = get_type_hints(row)
    return {name: pick.choice(NUMBERS if kinds[name] is int else TEXTS) for name in row._fields}


def attempt(pick: random.Random, seq: int) -> AttemptRow:
    """An attempt with any mixture of values, as far as a ledger can hold it."""
    started = pick.randint(0, INT64 - 10**12)
    values = any_values(pick, AttemptRow)
    values |= {
        "seq": seq,
        "number": pick.randint(1, 3),
        "trace_id": f"{pick.getrandbits(128):032x}",
        "span_id": f"{pick.getrandbits(64):016x}",
        "parent_span_id": f"{pick.getrandbits(64):016x}",
        "caller_span_id": pick.choice(["", "00000000000000aa", f"00000000000000aa{UNSAMPLED}"]),
        "operation": pick.choice([*PATHS, "unheard-of"]),
        "stream": pick.randint(0, 1),
        "started_ns": started,
        "ended_ns": started + pick.choice([-1, 0, 10**9]),
        "first_chunk_ns": pick.choice([0, started - 1, started + 10**8]),
        "http_status": pick.choice([0, 200, 404, 503]),
        "detail": detail(pick),
        "content": content(pick),
        "shipped_nano": None,
        "list_nano": pick.choice([None, 0, 7]),
        "charge_nano": pick.choice([None, 0, 7]),
        "charge_rule": pick.choice(["", "damaged", '["acme",1200000,"cost"]', '["",1000000]']),
        "tags": pick.choice(["", '["a"]', '["b", "\u00e5"]']),
    }
    for name in ("estimated", "unpriced", "corrected"):
        values[name] = pick.randint(0, 1)
    return AttemptRow(**values)


def request(pick: random.Random, seq: int) -> RequestRow:
    """A request with any mixture of values."""
    like = attempt(pick, seq)
    values = any_values(pick, RequestRow)
    values |= {name: value for name, value in like._asdict().items() if name in values}
    values["parent_span_id"] = like.caller_span_id
    values["outcome"] = pick.choice(["ok", "error", "refused", "cancelled", "abandoned"])
    return RequestRow(**values)


def varied(seed: int, number: int) -> list[EndedRow]:
    """Rows of both kinds, some of which share a caller or a kind with another."""
    pick = random.Random(seed)  # repeatable
    rows: list[EndedRow] = []
    for seq in range(number):
        rows.append(attempt(pick, seq) if pick.random() < 0.5 else request(pick, seq))
        if pick.random() < 0.5:
            other = pick.choice(rows)
            rows.append(other._replace(request_id="again", cost_nano=pick.choice(NUMBERS)))
    return rows


def in_order(export: ExportTraceServiceRequest) -> ExportTraceServiceRequest:
    """An export whose attributes, which have no order, are sorted by name."""
    for group in export.resource_spans:
        for scope in group.scope_spans:
            for span in scope.spans:
                span.attributes.sort(key=lambda pair: pair.key)
    return export


def decoded(
    rows: Sequence[EndedRow], form: Generation = Generation.OLD, resource: Resource = RESOURCE
) -> ExportTraceServiceRequest:
    """What a collector reads."""
    return read(SpanEncoder(resource, form).encode(rows))


def read(encoded: bytes) -> ExportTraceServiceRequest:
    """An export from its bytes."""
    found: ExportTraceServiceRequest = ExportTraceServiceRequest.FromString(encoded)
    return found


@pytest.mark.parametrize("form", Generation)
@pytest.mark.parametrize("seed", range(4))
def test_a_collector_reads_what_the_sdk_would_have_sent(seed: int, form: Generation) -> None:
    """Any rows decode to the same message as from the SDK's spans and encoder, in both forms."""
    rows = varied(seed, 80)

    assert in_order(decoded(rows, form)) == in_order(export_by_sdk(rows, RESOURCE, form))


@pytest.mark.parametrize("make", [attempt, request])
def test_rows_that_differ_in_one_column_share_nothing_that_depends_on_it(
    make: Callable[[random.Random, int], EndedRow],
) -> None:
    """What is kept of one row is used for another only where all columns behind it agree."""
    row = make(random.Random(1), 1)  # repeatable
    kinds = get_type_hints(type(row))
    ids = {"trace_id", "span_id", "parent_span_id", "caller_span_id", "detail", "content"}
    rows = [row]
    for name in set(row._fields) - ids - {"shipped_nano"}:
        change: dict[str, Any] = {name: "other"}
        if kinds[name] in (int, int | None):
            change = {name: 0 if getattr(row, name) else 1}
        if name == "tags":
            change = {name: '["other"]'}
        rows += [row._replace(**change), row]

    assert in_order(decoded(rows)) == in_order(export_by_sdk(rows, RESOURCE, Generation.OLD))


def test_no_attribute_is_there_twice() -> None:
    """Not even where a detail replaces a column, as for the model behind a wildcard."""
    for scope in decoded(varied(5, 200)).resource_spans[0].scope_spans:
        for span in scope.spans:
            assert not [k for k, n in Counter(p.key for p in span.attributes).items() if n > 1]


def test_what_is_kept_for_reuse_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """More callers and endings than the limit are encoded correctly, and do not fill the memory."""
    monkeypatch.setattr(spans, "MAX_SHARED", 7)
    rows = varied(6, 60)
    encoder = SpanEncoder(RESOURCE)

    for _ in range(2):
        found = read(encoder.encode(rows))
        assert in_order(found) == in_order(export_by_sdk(rows, RESOURCE, Generation.OLD))
    assert len(encoder._shared) <= 7


VALUES = st.one_of(
    st.text(max_size=200),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.lists(st.text(max_size=20), max_size=4),
)


def is_of_no_column(name: str) -> bool:
    """Routing never gives a detail the name of a column that is encoded apart (`shared_of_attempt`)."""
    return not name.startswith(("gen_ai.", "spanledger.", "http.", "error."))


NAMES = st.text(min_size=1, max_size=150).filter(is_of_no_column)


@given(st.dictionaries(NAMES, VALUES, max_size=6))
def test_every_value_is_encoded_as_by_the_sdk(found: dict[str, Any]) -> None:
    """Whatever a detail holds, a collector reads the same name, type and value."""
    pick = random.Random(0)  # repeatable
    row = attempt(pick, 1)._replace(detail=json.dumps(found), content=None)

    assert in_order(decoded([row])) == in_order(export_by_sdk([row], RESOURCE, Generation.OLD))


@pytest.mark.parametrize(
    "bad",
    [
        {"cost_nano": 2**63},
        {"cost_nano": -(2**63) - 1},
        {"started_ns": -1},
        {"trace_id": "not hex"},
        {"route": "\ud800"},
    ],
)
def test_a_value_that_does_not_fit_is_refused(bad: dict[str, Any]) -> None:
    """It is an error here, which costs one row, and not a damaged batch at the collector."""
    row = attempt(random.Random(0), 1)._replace(**bad)  # repeatable

    with pytest.raises(ValueError, match=r"fit|time|hex|surrogates"):
        SpanEncoder(RESOURCE).encode([row])


def test_nothing_is_an_empty_export() -> None:
    """Without rows there are no bytes, which is how a collector is asked whether it accepts anything."""
    assert SpanEncoder(RESOURCE).encode([]) == b""
