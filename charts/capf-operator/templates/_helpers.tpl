{{/* Names, labels and pieces that several objects share. */}}

{{/* Name of the Deployment, and beginning of all other names. Short, so that the longest (a CronJob's) stays within its 52. */}}
{{- define "capf.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{ .Values.fullnameOverride | trunc 36 | trimSuffix "-" }}
{{- else if contains "capf" .Release.Name -}}
{{ .Release.Name | trunc 36 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name (.Values.nameOverride | default "capf-operator") | trunc 36 | trimSuffix "-" }}
{{- end -}}
{{- end -}}

{{/* Labels of every object. */}}
{{- define "capf.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/name: capf-operator
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{/* Labels by which a component's pods are found: (list $ "controller"). */}}
{{- define "capf.selector" -}}
app.kubernetes.io/name: capf-operator
app.kubernetes.io/instance: {{ (index . 0).Release.Name | quote }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* Labels of the objects of a component: (list $ "controller"). */}}
{{- define "capf.componentLabels" -}}
{{ include "capf.labels" (index . 0) }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* Labels of a component's pods: nothing that changes with the chart alone, or each upgrade would restart them. */}}
{{- define "capf.podLabels" -}}
{{ include "capf.selector" . }}
app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | quote }}
{{- end -}}

{{- define "capf.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end -}}
{{- end -}}

{{- define "capf.serviceAccountName" -}}
{{ .Values.serviceAccount.name | default (include "capf.fullname" .) }}
{{- end -}}

{{/* The namespace that is looked after with scope Namespaced. */}}
{{- define "capf.watchNamespace" -}}
{{ .Values.watchNamespace | default .Release.Namespace }}
{{- end -}}

{{- define "capf.proxyNamespace" -}}
{{ .Values.proxy.namespace | default (include "capf.watchNamespace" .) }}
{{- end -}}

{{/* Proxy, namespace and server of `helm test`; no proxy, no test. Controllers keep no Service for endpoints outside. */}}
{{- define "capf.testProxy" -}}
{{- $outside := and (eq (.Values.proxy.spec.placement | default "InCluster") "External") (not .Values.test.server) -}}
{{- if .Values.test.enabled -}}
{{ .Values.test.proxy | default (ternary .Values.proxy.name "" (and .Values.proxy.enabled (not $outside))) }}
{{- end -}}
{{- end -}}

{{- define "capf.testNamespace" -}}
{{ .Values.test.namespace | default (include "capf.proxyNamespace" .) }}
{{- end -}}

{{- define "capf.testServer" -}}
{{- if .Values.test.server -}}
{{ .Values.test.server }}
{{- else -}}
{{- /* Of another proxy the port is not known here. */}}
{{- $own := or (not .Values.test.proxy) (and (eq .Values.test.proxy .Values.proxy.name) (not .Values.test.namespace)) }}
{{- $port := ternary (.Values.proxy.spec.phonePort | default 3804) 3804 $own }}
{{- printf "%s-endpoint.%s.svc:%v" (include "capf.testProxy" .) (include "capf.testNamespace" .) $port }}
{{- end -}}
{{- end -}}

{{/* Namespaces with endpoints that are known here, as a JSON object with a list: they get a NetworkPolicy. The release's own
are always among them. */}}
{{- define "capf.endpointNamespaces" -}}
{{- $namespaces := .Values.networkPolicy.endpointNamespaces -}}
{{- if eq .Values.scope "Namespaced" -}}
{{- $namespaces = append $namespaces (include "capf.watchNamespace" .) -}}
{{- else if .Values.proxy.enabled -}}
{{- $namespaces = append $namespaces (include "capf.proxyNamespace" .) -}}
{{- end -}}
{{ dict "list" ($namespaces | uniq) | toJson }}
{{- end -}}

{{/* Security context of every pod, as Pod Security `restricted` wants it. */}}
{{- define "capf.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{/* Security context of every container. */}}
{{- define "capf.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "capf.pullSecrets" -}}
{{- with .Values.image.pullSecrets -}}
imagePullSecrets:
  {{- range . }}
  - name: {{ . | quote }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* Where pods of jobs run. */}}
{{- define "capf.jobPlacement" -}}
{{- with .Values.jobs.nodeSelector }}
nodeSelector: {{ toJson . }}
{{- end }}
{{- with .Values.jobs.tolerations }}
tolerations: {{ toJson . }}
{{- end }}
{{- end -}}

{{/* A role or cluster role and its binding: dict "root" "kind" "name" "namespace" "account" "rules" "component" "annotations". */}}
{{- define "capf.role" -}}
{{- $binding := printf "%sBinding" .kind -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ .kind }}
metadata:
  {{- include "capf.metadata" . | nindent 2 }}
rules:
  {{- .rules | trim | nindent 2 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ $binding }}
metadata:
  {{- include "capf.metadata" . | nindent 2 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: {{ .kind }}
  name: {{ .name | quote }}
subjects:
  - kind: ServiceAccount
    name: {{ .account | quote }}
    namespace: {{ .root.Release.Namespace | quote }}
{{- end -}}

{{- define "capf.metadata" -}}
name: {{ .name | quote }}
{{- if .namespace }}
namespace: {{ .namespace | quote }}
{{- end }}
labels:
  {{- include "capf.componentLabels" (list .root .component) | nindent 2 }}
{{- with .annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Rights that `capf report` needs. */}}
{{- define "capf.readRules" -}}
- apiGroups: [capf.dev]
  resources: [certificateauthorityproxies, phones, certificateoperations]
  verbs: [get, list]
{{- end -}}
