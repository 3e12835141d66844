"""Write docs/telemetry.md from the registry of signals, so it cannot go out of date.

`--check` writes nothing and fails if the file is out of date. Names, units, attributes, buckets and
meanings come from `spanledger.telemetry.signals`; only the prose around them is here.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from prometheus.src.long import COPIED, EVERY_S  # noqa: E402 - found by the line above
from spanledger.telemetry.conventions import (  # noqa: E402 - found by the line above
    ATTRIBUTE_CHANGES,
    LATEST,
    METRIC_CHANGES,
    OPT_IN,
    Generation,
    MetricChange,
)
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

Every name on this page is an interface: changes are listed in the CHANGELOG. Our own names begin with
`spanledger.`; all others come from the OpenTelemetry GenAI conventions, in the form of v1.41. You can
switch to the newer names of v0.1.0: see [two forms](#two-forms-of-the-conventions).

## How telemetry is sent

Each attempt at a provider is a row in the ledger, and so is each request. The *shipper*, a separate
process that the gateway starts, reads finished rows in order and sends them as spans and
metric points over OTLP/HTTP. Its cursor moves only after the collector has accepted them, in the same
transaction as the aggregates behind the metrics. Therefore:

- an unreachable collector, a killed shipper or a killed gateway loses no span of a finished request;
- a span may arrive twice, with the same ids, and trace stores keep one;
- counters do not restart at zero after a restart, and their amounts match the ledger's;
- callers never wait for telemetry.

Only one shipper per ledger is active at a time; others wait. `spanledger ship` runs one
without a gateway, and `spanledger ship --once` sends what is waiting and exits with 1 if the collector
did not accept all of it.

If the collector rejects a request for good (with a 4xx other than 408 and 429, three times, while it accepts
others), the shipper finds the rejected span by halving the batch. It sends that span without its content and, if it is
rejected again, drops it, logs this and counts it in `spanledger.telemetry.dropped`. While a collector rejects
everything, or is unreachable, nothing is dropped, however long it takes.

## Sampling and status

Every request is exported, because spending without a span could not be explained. That includes requests
whose caller does not sample the trace (a `traceparent` that ends in `-00`). The spans' flags hold the
caller's decision, so a collector can drop them; without a `traceparent`, they are flagged `sampled`.

Status follows the HTTP conventions. A SERVER span is an error if the gateway failed: a status of
500 or above, a broken stream, or a request that nobody finished. It is `UNSET` for errors the caller can
fix, such as an unknown model (404) or an exhausted budget (429); `error.type` says which. A CLIENT span
is an error whenever the attempt failed, even with a status below 500.

## Where it goes

`telemetry.endpoint` in the [configuration](configuration.md#telemetry) is the collector's base URL.
The standard variables take precedence:

| variable | meaning |
|---|---|
| `OTEL_EXPORTER_OTLP_ENDPOINT`, `…_TRACES_ENDPOINT`, `…_METRICS_ENDPOINT` | The address to send to. |
| `OTEL_EXPORTER_OTLP_HEADERS`, `…_CERTIFICATE`, `…_CLIENT_KEY`, `…_CLIENT_CERTIFICATE` | Credentials and certificates. |
| `OTEL_EXPORTER_OTLP_COMPRESSION` | `gzip` unless set. |
| `OTEL_EXPORTER_OTLP_TIMEOUT` | Seconds for one request, including its retries (10). |
| `OTEL_METRIC_EXPORT_INTERVAL` | Milliseconds between two exports of metrics. |
| `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES` | The sender. |
| `OTEL_SEMCONV_STABILITY_OPT_IN=gen_ai_latest_experimental` | Use the names of v0.1.0: see [two forms](#two-forms-of-the-conventions). |
| `OTEL_TRACES_EXPORTER=none`, `OTEL_METRICS_EXPORTER=none`, `OTEL_SDK_DISABLED=true` | Send no traces, no metrics, or neither: rows are skipped, and counters keep counting. |

`service.instance.id` belongs to the ledger and survives restarts, as its counters do.

## Content

`telemetry.content` decides whether spans contain prompts and answers: `off` (the default), `redacted`,
or `full`. They are JSON in the conventions' message schema, each at most
`telemetry.max_attribute_bytes` long: long texts are shortened first, then messages are removed
from the middle, and a note says what is missing. Binary data is always replaced by its
kind and size. `redacted` replaces e-mail addresses, keys and tokens of known formats, private keys,
payment cards, bank accounts, and phone numbers that begin with `+` or an area code in parentheses, by
`[REDACTED:kind]`, wherever they occur. It recognises formats, not meanings: a person's name or an address in a
prompt stays. Content is kept in the ledger only until it has been shipped.
"""

