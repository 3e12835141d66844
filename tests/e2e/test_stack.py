"""The entire stack with real parts: every signal arrives under its name, with what it must carry."""

from __future__ import annotations

import json
from collections.abc import Set as AbstractSet
from decimal import Decimal

import pytest

from spanledger.telemetry.signals import METRICS, SCRAPED
from tests.e2e.played import CANARIES, CUSTOMER, MARK, Played, trace_of
from tests.e2e.signals import (
    APPLICATION,
    BESIDE,
    EDGES,
    GATEWAY,
    NOT_MADE,
    ONLY_SOMETIMES,
    SIGNALS,
    WORKER,
    Edge,
    Signal,
)
from tests.e2e.stack import VISIBLE_S, Stack, named
from tests.support.processes import poll

pytestmark = pytest.mark.timeout(300)  # the first test starts the stack and runs the scenario

ARRIVE_S = 90.0
"""A shorter wait, for data sent a while ago."""
MAX_IDLE_BYTES = 600 * 2**20
NOT_TWICE = 'spanledger_source=~"gateway|application"'

PLAYED = "1h"
"""How far back a series may have ended: some programs of the scenario have, and Prometheus shows
nothing older than five minutes by itself."""
OF_SECOND_GATEWAY = {
    "spanledger_unpriced_requests_total",
    "spanledger_list_cost_usd_total",
    "spanledger_charge_usd_total",
}


def test_idle_parts_are_small(played: Played) -> None:
    """All parts together, including gateway and worker, stay within 600 MB when idle."""
    if played.idle is None:
        pytest.skip("containers have their own memory limits")

    assert {"gateway", "worker", "collector", "prometheus"} <= played.idle.keys()
    assert sum(played.idle.values()) < MAX_IDLE_BYTES, played.idle


def test_the_first_request_is_seen_soon(played: Played) -> None:
    """A stack that has just become ready shows its first request in time, as spend and as trace."""
    assert played.first_seen


@pytest.mark.parametrize("signal", SIGNALS, ids=str)
def test_signal(stack: Stack, played: Played, signal: Signal) -> None:
    """A signal is there under its name, with its labels or attributes, and a metric's exemplars
    lead to traces that exist."""
    if signal.signal == "span":
        assert poll(lambda: _span_is_there(stack, played, signal), ARRIVE_S), _spans(stack, played)
        return
    if signal.name in OF_SECOND_GATEWAY and "unpriced" not in played.traces:
        pytest.skip(
            "a second gateway emits it, and a container's ledger is not accessible from here"
        )
    series = f"{signal.name}{{{signal.where}}}"
    # The series of a metric arrive one by one, and not each of them has to have every label.
    names: list[AbstractSet[str]] = []

    def labelled() -> bool:
        names[:] = [
            labels.keys() for labels, _ in stack.query(f"last_over_time({series}[{PLAYED}])")
        ]
        return any(signal.required <= labels for labels in names)

    found = poll(labelled, ARRIVE_S)
    if not names and signal.name in ONLY_SOMETIMES:
        pytest.skip(ONLY_SOMETIMES[signal.name])

    assert found, (series, names)
    if signal.exemplars:
        trace_ids = poll(lambda: stack.exemplars(series), ARRIVE_S)
        assert trace_ids, f"no exemplars of {series}"
        assert poll(lambda: stack.trace(trace_ids[-1]), ARRIVE_S), f"no trace {trace_ids[-1]}"


def _span_is_there(stack: Stack, played: Played, signal: Signal) -> bool:
    found = named(played.spans(stack), signal.service, signal.name, signal.where)
    # Without Tempo, check what a vendor receives.
    required = signal.required | (signal.not_for_vendors if stack.has_tempo else frozenset())
    return any(required <= span.attributes.keys() for span in found)


def _spans(stack: Stack, played: Played) -> list[tuple[str, str, str, list[str]]]:
    return [
        (s.resource.get("service.name", ""), s.name, s.kind, sorted(s.attributes))
        for s in played.spans(stack)
    ]


@pytest.mark.parametrize("edge", EDGES, ids=str)
def test_edge(stack: Stack, played: Played, edge: Edge) -> None:
    """A span has its parent in the same trace, across processes."""

    def joined() -> bool:
        spans = played.spans(stack)
        parents = {(s.trace_id, s.span_id) for s in named(spans, *edge.parent)}
        return any((s.trace_id, s.parent_span_id) in parents for s in named(spans, *edge.child))

    assert poll(joined, ARRIVE_S), _spans(stack, played)


def test_every_metric_has_its_row() -> None:
    """The table has every metric of the registry, or the reason why one is missing."""
    rows = {signal.name for signal in SIGNALS}

    assert set(NOT_MADE) <= {m.name for m in METRICS} | {m.name for m in SCRAPED}
    assert len([signal for signal in SIGNALS if signal.service == GATEWAY]) > 20
    assert {"spanledger_cost_usd_total", "spanledger_fallbacks_total"} <= rows


