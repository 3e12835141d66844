"""Parts of the stack are killed, stopped and restarted under load, and nothing is lost."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from tests.e2e.played import trace_of
from tests.e2e.stack import Stack
from tests.e2e.test_stack import ledger_spend, prometheus_spend
from tests.support.processes import poll

pytestmark = pytest.mark.timeout(300)

CUSTOMER = "e2e-survivor"
OUTAGE_S = float(os.environ.get("SPANLEDGER_E2E_OUTAGE_S", "60"))
"""How long back ends are down; a longer outage would only take longer to test."""
RECOVERY_S = 150.0
PACE_S = 0.1
BACK_ENDS = ("tempo", "prometheus")


class Load:
    """Sends requests one after another, from a thread, until stopped."""

    def __init__(self, stack: Stack) -> None:
        self.answers: list[httpx.Response] = []
        self.problems: list[str] = []
        self._stack = stack
        self._stopping = threading.Event()
        stack.key(CUSTOMER)
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stopping.wait(PACE_S):
            try:
                answer = self._stack.ask("go on", customer=CUSTOMER)
            except httpx.HTTPError as error:
                self.problems.append(repr(error))
                continue
            self.answers.append(answer)
            if answer.status_code != 200:
                self.problems.append(answer.text)

    def seconds(self, duration: float) -> None:
        """Let it continue for a while."""
        more = len(self.answers) + 3
        deadline = time.monotonic() + duration
        assert poll(lambda: len(self.answers) >= more), "no answers"
        assert poll(lambda: time.monotonic() >= deadline, duration + 1)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Send requests while the block runs."""
        self._thread.start()
        try:
            yield
        finally:
            self._stopping.set()
            self._thread.join()


def test_no_span_and_no_cent_is_lost(stack: Stack) -> None:
    """Back ends down, then the collector killed with what it has queued for them, all under load: every
    request is answered, and in the end no span and no nano-dollar is missing."""
    load = Load(stack)
    away = [name for name in BACK_ENDS if name != "tempo" or stack.has_tempo]
    with load.running():
        load.seconds(1)
        for name in away:
            stack.target.signal(name, signal.SIGTERM)
        load.seconds(OUTAGE_S)
        stack.target.signal("collector", signal.SIGKILL)
        # Collector down: spans stay in the ledger, and callers notice nothing.
        load.seconds(OUTAGE_S / 3)
        stack.target.start()
        load.seconds(1)

    assert load.problems == []
    assert len(load.answers) > 20
    trace_ids = {trace_of(answer) for answer in load.answers}
    assert len(trace_ids) == len(load.answers)
    lost = trace_ids.copy()

    def all_there() -> bool:
        lost.difference_update([t for t in lost if whole(stack, t)])
        return not lost

    assert poll(all_there, RECOVERY_S, every_s=0.5), f"{len(lost)} of {len(trace_ids)}: {lost}"
    assert poll(lambda: ledger_spend(stack) == prometheus_spend(stack), RECOVERY_S, every_s=0.5)


def whole(stack: Stack, trace_id: str) -> bool:
    """Whether both the request's span and its attempt's have arrived."""
    kinds = {span.kind for span in stack.trace(trace_id)}
    return {"SERVER", "CLIENT"} <= kinds


def test_spend_survives_restarts(stack: Stack) -> None:
    """After a restart of the gateway and Prometheus, the spend shown still equals the
    ledger's, and no counter has fallen."""
    assert poll(lambda: ledger_spend(stack) == prometheus_spend(stack), RECOVERY_S, every_s=0.5)
    before = stack.value("sum(spanledger_cost_usd_total)")

    stack.target.signal("gateway", signal.SIGTERM)
    stack.target.signal("prometheus", signal.SIGTERM)
    stack.target.start()
    answer = stack.ask("after the restart", customer=CUSTOMER)
    assert answer.status_code == 200, answer.text

    assert poll(lambda: stack.value("sum(spanledger_cost_usd_total)") > before, RECOVERY_S)
    assert poll(lambda: ledger_spend(stack) == prometheus_spend(stack), RECOVERY_S, every_s=0.5)
    assert stack.value("sum(resets(spanledger_cost_usd_total[1h]))") == 0


def test_a_killed_gateway_loses_nothing_it_answered(stack: Stack) -> None:
    """Requests answered before a gateway was killed are in the traces after its restart."""
    answers = [stack.ask("just before", customer=CUSTOMER) for _ in range(5)]
    stack.target.signal("gateway", signal.SIGKILL)
    stack.target.start()

    assert [answer.status_code for answer in answers] == [200] * 5
    trace_ids = [trace_of(answer) for answer in answers]
    assert poll(lambda: all(whole(stack, trace_id) for trace_id in trace_ids), RECOVERY_S)
