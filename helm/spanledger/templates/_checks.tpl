{{/* Everything that is wrong with the values and that the schema cannot say, all at once. */}}
{{- define "spanledger.checks" -}}
{{- $wrong := list }}
{{- $file := .Values.config | fromYaml }}
{{- if not (trim .Values.config) }}
{{- $wrong = append $wrong "config is empty: pass your configuration with --set-file config=spanledger.yaml; `spanledger config example` prints one to start from" }}
{{- else if hasKey $file "Error" }}
{{- $wrong = append $wrong (printf "config is not YAML: %s" (get $file "Error")) }}
{{- else }}
{{- $grace := dig "gateway" "shutdown_grace_s" 30 $file }}
{{- if not (regexMatch "^[0-9.]+$" (toString $grace)) }}
{{- $wrong = append $wrong (printf "gateway.shutdown_grace_s in config must be a number of seconds, not %q" (toString $grace)) }}
{{- end }}
{{- end }}
{{- if include "spanledger.onPostgres" . }}
{{- if not .Values.ledger.postgres.existingSecret }}
{{- $wrong = append $wrong "ledger.postgres.existingSecret is empty: create a Secret with the database's URL and set its name" }}
{{- end }}
{{- else }}
{{- if gt (int .Values.gateway.replicas) 1 }}
{{- $wrong = append $wrong (printf "gateway.replicas is %d, but a SQLite ledger is one file on one volume and carries one gateway pod: set ledger.store=postgres, or gateway.replicas=1" (int .Values.gateway.replicas)) }}
{{- end }}
{{- if .Values.gateway.autoscaling.enabled }}
{{- $wrong = append $wrong "gateway.autoscaling.enabled is true, but a SQLite ledger carries one gateway pod: set ledger.store=postgres, or turn autoscaling off" }}
{{- end }}
{{- end }}
{{- with .Values.gateway.autoscaling }}
{{- if and .enabled (gt (int .minReplicas) (int .maxReplicas)) }}
{{- $wrong = append $wrong (printf "gateway.autoscaling.minReplicas is %d, which is more than maxReplicas, %d" (int .minReplicas) (int .maxReplicas)) }}
{{- end }}
{{- end }}
{{- if and .Values.ingress.enabled (not .Values.ingress.host) }}
{{- $wrong = append $wrong "ingress.enabled is true, but ingress.host is empty: set the host name of the gateway" }}
{{- end }}
{{- if $wrong }}
{{- fail (printf "\n\nspanledger's values cannot be used:\n- %s\n" (join "\n- " $wrong)) }}
{{- end }}
{{- end }}
