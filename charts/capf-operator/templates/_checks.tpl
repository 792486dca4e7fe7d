{{/* What the schema cannot say: values that contradict each other, each with its remedy. */}}
{{- define "capf.checks" -}}
{{- $watched := include "capf.watchNamespace" . -}}
{{- if and (eq .Values.scope "Cluster") .Values.watchNamespace -}}
{{- fail "watchNamespace: is for scope Namespaced only; set scope to Namespaced, or leave watchNamespace empty to look after all namespaces" -}}
{{- end -}}
{{- range (lookup "apps/v1" "Deployment" .Release.Namespace "").items -}}
{{- $labels := .metadata.labels | default dict -}}
{{- $other := index $labels "app.kubernetes.io/instance" | default $.Release.Name -}}
{{- if and (eq (index $labels "app.kubernetes.io/name" | default "") "capf-operator") (ne $other $.Release.Name) -}}
{{- fail (printf "release %s: namespace %s has release %s of this chart already, and both would share one Lease, so that one of them never leads; take another namespace, or change that release" $.Release.Name $.Release.Namespace $other) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.networkPolicy.enabled (not .Values.networkPolicy.phoneRanges) -}}
{{- fail "networkPolicy.phoneRanges: say from which CIDRs phones call, such as [10.20.0.0/16], or [0.0.0.0/0, ::/0] for all: with networkPolicy.enabled nobody else reaches 3804" -}}
{{- end -}}
{{- if and (not .Values.serviceAccount.create) (not .Values.serviceAccount.name) -}}
{{- fail "serviceAccount.name: name the account that controllers shall use, or let the chart make one with serviceAccount.create" -}}
{{- end -}}
{{- if eq .Values.scope "Namespaced" -}}
{{- range $field, $namespace := dict "proxy.namespace" .Values.proxy.namespace "report.namespace" .Values.report.namespace "test.namespace" .Values.test.namespace -}}
{{- if and $namespace (ne $namespace $watched) -}}
{{- fail (printf "%s: is %s, but with scope Namespaced only %s is looked after; leave it empty, or change watchNamespace" $field $namespace $watched) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and .Values.test.namespace (not .Values.test.proxy) -}}
{{- fail "test.proxy: name the proxy in test.namespace that the test shall enrol with" -}}
{{- end -}}
{{- if and .Values.service.nodePort (eq .Values.service.type "ClusterIP") -}}
{{- fail "service.nodePort: is for service.type NodePort or LoadBalancer; set the type, or leave the port 0" -}}
{{- end -}}
{{- range .Values.report.extraArgs -}}
{{- if hasPrefix "--show-authentication-strings" . -}}
{{- fail "report.extraArgs: --show-authentication-strings is not for a file that stays; show strings to whoever asks, with capf report" -}}
{{- end -}}
{{- end -}}
{{- end -}}
