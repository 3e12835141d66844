{{/* What every pod has in common: an unprivileged user and no access to the cluster's API. */}}
{{- define "spanledger.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "spanledger.container" -}}
image: {{ include "spanledger.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{- define "spanledger.ledgerEnv" -}}
- name: SPANLEDGER_LEDGER_URL
{{- if include "spanledger.onPostgres" . }}
  valueFrom:
    secretKeyRef:
      name: {{ .Values.ledger.postgres.existingSecret }}
      key: {{ .Values.ledger.postgres.key }}
{{- with .Values.ledger.postgres.directKey }}
- name: SPANLEDGER_LEDGER_DIRECT_URL
  valueFrom:
    secretKeyRef:
      name: {{ $.Values.ledger.postgres.existingSecret }}
      key: {{ . }}
{{- end }}
{{- else }}
  value: sqlite:////var/lib/spanledger/ledger.db
{{- end }}
{{- end }}

{{- define "spanledger.mounts" -}}
- {name: tmp, mountPath: /tmp}
{{- if not (include "spanledger.onPostgres" .) }}
- {name: ledger, mountPath: /var/lib/spanledger}
{{- end }}
{{- end }}

{{- define "spanledger.volumes" -}}
- name: tmp
  emptyDir: {sizeLimit: 64Mi}
{{- if not (include "spanledger.onPostgres" .) }}
- name: ledger
  persistentVolumeClaim:
    claimName: {{ include "spanledger.claim" . }}
{{- end }}
{{- end }}

{{/* Large uploads are on disk until their request has ended. Kubernetes removes a pod that exceeds the
size, so it is the gateway's own limit and a margin. */}}
{{- define "spanledger.uploadVolume" -}}
{{- $gateway := dig "gateway" dict (.Values.config | fromYaml) | default dict }}
{{- $each := get $gateway "max_upload_bytes" | default 52428800 | int64 }}
{{- $all := get $gateway "max_upload_bytes_in_flight" | default 1073741824 | int64 }}
- name: uploads
  emptyDir: {sizeLimit: "{{ add (max $each $all) 67108864 }}"}
{{- end }}

{{- define "spanledger.configVolume" -}}
- name: config
  configMap:
    name: {{ include "spanledger.fullname" . }}
{{- end }}

{{/* Pods are replaced when the configuration changes: it is read at startup only. */}}
{{- define "spanledger.checksum" -}}
checksum/config: {{ .Values.config | sha256sum }}
{{- end }}

{{/* Seconds until a pod that is to stop is killed. Requests in flight get gateway.shutdown_grace_s of
the configuration; then 5 to cancel what is left, 10 for the shipper, and a margin. */}}
{{- define "spanledger.grace" -}}
{{- $given := dig "gateway" "shutdown_grace_s" 30 (.Values.config | fromYaml) }}
{{- add (int .Values.gateway.preStopSeconds) (ceil $given) 5 10 10 }}
{{- end }}
