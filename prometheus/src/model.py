"""What a rule is, and the few phrases of PromQL that many rules share. Knows no signal."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

REPOSITORY = "https://github.com/spanledger/spanledger"
GRAFANA = "http://localhost:3000"
GRAFANA_URL = "grafana_url"
"""Prometheus' external label that says where Grafana is."""
ADDRESS = (
    f"{{{{ with $externalLabels.{GRAFANA_URL} }}}}{{{{ . }}}}{{{{ else }}}}{GRAFANA}{{{{ end }}}}"
)
"""Where links lead; rules in Grafana ask Grafana itself."""
SEARCH = "find-traces"
"""The dashboard that searches for traces. Explore does too, but viewers may not open it."""

Severity = Literal["page", "ticket"]
NoData = Literal["OK", "Alerting", "NoData", "KeepLast"]

_LABEL = re.compile(r"\$labels\.\w+")
ABOUT = "about"
"""A label of every alert: the topic of its group, so that what has no customer goes together by it."""

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
        variant: what tells rules of one name apart; part of the fixed uid in Grafana.
        summary: what happened, without values, so that it groups.
        description: the same with values. Only `$labels` and `$value` are used: both engines have them.
        amount, period: what a message shows as such; empty where there is none.
        dashboard: slug of the dashboard and the variables that are set from labels.
        traceql: finds traces of the incident. `$labels.name` in it is that label's value as a string
            of TraceQL. A mapping has a search for a value of the label `scope`, and `""` for all others.
        no_data: what Grafana makes of an empty answer, and why it is right for this rule.
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
    """Seconds as PromQL writes them, to the millisecond: `90s`, `5m`, `1d`."""
    whole = round(seconds * 1_000)
    if whole <= 0:
        return "0s"
    return next(f"{whole // size}{unit}" for size, unit in _UNITS_MS if whole % size == 0)


def number(value: float) -> str:
    """A number without needless digits."""
    return f"{value:.10g}"


def increase(series: str, window_s: int, by: str) -> str:
    """How much counters grew, added up by labels, the first sample of a new series included.

    `increase()` sees nothing of a series that begins above zero. One that was not there in the hour
    before the window counts whole (an hour, so that a gap of scrapes makes nothing new), unless
    Prometheus itself was not there: to one that has just begun, nothing is new. For counters with few
    series: it reads an hour of them.
    """
    window = duration(window_s)
    new = f"({series} unless last_over_time({series}[1h] offset {window})) > 0"
    watched = f"on () (count(up offset {window}) > 0)"
    return f"sum by ({by}) (increase({series}[{window}]) > 0 or ({new} and {watched}))"


def latest(gauge: str) -> str:
    """What was last scraped of a gauge, for as long as Prometheus remembers a sample.

    A scrape that fails makes it forget the target's gauges at once; that ends no alert and lets none
    wait anew.
    """
    return f"last_over_time({gauge}[5m])"


def renamed(expr: str, source: str, target: str) -> str:
    """An expression whose label `source` is copied to `target`."""
    return f'label_replace({expr}, "{target}", "$1", "{source}", "(.+)")'


def marked(expr: str, name: str, value: str) -> str:
    """An expression with one label set."""
    return f'label_replace({expr}, "{name}", "{value}", "", "")'


def runbook_url(alert: str) -> str:
    """Where the page of an alert is."""
    return f"{REPOSITORY}/blob/main/docs/runbooks/{alert}.md"


def dashboard_url(alert: Alert, grafana: str = ADDRESS) -> str:
    """The dashboard that shows the incident, its variables set."""
    pairs = "&".join(
        f"var-{name}={{{{ $labels.{label} | urlquery }}}}"
        for name, label in alert.variables.items()
    )
    return f"{grafana}/d/{alert.dashboard}" + (f"?{pairs}" if pairs else "")


def trace_url(alert: Alert, grafana: str = ADDRESS) -> str:
    """The dashboard that finds the traces of the incident; empty where no trace tells more."""
    if not alert.traceql:
        return ""
    return f"{grafana}/d/{SEARCH}?from=now-1h&to=now&var-query={_search(alert.traceql)}"


def _search(traceql: str | Mapping[str, str]) -> str:
    """A template of TraceQL, percent-encoded.

    Names may have quotes and backslashes: `%q` makes a label's value a string of TraceQL, whose rules
    are Go's.
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
    """All that an alert says, in the order a reader wants it."""
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
    """The labels a rule adds."""
    return {"severity": alert.severity, **alert.labels}
