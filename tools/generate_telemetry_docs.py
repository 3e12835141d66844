"""Write docs/telemetry.md from the registry of signals, so that it cannot go out of date.

`--check` writes nothing and fails when the file is not what would be written. Names, units,
attributes, buckets and meanings come from `spanledger.telemetry.signals`; only the prose around
them is here.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from prometheus.src.long import COPIED, EVERY_S  # noqa: E402 - found by the line above
from spanledger.telemetry.exposition import FEW_BUDGETS, MAX_BUDGETS  # noqa: E402 - as above
from spanledger.telemetry.signals import (  # noqa: E402 - as above
    ATTRIBUTES,
    MAX_POINTS,
    METRICS,
    SCRAPED,
    SPANS,
    Metric,
    Scraped,
    Span,
    label_name,
    most_series,
    prometheus_series,
    series_a_point,
)

TARGET = ROOT / "docs" / "telemetry.md"

HEAD = """\
<!-- Written by tools/generate_telemetry_docs.py; change service/spanledger/telemetry/signals.py. -->
# Telemetry

Every name on this page is an interface: a change is in the CHANGELOG. Names of our own begin with
`spanledger.`; all others are those of the OpenTelemetry GenAI conventions, in the form of v1.41.

## How it leaves

Each attempt at a provider is a row in the ledger, and so is each request. The *shipper*, a process of
its own that the gateway starts, reads rows that have ended, in order, and sends them as spans and
metric points over OTLP/HTTP. Its cursor moves only after the collector has taken them, in the same
transaction as the aggregates behind the metrics. Therefore:

- a collector that is away, a killed shipper or a killed gateway costs no span of an ended request;
- a span may arrive twice, with the same ids, and a trace store keeps one;
- counters do not start again at zero after a restart, and the money in them is the ledger's;
- nothing a caller waits for waits for telemetry.

One shipper works on a ledger at a time, whoever started it; others wait. `spanledger ship` runs one
without a gateway, and `spanledger ship --once` sends what is there and ends with 1 if the collector
did not take all of it.

What the collector refuses for good (a 4xx other than 408 and 429, three times, while it takes other
requests) is looked for by halving the batch: first the span goes without its content, then it is
dropped, which is logged and counted in `spanledger.telemetry.dropped`. While a collector refuses
everything, or is away, nothing is dropped, however long that lasts.

## Where it goes

