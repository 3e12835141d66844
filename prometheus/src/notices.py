"""How alerts are told, by Grafana and by an Alertmanager alike: what goes together, how soon, in which words.

The template uses only what both have.
"""

from __future__ import annotations

from prometheus.src.model import ABOUT
from prometheus.src.thresholds import DAY, HOUR, MINUTE

GROUP_BY = (ABOUT, "scope", "subject", "budget")
WAIT_S = MINUTE // 2
"""What begins within half a minute is one message."""
AGAIN_S = 5 * MINUTE
"""Between two messages of a group to which something was added."""
REPEAT_S = 12 * HOUR
"""What still fires is said again twice a day."""
ONCE_S = 53 * 7 * DAY
"""A step of the ladder is said once: its repeat is longer than any period."""
LADDER = ("threshold", "=~", ".+")
"""Only steps of the ladder have this label."""

TITLE = '{{ template "spanledger.title" . }}'
MESSAGE = '{{ template "spanledger.message" . }}'
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
