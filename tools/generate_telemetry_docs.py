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
    Form,
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
`spanledger.`; all others are from the OpenTelemetry GenAI conventions, in the form of v1.41. The newer
names of v0.1.0 are available too: see [two forms](#two-forms-of-the-conventions).

## How it is sent

Each attempt at a provider is a row in the ledger, and so is each request. The *shipper*, a separate
process that the gateway starts, reads rows that have ended, in order, and sends them as spans and
metric points over OTLP/HTTP. Its cursor moves only after the collector has accepted them, in the same
transaction as the aggregates behind the metrics. Therefore:

- no span of an ended request is lost if the collector is unreachable or the shipper or gateway is killed;
- a span may arrive twice, with the same ids, and a trace store keeps one;
- counters do not reset to zero after a restart, and the money in them equals the ledger's;
- no request ever waits for telemetry.

Only one shipper at a time works on a ledger; others wait. `spanledger ship` runs one without a gateway.
`spanledger ship --once` sends everything pending and exits with 1 if the collector did not accept all
of it.

If the collector refuses a batch for good (a 4xx other than 408 and 429, three times, while it accepts
other requests), the shipper finds the span by halving the batch. It sends the span without its content;
if that is refused too, it drops the span, logs it and counts it in `spanledger.telemetry.dropped`. While
a collector refuses everything, or is unreachable, nothing is dropped, however long that lasts.

## Sampling and status

Every request is exported, because spending without a span could not be explained. This includes requests
whose caller does not sample the trace (a `traceparent` that ends in `-00`). The spans' flags carry the
caller's decision, so a collector can drop them; without a `traceparent` they are flagged `sampled`.

Status follows the conventions for HTTP. A SERVER span is an error if the gateway failed: a status of 500
or above, a broken stream, or an abandoned request. It is `UNSET` for what the caller can change, such as
an unknown model (404) or an exhausted budget (429); `error.type` has the reason. A CLIENT span is an
error whenever the attempt failed, even with a status below 500.

## Where it goes

`telemetry.endpoint` in the [configuration](configuration.md#telemetry) is the collector's base URL.
The standard variables override it:

| variable | meaning |
|---|---|
| `OTEL_EXPORTER_OTLP_ENDPOINT`, `…_TRACES_ENDPOINT`, `…_METRICS_ENDPOINT` | Where to send telemetry. |
| `OTEL_EXPORTER_OTLP_HEADERS`, `…_CERTIFICATE`, `…_CLIENT_KEY`, `…_CLIENT_CERTIFICATE` | How to authenticate. |
| `OTEL_EXPORTER_OTLP_COMPRESSION` | `gzip` unless set. |
| `OTEL_EXPORTER_OTLP_TIMEOUT` | Timeout of one request including its retries, in seconds; default: 10. |
| `OTEL_METRIC_EXPORT_INTERVAL` | Milliseconds between metric exports. |
| `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES` | The resource that identifies the sender. |
| `OTEL_SEMCONV_STABILITY_OPT_IN=gen_ai_latest_experimental` | Use the names of v0.1.0: see [two forms](#two-forms-of-the-conventions). |
| `OTEL_TRACES_EXPORTER=none`, `OTEL_METRICS_EXPORTER=none`, `OTEL_SDK_DISABLED=true` | Do not send it: rows are skipped, and counters keep counting. |

`service.instance.id` belongs to the ledger and survives restarts, as its counters do.

## Content

`telemetry.content` sets whether spans contain prompts and answers: `off` (the default), `redacted`
or `full`. They are JSON in the conventions' message schema, each at most
`telemetry.max_attribute_bytes` long: long texts are shortened first, then messages are left out of
the middle, and a note marks each omission. Binary data is always replaced by its kind and size.
`redacted` replaces e-mail addresses, keys and tokens of known formats, private keys, payment cards,
bank accounts, and phone numbers that begin with `+` or an area code in brackets with
`[REDACTED:kind]`, wherever they occur. It recognizes formats, not meanings: a name or an address in
a prompt is kept. The ledger keeps content only until it has been shipped.
"""

FORMS_PROSE = f"""\
## Two forms of the conventions

The GenAI conventions moved to their [own repository](https://github.com/open-telemetry/semantic-conventions-genai),
whose first release, v0.1.0, renamed some signals. As the conventions require, the old names stay until
you opt in to the new ones: set `{OPT_IN}={LATEST}` (a comma-separated list; other
entries are for other instrumentation) for the gateway or `spanledger ship`. The schema URL of the spans
and points shows which form they use.

This table lists every change. Everything else has the same name in both forms.

"""

FORMS_AFTER = """A token counter is the sum of the histogram in the same row. `gen_ai.token.modality` is `unknown`, because
providers do not report it for all tokens. The point `otel.metric.overflow` has no attributes that could
distinguish the new metrics and keeps the name of v1.41, as does every metric that begins with `spanledger.`.

You can use either form: with the stack's collector, dashboards and alerts work with both. The collector
renames metrics to v1.41 for Prometheus only, both the gateway's and those of instrumented applications;
vendors get the names as they were sent. With another collector, or in a vendor's dashboards after the form
changes, expect new series under the new names. The ledger stores only one form, so switching back and
forth loses nothing.
"""

CARDINALITY = f"""\
## How many series

The customer is the only label that grows by itself. The first `telemetry.max_customers` customers seen
get their own series permanently: a label whose meaning changed with each day's ranking could not be
summed over time. All others are `other`. Spans and the ledger always have the real name, and so does
`/metrics` for each budget near its limit. A budget's name is a label of its refusals: one series for
each budget that ever refused. Otherwise, a metric has at most {MAX_POINTS:,} points, or the number in the
table; anything beyond is counted in the point `otel.metric.overflow`, so totals stay exact.
`gen_ai.response.model` is on spans only, because a provider can send any value.

A histogram's point is several series in Prometheus. The table shows the maximum for each metric and in
total, whatever callers and the configuration do:
"""

METRIC_PROSE = """\
## Metrics over OTLP

Points are cumulative and sent every `telemetry.export_interval_s`; an unchanged series is repeated
each minute. A new series begins with a zero one interval before its first value, so `increase()`
includes the first value. Counters and histogram buckets carry an exemplar of the latest trace. The
Prometheus names are those of Prometheus 3 with its OTLP receiver (`le` is added to buckets).

Instrumented applications send `gen_ai.*` metrics with the same names for the same calls, with their own
buckets. The stack's collector records on each point who counted it, in `spanledger.source`: `gateway`,
`application`, `application_via_gateway` or `unknown` ([why](../otel-collector/README.md#nothing-is-counted-twice)).
The rules and dashboards use `gateway` and `application` for sums, and only `gateway` for percentiles and
failure ratios; points without a source, from another collector, count as the gateway's. Only
[listed labels](../otel-collector/README.md#labels-of-applications-points) of applications' points are kept,
and points that Prometheus would refuse [are dropped and counted](../otel-collector/README.md#a-bad-point-costs-nobody-else).
"""

SCRAPE_PROSE = f"""\
## Metrics by scrape

Each gateway serves `/metrics`. Budgets and the ledger's state are read from the ledger, so every gateway
that uses it reports the same; commits, overhead, deployments and requests in flight are per process.
`process_*` metrics are included. Accounts past a third of their limit, or past their first threshold if
that is lower, are always shown, up to {MAX_BUDGETS:,}, nearest to their limit first; others fill up to
{FEW_BUDGETS}. So an account that has an alert does not come and go with what others spend.
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
    head = f"| on | {Form.OLD.value} | {Form.NEW.value} | source |\n|---|---|---|---|\n"
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
    return f"`{name}`" if new is None else f"`{name}` ({Form.NEW.value}: `{new}`)"


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
        lines.insert(3, f"- in the form of {Form.NEW.value}: {', '.join(new)}")
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
        f"\nEvery {EVERY_S // 60} minutes, Prometheus' rules copy the series that dashboards show over days and\n"
        f"weeks (`prometheus/rules/long.yml`): at most {copies:,} more series. A scrape of a gateway has up to\n"
        f"{MAX_BUDGETS:,} series of each `spanledger_budget_*`, one of each `spanledger_deployment_*` for each\n"
        f"deployment (and limit), and {others} other series.\n\n"
        "A test against a real Prometheus, with ten thousand customers using fifty models of three\n"
        "providers, checks these maximums (`tests/stack/test_scale.py`). For the memory that they need, see\n"
        "[performance](performance.md#series-and-memory-of-prometheus).\n"
    )
    return "\n".join([head + "\n".join(rows), f"| all | | {total:,} |", after])


_OF_MANY = ("budget", "deployment")
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
