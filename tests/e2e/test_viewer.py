"""A viewer without a login opens traces in a real Grafana, with a real browser."""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Iterator
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from spanledger.stack.programs import find_programs
from tests.e2e.stack import NativeTarget, Stack, needs_programs
from tests.rules.harness import ALERTS, trace_link
from tests.support.browser import Page, needs_browser, opened
from tests.support.processes import poll

pytestmark = pytest.mark.timeout(600)

WHO = 'viewer "x" \\ é'
SEEN_S = 60.0
DRAWN_S = 240.0


@pytest.fixture(scope="module")
def viewed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """A stack with Grafana, in which one request fell back."""
    needs_browser()
    if os.environ.get("SPANLEDGER_E2E", "native") == "compose":
        yield fell_back(request.getfixturevalue("stack"))
        return
    needs_programs()
    programs = find_programs()
    for name in ("tempo", "grafana"):
        if name in programs.missing:
            pytest.skip(f"{name}: {programs.missing[name]}")
    target = NativeTarget(
        tmp_path_factory.mktemp("viewed"),
        ("--rate", "0.01", "--sim-speed", "20"),
        {"SPANLEDGER_GRAFANA": str(programs.found["grafana"])},
    )
    try:
        stack = Stack(target)
        with stack.http:
            yield fell_back(stack)
    finally:
        target.close()


def fell_back(stack: Stack) -> Stack:
    """Make a request of `WHO` fail at its first deployment, and wait until its trace is found."""
    stack.fault("gpt-4o-mini", "500", 2)
    # A caller that sends a trace context but no span: its trace has no root.
    parent = f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"
    stack.ask("hello", customer=WHO, traceparent=parent).raise_for_status()
    assert poll(lambda: stack.search(search()), SEEN_S)
    return stack


def search() -> str:
    """The TraceQL query for the customer's request."""
    return f"{{ span.spanledger.customer = `{WHO}` && span.spanledger.outcome != nil }}"


def shown(url: str, *texts: str) -> Page:
    """The page, once it has all expected text."""
    pages: list[Page] = []

    def there() -> bool:
        pages.append(opened(url))
        return all(text in pages[-1].text for text in texts)

    assert poll(there, DRAWN_S), pages[-1].text
    return pages[-1]


def traces_of(page: Page) -> list[str]:
    """The ids of the traces that a page links to. Nothing in it links to Explore."""
    assert [link for link in page.links if "/explore" in link] == []
    links = [urlsplit(link) for link in page.links]
    found = [parse_qs(link.query) for link in links if link.path.endswith("/d/trace")]
    return [query["var-trace_id"][0] for query in found if "var-trace_id" in query]


def shows_the_trace(stack: Stack, trace_id: str) -> None:
    """The dashboard has its attempts, and their spans below each other."""
    page = shown(
        f"{stack.urls['grafana']}/d/trace?var-trace_id={trace_id}&from=now-1h&to=now",
        "Attempts",
        "All spans",
        "chat gpt-4o-mini",
        "spanledger-gateway",
    )
    assert [link for link in page.links if "/explore" in link] == []


def test_a_row_of_a_table_opens_its_trace(viewed: Stack) -> None:
    """The tables of a customer's page link to the trace, which is shown."""
    page = shown(
        f"{viewed.urls['grafana']}/d/customer?var-customer={quote(WHO)}&from=now-1h&to=now",
        "Latest requests",
        "chat fast",
    )

    (trace_id,) = set(traces_of(page))
    assert trace_id.rjust(32, "0") in viewed.search(search())
    shows_the_trace(viewed, trace_id)


def test_an_exemplar_opens_its_trace(viewed: Stack) -> None:
    """Grafana's exemplar link shows the trace."""
    settings = viewed.http.get(f"{viewed.urls['grafana']}/api/frontend/settings").json()
    source = settings["datasources"]["Prometheus"]["jsonData"]
    (exemplar,) = source["exemplarTraceIdDestinations"]
    series = "spanledger_request_cost_usd_bucket"
    assert poll(lambda: viewed.exemplars(series), SEEN_S)
    trace_id = viewed.exemplars(series)[-1]
    now = int(time.time() * 1000)
    address = exemplar["url"].replace("${__value.raw:percentencode}", trace_id)
    address = address.replace("${__url_time_range}", f"from={now - 3_600_000}&to={now}")

    assert "$" not in address
    page = shown(f"{viewed.urls['grafana']}{address}", "Attempts", "spanledger-gateway")
    assert [link for link in page.links if "/explore" in link] == []


def test_an_alert_finds_traces_that_open(viewed: Stack) -> None:
    """An alert's search, even with odd names, fills the query box, and its results link to the trace."""
    step = next(alert for alert in ALERTS if alert.name == "BudgetThresholdCrossed")
    link = trace_link(step, {"scope": "customer", "subject": WHO}, viewed.urls["grafana"])
    page = shown(link, "What matches?", "chat fast")

    (trace_id,) = set(traces_of(page))
    shows_the_trace(viewed, trace_id)


def test_no_row_waits_for_a_root(viewed: Stack) -> None:
    """A trace whose caller sends no span still has a name in the tables."""
    page = shown(f"{viewed.urls['grafana']}/d/find-traces?from=now-1h&to=now", "chat fast")

    assert not re.search("root span not yet received", page.text)
