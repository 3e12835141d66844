"""How long Prometheus takes for every query of every dashboard, and for every rule, on a large month.

Thirty days of a thousand customers (`bench/month.py`) are turned into a database once. Each dashboard
is then opened as Grafana does, over its default range, a day and thirty days, with everything selected.
The result is the time of an answer, in the best and the worst of some rounds.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.month import DAY_S, Size
from bench.month_store import FLAGS, Stored, stored
from bench.report import machine, markdown, table, write_section
from tests.rules.promql import metrics_of
from tests.stack.boards import (
    MAX_POINTS,
    SCRAPE_S,
    VARIABLE,
    Query,
    choices,
    choose,
    dashboards,
    filled,
    marks,
    plain,
    queries,
    seconds,
)
from tools.replay_alerts import ReplayError, ask, prometheus

from prometheus.src import alerts, long, recording
from prometheus.src.thresholds import DEFAULT

BOUND_S = 1.0
GROWING = {"__range", "bucket"}
"""Variables that grow with the time range shown."""
BARS = 30
"""Number of bars in a chart that fits them to the time range, and the shortest bar in seconds."""
LEAST_BAR_S = 300


@dataclass(slots=True)
class Timed:
    """A Prometheus query and how long its answers took."""

    name: str
    shown: str
    """The time range shown, or how often a rule is evaluated."""
    path: str
    params: dict[str, Any]
    took_s: list[float] = field(default_factory=list)
    series: int = 0
    samples: int = 0

    @property
    def median_s(self) -> float:
        """Over the rounds."""
        return statistics.median(self.took_s)


@dataclass(frozen=True, slots=True)
class Store:
    """A Prometheus that has the month."""

    url: str
    end_s: int

    def ask(self, path: str, /, **params: Any) -> Any:
        """The answer, as of the end of the month."""
        since = {"start": self.end_s - DAY_S, "end": self.end_s}
        moment = since if "match[]" in params else {"time": self.end_s}
        return ask(self.url, path, **{**moment, **params})

    def time(self, one: Timed) -> None:
        """Run the query once more."""
        began = time.perf_counter()
        data = ask(self.url, one.path, **one.params)
        one.took_s.append(time.perf_counter() - began)
        one.series = len(data["result"])
        one.samples = data["stats"]["samples"]["totalQueryableSamples"]


def opened(store: Store, days: int) -> Iterator[Timed]:
    """Every query of every dashboard: over its default range, a day and the month."""
    for uid, board in dashboards().items():
        own_s = seconds(board["time"]["from"].removeprefix("now-"))
        spans_s = {"as opened": own_s, "a day": DAY_S, f"{days} days": days * DAY_S}
        for shown, span_s in spans_s.items():
            values = choose(board, store.ask, known(span_s))
            for query in (*queries(), *marks(), *choices()):
                if query.board == uid and query.language == "promql":
                    yield Timed(str(query), shown, *request(query, values, store.end_s, span_s))


def known(span_s: int) -> dict[str, str]:
    """The variables that Grafana derives from the time range."""
    bar = f"{max(LEAST_BAR_S, span_s // BARS)}s"
    return {"__range": f"{span_s}s", "__range_s": str(span_s), "bucket": bar}


def request(
    query: Query, values: dict[str, str], end_s: int, span_s: int
) -> tuple[str, dict[str, Any]]:
    """A query as Grafana sends it, at the end of the month."""
    least = seconds(filled(query.step, values)) if query.step else SCRAPE_S
    step = max(least, math.ceil(span_s / (query.points or MAX_POINTS)))
    window = {**values, "__rate_interval": f"{max(step + least, 4 * least)}s"}
    asked = {"query": filled(query.text, window, query.step), "stats": "true"}
    if query.instant:
        return "/api/v1/query", {**asked, "time": end_s}
    return "/api/v1/query_range", {**asked, "start": end_s - span_s, "end": end_s, "step": step}


def evaluated(end_s: int) -> Iterator[Timed]:
    """Every rule as Prometheus evaluates it."""
    for group in (*recording.groups(DEFAULT), *long.groups(), *alerts.groups(DEFAULT)):
        for number, rule in enumerate(group.rules, start=1):
            asked = {"query": rule.expr, "stats": "true", "time": end_s}
            name = f"{group.name} {number}"
            yield Timed(name, f"rules, each {group.interval_s / 60:g} min", "/api/v1/query", asked)


def measure(store: Store, days: int, rounds: int) -> tuple[list[Timed], list[Timed]]:
    """Run all queries and all rules in turn, once per round."""
    asked, rules = list(opened(store, days)), list(evaluated(store.end_s))
    for number in range(1, rounds + 1):
        sys.stderr.write(f"round {number} of {rounds}: {len(asked)} queries, {len(rules)} rules\n")
        for one in (*asked, *rules):
            store.time(one)
    return asked, rules


def read_beyond_a_day() -> frozenset[str]:
    """Names that a query reads over the time range shown, if that is more than a day."""
    return frozenset(
        name
        for query in (*queries(), *marks())
        if query.language == "promql"
        if not query.instant or GROWING & {m[1] or m[2] for m in VARIABLE.finditer(query.text)}
        for name in metrics_of(plain(query.forms[-1]))
        if not name.startswith("__")  # Grafana's own
    )


def by_time(asked: Sequence[Timed], rules: Sequence[Timed]) -> list[tuple[str, ...]]:
    """The table, header first."""
    everything = (*asked, *rules)
    shown = dict.fromkeys(one.shown for one in everything)
    head = ("", "number", "median s", "slowest s", "its worst s", "samples of all", "slowest")
    return [head, *(_line([o for o in everything if o.shown == name]) for name in shown)]


def _line(some: Sequence[Timed]) -> tuple[str, ...]:
    slowest = max(some, key=lambda one: one.median_s)
    return (
        some[0].shown,
        str(len(some)),
        f"{statistics.median(one.median_s for one in some):.3f}",
        f"{slowest.median_s:.2f}",
        f"{max(max(one.took_s) for one in some):.2f}",
        f"{sum(one.samples for one in some):,}",
        slowest.name,
    )


def cycle_s(rules: Sequence[Timed]) -> float:
    """The time of all rules if they were due at once."""
    return sum(one.median_s for one in rules)


def conclusion(asked: Sequence[Timed], rules: Sequence[Timed]) -> str:
    """Two sentences."""
    slow = [one for one in asked if one.median_s > BOUND_S]
    found = f"{len(slow)} of {len(asked)} queries take over {BOUND_S:g} s."
    return f"{found} Evaluating all {len(rules)} rules at once takes {cycle_s(rules):.2f} s."


def main() -> int:
    """Build if needed, measure, print; returns 1 if a query or the rules exceed the limit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--store", type=Path, help="directory of the month; built once, then kept")
    parser.add_argument("--customers", type=int, default=1_000, help="(1000)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of all queries and rules (3)")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    parser.add_argument("--write", action="store_true", help="also update docs/performance.md")
    options = parser.parse_args()
    size = Size(customers=options.customers, whole=read_beyond_a_day())
    kept = nullcontext(options.store) if options.store else tempfile.TemporaryDirectory()
    try:
        with kept as folder:
            month = stored(Path(folder), size)
            with prometheus(month.folder, *FLAGS) as url:
                asked, rules = measure(Store(url, month.end_s), size.days, options.rounds)
    except ReplayError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    tell(month, size, asked, rules, options)
    slow = max(one.median_s for one in asked) > BOUND_S or cycle_s(rules) > BOUND_S
    return 1 if slow else 0


def tell(
    month: Stored,
    size: Size,
    asked: Sequence[Timed],
    rules: Sequence[Timed],
    options: argparse.Namespace,
) -> None:
    """Print, and update the page if requested."""
    lines = by_time(asked, rules)
    about = f"{size.days} days of {size.customers:,} customers, {month.samples:,} samples"
    if options.write:
        said = "; ".join(f"{name} {machine()[name]}" for name in ("processor", "Python"))
        text = f"{markdown(lines)}\n\n{conclusion(asked, rules)}\n\nOn {about}; {said}."
        write_section("dashboards", text)
    if options.json:
        found = [
            {"name": o.name, "shown": o.shown, "took_s": o.took_s, "series": o.series, "samples": o.samples, **o.params}
            for o in (*asked, *rules)
        ]  # fmt: skip
        print(json.dumps({"about": about, "asked": found}, indent=2))
        return
    print(f"{table(lines)}\n{conclusion(asked, rules)}\nOn {about}.")


if __name__ == "__main__":
    sys.exit(main())
