{{/*
For your chart: forwarder beside your application.

  # Chart.yaml
  dependencies:
    - { name: forwarder, version: 0.1.0, repository: "file://../forwarder" }
  # values.yaml
  forwarder: { mode: sidecar, destinations: "…" }
  # templates/deployment.yaml
  template:
    metadata:
      annotations: {{- include "forwarder.annotations" .Subcharts.forwarder | nindent 8 }}
    spec:
      enableServiceLinks: false
      terminationGracePeriodSeconds: {{ .Values.forwarder.terminationGracePeriodSeconds }}
      securityContext: {{- include "forwarder.podSecurityContext" .Subcharts.forwarder | nindent 8 }}
      initContainers: {{- include "forwarder.sidecar" .Subcharts.forwarder | nindent 8 }}
      volumes: {{- include "forwarder.volumes" .Subcharts.forwarder | nindent 8 }}

Your containers then send to 127.0.0.1:8765. There is no preStop and no readinessProbe, on purpose: the sidecar ends
after the app, and a full disk must not take the app out of its Service.
*/}}

{{- define "forwarder.name" -}}
{{ printf "%s-forwarder" .Release.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "forwarder.labels" -}}
app.kubernetes.io/name: forwarder
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "forwarder.selector" -}}
app.kubernetes.io/name: forwarder
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "forwarder.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}

{{/* The volume's size in MiB. */}}
{{- define "forwarder.sizeMiB" -}}
{{- $number := regexFind "^[0-9]+" .Values.spool.size | int64 -}}
{{- $unit := regexFind "[MGT]i$" .Values.spool.size -}}
{{- mul $number (get (dict "Mi" 1 "Gi" 1024 "Ti" 1048576) $unit | int64) -}}
{{- end }}

{{/* forwarder.toml */}}
{{- define "forwarder.toml" -}}
{{- $size := include "forwarder.sizeMiB" . | int64 -}}
{{- $total := div (mul $size 80) 100 -}}
{{- $standalone := eq .Values.mode "standalone" -}}
{{- $host := ternary "0.0.0.0" "127.0.0.1" $standalone -}}
{{- $remote := ternary .Values.standalone.allowRemote (list) $standalone -}}
[listen]
http = ["{{ $host }}:{{ .Values.listen.httpPort }}"]
udp = ["{{ ternary $host "127.0.0.1" (has "udp" $remote) }}:{{ .Values.listen.udpPort }}"]
admin = "{{ .Values.listen.adminHost }}:{{ .Values.listen.adminPort }}"
allow_remote = {{ append $remote "admin" | toJson }}
{{- if and $standalone .Values.standalone.authTokenKey }}
auth_token = { file = "/etc/forwarder-secret/{{ .Values.standalone.authTokenKey }}" }
{{- end }}
{{- with .Values.listen.extra }}
{{ . | trim }}
{{- end }}

[spool]
directory = "/var/lib/forwarder"
# 80 % of the volume ({{ .Values.spool.size }})
max_total = "{{ $total }}MiB"
max_size = "{{ div (mul $total 60) 100 }}MiB"
segment_size = "{{ max 1 (min 64 (div $total 32)) }}MiB"
dead_letters = { max_size = "{{ max 1 (div (mul $total 10) 100) }}MiB" }
{{- with .Values.spool.extra }}
{{ . | trim }}
{{- end }}

[log]
level = "{{ .Values.log.level }}"
format = "json"

[drain]
timeout = "{{ .Values.drain.timeoutSeconds }}s"

{{ .Values.destinations | trim }}
{{ end }}

{{/* A changed configuration rolls the pods. The Secret is watched instead: its content is not the chart's. */}}
{{- define "forwarder.annotations" -}}
checksum/forwarder-config: {{ include "forwarder.toml" . | sha256sum }}
{{- end }}

{{/* Only what the volumes need: the rest is the app's business, or the container's own. */}}
{{- define "forwarder.podSecurityContext" -}}
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
{{- end }}

{{- define "forwarder.container" -}}
{{- if le (int .Values.terminationGracePeriodSeconds) (int .Values.drain.timeoutSeconds) }}
{{- fail "terminationGracePeriodSeconds must be longer than drain.timeoutSeconds: what is left is killed" }}
{{- end -}}
name: forwarder
image: {{ include "forwarder.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
args: ["run", "--config", "/etc/forwarder/forwarder.toml"]
ports:
  - { name: http, containerPort: {{ .Values.listen.httpPort }} }
  - { name: udp, containerPort: {{ .Values.listen.udpPort }}, protocol: UDP }
  - { name: fwd-admin, containerPort: {{ .Values.listen.adminPort }} }
{{- if .Values.probes.startup }}
startupProbe:
  httpGet: { path: /livez, port: fwd-admin }
  periodSeconds: 2
  timeoutSeconds: 5
  failureThreshold: 150
{{- end }}
{{- if .Values.probes.liveness }}
livenessProbe:
  httpGet: { path: /livez, port: fwd-admin }
  # A start looks through the spool first; /livez itself waits 60 s before it complains.
  initialDelaySeconds: 30
  periodSeconds: 20
  timeoutSeconds: 10
  failureThreshold: 6
{{- end }}
{{- with .Values.resources }}
resources: {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: { drop: ["ALL"] }
  seccompProfile: { type: RuntimeDefault }
volumeMounts:
  - { name: forwarder-spool, mountPath: /var/lib/forwarder }
  - { name: forwarder-config, mountPath: /etc/forwarder, readOnly: true }
  {{- if .Values.secret.name }}
  - { name: forwarder-secret, mountPath: /etc/forwarder-secret, readOnly: true }
  {{- end }}
{{- end }}

{{/* An entry of initContainers: with restartPolicy Always it runs beside the app, starts before it and ends after it. */}}
{{- define "forwarder.sidecar" -}}
- restartPolicy: Always
  {{- include "forwarder.container" . | nindent 2 }}
{{- end }}

{{- define "forwarder.volumes" -}}
- name: forwarder-spool
  {{- if .Values.spool.persistence.enabled }}
  persistentVolumeClaim:
    claimName: {{ .Values.spool.persistence.existingClaim | default (include "forwarder.name" .) }}
  {{- else }}
  emptyDir: { sizeLimit: {{ .Values.spool.size }} }
  {{- end }}
- name: forwarder-config
  configMap: { name: {{ include "forwarder.name" . }} }
{{- with .Values.secret.name }}
- name: forwarder-secret
  secret: { secretName: {{ . }}, defaultMode: 0440 }
{{- end }}
{{- end }}
