"""Grafana's own alerting, for stacks without an Alertmanager: the same rules, who hears of them, how.

Addresses come from the environment (grafana/grafana.env has what they are when unset). Files of
provisioning expand `${NAME}`; in annotations only that form, so `$labels` stays.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from prometheus.src.model import ABOUT, Alert, Group, annotations_of, duration, labels_of

PUBLIC_URL = "${GRAFANA_PUBLIC_URL}"
FOLDER = "spanledger"
LOOK_BACK_S = 600
GROUP_BY = (ABOUT, "scope", "subject", "budget")

TEMPLATE = """\
{{ define "spanledger.title" -}}
[{{ .Status | toUpper }}{{ if eq .Status "firing" }} {{ .Alerts.Firing | len }}{{ end }}] \
{{ (index .Alerts 0).Labels.alertname }}\
{{ with .CommonLabels.subject }} · {{ . }}{{ end }}\
{{ with .CommonLabels.budget }} · budget {{ . }}{{ end }}
{{- end }}
{{ define "spanledger.message" -}}
{{ range .Alerts }}
{{ .Status | toUpper }}: {{ .Annotations.summary }}
{{ .Annotations.description }}
{{ if .Labels.subject }}Who: {{ .Labels.scope }} {{ .Labels.subject }}
{{ end -}}
{{ with .Labels.budget }}Budget: {{ . }}
{{ end -}}
{{ with .Annotations.amount }}Amount: {{ . }}
{{ end -}}
{{ with .Annotations.period }}Period: {{ . }}
{{ end -}}
Dashboard: {{ .Annotations.dashboard_url }}
{{ with .Annotations.trace_url }}Traces: {{ . }}
{{ end -}}
Runbook: {{ .Annotations.runbook_url }}
{{ end }}
{{- end }}
"""


def documents(groups: Sequence[Group]) -> dict[str, dict[str, Any]]:
    """Each file of provisioning/alerting, by its name."""
    return {
        "rules": _rules(groups),
        "contact-points": _contact_points(),
        "policies": _policies(),
        "templates": {
            "apiVersion": 1,
            "templates": [{"orgId": 1, "name": "spanledger", "template": TEMPLATE}],
        },
        "mute-times": {
            "apiVersion": 1,
            "muteTimes": [
                {
                    "orgId": 1,
                    "name": "always",
                    "time_intervals": [{"times": [{"start_time": "00:00", "end_time": "24:00"}]}],
                }
            ],
        },
    }


def uid(alert: Alert) -> str:
    """Fixed by the rule's name and variant, so that an upgrade changes a rule and makes none."""
    key = f"{alert.name}/{alert.variant}"
    return f"sl-{hashlib.sha256(key.encode()).hexdigest()[:16]}"


def _rules(groups: Sequence[Group]) -> dict[str, Any]:
    return {
        "apiVersion": 1,
        "groups": [
            {
                "orgId": 1,
                "name": group.name,
                "folder": FOLDER,
                "interval": duration(group.interval_s),
                "rules": [_rule(rule) for rule in group.rules if isinstance(rule, Alert)],
            }
            for group in groups
        ],
    }


def _rule(alert: Alert) -> dict[str, Any]:
    """A: the expression. B: 1 for every series of it, whatever its value, as zero would not fire."""
    title = f"{alert.name} {alert.variant}".strip()
    texts = {
        name: text.replace("$value", "$values.A.Value")
        for name, text in annotations_of(alert, PUBLIC_URL).items()
    }
    made: dict[str, Any] = {
        "uid": uid(alert),
        "title": title,
        "condition": "B",
        "data": [
            _query("A", "prometheus", {"expr": alert.expr, "instant": True, "range": False}),
            _query("B", "__expr__", {"type": "math", "expression": "is_number($A)"}),
        ],
        # An empty answer is the rule's good state; see `Alert.no_data_reason`.
        "noDataState": alert.no_data,
        # A Prometheus that does not answer is told as such, not as an incident of a customer.
        "execErrState": "Error",
        "for": duration(alert.for_s),
    }
    if alert.keep_firing_s:
        made["keepFiringFor"] = duration(alert.keep_firing_s)
    return made | {"labels": labels_of(alert), "annotations": texts}


def _query(ref: str, source: str, model: dict[str, Any]) -> dict[str, Any]:
    kind = "prometheus" if source == "prometheus" else "__expr__"
    return {
        "refId": ref,
        "datasourceUid": source,
        "relativeTimeRange": {"from": LOOK_BACK_S, "to": 0},
        "model": {"refId": ref, "datasource": {"type": kind, "uid": source}, **model},
    }


def _contact_points() -> dict[str, Any]:
    title = '{{ template "spanledger.title" . }}'
    message = '{{ template "spanledger.message" . }}'
    settings: dict[str, dict[str, object]] = {
        "webhook": {
            "url": "${SPANLEDGER_ALERT_WEBHOOK_URL}",
            "httpMethod": "POST",
            "title": title,
            "message": message,
        },
        "slack": {"url": "${SPANLEDGER_ALERT_SLACK_URL}", "title": title, "text": message},
        "email": {
            "addresses": "${SPANLEDGER_ALERT_EMAIL_TO}",
            "singleEmail": True,
            "subject": title,
            "message": message,
        },
    }
    return {
        "apiVersion": 1,
        "contactPoints": [
            {
                "orgId": 1,
                "name": f"spanledger {kind}",
                "receivers": [{"uid": f"spanledger-{kind}", "type": kind, "settings": setting}],
            }
            for kind, setting in settings.items()
        ],
    }


def _policies() -> dict[str, Any]:
    """Each way is asked for by the severities it wants; what nobody asked for stays in Grafana.

    A step of the ladder is said once: its repeat is longer than any period.
    """
    once = {
        "object_matchers": [["threshold", "=~", ".+"]],
        "repeat_interval": "53w",
    }
    wanted = [
        {
            "receiver": f"spanledger {kind}",
            "object_matchers": [["severity", "=~", f"${{SPANLEDGER_ALERT_{kind.upper()}_FOR}}"]],
            "continue": True,
            "routes": [{"receiver": f"spanledger {kind}", **once}],
        }
        for kind in ("webhook", "slack", "email")
    ]
    return {
        "apiVersion": 1,
        "policies": [
            {
                "orgId": 1,
                "receiver": "spanledger webhook",
                "group_by": list(GROUP_BY),
                "group_wait": "30s",
                "group_interval": "5m",
                "repeat_interval": "12h",
                "routes": [
                    *wanted,
                    {
                        "receiver": "spanledger webhook",
                        "object_matchers": [["severity", "=~", "page|ticket"]],
                        "mute_time_intervals": ["always"],
                    },
                ],
            }
        ],
    }
