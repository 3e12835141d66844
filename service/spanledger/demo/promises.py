"""Whether the incident went as promised: judged from the ledger, the bill and the spans.

Each promise is a claim that could fail, with the figures behind it.
"""

from __future__ import annotations

from dataclasses import dataclass

from spanledger.demo.figures import Figures
from spanledger.demo.scenario import (
    OTHERS,
    REFUSALS,
    SPIKE_JOBS,
    WORKER_JOBS,
    Story,
)
from spanledger.demo.sink import SinkSpan
from spanledger.demo.stage import PRIMARY_DEPLOYMENTS, SPIKE_BUDGET, SPIKING
from spanledger.ledger.rows import EndedAttempt, EndedRequest, Totals
from spanledger.money import format_usd, parse_usd

GATEWAY_SERVICE = "spanledger-gateway"
WORKER_SERVICE = "spanledger-worker"
COST_ATTRIBUTE = "spanledger.cost.nano_usd"


@dataclass(frozen=True, slots=True)
class Promise:
    """A claim of the demo; `shown` has the figures behind it."""

    name: str
    kept: bool
    shown: str


@dataclass(frozen=True, slots=True)
class Money:
    """The same total from three sources, in nano-USD."""

    bill: int
    ledger: int
    spans: int


def reckon(story: Story, totals: Totals, spans: list[SinkSpan]) -> Money:
    """Compute the three totals, each from its own source."""
    costs = [
        int(span.attributes.get(COST_ATTRIBUTE, 0))
        for span in spans
        if span.service == GATEWAY_SERVICE and span.kind == "CLIENT"
    ]
    return Money(parse_usd(story.bill_usd), totals.cost_nano, sum(costs))


def judge(story: Story, figures: Figures, spans: list[SinkSpan], money: Money) -> list[Promise]:
    """All promises, in the order in which they are shown."""
    requests, attempts = figures.requests(), figures.attempts()
    verified = figures.verify()
    bill, ledger, shipped = (format_usd(n) for n in (money.bill, money.ledger, money.spans))
    return [
        Promise(
            "bill_equals_ledger",
            money.bill == money.ledger > 0,
            f"bill ${bill}, ledger ${ledger}",
        ),
        Promise(
            "ledger_equals_spans",
            money.ledger == money.spans > 0,
            f"ledger ${ledger}, spans ${shipped}",
        ),
        _no_span_lost(requests, attempts, spans, figures.open_rows()),
        _joined(spans),
        _storm_fell_over(story, requests, attempts),
        _stopped(story, requests),
        _others_served(requests),
        _provider_returned(story, attempts),
        _customer_returned(story, requests),
        _batch_resumed(story),
        Promise(
            "ledger_verifies",
            not verified.problems,
            "; ".join(verified.problems[:3])
            or f"{verified.attempts} attempts, {verified.balances} balances recomputed",
        ),
    ]


def _no_span_lost(
    requests: list[EndedRequest],
    attempts: list[EndedAttempt],
    spans: list[SinkSpan],
    still_open: int,
) -> Promise:
    rows = {row.span_id for row in requests} | {row.span_id for row in attempts}
    arrived = {span.span_id for span in spans if span.service == GATEWAY_SERVICE}
    missing, unknown = len(rows - arrived), len(arrived - rows)
    return Promise(
        "no_span_lost",
        bool(rows) and not (missing or unknown or still_open),
        f"{len(rows)} rows, {len(arrived)} spans, {missing} missing, {unknown} unknown,"
        f" {still_open} rows still open",
    )


def _joined(spans: list[SinkSpan]) -> Promise:
    """Traces start in the application and continue in the gateway."""
    by_id = {span.span_id: span for span in spans}
    calls = [
        span
        for span in spans
        if span.service == GATEWAY_SERVICE and span.kind == "SERVER" and span.parent_span_id
    ]
    joined = [
        span
        for span in calls
        if (parent := by_id.get(span.parent_span_id))
        and parent.service == WORKER_SERVICE
        and parent.trace_id == span.trace_id
    ]
    return Promise(
        "traces_join",
        len(joined) == len(calls) >= WORKER_JOBS + SPIKE_JOBS,
        f"{len(joined)} of {len(calls)} requests of the worker continue its trace",
    )