`telemetry.endpoint` in the [configuration](configuration.md#telemetry) is the collector's base URL.
The standard variables win over it:

| variable | meaning |
|---|---|
| `OTEL_EXPORTER_OTLP_ENDPOINT`, `…_TRACES_ENDPOINT`, `…_METRICS_ENDPOINT` | Where to send. |
| `OTEL_EXPORTER_OTLP_HEADERS`, `…_CERTIFICATE`, `…_CLIENT_KEY`, `…_CLIENT_CERTIFICATE` | How to be let in. |
| `OTEL_EXPORTER_OTLP_COMPRESSION` | `gzip` unless set. |
| `OTEL_EXPORTER_OTLP_TIMEOUT` | Seconds for one request, its retries included (10). |
| `OTEL_METRIC_EXPORT_INTERVAL` | Milliseconds between two exports of metrics. |
| `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES` | Who sends. |
| `OTEL_TRACES_EXPORTER=none`, `OTEL_METRICS_EXPORTER=none`, `OTEL_SDK_DISABLED=true` | Send none of it: rows are passed over, and counters go on counting. |

`service.instance.id` is the ledger's own and stays over restarts, as its counters do.

## Content

`telemetry.content` says whether prompts and answers go on spans: `off` (the default), `redacted`,
or `full`. They are JSON in the conventions' message schema, at most
`telemetry.max_attribute_bytes` long each: long texts are shortened first, then messages are left
out of the middle, and what is missing is said in its place. Binary data is always replaced by its
kind and size. `redacted` replaces e-mail addresses, keys and tokens of known shapes, private keys,
payment cards, bank accounts and phone numbers that begin with `+` or an area code in brackets, by
`[REDACTED:kind]`, wherever they stand. It knows shapes, not meanings: a name or an address in a
prompt stays. Content is kept in the ledger until it has been shipped, and no longer.
"""

CARDINALITY = f"""\
## How many series

Customers are the one label that grows by itself. The first `telemetry.max_customers` customers seen
have series of their own, for good: a label that changed its meaning with each
day's ranking could not be added up over time. All others are `other`. Spans and the ledger
always have the real name, as has `/metrics` for each budget near its limit. A budget's name is a
label of its refusals: one series for each that ever refused. Beyond that, a metric has at most {MAX_POINTS:,} points, or what the table says; whatever would be one more is counted in the
point `otel.metric.overflow`, so that totals stay exact. `gen_ai.response.model` is on spans only: what
a provider may make up is no label.

A histogram's point is several series in Prometheus. The most that there can be of each metric, and of
all, whatever callers and configuration do:
"""

METRIC_PROSE = """\
## Metrics by OTLP

Cumulative points, every `telemetry.export_interval_s`; a series that does not change is repeated
each minute. A new series begins with a zero one interval before its first value, so that
`increase()` sees all of it. Counters and histogram buckets carry an exemplar of the latest trace.
The names on the right are those in Prometheus 3 with its OTLP receiver (`le` is added to buckets).

Instrumented applications send `gen_ai.*` under the same names, of the same calls, in buckets of their
own. The stack's collector says on each point who counted it, in `spanledger.source`: `gateway`,
`application`, `application_via_gateway` or `unknown` ([why](../otel-collector/README.md#nothing-is-counted-twice)).
Sums take `gateway` and `application`, percentiles and shares of failures `gateway` alone; rules and
dashboards do, and take points without a source, from another collector, for the gateway's. Labels of
applications' points [are a list](../otel-collector/README.md#labels-of-applications-points), and what
Prometheus would refuse [is dropped and counted](../otel-collector/README.md#a-bad-point-costs-nobody-else).
"""

SCRAPE_PROSE = f"""\
## Metrics by scrape

`/metrics` of each gateway. The budgets and the ledger's state are read from the ledger, so every
gateway on it says the same; commits, overhead, deployments and requests in flight are the process's own, and
`process_*` metrics are there too. The budgets shown are the accounts of which a third is used, or as much as
their first threshold where that is less, {MAX_BUDGETS:,} at most, and others up to {FEW_BUDGETS}; those nearest their limit
before the rest. So an account that alerts tell of does not come and go with what others spend.
"""


def main() -> None:
    """Write the page, or with `--check` compare it."""
    page = render()
    if "--check" not in sys.argv[1:]:
        TARGET.parent.mkdir(exist_ok=True)
        TARGET.write_text(page, encoding="utf-8")
    elif not TARGET.is_file() or TARGET.read_text(encoding="utf-8") != page:
        raise SystemExit(f"{TARGET.name} is out of date: run `make generate` and commit it")


def render() -> str:
    """The whole page."""
    parts = [HEAD, "## Spans\n", *(span_section(span) for span in SPANS), METRIC_PROSE]
    parts += [metric_section(metric) for metric in METRICS]
    parts += [CARDINALITY, cap_table(), SCRAPE_PROSE, scrape_table(SCRAPED), attribute_table()]
    return "\n".join(parts)


def span_section(span: Span) -> str:
    """One kind of span."""
    rows = [f"| `{name}` | {ATTRIBUTES[name].meaning} |" for name in span.attributes]
    head = (
        f"### `{span.name}` ({span.kind})\n\n{span.meaning}\n\n| attribute | meaning |\n|---|---|\n"
    )
    return head + "\n".join(rows) + "\n"


def metric_section(metric: Metric) -> str:
    """One metric sent by OTLP."""
    attributes = ", ".join(f"`{name}`" for name in metric.attributes)
    series = ", ".join(f"`{name}`" for name in prometheus_series(metric))
    lines = [
        f"### `{metric.name}`\n",
        f"{metric.meaning}\n",
        f"- {metric.kind}, unit `{metric.unit}`, {stability(metric)}",
        f"- attributes: {attributes}",
        f"- in Prometheus: {series}",
    ]
    if metric.buckets:
        lines.append(f"- buckets: {', '.join(f'{bound:g}' for bound in metric.buckets)}")
    return "\n".join(lines) + "\n"


def stability(metric: Metric) -> str:
    """Whether a name of the conventions may still change."""
    if metric.name.startswith("gen_ai."):
        return "a convention in development"
    return metric.stability


def cap_table() -> str:
    """How many series there can be at most."""
    rows = [f"| `{m.name}` | {m.most:,} | {most_series(m):,} |" for m in METRICS]
    total = sum(most_series(metric) for metric in METRICS)
    copies = sum(
        metric.most * (series_a_point(metric) - 2 if name.endswith("_bucket") else 1)
        for metric in METRICS
        for name in prometheus_series(metric)
        if name in COPIED
    )
    others = sum(series_a_point(s) for s in SCRAPED if not s.labels or s.labels[0] not in _OF_MANY)
    head = "| metric | points | series |\n|---|---:|---:|\n"
    after = (
        f"\nEvery {EVERY_S // 60} minutes Prometheus' rules copy those that dashboards show over days and\n"
        f"weeks (`prometheus/rules/long.yml`): at most {copies:,} series more. A scrape of a gateway has up\n"
        f"to {MAX_BUDGETS:,} series of each `spanledger_budget_*`, one of each `spanledger_deployment_*` for each\n"
        f"deployment (and limit), and {others} others of ours.\n\n"
        "That nothing exceeds it, with ten thousand customers at fifty models of three providers, is\n"
        "tested against a real Prometheus (`tests/stack/test_scale.py`). What that many take of memory is in\n"
        "[performance](performance.md#series-and-memory-of-prometheus).\n"
    )
    return "\n".join([head + "\n".join(rows), f"| all | | {total:,} |", after])


_OF_MANY = ("budget", "deployment")
"""First labels of what `/metrics` has many of."""


def scrape_table(scraped: tuple[Scraped, ...]) -> str:
    """The metrics of `/metrics`."""
    rows = [
        f"| `{s.name}` | {s.kind} | {', '.join(f'`{label}`' for label in s.labels)} | {s.meaning} |"
        for s in scraped
    ]
    return "| metric | kind | labels | meaning |\n|---|---|---|---|\n" + "\n".join(rows) + "\n"


def attribute_table() -> str:
    """Every attribute, with its label in Prometheus where it is on a metric."""
    on_metrics = {name for metric in METRICS for name in metric.attributes}
    rows = [
        f"| `{a.name}` | {a.type} | {a.stability} | "
        f"{f'`{label_name(a.name)}`' if a.name in on_metrics else ''} | {a.meaning} |"
        for a in sorted(ATTRIBUTES.values(), key=lambda a: a.name)
    ]
    head = (
        "## Attributes\n\n`development` means that the OpenTelemetry convention behind a name may"
        " still change.\n\n| attribute | type | stability | label | meaning |\n|---|---|---|---|---|\n"
    )
    return head + "\n".join(rows) + "\n"


if __name__ == "__main__":
    main()
