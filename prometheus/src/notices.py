"""How alerts are told, by Grafana and by an Alertmanager alike: what goes together, how soon, in which words.

The template uses only what both have.
"""

from __future__ import annotations

from prometheus.src.model import ABOUT, duration
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


def pace(speed: float) -> dict[str, object]:
    """What goes together and how soon, in the keys that both have."""
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
{{ with .Labels.threshold }}Step: {{ . }} %
{{ end -}}
{{ end }}
"""
"""What pages comes first, and gives the message its title. What has ended is told by its labels alone: its
texts say what was, and after a restart Grafana has only their templates."""
