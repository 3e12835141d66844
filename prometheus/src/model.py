"""The types of rules, and PromQL expressions that many rules share. Knows no signals."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

REPOSITORY = "https://github.com/spanledger/spanledger"
GRAFANA = "http://localhost:3000"
GRAFANA_URL = "grafana_url"
"""The external label of Prometheus that holds Grafana's address."""
ADDRESS = (
    f"{{{{ with $externalLabels.{GRAFANA_URL} }}}}{{{{ . }}}}{{{{ else }}}}{GRAFANA}{{{{ end }}}}"
)
"""Grafana's address in links; rules in Grafana use Grafana's own."""
SEARCH = "find-traces"
"""The dashboard that searches traces. Explore does too, but viewers must not open it."""

Severity = Literal["page", "ticket"]
NoData = Literal["OK", "Alerting", "NoData", "KeepLast"]

_LABEL = re.compile(r"\$labels\.\w+")
ABOUT = "about"
"""A label of every alert: its topic. Alerts without a customer are grouped by it."""

_UNITS_MS = (
    (604_800_000, "w"),
    (86_400_000, "d"),
    (3_600_000, "h"),
    (60_000, "m"),
    (1_000, "s"),
    (1, "ms"),
)


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording rule: `level:metric:operation`."""

    record: str
    expr: str
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert rule. Alerts with the same name differ in their labels and share a runbook.

    Attributes:
        variant: distinguishes rules of the same name; part of the fixed uid in Grafana.
        summary: what happened, without values, so that alerts can be grouped.
        description: the same with values. It uses only `$labels` and `$value`, which both engines have.
        amount, period: shown in a message under these names; may be empty.
        dashboard: slug of the dashboard to open; `variables` are set from labels.
        traceql: finds traces of the incident. `$labels.name` in it becomes that label's value as a
            TraceQL string. A mapping has a search for each value of the label `scope`, and `""` for others.
        no_data: Grafana's state for an empty result, and why it is right for this rule.
    """

    name: str
    expr: str
    severity: Severity
    summary: str
    description: str
    dashboard: str
    for_s: float = 0
    keep_firing_s: float = 0
    variant: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    amount: str = ""
    period: str = ""
    traceql: str | Mapping[str, str] = ""
    no_data: NoData = "OK"
    no_data_reason: str = (
        "the expression is empty while all is well; SignalAbsent watches its signals"
    )


@dataclass(frozen=True, slots=True)
class Group:
    """Rules that are evaluated together, one after another."""

    name: str
    interval_s: float
    rules: Sequence[Recording | Alert]


def duration(seconds: float) -> str:
    """Seconds in PromQL's notation, to the millisecond: `90s`, `5m`, `1d`."""
    whole = round(seconds * 1_000)
    if whole <= 0:
        return "0s"
    return next(f"{whole // size}{unit}" for size, unit in _UNITS_MS if whole % size == 0)


def number(value: float) -> str:
    """A number without unnecessary digits."""
    return f"{value:.10g}"


def increase(series: str, window_s: int, by: str) -> str:
    """How much counters grew, summed by labels, including the first sample of a new series.

    `increase()` ignores the first sample of a series that begins above zero. Here, a series that did not
    exist in the hour before the window counts in full (an hour, so that missed scrapes do not make it
    new), unless Prometheus itself had not been running. Only for counters with few series, because it
    reads an hour of them.
    """
    window = duration(window_s)
    new = f"({series} unless last_over_time({series}[1h] offset {window})) > 0"
    watched = f"on () (count(up offset {window}) > 0)"
    return f"sum by ({by}) (increase({series}[{window}]) > 0 or ({new} and {watched}))"


def latest(gauge: str) -> str:
    """A gauge's last scraped value, up to five minutes old.

    After a failed scrape, Prometheus drops the target's gauges at once; without this, that would resolve
    alerts or restart their waits.
    """
    return f"last_over_time({gauge}[5m])"


def renamed(expr: str, source: str, target: str) -> str:
    """An expression whose label `source` is copied to `target`."""
    return f'label_replace({expr}, "{target}", "$1", "{source}", "(.+)")'


def marked(expr: str, name: str, value: str) -> str:
    """An expression with one label set."""
    return f'label_replace({expr}, "{name}", "{value}", "", "")'


def runbook_url(alert: str) -> str:
    """The address of an alert's runbook."""
    return f"{REPOSITORY}/blob/main/docs/runbooks/{alert}.md"


def dashboard_url(alert: Alert, grafana: str = ADDRESS) -> str:
    """The dashboard that shows the incident, with its variables set."""
    pairs = "&".join(
        f"var-{name}={{{{ $labels.{label} | urlquery }}}}"
        for name, label in alert.variables.items()
    )
    return f"{grafana}/d/{alert.dashboard}" + (f"?{pairs}" if pairs else "")


def trace_url(alert: Alert, grafana: str = ADDRESS) -> str:
    """The dashboard that finds traces of the incident; empty if traces would not help."""
    if not alert.traceql:
        return ""
    return f"{grafana}/d/{SEARCH}?from=now-1h&to=now&var-query={_search(alert.traceql)}"


def _search(traceql: str | Mapping[str, str]) -> str:
    """A template for a TraceQL search, percent-encoded.

    Names may contain quotes and backslashes: `%q` turns a label's value into a TraceQL string, which
    follows Go's rules.
    """
    if isinstance(traceql, str):
        labels = "".join(f" {label}" for label in _LABEL.findall(traceql))
        text = _LABEL.sub("%q", traceql.replace("%", "%%"))
        return f"{{{{ printf `{text}`{labels} | urlquery }}}}"
    tests = "{{ else ".join(
        f'if eq $labels.scope "{scope}" }}}}{_search(query)}'
        for scope, query in traceql.items()
        if scope
    )
    return f"{{{{ {tests}{{{{ else }}}}{_search(traceql[''])}{{{{ end }}}}"


def annotations_of(alert: Alert, grafana: str = ADDRESS) -> dict[str, str]:
    """An alert's annotations, in reading order."""
    texts = {
        "summary": alert.summary,
        "description": alert.description,
        "amount": alert.amount,
        "period": alert.period,
        "dashboard_url": dashboard_url(alert, grafana),
        "trace_url": trace_url(alert, grafana),
        "runbook_url": runbook_url(alert.name),
    }
    return {name: text for name, text in texts.items() if text}


def labels_of(alert: Alert) -> dict[str, str]:
    """The labels that a rule adds."""
    return {"severity": alert.severity, **alert.labels}