FORMS_PROSE = f"""\
## Two forms of the conventions

The GenAI conventions moved to a [repository of their own](https://github.com/open-telemetry/semantic-conventions-genai),
whose first release, v0.1.0, renamed some signals. As the conventions require, the names stay as they were
until you opt in: set `{OPT_IN}={LATEST}` (a comma-separated list; other
entries are for other instrumentation) where the gateway or `spanledger ship` runs. The schema URL of
spans and points says which form they use.

Only the names in this table differ. All others are the same in both forms.

"""

FORMS_AFTER = """A token counter equals the sum of the histogram in the same row. `gen_ai.token.modality` is `unknown`, because
providers do not report it for all tokens. The point `otel.metric.overflow` has no attributes to decide by, so it
keeps the name of v1.41, as does every metric whose name begins with `spanledger.`.

With the stack's collector, dashboards and alerts work with either form. On the way to
Prometheus only, the collector translates the new metric names to those of v1.41, for the
gateway and for instrumented applications. Vendors get the names as sent. With
another collector, or in a vendor's dashboards, a change of form starts new series
under new names. The ledger uses only one form, so switching back and forth loses nothing.
"""

CARDINALITY = f"""\
## How many series

Customers are the only label that grows by itself. The first `telemetry.max_customers` customers seen
keep their own series for good, because a label whose meaning changed with each
day's ranking could not be added up over time. All others are `other`. Spans and the ledger
always have the real name, as does `/metrics` for each budget near its limit. A budget's name is a
label of its refusals: one series for each budget that ever refused. Apart from that, a metric has at most
{MAX_POINTS:,} points, or the number in the table; anything beyond is counted in the
point `otel.metric.overflow`, so totals stay exact. `gen_ai.response.model` is only on spans, because
providers could invent any number of values.

A histogram point is several series in Prometheus. The table shows the maximum for each metric and for
all, whatever callers send and the configuration says:
"""

METRIC_PROSE = """\
## Metrics over OTLP

Points are cumulative and sent every `telemetry.export_interval_s`; a series that does not change is repeated
every minute. A new series starts with a zero one interval before its first value, so that
`increase()` sees all of it. Counters and histogram buckets carry an exemplar of the latest trace.
The names under "in Prometheus" are those of Prometheus 3 with its OTLP receiver (buckets also have `le`).

Instrumented applications send `gen_ai.*` metrics with the same names, for the same calls, in their own buckets.
The stack's collector sets `spanledger.source` on each point to say who measured it: `gateway`,
`application`, `application_via_gateway` or `unknown` ([why](../otel-collector/README.md#nothing-is-counted-twice)).
Use `gateway` and `application` for sums, and `gateway` alone for percentiles and failure rates, as our rules and
dashboards do; they treat points without a source, from another collector, as the gateway's. Labels of
applications' points are [limited to a list](../otel-collector/README.md#labels-of-applications-points), and points that
Prometheus would reject are [dropped and counted](../otel-collector/README.md#a-bad-point-costs-nobody-else).
"""

