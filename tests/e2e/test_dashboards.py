"""Every query of every dashboard, run on the stack after an incident: no panel is empty."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from prometheus.src import long
from prometheus.src.model import Recording
from tests.e2e.played import Played
from tests.e2e.stack import Stack
from tests.rules.harness import ALERTS, trace_link
from tests.rules.test_runbooks import lines
from tests.stack.boards import (
    EMPTY_BY_DESIGN,
    Json,
    Query,
    choose,
    dashboards,
    filled,
    marks,
    queries,
    seconds,
    variables,
)
from tests.support.processes import poll

WHO = 'e2e "board" x\\y é'
"""The customer whose page is opened; a name may contain any character."""
SHOWN_S = 3600
SEEN_S = 60.0
"""The incident is over when all its points have arrived: two exports and two scrapes."""

NO_VALUE_YET = {
    "before_from": "a new stack has no period before the present one",
    "long": "it has one when more than a day is shown",
}
"""Variables without a value, and why."""
ZERO = " or vector(0)"
OF_CONTRACTS = ("spanledger_list_cost_usd", "spanledger_charge_usd")
"""Only a second gateway has contracts and charges, and a container's ledger is not accessible to one."""


class Reader:
    """Sends the queries that Grafana sends when the dashboards are opened."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack

    def get(self, part: str, path: str, **params: Any) -> Any:
        """An answer; a query that is rejected fails the test."""
        answer = self.stack.http.get(f"{self.stack.urls[part]}{path}", params=params)
        assert answer.status_code == 200, f"{params}: {answer.text}"
        return answer.json()

    def choose(self, board: Json) -> dict[str, str]:
        """A value for each variable, from the stack itself."""
        chosen = choose(board, self.ask, {"trace_id": self.a_trace()}, WHO)
        asked = {name for name, one in variables(board).items() if one["type"] == "query"}
        assert asked - chosen.keys() <= NO_VALUE_YET.keys()
        return chosen

    def a_trace(self) -> str:
        """The id of a trace with a request of `WHO`; empty while there is none."""
        if not self.stack.has_tempo:
            return ""
        search = f"{{ span.spanledger.customer = `{WHO}` && span.spanledger.attempts > 0 }}"
        return next(iter(self.stack.search(search)), "")

    def ask(self, path: str, /, **params: Any) -> Any:
        """What Prometheus answers."""
        return self.get("prometheus", path, **params)["data"]

    def has_data(self, query: Query, values: dict[str, str]) -> bool:
        """Whether a panel would show something: a number, or a trace."""
        now = time.time()
        if query.language == "trace":
            trace_id = filled(query.text, values)
            return bool(trace_id and self.stack.trace(trace_id))
        if query.language == "traceql":
            found = self.get(
                "tempo",
                "/api/search",
                q=filled(query.text, values),
                limit=5,
                start=int(now - SHOWN_S),
                end=int(now) + 1,
            )
            return bool(found.get("traces"))
        # A zero that only replaces missing data does not count.
        text = filled(query.text.removesuffix(ZERO), values, query.step)
        if query.instant:
            result = self.get("prometheus", "/api/v1/query", query=text)["data"]["result"]
            samples = [one["value"] for one in result]
        else:
            step = max(15, seconds(filled(query.step, values))) if query.step else 15
            result = self.get(
                "prometheus",
                "/api/v1/query_range",
                query=text,
                start=now - SHOWN_S,
                end=now,
                step=step,
            )["data"]["result"]
            samples = [value for one in result for value in one["values"]]
        return any(math.isfinite(float(value)) for _, value in samples)


@pytest.fixture(scope="module")
def reader(stack: Stack, played: Played) -> Iterator[Reader]:
    """After `played`, an incident: failures, throttling, a caller that disconnects, and a
    budget that is used up."""
    faults = f"{stack.urls['simulator']}/sim/faults"
    stack.target.command("budget", "set", WHO, "--customer", WHO, "--limit", "1")
    for _ in range(3):
        stack.fault("gpt-4o-mini", "500", 2)
        stack.ask("fall back", customer=WHO)
    # Longer than the time between two scrapes.
    stack.fault("gpt-4o", "429;retry_after=12", 1)
    for _ in range(3):
        stack.ask("wait", model="smart", customer=WHO)
    stack.ask("talk on", model="smart-backup", customer=WHO, metadata={"sim": "tokens:3000"})
    hang_up(stack)
    # The spend exceeds this limit: the next request is refused, and the budget is used up early.
    stack.target.command("budget", "set", WHO, "--customer", WHO, "--limit", "0.00001")
    refused = stack.ask("too dear", customer=WHO)
    assert refused.json()["error"]["code"] == "budget_exceeded", refused.text
    yield Reader(stack)
    stack.http.delete(faults).raise_for_status()
    assert poll(lambda: stack.value("min(spanledger_deployment_up)") == 1, SEEN_S)


def hang_up(stack: Stack) -> None:
    """Disconnect mid-stream: it is billed, and its usage is estimated. The stream is long enough for a
    busy gateway to notice before its end."""
    with stack.http.stream(
        "POST",
        f"{stack.urls['gateway']}/v1/chat/completions",
        headers={"authorization": f"Bearer {stack.key(WHO)}"},
        json={
            "model": "smart-backup",
            "stream": True,
            "max_tokens": 4000,
            "messages": [{"role": "user", "content": "a long story"}],
            "metadata": {"sim": "tokens:4000"},
        },
    ) as answer:
        next(answer.iter_lines())


@pytest.mark.timeout(300)  # it may be the test that starts the stack
def test_no_panel_is_empty(reader: Reader) -> None:
    """Each query is accepted and finds something, or is listed as one that finds nothing
    on a healthy stack."""
    if not reader.stack.has_tempo:
        pytest.skip("no `tempo` on PATH: panels of traces and of Tempo's health have no data")
    waiting = {
        query: query
        for query in (*queries(), *marks())
        if (query.board, query.place, query.ref) not in EMPTY_BY_DESIGN
        and ("overview", query.place, query.ref) not in EMPTY_BY_DESIGN
        and not _without_contracts(reader.stack, query.text)
    }

    def all_found() -> bool:
        values = {uid: reader.choose(board) for uid, board in dashboards().items()}
        for query in list(waiting):
            if reader.has_data(query, values[query.board]):
                del waiting[query]
        return not waiting

    poll(all_found, SEEN_S)
    assert [f"{query}: {query.text}" for query in waiting] == []


def _without_contracts(stack: Stack, query: str) -> bool:
    return not stack.target.ledger_url and any(name in query for name in OF_CONTRACTS)


def test_what_is_empty_is_understood(reader: Reader) -> None:
    """Queries listed as finding nothing are valid, and still belong to a panel."""
    values = {uid: reader.choose(board) for uid, board in dashboards().items()}
    places = {(query.board, query.place, query.ref): query for query in (*queries(), *marks())}
    for place in EMPTY_BY_DESIGN:
        reader.has_data(places[place], values[place[0]])


def test_the_traces_of_an_alert_are_found(reader: Reader) -> None:
    """Tempo accepts the search behind an alert's link and finds that customer's traces."""
    if not reader.stack.has_tempo:
        pytest.skip("no `tempo` on PATH")
    step = next(alert for alert in ALERTS if alert.name == "BudgetThresholdCrossed")
    link = urlsplit(trace_link(step, {"scope": "customer", "subject": WHO}))
    (query,) = parse_qs(link.query)["var-query"]
    now = time.time()
    span = {"start": int(now - SHOWN_S), "end": int(now) + 1}

    found = poll(lambda: reader.get("tempo", "/api/search", q=query, **span).get("traces"), SEEN_S)

    assert found


def test_queries_of_runbooks_are_understood(reader: Reader) -> None:
    """The real Prometheus and the real Tempo accept the queries in the runbooks."""
    for _, query in lines("promql"):
        reader.get("prometheus", "/api/v1/query", query=query)
    for _, query in lines("traceql") if reader.stack.has_tempo else ():
        reader.get("tempo", "/api/search", q=query, limit=1)


def test_copies_find_their_originals(reader: Reader) -> None:
    """Beyond a day the same queries read copies, the first of which appear after 15 minutes: each
    rule must already find what it will copy."""
    rules = [
        rule
        for group in long.groups()
        for rule in group.rules
        if isinstance(rule, Recording) and not _without_contracts(reader.stack, rule.expr)
    ]

    def left() -> list[str]:
        asked = {r.record: reader.get("prometheus", "/api/v1/query", query=r.expr) for r in rules}
        return [name for name, answer in asked.items() if not answer["data"]["result"]]

    poll(lambda: not left(), SEEN_S)
    assert left() == []
