"""A healthy stack as all its series by the minute, and what can go wrong when measuring it.

A gateway's counters and gauges are scraped, while the shipper sends its own: they fail separately.
"""

from __future__ import annotations

import re

from prometheus.src.recording import ALWAYS
from tests.rules.cases_budgets import budget
from tests.rules.cases_machinery import collector
from tests.rules.cases_providers import attempts, fallbacks, requests, streams, up
from tests.rules.cases_spend import beyond, cost, count

LOST = "stale"
"""What a failed scrape leaves in each series of its target."""
NONE = "_"
"""No sample and no staleness marker."""
Series = dict[str, list[str]]
_TOKEN = re.compile(r"(?P<first>[^\sx+-]*)(?P<step>[+-][\d.]+)?(?:x(?P<times>\d+))?")


def values(text: str) -> list[str]:
    """The samples of promtool's notation, one by one."""
    found: list[str] = []
    for word in text.split():
        match = _TOKEN.fullmatch(word)
        assert match, word
        first, step, times = match["first"], match["step"], int(match["times"] or 0)
        if first in (NONE, LOST):
            found += [first] * max(1, times)
        elif step is None:
            found += [first] * (times + 1)
        else:
            found += [f"{float(first) + float(step) * n:.6g}" for n in range(times + 1)]
    return found


def scraped(minutes: int, instance: str = "g1") -> Series:
    """A gateway's series: a budget at 40 %, deployments in use, a ledger that keeps up."""
    at = f'{{instance="{instance}",job="gateway"}}'
    steady = {f"{name}{at}": "1" for name in ALWAYS}
    steady |= {
        f"spanledger_outbox_age_seconds{at}": "3",
        f"spanledger_oldest_hold_seconds{at}": "9",
    }
    steady |= {f'up{{instance="{instance}:4000",job="gateway"}}': "1"}
    shown = budget("acme", "4", exhaustion="1300000", instance=instance)
    for name, text in (shown | up("a", "1", instance)).items():
        steady[name] = text.split("x", maxsplit=1)[0]
    name = "spanledger_ledger_commit_seconds"
    growing = {
        f'{name}_bucket{{instance="{instance}",job="gateway",le="0.1"}}': 100,
        f"{name}_count{at}": 100,
        f"spanledger_ledger_operations_total{at}": 300,
    }
    steady = {key: text for key, text in steady.items() if key not in growing}
    of_growing = {key: [str(step * n) for n in range(minutes)] for key, step in growing.items()}
    return {key: [text] * minutes for key, text in steady.items()} | of_growing


def sent(minutes: int) -> Series:
    """The shipper's series: traffic, a provider's usual failures, a dollar a minute."""
    grows = f"0+{{}}x{minutes - 1}"
    series = {
        **cost("acme", grows.format(1)),
        **requests(grows.format(99)),
        **requests(grows.format(0.5), error="timeout"),
        **fallbacks(grows.format(2)),
        **attempts(grows.format(200)),
        **attempts(grows.format(1), "timeout"),
        **streams({"5.12": grows.format(40), "10.24": grows.format(41), "+Inf": grows.format(41)}),
        **count("known", f"7x{minutes - 1}"),
        **beyond(f"3x{minutes - 1}"),
        **{
            f"spanledger_{name}": grows.format(9)
            for name in ("request_cost_usd_count", "budget_decisions_total")
        },
        "spanledger_telemetry_dropped_total": f"3x{minutes - 1}",
    }
    return {name: values(text) for name, text in series.items()}


def collectors(minutes: int) -> Series:
    """A collector's series: a nearly empty queue, and an old loss."""
    tempo = {"exporter": "otlp_grpc/tempo"}
    traces = {"data_type": "traces", **tempo}
    series = {
        **collector("otelcol_exporter_queue_size", "10", **traces),
        **collector("otelcol_exporter_queue_capacity", "100", **traces),
        **collector("otelcol_exporter_enqueue_failed_spans", "5", **tempo),
        'up{instance="c1",job="collector"}': "1",
    }
    return {name: [text] * minutes for name, text in series.items()}


def away(series: Series, start: int, minutes: int, mark: str) -> Series:
    """The series without their samples in some minutes; the first gap leaves a staleness marker."""
    gap = [mark, *[NONE] * (minutes - 1)]
    cut = {name: [*v[:start], *gap, *v[start + minutes :]] for name, v in series.items()}
    for name, samples in cut.items():
        if name.startswith("up{") and mark == LOST:
            samples[start : start + minutes] = ["0"] * minutes
    return cut


def anew(series: Series, start: int) -> Series:
    """The series of a restarted process: counters at zero, gauges unchanged."""
    return {
        name: [*v[:start], *(v[start:] if v[0] == v[-1] else v[: len(v) - start])]
        for name, v in series.items()
    }