def _storm_fell_over(
    story: Story, requests: list[EndedRequest], attempts: list[EndedAttempt]
) -> Promise:
    begin, end = story.storm_ns
    during = [row for row in requests if begin <= row.started_ns < end]
    served = [row for row in during if row.outcome == "ok"]
    within = [row for row in attempts if begin <= row.started_ns < end]
    moved = [row for row in within if row.fallback_from and row.state == "settled"]
    limited = [row for row in within if row.error_type == "rate_limited"]
    primary = set(PRIMARY_DEPLOYMENTS.values())
    leaked = [row for row in within if row.deployment in primary and row.state == "settled"]
    seen = sum(tally.failed for tally in story.tallies.get("storm", {}).values())
    return Promise(
        "storm_fell_over",
        bool(during and limited and moved)
        and len(served) == len(during) == len(moved)
        and not (leaked or seen),
        f"{len(limited)} refusals by the first provider, {len(moved)} of {len(during)} requests"
        f" served by the second, {seen} errors seen by customers",
    )


def _stopped(story: Story, requests: list[EndedRequest]) -> Promise:
    refused = [row for row in requests if row.outcome == "refused"]
    strangers = [
        row for row in refused if (row.customer, row.refused_by) != (SPIKING, SPIKE_BUDGET)
    ]
    late = [row for row in refused if row.started_ns > story.raised_ns]
    tally = story.tally("stopped", SPIKING)
    return Promise(
        "budget_stopped_exactly_the_spiking_customer",
        tally.refused >= REFUSALS and not strangers and not late,
        f"{len(refused)} refusals, {len(strangers)} of them for another customer or budget,"
        f" {len(late)} after the limit was raised",
    )


def _others_served(requests: list[EndedRequest]) -> Promise:
    asked = [row for row in requests if row.customer in OTHERS]
    served = [row for row in asked if row.outcome == "ok"]
    return Promise(
        "others_were_served",
        len(served) == len(asked) > 0,
        f"{len(served)} of {len(asked)} requests of {' and '.join(OTHERS)} served",
    )


def _provider_returned(story: Story, attempts: list[EndedAttempt]) -> Promise:
    _, end = story.storm_ns
    primary = set(PRIMARY_DEPLOYMENTS.values())
    after = [row for row in attempts if row.started_ns >= end and row.deployment in primary]
    served = [row for row in after if row.state == "settled" and not row.error_type]
    return Promise(
        "provider_recovered",
        all(story.returned.get(route) for route in PRIMARY_DEPLOYMENTS) and bool(served),
        f"{len(served)} requests served by the first provider after the storm",
    )


def _customer_returned(story: Story, requests: list[EndedRequest]) -> Promise:
    after = [
        row for row in requests if row.customer == SPIKING and row.started_ns > story.raised_ns > 0
    ]
    served = [row for row in after if row.outcome == "ok"]
    return Promise(
        "customer_recovered",
        len(served) == len(after) > 0,
        f"{len(served)} of {len(after)} requests of {SPIKING} served after the limit was raised",
    )


def _batch_resumed(story: Story) -> Promise:
    ordinary, _ = story.worker.get("worker-globex", (-1, {}))
    code, first = story.worker.get("worker-initech", (-1, {}))
    again, second = story.worker.get("worker-initech-again", (-1, {}))
    done = int(first.get("done", 0)) + int(second.get("done", 0))
    skipped = int(second.get("skipped", 0))
    died = [summary["died"] for _, summary in story.worker.values() if "died" in summary]
    return Promise(
        "batch_stopped_and_resumed",
        (ordinary, code, again) == (0, 3, 0)
        and 0 < int(first.get("done", 0)) < SPIKE_JOBS
        and skipped == first.get("done")
        and done == SPIKE_JOBS,
        f"{first.get('done', 0)} jobs before the stop (exit code {code}), {done} of {SPIKE_JOBS}"
        f" after resuming (exit code {again})" + "".join(f"; {words}" for words in died[:1]),
    )
