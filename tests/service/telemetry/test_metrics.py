"""Metric points equal the ledger, never fall, and survive restarts."""

from __future__ import annotations

import time
from collections import defaultdict
from typing import Any

import pytest

from spanledger.ledger.model import EndRequest, Later, RequestEnd
from spanledger.telemetry import signals
from spanledger.telemetry.signals import METRICS, prometheus_name, prometheus_series
from tests.service.telemetry.conftest import HOLD, SECOND, Book, Running, Ship, until
from tests.support.otlp_sink import OtlpSink, SinkPoint


def history(sink: OtlpSink) -> dict[tuple[object, ...], list[SinkPoint]]:
    """Every series with its points in order of arrival."""
    found = defaultdict(list)
    for point in sink.points:
        found[point.series].append(point)
    return found


def test_money_equals_the_ledger_to_the_nano(book: Book, sink: OtlpSink, ship: Ship) -> None:
    """The counter's sum over customers and models is the ledger's total, exactly."""
    for number in range(50):
        book.call(cost=10_000_019 * number + 7, customer=f"c{number % 7}")
    book.call(cost=None)

    assert ship()

    assert book.counted_nano == book.cost_nano
    assert sink.total("spanledger.cost.usd") == pytest.approx(book.cost_nano / 1e9, abs=5e-10)
    assert sink.total("spanledger.request.cost.usd") == pytest.approx(book.cost_nano / 1e9)
    assert sink.count("spanledger.request.cost.usd") == 51


def test_ambiguous_usage_is_counted_by_its_reason(book: Book, sink: OtlpSink, ship: Ship) -> None:
    """An attempt whose row has a reason for ambiguity counts; any other does not."""
    odd = '{"spanledger.usage.ambiguity":"total_mismatch","gen_ai.response.id":"r"}'
    named = '{"gen_ai.response.id":"spanledger.usage.ambiguity"}'
    book.finish(book.reserve(book.start(), model="odd"), 5, estimated=True, detail=odd)
    book.finish(book.reserve(book.start(), model="clear"), 5, detail=named)

    assert ship()

    ambiguous = "spanledger.usage.ambiguous"
    assert sink.total(ambiguous) == 1
    labels = {"gen_ai__request__model": "odd", "spanledger__usage__ambiguity": "total_mismatch"}
    assert sink.total(ambiguous, **labels) == 1


