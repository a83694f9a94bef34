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
{{- $ray := list -}}
{{- range include "nightforge.env" . | fromYamlArray -}}{{- $ray = append $ray .name -}}{{- end -}}
{{- range include "nightforge.configVariables" . | fromJsonArray -}}
{{- if not (has . $ray) -}}
{{- $problems = append $problems (printf "config uses ${%s}, which Ray pods lack: add it to ray.extraEnv" .) -}}
{{- end -}}
{{- end -}}
{{- if .Values.airflow.enabled -}}
{{- $problems = concat $problems (include "nightforge.airflowProblems" . | fromJsonArray) -}}
{{- end -}}
{{- if $problems -}}
{{- fail (printf "\n\n%d setting(s) to correct:\n  - %s\n\nhelm/nightforge/README.md shows how to create the Secrets.\n" (len $problems) (join "\n  - " $problems)) -}}
{{- end -}}
{{- end -}}

{{/* Variables of the config without a default. Airflow reads the config too, so both sides need all of them. */}}
{{- define "nightforge.configVariables" -}}
{{- $names := list -}}
{{- range regexFindAll "\\$\\{[A-Za-z_][A-Za-z0-9_]*\\}" (fromYaml .Values.config | toJson) -1 -}}
{{- $names = append $names (. | trimPrefix "${" | trimSuffix "}") -}}
{{- end -}}
{{- $names | uniq | toJson -}}
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
{{- $names := list -}}
{{- range .Values.airflow.env -}}{{- $names = append $names .name -}}{{- end -}}
{{- range .Values.airflow.secret -}}{{- $names = append $names .envName -}}{{- end -}}
{{- range include "nightforge.configVariables" . | fromJsonArray -}}
{{- if not (has . $names) -}}
{{- $problems = append $problems (printf "config uses ${%s}, which Airflow lacks: add it to airflow.env, or write a default (${%s:-...})" . .) -}}
{{- end -}}
{{- end -}}
{{- if not (has "NIGHTFORGE_CONFIG" $names) -}}
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