def test_spend_is_the_ledgers(stack: Stack, played: Played) -> None:
    """Prometheus's sums equal the ledger's charges, by model and in total, to the nano-dollar."""

    def agreed() -> bool:
        return ledger_spend(stack) == prometheus_spend(stack)

    assert poll(agreed, ARRIVE_S), (ledger_spend(stack), prometheus_spend(stack))
    assert sum(ledger_spend(stack).values()) > 0


def ledger_spend(stack: Stack) -> dict[str, Decimal]:
    """Nano-dollars by model."""
    rows = stack.target.command("spend", "--by", "model")["rows"]
    spent = {row["model"]: Decimal(row["cost_usd"]) for row in rows}
    return {model: usd for model, usd in spent.items() if usd}


def prometheus_spend(stack: Stack) -> dict[str, Decimal]:
    """The same from the counter."""
    found = stack.query("sum by (gen_ai_request_model) (spanledger_cost_usd_total) > 0")
    nano = Decimal("0.000000001")
    return {
        labels["gen_ai_request_model"]: Decimal(value).quantize(nano).normalize()
        for labels, value in found
    }


def test_nothing_is_counted_twice(stack: Stack, played: Played) -> None:
    """Tokens of calls that went through the gateway count once, and so do those that went past it."""

    def tokens(where: str) -> dict[str, float]:
        found = stack.query(
            "sum by (gen_ai_token_type) (last_over_time("
            f"gen_ai_client_token_usage_sum{{{NOT_TWICE}, {where}}}[{PLAYED}]))"
        )
        return {labels["gen_ai_token_type"]: value for labels, value in found}

    def ledger() -> dict[str, float]:
        rows = stack.target.command("spend", "--by", "model")["rows"]
        return {
            kind: float(sum(row[f"{kind}_tokens"] for row in rows)) for kind in ("input", "output")
        }

    everyone = 'service_name!=""'
    beside = f'service_name="{BESIDE}"'

    def agreed() -> bool:
        extra = tokens(beside)
        return bool(extra) and tokens(everyone) == {
            kind: value + extra[kind] for kind, value in ledger().items()
        }

    assert poll(agreed, ARRIVE_S), (tokens(everyone), tokens(beside), ledger())
    assert tokens(f'service_name=~"{WORKER}|{APPLICATION}"') == {}


def test_secrets_reach_no_back_end(stack: Stack, played: Played) -> None:
    """Keys and addresses in a prompt reach no trace, no label and no vendor; the words around
    them are in the trace, so the search sees content."""
    trace_id = played.traces["canaries"]

    def text() -> str:
        spans = [s for s in stack.trace(trace_id) if s.attributes.get("gen_ai.input.messages")]
        return json.dumps([[s.name, s.attributes, s.resource] for s in spans])

    assert poll(lambda: MARK in text(), ARRIVE_S)
    labels = json.dumps([labels for labels, _ in stack.query('{__name__=~".+"}')])
    places = {"traces": text(), "labels": labels}
    if stack.has_tempo:
        places["Tempo"] = stack.tempo_trace(trace_id).decode("utf-8", "replace")
    if (sink := stack.target.sink) is not None:
        places["vendor"] = json.dumps([[s.name, s.attributes] for s in sink.by_id().values()])
        assert MARK in places["vendor"]

    found = [
        (place, canary) for place, said in places.items() for canary in CANARIES if canary in said
    ]
    assert found == []


def test_a_finished_request_is_seen_everywhere_soon(stack: Stack, played: Played) -> None:
    """Within ten seconds of its answer, a request is counted as spend and its trace can be found."""
    before = stack.value("sum(spanledger_cost_usd_total)")
    answer = stack.ask("see me")
    trace_id = trace_of(answer)

    def seen() -> bool:
        if stack.value("sum(spanledger_cost_usd_total)") <= before:
            return False
        if not stack.has_tempo:
            return bool(stack.trace(trace_id))
        return trace_id in stack.search(f'{{ span.spanledger.customer = "{CUSTOMER}" }}')

    assert answer.status_code == 200
    assert poll(seen, VISIBLE_S)


def test_tempo_finds_the_dear_and_draws_the_map(stack: Stack, played: Played) -> None:
    """Traces can be searched by cost, and service calls are a metric."""
    stack.needs_tempo()
    edge = f'traces_service_graph_request_total{{client="{WORKER}", server="{GATEWAY}"}}'

    assert poll(
        lambda: played.traces["overrun"] in stack.search("{ span.spanledger.cost.usd > 0.01 }"),
        ARRIVE_S,
    )
    assert poll(lambda: stack.value(f"sum({edge})") > 0)
