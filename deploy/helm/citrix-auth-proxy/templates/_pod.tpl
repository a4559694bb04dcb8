{{/* Parts of a pod that the gateway and its test have in common. */}}

{{- define "gateway.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
# Makes the mounted secrets readable.
fsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "gateway.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- define "gateway.env" -}}
{{- $drain := .Values.lifecycle -}}
- { name: CITRIX_AUTH_PROXY_LISTEN__ADDRESS, value: "0.0.0.0:8080" }
- { name: CITRIX_AUTH_PROXY_ADMIN__ADDRESS, value: "0.0.0.0:9090" }
- name: CITRIX_AUTH_PROXY_ADMIN__SECRET_SHA256
  {{- if .Values.admin.secretSha256 }}
  value: {{ .Values.admin.secretSha256 | quote }}
  {{- else }}
  valueFrom:
    secretKeyRef:
      name: {{ .Values.admin.existingSecret }}
      key: {{ .Values.admin.existingSecretKey }}
  {{- end }}
- { name: CITRIX_AUTH_PROXY_LIFECYCLE__DRAIN_DELAY, value: "{{ $drain.drainDelaySeconds }}s" }
- { name: CITRIX_AUTH_PROXY_LIFECYCLE__DRAIN_TIMEOUT, value: "{{ $drain.drainTimeoutSeconds }}s" }
- { name: CITRIX_AUTH_PROXY_LIMITS__MAX_CONNECTIONS, value: {{ .Values.limits.maxConnections | quote }} }
# The gateway finds client_secret and the like here; config need not name them.
- { name: CREDENTIALS_DIRECTORY, value: /run/credentials/citrix-auth-proxy }
{{- range $name, $value := dict "CLOUD" .Values.citrix.cloud "CUSTOMER_ID" .Values.citrix.customerId "CLIENT_ID" .Values.citrix.clientId }}
{{- if $value }}
- { name: CITRIX_{{ $name }}, value: {{ $value | quote }} }
{{- end }}
{{- end }}
{{- if .Values.tls.existingSecret }}
- { name: CITRIX_AUTH_PROXY_LISTEN__TLS__CERTIFICATE, value: /run/tls/tls.crt }
- { name: CITRIX_AUTH_PROXY_LISTEN__TLS__KEY, value: /run/tls/tls.key }
{{- with .Values.tls.clientCaKey }}
- { name: CITRIX_AUTH_PROXY_LISTEN__TLS__CLIENT_CA, value: "/run/tls/{{ . }}" }
- { name: CITRIX_AUTH_PROXY_LISTEN__TLS__CLIENT_AUTH, value: {{ $.Values.tls.clientAuth }} }
{{- end }}
{{- end }}
{{- if include "gateway.setsReplicas" . }}
- { name: CITRIX_AUTH_PROXY_FLEET__REPLICAS, value: {{ include "gateway.replicas" . | quote }} }
{{- end }}
{{- with .Values.fleet }}
{{- if .url }}
- { name: CITRIX_AUTH_PROXY_FLEET__URL, value: {{ .url | quote }} }
- { name: CITRIX_AUTH_PROXY_FLEET__NAME, value: {{ .name | quote }} }
- { name: CITRIX_AUTH_PROXY_FLEET__TOKENS, value: {{ .tokens | quote }} }
- { name: CITRIX_AUTH_PROXY_FLEET__LIMITS, value: {{ .limits | quote }} }
{{- if .tls.existingSecret }}
- { name: CITRIX_AUTH_PROXY_FLEET__TLS__CA_FILE, value: "/run/fleet-tls/{{ .tls.caKey }}" }
{{- if .tls.clientCertificate }}
- { name: CITRIX_AUTH_PROXY_FLEET__TLS__CERTIFICATE, value: /run/fleet-tls/tls.crt }
- { name: CITRIX_AUTH_PROXY_FLEET__TLS__KEY, value: /run/fleet-tls/tls.key }
{{- end }}
{{- end }}
{{- if .sentinels }}
- { name: CITRIX_AUTH_PROXY_FLEET__SENTINELS, value: {{ join "," .sentinels | quote }} }
- { name: CITRIX_AUTH_PROXY_FLEET__SENTINEL_MASTER, value: {{ .sentinelMaster | quote }} }
{{- with .sentinelPasswordKey }}
- name: CITRIX_AUTH_PROXY_FLEET__SENTINEL_PASSWORD__FILE
  value: "/run/credentials/citrix-auth-proxy/{{ . }}"
{{- end }}
{{- end }}
{{- end }}
{{- end }}
# The name of the replica in /status.json.
- name: POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
{{- if .Values.login.sharedSigningKey }}
- name: CITRIX_AUTH_PROXY_LOGIN__SIGNING_KEY__FILE
  value: /run/credentials/citrix-auth-proxy/login_signing_key
{{- end }}
{{- with .Values.extraEnv }}
{{- toYaml . | nindent 0 }}
{{- end }}
{{- end }}

{{- define "gateway.volumeMounts" -}}
# Whole directories: files mounted with subPath are never updated.
- { name: config, mountPath: /etc/citrix-auth-proxy, readOnly: true }
- { name: credentials, mountPath: /run/credentials/citrix-auth-proxy, readOnly: true }
{{- if .Values.tls.existingSecret }}
- { name: tls, mountPath: /run/tls, readOnly: true }
{{- end }}
{{- if .Values.fleet.tls.existingSecret }}
- { name: fleet-tls, mountPath: /run/fleet-tls, readOnly: true }
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{- toYaml . | nindent 0 }}
{{- end }}
{{- end }}

{{- define "gateway.volumes" -}}
- name: config
  configMap:
    name: {{ include "gateway.fullname" . }}
- name: credentials
  projected:
    defaultMode: 0440
    sources:
      - secret: { name: {{ .Values.credentials.existingSecret | quote }} }
      {{- with .Values.fleet.existingSecret }}
      - secret: { name: {{ . | quote }} }
      {{- end }}
{{- if .Values.tls.existingSecret }}
- name: tls
  secret:
    secretName: {{ .Values.tls.existingSecret }}
    defaultMode: 0440
{{- end }}
{{- with .Values.fleet.tls.existingSecret }}
- name: fleet-tls
  secret:
    secretName: {{ . }}
    defaultMode: 0440
{{- end }}
{{- with .Values.extraVolumes }}
{{- toYaml . | nindent 0 }}
{{- end }}
{{- end }}
