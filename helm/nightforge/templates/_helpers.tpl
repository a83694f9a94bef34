{{- define "nightforge.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "nightforge.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "nightforge.podLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{/* Pods carry no version: an upgrade that changes a label only must not make KubeRay recreate them. */}}
{{- define "nightforge.podLabels" -}}
app.kubernetes.io/part-of: nightforge
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "nightforge.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "nightforge.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "nightforge.image" -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}

{{/* The restricted Pod Security Standard: pod level, then container level. */}}
{{- define "nightforge.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: {{ .Values.podSecurity.runAsUser }}
runAsGroup: {{ .Values.podSecurity.runAsGroup }}
fsGroup: {{ .Values.podSecurity.fsGroup }}
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "nightforge.containerSecurityContext" -}}
allowPrivilegeEscalation: false
capabilities:
  drop: [ALL]
{{- end -}}

{{/* Plain variables, because KubeRay's authOptions accepts no other key than auth_token. */}}
{{- define "nightforge.authEnv" -}}
- name: RAY_AUTH_MODE
  value: token
- name: RAY_AUTH_TOKEN
  valueFrom:
    secretKeyRef:
      name: {{ .Values.ray.auth.existingSecret }}
      key: {{ .Values.ray.auth.key }}
{{- end -}}

{{- define "nightforge.env" -}}
{{ include "nightforge.authEnv" . }}
- name: NIGHTFORGE_CONFIG
  value: /etc/nightforge/nightly.yaml
- name: NIGHTFORGE_ENDPOINT_KEY
  valueFrom:
    secretKeyRef:
      name: {{ .Values.endpoint.existingSecret }}
      key: {{ .Values.endpoint.key }}
- name: RAY_JOB_START_TIMEOUT_SECONDS
  value: {{ .Values.ray.jobStartTimeoutSeconds | int | quote }}
- name: RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S
  value: {{ .Values.ray.workerGroupStartTimeoutSeconds | int | quote }}
{{- if eq .Values.aws.credentials "secret" }}
- name: AWS_ACCESS_KEY_ID
  valueFrom:
    secretKeyRef:
      name: {{ .Values.aws.existingSecret }}
      key: {{ .Values.aws.accessKeyIdKey }}
- name: AWS_SECRET_ACCESS_KEY
  valueFrom:
    secretKeyRef:
      name: {{ .Values.aws.existingSecret }}
      key: {{ .Values.aws.secretAccessKeyKey }}
{{- end }}
{{- with .Values.aws.region }}
- name: AWS_DEFAULT_REGION
  value: {{ . | quote }}
{{- end }}
{{- with .Values.aws.endpointUrl }}
- name: AWS_ENDPOINT_URL
  value: {{ . | quote }}
{{- end }}
{{- with .Values.ray.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "nightforge.volumeMounts" -}}
- name: config
  mountPath: /etc/nightforge
  readOnly: true
- name: scratch
  mountPath: /tmp
{{- end -}}

{{/* What head and worker pods share below `spec`; call with (dict "root" $ "group" .Values.head). */}}
{{- define "nightforge.podSpec" -}}
serviceAccountName: {{ include "nightforge.serviceAccountName" .root }}
securityContext:
  {{- include "nightforge.podSecurityContext" .root | nindent 2 }}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .group.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .group.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .group.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
volumes:
  - name: config
    configMap:
      name: {{ .root.Values.configMapName }}
  - name: scratch
    emptyDir:
      sizeLimit: {{ .group.scratchSize }}
{{- end -}}
