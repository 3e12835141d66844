{{- define "spanledger.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{/* The base of every object's name, short enough for a suffix. */}}
{{- define "spanledger.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains (include "spanledger.name" .) .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "spanledger.name" .) | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "spanledger.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: spanledger
{{ include "spanledger.selector" . }}
{{- end }}

{{- define "spanledger.selector" -}}
app.kubernetes.io/name: {{ include "spanledger.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "spanledger.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "spanledger.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "spanledger.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}
{{- end }}

{{- define "spanledger.claim" -}}
{{- .Values.ledger.sqlite.existingClaim | default (printf "%s-ledger" (include "spanledger.fullname" .)) }}
{{- end }}

{{- define "spanledger.onPostgres" -}}
{{- if eq .Values.ledger.store "postgres" }}true{{ end }}
{{- end }}