SCRAPE_PROSE = f"""\
## Scraped metrics

Each gateway serves `/metrics`. Budgets and the ledger's state are read from the ledger, so every
gateway on it reports the same values; commits, overhead, deployments and requests in flight are the process's own, and
`process_*` metrics are included. `/metrics` shows accounts that are used to a third, or to their first threshold if that
is lower, {MAX_BUDGETS:,} at most, and otherwise the fullest up to {FEW_BUDGETS}. The fullest come first,
so an account with an alert does not disappear because of what others spend.
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
    parts = [HEAD, FORMS_PROSE + forms_table(), FORMS_AFTER]
    parts += ["## Spans\n", *(span_section(span) for span in SPANS), METRIC_PROSE]
    parts += [metric_section(metric) for metric in METRICS]
    parts += [CARDINALITY, cap_table(), SCRAPE_PROSE, scrape_table(SCRAPED), attribute_table()]
    return "\n".join(parts)


def forms_table() -> str:
    """The names that differ in the new form, with their sources."""
    rows = [
        f"| span | `{c.old}` | `{c.new}`{', an int, not a double' if c.integer else ''} | {link(c.source)} |"
        for c in ATTRIBUTE_CHANGES
    ]
    rows += [
        f"| {c.kind} | `{c.old}`{condition(c)} | `{c.new}`{added(c)} | {link(c.source)} |"
        for c in METRIC_CHANGES
    ]
    head = f"| on | {Generation.OLD.value} | {Generation.NEW.value} | source |\n|---|---|---|---|\n"
    return head + "\n".join(rows) + "\n"


def condition(change: MetricChange) -> str:
    """Which points of the old metric are renamed."""
    return "".join(f", `{name}` = `{value}`" for name, value in change.when)


def added(change: MetricChange) -> str:
    """The attributes that the new metric adds or lacks."""
    more = [f", with `{name}`" for name, _ in change.adds]
    return "".join(more + [f", without `{name}`" for name in change.without])


def link(url: str) -> str:
    """A link to a source, named by the end of its URL."""
    end = url.rsplit("/", 1)[1]
    return f"[{'#' if end.isdecimal() else ''}{end}]({url})"


def both_names(name: str) -> str:
    """An attribute's name, and its name in the new form."""
    new = next((c.new for c in ATTRIBUTE_CHANGES if c.old == name and c.new != name), None)
    return f"`{name}`" if new is None else f"`{name}` ({Generation.NEW.value}: `{new}`)"


def span_section(span: Span) -> str:
    """One kind of span."""
    rows = [f"| {both_names(name)} | {ATTRIBUTES[name].meaning} |" for name in span.attributes]
    head = (
        f"### `{span.name}` ({span.kind})\n\n{span.meaning}\n\n| attribute | meaning |\n|---|---|\n"
    )
    return head + "\n".join(rows) + "\n"


def metric_section(metric: Metric) -> str:
    """One metric sent over OTLP."""
    attributes = ", ".join(f"`{name}`" for name in metric.attributes)
    series = ", ".join(f"`{name}`" for name in prometheus_series(metric))
    lines = [
        f"### `{metric.name}`\n",
        f"{metric.meaning}\n",
        f"- {metric.kind}, unit `{metric.unit}`, {stability(metric)}",
        f"- attributes: {attributes}",
        f"- in Prometheus: {series}",
    ]
    new = [f"`{change.new}`" for change in METRIC_CHANGES if change.old == metric.name]
    if new:
        lines.insert(3, f"- in the form of {Generation.NEW.value}: {', '.join(new)}")
    if metric.buckets:
        lines.append(f"- buckets: {', '.join(f'{bound:g}' for bound in metric.buckets)}")
    return "\n".join(lines) + "\n"


def stability(metric: Metric) -> str:
    """Whether the name may still change."""
    if metric.name.startswith("gen_ai."):
        return "a convention in development"
    return metric.stability


def cap_table() -> str:
    """The maximum number of series."""
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
        f"\nEvery {EVERY_S // 60} minutes, Prometheus' rules copy the metrics that dashboards show over days and\n"
        f"weeks (`prometheus/rules/long.yml`): at most {copies:,} more series. A scrape of a gateway has up\n"
        f"to {MAX_BUDGETS:,} series of each `spanledger_budget_*`, one of each `spanledger_deployment_*` for each\n"
        "deployment (and limit), one of each `spanledger_notices_*` for each destination of\n"
        f"[notices](notices.md), and {others} others of ours.\n\n"
        "A test with a real Prometheus verifies these maxima with ten thousand customers using fifty models of\n"
        "three providers (`tests/stack/test_scale.py`). For Prometheus' memory with that many, see\n"
        "[performance](performance.md#series-and-memory-of-prometheus).\n"
    )
    return "\n".join([head + "\n".join(rows), f"| all | | {total:,} |", after])


_OF_MANY = ("budget", "deployment", "destination")
"""First labels of the metrics that have many series in `/metrics`."""


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
        f"| {both_names(a.name)} | {a.type} | {a.stability} | "
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
