"""Compares what callers got, what the provider billed, the ledger, the spans and the metrics.

The policy that is compared with: an attempt is settled at exactly what the provider billed; one that
was released was free; one whose gateway died is charged its whole hold; one whose answer nobody saw
to its end is an estimate within its hold.
"""

from __future__ import annotations

import json
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from spanledger.ledger.sqlite.store import SqliteStore
from spanledger.money import parse_usd
from tests.prove.nursery import PATIENCE_S
from tests.prove.proof import BrokenPromiseError, Counts, promise
from tests.prove.site import Seen, Site, shown
from tests.service.ledger.stores import raw
from tests.support.processes import poll


class AttemptRow(NamedTuple):
    """An attempt in the ledger."""

    request_id: str
    number: int
    span_id: str
    state: str
    hold: int
    cost: int
    overrun: int
    estimated: int
    lane: int
    seq: int | None


class RequestRow(NamedTuple):
    """A request in the ledger."""

    request_id: str
    trace_id: str
    span_id: str
    outcome: str | None
    cost: int
    attempts: int
    lane: int
    seq: int | None


def _lane(site: Site) -> str:
    """The column of a row's lane; a file has only one."""
    return "0" if isinstance(site.store, SqliteStore) else "lane"


def attempt_rows(site: Site) -> list[AttemptRow]:
    """All attempts."""
    query = (
        "SELECT request_id, number, span_id, state, hold_nano, cost_nano, overrun_nano, estimated,"
        f" {_lane(site)}, seq FROM attempts"
    )
    return [AttemptRow(*row) for row in raw(site.store, query)]


def request_rows(site: Site) -> list[RequestRow]:
    """All requests."""
    query = (
        "SELECT request_id, trace_id, span_id, outcome, cost_nano, attempts,"
        f" {_lane(site)}, seq FROM requests"
    )
    return [RequestRow(*row) for row in raw(site.store, query)]


def wait_until_shipped(site: Site) -> None:
    """Wait until no hold is left, and every row has arrived as a span and in the metrics."""
    counting = (
        "SELECT (SELECT count(*) FROM attempts WHERE state = 'held')"
        " + (SELECT count(*) FROM requests WHERE seq IS NULL)"
    )
    left = poll(lambda: raw(site.store, counting)[0][0] == 0, PATIENCE_S)
    promise(left, f"{raw(site.store, counting)[0][0]} attempts and requests never ended")
    expected = {row.span_id for row in attempt_rows(site)} | {
        row.span_id for row in request_rows(site)
    }
    promise(
        poll(lambda: expected <= site.sink.by_id().keys(), PATIENCE_S),
        f"{len(expected - site.sink.by_id().keys())} of {len(expected)} spans never arrived",
    )
    total = sum(row.cost for row in attempt_rows(site))
    promise(
        poll(lambda: _counted(site)[0] == total, PATIENCE_S),
        f"the shipper has counted {_counted(site)[0]} nano-USD, the ledger has {total}",
    )
    promise(
        poll(lambda: _exported(site) == _counted(site)[1], PATIENCE_S),
        f"the metrics have {_exported(site)} nano-USD, not {_counted(site)[1]}",
    )


def _counted(site: Site) -> tuple[int, int]:
    """What the shipper has counted, and what it exports: a counter never falls, so one that counted a
    whole hold, which turned out to cost less, stays until the rest has caught up."""
    query = "SELECT point FROM ship_points WHERE metric = 'spanledger.cost.usd'"
    points = [json.loads(point) for (point,) in raw(site.store, query)]
    return sum(p.get("total", 0) for p in points), sum(p.get("peak", 0) for p in points)


def _exported(site: Site) -> int:
    return round(site.sink.total("spanledger.cost.usd") * 1e9)


def compare(site: Site, seen: Sequence[Seen]) -> Counts:
    """Raises BrokenPromiseError if two of the five differ; returns what there was."""
    attempts, requests = attempt_rows(site), request_rows(site)
    by_span = {row.span_id: row for row in attempts}
    promise(len(by_span) == len(attempts), "two attempts have the same span")
    counts = compare_bill(site, by_span)
    compare_requests(attempts, requests)
    _compare_callers(site, attempts, requests, seen)
    _compare_spans(site, attempts, requests)
    _compare_balances(site, attempts)
    arrived = len(site.sink.spans)
    counts.update(
        {
            "requests asked": len(seen),
            "requests answered": sum(one.whole for one in seen),
            "attempts": len(attempts),
            "expired": sum(row.state == "expired" for row in attempts),
            "estimated": sum(bool(row.estimated) for row in attempts if row.state == "settled"),
            "spans": len(attempts) + len(requests),
            "spans sent again": arrived - len(attempts) - len(requests),
        }
    )
    return counts


