"""How Grafana and an Alertmanager send alerts: their grouping, timing and texts.

The template uses only functions that both have.
"""

from __future__ import annotations

from prometheus.src.model import ABOUT, duration
from prometheus.src.thresholds import DAY, HOUR, MINUTE

GROUP_BY = (ABOUT, "scope", "subject", "budget")
WAIT_S = MINUTE // 2
"""Alerts that start within half a minute share a message."""
AGAIN_S = 5 * MINUTE
"""The least time between two messages of a group that has new alerts."""
REPEAT_S = 12 * HOUR
"""Firing alerts are repeated twice a day."""
ONCE_S = 53 * 7 * DAY
"""A budget's threshold is sent once: the repeat interval is longer than any period."""
LADDER = ("threshold", "=~", ".+")
"""Only alerts on a budget's thresholds have this label."""


def pace(speed: float) -> dict[str, object]:
    """Grouping and timing, in the keys that both have."""
    return {
        "group_by": list(GROUP_BY),
        "group_wait": duration(WAIT_S / speed),
        "group_interval": duration(AGAIN_S / speed),
        "repeat_interval": duration(REPEAT_S / speed),
    }


TITLE = '{{ template "spanledger.title" . }}'
MESSAGE = '{{ template "spanledger.message" . }}'
TEMPLATE = """\
{{ define "spanledger.title" -}}
{{ $name := (index .Alerts 0).Labels.alertname -}}
{{ range .Alerts.Firing }}{{ if eq .Labels.severity "page" }}{{ $name = .Labels.alertname }}\
{{ end }}{{ end -}}
[{{ .Status | toUpper }}{{ if eq .Status "firing" }} {{ .Alerts.Firing | len }}{{ end }}] {{ $name }}\
{{ with .CommonLabels }}\
{{ if eq .scope "global" }} · everybody{{ else }}{{ with .subject }} · {{ . }}{{ end }}{{ end }}\
{{ with .spanledger_route }} · {{ . }}{{ end }}{{ with .route }} · {{ . }}{{ end }}\
{{ with .gen_ai_provider_name }} · {{ . }}{{ end }}{{ with .gen_ai_request_model }} · {{ . }}{{ end }}\
{{ with .budget }} · budget {{ . }}{{ end }}\
{{ end }}
{{- end }}
{{ define "spanledger.message" -}}
{{ range .Alerts.Firing }}{{ if eq .Labels.severity "page" }}{{ template "spanledger.firing" . }}{{ end }}\
{{ end -}}
{{ range .Alerts.Firing }}{{ if ne .Labels.severity "page" }}{{ template "spanledger.firing" . }}{{ end }}\
{{ end -}}
{{ range .Alerts.Resolved }}{{ template "spanledger.resolved" . }}{{ end -}}
{{ end }}
{{ define "spanledger.firing" }}
FIRING: {{ .Annotations.summary }}
{{ .Annotations.description }}
{{ template "spanledger.about" . -}}
{{ with .Annotations.amount }}Amount: {{ . }}
{{ end -}}
{{ with .Annotations.period }}Period: {{ . }}
{{ end -}}
Began: {{ .StartsAt.UTC.Format "2006-01-02 15:04" }} UTC
Dashboard: {{ .Annotations.dashboard_url }}
{{ with .Annotations.trace_url }}Traces: {{ . }}
{{ end -}}
Runbook: {{ .Annotations.runbook_url }}
{{ end }}
{{ define "spanledger.resolved" }}
RESOLVED: {{ .Annotations.summary }}
{{ template "spanledger.about" . -}}
Began: {{ .StartsAt.UTC.Format "2006-01-02 15:04" }} UTC
Ended: {{ .EndsAt.UTC.Format "2006-01-02 15:04" }} UTC
Runbook: {{ .Annotations.runbook_url }}
{{ end }}
{{ define "spanledger.about" -}}
{{ with .Labels.subject }}Who: {{ if eq $.Labels.scope "global" }}everybody{{ else }}{{ $.Labels.scope }} {{ . }}{{ end }}
{{ end -}}
{{ with .Labels.spanledger_route }}Route: {{ . }}
{{ end -}}
{{ with .Labels.route }}Route: {{ . }}
{{ end -}}
{{ with .Labels.gen_ai_provider_name }}Provider: {{ . }}
{{ end -}}
{{ with .Labels.gen_ai_request_model }}Model: {{ . }}
{{ end -}}
{{ with .Labels.signal }}Signal: {{ . }}
{{ end -}}
{{ with .Labels.exporter }}Exporter: {{ . }}
{{ end -}}
{{ with .Labels.instance }}Instance: {{ . }}
{{ end -}}
{{ with .Labels.budget }}Budget: {{ . }}
{{ end -}}
{{ with .Labels.threshold }}Threshold: {{ . }} %
{{ end -}}
{{ end }}
"""
"""Pages come first and give the message its title. Resolved alerts show only their labels: their texts
describe the past, and after a restart Grafana has only the unfilled templates."""
