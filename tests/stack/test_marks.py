"""Marks in dashboards, queried from a real Prometheus as by Grafana: each start once, at any zoom."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest
from tools.replay_alerts import Row, ask, prometheus, store

from grafana.src import queries as q
from tests.rules.harness import START_S, program

MINUTES = 2 * 24 * 60
SCRAPE_S = 60
STEPS_S = (60, 300, 1800, 7200)
"""Grafana's steps for an hour, six hours, two days and a week."""

Shape = Callable[[int], float | None]

pytestmark = pytest.mark.skipif(
    program("prometheus") is None or program("promtool") is None,
    reason="no prometheus or promtool: `make toolchain` builds them",
)


def grows(*spans: tuple[int, int]) -> Shape:
    """A counter that grows by five per minute in some time spans."""
    return lambda minute: 5.0 * sum(min(max(minute - a, 0), b - a) for a, b in spans)


def within(*spans: tuple[int, int]) -> Shape:
    """A gauge that exists in some time spans."""
    return lambda minute: 1.0 if any(a <= minute < b for a, b in spans) else None


DENIED = f'{q.DECISIONS}{{{q.DECISION}="deny",{q.REFUSED_BY}="acme"}}'
STORM = 'ALERTS{alertname="FallbackStorm",alertstate="firing",spanledger_route="chat"}'
BOOK = q.scraped("spanledger_price_book_info")
LONG, SHORT, LATE = (600, 900), (1500, 1505), (2400, 2700)
SERIES: dict[str, Shape] = {
    DENIED: grows(LONG, SHORT, LATE),
    STORM: within(LONG, SHORT, LATE),
    f'{BOOK}{{book="old"}}': within((0, 1500)),
    f'{BOOK}{{book="new"}}': within((1500, MINUTES)),
}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Prometheus with two days in which things begin."""
    folder = tmp_path_factory.mktemp("marks")
    store(rows(), folder)
    with prometheus(folder) as address:
        yield address


def rows() -> Iterator[Row]:
    """All series, one sample per minute."""
    for name, shape in SERIES.items():
        values = ((minute, shape(minute)) for minute in range(MINUTES))
        yield name, [(START_S + m * 60.0, v) for m, v in values if v is not None]


def marked(url: str, expr: str, step_s: int) -> list[int]:
    """The minutes at which a mark begins, with the steps and windows that Grafana uses."""
    window_s = max(step_s + SCRAPE_S, 4 * SCRAPE_S)
    asked = {
        "query": expr.replace("$__rate_interval", f"{window_s}s"),
        "start": -(-(START_S + 3600) // step_s) * step_s,
        "end": START_S + MINUTES * 60,
        "step": step_s,
    }
    found = ask(url, "/api/v1/query_range", **asked)["result"]
    assert len(found) <= 1, found
    times = [int(at) for at, _ in found[0]["values"]] if found else []
    begun = [b for a, b in pairwise([0, *times]) if b - a > step_s]
    return [(at - START_S) // 60 for at in begun]


@pytest.mark.parametrize("step_s", STEPS_S)
@pytest.mark.parametrize(
    ("expr", "begins"),
    [
        (q.WHEN_REFUSED, (600, 1500, 2400)),
        (q.WHEN_FALLBACK_STORM, (600, 1500, 2400)),
        (q.WHEN_PRICES_CHANGED, (1500,)),
    ],
    ids=["refusals", "storm", "prices"],
)
def test_each_beginning_is_marked_once(
    url: str, expr: str, begins: tuple[int, ...], step_s: int
) -> None:
    """However long the time shown: a point of it stands for all since the point before, in which a storm
    of five minutes would else be lost."""
    found = marked(url, expr, step_s)

    assert len(found) == len(begins), found
    assert all(0 <= at - begin <= step_s / 60 + 4 for at, begin in zip(found, begins, strict=True))