def compare_bill(site: Site, by_span: dict[str, AttemptRow]) -> Counts:
    """Every call at the provider was held before, and is charged by the policy."""
    counts: Counts = Counter()
    called = Counter(site.provider.received)
    twice = [span for span, times in called.items() if times > 1]
    promise(not twice, f"attempts were sent twice: {twice[:3]}")
    unheld = [span for span in called if span not in by_span]
    promise(not unheld, f"the provider was called without a hold: {unheld[:3]}")
    for span_id, row in by_span.items():
        entries = site.provider.billed.get(span_id, [])
        bill = sum(entry.nano_usd for entry in entries)
        said = f"{row} was billed {bill}: {shown([e.view() for e in entries])}"
        promise(row.seq is not None, f"it has no place in the outbox: {said}")
        promise(row.overrun == 0, f"it overran its hold: {said}")
        match row.state:
            case "released":
                promise(row.cost == 0 == bill, said)
            case "expired":
                promise(row.cost == row.hold >= bill, said)
            case "settled" if row.estimated:
                promise(0 <= row.cost <= row.hold, said)
            case "settled":
                promise(row.cost == bill, said)
            case _:
                raise BrokenPromiseError(f"it has not ended: {said}")
        counts["nano-USD billed"] += bill
        counts["nano-USD charged"] += row.cost
    return counts


def compare_requests(attempts: Sequence[AttemptRow], requests: Sequence[RequestRow]) -> None:
    """Every request has ended once, at the cost of its attempts."""
    costs: dict[str, list[int]] = defaultdict(list)
    for row in attempts:
        costs[row.request_id].append(row.cost)
    for request in requests:
        own = costs.pop(request.request_id, [])
        said = f"{request} has attempts of {own}"
        promise(request.outcome is not None and request.seq is not None, said)
        promise(request.cost == sum(own) and request.attempts == len(own), said)
    promise(not costs, f"attempts of no request: {shown(costs)}")
    places = [(row.lane, row.seq) for row in attempts] + [(row.lane, row.seq) for row in requests]
    promise(len(set(places)) == len(places), "two rows have the same place in the outbox")


def _compare_callers(
    site: Site,
    attempts: Sequence[AttemptRow],
    requests: Sequence[RequestRow],
    seen: Sequence[Seen],
) -> None:
    """Whatever a caller was told is in the ledger."""
    by_trace: dict[str, list[RequestRow]] = defaultdict(list)
    for request in requests:
        by_trace[request.trace_id].append(request)
    ended: dict[str, list[AttemptRow]] = defaultdict(list)
    for attempt in attempts:
        ended[attempt.request_id].append(attempt)
    for one in seen:
        rows = by_trace.pop(one.trace_id, [])
        said = f"{one}: {rows}"
        promise(len(rows) <= 1, f"recorded twice: {said}")
        if one.code in ("shutting_down", "") and not one.whole:
            continue  # it was told nothing that is recorded
        if one.code == "ledger_unavailable":
            promise(sum(row.cost for row in rows) == 0, f"nothing was sent: {said}")
            continue
        promise(len(rows) == 1, f"not recorded: {said}")
        request, own = rows[0], ended[rows[0].request_id]
        if one.whole:
            promise(request.outcome == "ok", said)
            promise(parse_usd(one.cost_usd) == request.cost, said)
            final = [row for row in own if row.state == "settled" and not row.estimated]
            promise(final and final[-1].number == len(own), f"{said}: {own}")
        else:
            promise(one.code == "budget_exceeded" and request.outcome == "refused", said)
    promise(not by_trace, f"requests that nobody sent: {shown(list(by_trace.values())[:3])}")


def _compare_spans(
    site: Site, attempts: Sequence[AttemptRow], requests: Sequence[RequestRow]
) -> None:
    """One span for each row, with the row's cost."""
    spans = site.sink.by_id()
    rows: dict[str, tuple[str, int]] = {
        row.span_id: ("spanledger.cost.nano_usd", row.cost) for row in attempts
    }
    rows |= {row.span_id: ("spanledger.request.cost.nano_usd", row.cost) for row in requests}
    promise(spans.keys() == rows.keys(), f"{len(spans.keys() ^ rows.keys())} spans differ")
    traces = {row.request_id: row.trace_id for row in requests}
    trace_of = {row.span_id: traces[row.request_id] for row in attempts}
    trace_of |= {row.span_id: row.trace_id for row in requests}
    for span_id, (name, cost) in rows.items():
        span = spans[span_id]
        told = span.attributes.get(name, 0)
        promise(told == cost, f"{span.name} has cost {told}, its row {cost}: {span}")
        promise(span.trace_id == trace_of[span_id], f"it is in another trace: {span}")


def _compare_balances(site: Site, attempts: Sequence[AttemptRow]) -> None:
    """The ledger verifies, and no budget is above its limit."""
    reports = site.store.reports()
    try:
        found = reports.verify()
        states = reports.budget_states(int(time.time()))
    finally:
        reports.close()
    promise(not found.problems, f"the ledger does not add up: {found.problems[:3]}")
    total = sum(row.cost for row in attempts)
    promise(found.spent_nano == total and found.held_nano == 0, f"{found}, not {total}")
    for state in states:
        used = state.spent_nano + state.held_nano
        promise(used <= state.budget.limit_nano, f"over the limit: {state}")
        if state.budget.name == "all":
            promise(state.spent_nano == total, f"{state}, not {total}")
