{{/* Stops the installation with every missing or contradicting setting at once. */}}
{{- define "nightforge.validate" -}}
{{- $problems := list -}}
{{- if not .Values.config -}}
{{- $problems = append $problems "config is empty: add --set-file config=configs/nightly.yaml" -}}
{{- else if hasKey (fromYaml .Values.config) "Error" -}}
{{- $problems = append $problems (printf "config is not a YAML mapping (%s): give the text of a file such as configs/nightly.yaml" (fromYaml .Values.config).Error) -}}
{{- end -}}
{{- if not .Values.ray.auth.existingSecret -}}
{{- $problems = append $problems "ray.auth.existingSecret is empty: name a Secret with the Ray token, or anybody who reaches the Jobs API runs code" -}}
{{- end -}}
{{- if not .Values.endpoint.existingSecret -}}
{{- $problems = append $problems "endpoint.existingSecret is empty: name a Secret with the API key of the vLLM endpoints" -}}
{{- end -}}
{{- if and (eq .Values.aws.credentials "secret") (not .Values.aws.existingSecret) -}}
{{- $problems = append $problems "aws.existingSecret is empty: name a Secret with an S3 access key, or set aws.credentials=ambient" -}}
{{- end -}}
{{- if gt (int .Values.worker.minReplicas) (int .Values.worker.maxReplicas) -}}
{{- $problems = append $problems (printf "worker.minReplicas %d is above worker.maxReplicas %d" (int .Values.worker.minReplicas) (int .Values.worker.maxReplicas)) -}}
{{- end -}}
{{- if .Values.airflow.enabled -}}
{{- $problems = concat $problems (include "nightforge.airflowProblems" . | fromJsonArray) -}}
{{- end -}}
{{- if $problems -}}
{{- fail (printf "\n\n%d setting(s) to correct:\n  - %s\n\nhelm/nightforge/README.md shows how to create the Secrets.\n" (len $problems) (join "\n  - " $problems)) -}}
{{- end -}}
{{- end -}}

{{/* Helm replaces whole lists, so an override of airflow.env, .secret or .volumes can lose our entries: look for them. */}}
{{- define "nightforge.airflowProblems" -}}
{{- $problems := list -}}
{{- $connection := false -}}
{{- range .Values.airflow.secret -}}
{{- if and (eq .envName "AIRFLOW_CONN_RAY_DEFAULT") .secretName -}}{{- $connection = true -}}{{- end -}}
{{- end -}}
{{- if not $connection -}}
{{- $problems = append $problems "airflow.secret lacks AIRFLOW_CONN_RAY_DEFAULT: add {envName: AIRFLOW_CONN_RAY_DEFAULT, secretName: ..., secretKey: connection}" -}}
{{- end -}}
{{- $variable := false -}}
{{- range .Values.airflow.env -}}
{{- if eq .name "NIGHTFORGE_CONFIG" -}}{{- $variable = true -}}{{- end -}}
{{- end -}}
{{- if not $variable -}}
{{- $problems = append $problems "airflow.env lacks NIGHTFORGE_CONFIG: add {name: NIGHTFORGE_CONFIG, value: /etc/nightforge/nightly.yaml}" -}}
{{- end -}}
{{- $mounted := false -}}
{{- range .Values.airflow.volumes -}}
{{- if eq (dig "configMap" "name" "" .) $.Values.configMapName -}}{{- $mounted = true -}}{{- end -}}
{{- end -}}
{{- if not $mounted -}}
{{- $problems = append $problems (printf "airflow.volumes lacks the ConfigMap %s (configMapName): add it there and in airflow.volumeMounts" .Values.configMapName) -}}
{{- end -}}
{{- toJson $problems -}}
{{- end -}}