def test_each_metric_counts_what_it_says(book: Book, sink: OtlpSink, ship: Ship) -> None:
    """One scripted history, and the value of every metric for it."""
    book.budget("b", 10**9)
    start = book.start(stream=True)
    failed: dict[str, Any] = {
        "error_type": "rate_limited",
        "last": False,
        "input_tokens": 0,
        "output_tokens": 0,
    }
    book.finish(book.reserve(start), None, **failed)
    book.finish(book.reserve(start, 2, reason="rate_limited"), None, **failed)
    third = book.reserve(start, 3, deployment="spare", fallback_from="smart", reason="rate_limited")
    book.finish(third, HOLD + 5, first_chunk_ns=third.now_ns + SECOND // 2, chunks=6)
    free = book.start(customer="free")
    book.finish(book.reserve(free, priced=False), 0, unpriced=True)
    book.refuse("team")

    assert ship()

    duration = "gen_ai.client.operation.duration"
    assert sink.count(duration) == 4
    assert sink.count(duration, error__type="rate_limited") == 2
    assert sink.total(duration, spanledger__deployment="spare") == 1.0
    assert sink.total("gen_ai.client.operation.time_to_first_chunk") == 0.5
    assert sink.total("gen_ai.client.operation.time_per_output_chunk") == 0.1
    assert sink.total("gen_ai.client.token.usage", gen_ai__token__type="input") == 400
    assert sink.total("gen_ai.client.token.usage", gen_ai__token__type="output") == 200
    requests = "spanledger.request.duration"
    assert sink.count(requests, spanledger__outcome="ok") == 2
    assert sink.count(requests, error__type="budget_exceeded") == 1
    assert sink.total("spanledger.retries", spanledger__fallback__reason="rate_limited") == 1
    assert sink.total("spanledger.fallbacks", spanledger__fallback__from="smart") == 1
    assert sink.total("spanledger.unpriced.requests", gen_ai__request__model="gpt-4o") == 1
    assert sink.total("spanledger.overrun.usd", spanledger__customer="acme") == 5e-9
    assert sink.total("spanledger.held.usd", gen_ai__request__model="gpt-4o") == HOLD / 1e9
    decisions = "spanledger.budget.decisions"
    assert sink.total(decisions, spanledger__budget__decision="allow") == 3
    deny = {"spanledger__budget__decision": "deny", "spanledger__budget__scope": "team"}
    assert sink.total(decisions, **deny, spanledger__budget__refused_by="b") == 1


def test_a_long_outage_counts_every_request_served_elsewhere(
    book: Book, sink: OtlpSink, ship: Ship
) -> None:
    """While a route is in cooldown, its requests start at the fallback and each counts as one."""
    first = book.start()
    book.finish(book.reserve(first), None, error_type="server_error", last=False)
    moved: dict[str, Any] = {"deployment": "spare", "fallback_from": "smart"}
    book.finish(book.reserve(first, 2, reason="server_error", **moved))
    for _ in range(30):
        book.finish(book.reserve(book.start(), reason="cooldown", **moved))
    named_alike = book.start()
    book.finish(book.reserve(named_alike, deployment="smart", fallback_from="smart"))
    book.call(route="other")

    assert ship()

    smart = sink.count("spanledger.request.duration", spanledger__route="smart")
    assert sink.total("spanledger.fallbacks", spanledger__fallback__from="smart") == smart == 32
    assert sink.total("spanledger.fallbacks", spanledger__fallback__reason="cooldown") == 30
    assert sink.total("spanledger.retries") == 0
    spans = [s for s in sink.by_id().values() if "spanledger.fallback.from" in s.attributes]
    assert len(spans) == 32


def test_points_have_the_registrys_shape(book: Book, sink: OtlpSink, ship: Ship) -> None:
    """Units, attributes and buckets are those that dashboards rely on."""
    book.call()
    book.call(stream=True)

    assert ship()

    known = {metric.name: metric for metric in METRICS}
    for point in sink.points:
        metric = known[point.metric]
        assert point.unit == metric.unit
        assert set(point.attributes) <= set(metric.attributes)
        assert point.bounds == metric.buckets
        assert sum(point.buckets) == point.count


def test_a_measurement_falls_into_its_bucket(book: Book, sink: OtlpSink, ship: Ship) -> None:
    """A value at a bound belongs to the bucket below it, one above to the next."""
    for cost in (10_000_000, 10_000_001, 20_000_000_000):
        book.call(cost=cost)

    assert ship()

    (point,) = (p for p in sink.latest().values() if p.metric == "spanledger.request.cost.usd")
    assert point.bounds[7] == 0.01
    assert [i for i, n in enumerate(point.buckets) if n] == [7, 8, len(point.bounds)]


def test_exemplars_lead_to_traces(book: Book, sink: OtlpSink, ship: Ship) -> None:
    """The expensive request's bucket carries its trace and span, and is not sent twice."""
    book.call(cost=1000)
    dear = book.call(cost=500_000_000)

    assert ship()

    (point,) = (p for p in sink.latest().values() if p.metric == "spanledger.request.cost.usd")
    assert (dear.trace_id, dear.span_id, 0.5) in point.exemplars
    assert len(point.exemplars) == 2


def test_a_new_series_begins_at_zero(book: Book, sink: OtlpSink, running: Running) -> None:
    """Each series starts with a zero one interval before its value; no point is in the future."""
    book.call()
    until(lambda: sink.total("spanledger.cost.usd") > 0)
    book.call(customer="late")
    until(lambda: sink.total("spanledger.cost.usd", spanledger__customer="late") > 0)

    for points in history(sink).values():
        zero, value, *_ = points
        assert (zero.value, zero.count, zero.exemplars) == (0, 0, ())
        assert value.value > 0
        assert value.time_ns - zero.time_ns >= 0.05 * SECOND
        assert zero.start_ns <= zero.time_ns
        assert all(p.time_ns <= time.time_ns() for p in points)
    arrived = [r for r in sink.requests if r.points]
    assert all(len({p.value > 0 for p in r.points}) == 1 for r in arrived[:2])


def test_quiet_series_are_sent_now_and_then(book: Book, sink: OtlpSink, running: Running) -> None:
    """A series that does not change is repeated, so no store forgets it."""
    book.call()
    until(lambda: len([p for p in sink.points if p.metric == "spanledger.cost.usd"]) >= 4)

    points = [p for p in sink.points if p.metric == "spanledger.cost.usd"][1:]
    assert len({p.value for p in points}) == 1
    assert len({p.time_ns for p in points}) == len(points)


def test_a_restart_resets_nothing(book: Book, sink: OtlpSink, ship: Ship) -> None:
    """A new shipper continues the same series: same start, higher values."""
    book.call(cost=100)
    assert ship()
    book.call(cost=11)
    assert ship()

    points = [p for p in sink.points if p.metric == "spanledger.cost.usd"]
    assert [round(p.value * 1e9) for p in points] == [0, 100, 111]
    assert len({p.start_ns for p in points}) == 1


def test_a_correction_never_makes_a_counter_fall(book: Book, sink: OtlpSink, ship: Ship) -> None:
    """A later correction of an expired attempt changes the total once; exported values stay."""
    lost = book.reserve(book.start())
    book.sweep()
    assert ship()
    assert sink.total("spanledger.cost.usd") == HOLD / 1e9

    book.finish(lost, 1_000, last=False)
    assert ship()
    assert book.counted_nano == book.cost_nano == 1_000
    assert sink.total("spanledger.cost.usd") == HOLD / 1e9

    book.call(cost=HOLD)
    assert ship()
    assert book.counted_nano == book.cost_nano == HOLD + 1_000
    assert sink.total("spanledger.cost.usd") == pytest.approx(book.cost_nano / 1e9)
    assert sink.count("gen_ai.client.operation.duration") == 2

    span = sink.by_id()[lost.span_id]
    assert span.attributes["spanledger.cost.nano_usd"] == 1_000
    assert span.attributes["spanledger.corrected"] is True
    assert len([s for s in sink.spans if s.span_id == lost.span_id]) == 2


def test_a_correction_upwards_is_added_once(book: Book, sink: OtlpSink, ship: Ship) -> None:
    """An attempt that cost more than was charged adds only the difference."""
    lost = book.reserve(book.start())
    book.sweep()
    assert ship()
    book.finish(lost, HOLD + 30, last=False)
    assert ship()

    assert book.counted_nano == book.cost_nano == HOLD + 30
    assert sink.total("spanledger.cost.usd") == pytest.approx((HOLD + 30) / 1e9)


def test_a_request_given_up_and_ended_after_all_counts_once(
    book: Book, sink: OtlpSink, ship: Ship
) -> None:
    """A request ended by the sweep is not counted again when its gateway comes back."""
    lost = book.reserve(book.start())
    book.sweep()
    assert ship()
    end = RequestEnd("ok", "", 200, time.time_ns())
    book.finish(lost, 1_000, request=end)
    assert ship()

    assert sink.count("spanledger.request.duration") == 1
    assert sink.by_id()[lost.request.span_id].attributes["spanledger.outcome"] == "ok"


def test_a_correction_before_the_first_shipping_is_just_a_row(
    book: Book, sink: OtlpSink, ship: Ship
) -> None:
    """An attempt corrected before it was shipped is counted like any other."""
    lost = book.reserve(book.start())
    book.sweep()
    book.finish(lost, 1_000, last=False)
    assert ship()

    assert book.counted_nano == book.cost_nano == 1_000
    assert sink.total("spanledger.cost.usd") == pytest.approx(1e-6)


def test_customers_beyond_the_cap_share_a_series(book: Book, sink: OtlpSink, ship: Ship) -> None:
    """The first N customers keep their label across restarts; the rest are `other`."""
    for name in ("a", "b", "c"):
        book.call(customer=name)
    assert ship(max_customers=2)
    for name in ("d", "b"):
        book.call(customer=name)
    assert ship(max_customers=2)

    labels = {
        p.attributes["spanledger.customer"]: round(p.value * 1e9)
        for p in sink.latest().values()
        if p.metric == "spanledger.cost.usd"
    }
    assert labels == {"a": 1_234_567, "b": 2_469_134, "other": 2_469_134}
    assert {s.attributes["spanledger.customer"] for s in sink.spans} == {"a", "b", "c", "d"}


def test_a_cost_that_comes_after_its_request(book: Book, sink: OtlpSink, ship: Ship) -> None:
    """The request is counted when it ends, and its cost once it is known; neither is counted twice."""
    reservation = book.reserve(book.start())
    start = reservation.request
    end = RequestEnd("ok", "", 200, start.started_ns + SECOND)
    later = Later(start.started_ns + 3_600 * SECOND, HOLD)
    book.store.commit([EndRequest(start, end, None, later)])
    assert ship()
    assert sink.count("spanledger.request.duration") == 1
    assert sink.count("spanledger.request.cost.usd") == 0
    assert sink.total("spanledger.cost.usd") == 0

    book.finish(reservation, 1_234_567, last=False, late=True)
    assert ship()
    assert sink.count("spanledger.request.duration") == 1
    assert sink.count("spanledger.request.cost.usd") == 1
    assert sink.total("spanledger.request.cost.usd") == pytest.approx(0.001234567)
    assert book.counted_nano == book.cost_nano == 1_234_567
    assert sink.by_id()[start.span_id].attributes["spanledger.request.cost.nano_usd"] == 1_234_567


def test_a_route_that_callers_make_up_is_no_label(book: Book, sink: OtlpSink, ship: Ship) -> None:
    """Requests for unknown models share one series; the span has the requested name."""
    book.call()
    for number in range(5):
        start = book.start(route=f"made-up-{number}")
        end = RequestEnd("error", "invalid_request", 404, start.started_ns + 5)
        book.store.commit([EndRequest(start, end)])
    start = book.start()
    end = RequestEnd("error", "invalid_request", 400, start.started_ns + 5)
    book.store.commit([EndRequest(start, end)])

    assert ship()

    requests = "spanledger.request.duration"
    assert sink.count(requests, spanledger__route="unknown") == 5
    assert sink.count(requests, spanledger__route="smart") == 2
    assert "made-up" not in str(sink.points)
    assert sink.by_id()[start.span_id].attributes["spanledger.route"] == "smart"
    assert "chat made-up-3" in {span.name for span in sink.spans}


def test_a_metric_has_no_more_points_than_its_cap(book: Book, sink: OtlpSink, ship: Ship) -> None:
    """Above the cap, one overflow point absorbs the rest, and nothing is lost."""
    most = signals.REQUEST_COST.most
    asked = [book.start(customer=f"c{number}") for number in range(most + 2)]
    attempts = [book.reserve(start) for start in asked]
    for held in attempts:
        book.finish(held, 100)
    # On a slow machine this many points exceed an export's time limit; the next one continues.
    until(lambda: ship(max_customers=2 * most), 60)
    book.call(cost=100, customer="late")
    until(lambda: ship(max_customers=2 * most), 60)

    points = [p for p in sink.latest().values() if p.metric == "spanledger.request.cost.usd"]
    overflow = [p for p in points if p.attributes == {"otel.metric.overflow": True}]
    assert len(points) == most
    assert [p.count for p in overflow] == [4]
    assert sink.total("spanledger.cost.usd") == pytest.approx(book.cost_nano / 1e9)
    assert book.counted_nano == book.cost_nano


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("gen_ai.client.operation.duration", "gen_ai_client_operation_duration_seconds"),
        ("gen_ai.client.token.usage", "gen_ai_client_token_usage"),
        ("spanledger.cost.usd", "spanledger_cost_usd_total"),
        ("spanledger.request.cost.usd", "spanledger_request_cost_usd"),
        ("spanledger.fallbacks", "spanledger_fallbacks_total"),
    ],
)
def test_names_in_prometheus(metric: str, expected: str) -> None:
    """The registry's names are those that a real Prometheus gives these metrics."""
    known = {m.name: m for m in METRICS}

    assert prometheus_name(known[metric]) == expected
    if known[metric].kind == "histogram":
        assert prometheus_series(known[metric])[0] == f"{expected}_bucket"


def test_what_a_provider_says_it_charged_is_counted_beside_our_figure(
    book: Book, sink: OtlpSink, ship: Ship
) -> None:
    """OpenRouter's own figure is summed to the nano-dollar; rows that have none add nothing."""
    key = "spanledger.provider.cost.nano_usd"
    for detail in (f'{{"{key}": 140001}}', f'{{"{key}": 7}}', "{}", f'{{"{key}": "much"}}'):
        book.finish(book.reserve(book.start()), 2_000, detail=detail)

    assert ship()

    assert sink.total("spanledger.provider.cost.usd", spanledger__customer="acme") == 140_008e-9
    assert sink.total("spanledger.cost.usd") == 8_000e-9
