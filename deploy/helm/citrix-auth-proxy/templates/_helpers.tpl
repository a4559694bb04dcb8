{{- define "gateway.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "gateway.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- $name := include "gateway.name" . }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "gateway.selector" -}}
app.kubernetes.io/name: {{ include "gateway.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "gateway.labels" -}}
{{ include "gateway.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "gateway.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "gateway.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "gateway.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}

{{/* The name of the Service's port for callers. */}}
{{- define "gateway.portName" -}}
{{- ternary "https" "http" (ne .Values.tls.existingSecret "") }}
{{- end }}

{{/* The number of replicas among which Citrix's limits are divided. */}}
{{- define "gateway.replicas" -}}
{{- ternary .Values.autoscaling.maxReplicas .Values.replicaCount .Values.autoscaling.enabled | int }}
{{- end }}

{{/*
Whether the chart sets fleet.replicas: "true", or nothing. With a store it holds while the store is away; an autoscaled
number is then the one that the store counted last.
*/}}
{{- define "gateway.setsReplicas" -}}
{{- $configured := regexMatch "(?m)^\\s*\\[fleet\\]" .Values.config }}
{{- $counted := and .Values.fleet.url .Values.autoscaling.enabled }}
{{- if and (gt (include "gateway.replicas" . | int) 1) (not (or $configured $counted)) }}true{{ end }}
{{- end }}

{{/* The ports of the store and its sentinels, separated by spaces. */}}
{{- define "gateway.storePorts" -}}
{{- $ports := list }}
{{- if hasPrefix "redis" .Values.fleet.url }}
{{- if not (hasPrefix "redis+unix:" .Values.fleet.url) }}
{{- $authority := regexReplaceAll "^[^:]+://([^@/]*@)?([^/]*).*$" .Values.fleet.url "${2}" }}
{{- $ports = append $ports (regexFind ":[0-9]+$" $authority | trimPrefix ":" | default "6379") }}
{{- end }}
{{- range .Values.fleet.sentinels }}
{{- $ports = append $ports (regexFind ":[0-9]+$" . | trimPrefix ":" | default "26379") }}
{{- end }}
{{- end }}
{{- $ports | uniq | join " " }}
{{- end }}

{{/* Fails with all missing or contradicting values at once, as the gateway does for its configuration. */}}
{{- define "gateway.check" -}}
{{- $missing := list }}
{{- $several := regexMatch "(?m)^\\s*\\[\\[customer\\]\\]" .Values.config }}
{{- if not (or $several (and .Values.citrix.customerId .Values.citrix.clientId)) }}
{{- $missing = append $missing "citrix.customerId and citrix.clientId, or [[customer]] blocks in config" }}
{{- end }}
{{- if and $several (or .Values.citrix.customerId .Values.citrix.clientId .Values.citrix.cloud) }}
{{- $missing = append $missing "citrix.*: must be empty with [[customer]] blocks in config" }}
{{- end }}
{{- if not .Values.credentials.existingSecret }}
{{- $missing = append $missing "credentials.existingSecret" }}
{{- end }}
{{- if not (or .Values.admin.secretSha256 .Values.admin.existingSecret) }}
{{- $missing = append $missing "admin.secretSha256 or admin.existingSecret" }}
{{- end }}
{{- if and .Values.tls.clientCaKey (not .Values.tls.existingSecret) }}
{{- $missing = append $missing "tls.existingSecret, required by tls.clientCaKey" }}
{{- end }}
{{- $fleet := .Values.fleet }}
{{- if not $fleet.url }}
{{- if or $fleet.existingSecret $fleet.sentinels $fleet.tls.existingSecret }}
{{- $missing = append $missing "fleet.url, required by other values of fleet" }}
{{- end }}
{{- else if and $fleet.tls.existingSecret (not (hasPrefix "rediss:" $fleet.url)) }}
{{- $missing = append $missing "fleet.url: must begin with rediss:// with fleet.tls.existingSecret" }}
{{- end }}
{{- if and $fleet.tls.clientCertificate (not $fleet.tls.existingSecret) }}
{{- $missing = append $missing "fleet.tls.existingSecret, required by fleet.tls.clientCertificate" }}
{{- end }}
{{- if and $fleet.sentinels (not $fleet.sentinelMaster) }}
{{- $missing = append $missing "fleet.sentinelMaster, required by fleet.sentinels" }}
{{- end }}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) }}
{{- $missing = append $missing "ingress.hosts, required by ingress.enabled" }}
{{- end }}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) }}
{{- $missing = append $missing "httpRoute.parentRefs, required by httpRoute.enabled" }}
{{- end }}
{{- if $missing }}
{{- fail (printf "\n\nmissing or invalid values:\n  - %s\n" (join "\n  - " $missing)) }}
{{- end }}
{{- end }}
